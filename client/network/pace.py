"""When to try to connect again.

By itself after one second, two, four, and then every five while an outage is young:
most are a restart or a tunnel, and people watch the screen. An outage of hours is
tried less often, up to once a minute, and never by everybody at the same moment.
Whoever writes or asks brings the next attempt forward; that costs nothing later, and
no two attempts begin within a second, however much is written.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable

__all__ = ["FIRST_DELAY", "GAP", "LAST_DELAY", "YOUNG_DELAY", "Pace"]

GAP = 1.0
"""Seconds between the beginnings of two attempts, at least."""

FIRST_DELAY = 1.0
"""Seconds to the second attempt; each further one waits twice that."""

YOUNG_DELAY = 5.0
"""Seconds between attempts in the first minutes of an outage, at most."""

PATIENCE = 60.0
"""An outage waits a second longer for each so many seconds that it lasts: five at
five minutes, sixty at an hour."""

LAST_DELAY = 60.0
"""Seconds between attempts at most: a node that is back is found within a minute."""


class Pace:
    """The rhythm of attempts; one attempt at a time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds that never jump."""
        self._clock = clock
        self._hurry = asyncio.Event()
        self._began = float("-inf")
        self._since: float | None = None
        self._steps = 0
        self._due = float("-inf")
        self._not_before = float("-inf")

    def hurry(self) -> None:
        """Somebody waits: make the next attempt as soon as may be."""
        self._hurry.set()

    def attempt(self) -> None:
        """An attempt begins now."""
        self._hurry.clear()
        self._began = self._clock()

    def worked(self) -> None:
        """We are connected: an outage, if there was one, is over."""
        self._since = None

    def stood(self) -> None:
        """The connection was a good one; the steps begin anew."""
        self._steps = 0

    def failed(self, retry_after: float = 0.0) -> float:
        """The attempt failed, or the connection was lost.

        Args:
            retry_after: seconds that the node asked us to stay away.

        Returns:
            Seconds to the next attempt, unless somebody hurries.
        """
        now = self._clock()
        if self._since is None:
            self._since, self._due = now, now
        if now >= self._due:
            # An attempt that came early, because somebody hurried, leaves the next
            # one where it was.
            cap = max(YOUNG_DELAY, (now - self._since) / PATIENCE)
            delay = min(FIRST_DELAY * 2.0 ** min(self._steps, 10), cap, LAST_DELAY)
            self._steps += 1
            self._due = now + delay * random.uniform(0.5, 1)
        self._not_before = now + min(retry_after, LAST_DELAY)
        return max(self._due, self._soonest) - now

    async def wait(self) -> None:
        """Wait for the moment of the next attempt."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self._due - self._clock())):
                await self._hurry.wait()
        await asyncio.sleep(max(0.0, self._soonest - self._clock()))

    @property
    def _soonest(self) -> float:
        return max(self._began + GAP, self._not_before)
