"""A clock that a test moves by hand."""

import asyncio
import heapq
from itertools import count

__all__ = ["FakeClock"]


class FakeClock:
    """Time stands still until `advance`; sleepers wake in the order of their times."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._now = now
        self._order = count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def time(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), future))
        await future

    def next_sleeper(self) -> float | None:
        """Seconds until the first sleeper wakes."""
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] - self._now if self._sleepers else None

    def wakes_at(self, moment: float) -> bool:
        """Whether somebody sleeps until just then."""
        return any(
            abs(at - moment) < 1e-3 and not future.done()
            for at, _, future in self._sleepers
        )

    def advance(self, seconds: float) -> None:
        """Move on, and wake whoever is due."""
        self._now += seconds
        while self._sleepers and self._sleepers[0][0] <= self._now:
            _, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                future.set_result(None)
