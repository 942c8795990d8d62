"""A new room: its group, its log and its row, and its first entry on the way."""

import secrets

from client.account.me import Me
from client.clock import Clock
from client.rooms.groups import Groups
from client.rooms.letters import Letters
from client.storage.heads import start_log
from client.storage.store import Tx
from client.storage.timeline import Purpose, Status
from protocol.codec import encode
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
    """Make a room with this device alone in it; whoever is to be there is added next.

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
    body = encode(CreateRoom(seed, group.group_info(), group.ratchet_tree()))
    letters.post(tx, room, Kind.CREATE, body)
    return room
