"""Who was in a room when: what the group's commits said, never the hub.

Asked before something is sent once more: whoever was not in the room when it was said
does not get it now.
"""

from client.storage.store import Tx
from protocol.log import LogId

__all__ = ["note_presence", "was_inside"]


def note_presence(tx: Tx, room: LogId, account: str, seq: int, *, inside: bool) -> None:
    """An account is in a room (or is not) from an entry on."""
    row = tx.one(
        "SELECT inside FROM presence WHERE room = ? AND account = ? AND seq <= ?"
        " ORDER BY seq DESC LIMIT 1",
        room,
        account,
        seq,
    )
    if row is None or bool(row[0]) != inside:
        tx.execute(
            "INSERT OR REPLACE INTO presence VALUES (?, ?, ?, ?)",
            room,
            account,
            seq,
            inside,
        )


def was_inside(tx: Tx, room: LogId, account: str, seq: int) -> bool:
    """Whether an account was in a room at an entry, as far as this device saw."""
    row = tx.one(
        "SELECT inside FROM presence WHERE room = ? AND account = ? AND seq <= ?"
        " ORDER BY seq DESC LIMIT 1",
        room,
        account,
        seq,
    )
    if row is None:
        # Nobody came while this device watched: those were there before it.
        row = tx.one(
            "SELECT NOT inside FROM presence WHERE room = ? AND account = ?"
            " ORDER BY seq LIMIT 1",
            room,
            account,
        )
    return row is None or bool(row[0])
