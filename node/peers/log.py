"""Our logs as peers read them, and what peers answer about them.

A peer is a reader like a device: it has a cursor in each room of ours in which it has
members, and in our outgoing log for it. This is half of the port
`federation.ports.LogStore`; `node.peers.inbox` is the other.
"""

from collections.abc import Collection
from itertools import count

from sqlalchemy import Connection, and_, func, insert, or_, select

from federation.ports import PendingStream
from node.clock import Clock
from node.event import OutcomeStored
from node.rooms.carrying import find_outcome
from node.rooms.member import get_cursor, peer_reader, set_cursor
from node.rooms.page import peer_periods
from node.storage.chain import (
    INCOMING,
    OUTGOING,
    ROOM,
    Log,
    event_key,
    find_entry,
    floor,
    get_log,
    list_entries,
    log_number,
)
from node.storage.store import Store, Transaction
from node.storage.tables import (
    CursorRow,
    EntryRow,
    LogRow,
    MemberRow,
    OutcomeRow,
    core,
)
from protocol.address import parse_device
from protocol.codec import encode
from protocol.errors import AddressError, Malformed
from protocol.limits import BATCH_ENTRIES
from protocol.log import LogId, outgoing_id, read_entry, read_submission
from protocol.wire import Receipt, StreamAck

__all__ = ["PeerLogs", "count_pending", "store_outcome"]

_log = core(LogRow)
_entry = core(EntryRow)
_cursor = core(CursorRow)
_member = core(MemberRow)
_outcome = core(OutcomeRow)

_PREFIX = peer_reader("")

# The next entry after the cursor lies in a period of the peer, or in a log that is
# all the peer's.
_PENDING = (
    select(
        _cursor.c.reader,
        _cursor.c.log,
        _cursor.c.seq,
        func.min(_log.c.head, func.coalesce(_member.c.until, _log.c.head)).label(
            "upto"
        ),
    )
    .join_from(_cursor, _log, _log.c.id == _cursor.c.log)
    .join(
        _member,
        and_(
            _member.c.room == _cursor.c.log,
            _member.c.reader == _cursor.c.reader,
            _member.c.since <= _cursor.c.seq + 1,
            or_(_member.c.until.is_(None), _member.c.until > _cursor.c.seq),
        ),
        isouter=True,
    )
    .where(
        _cursor.c.seq < _log.c.head,
        or_(_log.c.kind == OUTGOING, _member.c.room.is_not(None)),
    )
)


def count_pending(connection: Connection) -> dict[str, int]:
    """How many entries each peer has not acked yet; peers with none are left out."""
    pending = _PENDING.where(
        _cursor.c.reader >= _PREFIX, _cursor.c.reader < _PREFIX + "\x7f"
    ).subquery()
    count = func.sum(pending.c.upto - pending.c.seq)
    rows = connection.execute(
        select(pending.c.reader, count).group_by(pending.c.reader)
    )
    return {reader.removeprefix(_PREFIX): number for reader, number in rows}


class PeerLogs:
    """Reading from peers' cursors, and moving them."""

    def __init__(self, store: Store, node: str, clock: Clock) -> None:
        self._store = store
        self._node = node
        self._clock = clock
        self._turn = count(1)
        self._pushed: dict[tuple[str, LogId], int] = {}

    async def peers_with_pending(self) -> list[str]:
        """Nodes for which some log has entries beyond their cursor."""
        query = (
            _PENDING.where(
                _cursor.c.reader >= _PREFIX,
                _cursor.c.reader < _PREFIX + "\x7f",
            )
            .with_only_columns(_cursor.c.reader)
            .distinct()
        )
        readers = await self._store.read(lambda c: list(c.scalars(query)))
        return [reader.removeprefix(_PREFIX) for reader in readers]

    async def pending_streams(
        self,
        peer: str,
        max_entries: int,
        max_bytes: int,
        exclude: Collection[LogId] = (),
    ) -> list[PendingStream]:
        """What fits into one push, the logs that waited longest first."""

        def read(connection: Connection) -> list[PendingStream]:
            rows = connection.execute(
                _PENDING.where(_cursor.c.reader == peer_reader(peer))
            ).all()
            waiting = [row for row in rows if row.log not in exclude]
            # A new room before the mail that invites to it, which is in the
            # outgoing log: whoever is invited asks for the room at once.
            mail = outgoing_id(self._node, peer)
            waiting.sort(
                key=lambda row: (self._pushed.get((peer, row.log), 0), row.log == mail)
            )
            return _fill(
                connection,
                [(LogId(row.log), row.seq, row.upto) for row in waiting],
                max_entries,
                max_bytes,
            )

        streams = await self._store.read(read)
        for stream in streams:
            self._pushed[peer, stream.log] = next(self._turn)
        if len(self._pushed) > 100_000:  # turns only; starting anew is fair too
            self._pushed.clear()
        return streams

    async def record_acks(self, peer: str, acks: list[StreamAck]) -> None:
        """Move the peer's cursors, store what it refused, tell who wrote that."""

        def write(transaction: Transaction) -> None:
            for ack in acks:
                self._record(transaction, peer, ack)

        await self._store.write(write, size=1024 * len(acks) + 1024)

    async def move_cursors(self, peer: str, cursors: dict[LogId, int]) -> None:
        """What a peer says it has (`hello`): its cursors, never beyond a head.

        Our outgoing log's cursor moves back only: forward it goes with the outcomes,
        which come with an ack that may have been lost.
        """

        def write(transaction: Transaction) -> None:
            connection = transaction.connection
            for name, seq in cursors.items():
                found = get_log(connection, name)
                if found is None or not self._reads(transaction, found, peer):
                    continue
                if found.kind == OUTGOING:
                    seq = min(seq, get_cursor(connection, peer_reader(peer), name) or 0)
                self._move(transaction, peer, found, seq)

        await self._store.write(write, size=64 * len(cursors) + 64)

    async def received_cursors(self, peer: str) -> dict[LogId, int]:
        """Our heads in the logs that this peer owns."""
        query = select(_log.c.id, _log.c.head).where(
            _log.c.owner == peer, _log.c.kind.in_((ROOM, INCOMING))
        )
        rows = await self._store.read(lambda c: c.execute(query).all())
        return {LogId(row[0]): row[1] for row in rows}

    def _record(self, transaction: Transaction, peer: str, ack: StreamAck) -> None:
        found = get_log(transaction.connection, ack.log)
        if found is None or not self._reads(transaction, found, peer):
            return
        self._move(transaction, peer, found, ack.seq)
        if found.kind != OUTGOING:
            return
        for receipt in ack.outcomes:
            if receipt.state == "rejected":
                self._record_refusal(transaction, found, receipt)

    def _record_refusal(
        self, transaction: Transaction, found: Log, receipt: Receipt
    ) -> None:
        """Store that the hub refused something, the first time it says so."""
        data: bytes | None = transaction.connection.scalar(
            select(_entry.c.data).where(
                _entry.c.log == log_number(found.id),
                _entry.c.event == event_key(receipt.event_id),
            )
        )
        if data is None:
            return
        try:
            submission = read_submission(read_entry(data).submission)
            sender = parse_device(submission.sender)
        except (Malformed, AddressError):
            return
        if store_outcome(
            transaction, submission.log, submission.sender, receipt, self._clock()
        ) and (sender.account.node == self._node):
            transaction.events.append(
                OutcomeStored(submission.sender, submission.log, receipt)
            )

    def _reads(self, transaction: Transaction, found: Log, peer: str) -> bool:
        return found.owner == self._node and bool(
            peer_periods(transaction.connection, found, peer)
        )

    def _move(self, transaction: Transaction, peer: str, found: Log, seq: int) -> None:
        connection = transaction.connection
        # Behind what was pruned nothing can be sent again.
        least = floor(connection, found) if found.kind == OUTGOING else 0
        place = max(least, min(seq, found.head))
        set_cursor(connection, peer_reader(peer), found.id, place)


def store_outcome(
    transaction: Transaction, log: LogId, device: str, receipt: Receipt, now: float
) -> bool:
    """Keep a refusal for ever, as the answer to the same bytes; whether it is new."""
    connection = transaction.connection
    if (
        find_outcome(connection, log, receipt.event_id) is not None
        or find_entry(connection, log, receipt.event_id) is not None
    ):
        return False
    connection.execute(
        insert(_outcome).values(
            log=log,
            event_id=receipt.event_id,
            device=device,
            receipt=encode(receipt),
            created=int(now),
        )
    )
    return True


def _fill(
    connection: Connection,
    waiting: list[tuple[LogId, int, int]],
    max_entries: int,
    max_bytes: int,
) -> list[PendingStream]:
    """Streams of the logs in this order, until the push is full."""
    streams: list[PendingStream] = []
    for name, after, upto in waiting:
        found = get_log(connection, name)
        if found is None or max_entries <= 0:
            continue
        run = list_entries(
            connection,
            found,
            after,
            upto=upto,
            limit=min(BATCH_ENTRIES, max_entries),
            max_bytes=max(1, max_bytes),
        )
        size = sum(map(len, run.entries))
        if not run.entries or (streams and size > max_bytes):
            continue
        streams.append(
            PendingStream(
                log=name,
                after=run.after,
                previous=run.previous,
                entries=run.entries,
                head=upto,
                term=read_entry(run.entries[-1]).term,
                last_hash=run.last_hash,
                floor=floor(connection, found) if found.kind == OUTGOING else 0,
            )
        )
        max_entries -= len(run.entries)
        max_bytes -= size
        if max_bytes <= 0:
            break
    return streams
