"""What the devices of one account tell each other, in their self group.

All of it is registers: a value under a name, in which the last writer wins. Who gets
them twice, late or in another order ends with the same values, so nothing is lost
when a device was away and nothing is asked for: whoever adds a device repeats all.
"""

from typing import ClassVar

import msgspec

from protocol.errors import Malformed

__all__ = ["ENTRIES_MAX", "KEY_MAX", "REGISTER_MAX", "VALUE_MAX", "Entry", "Registers"]

REGISTER_MAX = 16
"""Characters of a register's name: `contact`, `draft`."""

KEY_MAX = 400
"""Bytes of a key: a device's address has at most 340."""

VALUE_MAX = 20 * 1024
"""Bytes of a value: the draft of the longest text, with something around it."""

ENTRIES_MAX = 1000
"""Values in one message; its size is what bounds it before that."""

TIME_MAX = 1 << 53
"""Milliseconds: what every JSON reader can count to."""


class Entry(msgspec.Struct, array_like=True, frozen=True):
    """One value, as its last writer set it."""

    register: str
    key: str
    value: bytes
    """Empty: there is none any more."""
    time: int
    """Milliseconds since 1970, at least one more than of the value before."""


class Registers(msgspec.Struct, frozen=True):
    """Values that changed, or all of them for a device that is new."""

    kind: ClassVar[str] = "own_registers"
    entries: list[Entry]

    def check(self) -> None:
        """Raise `Malformed` outside a bound."""
        if not 0 < len(self.entries) <= ENTRIES_MAX:
            raise Malformed("Registers hold nothing, or too much.")
        for entry in self.entries:
            if not 0 < len(entry.register) <= REGISTER_MAX or not (
                entry.register.isascii() and entry.register.isprintable()
            ):
                raise Malformed("A register's name is a short ASCII word.")
            if len(entry.key.encode("utf-8", "surrogatepass")) > KEY_MAX:
                raise Malformed("A register's key is too long.")
            if len(entry.value) > VALUE_MAX:
                raise Malformed("A register's value is too long.")
            if not 0 <= entry.time < TIME_MAX:
                raise Malformed("A register's time is none.")
