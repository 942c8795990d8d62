"""Typing on its way: from a device to the members of its room, here and elsewhere.

At the room's hub to its people here and to the nodes of the others; at a follower to
its people here and to the hub. Members are read from the database, and remembered for
a moment. What cannot be done at once is not done at all.
"""

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from sqlalchemy import Connection, select

from node.accounts.device import Device
from node.clock import Clock
from node.limit import Buckets
from node.presence.typists import TypingRoom, Typists
from node.storage.chain import ROOM, get_log
from node.storage.store import Store
from node.storage.tables import MemberRow, core
from protocol.address import parse_account
from protocol.errors import AddressError, BadRequest, Malformed, Refused, TooMany
from protocol.log import LogId, parse_log_id
from protocol.presence import (
    TYPING_LEASE,
    TYPING_MEMBERS,
    PeerTyping,
    Typing,
    Typist,
)

__all__ = ["Typings"]

RATE, BURST = 2.0, 10.0
"""Typing frames of one device, a second and at once; it types in one room at a time."""

PEER_RATE, PEER_BURST = 200.0, 500.0
"""The same of a node: some hundred people who type in rooms here."""

LOOKUPS = 32
"""Rooms looked up at one time."""

_member = core(MemberRow)


class Typings:
    """Passes on who types."""

    def __init__(
        self,
        node: str,
        clock: Clock,
        store: Callable[[], Store],
        tell: Callable[[str, Typist], None],
        tell_peer: Callable[[str, PeerTyping], None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        """`tell` an account here, `tell_peer` another node; `spawn` starts a task."""
        self._node = node
        self._clock = clock
        self._store = store
        self._tell = tell
        self._tell_peer = tell_peer
        self._spawn = spawn
        self._typists = Typists()
        self._frames = Buckets(RATE, BURST, "")
        self._peer_frames = Buckets(PEER_RATE, PEER_BURST, "")
        self._lookups = 0

    def heard(self, device: Device, frame: Typing) -> None:
        """A device says that its person types; too often is passed by in silence.

        Raises:
            BadRequest: the log's id is none.
        """
        _check_log(frame.log)
        account = str(device.account)
        self._pass(self._frames, device.address, frame.log, account, frame.on, "")

    def heard_from(self, peer: str, typing: PeerTyping) -> None:
        """A node says that somebody types: of its own, or in a room that it orders.

        Raises:
            BadRequest: the log's id or the account is none.
        """
        _check_log(typing.log)
        try:
            parse_account(typing.account)
        except AddressError as error:
            raise BadRequest(str(error)) from error
        self._pass(
            self._peer_frames,
            peer,
            typing.log,
            typing.account,
            typing.lease > 0,
            peer,
        )

    def _pass(
        self, pace: Buckets, who: str, log: LogId, account: str, on: bool, peer: str
    ) -> None:
        now = self._clock()
        try:
            pace.take(who, now)
        except TooMany:
            return
        # Of a peer by account: it has put its people's devices together.
        if not self._typists.pass_on(log, account if peer else who, on, now):
            return
        lease = TYPING_LEASE if on else 0
        try:
            room = self._typists.room(log, now)
        except KeyError:
            if self._lookups < LOOKUPS:
                self._lookups += 1
                self._spawn(self._look_up(log, account, lease, peer))
            return
        self._deliver(room, log, account, lease, peer)

    async def _look_up(self, log: LogId, account: str, lease: int, peer: str) -> None:
        try:
            room = await self._store().read(
                partial(_read_room, log=log, node=self._node)
            )
        except Refused:
            return
        finally:
            self._lookups -= 1
        self._typists.keep(log, room, self._clock())
        self._deliver(room, log, account, lease, peer)

    def _deliver(
        self, room: TypingRoom | None, log: LogId, account: str, lease: int, peer: str
    ) -> None:
        if room is None or room.members > TYPING_MEMBERS:
            return
        hub = room.owner == self._node
        if peer and not hub:
            allowed = room.owner == peer  # only the hub knows who is in it elsewhere
        elif peer:
            allowed = account in room.others and account.partition("@")[2] == peer
        else:
            allowed = account in room.here
        if not allowed:
            return
        frame = Typist(log, account, lease)
        for member in room.here:
            if member != account:
                self._tell(member, frame)
        nodes = room.nodes - {peer} if hub else {room.owner} - {peer}
        for node in nodes:
            self._tell_peer(node, PeerTyping(log, account, lease))


def _check_log(text: str) -> None:
    """What is no id is refused before anything of it is remembered.

    Raises:
        BadRequest: it is none.
    """
    try:
        parse_log_id(text)
    except Malformed as error:
        raise BadRequest(str(error)) from error


def _read_room(connection: Connection, log: LogId, node: str) -> TypingRoom | None:
    found = get_log(connection, log)
    if found is None or found.kind != ROOM:
        return None
    query = (
        select(_member.c.reader)
        # A peer's own row has no node; a follower has rows of its own people alone.
        .where(_member.c.room == log, _member.c.until.is_(None), _member.c.node != "")
        .limit(TYPING_MEMBERS + 1)
    )
    members = frozenset(connection.scalars(query))
    here = frozenset(each for each in members if each.endswith(f"@{node}"))
    return TypingRoom(found.owner, here, members - here)
