"""Asking for what could not be read, and sending it again.

A message that was encrypted for keys that a device does not have is lost to it, by
design of MLS. The device asks in the room, by the ids that all members compute alike;
who has the content encrypts it anew, under the room's keys of now, sealed for the one
who asked: somebody may have come in since, or come in before it leaves.
"""

from typing import ClassVar

import msgspec
from nacl import bindings
from nacl.exceptions import CryptoError

from client.quiet import Quiet
from protocol.errors import Malformed

__all__ = ["IDS_MAX", "Again", "Resend", "ResendRequest"]

IDS_MAX = 200
"""Messages in one request: what somebody missed over night, in 4 kB."""

DEVICES_MAX = 32
"""Devices that one request doubts."""

KIND_MAX = 32
BODY_MAX = 40 * 1024
"""Bytes of a content that is sent again: a text with its envelope, twice over."""
SEAL = 48
"""Bytes that a sealed box adds."""


_ANY = b"\x01" * 32
"""A scalar, to try a key with: of small order is whatever makes zero of any."""


class ResendRequest(msgspec.Struct, frozen=True):
    """These messages could not be read."""

    kind: ClassVar[str] = "resend_request"
    ids: list[bytes]
    key: bytes
    """X25519: what is sent again is sealed for it."""
    doubted: list[str] = []
    """Devices whose keys do not fit the room's any more: they should join again."""

    def check(self) -> None:
        """Raise `Malformed` outside a bound."""
        if not 0 < len(self.ids) <= IDS_MAX or any(len(id) != 16 for id in self.ids):
            raise Malformed("A request names no messages, or too many.")
        if len(self.key) != 32:
            raise Malformed("A request holds no key.")
        _check_key(self.key)
        if len(self.doubted) > DEVICES_MAX or any(len(d) > 400 for d in self.doubted):
            raise Malformed("A request doubts too many devices.")


class Again(Quiet, msgspec.Struct, array_like=True, frozen=True):
    """A content that is sent again."""

    kind: str
    """Empty: it was nothing that people see, a receipt."""
    body: bytes


class Resend(Quiet, msgspec.Struct, frozen=True):
    """The content of a message that somebody could not read."""

    kind: ClassVar[str] = "resend"
    id: bytes
    """16 bytes: the id of the message."""
    data: bytes
    """An encoded `Again`, or a sealed box with one."""
    key: bytes = b""
    """The key of the request that it is sealed for; empty: it is not sealed, which
    is read but no longer written."""

    def check(self) -> None:
        """Raise `Malformed` outside a bound."""
        if len(self.id) != 16 or len(self.key) not in (0, 32):
            raise Malformed("What is sent again names no message or key.")
        if len(self.data) > BODY_MAX + KIND_MAX + SEAL + 16:
            raise Malformed("What is sent again is too large.")


def _check_key(key: bytes) -> None:
    """Refuse a key of small order: nothing can be sealed for it (RFC 7748 6.1)."""
    try:
        bindings.crypto_scalarmult(_ANY, key)
    except CryptoError as error:
        raise Malformed("A request holds a key that nothing can be sealed for.") from (
            error
        )
