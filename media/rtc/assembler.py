"""Packets to encoded pictures: in order, whole, and the lost ones asked for.

A picture is released with its last packet (the marker bit), not with the next one's
first. What is missing is asked for at once, packet by packet, and again every round
trip; what does not come in time is given up for a key frame. After that nothing but a
key frame is released: a decoder makes mud of the rest.

Pure: the time (seconds, monotonic) comes in.
"""

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Assembler", "Part"]

RETRY = 0.07
"""Seconds between two requests for a packet, or a round trip if that is longer."""

TRIES = 5

GIVE_UP = 0.4
"""Seconds after which a picture is not waited for (two round trips if longer)."""

KEY_EVERY = 0.3
"""Seconds between two requests for a key frame."""

FLOWING = 1.0
"""Seconds since the last packet in which a key frame is asked for: a camera that is
off has none."""

MAX_PARTS = 1_024
"""Packets that are kept: 1.2 MB, 2 s at the highest rate."""

MAX_GAP = 512
"""Packets missing at once; beyond that a key frame is cheaper."""

MAX_BEHIND = 30
"""Packets in a row that may be too late; beyond that it is us who are ahead."""

KEPT = 64
"""Packets kept while waiting for a key frame: its first may come out of order."""


class Part(NamedTuple):
    """A packet's share of a picture."""

    timestamp: int
    last: bool
    """The marker bit: the picture ends here."""
    key: bool
    """A key frame begins here."""
    data: bytes


class Picture(NamedTuple):
    """An encoded picture."""

    timestamp: int
    key: bool
    data: bytes


@dataclass(slots=True)
class Missing:
    """A packet that was not there when later ones came."""

    since: float
    asked: float = float("-inf")
    tries: int = 0


class Assembler:
    """One stream of pictures; numbers are counted on past 65,535."""

    def __init__(self) -> None:
        self.lost = 0
        """Times that a picture was given up."""
        self._parts: dict[int, Part] = {}
        self._missing: dict[int, Missing] = {}
        self._next: int | None = None
        """First packet of the picture whose turn it is; None: a key frame's."""
        self._key: int | None = None
        """Where the newest key frame begins that came."""
        self._highest: int | None = None
        self._behind = 0
        """Packets in a row that came too late."""
        self._asked_key = float("-inf")
        self._came = float("-inf")

    def put(self, number: int, part: Part, now: float) -> list[Picture]:
        """Take in a packet; the pictures that are whole by it."""
        self._came = now
        if self._highest is None or abs(number - self._highest) > MAX_GAP:
            self._forget()
            self._highest = number - 1
        if self._next is not None and number < self._next:
            self._behind += 1
            if self._behind > MAX_BEHIND:  # the number ahead was nonsense
                self.lose()
                self._highest = None
            return []
        self._behind = 0
        if number in self._parts:
            return []
        for gap in range(self._highest + 1, number):
            self._missing[gap] = Missing(now)
        self._missing.pop(number, None)
        self._highest = max(self._highest, number)
        self._parts[number] = part
        if part.key and (self._key is None or number > self._key):
            self._key = number
            if self._next is None:
                self._begin_at(number, now)
        if self._next is None and self._key is None:
            self._thin()
        elif len(self._parts) > MAX_PARTS or len(self._missing) > MAX_GAP:
            self.lose()
        return self._release()

    def _begin_at(self, key: int, now: float) -> None:
        """A key frame begins: only what follows it counts."""
        self._parts = {n: part for n, part in self._parts.items() if n >= key}
        assert self._highest is not None
        self._missing = {
            n: self._missing.get(n) or Missing(now)
            for n in range(key, self._highest)
            if n not in self._parts
        }

    def _thin(self) -> None:
        """Nothing counts yet: keep little, and ask for nothing."""
        self._missing.clear()
        while len(self._parts) > KEPT:
            del self._parts[min(self._parts)]

    def _release(self) -> list[Picture]:
        pictures = []
        if self._key is not None and (self._next is None or self._next < self._key):
            whole = self._whole(self._key)
            blocked = self._next is None or self._whole(self._next) is None
            if whole is not None and blocked:
                self._drop_before(self._key)
        while self._next is not None:
            end = self._whole(self._next)
            if end is None:
                break
            parts = [self._parts.pop(n) for n in range(self._next, end + 1)]
            data = b"".join(part.data for part in parts)
            pictures.append(Picture(parts[0].timestamp, parts[0].key, data))
            self._next = end + 1
        if self._key is not None and self._next is not None and self._next > self._key:
            self._key = None
        return pictures

    def _whole(self, start: int) -> int | None:
        """The last packet of the picture that begins there, if all came."""
        number = start
        while (part := self._parts.get(number)) is not None:
            if part.last:
                return number
            number += 1
        return None

    def _drop_before(self, number: int) -> None:
        self._next = number
        self._parts = {n: part for n, part in self._parts.items() if n >= number}
        self._missing = {n: gap for n, gap in self._missing.items() if n >= number}

    def lose(self) -> None:
        """Give up what is not whole; go on with a key frame."""
        self.lost += 1
        self._forget()

    def _forget(self) -> None:
        self._parts.clear()
        self._missing.clear()
        self._next = self._key = None

    @property
    def lacks(self) -> bool:
        """Whether a packet is missing, or a key frame."""
        return bool(self._missing) or (self._next is None and self._key is None)

    def requests(self, now: float, rtt: float) -> tuple[list[int], bool]:
        """The packets to ask for now, ascending, and whether for a key frame."""
        if self._missing:
            oldest = min(gap.since for gap in self._missing.values())
            if now - oldest >= max(GIVE_UP, 2 * rtt):
                self.lose()
        wanted = []
        for number, gap in sorted(self._missing.items()):
            if gap.tries < TRIES and now - gap.asked >= max(RETRY, rtt):
                gap.asked = now
                gap.tries += 1
                wanted.append(number)
        key = (
            self._next is None
            and self._key is None
            and now - self._came < FLOWING
            and now - self._asked_key >= KEY_EVERY
        )
        if key:
            self._asked_key = now
        return wanted, key
