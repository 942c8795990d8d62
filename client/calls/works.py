"""The calls of a client at work: the log, the media process, time, and the machine.

Everything is decided by `machine`, on the event loop's thread; this carries what people
do, what the log says, what the media process tells and the time to it, and what it
wants to the database and to the media process. A call that runs waits for none of
this: it goes on while the node is away.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial

import msgspec

from client.account.me import Me, get_meta
from client.calls.ice import Servers
from client.calls.ledger import Ledger
from client.calls.machine import Machine
from client.calls.may import is_muted, may_ring, trust_in
from client.calls.model import Call, CallChanged
from client.calls.ongoing import Ongoing
from client.calls.record import Fact, Heard
from client.calls.stage import Stage
from client.calls.values import Leave, Restore, Say, Show, Want
from client.calls.view import view_of
from client.clock import Clock
from client.content import Body
from client.content.calling import Signal
from client.errors import ClientError
from client.event import Event
from client.model import MessageId, RoomChanged, Trust
from client.network.transport import Transport
from client.rooms.letters import Letters
from client.storage.store import Store, Tx
from media.port import Event as MediaEvent
from media.port import (
    Exited,
    Frame,
    Ice,
    Levels,
    MediaError,
    MediaPort,
    Sound,
    Trouble,
    View,
)
from protocol.codec import decode
from protocol.errors import Malformed
from protocol.log import Entry, LogId
from protocol.wire import IceServers

__all__ = ["Works", "make_media"]

FAREWELL = 1.0
"""Seconds that leaving a call may take when the client closes."""

SOUND, RELAY_ONLY = "call_sound", "call_relay_only"
"""What this device remembers, in the table `meta`."""

logger = logging.getLogger(__name__)


def make_media() -> MediaPort:
    """The media process: not started before it is needed."""
    from media.supervisor import Media  # what starts processes loads with a call

    return Media()


class Works:
    """Carries events to the machine, and does what it wants."""

    def __init__(
        self,
        store: Store,
        letters: Letters,
        me: Me,
        clock: Clock,
        transport: Transport,
        poke: Callable[[LogId], None],
        publish: Callable[[Sequence[Event]], None],
        is_quiet: Callable[[], bool],
        hurry: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`is_quiet`: whether no call may make a sound now (do not disturb);
        `hurry`: tries to reach the node now."""
        self._store = store
        self._me = str(me.device)
        self._account = str(me.account)
        self._clock = clock
        self._poke = poke
        self._publish = publish
        self._is_quiet = is_quiet
        self._hurry = hurry
        self._monotonic = monotonic
        self._ledger = Ledger(me, letters, clock)
        self._machine = Machine(self._me)
        self._servers = Servers(lambda: transport.get("/ice", IceServers))
        self.make_media: Callable[[], MediaPort] = make_media
        """What the media process is made with."""
        self._stage = Stage(self._made, self._ice, self._described, self._failed)
        self._sound, self._relay_only = Sound(), False
        self._view = View()
        self._see: Callable[[Frame | Levels], None] | None = None
        self._trust: dict[str, Trust] = {}
        """By device, of those that said something of calls."""
        self._outgoing: list[Say | Leave] = []
        self._talking: asyncio.Task[None] | None = None
        self._online = False
        self._overdue_at: int | None = None
        self._wake = asyncio.Event()
        for kind in Signal.__args__:
            letters.on(kind, _nothing)
        letters.heard.append(self._heard)

    # --- for the engine -----------------------------------------------------------

    async def begin(self) -> None:
        """Read what this device remembers; it is in no call any more."""

        def read(tx: Tx) -> tuple[bytes, bytes, list[Fact]]:
            sound, relay = get_meta(tx, SOUND), get_meta(tx, RELAY_ONLY)
            return sound or b"", relay or b"", self._ledger.begin(tx)

        sound, relay, ended = await self._store.run(read)
        try:
            self._sound = decode(sound, Sound) if sound else Sound()
        except Malformed:
            logger.warning("the sound settings are from another version")
        self._relay_only = bool(relay)
        for fact in ended:
            self._machine.forget(fact.id)

    async def run(self) -> None:
        """Watch over the time; runs until cancelled."""
        while True:
            self._do(self._machine.tick(self._now()))
            self._wake.clear()
            if self._online and _is_due(self._overdue_at, self._now()):
                _, wait = await self._store.run(self._ledger.overdue)
                self._overdue_at = None if wait is None else self._now() + wait
            due = self._next_due()
            try:
                async with asyncio.timeout(
                    None if due is None else max(0.001, (due - self._now()) / 1000)
                ):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def farewell(self) -> None:
        """Leave all calls: the client closes."""
        if self._machine.occupied:
            for call in list(self._machine.calls.values()):
                if not call.incoming:
                    self._do(self._machine.hang_up(call.id, self._now()))
            await self._settled()
            await self._sent()
        await self._servers.close()
        await self._stage.close()

    def connected(self, online: bool) -> None:
        """A session stands and everything was read, or it does no more."""
        self._online = online
        if online:
            self._overdue_at = self._now()
            self._wake.set()

    def noted(self, events: Iterable[Event]) -> None:
        """What was published: people may be verified now, or their devices doubtful."""
        rooms = {e.room.id for e in events if isinstance(e, RoomChanged)}
        if any(call.room in rooms for call in self._machine.calls.values()):
            self._stage.later("trust", self._look())

    async def _look(self) -> None:
        """Read again what is known of who is in a call."""
        calls = [*self._machine.calls.values()]
        devices = {name for call in calls for name in call.links if name}

        def read(tx: Tx) -> dict[str, Trust]:
            return {name: trust_in(tx, name) for name in devices}

        found = await self._store.run(read)
        if any(self._trust.get(name) is not found[name] for name in found):
            self._trust |= found
            for call in self._machine.calls.values():
                self._tell(call)

    # --- what the log brings ------------------------------------------------------

    def _heard(
        self,
        tx: Tx,
        room: LogId,
        entry: Entry,
        id: MessageId,
        device: str,
        body: Body,
    ) -> None:
        """On the store's thread, for each content that has its place."""
        if not isinstance(body, Signal):
            return
        heard = Heard(room, entry.seq, entry.time, device, id, body)
        changed = self._ledger.take(tx, heard)
        if changed is not None:
            read = partial(
                self._read,
                heard,
                changed,
                self._clock.now_ms() - entry.time,
                quiet=is_muted(tx, room),
                may_ring=may_ring(tx, room),
                trust=trust_in(tx, device),
            )
            tx.after.append(read)

    def _read(
        self,
        heard: Heard,
        changed: Mapping[str, Fact],
        age: int,
        *,
        quiet: bool,
        may_ring: bool,
        trust: Trust,
    ) -> None:
        if heard.account != self._account:
            self._trust[heard.device] = trust
        quiet = quiet or self._is_quiet()
        wants = self._machine.read(
            heard, changed, age, self._now(), quiet=quiet, may_ring=may_ring
        )
        if any(fact.rings for fact in changed.values()):
            self._overdue_at = self._now()
            if heard.call in self._machine.calls:
                self._servers.want()
        self._do(wants)

    # --- what the media process brings --------------------------------------------

    def _made(self) -> MediaPort:
        media = self.make_media()
        media.listen(self._media)
        self._stage.later("sound", _quietly(media.set_sound(self._sound)))
        if self._view.width:
            self._stage.later("view", _quietly(media.set_view(self._view)))
        return media

    def _media(self, event: MediaEvent) -> None:
        now = self._now()
        match event:
            case Levels():
                self._show_picture(event)
            case Frame():
                device = self._machine.device_of(event.leg)
                if device or not event.leg:
                    self._show_picture(msgspec.structs.replace(event, leg=device))
            case Trouble():
                self._do(self._machine.trouble(event))
            case Exited():
                self._do(self._machine.exited(event, now))
            case _:
                self._do(self._machine.media(event, now))

    def _show_picture(self, event: Frame | Levels) -> None:
        if self._see is not None:
            self._see(event)

    async def _ice(self) -> Ice:
        return Ice(await self._servers.get(), self._relay_only)

    def _described(self, leg: str, sdp: str) -> None:
        self._do(self._machine.described(leg, sdp, self._now()))

    def _failed(self, leg: str, error: MediaError) -> None:
        self._do(self._machine.failed(leg, str(error), self._now()))

    # --- what the machine wants ---------------------------------------------------

    def _do(self, wants: Iterable[Want]) -> None:
        shown: dict[str, None] = {}
        for want in wants:
            match want:
                case Say() | Leave():
                    self._outgoing.append(want)
                case Show(id):
                    shown[id] = None
                case Restore():
                    self._restore()
                case _:
                    self._stage.take(want)
        if self._outgoing and self._talking is None:
            self._talking = asyncio.create_task(self._talk(), name="calls say")
        for id in shown:
            call = self._find(id)
            if call is not None:
                self._tell(call)
        self._wake.set()

    async def _talk(self) -> None:
        """Put what is said into the outbox, in order, and wake its room."""
        try:
            while self._outgoing:
                said, self._outgoing = self._outgoing, []
                await self._store.run(partial(self._write, said=said))
                for room in {want.room for want in said}:
                    self._poke(room)
        except ClientError as error:
            logger.error("what a call says could not be kept: %s", type(error).__name__)
        finally:
            self._talking = None

    def _write(self, tx: Tx, said: Sequence[Say | Leave]) -> None:
        for want in said:
            if isinstance(want, Say):
                self._ledger.say(tx, want)
            else:
                self._ledger.leave(tx, want)

    async def _settled(self) -> None:
        """Wait until what was said is on disk."""
        if self._talking is not None:
            await asyncio.wait([self._talking])

    async def _sent(self) -> None:
        """Give the node a moment to take what was said; the next start says it too."""
        end = self._monotonic() + FAREWELL
        while self._online and self._monotonic() < end:
            if not await self._store.run(self._ledger.waits):
                return
            await asyncio.sleep(0.02)

    def _restore(self) -> None:
        """Do with a media process what was done with the one before."""
        if self._stage.used:
            self._stage.later("rest", self._even())

    async def _even(self) -> None:
        """Mute, hold and camera as the call that runs has them; none in no call."""
        media, call = self._stage.media, self._current()
        await _quietly(media.set_muted(call is not None and call.muted))
        await _quietly(media.set_held(call is not None and call.held))
        try:
            await media.set_camera("" if call is None else call.camera)
        except MediaError as error:
            logger.info("the camera is off: %s", error.code)
            if call is not None and call.camera:
                call.camera = ""
                self._tell(call)

    def _current(self) -> Ongoing | None:
        """The call that runs; else one that was muted before it is taken."""
        calls = [*self._machine.calls.values()]
        wanted = [call for call in calls if not call.incoming or call.muted]
        return min(wanted, key=lambda call: call.incoming, default=None)

    def _tell(self, call: Ongoing) -> None:
        if call.end and (call.muted or call.held or call.camera):
            # The next call begins with an open microphone, no camera.
            call.muted = call.held = False
            call.camera = ""
            self._restore()
        self._publish([CallChanged(self._shown(call))])

    # --- how ----------------------------------------------------------------------

    def _find(self, id: str) -> Ongoing | None:
        for call in (*self._machine.calls.values(), *self._machine.ended):
            if call.shown == id:
                return call
        return None

    def _shown(self, call: Ongoing) -> Call:
        trouble = self._machine.missing
        return view_of(call, self._account, self._trust, trouble, self._wall)

    def _wall(self, time: int) -> int:
        return self._clock.now_ms() - (self._now() - time)

    def _now(self) -> int:
        return int(self._monotonic() * 1000)

    def _next_due(self) -> int | None:
        times = [self._machine.due()]
        if self._online:
            times.append(self._overdue_at)
        return min((time for time in times if time is not None), default=None)


def _nothing(tx: Tx, body: object, arrival: object) -> None:
    """What is to be done about a call is done where it has its place (`heard`)."""


def _is_due(at: int | None, now: int) -> bool:
    return at is not None and at <= now


async def _quietly(work: Awaitable[None]) -> None:
    """Do something that may fail where nobody asked for it."""
    try:
        await work
    except MediaError as error:
        logger.info("the media process: %s", error.code)
