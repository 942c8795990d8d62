"""The small file beside the database that holds its key, wrapped by the password.

The database's key is random; the password only wraps it: Argon2id makes a wrapping
key, XChaCha20-Poly1305 seals the data key with it. The parameters stand in the
file, so they can be raised later, and are bound to the sealed key. By choice the key
is sealed a second time, by a random secret in the system's keyring: then the profile
opens without typing, and still by its password when the keyring is gone.

What it does not protect: a weak password against somebody who has a copy of the
file and time; with an old copy of the file the old password opens the database, also
after it was changed. Losing the file is losing the database.
"""

import json
import os
from base64 import b64decode, b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nacl import bindings, pwhash, utils
from nacl.exceptions import CryptoError

from client.errors import (
    KeyringFailed,
    NoProfile,
    ProfileDamaged,
    ProfileTooNew,
    WrongPassword,
)
from client.storage import system_keyring

__all__ = [
    "KEY_BYTES",
    "STRENGTH",
    "Strength",
    "change_password",
    "read_key",
    "use_keyring",
    "wrap",
    "write_atomically",
]

KEY_BYTES = 32
VERSION = 1
FILE_MAX = 4096
"""Bytes of a key file; a larger one is not ours."""

_KEYRING_BINDING = b"telex key by keyring 1"


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
    _write(path, _by_password(key, password, strength))


def read_key(path: Path, password: str | None) -> bytes:
    """The database's key; by a password it takes as long as one guess.

    Args:
        password: None asks the system's keyring.

    Raises:
        NoProfile: there is no key file.
        ProfileDamaged, ProfileTooNew: it cannot be used.
        WrongPassword: the password does not open it.
        KeyringFailed: the keyring does not, or was never told to.
    """
    document = _read(path)
    if password is None:
        return _from_keyring(path, document)
    strength, salt, nonce, sealed = _password_part(path, document)
    try:
        return bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(
            sealed,
            _binding(strength),
            nonce,
            _wrapping_key(password, salt, strength),
        )
    except (CryptoError, TypeError, ValueError):
        raise WrongPassword from None


def change_password(path: Path, old: str | None, new: str, strength: Strength) -> None:
    """Wrap the key by another password, all or nothing (blocking: two guesses).

    Args:
        old: the password so far; None asks the system's keyring.

    Raises:
        WrongPassword, KeyringFailed: the old one does not open it; nothing changed.
    """
    key = read_key(path, old)
    document = _read(path)
    _write(path, {**document, **_by_password(key, new, strength)})


def use_keyring(path: Path, key: bytes, *, on: bool) -> None:
    """Let the system's keyring open the profile too, or no more (blocking).

    Args:
        key: the database's.

    Raises:
        KeyringFailed: there is none, or it refused; nothing changed.
    """
    document = _read(path)
    before = document.pop("keyring", None)
    if on:
        name, secret = utils.random(16).hex(), utils.random(KEY_BYTES)
        nonce = utils.random(bindings.crypto_aead_xchacha20poly1305_ietf_NPUBBYTES)
        sealed = bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(
            key, _KEYRING_BINDING, nonce, secret
        )
        system_keyring.put(name, secret)
        document["keyring"] = {
            "name": name,
            "nonce": b64encode(nonce).decode(),
            "key": b64encode(sealed).decode(),
        }
    _write(path, document)
    # Last: a crash before leaves an entry that opens nothing, never the other way.
    if isinstance(before, dict) and isinstance(before.get("name"), str):
        system_keyring.remove(before["name"])


def _by_password(key: bytes, password: str, strength: Strength) -> dict[str, Any]:
    salt = utils.random(pwhash.argon2id.SALTBYTES)
    nonce = utils.random(bindings.crypto_aead_xchacha20poly1305_ietf_NPUBBYTES)
    sealed = bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(
        key, _binding(strength), nonce, _wrapping_key(password, salt, strength)
    )
    return {
        "telex": "key",
        "version": VERSION,
        "kdf": "argon2id",
        "passes": strength.passes,
        "memory": strength.memory,
        "salt": b64encode(salt).decode(),
        "nonce": b64encode(nonce).decode(),
        "key": b64encode(sealed).decode(),
    }


def _write(path: Path, document: dict[str, Any]) -> None:
    write_atomically(path, json.dumps(document, indent=1).encode())


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_MAX + 1)
    except FileNotFoundError:
        raise NoProfile(
            f"No account was set up in {path.parent}: register or log in first."
        ) from None
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or document.get("telex") != "key":
        raise _damaged(path)
    return document


def _password_part(
    path: Path, document: dict[str, Any]
) -> tuple[Strength, bytes, bytes, bytes]:
    try:
        version = document["version"]
        strength = Strength(document["passes"], document["memory"])
        salt, nonce, sealed = (
            b64decode(document[name], validate=True)
            for name in ("salt", "nonce", "key")
        )
        numbers = (version, strength.passes, strength.memory)
        ours = all(isinstance(n, int) for n in numbers)
    except (ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise _damaged(path)
    if version > VERSION or document.get("kdf") != "argon2id":
        raise ProfileTooNew(f"{path} was written by a newer Telex: update Telex.")
    if not (
        0 < strength.passes <= STRONGEST.passes
        and 8192 <= strength.memory <= STRONGEST.memory
    ):
        raise ProfileDamaged(f"{path} asks for more memory than Telex ever uses.")
    return strength, salt, nonce, sealed


def _from_keyring(path: Path, document: dict[str, Any]) -> bytes:
    _password_part(path, document)
    part = document.get("keyring")
    if part is None:
        raise KeyringFailed(
            "This profile opens by its password: give it, or let the system's keyring "
            "open it from the settings."
        )
    try:
        name = part["name"]
        nonce, sealed = (b64decode(part[n], validate=True) for n in ("nonce", "key"))
        # The key and a tag of 16 bytes.
        ours = isinstance(name, str) and (len(nonce), len(sealed)) == (24, 48)
    except (ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise _damaged(path)
    try:
        return bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(
            sealed, _KEYRING_BINDING, nonce, system_keyring.get(name)
        )
    except CryptoError:
        raise KeyringFailed(
            "The key in the system's keyring is not this profile's: open the profile "
            "with its password instead."
        ) from None


def _damaged(path: Path) -> ProfileDamaged:
    return ProfileDamaged(
        f"{path} is damaged: put it back from a backup, or come back with the "
        "recovery phrase in another folder."
    )


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
