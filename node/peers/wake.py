"""Which peers read which rooms, in memory: whom to wake when a room grows.

A hint: a peer that is not woken is found by federation's own sweep over the cursors.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from sqlalchemy import Connection, select

from node.event import EntriesAppended, MembersChanged
from node.rooms.member import peer_reader
from node.storage.store import Store
from node.storage.tables import MemberRow, core
from protocol.errors import Refused
from protocol.log import LogId

__all__ = ["PeerWake"]

_member = core(MemberRow)
_PREFIX = peer_reader("")


class PeerWake:
    """Turns events into calls of `wake`."""

    def __init__(self, store: Callable[[], Store], wake: Callable[[str], None]) -> None:
        """`wake` tells federation that a log for a peer has grown."""
        self._store = store
        self._wake = wake
        self._peers: dict[LogId, frozenset[str]] = {}
        self._changed: dict[LogId, None] = {}
        self._work = asyncio.Event()

    async def load(self) -> None:
        """Read all rooms with peers, once at the start."""
        self._peers = await self._store().read(partial(_read, room=None))

    def on_event(self, event: EntriesAppended | MembersChanged) -> None:
        """A log has grown, or a room has other members."""
        match event:
            case MembersChanged():
                self._changed[event.log] = None
                self._work.set()
            case EntriesAppended():
                if event.destination:
                    self._wake(event.destination)
                for peer in self._peers.get(event.log, ()):
                    self._wake(peer)

    async def watch(self) -> None:
        """Follow the members; runs until cancelled."""
        while True:
            await self._work.wait()
            self._work.clear()
            while self._changed:
                room = next(iter(self._changed))
                del self._changed[room]
                try:
                    peers = await self._store().read(partial(_read, room=room))
                except Refused:
                    continue
                found = peers.get(room, frozenset())
                # A peer whose last member has gone still gets the entry that says so.
                for peer in found | self._peers.get(room, frozenset()):
                    self._wake(peer)
                if found:
                    self._peers[room] = found
                else:
                    self._peers.pop(room, None)


def _read(connection: Connection, room: LogId | None) -> dict[LogId, frozenset[str]]:
    query = select(_member.c.room, _member.c.reader).where(
        _member.c.reader >= _PREFIX,
        _member.c.reader < _PREFIX + "\x7f",
        _member.c.until.is_(None),
    )
    if room is not None:
        query = query.where(_member.c.room == room)
    found: dict[LogId, set[str]] = {}
    for name, reader in connection.execute(query):
        found.setdefault(LogId(name), set()).add(reader.removeprefix(_PREFIX))
    return {name: frozenset(peers) for name, peers in found.items()}
