"""What people say in rooms: texts, replies, receipts, the room's name."""

from typing import ClassVar

import msgspec

from client.quiet import Quiet
from client.text import NAME_MAX
from protocol.errors import Malformed
from protocol.limits import TEXT_MAX
from protocol.whole import Whole

__all__ = ["SEQ_MAX", "Receipt", "Reply", "RoomName", "Text"]

SEQ_MAX = 1 << 51
"""Seqs in a content: what a position in a timeline can be made from."""


class Text(Quiet, msgspec.Struct, frozen=True):
    """A text that somebody wrote."""

    kind: ClassVar[str] = "text"
    text: str

    def check(self) -> None:
        """Raise `Malformed` outside a bound."""
        _check_text(self.text)


class Reply(Quiet, msgspec.Struct, frozen=True):
    """A text that answers another message."""

    kind: ClassVar[str] = "reply"
    text: str
    to: bytes
    """16 bytes: the id of the message, as all members compute it."""

    def check(self) -> None:
        """Raise `Malformed` outside a bound."""
        _check_text(self.text)
        if len(self.to) != 16:
            raise Malformed("A reply names no message.")


class Receipt(msgspec.Struct, frozen=True):
    """How far the sender's account has the room, and has seen it."""

    kind: ClassVar[str] = "receipt"
    delivered: Whole
    read: Whole

    def check(self) -> None:
        """Raise `Malformed` outside a bound."""
        if not (0 <= self.delivered < SEQ_MAX and 0 <= self.read < SEQ_MAX):
            raise Malformed("A receipt names no place in a log.")


class RoomName(Quiet, msgspec.Struct, frozen=True):
    """The room's name from here on; repeated for members who come later."""

    kind: ClassVar[str] = "room_name"
    name: str

    def check(self) -> None:
        """Raise `Malformed` outside a bound."""
        if not 0 < _size(self.name) <= NAME_MAX or "\n" in self.name:
            raise Malformed("A room's name is empty, too long or has lines.")


def _check_text(text: str) -> None:
    if not 0 < _size(text) <= TEXT_MAX:
        raise Malformed("A text is empty or too long.")


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
