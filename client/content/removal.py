"""What is taken back: a message deleted for everyone, and messages that vanish."""

from typing import ClassVar

import msgspec

from protocol.errors import Malformed
from protocol.whole import Whole

__all__ = ["DISAPPEARING_MAX", "Redaction", "Timer"]

DISAPPEARING_MAX = 366 * 24 * 3600
"""Seconds after which messages can be made to vanish: a year."""


class Redaction(msgspec.Struct, frozen=True):
    """A message is deleted for everyone."""

    kind: ClassVar[str] = "redaction"
    id: bytes
    """16 bytes: the id of the message, as all members compute it."""

    def check(self) -> None:
        """Raise `Malformed` outside a bound."""
        if len(self.id) != 16:
            raise Malformed("A redaction names no message.")


class Timer(msgspec.Struct, frozen=True):
    """What is written from here on vanishes so long after it was read."""

    kind: ClassVar[str] = "timer"
    seconds: Whole
    """0: it stays."""

    def check(self) -> None:
        """Raise `Malformed` outside a bound."""
        if not 0 <= self.seconds <= DISAPPEARING_MAX:
            raise Malformed("Messages vanish after a year at the latest.")
