"""Reading logs in pages, by devices and by peers, each as far as it may."""

from collections.abc import Sequence

from sqlalchemy import Connection, and_, select

from node.accounts.device import Device
from node.rooms.member import (
    ALWAYS,
    Period,
    first_readable,
    list_periods,
    list_rooms,
    peer_reader,
    readable_upto,
)
from node.storage.chain import (
    MAILBOX,
    OUTGOING,
    ROOM,
    Log,
    get_log,
    list_entries,
    start_before,
)
from node.storage.store import Store
from node.storage.tables import CursorRow, LogRow, core
from protocol.errors import BadRequest, UnknownRoom
from protocol.limits import BATCH_BYTES, BATCH_ENTRIES
from protocol.log import LogId
from protocol.wire import Page, Rooms, RoomState

__all__ = ["Pages", "device_periods", "page_before"]

_log = core(LogRow)
_cursor = core(CursorRow)


class Pages:
    """What may be read of the logs on this node."""

    def __init__(self, store: Store, node: str) -> None:
        self._store = store
        self._node = node

    async def page(
        self,
        device: Device,
        log: LogId,
        *,
        after: int | None,
        before: int | None,
        limit: int,
    ) -> Page:
        """Entries that a device may read: those after a seq, or before one.

        Raises:
            UnknownRoom: there is no such log, or it is not this device's to read.
            BadRequest: both or neither of `after` and `before`.
        """
        if (after is None) == (before is None):
            raise BadRequest("Ask for entries after one or before one, not both.")
        limit = max(1, min(limit, BATCH_ENTRIES))

        def read(connection: Connection) -> Page:
            found = get_log(connection, log)
            periods = device_periods(connection, found, device)
            if found is None or not periods:
                raise UnknownRoom()
            if after is not None:
                return _page(connection, found, periods, after, limit)
            return page_before(
                connection, found, periods, before or 0, limit, BATCH_BYTES
            )

        return await self._store.read(read)

    async def page_for_peer(
        self, peer: str, log: LogId, after: int, limit: int
    ) -> Page:
        """Entries of a log of this node that a peer may read.

        Raises:
            UnknownRoom: there is no such log, or it is not this peer's to read.
        """

        def read(connection: Connection) -> Page:
            found = get_log(connection, log)
            if found is None or found.owner != self._node:
                raise UnknownRoom()
            periods = peer_periods(connection, found, peer)
            if not periods:
                raise UnknownRoom()
            room = max(1, min(limit, BATCH_ENTRIES))
            return _page(connection, found, periods, after, room)

        return await self._store.read(read)

    async def rooms(self, device: Device) -> Rooms:
        """The rooms that the device's account is in."""

        def read(connection: Connection) -> Rooms:
            rooms = list_rooms(connection, str(device.account))
            rows = connection.execute(
                select(_log.c.id, _log.c.owner, _log.c.head, _cursor.c.seq)
                .join_from(
                    _log,
                    _cursor,
                    and_(
                        _cursor.c.log == _log.c.id,
                        _cursor.c.reader == device.address,
                    ),
                    isouter=True,
                )
                .where(_log.c.id.in_(rooms), _log.c.kind == ROOM)
                .order_by(_log.c.id)
            )
            return Rooms(
                [RoomState(LogId(row[0]), row[1], row[2], row[3]) for row in rows]
            )

        return await self._store.read(read)


def device_periods(
    connection: Connection, log: Log | None, device: Device
) -> Sequence[Period]:
    """From where to where a device may read a log; empty: not at all."""
    if log is None:
        return ()
    if log.kind == MAILBOX:
        return ALWAYS if log.party == str(device.account) else ()
    if log.kind == ROOM:
        return list_periods(connection, log.id, str(device.account))
    return ()


def peer_periods(connection: Connection, log: Log, peer: str) -> Sequence[Period]:
    """From where to where a peer may read a log of ours; empty: not at all."""
    if log.kind == OUTGOING:
        return ALWAYS if log.party == peer else ()
    if log.kind == ROOM:
        return list_periods(connection, log.id, peer_reader(peer))
    return ()


def _page(
    connection: Connection,
    log: Log,
    periods: Sequence[Period],
    after: int,
    limit: int,
) -> Page:
    last = periods[-1].until
    head = log.head if last is None else min(log.head, last)
    start = first_readable(periods, max(0, after))
    upto = readable_upto(periods, start, log.head)
    run = list_entries(
        connection,
        log,
        start,
        upto=min(upto, start + limit),
        limit=limit,
        max_bytes=BATCH_BYTES,
    )
    return Page(log.id, run.after, run.previous, run.entries, head)


def page_before(
    connection: Connection,
    log: Log,
    periods: Sequence[Period],
    before: int,
    limit: int,
    max_bytes: int,
) -> Page:
    """The last entries before a seq that may be read, in order.

    They lie in one period; asked again before the first of them, it goes on in the
    period before that. Empty where there are no more.

    Args:
        connection: any.
        log: as read on this connection.
        periods: of the reader, oldest first.
        before: the seq after the last one wanted.
        limit: entries at most.
        max_bytes: bytes at most; the last entry comes however large it is.
    """
    until = periods[-1].until
    head = log.head if until is None else min(log.head, until)
    last = upto = first = min(max(before, 1) - 1, head)
    for period in periods:
        if period.since <= last:
            upto = last if period.until is None else min(last, period.until)
            first = period.since - 1
    start = start_before(connection, log.id, upto + 1, limit=limit, max_bytes=max_bytes)
    start = min(max(start, first), upto)
    run = list_entries(
        connection, log, start, upto=upto, limit=limit, max_bytes=max_bytes
    )
    return Page(log.id, run.after, run.previous, run.entries, head)
