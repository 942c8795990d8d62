"""Who was in a room when: what the group's commits said, never the hub.

Asked before something is sent once more: whoever was not in the room when it was said
does not get it now, nor does anybody of whom this device does not know.
"""

from collections.abc import Collection

from client.storage.store import Tx
from protocol.log import LogId

__all__ = ["note_presence", "note_present", "was_inside"]


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


def note_present(tx: Tx, room: LogId, accounts: Collection[str], seq: int) -> None:
    """These accounts, and no others, are in a room that this device came into.

    Who went while it had no keys went at an unknown entry: at the first of them, to be
    on the safe side; and who is here may have come at the last.
    """
    row = tx.one("SELECT min(seq) FROM held_entry WHERE log = ? AND seq < ?", room, seq)
    first = seq if row is None or row[0] is None else int(row[0])
    for (known,) in tx.all(
        "SELECT DISTINCT account FROM presence WHERE room = ?", room
    ):
        note_presence(tx, room, known, first, inside=False)
    for account in accounts:
        note_presence(tx, room, account, seq, inside=True)


def was_inside(tx: Tx, room: LogId, account: str, seq: int) -> bool:
    """Whether this device saw that an account was in a room at an entry."""
    row = tx.one(
        "SELECT inside FROM presence WHERE room = ? AND account = ? AND seq <= ?"
        " ORDER BY seq DESC LIMIT 1",
        room,
        account,
        seq,
    )
    return row is not None and bool(row[0])
