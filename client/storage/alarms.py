"""Alarms: what a node or a person's keys were caught at, kept until it is dismissed.

Each is about one fact (two hashes at one place, a device in no list) and is raised
once for it, however often it is met again. The evidence is text that can be handed
on: to the others in the room, or to a node's admin.
"""

import time

from client.errors import UnknownAlarm
from client.model import Alarm
from client.storage.store import Tx
from client.text import visible, visible_line
from protocol.log import LogId

__all__ = ["dismiss", "forget", "list_alarms", "raise_alarm", "settle"]

KEPT = 1000
"""Alarms that are kept: whoever makes more has been noticed."""

_COLUMNS = "room, text, id, code, time, evidence"


def raise_alarm(
    tx: Tx,
    code: str,
    fact: str,
    room: LogId | None,
    text: str,
    *,
    evidence: str = "",
) -> bool:
    """Raise an alarm, unless it was raised for this fact before.

    Args:
        code: a stable word.
        fact: what it is about, so that it is not repeated.
        room: where it is to be shown; None: everywhere.
        text: what happened and what to do.
        evidence: lines that prove it, for others.

    Returns:
        Whether it is new.
    """
    if tx.one("SELECT 1 FROM alarm WHERE code = ? AND fact = ?", code, fact):
        return False
    number = tx.insert(
        "INSERT INTO alarm (code, fact, time, room, text, evidence)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        code,
        fact,
        int(time.time() * 1000),
        room,
        text,
        evidence,
    )
    tx.execute("DELETE FROM alarm WHERE dismissed AND id <= ?", number - KEPT)
    tx.events.append(
        _alarm(tx.one(f"SELECT {_COLUMNS} FROM alarm WHERE id = ?", number))
    )
    return True


def settle(tx: Tx, code: str, fact: str) -> None:
    """What an alarm was about is decided: it need not be shown any more."""
    tx.execute("UPDATE alarm SET dismissed = 1 WHERE code = ? AND fact = ?", code, fact)


def forget(tx: Tx, code: str, fact: str) -> None:
    """Let an alarm be raised for a fact again: things changed since."""
    tx.execute("DELETE FROM alarm WHERE code = ? AND fact = ?", code, fact)


def list_alarms(tx: Tx) -> list[Alarm]:
    """Alarms that were not dismissed, oldest first."""
    rows = tx.all(f"SELECT {_COLUMNS} FROM alarm WHERE NOT dismissed ORDER BY id")
    return [_alarm(row) for row in rows]


def dismiss(tx: Tx, id: str) -> None:
    """Show an alarm no more.

    Raises:
        UnknownAlarm: there is none with this id.
    """
    number = int(id) if id.isascii() and id.isdigit() and len(id) < 19 else 0
    if not tx.execute("UPDATE alarm SET dismissed = 1 WHERE id = ?", number):
        raise UnknownAlarm


def _alarm(row: tuple[object, ...] | None) -> Alarm:
    assert row is not None
    room, text, id, code, when, evidence = row
    return Alarm(
        None if room is None else LogId(str(room)),
        visible_line(str(text)),
        str(id),
        str(code),
        int(str(when)),
        visible(str(evidence)),
    )
