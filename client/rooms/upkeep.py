"""What a room needs now and then, and nobody waits for: when, and when again."""

from collections.abc import Sequence

from client.rooms.changes import Want, Wish, want
from client.storage.store import Tx
from protocol.log import Kind, LogId

__all__ = [
    "PUT_OFF",
    "UPDATE_AFTER",
    "hasten",
    "plan_update",
    "postpone",
    "put_off",
]

UPDATE_AFTER = 7 * 24 * 3600 * 1000
"""Milliseconds that a leaf's keys are used for writing."""

PUT_OFF = 1000
PUT_OFF_MAX = 3600 * 1000
"""Milliseconds between two tries of what nobody waits for, at first and at last."""

WAIT_FOR_KEY = 24 * 3600 * 1000
"""Milliseconds until it is looked at again whether a person's key is right."""


def plan_update(tx: Tx, room: LogId, now: int) -> None:
    """Want new keys for our leaf before something is written, if they are old.

    What an intruder once knew of this device opens nothing from then on (RFC 9420
    section 16.6); whoever only reads does not make everybody take a commit.
    """
    if tx.one(
        "SELECT 1 FROM room r WHERE id = ? AND abs(updated - ?) > ?"
        " AND (members > 1 OR purpose != '')"
        " AND EXISTS (SELECT 1 FROM outbox o WHERE o.room = r.id AND o.kind = ?"
        "  AND o.state = 'waiting' AND o.message IS NOT 'receipt')"
        " AND NOT EXISTS (SELECT 1 FROM intent i WHERE i.room = r.id AND i.kind = ?)",
        room,
        now,  # from where our clock was ahead, keys would be new for as long
        UPDATE_AFTER,
        Kind.MESSAGE,
        Want.UPDATE,
    ):
        want(tx, room, Want.UPDATE, due=now)


def put_off(tx: Tx, wishes: Sequence[Wish], now: int) -> None:
    """Try some wants again later: after a second, and twice that each time."""
    for wish in wishes:
        tx.execute(
            "UPDATE intent SET due = ? + min(?, ? << min(tries, 20)),"
            " tries = tries + 1 WHERE n = ?",
            now,
            PUT_OFF_MAX,
            PUT_OFF,
            wish.n,
        )


def postpone(tx: Tx, wish: Wish, now: int) -> None:
    """Let a device that asked to be let in wait until its owner's key is accepted."""
    tx.execute("UPDATE intent SET due = ? WHERE n = ?", now + WAIT_FOR_KEY, wish.n)


def hasten(tx: Tx, account: str) -> None:
    """Somebody's key was accepted: their devices may be let in now."""
    tx.execute(
        "UPDATE intent SET due = 0 WHERE kind = ? AND substr(subject, 1, ?) = ?",
        Want.READD,
        len(account) + 1,
        f"{account}/",
    )
