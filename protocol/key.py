"""Keys, labelled signatures, and what is made of a phrase and of a password.

Every signature outside HTTP and MLS is made for one label (`ask`, `device`,
`account`, `node`, `checkpoint`, `answer`), so none can pass for another.
"""

import hashlib
import hmac
from dataclasses import dataclass, field

import msgspec
from nacl import bindings, pwhash

from protocol.address import AccountAddress
from protocol.errors import IdentityError

__all__ = [
    "KeyPair",
    "Signed",
    "backup_key",
    "login_secret",
    "root_key",
    "sign",
    "verify",
]


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An Ed25519 key: its 32-byte public half, and the seed that nobody prints."""

    public: bytes
    seed: bytes = field(repr=False)

    @classmethod
    def from_seed(cls, seed: bytes) -> "KeyPair":
        """The key of a 32-byte seed."""
        public, _ = bindings.crypto_sign_seed_keypair(seed)
        return cls(public, seed)


def sign(label: str, key: KeyPair, payload: bytes) -> bytes:
    """64 bytes: an Ed25519 signature that holds for this label alone."""
    message = _labelled(label, payload)
    return bindings.crypto_sign(message, key.seed + key.public)[:64]


def verify(label: str, public: bytes, payload: bytes, signature: bytes) -> None:
    """Check a signature made by `sign` with the same label.

    Raises:
        IdentityError: it does not hold.
    """
    if len(public) != 32 or len(signature) != 64:
        raise IdentityError("A key or signature has the wrong length.")
    try:
        bindings.crypto_sign_open(signature + _labelled(label, payload), public)
    except Exception as error:  # nacl raises several kinds; all mean "no"
        raise IdentityError(f"A signature ({label}) does not hold.") from error


def _labelled(label: str, payload: bytes) -> bytes:
    return b"telex " + label.encode() + b" 1\0" + payload


def root_key(entropy: bytes) -> KeyPair:
    """The root key of a 24-word phrase, from the phrase's 32 bytes of entropy."""
    return KeyPair.from_seed(_from_phrase(entropy, b"telex root 1"))


def backup_key(entropy: bytes) -> bytes:
    """32 bytes that seal an account's backups, from its phrase's entropy.

    Nothing of the root key follows from it, so devices may keep it.
    """
    return _from_phrase(entropy, b"telex backup 1")


def _from_phrase(entropy: bytes, info: bytes) -> bytes:
    """HKDF-SHA256 (RFC 5869) without salt, one block."""
    extracted = hmac.digest(bytes(32), entropy, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def login_secret(account: AccountAddress, password: str) -> bytes:
    """32 bytes that stand for the password at the account's node.

    Argon2id (3 passes, 64 MiB) salted by the account, about 0.1 s; the node stores
    a hash of it and never sees the password, which may therefore also unlock the
    device's database.
    """
    salt = hashlib.blake2b(
        str(account).encode(), digest_size=16, person=b"telex login 1"
    ).digest()
    return pwhash.argon2id.kdf(
        32, password.encode(), salt, opslimit=3, memlimit=64 * 1024 * 1024
    )


class Signed(msgspec.Struct, array_like=True, frozen=True):
    """Bytes and a signature over exactly them."""

    payload: bytes
    signature: bytes
