"""Devices' sessions over WebSockets: what their frames ask for, and when they end.

The upgrade request is signed; nothing after it is. A frame that cannot be read is
answered by a problem and changes nothing. Messages are queued for the writer as they
come in; only what needs a thread or the database first gets a task.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, cast

from aiohttp import web

from node.accounts.device import Device
from node.api.gate import Gate
from node.api.middleware import refusal_of
from node.api.websocket import CLOSE_TIMEOUT, Detached, WebSocket, upgrade
from node.rooms.incoming import Incoming
from node.rooms.submission import Submissions
from node.sessions.delivery import Delivery
from node.sessions.session import Session
from protocol.codec import decode_json, frame_decoder
from protocol.errors import NodeFault, Refused
from protocol.wire import (
    AckFrame,
    FromDevice,
    ProblemFrame,
    Receipt,
    ResultFrame,
    Submit,
    SubmitFrame,
)

__all__ = ["Handlers", "SocketApi"]

log = logging.getLogger(__name__)

HEARTBEAT = 30.0
"""Seconds of silence after which a device is pinged; a device that does not answer in
half of that is gone. Below the minute after which home routers and phone networks
forget a connection."""

LOOK = 5.0
"""Seconds between two looks at who is silent."""

SEND_TIMEOUT = 60.0
"""Seconds in which a device must take in what the socket's buffer holds (64 KiB)."""

FRAME_TIMEOUT = 60.0
"""Seconds for the rest of a message that has begun: the largest one at 300 kbit/s."""

SUBMITS_MAX = 64
"""Submissions of one session under way; then its socket is not read until one ends."""

HANDSHAKE_COST = 16
"""As many submissions a commit or a new room counts as while it is under way: each has
up to two megabytes with its bundle, and some milliseconds of a thread's time."""

FRAME_RATE, FRAME_BURST = 100.0, 1000.0
"""Frames a second of one session, and at once, above twice the messages that it may
send; a faster one is read no faster than this. A large one counts as several."""

FRAME_COST = 16 * 1024
"""Bytes of a message for which it counts as one frame more: at the rate above 2 MB a
second, and at once 16 MB."""

REST = 0.01
"""Seconds that a device which is too fast is not read, at least: then some frames at
once, not one by one."""

Handlers = Mapping[type, Callable[[Device, Any], None]]
"""By type of frame: who takes it. Called on the event loop, so it must be quick."""

_decode = frame_decoder(FromDevice)


class SocketApi:
    """Serves the devices' sessions."""

    def __init__(
        self,
        gate: Gate,
        delivery: Delivery,
        submissions: Submissions,
        events_per_second: float,
        handlers: Handlers | None = None,
    ) -> None:
        """Make the one of a node.

        Args:
            gate: lets devices in.
            delivery: their sessions.
            submissions: takes what they write.
            events_per_second: what one device may submit.
            handlers: of the frames that are no submission and no ack.
        """
        self.frame_rate = FRAME_RATE + 2 * events_per_second
        self.delivery = delivery
        self.submissions = submissions
        self.handlers = handlers or {}
        self._gate = gate
        self._talks: set[_Talk] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._nobody: asyncio.Event | None = None
        """Set when the last one has gone, while the node stops."""

    @property
    def open(self) -> int:
        """How many sockets are open."""
        return len(self._talks)

    def routes(self) -> list[web.RouteDef]:
        """What `Application.add_routes` takes."""
        return [web.get("/telex/v1/ws", self.serve)]

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Begin a session; it goes on when this has returned."""
        device = await self._gate.device(request)
        remote = self._gate.remote(request)
        self.delivery.admit(remote)
        try:
            socket = upgrade(request)
        except BaseException:
            self.delivery.release(remote)
            raise
        session = self.delivery.open(device, socket)
        talk = _Talk(self, socket, session, remote)
        self._talks.add(talk)
        socket.listen(talk)
        self.spawn(self._load(session))
        return Detached()

    async def _load(self, session: Session) -> None:
        try:
            await self.delivery.load(session)
        except Refused as error:
            log.warning("a session cannot read its logs: %s", error)
            session.close(NodeFault())

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do what cannot be done at once."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def over(self, talk: "_Talk") -> None:
        """A connection is gone."""
        self._talks.discard(talk)
        self.delivery.end(talk.session)
        self.delivery.release(talk.remote)
        if self._nobody is not None and not self._talks:
            self._nobody.set()

    async def watch(self) -> None:
        """Ping who is silent and drop who does not answer; runs until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK)
            for talk in list(self._talks):
                talk.look(loop.time())

    async def stop(self) -> None:
        """Wait for the sessions, which were told; then break what is left."""
        if not self._talks:
            return
        self._nobody = asyncio.Event()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._nobody.wait()
        except TimeoutError:
            for talk in list(self._talks):
                talk.socket.abort()
            await self._nobody.wait()


class _Talk:
    """What one connection asks for; `node.api.websocket.Listener`."""

    __slots__ = (
        "_api",
        "_at",
        "_level",
        "_pacing",
        "_waiting",
        "remote",
        "session",
        "socket",
        "under_way",
    )

    def __init__(
        self, api: SocketApi, socket: WebSocket, session: Session, remote: str
    ) -> None:
        self._api = api
        self._level = FRAME_BURST
        self._at = socket.heard
        self._pacing = False
        """Whether it was too fast, and rests."""
        self._waiting = False
        """Whether nothing is taken from the socket."""
        self.remote = remote
        self.session = session
        self.socket = socket
        self.under_way = 0

    # --- the listener -------------------------------------------------------------

    def received(self, data: bytes, text: bool) -> bool:
        """Do what a frame asks for; whether there may be more."""
        try:
            if self.session.ended is not None:
                # A device that was just revoked may be slow to read that it was.
                raise self.session.ended
            self._handle(
                decode_json(data, cast(Any, FromDevice)) if text else _decode(data)
            )
        except Exception as error:
            self._refuse(error)
        return self._may_go_on(1 + len(data) // FRAME_COST)

    def passed(self) -> bool:
        """Count a frame that asks for nothing; whether there may be more."""
        return self._may_go_on(1)

    def _may_go_on(self, frames: int) -> bool:
        self._spend(frames)
        self._waiting = self._pacing or self.under_way >= SUBMITS_MAX
        return not self._waiting

    def drained(self) -> None:
        """The socket has room."""
        self.session.touch()

    def lost(self) -> None:
        """The connection is gone."""
        self._api.over(self)

    def look(self, now: float) -> None:
        """Ping or break it if it is silent, or does not read."""
        socket = self.socket
        if socket.paused:  # by us: it is not its silence
            if not socket.ready and now - socket.full_since > SEND_TIMEOUT:
                socket.abort()
            return
        silence = now - socket.heard
        slow = socket.began and now - socket.began > FRAME_TIMEOUT
        if slow or silence > 1.5 * HEARTBEAT:
            socket.abort()
        elif silence > HEARTBEAT:
            socket.ping()

    # --- frames -------------------------------------------------------------------

    def _handle(self, frame: FromDevice) -> None:
        match frame:
            case SubmitFrame():
                self._submit(frame)
            case AckFrame():
                rest = self._api.delivery.ack(self.session, frame.cursors)
                if rest:
                    # Each is a look at the database for the writer.
                    self._spend(len(rest))
                    self._start(self._read_from(rest))
            case _:
                handler = self._api.handlers.get(type(frame))
                if handler is not None:
                    handler(self.session.device, frame)

    def _submit(self, frame: SubmitFrame) -> None:
        reply = partial(self._answer, frame.id)
        submissions = self._api.submissions
        self.under_way += 1
        try:
            incoming = submissions.read(self.session.device, frame.submission)
            if submissions.put(incoming, reply):
                return
        except Exception as error:
            reply(refusal_of(error))
            return
        self.under_way += HANDSHAKE_COST - 1
        self._api.spawn(self._shake(incoming, frame, reply))

    async def _shake(
        self,
        incoming: Incoming,
        frame: SubmitFrame,
        reply: Callable[[Receipt | Refused], None],
    ) -> None:
        submit = Submit(frame.submission, frame.bundle)
        outcome: Receipt | Refused
        try:
            outcome = await self._api.submissions.shake(incoming, submit)
        except Exception as error:
            outcome = refusal_of(error)
        self.under_way -= HANDSHAKE_COST - 1
        reply(outcome)

    def _answer(self, number: int, outcome: Receipt | Refused) -> None:
        self.under_way -= 1
        if isinstance(outcome, Refused):
            frame = ResultFrame(number, problem=outcome.problem())
        else:
            frame = ResultFrame(number, receipt=outcome)
        self.session.answer(frame)
        if self._waiting:
            self._go_on()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self.under_way += 1
        self._api.spawn(work)

    async def _read_from(self, cursors: dict[Any, int]) -> None:
        try:
            await self._api.delivery.start(self.session, cursors)
        except Exception as error:
            self._refuse(error)
        finally:
            self.under_way -= 1
            if self._waiting:
                self._go_on()

    def _refuse(self, error: Exception) -> None:
        self.session.answer(ProblemFrame(refusal_of(error).problem()))

    def _spend(self, frames: int) -> None:
        """Count frames; if they come faster than they may, no more is taken for the
        time that they are ahead."""
        self._refill(self.socket.heard)
        self._level -= frames
        if self._level < 0 and not self._pacing:
            self._pacing = True
            rest = max(REST, -self._level / self._api.frame_rate)
            asyncio.get_running_loop().call_later(rest, self._rested)

    def _refill(self, now: float) -> None:
        if now > self._at:
            more = (now - self._at) * self._api.frame_rate
            self._level, self._at = min(FRAME_BURST, self._level + more), now

    def _rested(self) -> None:
        self._pacing = False
        self._refill(asyncio.get_running_loop().time())
        self._go_on()

    def _go_on(self) -> None:
        if self._pacing or self.under_way >= SUBMITS_MAX:
            return
        self._waiting = False
        self.socket.go_on()
