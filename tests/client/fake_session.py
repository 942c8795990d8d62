"""Sessions of the fake node: who is connected, and what was streamed to them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

import msgspec
from aiohttp import web

from protocol.codec import encode
from protocol.errors import Refused
from protocol.limits import BATCH_ENTRIES
from protocol.log import Kind, LogId, mailbox_id, read_submission
from protocol.presence import Presence, Typing
from protocol.wire import (
    AckFrame,
    Bundle,
    Entries,
    FromDevice,
    FromNode,
    ProblemFrame,
    Ready,
    Receipt,
    ResultFrame,
    Submit,
    SubmitFrame,
)
from tests.client.fake_rooms import FakeRooms
from tests.client.fake_state import answer, body_of, device_in


@dataclass
class FakeSessions(FakeRooms):
    """Sockets by device; entries are streamed from each device's cursors."""

    sockets: dict[str, web.WebSocketResponse] = field(default_factory=dict)
    sent: dict[tuple[str, LogId], int] = field(default_factory=dict)
    deaf: set[str] = field(default_factory=set)
    """Devices that nothing is streamed to, until `hears`."""
    lose_answers: int = 0
    """Take so many submissions and close the socket instead of answering."""
    told: list[tuple[str, Presence | Typing]] = field(default_factory=list)
    """What was said of presence and typing, by account; nobody hears of it."""
    pending: bool = False
    """Answer messages as a follower does: `pending`, and append all the same."""

    def session_routes(self, v1: str) -> list[web.RouteDef]:
        """What they answer."""
        return [
            web.post(f"{v1}/logs/{{log}}/entries", self.post_entry),
            web.get(f"{v1}/ws", self.socket),
        ]

    async def submit(self, device: str, data: bytes, bundle: Bundle | None) -> Receipt:
        """Take a submission, and show it to everybody who reads its log."""
        receipt = self.take(device, data, bundle)
        await self.flush()
        if self.pending and read_submission(data).kind == Kind.MESSAGE:
            return Receipt(receipt.event_id, "pending")
        return receipt

    async def flush(self) -> None:
        for device in list(self.sockets):
            for reader, log in list(self.cursors):
                if reader == device:
                    await self._stream(device, log)

    async def _stream(self, device: str, name: LogId) -> None:
        at = max(self.sent.get((device, name), 0), self.cursors[device, name])
        log = self.logs[name]
        socket = self.sockets.get(device)
        if socket is None or device in self.deaf or log.head <= at:
            return
        until = min(log.head, at + BATCH_ENTRIES)  # the rest after the next ack
        self.sent[device, name] = until
        entries = self.shown(device, name, at, until)
        await self.frame(socket, Entries(name, at, entries, log.head))

    async def hears(self, device: str) -> None:
        """A deaf device is streamed to again, what it missed first."""
        self.deaf.discard(device)
        await self.flush()

    async def frame(self, socket: web.WebSocketResponse, frame: FromNode) -> None:
        """Send a frame, if there is still somebody to read it."""
        with contextlib.suppress(ConnectionError):  # it goes just now
            if not socket.closed:
                await socket.send_bytes(encode(frame))

    async def post_entry(self, request: web.Request) -> web.Response:
        body = await body_of(request, Submit)
        return answer(
            await self.submit(device_in(request), body.submission, body.bundle)
        )

    async def socket(self, request: web.Request) -> web.WebSocketResponse:
        device = device_in(request)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets[device] = socket
        for reader, log in list(self.sent):
            if reader == device:
                del self.sent[reader, log]
        mailbox = mailbox_id(device.partition("/")[0])
        await self.frame(socket, Ready(self.time(), mailbox))
        await self.flush()
        try:
            async for message in socket:
                frame = msgspec.msgpack.decode(message.data, type=FromDevice)
                await self._handle(device, socket, frame)
        finally:
            if self.sockets.get(device) is socket:
                del self.sockets[device]
        return socket

    async def _handle(
        self, device: str, socket: web.WebSocketResponse, frame: FromDevice
    ) -> None:
        match frame:
            case AckFrame(cursors):
                for log, seq in cursors.items():
                    before = self.cursors.get((device, log), 0)
                    self.cursors[device, log] = max(seq, before)
                await self.flush()
            case SubmitFrame(id, submission):
                try:
                    receipt = await self.submit(device, submission, None)
                except Refused as error:
                    await self.frame(socket, ResultFrame(id, problem=error.problem()))
                    return
                if self.lose_answers:
                    self.lose_answers -= 1
                    await socket.close()
                    return
                await self.frame(socket, ResultFrame(id, receipt))
            case Presence() | Typing():
                self.told.append((device.partition("/")[0], frame))
            case _:
                await self.frame(socket, ProblemFrame(Refused().problem()))
