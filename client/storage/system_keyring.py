"""The system's keyring: keeps a secret that opens this device's database.

macOS' keychain, Windows' credential store, GNOME Keyring or KWallet, through the
package `keyring`. Only those: a backend that writes secrets into a plain file, as some
that can be installed do, is worse than a password. What is said here is for people.

What it does not protect: every program of the same user can usually ask the keyring,
while it is unlocked.
"""

import threading
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any, TypeVar

from client.errors import KeyringFailed

__all__ = ["get", "put", "remove"]

SERVICE = "telex"

PATIENCE = 60.0
"""Seconds for a person to unlock the keyring when the system asks for it."""

TRUSTED = (
    "keyring.backends.macOS",
    "keyring.backends.Windows",
    "keyring.backends.SecretService",
    "keyring.backends.libsecret",
    "keyring.backends.kwallet",
)

_HINT = "open the profile with its password instead"

T = TypeVar("T")


def put(name: str, secret: bytes) -> None:
    """Keep a secret under a name (blocking: the system may ask the person).

    Raises:
        KeyringFailed: there is no keyring that can be trusted, or it refused.
    """
    text = b64encode(secret).decode()
    _within(lambda: _backend().set_password(SERVICE, name, text))
    if get(name) != secret:
        raise KeyringFailed(f"The system's keyring did not keep the key: {_HINT}.")


def get(name: str) -> bytes:
    """The secret under a name (blocking).

    Raises:
        KeyringFailed: it is not there, or the keyring does not give it.
    """
    text = _within(lambda: _backend().get_password(SERVICE, name))
    try:
        secret = b64decode(text or "", validate=True)
    except ValueError:
        secret = b""
    if len(secret) != 32:
        raise KeyringFailed(
            f"The system's keyring does not have this profile's key any more: {_HINT}."
        )
    return secret


def remove(name: str) -> None:
    """Forget a secret; one that is gone, or cannot be reached, opens nothing."""
    try:
        _within(lambda: _backend().delete_password(SERVICE, name))
    except KeyringFailed:
        return


def available() -> bool:
    """Whether this system has a keyring that can be trusted (blocking)."""
    try:
        _within(_backend)
    except KeyringFailed:
        return False
    return True


def _backend() -> Any:
    import keyring
    from keyring.backends.chainer import ChainerBackend

    found = keyring.get_keyring()
    candidates = found.backends if isinstance(found, ChainerBackend) else [found]
    for backend in candidates:
        if type(backend).__module__ in TRUSTED:
            return backend
    raise KeyringFailed(
        "This system has no keyring that Telex can use (on Linux: GNOME Keyring or "
        f"KWallet, with a desktop session): {_HINT}."
    )


def _within(call: Callable[[], T]) -> T:
    """Call the keyring, which may hang: in a thread that nobody has to wait for."""
    result: list[T] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            result.append(call())
        except BaseException as error:  # handed on below
            failure.append(error)

    thread = threading.Thread(target=work, name="telex-keyring", daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if result:
        return result[0]
    if not failure:
        raise KeyringFailed(
            f"The system's keyring does not answer; unlock it, or {_HINT}."
        )
    error = failure[0]
    if isinstance(error, KeyringFailed):
        raise error
    # Never its text: a backend may put anything there.
    kind = type(error).__name__
    if kind == "KeyringLocked":
        raise KeyringFailed(
            f"The system's keyring is locked: unlock it and try again, or {_HINT}."
        ) from None
    raise KeyringFailed(
        f"The system's keyring refused ({kind}): allow Telex to use it, or {_HINT}."
    ) from None
