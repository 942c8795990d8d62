"""Whether a room can be called, and a call from there be taken."""

from client.errors import CallRefused, KeyChanged, RoomInactive
from client.model import Trust
from client.storage.store import Tx
from client.storage.timeline import TWIN_NOTE, Status, is_twin
from client.verification.trust import trust_of
from protocol.errors import UnknownRoom
from protocol.log import LogId

__all__ = ["check_room", "is_muted", "may_ring", "trust_in"]


def check_room(tx: Tx, room: LogId) -> str:
    """Whom a call in this room is for.

    Raises:
        UnknownRoom, RoomInactive, CallRefused: nobody can be called there.
        KeyChanged: their keys changed, and it is not decided what counts.
    """
    row = tx.one(
        "SELECT status, note, direct, title, hold, members FROM room"
        " WHERE id = ? AND purpose = ''",
        room,
    )
    if row is None:
        raise UnknownRoom
    status, note, direct, account, hold, members = row
    if not direct:
        raise CallRefused(
            "Calls are between two people for now: call from your direct chat with one "
            "of them."
        )
    if status != Status.ACTIVE:
        raise RoomInactive(
            note or "You are not in this chat any more: start a new one."
        )
    if is_twin(tx, room):
        raise RoomInactive(TWIN_NOTE)
    if trust_of(tx, account) is Trust.CHANGED:
        raise KeyChanged(
            f"The keys of {account} changed: accept the new key or keep the old one "
            "first, then call."
        )
    if hold:
        raise RoomInactive(hold)
    if members < 2:
        raise CallRefused(f"{account} is not in this chat, so nobody can be called.")
    return str(account)


def may_ring(tx: Tx, room: LogId) -> bool:
    """Whether a call from there can be answered: else it does not ring."""
    try:
        check_room(tx, room)
    except (CallRefused, KeyChanged, RoomInactive, UnknownRoom):
        return False
    return True


def trust_in(tx: Tx, device: str) -> Trust:
    """What is known of a device's owner; a doubtful device is nobody's for sure."""
    trust = trust_of(tx, device.partition("/")[0])
    if trust is Trust.VERIFIED and tx.one(
        "SELECT 1 FROM suspect WHERE device = ?", device
    ):
        return Trust.UNVERIFIED
    return trust


def is_muted(tx: Tx, room: LogId) -> bool:
    """Whether a room is to be quiet."""
    row = tx.one(
        "SELECT 1 FROM own_register WHERE register = 'mute' AND key = ?"
        " AND value != x''",
        room,
    )
    return row is not None
