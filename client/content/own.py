"""What the devices of one account tell each other, in their self group.

All of it is registers: a value under a name, in which the last writer wins. Who gets
them twice, late or in another order ends with the same values, so nothing is lost
when a device was away and nothing is asked for: whoever adds a device repeats all.
"""

from typing import ClassVar

import msgspec

from client.quiet import Quiet
from protocol.errors import Malformed

__all__ = [
    "AHEAD",
    "ENTRIES_MAX",
    "KEY_MAX",
    "REGISTER_MAX",
    "VALUE_MAX",
    "Entry",
    "Registers",
    "latest",
]

REGISTER_MAX = 16
"""Characters of a register's name: `contact`, `draft`."""

KEY_MAX = 400
"""Bytes of a key: a device's address has at most 340."""

VALUE_MAX = 20 * 1024
"""Bytes of a value: the draft of the longest text, with something around it."""

ENTRIES_MAX = 1000
"""Values in one message; its size is what bounds it before that."""

AHEAD = 24 * 3600 * 1000
"""Milliseconds that a value's time may be ahead of who reads it: a clock in another
time zone. One from further on would win for as long as that takes."""


def latest(now: int) -> int:
    """The latest time of a value that is believed at `now`, both in milliseconds."""
    return now + AHEAD


class Entry(Quiet, msgspec.Struct, array_like=True, frozen=True):
    """One value, as its last writer set it."""

    register: str
    key: str
    value: bytes
    """Empty: there is none any more."""
    time: int
    """Milliseconds since 1970, at least one more than of the value before. No `Whole`:
    one value that is bad would have all of them refused."""

    def check(self, now: int) -> None:
        """Raise `Malformed` outside a bound; `now`: milliseconds since 1970."""
        if not 0 < len(self.register) <= REGISTER_MAX or not (
            self.register.isascii() and self.register.isprintable()
        ):
            raise Malformed("A register's name is a short ASCII word.")
        if len(self.key.encode("utf-8", "surrogatepass")) > KEY_MAX:
            raise Malformed("A register's key is too long.")
        if len(self.value) > VALUE_MAX:
            raise Malformed("A register's value is too long.")
        if not 0 <= self.time <= latest(now):
            raise Malformed("A register's time has not come.")


class Registers(Quiet, msgspec.Struct, frozen=True):
    """Values that changed, or all of them for a device that is new.

    Each value is checked by itself when it is taken in (`Entry.check`): one that is
    bad keeps none of the others out.
    """

    kind: ClassVar[str] = "own_registers"
    entries: list[Entry]

    def check(self) -> None:
        """Raise `Malformed` outside a bound."""
        if not 0 < len(self.entries) <= ENTRIES_MAX:
            raise Malformed("Registers hold nothing, or too much.")
