"""Pruning: what a peer acked long ago is dropped from our outgoing log for it.

Outgoing logs are the one kind of log that nobody reads twice. An entry goes when the
peer has acked it, it is old, and what became of its submission is known elsewhere on
this node (its entry in our copy of the room, or its outcome), so that the same bytes
still answer the same receipt. The log's row keeps head and hash: the chain goes on.
"""

from functools import partial

from sqlalchemy import Connection, bindparam, delete, select

from node.clock import Clock
from node.rooms.carrying import find_outcome
from node.rooms.member import get_cursor, peer_reader
from node.storage.chain import OUTGOING, find_entry, get_log, log_number
from node.storage.store import Store, Transaction
from node.storage.tables import EntryRow, LogRow, core
from protocol.errors import Malformed
from protocol.log import Kind, LogId, event_id, read_entry, read_submission

__all__ = ["KEPT", "Pruner"]

KEPT = 30 * 24 * 3600
"""Seconds that an acked entry stays: a peer that restores a backup of the last month
is sent again what it lost."""

BATCH = 100
"""Entries in one write: some milliseconds, so nobody waits for it."""

_log = core(LogRow)
_entry = core(EntryRow)

_OLDEST = (
    select(_entry.c.seq, _entry.c.data)
    .where(_entry.c.log == bindparam("log"), _entry.c.seq <= bindparam("acked"))
    .order_by(_entry.c.seq)
    .limit(BATCH)
)


class Pruner:
    """Drops old entries of outgoing logs; `prune` is a chore."""

    def __init__(self, store: Store, node: str, clock: Clock) -> None:
        self._store = store
        self._node = node
        self._clock = clock

    async def prune(self) -> int:
        """Drop what may go, of every outgoing log; how many entries that were.

        Raises:
            Refused: the database's trouble.
        """
        query = select(_log.c.id).where(
            _log.c.kind == OUTGOING, _log.c.owner == self._node
        )
        names = await self._store.read(lambda c: list(c.scalars(query)))
        dropped = 0
        for name in names:
            while upto := await self._store.read(partial(self._upto, name=name)):
                write = partial(_drop, name=LogId(name), upto=upto)
                dropped += await self._store.write(write)
        return dropped

    def _upto(self, connection: Connection, name: LogId) -> int:
        """The last of the next few entries that may go; 0: none."""
        found = get_log(connection, name)
        assert found is not None
        acked = get_cursor(connection, peer_reader(found.party), name) or 0
        upto, before = 0, int((self._clock() - KEPT) * 1000)
        rows = connection.execute(
            _OLDEST, {"log": log_number(name), "acked": acked}
        ).all()
        for seq, data in rows:
            if not _may_go(connection, data, before):
                break
            upto = seq
        return upto


def _may_go(connection: Connection, data: bytes, before: int) -> bool:
    try:
        entry = read_entry(data)
        submission = read_submission(entry.submission)
    except Malformed:
        return False
    if entry.time >= before:
        return False
    event = event_id(entry.submission)
    # A Welcome is ours: the commit that made it is never applied again.
    return (
        submission.kind == Kind.WELCOME
        or find_entry(connection, submission.log, event) is not None
        or find_outcome(connection, submission.log, event) is not None
    )


def _drop(transaction: Transaction, name: LogId, upto: int) -> int:
    # The peer may have gone back since `upto` was read.
    connection = transaction.connection
    found = get_log(connection, name)
    assert found is not None
    acked = get_cursor(connection, peer_reader(found.party), name) or 0
    old = _entry.c.log == log_number(name), _entry.c.seq <= min(upto, acked)
    return connection.execute(delete(_entry).where(*old)).rowcount
