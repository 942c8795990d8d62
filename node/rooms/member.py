"""Who may read a room, from which entry to which: periods of membership.

A period begins with the entry that brought an account in and ends with the one that
removed its last device, which it still reads. An account that comes back has two.
At the hub, a peer node has periods too: from the first of its accounts to the last.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from sqlalchemy import (
    Connection,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from node.storage.lookup import look_up
from node.storage.store import Transaction
from node.storage.tables import CursorRow, MemberRow, core
from protocol.address import parse_account
from protocol.log import LogId

__all__ = [
    "ALWAYS",
    "Period",
    "first_readable",
    "get_cursor",
    "is_member",
    "list_all_periods",
    "list_periods",
    "list_rooms",
    "members_among",
    "peer_reader",
    "readable_upto",
    "record_changes",
    "set_cursor",
]

_member = core(MemberRow)
_cursor = core(CursorRow)

_PERIODS = (
    select(_member.c.since, _member.c.until)
    .where(_member.c.room == bindparam("room"), _member.c.reader == bindparam("reader"))
    .order_by(_member.c.since)
)
_ALL_PERIODS = (
    select(_member.c.room, _member.c.since, _member.c.until)
    .where(_member.c.reader == bindparam("reader"))
    .order_by(_member.c.since)
)
_IS_MEMBER = select(_member.c.since).where(
    _member.c.room == bindparam("room"),
    _member.c.reader == bindparam("reader"),
    _member.c.until.is_(None),
)

_GET_CURSOR = select(_cursor.c.seq).where(
    _cursor.c.reader == bindparam("reader"), _cursor.c.log == bindparam("log")
)


@dataclass(frozen=True, slots=True)
class Period:
    """Entries `since` to `until` of a log; None: until further notice."""

    since: int
    until: int | None


ALWAYS = (Period(1, None),)
"""The whole log: an account's own mailbox."""


def peer_reader(node: str) -> str:
    """How a peer node stands in the tables of members and cursors."""
    return f"peer:{node}"


def list_periods(
    connection: Connection, room: LogId, reader: str
) -> tuple[Period, ...]:
    """When a reader was in a room, oldest first; empty: never."""
    rows = connection.execute(_PERIODS, {"room": room, "reader": reader})
    return tuple(Period(since, until) for since, until in rows)


def list_all_periods(
    connection: Connection, reader: str
) -> dict[str, tuple[Period, ...]]:
    """When a reader was in each room, oldest first."""
    found: dict[str, tuple[Period, ...]] = {}
    for room, since, until in connection.execute(_ALL_PERIODS, {"reader": reader}):
        found[room] = (*found.get(room, ()), Period(since, until))
    return found


def is_member(connection: Connection, room: LogId, reader: str) -> bool:
    """Whether a reader is in a room now."""
    values = {"room": room, "reader": reader}
    return connection.execute(_IS_MEMBER, values).first() is not None


def readable_upto(periods: Iterable[Period], after: int, head: int) -> int:
    """The last entry that may be read by who has read up to `after`.

    Entries from `after + 1` to the answer lie in one period; `after` itself if the
    next entry lies in none.
    """
    for period in periods:
        if period.since <= after + 1 and (
            period.until is None or after + 1 <= period.until
        ):
            return head if period.until is None else min(head, period.until)
    return after


def members_among(
    connection: Connection, pairs: Collection[tuple[LogId, str]]
) -> set[tuple[LogId, str]]:
    """Those of many (room, reader) of which the reader is in the room now."""
    keys = (_member.c.room, _member.c.reader)
    # The plus keeps SQLite from the index of the reader, who may be in thousands.
    rows = look_up(connection, keys, list(pairs), keys, "+member.until IS NULL")
    return {(LogId(room), reader) for room, reader in rows}


def first_readable(periods: Iterable[Period], after: int) -> int:
    """Where to begin for who asks after `after`: moved up to the next period."""
    for period in periods:
        if period.until is None or after < period.until:
            return max(after, period.since - 1)
    return after


def list_rooms(connection: Connection, account: str) -> list[LogId]:
    """The rooms that an account is in now."""
    query = select(_member.c.room).where(
        _member.c.reader == account, _member.c.until.is_(None)
    )
    return [LogId(room) for room in connection.scalars(query)]


def record_changes(
    transaction: Transaction,
    room: LogId,
    seq: int,
    *,
    added: Collection[str],
    removed: Collection[str],
    node: str,
    hub: bool,
) -> None:
    """Write what an entry did to the members.

    Args:
        transaction: of the writer.
        room: the room.
        seq: the entry.
        added: accounts that it brought in.
        removed: accounts of which it removed the last device.
        node: this node's name.
        hub: whether this node is the room's hub, and so keeps the accounts of
            others, and their nodes' periods and cursors.
    """
    connection = transaction.connection
    for account in removed:
        connection.execute(
            update(_member)
            .where(
                _member.c.room == room,
                _member.c.reader == account,
                _member.c.until.is_(None),
            )
            .values(until=seq)
        )
    for account in added:
        home = parse_account(account).node
        if hub or home == node:
            _open(connection, room, account, seq, home)
    if hub:
        homes = {parse_account(account).node for account in (*added, *removed)}
        for home in homes - {node}:
            _follow(connection, room, home, seq)


def get_cursor(connection: Connection, reader: str, log: LogId) -> int | None:
    """How far a reader has a log; None: it does not read it."""
    seq: int | None = connection.scalar(_GET_CURSOR, {"reader": reader, "log": log})
    return seq


def set_cursor(connection: Connection, reader: str, log: LogId, seq: int) -> None:
    """Put a reader's cursor where it is said to be, back as well as forward."""
    connection.execute(
        delete(_cursor).where(_cursor.c.reader == reader, _cursor.c.log == log)
    )
    connection.execute(insert(_cursor).values(reader=reader, log=log, seq=seq))


def _open(
    connection: Connection, room: LogId, reader: str, since: int, home: str
) -> None:
    if is_member(connection, room, reader):
        return
    connection.execute(
        insert(_member).values(
            room=room, reader=reader, since=since, until=None, node=home
        )
    )


def _follow(connection: Connection, room: LogId, home: str, seq: int) -> None:
    """Open or close a peer's period, as it has members in the room or not."""
    reader = peer_reader(home)
    count = connection.scalar(
        select(func.count()).where(
            _member.c.room == room, _member.c.node == home, _member.c.until.is_(None)
        )
    )
    inside = is_member(connection, room, reader)
    if count and not inside:
        _open(connection, room, reader, seq, "")
        set_cursor(connection, reader, room, seq - 1)
    elif inside and not count:
        connection.execute(
            update(_member)
            .where(
                _member.c.room == room,
                _member.c.reader == reader,
                _member.c.until.is_(None),
            )
            .values(until=seq)
        )
