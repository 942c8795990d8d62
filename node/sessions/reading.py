"""Where a device is in the logs that it reads, as the database has it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, bindparam, select

from node.accounts.device import Device
from node.rooms.member import ALWAYS, Period, get_cursor, list_all_periods
from node.rooms.page import device_periods
from node.storage.chain import MAILBOX, ROOM, get_log
from node.storage.tables import CursorRow, LogRow, core
from protocol.log import LogId

__all__ = ["Reading", "load_reading", "load_readings"]

_cursor = core(CursorRow)
_log = core(LogRow)

_READ_BY = (
    select(_log.c.id, _log.c.kind, _log.c.party, _log.c.head, _cursor.c.seq)
    .join_from(_cursor, _log, _log.c.id == _cursor.c.log)
    .where(_cursor.c.reader == bindparam("reader"))
)


@dataclass(slots=True)
class Reading:
    """Where a device is in one log."""

    sent: int
    acked: int
    head: int
    periods: Sequence[Period]
    flight: list[tuple[int, int]] = field(default_factory=list)
    """(seq, bytes) of what was sent and not acked, by frame."""

    def follow(self, loaded: "Reading") -> None:
        """Take over what the database knows better."""
        self.periods = loaded.periods
        self.head = max(self.head, loaded.head)
        self.acked = max(self.acked, loaded.acked)
        self.sent = max(self.sent, loaded.sent)


def load_reading(connection: Connection, name: LogId, device: Device) -> Reading | None:
    """Where a device is in a log; None: it does not read it."""
    found = get_log(connection, name)
    cursor = get_cursor(connection, device.address, name)
    periods = device_periods(connection, found, device)
    if found is None or cursor is None or not periods:
        return None
    return Reading(cursor, cursor, found.head, periods)


def load_readings(
    connection: Connection, device: Device
) -> list[tuple[LogId, Reading]]:
    """All that a device reads: two queries, however many rooms.

    Those with the least to read come first, so that a room with a month of talk does
    not keep the others waiting.
    """
    account = str(device.account)
    periods = list_all_periods(connection, account)
    found: list[tuple[LogId, Reading]] = []
    rows = connection.execute(_READ_BY, {"reader": device.address})
    for name, kind, party, head, seq in rows:
        if kind == ROOM:
            mine = periods.get(name)
        else:
            mine = ALWAYS if kind == MAILBOX and party == account else None
        if mine:
            found.append((LogId(name), Reading(seq, seq, head, mine)))
    found.sort(key=lambda each: each[1].head - each[1].sent)
    return found
