"""Presence and typing of this device, told to its node and heard from it.

All of it lives in memory and for one session: who was there is unknown again once the
connection is lost. What others are shown follows from what the person chose (`choice`),
from whether somebody touches this device (`active`), and from who is in its rooms
(`audience`); the list of these goes to the node only when it has changed.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from client.account.me import Me
from client.account.self_group import SelfGroup
from client.errors import ClientError
from client.event import Event
from client.model import (
    MessageChanged,
    OwnPresenceChanged,
    PeopleChanged,
    PersonPresence,
    RoomChanged,
    TypingChanged,
)
from client.network.reading import Uplink
from client.presence.audience import Audience, find_audience
from client.presence.choice import Choices
from client.presence.chosen import Choice, Chosen, Switch
from client.storage.store import Store
from protocol.address import parse_account
from protocol.log import LogId
from protocol.presence import (
    TYPING_EVERY,
    TYPING_LEASE,
    Mode,
    People,
    Presence,
    Typing,
    Typist,
)
from protocol.wire import FromDevice

__all__ = ["IDLE", "Presences"]

IDLE = 600.0
"""Seconds without a touch after which a device says that its person is away."""

SETTLE = 1.0
"""Seconds in which changes of rooms are gathered before the list is made anew."""

FAREWELL = 1.0
"""Seconds that a goodbye may take: the lease ends without it too."""

TYPISTS_MAX = 20
"""Who types in one room at once, as far as anybody could show it."""

UNKNOWN = PersonPresence("unknown", 0)


class Presences:
    """What a client shows of itself, and what others show to it."""

    def __init__(
        self,
        store: Store,
        uplink: Uplink,
        own: SelfGroup,
        me: Me,
        publish: Callable[[Sequence[Event]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` gives seconds that never jump."""
        self._store = store
        self._uplink = uplink
        self._account = str(me.account)
        self._publish = publish
        self._clock = clock
        self.choices = Choices(own, self._choice_changed)
        self.choice = Choice()
        """What the person chose; what others are shown at most."""
        self._audience = Audience()
        self._rooms: dict[LogId, tuple[int, bool]] = {}
        self._stale: float | None = clock()
        """When choice and audience are to be read anew."""
        self._people: dict[str, PersonPresence] = {}
        self._typists: dict[LogId, dict[str, float]] = {}
        self._touched: float | None = None
        self._online = False
        self._told: tuple[Mode, tuple[str, ...]] | None = None
        self._typed: dict[LogId, float] = {}
        self._outgoing: list[FromDevice] = []
        self._wake = asyncio.Event()

    # --- for applications ---------------------------------------------------------

    def of(self, account: str) -> PersonPresence:
        """How somebody is, as far as it shows itself to us."""
        if account == self._account:
            return PersonPresence(_shown(self.mode), 0)
        return self._people.get(account, UNKNOWN)

    def typists(self, room: LogId) -> tuple[str, ...]:
        """Who types in a room just now."""
        return tuple(self._typists.get(room, ()))

    async def set_state(self, state: Chosen) -> None:
        """Choose how to be seen, on all devices of this account."""
        await self._store.run(lambda tx: self.choices.set_state(tx, state))

    async def set_switch(self, switch: Switch, on: bool) -> None:
        """Let others see whether we are there, type or have read, or not."""
        await self._store.run(lambda tx: self.choices.set_switch(tx, switch, on))

    async def hide_from(self, account: str, on: bool) -> None:
        """Show nothing of us to somebody, or again.

        Raises:
            AddressError: it is no account's address.
        """
        name = str(parse_account(account))
        await self._store.run(lambda tx: self.choices.hide_from(tx, name, on))

    def active(self) -> None:
        """Somebody touched this device; cheap, call it with each key."""
        now, before = self._clock(), self._touched
        self._touched = now
        if before is not None and now - before >= IDLE:
            self._wake.set()

    def type(self, room: LogId, on: bool = True) -> None:
        """Our person types in a room, or has stopped; cheap, call it with each key."""
        if not (self._online and self.choice.typing and self.choice.share):
            return
        members = self._audience.rooms.get(room, frozenset())
        if self.choice.state == "invisible" or members <= self.choice.hidden_from:
            return
        now, before = self._clock(), self._typed.pop(room, None)
        if on and before is not None and now - before < TYPING_EVERY:
            self._typed[room] = before
            return
        if on:
            self._typed[room] = now
        elif before is None or now - before >= TYPING_LEASE:
            return
        self._outgoing.append(Typing(room, on))
        self._wake.set()

    @property
    def mode(self) -> Mode:
        """How this device is, as its node is told."""
        if not self.choice.share or self.choice.state == "invisible":
            return "hidden"
        if self.choice.state != "online":
            return self.choice.state
        touched = self._touched
        idle = touched is not None and self._clock() - touched >= IDLE
        return "away" if idle else "online"

    # --- for the engine -----------------------------------------------------------

    def connected(self, online: bool) -> None:
        """A session stands and everything was read, or it does no more."""
        if online == self._online:
            return
        self._online, self._told = online, None
        self._typed.clear()
        self._outgoing.clear()
        if not online:
            self._forget()
        self._wake.set()

    def _forget(self) -> None:
        rooms = list(self._typists)
        self._people.clear()
        self._typists.clear()
        changed: list[Event] = [TypingChanged(room, ()) for room in rooms]
        self._publish([PeopleChanged(), *changed])

    def receive(self, frame: People | Typist) -> None:
        """The node said something of others; of strangers it is not believed."""
        if isinstance(frame, Typist):
            self._hear_typist(frame)
            return
        if frame.fresh:
            self._people.clear()
        for person in frame.people:
            if person.account not in self._audience.people:
                continue
            if person.state == "offline" and not person.since:
                self._people.pop(person.account, None)
            else:
                found = PersonPresence(person.state, person.since)
                self._people[person.account] = found
        self._publish([PeopleChanged()])

    def _hear_typist(self, frame: Typist) -> None:
        if frame.account not in self._audience.rooms.get(frame.log, ()):
            return
        typists = self._typists.setdefault(frame.log, {})
        known = typists.pop(frame.account, None) is not None
        lease = min(frame.lease, TYPING_LEASE)
        on = lease > 0 and len(typists) < TYPISTS_MAX
        if on:
            typists[frame.account] = self._clock() + lease
            self._wake.set()
        if known != on:
            self._tell_typists(frame.log)

    def _tell_typists(self, room: LogId) -> None:
        typists = tuple(self._typists.get(room, ()))
        if not typists:
            self._typists.pop(room, None)
        self._publish([TypingChanged(room, typists)])

    def noted(self, events: Iterable[Event]) -> None:
        """What was published: rooms may have other members, typists are done."""
        for event in events:
            if isinstance(event, RoomChanged):
                room = event.room
                known = (room.members, room.active)
                if self._rooms.get(room.id) != known:
                    self._rooms[room.id] = known
                    self._age()
            elif isinstance(event, MessageChanged):
                message = event.message
                typists = self._typists.get(message.room)
                if typists and typists.pop(message.sender, None) is not None:
                    self._tell_typists(message.room)

    def _age(self) -> None:
        if self._stale is None:
            self._stale = self._clock() + SETTLE
            self._wake.set()

    def _choice_changed(self) -> None:
        self._stale = self._clock()
        self._wake.set()

    # --- life ---------------------------------------------------------------------

    async def run(self) -> None:
        """Tell the node what changes; runs until cancelled."""
        while True:
            await self._turn()
            due = self._next_due()
            try:
                wait = None if due is None else max(0.0, due - self._clock())
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    def _next_due(self) -> float | None:
        times = [until for who in self._typists.values() for until in who.values()]
        if self._stale is not None:
            times.append(self._stale)
        if self._touched is not None and self.mode == "online":
            times.append(self._touched + IDLE)
        return min(times, default=None)

    async def _turn(self) -> None:
        now = self._clock()
        for room, typists in list(self._typists.items()):
            over = [who for who, until in typists.items() if until <= now]
            for who in over:
                del typists[who]
            if over:
                self._tell_typists(room)
        if self._stale is not None and self._stale <= now:
            self._stale = None
            await self._read_anew()
        if self._online and self._stale is None:
            await self._tell()

    async def _read_anew(self) -> None:
        before = self.choice
        self.choice = await self._store.run(self.choices.load)
        hidden = self.choice.hidden_from
        self._audience = await self._store.run(
            lambda tx: find_audience(tx, self._account, hidden)
        )
        if self.choice != before:
            self._publish([OwnPresenceChanged()])
        gone = [who for who in self._people if who not in self._audience.people]
        for who in gone:
            del self._people[who]
        if gone:
            self._publish([PeopleChanged()])

    async def _tell(self) -> None:
        """Say what the node does not know yet."""
        mode = self.mode
        show = self._audience.show if self.choice.share else ()
        if self._told != (mode, show):
            same = self._told is not None and self._told[1] == show
            changed = self._told is None or self._told[0] != mode
            self._told = (mode, show)
            await self._say(Presence(mode, None if same else list(show)))
            if changed:
                self._publish([OwnPresenceChanged()])
        while self._outgoing:
            await self._say(self._outgoing.pop(0))

    async def _say(self, frame: FromDevice) -> None:
        session = self._uplink.session
        if session is not None:
            try:
                await session.tell(frame)
            except ClientError:
                self._told = None  # the next session says it again

    async def farewell(self) -> None:
        """Say goodbye: the last thing of a client that closes."""
        if self._online and self._told is not None:
            try:
                async with asyncio.timeout(FAREWELL):
                    await self._say(Presence("gone"))
            except TimeoutError:
                pass


def _shown(mode: Mode) -> Literal["online", "away", "dnd", "offline"]:
    if mode == "hidden" or mode == "gone":
        return "offline"
    return mode
