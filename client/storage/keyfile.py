"""The small file beside the database that holds its key, wrapped by the password.

The database's key is random; the password only wraps it: Argon2id makes a wrapping
key, XChaCha20-Poly1305 seals the data key with it. The parameters stand in the
file, so they can be raised later, and are bound to the sealed key.

What it does not protect: a weak password against somebody who has a copy of the
file and time. Losing the file is losing the database.
"""

import json
import os
from base64 import b64decode, b64encode
from dataclasses import dataclass
from pathlib import Path

from nacl import bindings, pwhash, utils
from nacl.exceptions import CryptoError

from client.errors import NoProfile, ProfileDamaged, ProfileTooNew, WrongPassword

__all__ = ["KEY_BYTES", "STRENGTH", "Strength", "read_key", "wrap", "write_atomically"]

KEY_BYTES = 32
VERSION = 1
FILE_MAX = 4096
"""Bytes of a key file; a larger one is not ours."""


@dataclass(frozen=True, slots=True)
class Strength:
    """What one guess of the password costs."""

    passes: int
    memory: int
    """Bytes."""


STRENGTH = Strength(passes=3, memory=256 * 1024 * 1024)
"""0.4 s and 256 MiB for a guess (libsodium's "moderate"): once at each start."""

STRONGEST = Strength(passes=16, memory=2 * 1024 * 1024 * 1024)
"""A file that asks for more was tampered with, to exhaust this machine."""


def wrap(path: Path, key: bytes, password: str, strength: Strength) -> None:
    """Write a key file, all or nothing; takes as long as one guess."""
    salt = utils.random(pwhash.argon2id.SALTBYTES)
    nonce = utils.random(bindings.crypto_aead_xchacha20poly1305_ietf_NPUBBYTES)
    sealed = bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(
        key, _binding(strength), nonce, _wrapping_key(password, salt, strength)
    )
    document = {
        "telex": "key",
        "version": VERSION,
        "kdf": "argon2id",
        "passes": strength.passes,
        "memory": strength.memory,
        "salt": b64encode(salt).decode(),
        "nonce": b64encode(nonce).decode(),
        "key": b64encode(sealed).decode(),
    }
    write_atomically(path, json.dumps(document, indent=1).encode())


def read_key(path: Path, password: str) -> bytes:
    """The database's key; takes as long as one guess.

    Raises:
        NoProfile: there is no key file.
        ProfileDamaged, ProfileTooNew: it cannot be used.
        WrongPassword: the password does not open it.
    """
    try:
        with path.open("rb") as file:
            data = file.read(FILE_MAX + 1)
    except FileNotFoundError:
        raise NoProfile(
            f"No account was set up in {path.parent}: register or log in first."
        ) from None
    try:
        document = json.loads(data)
        version = document["version"]
        strength = Strength(document["passes"], document["memory"])
        salt, nonce, sealed = (
            b64decode(document[name], validate=True)
            for name in ("salt", "nonce", "key")
        )
        numbers = (version, strength.passes, strength.memory)
        ours = document["telex"] == "key" and all(isinstance(n, int) for n in numbers)
    except (ValueError, KeyError, TypeError, RecursionError):
        ours = False
    if not ours:
        raise ProfileDamaged(
            f"{path} is damaged: put it back from a backup, or log in anew with the "
            "recovery phrase in another folder."
        )
    if version > VERSION or document.get("kdf") != "argon2id":
        raise ProfileTooNew(f"{path} was written by a newer Telex: update Telex.")
    if not (
        0 < strength.passes <= STRONGEST.passes
        and 8192 <= strength.memory <= STRONGEST.memory
    ):
        raise ProfileDamaged(f"{path} asks for more memory than Telex ever uses.")
    try:
        return bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(
            sealed,
            _binding(strength),
            nonce,
            _wrapping_key(password, salt, strength),
        )
    except (CryptoError, TypeError, ValueError):
        raise WrongPassword from None


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that only its owner may read: all of it, or nothing."""
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _wrapping_key(password: str, salt: bytes, strength: Strength) -> bytes:
    return pwhash.argon2id.kdf(
        KEY_BYTES,
        password.encode(),
        salt,
        opslimit=strength.passes,
        memlimit=strength.memory,
    )


def _binding(strength: Strength) -> bytes:
    return f"telex key {VERSION} {strength.passes} {strength.memory}".encode()
