"""Who types where: not told more often than anybody could see.

A room's hub tells its own people who are in the room and the nodes of the others; a
follower tells its own people and the hub. Whoever is no member is passed by without a
word, and so is whoever says it too often.
"""

from collections import OrderedDict
from dataclasses import dataclass

from protocol.log import LogId
from protocol.presence import TYPING_EVERY, TYPING_LEASE

__all__ = ["KEPT", "ROOM_SECONDS", "TypingRoom", "Typists"]

KEPT = 20_000
"""Typists that are remembered, in some 5 MB: all who type in ten seconds."""

SLACK = 1.0
"""Seconds by which a repeat may come early: clocks and lines are not exact."""

ROOMS = 2_000
"""Rooms whose members are remembered."""

ROOM_SECONDS = 5.0
"""Seconds that a room's members are remembered: who was removed sees typing for no
longer than this."""


@dataclass(frozen=True, slots=True)
class TypingRoom:
    """What is to be known of a room to say who types in it."""

    owner: str
    """The node that orders it."""
    here: frozenset[str]
    """Members on this node."""
    others: frozenset[str]
    """Members elsewhere; only the hub knows them."""

    @property
    def nodes(self) -> frozenset[str]:
        """The nodes of the others."""
        return frozenset(account.partition("@")[2] for account in self.others)

    @property
    def members(self) -> int:
        """How many are in it, as far as this node knows."""
        return len(self.here) + len(self.others)


class Typists:
    """What was said lately, and of which rooms."""

    def __init__(self) -> None:
        self._said: OrderedDict[tuple[LogId, str], float] = OrderedDict()
        self._rooms: OrderedDict[LogId, tuple[float, TypingRoom | None]] = OrderedDict()

    def pass_on(self, log: LogId, who: str, on: bool, now: float) -> bool:
        """Whether this is news; `who`: a device, or between nodes an account."""
        key = (log, who)
        said = self._said.pop(key, None)
        if not on:
            return said is not None and now - said < TYPING_LEASE
        if said is not None and now - said < TYPING_EVERY - SLACK:
            self._said[key] = said
            return False
        self._said[key] = now
        while len(self._said) > KEPT:
            self._said.popitem(last=False)
        return True

    def room(self, log: LogId, now: float) -> TypingRoom | None:
        """A room that was looked up lately.

        Raises:
            KeyError: it was not; look it up and `keep` it.
        """
        at, room = self._rooms[log]
        if not 0 <= now - at < ROOM_SECONDS:
            raise KeyError(log)
        return room

    def keep(self, log: LogId, room: TypingRoom | None, now: float) -> None:
        """Remember a room for a moment; None: there is none."""
        self._rooms.pop(log, None)
        self._rooms[log] = (now, room)
        while len(self._rooms) > ROOMS:
            self._rooms.popitem(last=False)
