"""The primitives: about fifteen calls, all of them into C (RFC 9420 section 5.1).

X25519, (X)ChaCha20-Poly1305 and Ed25519 come from libsodium through PyNaCl's bindings,
SHA-2 and HMAC from the standard library; HKDF (RFC 5869) is written here over HMAC.
Nothing in this package computes with a secret in Python beyond XOR of nonces.
Whether bytes are equal is asked of C (`equal`), never of `==`, when one side is
secret or a tag.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import nacl.utils
from nacl import bindings
from nacl.exceptions import CryptoError

from e2ee.errors import BadSignature, DecryptionFailed, Misuse, PrimitiveMissing

Rng = Callable[[int], bytes]
"""Gives that many random bytes."""

random_bytes: Rng = nacl.utils.random
"""The system's random generator."""

equal = hmac.compare_digest
"""Compare bytes in a time that depends on lengths only."""


@dataclass(frozen=True, slots=True)
class Hash:
    """A hash function with the HMAC and HKDF over it."""

    name: str
    size: int
    """KDF.Nh: length of a hash, a MAC and an extracted key."""

    def digest(self, data: bytes) -> bytes:
        """Hash `data`."""
        digest: bytes = getattr(hashlib, self.name)(data).digest()
        return digest

    def mac(self, key: bytes, data: bytes) -> bytes:
        """HMAC."""
        return hmac.digest(key, data, self.name)

    def extract(self, salt: bytes, ikm: bytes) -> bytes:
        """HKDF-Extract."""
        return hmac.digest(salt, ikm, self.name)

    def expand(self, prk: bytes, info: bytes, length: int) -> bytes:
        """HKDF-Expand.

        Raises:
            Misuse: More than 255 blocks were asked for.
        """
        if length <= self.size:
            return hmac.digest(prk, info + b"\1", self.name)[:length]
        if length > 255 * self.size:
            raise Misuse("HKDF cannot give that many bytes")
        block = b""
        blocks: list[bytes] = []
        for counter in range(1, -(-length // self.size) + 1):
            block = hmac.digest(prk, block + info + bytes((counter,)), self.name)
            blocks.append(block)
        return b"".join(blocks)[:length]


class Aead(Protocol):
    """Authenticated encryption; `open` raises `DecryptionFailed`."""

    @property
    def key_size(self) -> int:
        """Nk."""
        ...

    @property
    def nonce_size(self) -> int:
        """Nn."""
        ...

    def seal(self, key: bytes, nonce: bytes, aad: bytes, plaintext: bytes) -> bytes:
        """Encrypt; the tag is appended."""
        ...

    def open(self, key: bytes, nonce: bytes, aad: bytes, ciphertext: bytes) -> bytes:
        """Decrypt, or raise `DecryptionFailed`."""
        ...


def x25519(private: bytes, public: bytes) -> bytes:
    """X25519 (RFC 7748); raises `DecryptionFailed` for a result of zero."""
    if len(public) != 32:
        raise DecryptionFailed("an X25519 public key has 32 bytes")
    if len(private) != 32:
        raise DecryptionFailed("an X25519 private key has 32 bytes")
    try:
        return bindings.crypto_scalarmult(private, public)
    except CryptoError:
        raise DecryptionFailed("a public key gives no shared secret") from None


def x25519_public(private: bytes) -> bytes:
    """Give the public key of a private one."""
    if len(private) != 32:
        raise DecryptionFailed("an X25519 private key has 32 bytes")
    return bindings.crypto_scalarmult_base(private)


_Cipher = Callable[[bytes, bytes | None, bytes, bytes], bytes]


def _seal(
    cipher: _Cipher, key: bytes, nonce: bytes, aad: bytes, plaintext: bytes
) -> bytes:
    try:
        return cipher(plaintext, aad, nonce, key)
    except CryptoError:
        raise Misuse("a key or nonce has the wrong length") from None


def _open(
    cipher: _Cipher, key: bytes, nonce: bytes, aad: bytes, ciphertext: bytes
) -> bytes:
    if len(ciphertext) < 16:
        raise DecryptionFailed("a ciphertext does not open")
    try:
        return cipher(ciphertext, aad, nonce, key)
    except CryptoError:
        raise DecryptionFailed("a ciphertext does not open") from None


@dataclass(frozen=True, slots=True)
class ChaCha20Poly1305:
    """ChaCha20-Poly1305 with a 96-bit nonce (RFC 8439)."""

    key_size: int = 32
    nonce_size: int = 12

    def seal(self, key: bytes, nonce: bytes, aad: bytes, plaintext: bytes) -> bytes:
        """Encrypt; the tag is appended."""
        encrypt = bindings.crypto_aead_chacha20poly1305_ietf_encrypt
        return _seal(encrypt, key, nonce, aad, plaintext)

    def open(self, key: bytes, nonce: bytes, aad: bytes, ciphertext: bytes) -> bytes:
        """Decrypt, or raise `DecryptionFailed`."""
        decrypt = bindings.crypto_aead_chacha20poly1305_ietf_decrypt
        return _open(decrypt, key, nonce, aad, ciphertext)


@dataclass(frozen=True, slots=True)
class XChaCha20Poly1305:
    """XChaCha20-Poly1305: its 192-bit nonce may be random (draft-irtf-cfrg-xchacha).

    For what is encrypted outside of MLS under a key that lives long: files, backups.
    """

    key_size: int = 32
    nonce_size: int = 24

    def seal(self, key: bytes, nonce: bytes, aad: bytes, plaintext: bytes) -> bytes:
        """Encrypt; the tag is appended."""
        encrypt = bindings.crypto_aead_xchacha20poly1305_ietf_encrypt
        return _seal(encrypt, key, nonce, aad, plaintext)

    def open(self, key: bytes, nonce: bytes, aad: bytes, ciphertext: bytes) -> bytes:
        """Decrypt, or raise `DecryptionFailed`."""
        decrypt = bindings.crypto_aead_xchacha20poly1305_ietf_decrypt
        return _open(decrypt, key, nonce, aad, ciphertext)


@dataclass(frozen=True, slots=True)
class NoAead:
    """Sizes of an AEAD that libsodium lacks: derivations work, encryption does not."""

    key_size: int
    nonce_size: int = 12

    def seal(self, key: bytes, nonce: bytes, aad: bytes, plaintext: bytes) -> bytes:
        """Raise `PrimitiveMissing`."""
        raise PrimitiveMissing("this suite's AEAD is not built in")

    def open(self, key: bytes, nonce: bytes, aad: bytes, ciphertext: bytes) -> bytes:
        """Raise `PrimitiveMissing`."""
        raise PrimitiveMissing("this suite's AEAD is not built in")


class Signature(Protocol):
    """A signature scheme; `verify` raises `BadSignature`."""

    def prepare(self, private: bytes) -> bytes:
        """Expand a private key once, so that signing with it is fast."""
        ...

    def public(self, private: bytes) -> bytes:
        """Give the public key of a private one, prepared or not."""
        ...

    def sign(self, private: bytes, message: bytes) -> bytes:
        """Sign."""
        ...

    def verify(self, public: bytes, message: bytes, signature: bytes) -> None:
        """Return if the signature holds, else raise `BadSignature`."""
        ...


@dataclass(frozen=True, slots=True)
class Ed25519:
    """Ed25519 (RFC 8032); private keys are 32-byte seeds."""

    def prepare(self, private: bytes) -> bytes:
        """Give seed ‖ public key."""
        if len(private) == 64:
            return private
        if len(private) != 32:
            raise Misuse("an Ed25519 private key is a 32-byte seed")
        return bindings.crypto_sign_seed_keypair(private)[1]

    def public(self, private: bytes) -> bytes:
        """Give the public key of a private one, prepared or not."""
        return self.prepare(private)[32:]

    def sign(self, private: bytes, message: bytes) -> bytes:
        """Sign."""
        return bindings.crypto_sign(message, self.prepare(private))[:64]

    def verify(self, public: bytes, message: bytes, signature: bytes) -> None:
        """Return if the signature holds, else raise `BadSignature`."""
        if len(signature) != 64 or len(public) != 32:
            raise BadSignature("a signature does not verify")
        try:
            bindings.crypto_sign_open(signature + message, public)
        except CryptoError:
            raise BadSignature("a signature does not verify") from None


@dataclass(frozen=True, slots=True)
class NoSignature:
    """A scheme that libsodium lacks."""

    def prepare(self, private: bytes) -> bytes:
        """Raise `PrimitiveMissing`."""
        raise PrimitiveMissing("this suite's signatures are not built in")

    def public(self, private: bytes) -> bytes:
        """Raise `PrimitiveMissing`."""
        raise PrimitiveMissing("this suite's signatures are not built in")

    def sign(self, private: bytes, message: bytes) -> bytes:
        """Raise `PrimitiveMissing`."""
        raise PrimitiveMissing("this suite's signatures are not built in")

    def verify(self, public: bytes, message: bytes, signature: bytes) -> None:
        """Raise `PrimitiveMissing`."""
        raise PrimitiveMissing("this suite's signatures are not built in")


SHA256 = Hash("sha256", 32)
SHA384 = Hash("sha384", 48)
SHA512 = Hash("sha512", 64)
