"""HPKE (RFC 9180) over any KEM.

A KEM gives and opens shared secrets; the key schedule, `seal`, `open` and `export`
above it are the same for all. MLS needs base mode only: single-shot encryption for
path secrets and Welcomes, `export` for external commits. The other modes mix in a
pre-shared key, or authenticate the sender by its static key. A KEM that is not a
Diffie-Hellman group (X-Wing) plugs in without a change here; it has no such sender.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from e2ee.crypto import (
    SHA256,
    Aead,
    Hash,
    Rng,
    random_bytes,
    x25519,
    x25519_public,
)
from e2ee.errors import DecryptionFailed, Misuse, PrimitiveMissing

_VERSION = b"HPKE-v1"
MIN_PSK = 32
"""Bytes of a pre-shared key: it must hold 32 bytes of entropy (section 9.5)."""


def _labeled_extract(
    hash_: Hash, suite_id: bytes, salt: bytes, label: bytes, ikm: bytes
) -> bytes:
    return hash_.extract(salt, _VERSION + suite_id + label + ikm)


def _labeled_expand(
    hash_: Hash, suite_id: bytes, prk: bytes, label: bytes, info: bytes, length: int
) -> bytes:
    labeled = length.to_bytes(2, "big") + _VERSION + suite_id + label + info
    return hash_.expand(prk, labeled, length)


class Kem(Protocol):
    """A key encapsulation mechanism."""

    @property
    def id(self) -> int:
        """The number in the HPKE KEM registry."""
        ...

    def derive_key_pair(self, ikm: bytes) -> tuple[bytes, bytes]:
        """Give (private, public) from keying material."""
        ...

    def public(self, private: bytes) -> bytes:
        """Give the public key of a private one."""
        ...

    def check_public(self, public: bytes) -> None:
        """Raise `DecryptionFailed` if this cannot be a public key."""
        ...

    def encapsulate(self, public: bytes, rng: Rng) -> tuple[bytes, bytes]:
        """Give (shared secret, encapsulated key)."""
        ...

    def decapsulate(self, private: bytes, encapsulated: bytes) -> bytes:
        """Give the shared secret, or raise `DecryptionFailed`."""
        ...


@runtime_checkable
class AuthKem(Kem, Protocol):
    """A KEM whose sender can show that it holds a static key."""

    def auth_encapsulate(
        self, public: bytes, sender_private: bytes, rng: Rng
    ) -> tuple[bytes, bytes]:
        """Give (shared secret, encapsulated key)."""
        ...

    def auth_decapsulate(
        self, private: bytes, encapsulated: bytes, sender_public: bytes
    ) -> bytes:
        """Give the shared secret, or raise `DecryptionFailed`."""
        ...


@dataclass(frozen=True, slots=True)
class DhkemX25519:
    """DHKEM(X25519, HKDF-SHA256) (RFC 9180 section 4.1).

    libsodium refuses a Diffie-Hellman result of zero, as RFC 9180 section 7.1.4 asks.
    """

    id: int = 0x0020
    hash: Hash = SHA256

    def derive_key_pair(self, ikm: bytes) -> tuple[bytes, bytes]:
        """Give (private, public) from keying material."""
        suite_id = self._suite_id
        prk = _labeled_extract(self.hash, suite_id, b"", b"dkp_prk", ikm)
        private = _labeled_expand(self.hash, suite_id, prk, b"sk", b"", 32)
        return private, x25519_public(private)

    def public(self, private: bytes) -> bytes:
        """Give the public key of a private one."""
        return x25519_public(private)

    def check_public(self, public: bytes) -> None:
        """Raise `DecryptionFailed` if this cannot be a public key."""
        if len(public) != 32:
            raise DecryptionFailed("an X25519 public key has 32 bytes")

    def encapsulate(self, public: bytes, rng: Rng) -> tuple[bytes, bytes]:
        """Give (shared secret, encapsulated key)."""
        private, encapsulated = self.derive_key_pair(rng(32))
        dh = x25519(private, public)
        return self._extract(dh, encapsulated + public), encapsulated

    def decapsulate(self, private: bytes, encapsulated: bytes) -> bytes:
        """Give the shared secret, or raise `DecryptionFailed`."""
        dh = x25519(private, encapsulated)
        return self._extract(dh, encapsulated + x25519_public(private))

    def auth_encapsulate(
        self, public: bytes, sender_private: bytes, rng: Rng
    ) -> tuple[bytes, bytes]:
        """Give (shared secret, encapsulated key), bound to a static key."""
        private, encapsulated = self.derive_key_pair(rng(32))
        dh = x25519(private, public) + x25519(sender_private, public)
        context = encapsulated + public + x25519_public(sender_private)
        return self._extract(dh, context), encapsulated

    def auth_decapsulate(
        self, private: bytes, encapsulated: bytes, sender_public: bytes
    ) -> bytes:
        """Give the shared secret, or raise `DecryptionFailed`."""
        dh = x25519(private, encapsulated) + x25519(private, sender_public)
        context = encapsulated + x25519_public(private) + sender_public
        return self._extract(dh, context)

    @property
    def _suite_id(self) -> bytes:
        return b"KEM" + self.id.to_bytes(2, "big")

    def _extract(self, dh: bytes, context: bytes) -> bytes:
        """ExtractAndExpand."""
        suite_id = self._suite_id
        prk = _labeled_extract(self.hash, suite_id, b"", b"eae_prk", dh)
        return _labeled_expand(self.hash, suite_id, prk, b"shared_secret", context, 32)


@dataclass(frozen=True, slots=True)
class NoKem:
    """A KEM that libsodium lacks."""

    id: int = 0

    def derive_key_pair(self, ikm: bytes) -> tuple[bytes, bytes]:
        """Raise `PrimitiveMissing`."""
        raise PrimitiveMissing("this suite's KEM is not built in")

    def public(self, private: bytes) -> bytes:
        """Raise `PrimitiveMissing`."""
        raise PrimitiveMissing("this suite's KEM is not built in")

    def check_public(self, public: bytes) -> None:
        """Raise `PrimitiveMissing`."""
        raise PrimitiveMissing("this suite's KEM is not built in")

    def encapsulate(self, public: bytes, rng: Rng) -> tuple[bytes, bytes]:
        """Raise `PrimitiveMissing`."""
        raise PrimitiveMissing("this suite's KEM is not built in")

    def decapsulate(self, private: bytes, encapsulated: bytes) -> bytes:
        """Raise `PrimitiveMissing`."""
        raise PrimitiveMissing("this suite's KEM is not built in")


@dataclass(slots=True)
class Context:
    """An HPKE context (RFC 9180 section 5.2): a key and a counter of nonces."""

    hpke: Hpke
    key: bytes = field(repr=False)
    base_nonce: bytes = field(repr=False)
    exporter_secret: bytes = field(repr=False)
    sequence: int = 0

    def next_nonce(self) -> bytes:
        """ComputeNonce, and go on by one."""
        size = len(self.base_nonce)
        number = self.sequence.to_bytes(size, "big")
        self.sequence += 1
        return bytes(a ^ b for a, b in zip(self.base_nonce, number, strict=True))

    def seal(self, aad: bytes, plaintext: bytes) -> bytes:
        """Encrypt the next message."""
        return self.hpke.aead.seal(self.key, self.next_nonce(), aad, plaintext)

    def open(self, aad: bytes, ciphertext: bytes) -> bytes:
        """Decrypt the next message."""
        return self.hpke.aead.open(self.key, self.next_nonce(), aad, ciphertext)

    def export(self, context: bytes, length: int) -> bytes:
        """Derive a secret that both sides know (RFC 9180 section 5.3)."""
        hpke = self.hpke
        return _labeled_expand(
            hpke.hash, hpke.suite_id, self.exporter_secret, b"sec", context, length
        )


@dataclass(frozen=True, slots=True)
class Psk:
    """A pre-shared key and its public name."""

    key: bytes = field(repr=False)
    id: bytes

    def __post_init__(self) -> None:
        """Raise `Misuse` if it is shorter than `MIN_PSK`, or has no name."""
        if len(self.key) < MIN_PSK or not self.id:
            raise Misuse("a pre-shared key has at least 32 bytes, and an id")


@dataclass(frozen=True, slots=True)
class Hpke:
    """One combination of KEM, KDF and AEAD."""

    kem: Kem
    hash: Hash
    aead: Aead
    suite_id: bytes

    @classmethod
    def of(cls, kem: Kem, kdf_id: int, hash_: Hash, aead_id: int, aead: Aead) -> Hpke:
        """Combine; the numbers are those of the HPKE registries."""
        numbers = b"".join(i.to_bytes(2, "big") for i in (kem.id, kdf_id, aead_id))
        return cls(kem, hash_, aead, b"HPKE" + numbers)

    def setup_sender(
        self,
        public: bytes,
        info: bytes,
        rng: Rng = random_bytes,
        *,
        psk: Psk | None = None,
        sender_private: bytes | None = None,
    ) -> tuple[bytes, Context]:
        """Setup*S (section 5.1): give the encapsulated key and the context.

        Base mode; with `psk` PSK mode, with `sender_private` Auth mode, with both
        AuthPSK mode.

        Raises:
            DecryptionFailed: The public key is none.
            PrimitiveMissing: The KEM cannot authenticate a sender.
        """
        if sender_private is None:
            shared, encapsulated = self.kem.encapsulate(public, rng)
        else:
            kem = self._auth_kem()
            shared, encapsulated = kem.auth_encapsulate(public, sender_private, rng)
        context = self.schedule_context(info, psk, auth=sender_private is not None)
        return encapsulated, self.key_schedule(shared, context, psk)

    def setup_receiver(
        self,
        encapsulated: bytes,
        private: bytes,
        info: bytes,
        *,
        psk: Psk | None = None,
        sender_public: bytes | None = None,
    ) -> Context:
        """Setup*R (section 5.1), in the same mode as the sender.

        Raises:
            DecryptionFailed: The encapsulated key is none.
            PrimitiveMissing: The KEM cannot authenticate a sender.
        """
        if sender_public is None:
            shared = self.kem.decapsulate(private, encapsulated)
        else:
            kem = self._auth_kem()
            shared = kem.auth_decapsulate(private, encapsulated, sender_public)
        context = self.schedule_context(info, psk, auth=sender_public is not None)
        return self.key_schedule(shared, context, psk)

    def _auth_kem(self) -> AuthKem:
        if not isinstance(self.kem, AuthKem):
            raise PrimitiveMissing("this KEM cannot authenticate a sender")
        return self.kem

    def schedule_context(
        self, info: bytes, psk: Psk | None = None, *, auth: bool = False
    ) -> bytes:
        """Give key_schedule_context: computed once where `info` is for many."""
        hash_, suite_id = self.hash, self.suite_id
        mode = (0 if psk is None else 1) + (2 if auth else 0)
        psk_id = b"" if psk is None else psk.id
        return (
            mode.to_bytes(1, "big")
            + _labeled_extract(hash_, suite_id, b"", b"psk_id_hash", psk_id)
            + _labeled_extract(hash_, suite_id, b"", b"info_hash", info)
        )

    def schedule_secret(self, shared: bytes, psk: Psk | None = None) -> bytes:
        """Give the secret that a context is derived from."""
        key = b"" if psk is None else psk.key
        return _labeled_extract(self.hash, self.suite_id, shared, b"secret", key)

    def key_schedule(
        self, shared: bytes, context: bytes, psk: Psk | None = None
    ) -> Context:
        """KeySchedule (section 5.1); `context` is a `schedule_context`."""
        secret = self.schedule_secret(shared, psk)

        def expand(label: bytes, length: int) -> bytes:
            return _labeled_expand(
                self.hash, self.suite_id, secret, label, context, length
            )

        return Context(
            self,
            expand(b"key", self.aead.key_size),
            expand(b"base_nonce", self.aead.nonce_size),
            expand(b"exp", self.hash.size),
        )
