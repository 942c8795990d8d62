"""What a member may ask about a room as it is now: its group, its roster, its trees.

Answered here if this node is the room's hub, else by the hub through us. What comes
from another node is held against what this node knows of the room; whether the group
is one that its members vouch for, the asking device checks.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from sqlalchemy import Connection, select

from node.rooms.hub import Hub
from node.rooms.member import is_member, list_periods, peer_reader
from node.rooms.room import get_tree
from node.storage.chain import ROOM, get_log, hash_at
from node.storage.store import Store
from node.storage.tables import DeviceRow, MemberRow, RoomRow, RosterRow, core
from protocol.address import parse_account, parse_device
from protocol.errors import AddressError, LogForked, NotFound, PeerRefused, UnknownRoom
from protocol.log import LogId
from protocol.wire import GroupState, Roster, Tree

__all__ = ["RemoteRooms", "RoomStates"]

IN_MAX = 500
"""Values in one SQL list; SQLite takes 32,766."""

_room = core(RoomRow)
_device = core(DeviceRow)
_roster = core(RosterRow)
_member = core(MemberRow)


class RemoteRooms(Protocol):
    """Asks the hub of a room; each may raise `Refused`."""

    async def group(self, node: str, log: LogId) -> GroupState:
        """What a device joins by."""

    async def roster(self, node: str, log: LogId) -> Roster:
        """To which devices the hub lets entries go."""

    async def tree(self, node: str, log: LogId, tree_hash: str) -> Tree:
        """A tree by its hash in hex."""


class RoomStates:
    """Present states of rooms, for accounts of this node and for peers."""

    def __init__(
        self, store: Store, hub: Hub, node: str, remote: Callable[[], RemoteRooms]
    ) -> None:
        """The remote side asks us too, and is built later: hence a callable."""
        self._store = store
        self._hub = hub
        self._node = node
        self._remote = remote

    # --- for accounts of this node ------------------------------------------------

    async def group(self, account: str, room: LogId) -> GroupState:
        """What a device of an account in the room joins it by.

        Raises:
            UnknownRoom: there is none, or the account is not in it.
            LogForked, PeerRefused: the hub says what cannot be.
            Refused: the hub's trouble.
        """
        hub = await self._hub_of(account, room, now=True)
        if hub == self._node:
            return await self._store.read(lambda c: _group(c, room))
        state = await self._remote().group(hub, room)
        if len(state.hash) != 32 or len(state.tree_hash) != 32 or state.epoch < 0:
            raise PeerRefused(f"{hub} sent what is no state of a group.")
        await self._hold_against_copy(room, state)
        return state

    async def roster(self, account: str, room: LogId) -> Roster:
        """To which devices the entries of a room go.

        Raises:
            UnknownRoom: there is none, or the account is not in it.
            PeerRefused: the hub says what cannot be.
            Refused: the hub's trouble.
        """
        hub = await self._hub_of(account, room, now=True)
        if hub == self._node:
            return await self._store.read(lambda c: _roster_of(c, room))
        roster = await self._remote().roster(hub, room)
        _check_roster(roster, hub)
        # The hub hears nothing of what devices of ours were revoked.
        revoked = await self._store.read(lambda c: _revoked(c, roster.devices))
        roster.devices = [each for each in roster.devices if each not in revoked]
        return roster

    async def tree(self, account: str, room: LogId, tree_hash: bytes) -> Tree:
        """A ratchet tree by its hash: the present one, or one that a Welcome names.

        Raises:
            UnknownRoom: the account is not in the room, and never was.
            NotFound: the tree is no longer kept.
            Refused: the hub's trouble.
        """
        hub = await self._hub_of(account, room, now=False)
        if hub != self._node:
            return await self._remote().tree(hub, room, tree_hash.hex())
        return await self._tree(room, tree_hash)

    # --- for peers ------------------------------------------------------------------

    async def group_for_peer(self, peer: str, room: LogId) -> GroupState:
        """As `group`, for a node that has members in the room."""
        await self._check_peer(peer, room, now=True)
        return await self._store.read(lambda c: _group(c, room))

    async def roster_for_peer(self, peer: str, room: LogId) -> Roster:
        """As `roster`, for a node that has members in the room."""
        await self._check_peer(peer, room, now=True)
        return await self._store.read(lambda c: _roster_of(c, room))

    async def tree_for_peer(self, peer: str, room: LogId, tree_hash: bytes) -> Tree:
        """As `tree`, for a node that has, or had, members in the room."""
        await self._check_peer(peer, room, now=False)
        return await self._tree(room, tree_hash)

    # --- how --------------------------------------------------------------------------

    async def _hub_of(self, reader: str, room: LogId, *, now: bool) -> str:
        def read(connection: Connection) -> str:
            found = get_log(connection, room)
            if found is None or found.kind != ROOM:
                raise UnknownRoom()
            inside = is_member(connection, room, reader)
            if not inside and (now or not list_periods(connection, room, reader)):
                raise UnknownRoom()
            return found.owner

        return await self._store.read(read)

    async def _check_peer(self, peer: str, room: LogId, *, now: bool) -> None:
        if await self._hub_of(peer_reader(peer), room, now=now) != self._node:
            raise UnknownRoom()

    async def _tree(self, room: LogId, tree_hash: bytes) -> Tree:
        kept = await self._store.read(lambda c: get_tree(c, room, tree_hash))
        tree = kept if kept is not None else await self._hub.tree(room, tree_hash)
        if tree is None:
            raise NotFound(
                "This tree is no longer kept; read the group's state again, or ask to "
                "be added again."
            )
        return Tree(tree)

    async def _hold_against_copy(self, room: LogId, state: GroupState) -> None:
        def read(connection: Connection) -> bool:
            log = get_log(connection, room)
            if log is None or not 0 < state.seq <= log.head:
                return state.seq > 0  # ahead of our copy: the device will see
            return hash_at(connection, log, state.seq) in (None, state.hash)

        if not await self._store.read(read):
            raise LogForked("The room's hub shows another history than before.")


def _group(connection: Connection, room: LogId) -> GroupState:
    log = get_log(connection, room)
    row = connection.execute(
        select(_room.c.epoch, _room.c.group_info, _room.c.tree_hash).where(
            _room.c.id == room
        )
    ).first()
    if log is None or row is None:
        raise UnknownRoom()
    return GroupState(
        log.head, log.hash, row.epoch, row.group_info, bytes(row.tree_hash)
    )


def _roster_of(connection: Connection, room: LogId) -> Roster:
    log = get_log(connection, room)
    if log is None:
        raise UnknownRoom()
    devices = connection.scalars(
        select(_roster.c.device)
        .where(_roster.c.room == room)
        .order_by(_roster.c.device)
    )
    # A peer's own row names no node.
    accounts = connection.scalars(
        select(_member.c.reader)
        .where(_member.c.room == room, _member.c.until.is_(None), _member.c.node != "")
        .order_by(_member.c.reader)
    )
    return Roster(log.head, list(devices), list(accounts))


def _revoked(connection: Connection, devices: Sequence[str]) -> set[str]:
    """Which of these are devices of this node that were revoked."""
    found: set[str] = set()
    for start in range(0, len(devices), IN_MAX):
        some = devices[start : start + IN_MAX]
        found |= set(
            connection.scalars(
                select(_device.c.address).where(
                    _device.c.address.in_(some), _device.c.revoked
                )
            )
        )
    return found


def _check_roster(roster: Roster, hub: str) -> None:
    try:
        accounts = {str(parse_account(text)) for text in roster.accounts}
        homes = {str(parse_device(text).account) for text in roster.devices}
    except AddressError as error:
        raise PeerRefused(f"{hub} sent a roster that cannot be read.") from error
    if not homes <= accounts:
        raise PeerRefused(f"{hub} sent a roster with devices of nobody in the room.")
