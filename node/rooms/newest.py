"""What a device shows first: the rooms with the latest entries, and those entries.

One answer instead of one for each room: a device that was away, or one that is new,
has the rooms that people talk in now on its screen after a round trip, and reads the
rest, room by room and backwards, when somebody wants to see it.
"""

import re
from collections.abc import Collection

from sqlalchemy import Connection, and_, func, select

from node.accounts.device import Device
from node.rooms.member import list_all_periods
from node.rooms.page import page_before
from node.storage.chain import ROOM, get_log
from node.storage.store import Store
from node.storage.tables import CursorRow, EntryRow, LogRow, core
from protocol.errors import BadRequest
from protocol.limits import BATCH_BYTES, BATCH_ENTRIES, NEWEST_BYTES, NEWEST_ROOMS
from protocol.log import LogId
from protocol.sync import NewestRooms, RoomNews
from protocol.wire import (
    RoomState,
)

__all__ = ["Newest", "entry_time", "read_place"]

_log = core(LogRow)
_cursor = core(CursorRow)
_entry = core(EntryRow)

_FROM = re.compile(r"(\d{1,16})-([a-z2-7]{52})", re.ASCII)

_HEAD_BYTES = 32
"""Of an entry, in which its seq, term and time stand (26 bytes at most): the
submission behind them is not loaded for this."""

TIME_MAX = 1 << 53
"""Milliseconds beyond every clock; JSON numbers stay exact below it."""

_WIDTHS = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}
"""Bytes of MessagePack's unsigned integers, by the byte before them."""


class Newest:
    """Rooms by their latest entry."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def rooms(
        self, device: Device, newest: int, limit: int, start: str | None
    ) -> NewestRooms:
        """Rooms of the device's account, that with the latest entry first.

        Args:
            device: who asks.
            newest: entries of each at most.
            limit: rooms at most.
            start: `more` of the answer before; None: from the newest on.

        Raises:
            BadRequest: `start` is none.
        """
        newest = max(1, min(newest, BATCH_ENTRIES))
        limit = max(1, min(limit, NEWEST_ROOMS))
        place = read_place(start)

        def read(connection: Connection) -> NewestRooms:
            return _rooms(connection, device, newest, limit, place)

        return await self._store.read(read)


def read_place(text: str | None) -> tuple[int, str] | None:
    """The time and the room after which an answer goes on; None: at the newest.

    Raises:
        BadRequest: it is not what an answer said.
    """
    if text is None:
        return None
    found = _FROM.fullmatch(text)
    if found is None:
        raise BadRequest("The parameter from is not what an answer said.")
    return int(found[1]), found[2]


def _rooms(
    connection: Connection,
    device: Device,
    newest: int,
    limit: int,
    place: tuple[int, str] | None,
) -> NewestRooms:
    periods = {
        room: found
        for room, found in list_all_periods(connection, str(device.account)).items()
        if found[-1].until is None
    }
    states = _states(connection, device, periods)
    states.sort(key=lambda each: (each[0], each[1].room), reverse=True)
    if place is not None:
        states = [each for each in states if (each[0], each[1].room) < place]
    found: list[RoomNews] = []
    size = 0
    for time, state in states:
        here = get_log(connection, state.room)
        assert here is not None
        page = page_before(
            connection,
            here,
            periods[state.room],
            here.head + 1,
            newest,
            NEWEST_BYTES,
        )
        size += sum(map(len, page.entries))
        if len(found) == limit or (found and size > BATCH_BYTES):
            last = found[-1]
            return NewestRooms(found, f"{last.time}-{last.state.room}")
        found.append(RoomNews(state, time, page))
    return NewestRooms(found)


def _states(
    connection: Connection, device: Device, rooms: Collection[str]
) -> list[tuple[int, RoomState]]:
    """What the node has of rooms, and the time of their newest entry."""
    read_by = and_(_cursor.c.log == _log.c.id, _cursor.c.reader == device.address)
    newest = and_(_entry.c.log == _log.c.number, _entry.c.seq == _log.c.head)
    rows = connection.execute(
        select(
            _log.c.id,
            _log.c.owner,
            _log.c.head,
            _cursor.c.seq,
            func.substr(_entry.c.data, 1, _HEAD_BYTES),
            _log.c.created,
        )
        .join_from(_log, _cursor, read_by, isouter=True)
        .join(_entry, newest, isouter=True)
        .where(_log.c.kind == ROOM, _log.c.id.in_(rooms))
    )
    return [
        (
            entry_time(head) if head else created * 1000,
            RoomState(LogId(room), owner, seq, cursor),
        )
        for room, owner, seq, cursor, head, created in rows
    ]


def entry_time(head: bytes) -> int:
    """Milliseconds since 1970 in the first bytes of an entry (seq, term, time, ...).

    0 if they are none: what another node's hub stored may be no entry at all, and
    that one has the oldest place.
    """
    at = 1 if head and 0x90 <= head[0] <= 0x9F else 3
    value = 0
    for _ in range(3):
        if at >= len(head):
            return 0
        width = _WIDTHS.get(head[at], 0)
        if not width and head[at] > 0x7F:
            return 0
        end = at + 1 + width
        value = int.from_bytes(head[at + 1 : end]) if width else head[at]
        at = end
    return value if at <= len(head) and value < TIME_MAX else 0
