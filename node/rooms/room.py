"""A hub's rooms in the database: the group's public state, its roster, its trees."""

from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select, update

from node.rooms.group import Change
from node.rooms.member import record_changes
from node.storage.store import Transaction
from node.storage.tables import (
    AccountRow,
    DeviceRow,
    RoomRow,
    RosterRow,
    TreeRow,
    core,
)
from protocol.address import DeviceAddress
from protocol.credential import read_credential
from protocol.errors import DeviceRevoked, InvalidCommit, UnknownKey
from protocol.log import LogId

__all__ = [
    "RoomState",
    "change_room",
    "check_local_newcomers",
    "check_local_sender",
    "count_created",
    "get_epoch",
    "get_room",
    "get_tree",
    "insert_room",
    "stands_in_roster",
]

TREE_KEPT = 30 * 24 * 3600
"""Seconds that a tree is kept for who was invited and is away; later they ask to be
added again. A tree has up to some megabytes, and each commit makes one."""

_room = core(RoomRow)
_roster = core(RosterRow)
_tree = core(TreeRow)
_account = core(AccountRow)
_device = core(DeviceRow)


@dataclass(frozen=True, slots=True)
class RoomState:
    """The public group of a room, as it is kept."""

    version: int
    epoch: int
    group: bytes


def get_room(connection: Connection, room: LogId) -> RoomState | None:
    """The state of a room that this node is the hub of."""
    row = connection.execute(
        select(_room.c.version, _room.c.epoch, _room.c.group).where(_room.c.id == room)
    ).first()
    return None if row is None else RoomState(row[0], row[1], row[2])


def get_epoch(connection: Connection, room: LogId) -> int | None:
    """The epoch of a room that this node is the hub of."""
    epoch: int | None = connection.scalar(
        select(_room.c.epoch).where(_room.c.id == room)
    )
    return epoch


def stands_in_roster(connection: Connection, room: LogId, device: str) -> bool:
    """Whether a device stands in a room's tree."""
    query = select(_roster.c.device).where(
        _roster.c.room == room, _roster.c.device == device
    )
    return connection.execute(query).first() is not None


def count_created(connection: Connection, account: str) -> int:
    """How many rooms an account created here."""
    query = select(func.count()).where(_room.c.creator == account)
    return connection.scalar(query) or 0


def get_tree(connection: Connection, room: LogId, tree_hash: bytes) -> bytes | None:
    """A ratchet tree by its hash."""
    tree: bytes | None = connection.scalar(
        select(_tree.c.tree).where(_tree.c.room == room, _tree.c.tree_hash == tree_hash)
    )
    return tree


def insert_room(
    transaction: Transaction,
    room: LogId,
    creator: str,
    change: Change,
    *,
    node: str,
    now: int,
) -> None:
    """Store a new room, its first member and its tree."""
    transaction.connection.execute(
        insert(_room).values(
            id=room,
            creator=creator,
            version=1,
            epoch=change.group.epoch,
            group=change.encoded,
            group_info=change.group_info,
            tree_hash=change.group.tree_hash,
        )
    )
    _record(transaction, room, 1, change, node, now)


def change_room(
    transaction: Transaction,
    room: LogId,
    seq: int,
    change: Change,
    *,
    node: str,
    now: int,
) -> None:
    """Store what a handshake did to a room.

    Args:
        transaction: the one that appends it.
        room: the room, at the version that the change was worked out from.
        seq: the handshake's entry.
        change: what it does.
        node: this node's name.
        now: unix seconds.
    """
    values: dict[str, object] = {
        "version": _room.c.version + 1,
        "epoch": change.group.epoch,
        "group": change.encoded,
    }
    if change.group_info:
        values["group_info"] = change.group_info
        values["tree_hash"] = change.group.tree_hash
    transaction.connection.execute(
        update(_room).where(_room.c.id == room).values(**values)
    )
    _record(transaction, room, seq, change, node, now)


def check_local_newcomers(
    connection: Connection, change: Change, *, node: str, now: int
) -> None:
    """Hold new leaves of this node's own accounts against its account logs.

    A credential proves itself up to the root key that it names; whether that is the
    account's root, the account's node knows.

    Raises:
        UnknownAccount, UnknownKey, DeviceRevoked, InvalidCommit.
    """
    for member in change.newcomers:
        credential = read_credential(member.identity, now)
        if credential.account.node != node:
            continue
        row = connection.execute(
            select(_account.c.root, _device.c.revoked, _device.c.mls_key)
            .join_from(_account, _device, _device.c.name == _account.c.name)
            .where(
                _account.c.name == credential.account.local,
                _device.c.address == str(credential.device),
            )
        ).first()
        if row is None:
            raise UnknownKey(f"{credential.device} is not a device of this node.")
        if row.root != credential.root or row.mls_key != credential.mls_key:
            raise InvalidCommit(f"The keys of {credential.device} are others.")
        if row.revoked:
            raise DeviceRevoked(f"{credential.device} cannot be added.")


def check_local_sender(
    connection: Connection, device: DeviceAddress, *, node: str
) -> None:
    """Refuse a handshake of a device of this node that was revoked meanwhile.

    Its request was let in before; the checks since then may have taken seconds.

    Raises:
        UnknownKey, DeviceRevoked.
    """
    if device.account.node != node:
        return
    revoked = connection.execute(
        select(_device.c.revoked).where(_device.c.address == str(device))
    ).first()
    if revoked is None:
        raise UnknownKey()
    if revoked[0]:
        raise DeviceRevoked()


def _record(
    transaction: Transaction,
    room: LogId,
    seq: int,
    change: Change,
    node: str,
    now: int,
) -> None:
    connection = transaction.connection
    for device in change.gone:
        connection.execute(
            delete(_roster).where(_roster.c.room == room, _roster.c.device == device)
        )
    if change.came:
        connection.execute(
            insert(_roster),
            [{"room": room, "device": device} for device in sorted(change.came)],
        )
    if change.newcomers:
        _store_tree(connection, room, change, now)
    record_changes(
        transaction,
        room,
        seq,
        added=change.added,
        removed=change.removed,
        node=node,
        hub=True,
    )


def _store_tree(connection: Connection, room: LogId, change: Change, now: int) -> None:
    connection.execute(
        delete(_tree).where(_tree.c.room == room, _tree.c.created < now - TREE_KEPT)
    )
    tree_hash = change.group.tree_hash
    if get_tree(connection, room, tree_hash) is None:
        connection.execute(
            insert(_tree).values(
                room=room, tree_hash=tree_hash, tree=change.tree, created=now
            )
        )
