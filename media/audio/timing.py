"""When packets come and when sound is asked for: what a jitter buffer goes by.

Both clocks are followed by their early edge: the fastest packet and the earliest
pull of some seconds. Clocks of two devices that drift apart (0.02 % is 2 ms in 10 s)
move that edge slowly, and the buffer follows.
"""

from collections import deque
from typing import Final

from media.audio.opus import BLOCK, RATE

__all__ = ["Arrivals", "Pulls"]

BASE_WINDOW: Final = 10.0
"""Seconds in which the fastest packet is looked for."""
LATE_WINDOW: Final = 4.0
"""Seconds over which lateness is judged; so long does a bad time stay remembered."""
SHARE: Final = 0.97
"""The share of packets that are to be in time: the rest is repaired or made up."""
USELESS: Final = 0.4
"""Seconds of lateness that nobody could wait for: they are no reason to wait."""
MOVED: Final = 0.2
MOVED_FOR: Final = 1.0
"""When all packets of a second are later than that, the way has become longer, and
the fastest packet of before is no measure any more."""
COUNTED: Final = 0.1
"""Seconds between two counts: sorting for each packet would be work for nothing."""
ENOUGH: Final = 20
"""Packets that make such a second; in a silence there are but five."""
PACKETS: Final = 2000
"""The most arrivals kept: ten seconds of the shortest packets that make sense."""
PULLS: Final = 50
"""Pulls (1 s) in which the earliest is looked for."""


class Arrivals:
    """How late packets come, measured from the fastest one.

    Transit is the time of arrival less the time in the stream, so only differences
    mean something.
    """

    def __init__(self) -> None:
        self._recent: deque[tuple[float, float]] = deque(maxlen=PACKETS)
        """When each packet of `LATE_WINDOW` came, and its transit."""
        self._fastest: deque[tuple[float, float]] = deque(maxlen=PACKETS)
        """Those of `BASE_WINDOW` that no later one undercut, the fastest first: what
        is looked for costs the same however many packets came."""
        self._counted = 0.0
        self._last: float | None = None
        self.base = 0.0
        """Transit of the fastest packet."""
        self.late = 0.0
        """Seconds after the fastest, in which `SHARE` of packets come."""
        self.jitter = 0.0
        """Seconds, as RFC 3550, section 6.4.1 has it."""

    def note(self, timestamp: int, now: float) -> None:
        """Take notice of a packet."""
        transit = now - timestamp / RATE
        if self._last is None:
            self.base = transit
        else:
            self.jitter += (abs(transit - self._last) - self.jitter) / 16
        self._last = transit
        self.base = min(self.base, transit)
        self._recent.append((now, transit))
        while self._fastest and self._fastest[-1][1] >= transit:
            self._fastest.pop()
        self._fastest.append((now, transit))
        if now - self._counted >= COUNTED:
            self._count(now)

    def _count(self, now: float) -> None:
        self._counted = now
        recent, fastest = self._recent, self._fastest
        while recent[0][0] < now - LATE_WINDOW:
            recent.popleft()
        while fastest[0][0] < now - BASE_WINDOW:
            fastest.popleft()
        self.base = fastest[0][1]
        # The fastest of the last second: the first one there that is so new.
        least = next(t for at, t in fastest if at >= now - MOVED_FOR)
        if least > self.base + MOVED and self._newest(now) >= ENOUGH:
            self.base = least
            while fastest[0][0] < now - MOVED_FOR:
                fastest.popleft()
            while recent[0][0] < now - MOVED_FOR:
                recent.popleft()
        until = self.base + USELESS
        late = sorted([t for _, t in recent if t <= until])
        if late:
            self.late = late[int(SHARE * (len(late) - 1))] - self.base

    def _newest(self, now: float) -> int:
        """How many packets came in the last second."""
        return sum(at >= now - MOVED_FOR for at, _ in self._recent)


class Pulls:
    """When sound is asked for, each time for one block.

    Devices ask unevenly, some for two blocks at once: what counts is the earliest
    pull, for all packets have to be there by then.
    """

    def __init__(self) -> None:
        self._offsets: deque[float] = deque(maxlen=PULLS)
        self._count = 0

    def note(self, now: float) -> float:
        """Count a pull; give when it would have come from the most eager device."""
        due = self._count * BLOCK / RATE
        self._count += 1
        self._offsets.append(now - due)
        return min(self._offsets) + due
