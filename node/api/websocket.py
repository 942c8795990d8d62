"""One WebSocket (RFC 6455) on the node's side: frames in and out, without a task.

aiohttp answers HTTP; a connection that has been upgraded is taken from it and given
to this protocol. It costs a fourth of the memory, and a frame that comes in is a
function call: nothing waits for its turn in a queue.
"""

import asyncio
import base64
import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

from aiohttp import WSCloseCode, web
from aiohttp.http import WS_KEY

from node.api.frames import Breach, FrameReader, Opcode
from node.sessions.line import SharedEntries
from protocol.codec import encode, encode_json
from protocol.errors import BadRequest
from protocol.limits import BODY_MAX
from protocol.wire import FromNode

__all__ = ["Detached", "WebSocket", "upgrade"]

FRAME_MAX = BODY_MAX
"""Bytes of one frame: the same as of a request's body. A larger one ends the
connection (close code 1009), because it cannot be passed by without reading it."""

BUFFER_MAX = 64 * 1024
"""Bytes that may wait for the socket. Beyond it no entries are sent and nothing is
read: a device that does not read its answers gets no new ones."""

FRAMES_AT_ONCE = 64
"""Frames that are taken in one turn of the event loop: some milliseconds of work, and
then others have their turn."""

CLOSE_TIMEOUT = 2.0
"""Seconds that a device has to answer a close: it was told why before, and a node
that stops waits for it."""

_TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x81, 0x82, 0x88, 0x89, 0x8A


class Listener(Protocol):
    """Who takes what comes in; all are called on the event loop."""

    def received(self, data: bytes, text: bool) -> bool:
        """A message. False: no more for now; `WebSocket.go_on` says when."""

    def passed(self) -> bool:
        """A frame that is no message: ping, pong, fragment. False: as above."""

    def drained(self) -> None:
        """The line is ready again."""

    def lost(self) -> None:
        """The connection is gone: the last call."""


class WebSocket(asyncio.Protocol):
    """`node.sessions.line.Line` over a WebSocket. Make it by `upgrade`."""

    __slots__ = (
        "_blocked",
        "_broken",
        "_closing",
        "_full",
        "_listener",
        "_paused",
        "_reader",
        "_transport",
        "_yielding",
        "began",
        "full_since",
        "heard",
        "json",
    )

    def __init__(self, transport: asyncio.Transport, now: float) -> None:
        self._transport: asyncio.Transport | None = transport
        self._reader = FrameReader(FRAME_MAX)
        self._broken = False
        """Whether what comes has no meaning any more."""
        self._listener: Listener | None = None
        self._blocked = False
        """Whether the listener takes none."""
        self._full = False
        self._yielding = False
        """Whether others have their turn before more is taken."""
        self._paused = False
        self._closing = False
        self.json = False
        """Whether the device's last frame was text: it is answered likewise."""
        self.heard = now
        """When anything came, by the loop's clock."""
        self.full_since = 0.0
        self.began = 0.0
        """When the message began of which only a part has come; 0: there is none."""

    # --- sending ------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether entries may be sent now."""
        return not self._full

    def send(self, frames: Sequence[FromNode | SharedEntries]) -> None:
        """Send frames; never waits."""
        if self._transport is None or self._closing:
            return
        parts: list[bytes] = []
        for frame in frames:
            if self.json:
                value = frame.frame if isinstance(frame, SharedEntries) else frame
                data = encode_json(value)
                parts.append(_header(_TEXT, len(data)))
            else:
                data = frame.packed if type(frame) is SharedEntries else encode(frame)
                parts.append(_header(_BINARY, len(data)))
            parts.append(data)
        self._transport.writelines(parts)

    def ping(self) -> None:
        """Ask whether the device is still there."""
        self._control(_PING, b"")

    def end(self) -> None:
        """Close behind what was sent, and wait a little for the device to do so."""
        self._close(WSCloseCode.GOING_AWAY)

    def abort(self) -> None:
        """Break the connection, whatever is on its way."""
        if self._transport is not None:
            self._transport.abort()

    def _close(self, code: int) -> None:
        if self._closing or self._transport is None:
            return
        self._control(_CLOSE, code.to_bytes(2))
        self._closing = True
        loop = asyncio.get_running_loop()
        loop.call_soon(self._read)  # to the device's close
        loop.call_later(CLOSE_TIMEOUT, self.abort)

    def _control(self, kind: int, data: bytes) -> None:
        if self._transport is not None and not self._closing:
            self._transport.write(bytes((kind, len(data))) + data)

    # --- receiving ----------------------------------------------------------------

    @property
    def paused(self) -> bool:
        """Whether nothing is read: what the device says is not known meanwhile."""
        return self._paused

    def listen(self, listener: Listener) -> None:
        """Give frames to this one from now on."""
        self._listener = listener
        self._read()

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """What came with the upgrade request; aiohttp's name for it."""
        self._reader.feed(data)  # read once somebody listens, in this turn of the loop
        return False, b""

    def feed_eof(self) -> None:
        """aiohttp has let go."""

    def data_received(self, data: bytes) -> None:
        self.heard = asyncio.get_running_loop().time()
        if not self._broken:
            self._reader.feed(data)
            self._read()

    def go_on(self) -> None:
        """The listener takes frames again."""
        self._blocked = False
        self._read()

    @property
    def _stopped(self) -> bool:
        """Whether no frame is taken now. After our close they are read, and passed by,
        to the device's close."""
        if self._closing:
            return self._yielding
        return self._blocked or self._full or self._yielding

    def _read(self) -> None:
        """Take frames as long as they are taken; the rest stays as it came."""
        try:
            for _ in range(FRAMES_AT_ONCE):
                if self._stopped or self._broken:
                    break
                if (message := self._reader.next()) is None:
                    break
                self._take(*message)
            else:
                self._yielding = True
                asyncio.get_running_loop().call_soon(self._yielded)
        except Breach as breach:
            self._broken = True
            self._close(breach.code)
            return
        if not self._reader.partial:
            self.began = 0.0
        elif not self.began:
            self.began = self.heard
        if self._stopped:
            self._pause()
        else:
            self._resume()

    def _yielded(self) -> None:
        self._yielding = False
        self._read()

    def _take(self, kind: Opcode, data: bytes) -> None:
        if kind == Opcode.CLOSE:
            if self._transport is not None:
                self._close(int.from_bytes(data[:2]) or WSCloseCode.OK)
                self._transport.close()
        elif self._closing or self._listener is None:
            return  # what comes between our close and the device's
        elif kind == Opcode.BINARY or kind == Opcode.TEXT:
            self.began = 0.0
            self.json = kind == Opcode.TEXT
            self._blocked = not self._listener.received(data, self.json)
        else:
            if kind == Opcode.PING:
                self._control(_PONG, data)
            self._blocked = not self._listener.passed()

    def _pause(self) -> None:
        if not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            # Nothing was heard because nothing was read.
            self.heard = asyncio.get_running_loop().time()
            self.began = self.began and self.heard
            self._transport.resume_reading()

    # --- the transport ------------------------------------------------------------

    def pause_writing(self) -> None:
        self._full = True
        self.full_since = asyncio.get_running_loop().time()
        self._pause()

    def resume_writing(self) -> None:
        self._full = False
        self._read()
        if self._listener is not None:
            self._listener.drained()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.lost()


class Detached(web.StreamResponse):
    """What a handler returns whose connection is no longer aiohttp's."""

    async def prepare(self, request: web.BaseRequest) -> None:
        """Nothing is sent."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing ends here."""


def upgrade(request: web.Request) -> WebSocket:
    """Answer an upgrade (RFC 6455 section 4.2) and take the connection.

    Raises:
        BadRequest: it is none, or its connection has gone.
    """
    headers = request.headers
    tokens = headers.get("Connection", "").lower().split(",")
    key = headers.get("Sec-WebSocket-Key", "")
    if (
        request.method != "GET"  # aiohttp takes HEAD, too
        or headers.get("Upgrade", "").lower().strip() != "websocket"
        or "upgrade" not in (token.strip() for token in tokens)
        or headers.get("Sec-WebSocket-Version", "") != "13"
        or not _is_key(key)
    ):
        raise BadRequest("This address takes WebSockets (RFC 6455, version 13) alone.")
    http, transport = request.protocol, request.transport
    if http is None or transport is None:
        raise BadRequest("Its connection has gone.")
    accept = base64.b64encode(hashlib.sha1(key.encode() + WS_KEY).digest())
    transport.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
        b"Connection: upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    socket = WebSocket(transport, asyncio.get_running_loop().time())
    transport.set_write_buffer_limits(high=BUFFER_MAX)
    transport.set_protocol(socket)
    # To aiohttp the connection is over; it lets go of all that it held for it.
    _hand_over(http, socket)
    return socket


def _hand_over(http: Any, socket: WebSocket) -> None:
    http.set_parser(socket)  # gives what came behind the request
    http.transport = None
    http.connection_lost(None)


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == 16
    except ValueError:
        return False


def _header(kind: int, size: int) -> bytes:
    if size < 126:
        return bytes((kind, size))
    if size < 65536:
        return bytes((kind, 126)) + size.to_bytes(2)
    return bytes((kind, 127)) + size.to_bytes(8)
