"""The newest entries of busy logs, in memory: what everybody who is up to date reads.

Filled from the writer's events in order, so it needs no invalidation. It is a cache
and nothing more: who asks for older entries, or for a log that was dropped, reads the
database.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from node.sessions.line import SharedEntries
from protocol.log import LogId
from protocol.wire import Entries

__all__ = ["Tail"]

BYTES_MAX = 32 * 1024 * 1024
"""Bytes of entries held in all."""

LOG_BYTES = 1024 * 1024
"""Bytes held of one log: a slow reader falls back on the database."""


@dataclass(slots=True)
class _Recent:
    first: int
    entries: deque[bytes] = field(default_factory=deque)
    size: int = 0
    frame: SharedEntries | None = None
    """The last one that was asked for: the room's other devices want the same."""


class Tail:
    """Recent entries by log."""

    def __init__(self) -> None:
        self._logs: OrderedDict[LogId, _Recent] = OrderedDict()
        self._size = 0

    def add(self, log: LogId, after: int, entries: list[bytes]) -> None:
        """Entries were appended after a seq."""
        recent = self._logs.pop(log, None)
        if recent is None or after + 1 != recent.first + len(recent.entries):
            if recent is not None:
                self._size -= recent.size
            recent = _Recent(after + 1)
        self._logs[log] = recent
        recent.entries += entries
        size = sum(map(len, entries))
        recent.size += size
        self._size += size
        while recent.size > LOG_BYTES and len(recent.entries) > 1:
            self._drop_first(recent)
        while self._size > BYTES_MAX:
            _, oldest = self._logs.popitem(last=False)
            self._size -= oldest.size

    def frame(
        self, log: LogId, after: int, upto: int, limit: int, max_bytes: int
    ) -> SharedEntries | None:
        """Entries after a seq; None if they are not all here.

        Args:
            log: the log.
            after: the seq before the first one wanted.
            upto: the last one wanted.
            limit: entries at most.
            max_bytes: bytes at most; the first comes however large it is.
        """
        recent = self._logs.get(log)
        if recent is None or after + 1 < recent.first:
            return None
        shared = recent.frame
        if shared is not None and shared.size <= max_bytes:
            frame = shared.frame
            if frame.after == after and frame.head == upto and shared.last == upto:
                return shared
        found: list[bytes] = []
        size = 0
        start = after + 1 - recent.first
        stop = min(len(recent.entries), upto - recent.first + 1, start + limit)
        for place in range(start, stop):  # from the near end, so each is found at once
            data = recent.entries[place]
            size += len(data)
            if found and size > max_bytes:
                break
            found.append(data)
        if not found:
            return None
        shared = recent.frame = SharedEntries(Entries(log, after, found, upto))
        return shared

    def _drop_first(self, recent: _Recent) -> None:
        size = len(recent.entries.popleft())
        recent.first += 1
        recent.size -= size
        self._size -= size
