"""Logs in the database: find, append, copy and read entries, by Core statements.

The one place where `seq` and the chain's hash are made. Every function takes an open
connection; those that write are called in the writer's thread only, so a head that
was read is the head that is written.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

from sqlalchemy import Connection, bindparam, func, insert, select, update

from node.event import EntriesAppended, MembersChanged
from node.storage.lookup import look_up
from node.storage.store import Transaction
from node.storage.tables import EntryRow, LogRow, core, to_sql
from protocol.codec import encode
from protocol.errors import LogForked
from protocol.log import GENESIS, Entry, LogId, chain
from protocol.wire import Receipt

__all__ = [
    "INCOMING",
    "MAILBOX",
    "OUTGOING",
    "ROOM",
    "Log",
    "NewEntry",
    "Run",
    "append",
    "append_many",
    "create_log",
    "event_key",
    "find_entries",
    "find_entry",
    "floor",
    "get_log",
    "hash_at",
    "insert_entries",
    "list_entries",
    "log_number",
    "move_head",
    "move_heads",
    "start_before",
    "store_copies",
]

ROOM = "room"
MAILBOX = "mailbox"
OUTGOING = "outgoing"
INCOMING = "incoming"
"""A peer's outgoing log to us: how far it was applied; its entries are not kept."""

_log = core(LogRow)
_entry = core(EntryRow)

_GET_LOG = select(
    _log.c.id,
    _log.c.kind,
    _log.c.owner,
    _log.c.party,
    _log.c.term,
    _log.c.head,
    _log.c.hash,
).where(_log.c.id == bindparam("id"))
_FIND = select(_entry.c.seq, _entry.c.hash).where(
    _entry.c.log == bindparam("log"), _entry.c.event == bindparam("event")
)
_HASH_AT = select(_entry.c.hash).where(
    _entry.c.log == bindparam("log"), _entry.c.seq == bindparam("seq")
)
_PREVIOUS_OF = select(_entry.c.previous).where(
    _entry.c.log == bindparam("log"), _entry.c.seq == bindparam("seq")
)
_AFTER = (
    select(_entry.c.seq, _entry.c.previous, _entry.c.hash, _entry.c.data)
    .where(
        _entry.c.log == bindparam("log"),
        _entry.c.seq > bindparam("after"),
        _entry.c.seq <= bindparam("upto"),
    )
    .order_by(_entry.c.seq)
    .limit(bindparam("limit"))
)
_FIRST = select(func.min(_entry.c.seq)).where(_entry.c.log == bindparam("log"))
_SIZES_BEFORE = (
    select(_entry.c.seq, func.length(_entry.c.data))
    .where(_entry.c.log == bindparam("log"), _entry.c.seq < bindparam("before"))
    .order_by(_entry.c.seq.desc())
    .limit(bindparam("limit"))
)
_TAKEN = select(_log.c.id).where(_log.c.number == bindparam("number"))
_INSERT_LOG = insert(_log)
_INSERT_ENTRY = insert(_entry)
_INSERT_ENTRIES = to_sql(_INSERT_ENTRY)
_MOVE_HEAD = (
    update(_log)
    .where(_log.c.id == bindparam("log_id"))
    .values(
        term=bindparam("new_term"),
        head=bindparam("new_head"),
        hash=bindparam("new_hash"),
    )
)
_MOVE_HEADS = to_sql(
    update(_log)
    .where(_log.c.id == bindparam("log_id"))
    .values(head=bindparam("new_head"), hash=bindparam("new_hash"))
)

NewEntry = tuple[int, int, bytes, bytes, bytes, bytes]
"""A row to be: log number, seq, event key, previous hash, hash, entry."""


@dataclass(frozen=True, slots=True)
class Log:
    """A log and its head."""

    id: LogId
    kind: str
    owner: str
    party: str
    term: int
    head: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Run:
    """Entries of one log in a row."""

    after: int
    previous: bytes
    """The chain's hash at `after`."""
    entries: list[bytes]
    last_hash: bytes
    """The chain's hash at the last entry here."""

    @property
    def last(self) -> int:
        """The seq of the last entry; `after` if there is none."""
        return self.after + len(self.entries)


def get_log(connection: Connection, log: LogId) -> Log | None:
    """A log by its id."""
    row = connection.execute(_GET_LOG, {"id": log}).first()
    if row is None:
        return None
    return Log(LogId(row[0]), row[1], row[2], row[3], row[4], row[5], row[6])


def create_log(
    connection: Connection,
    log: LogId,
    kind: str,
    owner: str,
    *,
    party: str = "",
    now: int,
    head: int = 0,
    hash: bytes = GENESIS,
) -> Log:
    """Insert a log; a copy may begin in the middle.

    Args:
        connection: of the writer.
        log: its id, which must be new.
        kind: one of the four above.
        owner: the node that appends to it.
        party: a mailbox's account, an outgoing log's destination.
        now: unix seconds.
        head: the seq before the first entry that will be here.
        hash: the chain's hash at `head`.

    Raises:
        LogForked: another log has its number; nothing was written. Whoever makes
            rooms until two of them agree has lost the second one, and no more.
    """
    number = log_number(log)
    if connection.scalar(_TAKEN, {"number": number}) is not None:
        raise LogForked("Another log here has the number of this one: begin anew.")
    connection.execute(
        _INSERT_LOG,
        {
            "id": log,
            "number": number,
            "kind": kind,
            "owner": owner,
            "party": party,
            "term": 1,
            "head": head,
            "hash": hash,
            "created": now,
        },
    )
    return Log(log, kind, owner, party, 1, head, hash)


def log_number(log: LogId) -> int:
    """What stands for a log in its entries' rows: 63 bits of a hash of its id.

    A short key in three places of each entry instead of 52 characters. It is unique
    among the logs of a database: a log whose number is taken cannot be made.
    """
    digest = blake2b(log.encode(), digest_size=8, person=b"telex log number").digest()
    return int.from_bytes(digest) >> 1


def event_key(event_id: bytes) -> bytes:
    """What stands for an event id in its entry's row: its first half, 128 bits."""
    return event_id[:16]


def find_entry(connection: Connection, log: LogId, event_id: bytes) -> Receipt | None:
    """The receipt of a submission that the log already holds."""
    values = {"log": log_number(log), "event": event_key(event_id)}
    row = connection.execute(_FIND, values).first()
    if row is None:
        return None
    return Receipt(event_id, "committed", seq=row[0], hash=row[1])


def find_entries(
    connection: Connection, wanted: Collection[tuple[LogId, bytes]]
) -> dict[bytes, Receipt]:
    """Receipts of those of many submissions (log, event id) that the logs hold.

    Returns:
        By event id; it names its log too, so it is the same in no two of them.
    """
    keys = {
        (log_number(log), event_key(event_id)): event_id for log, event_id in wanted
    }
    found: dict[bytes, Receipt] = {}
    rows = look_up(
        connection,
        (_entry.c.log, _entry.c.event),
        list(keys),
        (_entry.c.log, _entry.c.event, _entry.c.seq, _entry.c.hash),
    )
    for log, event, seq, digest in rows:
        event_id = keys[log, event]
        found[event_id] = Receipt(event_id, "committed", seq=seq, hash=digest)
    return found


def append(
    transaction: Transaction,
    log: Log,
    submission: bytes,
    event_id: bytes,
    now_ms: int,
    *,
    added: tuple[str, ...] = (),
    removed: tuple[str, ...] = (),
) -> Receipt:
    """Append a submission as the log's owner; the caller knows that it is new.

    Args:
        transaction: of the writer.
        log: as read in this transaction.
        submission: the bytes as they arrived.
        event_id: `protocol.log.event_id` of them.
        now_ms: milliseconds since 1970.
        added: accounts that this entry brings into the room.
        removed: accounts of which it removes the last device.

    Returns:
        A committed receipt: it holds once the transaction does.
    """
    seq = log.head + 1
    data = encode(Entry(seq, log.term, now_ms, submission, added, removed))
    digest = chain(log.hash, data)
    transaction.connection.execute(
        _INSERT_ENTRY,
        {
            "log": log_number(log.id),
            "seq": seq,
            "event": event_key(event_id),
            "previous": log.hash,
            "hash": digest,
            "data": data,
        },
    )
    move_head(transaction, replace(log, head=seq, hash=digest))
    if added or removed:
        transaction.events.append(MembersChanged(log.id))
    transaction.events.append(
        EntriesAppended(log.id, log.head, [data], _destination(log))
    )
    return Receipt(event_id, "committed", seq=seq, hash=digest)


def append_many(
    transaction: Transaction,
    log: Log,
    submissions: Sequence[tuple[bytes, bytes]],
    now_ms: int,
) -> None:
    """Append (submission, event id)s of which the caller knows that they are new."""
    rows: list[NewEntry] = []
    seq, digest, number = log.head, log.hash, log_number(log.id)
    for submission, event_id in submissions:
        seq += 1
        data = encode(Entry(seq, log.term, now_ms, submission))
        previous, digest = digest, chain(digest, data)
        rows.append((number, seq, event_key(event_id), previous, digest, data))
    insert_entries(transaction, rows)
    move_head(transaction, replace(log, head=seq, hash=digest))
    fresh = [row[5] for row in rows]
    transaction.events.append(
        EntriesAppended(log.id, log.head, fresh, _destination(log))
    )


def _destination(log: Log) -> str:
    return log.party if log.kind == OUTGOING else ""


def store_copies(
    transaction: Transaction, log: Log, entries: Sequence[tuple[bytes, bytes, int]]
) -> Log:
    """Append another owner's entries, byte for byte.

    Args:
        transaction: of the writer.
        log: the copy, as read in this transaction.
        entries: (entry bytes, event id, term), in order, right after the head.

    Returns:
        The log with its new head.
    """
    rows = []
    seq, digest, number = log.head, log.hash, log_number(log.id)
    for data, event_id, _ in entries:
        seq += 1
        previous, digest = digest, chain(digest, data)
        rows.append(
            {
                "log": number,
                "seq": seq,
                "event": event_key(event_id),
                "previous": previous,
                "hash": digest,
                "data": data,
            }
        )
    transaction.connection.execute(_INSERT_ENTRY, rows)
    moved = replace(log, head=seq, hash=digest, term=entries[-1][2])
    move_head(transaction, moved)
    stored = [data for data, _, _ in entries]
    transaction.events.append(EntriesAppended(log.id, log.head, stored))
    return moved


def insert_entries(transaction: Transaction, rows: Sequence[NewEntry]) -> None:
    """Insert entries that were chained already; `move_heads` goes with it.

    Raises:
        IntegrityError: a log holds one of the submissions.
    """
    if rows:
        transaction.connection.exec_driver_sql(
            _INSERT_ENTRIES,
            [
                # The driver asks of each `bytes` whether somebody adapts it, which
                # costs as much as storing it; of a bytearray it does not.
                (log, seq, bytearray(e), bytearray(p), bytearray(h), bytearray(d))
                for log, seq, e, p, h, d in rows
            ],
        )


def move_heads(
    transaction: Transaction, heads: Sequence[tuple[int, bytes, LogId]]
) -> None:
    """Write heads (seq, hash, log) of what `Transaction.known` has already."""
    if heads:
        transaction.connection.exec_driver_sql(_MOVE_HEADS, list(heads))


def move_head(transaction: Transaction, log: Log) -> None:
    """Write a log's head as it stands in `log`."""
    transaction.changed.add(log.id)
    transaction.connection.execute(
        _MOVE_HEAD,
        {
            "log_id": log.id,
            "new_term": log.term,
            "new_head": log.head,
            "new_hash": log.hash,
        },
    )


def hash_at(connection: Connection, log: Log, seq: int) -> bytes | None:
    """The chain's hash after an entry; None if this node does not hold it."""
    if seq == log.head:
        return log.hash
    values = {"log": log_number(log.id), "seq": seq}
    found: bytes | None = connection.scalar(_HASH_AT, values)
    if found is None:
        values["seq"] = seq + 1
        found = connection.scalar(_PREVIOUS_OF, values)
    if found is None and seq == 0:
        return GENESIS
    return found


def floor(connection: Connection, log: Log) -> int:
    """The seq before the first entry that is held: 0 if none was ever dropped."""
    first: int | None = connection.scalar(_FIRST, {"log": log_number(log.id)})
    return log.head if first is None else first - 1


def start_before(
    connection: Connection, log: LogId, before: int, *, limit: int, max_bytes: int
) -> int:
    """Where to begin reading so that a page ends right before an entry.

    Returns:
        The `after` of the page; `before - 1` if nothing lies before.
    """
    after, size = before - 1, 0
    values = {"log": log_number(log), "before": before, "limit": limit}
    for seq, length in connection.execute(_SIZES_BEFORE, values):
        size += length
        if seq != after or (size > max_bytes and after != before - 1):
            break
        after = seq - 1
    return after


def list_entries(
    connection: Connection,
    log: Log,
    after: int,
    *,
    upto: int,
    limit: int,
    max_bytes: int,
) -> Run:
    """Entries after a seq, in order and without a gap.

    Args:
        connection: any.
        log: as read on this connection.
        after: the seq before the first one wanted.
        upto: the last one that may be read.
        limit: entries at most.
        max_bytes: bytes at most; the first entry comes however large it is.

    Returns:
        What there is; empty where the next entry is not held here.
    """
    size, entries = 0, list[bytes]()
    previous, last_hash = b"", b""
    number = log_number(log.id)
    values = {"log": number, "after": after, "upto": upto, "limit": limit}
    # One row at a time: rows beyond the byte limit are never loaded.
    with connection.execute(_AFTER, values) as result:
        for seq, before, digest, data in result:
            if seq != after + len(entries) + 1:
                break
            size += len(data)
            if entries and size > max_bytes:
                break
            previous = previous or before
            entries.append(data)
            last_hash = digest
    if not entries:
        known = hash_at(connection, log, after)
        return Run(after, known or b"", [], known or b"")
    return Run(after, previous, entries, last_hash)
