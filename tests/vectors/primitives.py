"""Primitives that libsodium lacks, over `cryptography`: AES-GCM and X-Wing.

The program does without them; the vectors of MLS suite 1 and of other HPKE suites
show that they could be plugged in.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import (
    MLKEM768PrivateKey,
    MLKEM768PublicKey,
)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from e2ee.crypto import Aead, ChaCha20Poly1305, Rng, x25519, x25519_public
from e2ee.errors import DecryptionFailed
from e2ee.hpke import DhkemX25519
from e2ee.suite import BUILT_IN
from e2ee.vectors import Primitives


@dataclass(frozen=True, slots=True)
class AesGcm:
    """AES-GCM with a key of 16 or 32 bytes."""

    key_size: int
    nonce_size: int = 12

    def seal(self, key: bytes, nonce: bytes, aad: bytes, plaintext: bytes) -> bytes:
        return AESGCM(key).encrypt(nonce, plaintext, aad)

    def open(self, key: bytes, nonce: bytes, aad: bytes, ciphertext: bytes) -> bytes:
        try:
            return AESGCM(key).decrypt(nonce, ciphertext, aad)
        except (InvalidTag, ValueError):
            raise DecryptionFailed("a ciphertext does not open") from None


_ML_KEM_PUBLIC = 1184
_ML_KEM_CIPHERTEXT = 1088
_LABEL = b"\\.//^\\"


@dataclass(frozen=True, slots=True)
class XWing:
    """MLKEM768-X25519 (draft-connolly-cfrg-xwing-kem, draft-ietf-hpke-pq).

    A private key is the seed of 32 bytes. `cryptography` draws the randomness of
    ML-KEM itself, so encapsulation cannot be repeated.
    """

    id: int = 0x647A

    def derive_key_pair(self, ikm: bytes) -> tuple[bytes, bytes]:
        label = b"DeriveKeyPair"
        labeled = b"HPKE-v1KEM" + self.id.to_bytes(2, "big")
        labeled += len(label).to_bytes(2, "big") + label + (32).to_bytes(2, "big")
        seed = hashlib.shake_256(ikm + labeled).digest(32)
        return seed, self.public(seed)

    def public(self, private: bytes) -> bytes:
        ml_kem, dh = self._expand(private)
        return ml_kem.public_key().public_bytes_raw() + x25519_public(dh)

    def check_public(self, public: bytes) -> None:
        if len(public) != _ML_KEM_PUBLIC + 32:
            raise DecryptionFailed("an X-Wing public key has 1216 bytes")

    def encapsulate(self, public: bytes, rng: Rng) -> tuple[bytes, bytes]:
        self.check_public(public)
        ml_kem, dh = public[:_ML_KEM_PUBLIC], public[_ML_KEM_PUBLIC:]
        secret, sealed = MLKEM768PublicKey.from_public_bytes(ml_kem).encapsulate()
        ephemeral = rng(64)[32:]
        sent = x25519_public(ephemeral)
        shared = self._combine(secret, x25519(ephemeral, dh), sent, dh)
        return shared, sealed + sent

    def decapsulate(self, private: bytes, encapsulated: bytes) -> bytes:
        if len(encapsulated) != _ML_KEM_CIPHERTEXT + 32:
            raise DecryptionFailed("an X-Wing encapsulated key has 1120 bytes")
        ml_kem, dh = self._expand(private)
        sealed, sent = (
            encapsulated[:_ML_KEM_CIPHERTEXT],
            encapsulated[_ML_KEM_CIPHERTEXT:],
        )
        secret = ml_kem.decapsulate(sealed)
        return self._combine(secret, x25519(dh, sent), sent, x25519_public(dh))

    @staticmethod
    def _expand(seed: bytes) -> tuple[MLKEM768PrivateKey, bytes]:
        expanded = hashlib.shake_256(seed).digest(96)
        return MLKEM768PrivateKey.from_seed_bytes(expanded[:64]), expanded[64:]

    @staticmethod
    def _combine(ml_kem: bytes, dh: bytes, sent: bytes, public: bytes) -> bytes:
        return hashlib.sha3_256(ml_kem + dh + sent + public + _LABEL).digest()


AEADS: dict[int, Aead] = {1: AesGcm(16), 2: AesGcm(32), 3: ChaCha20Poly1305()}
"""By the HPKE AEAD."""
PRIMITIVES = Primitives(
    suites={**BUILT_IN, 1: BUILT_IN[1].with_aead(AesGcm(16))},
    kems={0x20: DhkemX25519(), 0x647A: XWing()},
    aeads=AEADS,
)
