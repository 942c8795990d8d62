"""Devices' cursors: moved in memory as acks come in, and on disk a moment later.

An ack is not answered, so it need not wait for the disk. What a crash loses of it is
sent again, and a device passes by what it has. Of many acks of one log the newest is
written, so a busy room costs its readers some writes a second and not one each.
"""

import asyncio
import logging
from collections.abc import Sequence

from sqlalchemy import bindparam, update

from node.storage.store import Store, Transaction
from node.storage.tables import CursorRow, core, to_sql
from protocol.errors import Refused
from protocol.log import LogId

__all__ = ["Cursors"]

log = logging.getLogger(__name__)

DELAY = 0.1
"""Seconds that acks are gathered."""

RETRY = 1.0
"""Seconds until they are tried again when the database refused them."""

PENDING_MAX = 200_000
"""Cursors that may wait, in some 40 MB; while the disk refuses them, further acks are
dropped, and what they were for is sent again one day."""

_cursor = core(CursorRow)
_MOVE = to_sql(
    update(_cursor)
    .where(
        _cursor.c.reader == bindparam("who"),
        _cursor.c.log == bindparam("which"),
        _cursor.c.seq < bindparam("most"),
    )
    .values(seq=bindparam("to"))
)

_Key = tuple[str, LogId]


class Cursors:
    """Cursors on their way to the disk; `storage.store.Batched`."""

    def __init__(self) -> None:
        self._pending: dict[_Key, int] = {}
        self._writing: dict[_Key, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._flushed = False

    def move(self, store: Store, device: str, name: LogId, seq: int) -> None:
        """A device that reads a log has it up to a seq."""
        key = (device, name)
        if key in self._pending or len(self._pending) < PENDING_MAX:
            self._pending[key] = seq
        if self._timer is None and not self._writing:
            self._start(store, DELAY)

    def newest(self, device: str, name: LogId, seq: int) -> int:
        """A cursor that was read from the database, moved by what waits here."""
        key = (device, name)
        return max(seq, self._pending.get(key, 0), self._writing.get(key, 0))

    def flush(self, store: Store) -> None:
        """Write what waits now, and nothing later: the node stops."""
        self._flushed = True
        if self._timer is not None:
            self._timer.cancel()
        self._put(store)

    def _start(self, store: Store, delay: float) -> None:
        if self._flushed:
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(delay, self._put, store)

    def _put(self, store: Store) -> None:
        self._timer = None
        if not self._pending or (self._writing and not self._flushed):
            return
        cursors, self._pending = self._pending, {}
        self._writing = self._writing | cursors
        try:
            store.put(self, (store, cursors), 64 * len(cursors))
        except Refused as error:
            self._again(store, error)

    def write(
        self, transaction: Transaction, items: Sequence[tuple[Store, dict[_Key, int]]]
    ) -> list[None]:
        """In the writer: move them, and none of them back."""
        rows = [
            (seq, device, name, seq)
            for _, cursors in items
            for (device, name), seq in cursors.items()
        ]
        transaction.connection.exec_driver_sql(_MOVE, rows)
        return [None] * len(items)

    def done(
        self,
        items: Sequence[tuple[Store, dict[_Key, int]]],
        outcomes: Sequence[Refused | None],
    ) -> None:
        """They are on disk, or are tried again."""
        for (store, _), outcome in zip(items, outcomes, strict=True):
            if outcome is not None:
                self._again(store, outcome)
                continue
            self._writing = {}
            if self._pending:
                self._start(store, DELAY)

    def _again(self, store: Store, error: Refused) -> None:
        log.warning("what devices have read could not be stored: %s", error)
        self._pending = self._writing | self._pending
        self._writing = {}
        self._start(store, RETRY)
