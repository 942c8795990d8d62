"""A new room: its group, its log and its row, and its first entry on the way."""

import secrets

from client.account.contacts import known_log
from client.account.logs import read_log
from client.account.me import Me
from client.clock import Clock
from client.rooms.changes import Want, want
from client.rooms.groups import Groups
from client.rooms.letters import Letters
from client.rooms.presence import note_presence
from client.storage.heads import start_log
from client.storage.store import Tx
from client.storage.timeline import Purpose, Status
from protocol.codec import encode
from protocol.errors import IdentityError
from protocol.log import Kind, LogId, RoomSeed, room_id
from protocol.policy import Role, RoomPolicy
from protocol.wire import CreateRoom

__all__ = ["found"]


def found(
    tx: Tx,
    groups: Groups,
    letters: Letters,
    me: Me,
    clock: Clock,
    *,
    title: str,
    direct: bool = False,
    purpose: Purpose = Purpose.TALK,
) -> LogId:
    """Make a room with this device alone in it; our other devices are wanted there.

    Its node hears of it when the room's outbox is sent.
    """
    account, now = str(me.account), clock.now_ms()
    seed = encode(RoomSeed(1, account, secrets.token_bytes(16), now))
    room = room_id(seed)
    policy = RoomPolicy(
        1,
        room,
        direct,
        {account: int(Role.OWNER)},
        self_group=purpose is Purpose.SELF,
    )
    group = groups.create(tx, room, policy)
    start_log(tx, room)
    tx.execute(
        "INSERT INTO room (id, hub, direct, title, status, members, activity, purpose,"
        " updated) VALUES (?, ?, ?, ?, ?, 1, ?, ?, ?)",
        room,
        me.account.node,
        direct,
        title,
        Status.CREATING,
        now,
        purpose,
        now,
    )
    tx.rooms.add(room)
    note_presence(tx, room, account, 1, inside=True)
    body = encode(CreateRoom(seed, group.group_info(), group.ratchet_tree()))
    letters.post(tx, room, Kind.CREATE, body)
    for device in _own_devices(tx, me):
        want(tx, room, Want.ADD_DEVICE, device)
    return room


def _own_devices(tx: Tx, me: Me) -> list[str]:
    """Our other devices, as far as our account log was read."""
    try:
        state = read_log(me.account, known_log(tx, str(me.account)))
    except IdentityError:
        return []
    return [str(device) for device in state.addresses() if device != me.device]
