"""Logs that a peer does not get further with: held one by one, on the same ladder.

A log that the peer refuses, or acks backwards, waits by itself; the peer's other
logs go on. Pure: time and jitter come in.
"""

from dataclasses import dataclass

from federation import retry
from protocol.log import LogId

__all__ = ["Holds"]


@dataclass(slots=True)
class _Hold:
    fails: int
    since: float
    until: float
    best: int
    """The highest seq that the peer once had; beyond it the hold is forgotten."""


class Holds:
    """The held logs of one peer."""

    def __init__(self) -> None:
        self._holds: dict[LogId, _Hold] = {}

    def active(self, now: float) -> set[LogId]:
        """The logs that must wait at this moment."""
        return {log for log, hold in self._holds.items() if now < hold.until}

    def next_end(self, now: float) -> float | None:
        """Seconds until the next log may go on; None when none is held."""
        left = [hold.until - now for hold in self._holds.values() if now < hold.until]
        return min(left, default=None)

    def refused(self, log: LogId, now: float, jitter: float) -> None:
        """The peer will not take this log now."""
        hold = self._fail(log, now)
        hold.until = now + retry.delay(hold.fails, now - hold.since, jitter)

    def acked(
        self, log: LogId, after: int, seq: int, now: float, jitter: float
    ) -> None:
        """The peer acked `seq` of a stream that began behind `after`.

        Going back once is how a peer says that it lost data, and is followed at
        once; a peer that goes back again and again is followed more and more slowly.
        """
        hold = self._holds.get(log)
        if seq > after:
            if hold is not None and seq > hold.best:
                del self._holds[log]
            return
        hold = self._fail(log, now)
        hold.best = max(hold.best, after)
        if hold.fails > 1 or seq == after:
            hold.until = now + retry.delay(hold.fails, now - hold.since, jitter)

    def clear(self) -> None:
        """The peer is back and in order: let everything go on."""
        self._holds.clear()

    def _fail(self, log: LogId, now: float) -> _Hold:
        hold = self._holds.setdefault(log, _Hold(0, now, now, 0))
        hold.fails += 1
        return hold
