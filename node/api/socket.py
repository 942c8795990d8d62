"""The WebSocket: frames in from a device, frames out from its session.

The upgrade request is signed; nothing after it is. Two tasks serve a socket: this
module's reader and the session's writer. Whatever ends one ends the other. A frame
that cannot be read is answered by a problem and changes nothing.
"""

import asyncio
import logging
from typing import Any, cast

from aiohttp import WSCloseCode, WSMsgType, web

from node.api.gate import Gate
from node.api.middleware import refusal_of
from node.clock import Clock
from node.limit import Buckets
from node.rooms.submission import Submissions
from node.sessions.delivery import Delivery
from node.sessions.session import Session
from protocol.codec import decode, decode_json, encode, encode_json
from protocol.errors import Refused, TooMany
from protocol.limits import BODY_MAX
from protocol.wire import (
    AckFrame,
    FromDevice,
    FromNode,
    ProblemFrame,
    ResultFrame,
    Submit,
    SubmitFrame,
)

__all__ = ["SocketApi"]

log = logging.getLogger(__name__)

HEARTBEAT = 30.0
"""Seconds between pings; a device that does not answer one in half of that is gone.
Below the minute after which home routers and phone networks forget a connection."""

FRAME_MAX = BODY_MAX
"""Bytes of one frame: the same as of a request's body. A larger one ends the
connection (close code 1009), because it cannot be passed by without reading it."""

SEND_TIMEOUT = 60.0
"""Seconds in which a device must take in what the socket's buffer holds (64 KiB)."""

CLOSE_TIMEOUT = 2.0
"""Seconds that a device has to answer a close: it was told why before, and a node
that stops waits for it."""

SUBMITS_MAX = 64
"""Submissions of one session under way; then its socket is not read until one ends."""

FRAME_RATE, FRAME_BURST = 100.0, 1000.0
"""Frames a second of one session, and at once, above twice the messages that it may
send; a faster one is read no faster than this."""


class _SocketLine:
    """`node.sessions.session.Line` over a WebSocket."""

    def __init__(
        self, socket: web.WebSocketResponse, transport: asyncio.Transport | None
    ) -> None:
        self._socket = socket
        self._transport = transport
        self.json = False
        """Whether the device's last frame was text: it is answered likewise."""

    async def send(self, frame: FromNode) -> None:
        """Send a frame; waits while the socket's buffer is full."""
        try:
            async with asyncio.timeout(SEND_TIMEOUT):
                if self.json:
                    await self._socket.send_str(encode_json(frame).decode())
                else:
                    await self._socket.send_bytes(encode(frame))
        except TimeoutError as error:
            raise ConnectionError("the device does not read") from error

    def abort(self) -> None:
        """Break the connection, whatever is on its way."""
        if self._transport is not None:
            self._transport.abort()


class SocketApi:
    """Serves the devices' sessions."""

    def __init__(
        self,
        gate: Gate,
        delivery: Delivery,
        submissions: Submissions,
        clock: Clock,
        events_per_second: float,
    ) -> None:
        """`events_per_second` is what one device may submit."""
        self._frame_rate = FRAME_RATE + 2 * events_per_second
        self._gate = gate
        self._delivery = delivery
        self._submissions = submissions
        self._clock = clock

    def routes(self) -> list[web.RouteDef]:
        """What `Application.add_routes` takes."""
        return [web.get("/telex/v1/ws", self.serve)]

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """One session, from the upgrade to the end of the connection."""
        device = await self._gate.device(request)
        remote = self._gate.remote(request)
        self._delivery.admit(remote)
        try:
            socket = web.WebSocketResponse(
                heartbeat=HEARTBEAT,
                max_msg_size=FRAME_MAX,
                compress=False,
                timeout=CLOSE_TIMEOUT,
            )
            await socket.prepare(request)
            line = _SocketLine(socket, request.transport)
            session = self._delivery.open(device, line)
            try:
                await self._run(socket, line, session)
            finally:
                self._delivery.end(session)
        finally:
            self._delivery.release(remote)
        return socket

    async def _run(
        self, socket: web.WebSocketResponse, line: _SocketLine, session: Session
    ) -> None:
        log.debug("%s is connected", session.device.address)
        writer = asyncio.create_task(self._delivery.run(session))
        reader = asyncio.create_task(self._receive(socket, line, session))
        # A device that does not read must not keep its session by that.
        over = asyncio.create_task(session.wait_end(CLOSE_TIMEOUT))
        tasks = (writer, reader, over)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            for end in ends:
                if isinstance(end, Exception) and not isinstance(
                    end, ConnectionError | Refused
                ):
                    log.error("a session failed", exc_info=end)
            seconds = SEND_TIMEOUT if session.ended is None else 2 * CLOSE_TIMEOUT
            try:
                async with asyncio.timeout(seconds):
                    await socket.close(code=WSCloseCode.GOING_AWAY)
            except TimeoutError:
                line.abort()
            log.debug("%s is gone", session.device.address)

    async def _receive(
        self, socket: web.WebSocketResponse, line: _SocketLine, session: Session
    ) -> None:
        pace = Buckets(self._frame_rate, FRAME_BURST, "")
        room = asyncio.Semaphore(SUBMITS_MAX)
        async with asyncio.TaskGroup() as tasks:
            async for message in socket:
                await self._slow_down(pace)
                try:
                    match message.type:
                        case WSMsgType.BINARY:
                            line.json = False
                            frame = decode(message.data, cast(Any, FromDevice))
                        case WSMsgType.TEXT:
                            line.json = True
                            frame = decode_json(
                                message.data.encode(), cast(Any, FromDevice)
                            )
                        case _:
                            return
                except Exception as error:
                    session.answer(ProblemFrame(refusal_of(error).problem()))
                    continue
                await room.acquire()
                # Tasks start in the order in which they are made, and a message is
                # queued before its task first waits: so the device's order holds.
                tasks.create_task(self._handle(session, frame, room))

    async def _slow_down(self, pace: Buckets) -> None:
        while True:
            try:
                pace.take("", self._clock())
                return
            except TooMany:
                await asyncio.sleep(1 / self._frame_rate)

    async def _handle(
        self, session: Session, frame: FromDevice, room: asyncio.Semaphore
    ) -> None:
        try:
            # A device that was just revoked may be slow to read that it was.
            if session.ended is not None:
                raise session.ended
            match frame:
                case SubmitFrame():
                    session.answer(await self._submit(session, frame))
                case AckFrame():
                    await self._delivery.ack(session, frame.cursors)
        except Exception as error:
            session.answer(ProblemFrame(refusal_of(error).problem()))
        finally:
            room.release()

    async def _submit(self, session: Session, frame: SubmitFrame) -> ResultFrame:
        submit = Submit(frame.submission, frame.bundle)
        try:
            receipt = await self._submissions.submit(session.device, submit)
        except Exception as error:
            return ResultFrame(frame.id, problem=refusal_of(error).problem())
        return ResultFrame(frame.id, receipt=receipt)
