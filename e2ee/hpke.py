"""HPKE (RFC 9180), base mode, over any KEM.

A KEM gives and opens shared secrets; the key schedule, `seal`, `open` and `export`
above it are the same for all. MLS needs base mode only: single-shot encryption for
path secrets and Welcomes, `export` for external commits. A KEM that is not a
Diffie-Hellman group (X-Wing) plugs in without a change here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from nacl import bindings
from nacl.exceptions import CryptoError

from e2ee.crypto import SHA256, Aead, Hash, Rng, random_bytes
from e2ee.errors import DecryptionFailed, PrimitiveMissing

_VERSION = b"HPKE-v1"


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


@dataclass(frozen=True, slots=True)
class DhkemX25519:
    """DHKEM(X25519, HKDF-SHA256) (RFC 9180 section 4.1).

    libsodium refuses a Diffie-Hellman result of zero, as RFC 9180 section 7.1.4 asks.
    """

    id: int = 0x0020
    hash: Hash = SHA256

    def derive_key_pair(self, ikm: bytes) -> tuple[bytes, bytes]:
        """Give (private, public) from keying material."""
        suite_id = b"KEM" + self.id.to_bytes(2, "big")
        prk = _labeled_extract(self.hash, suite_id, b"", b"dkp_prk", ikm)
        private = _labeled_expand(self.hash, suite_id, prk, b"sk", b"", 32)
        return private, bindings.crypto_scalarmult_base(private)

    def public(self, private: bytes) -> bytes:
        """Give the public key of a private one."""
        if len(private) != 32:
            raise DecryptionFailed("an X25519 private key has 32 bytes")
        return bindings.crypto_scalarmult_base(private)

    def check_public(self, public: bytes) -> None:
        """Raise `DecryptionFailed` if this cannot be a public key."""
        if len(public) != 32:
            raise DecryptionFailed("an X25519 public key has 32 bytes")

    def encapsulate(self, public: bytes, rng: Rng) -> tuple[bytes, bytes]:
        """Give (shared secret, encapsulated key)."""
        private, encapsulated = self.derive_key_pair(rng(32))
        return self._shared(private, public, encapsulated, public), encapsulated

    def decapsulate(self, private: bytes, encapsulated: bytes) -> bytes:
        """Give the shared secret, or raise `DecryptionFailed`."""
        return self._shared(private, encapsulated, encapsulated, self.public(private))

    def _shared(
        self, private: bytes, theirs: bytes, encapsulated: bytes, recipient: bytes
    ) -> bytes:
        self.check_public(theirs)
        try:
            dh = bindings.crypto_scalarmult(private, theirs)
        except CryptoError:
            raise DecryptionFailed("a public key gives no shared secret") from None
        suite_id = b"KEM" + self.id.to_bytes(2, "big")
        prk = _labeled_extract(self.hash, suite_id, b"", b"eae_prk", dh)
        return _labeled_expand(
            self.hash, suite_id, prk, b"shared_secret", encapsulated + recipient, 32
        )


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

    def _nonce(self) -> bytes:
        size = len(self.base_nonce)
        number = self.sequence.to_bytes(size, "big")
        self.sequence += 1
        return bytes(a ^ b for a, b in zip(self.base_nonce, number, strict=True))

    def seal(self, aad: bytes, plaintext: bytes) -> bytes:
        """Encrypt the next message."""
        return self.hpke.aead.seal(self.key, self._nonce(), aad, plaintext)

    def open(self, aad: bytes, ciphertext: bytes) -> bytes:
        """Decrypt the next message."""
        return self.hpke.aead.open(self.key, self._nonce(), aad, ciphertext)

    def export(self, context: bytes, length: int) -> bytes:
        """Derive a secret that both sides know (RFC 9180 section 5.3)."""
        hpke = self.hpke
        return _labeled_expand(
            hpke.hash, hpke.suite_id, self.exporter_secret, b"sec", context, length
        )


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
        self, public: bytes, info: bytes, rng: Rng = random_bytes
    ) -> tuple[bytes, Context]:
        """SetupBaseS: give the encapsulated key and the context."""
        shared, encapsulated = self.kem.encapsulate(public, rng)
        return encapsulated, self.key_schedule(shared, self.info_hash(info))

    def setup_receiver(
        self, encapsulated: bytes, private: bytes, info: bytes
    ) -> Context:
        """SetupBaseR."""
        shared = self.kem.decapsulate(private, encapsulated)
        return self.key_schedule(shared, self.info_hash(info))

    def info_hash(self, info: bytes) -> bytes:
        """Hash `info` once where the same is used for many recipients."""
        return _labeled_extract(self.hash, self.suite_id, b"", b"info_hash", info)

    def key_schedule(self, shared: bytes, info_hash: bytes) -> Context:
        """KeySchedule of base mode (RFC 9180 section 5.1)."""
        hash_, suite_id = self.hash, self.suite_id
        psk_id_hash = _labeled_extract(hash_, suite_id, b"", b"psk_id_hash", b"")
        context = b"\0" + psk_id_hash + info_hash
        secret = _labeled_extract(hash_, suite_id, shared, b"secret", b"")
        return Context(
            self,
            _labeled_expand(
                hash_, suite_id, secret, b"key", context, self.aead.key_size
            ),
            _labeled_expand(
                hash_, suite_id, secret, b"base_nonce", context, self.aead.nonce_size
            ),
            _labeled_expand(hash_, suite_id, secret, b"exp", context, hash_.size),
        )
