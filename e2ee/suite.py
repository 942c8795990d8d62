"""Cipher suites as values, with the labelled functions (RFC 9420 sections 5, 8, 9).

A `CipherSuite` is handed around explicitly; nothing in the package looks one up by
number in a global table. Telex uses `SUITE_3`. `BUILT_IN` names the registered suites
as far as libsodium reaches: what is missing raises `PrimitiveMissing` when used, so
that hashes and derivations of a suite work without its AEAD.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from e2ee.codec import u16, u32, vector
from e2ee.crypto import (
    SHA256,
    SHA384,
    SHA512,
    Aead,
    ChaCha20Poly1305,
    Ed25519,
    Hash,
    NoAead,
    NoSignature,
    Rng,
    Signature,
    random_bytes,
)
from e2ee.hpke import DhkemX25519, Hpke, Kem, NoKem


@lru_cache(maxsize=128)
def _labeled(label: str) -> bytes:
    return vector(b"MLS 1.0 " + label.encode())


@dataclass(frozen=True, slots=True)
class HpkeCiphertext:
    """HPKECiphertext (section 7.6)."""

    kem_output: bytes
    ciphertext: bytes

    def encode(self) -> bytes:
        """Encode."""
        return vector(self.kem_output) + vector(self.ciphertext)


@dataclass(frozen=True, slots=True)
class CipherSuite:
    """One MLS cipher suite (section 5.1)."""

    id: int
    hash: Hash
    aead: Aead
    signature: Signature
    hpke: Hpke

    @property
    def kem(self) -> Kem:
        """The KEM of the suite's HPKE."""
        return self.hpke.kem

    @property
    def zero(self) -> bytes:
        """KDF.Nh zero bytes: the commit and PSK secret when there is none."""
        return bytes(self.hash.size)

    # --- derivation (section 8)

    def expand_with_label(
        self, secret: bytes, label: str, context: bytes, length: int
    ) -> bytes:
        """ExpandWithLabel."""
        info = u16(length) + _labeled(label) + vector(context)
        return self.hash.expand(secret, info, length)

    def derive_secret(self, secret: bytes, label: str) -> bytes:
        """DeriveSecret."""
        return self.expand_with_label(secret, label, b"", self.hash.size)

    def derive_tree_secret(
        self, secret: bytes, label: str, generation: int, length: int
    ) -> bytes:
        """DeriveTreeSecret (section 9.1)."""
        return self.expand_with_label(secret, label, u32(generation), length)

    def ref_hash(self, label: str, value: bytes) -> bytes:
        """RefHash (section 5.2); the label is used as it is."""
        return self.hash.digest(vector(label.encode()) + vector(value))

    # --- signatures (section 5.1.2)

    def sign_with_label(self, private: bytes, label: str, content: bytes) -> bytes:
        """SignWithLabel."""
        return self.signature.sign(private, _labeled(label) + vector(content))

    def verify_with_label(
        self, public: bytes, label: str, content: bytes, signature: bytes
    ) -> None:
        """VerifyWithLabel; raises `BadSignature`."""
        self.signature.verify(public, _labeled(label) + vector(content), signature)

    # --- public-key encryption (section 5.1.3)

    def encrypt_info(self, label: str, context: bytes) -> bytes:
        """Hash the HPKE info once, for `encrypt_prepared` to many recipients."""
        return self.hpke.schedule_context(_labeled(label) + vector(context))

    def encrypt_prepared(
        self, public: bytes, prepared: bytes, plaintext: bytes, rng: Rng = random_bytes
    ) -> HpkeCiphertext:
        """EncryptWithLabel with an `encrypt_info`."""
        shared, encapsulated = self.kem.encapsulate(public, rng)
        context = self.hpke.key_schedule(shared, prepared)
        return HpkeCiphertext(encapsulated, context.seal(b"", plaintext))

    def encrypt_with_label(
        self,
        public: bytes,
        label: str,
        context: bytes,
        plaintext: bytes,
        rng: Rng = random_bytes,
    ) -> HpkeCiphertext:
        """EncryptWithLabel."""
        prepared = self.encrypt_info(label, context)
        return self.encrypt_prepared(public, prepared, plaintext, rng)

    def decrypt_with_label(
        self, private: bytes, label: str, context: bytes, sealed: HpkeCiphertext
    ) -> bytes:
        """DecryptWithLabel; raises `DecryptionFailed`."""
        info = _labeled(label) + vector(context)
        opened = self.hpke.setup_receiver(sealed.kem_output, private, info)
        return opened.open(b"", sealed.ciphertext)

    def with_aead(self, aead: Aead) -> CipherSuite:
        """Give this suite with another implementation of its AEAD."""
        return replace(self, aead=aead, hpke=replace(self.hpke, aead=aead))


def _suite(
    number: int,
    kem: Kem,
    kdf_id: int,
    hash_: Hash,
    aead_id: int,
    aead: Aead,
    signature: Signature,
) -> CipherSuite:
    hpke = Hpke.of(kem, kdf_id, hash_, aead_id, aead)
    return CipherSuite(number, hash_, aead, signature, hpke)


_X25519 = DhkemX25519()
_CHACHA = ChaCha20Poly1305()

SUITE_3 = _suite(3, _X25519, 1, SHA256, 3, _CHACHA, Ed25519())
"""MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519: what Telex uses."""

BUILT_IN: dict[int, CipherSuite] = {
    1: _suite(1, _X25519, 1, SHA256, 1, NoAead(16), Ed25519()),
    2: _suite(2, NoKem(0x10), 1, SHA256, 1, NoAead(16), NoSignature()),
    3: SUITE_3,
    4: _suite(4, NoKem(0x21), 3, SHA512, 2, NoAead(32), NoSignature()),
    5: _suite(5, NoKem(0x12), 3, SHA512, 2, NoAead(32), NoSignature()),
    6: _suite(6, NoKem(0x21), 3, SHA512, 3, _CHACHA, NoSignature()),
    7: _suite(7, NoKem(0x11), 2, SHA384, 2, NoAead(32), NoSignature()),
}
"""The suites of RFC 9420 section 17.1 as far as libsodium and hashlib reach."""
