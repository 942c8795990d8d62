"""Devices that are not what they say: marked where they wrote, named in an alarm."""

from enum import StrEnum

from client.model import MessageId
from client.storage.alarms import raise_alarm
from client.storage.store import Tx
from client.verification.trust import touch
from protocol.account_log import AccountState
from protocol.log import LogId

__all__ = [
    "FALSE",
    "Suspicion",
    "accuse",
    "accuse_returned",
    "clear",
    "is_returned",
    "suspect",
]

FALSE = "device_list_false"
"""The alarm: a device stands in a room, and rightly in no list."""

UNDER_WAY = 60 * 1000
"""Milliseconds after a device was revoked in which it may come into a room honestly: a
commit that lets it in was under way, or its hub had not heard. Nothing is sent there
meanwhile either, and it is put out."""

MARKED = 100
"""Messages of which an event says that they are marked: what is on a screen."""


class Suspicion(StrEnum):
    """What is wrong with a device."""

    UNLISTED = "unlisted"
    """It does not stand in its account's log."""
    REVOKED = "revoked"
    """It was revoked, and stands in a room; what it wrote before is right."""
    RETURNED = "returned"
    """It came into a room after it was revoked: nothing is sent while it is there."""


def suspect(tx: Tx, device: str, why: Suspicion, now: int) -> int:
    """Mark a device; since when it is marked like this."""
    row = tx.one("SELECT why, since FROM suspect WHERE device = ?", device)
    if row is not None and row[0] in (why, Suspicion.RETURNED):
        if row[1] > now:  # our clock was ahead: else nothing would be marked for long
            tx.execute("UPDATE suspect SET since = ? WHERE device = ?", now, device)
            _mark(tx, device)
        return min(now, int(row[1]))
    tx.execute("INSERT OR REPLACE INTO suspect VALUES (?, ?, ?)", device, why, now)
    _mark(tx, device)
    return now


def is_returned(tx: Tx, device: str) -> bool:
    """Whether a device came into a room after it was revoked."""
    row = tx.one("SELECT why FROM suspect WHERE device = ?", device)
    return row is not None and row[0] == Suspicion.RETURNED


def clear(tx: Tx, device: str) -> None:
    """A device is what it says after all."""
    if tx.execute("DELETE FROM suspect WHERE device = ?", device):
        _mark(tx, device)


def accuse(
    tx: Tx, room: LogId | None, device: str, state: AccountState, *, own: bool
) -> None:
    """Alarm: a device does not stand in its account's list, or nobody put it there.

    Args:
        room: where it is; None: it is our own list that it came into.
        own: whether it is one of ours.
    """
    account = str(state.account)
    advice = (
        "If you did not add it, somebody has your account's signing key: revoke "
        "the device, or recover your account with the 24 words, which makes a new "
        "key."
    )
    if room is None:
        text = (
            f"Your account has a new device, {device}, and none of your devices "
            f"says that it added it. {advice}"
        )
    elif own:
        text = (
            f"The device {device} is in a room as one of yours, and does not stand "
            f"in your account's list. {advice}"
        )
    else:
        text = (
            f"The device {device} is in a room as one of {account}, and does not "
            "stand in the list that their account has. Its messages are marked. "
            f"Ask {account} another way whether it is theirs, and remove them from "
            "the room until you know."
        )
    raise_alarm(
        tx,
        FALSE,
        f"unlisted {device}",
        room,
        text,
        evidence=f"device: {device}\nroom: {room or '-'}\n"
        f"account log: {state.seq} {state.head.hex()}\n"
        f"listed: {' '.join(sorted(state.devices))}",
    )


def accuse_returned(
    tx: Tx, room: LogId, device: str, revoked: int, since: int, now: int
) -> int:
    """Alarm: a device came into a room that was revoked before.

    Args:
        revoked: when its owner says that it was.
        since: when it was first marked for this (`suspect`).

    Returns:
        When to look again, because it could have been under way; 0: it is an alarm.
    """
    # The owner's clock may be ahead, so it is waited once, from when it was seen.
    if min(revoked, since) + UNDER_WAY > now:
        return since + UNDER_WAY
    account = device.partition("/")[0]
    raise_alarm(
        tx,
        FALSE,
        f"returned {device} {room}",
        room,
        f"The device {device} was revoked by {account} and came into this room all "
        "the same: its keys may be in other hands, and the hub let it in. Nothing is "
        f"sent here until it is out again. Tell {account} another way, and the "
        "hub's admin.",
        evidence=f"device: {device}\nroom: {room}",
    )
    return 0


def _mark(tx: Tx, device: str) -> None:
    """What a device wrote last is shown otherwise now, and its rooms."""
    touch(tx, device.partition("/")[0])
    rows = tx.all(
        "SELECT id FROM message WHERE device = ? ORDER BY position DESC LIMIT ?",
        device,
        MARKED,
    )
    for (id,) in rows:
        tx.messages[MessageId(id)] = None
