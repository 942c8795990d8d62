"""One WebSocket (RFC 6455) on the node's side: frames in and out, without a task.

aiohttp answers HTTP; a connection that has been upgraded is taken from it and given
to this protocol. It costs a fourth of the memory, and a frame that comes in is a
function call: nothing waits for its turn in a queue. aiohttp's own parser, written in
C, reads the frames.
"""

import asyncio
import base64
import hashlib
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web
from aiohttp._websocket.reader import WebSocketDataQueue
from aiohttp.http import WS_KEY, WebSocketError, WebSocketReader

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
"""Frames that are parsed before the first is taken. What comes behind them waits as
it came: a frame of some bytes costs twenty times as many when it is parsed."""

CLOSE_TIMEOUT = 2.0
"""Seconds that a device has to answer a close: it was told why before, and a node
that stops waits for it."""

_TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x81, 0x82, 0x88, 0x89, 0x8A


class Listener(Protocol):
    """Who takes what comes in; all are called on the event loop."""

    def received(self, data: bytes | str) -> bool:
        """A message. False: no more for now; `WebSocket.go_on` says when."""

    def passed(self, frames: int) -> bool:
        """Frames that are no message: pings, pongs, fragments. False: as above."""

    def drained(self) -> None:
        """The line is ready again."""

    def lost(self) -> None:
        """The connection is gone: the last call."""


class _Frames(WebSocketDataQueue):
    """Where the parser puts the frames: one list, for all are read on one thread."""

    def __init__(self) -> None:
        super().__init__(_NO_PROTOCOL, 1, loop=_NO_PROTOCOL)
        self.messages: list[WSMessage] = []
        self.error: BaseException | None = None

    def feed_data(self, data: Any, size: int) -> None:
        self.messages.append(data)

    def set_exception(self, exc: BaseException, exc_cause: Any = None) -> None:
        self.error = exc


_NO_PROTOCOL: Any = None
_frames = _Frames()


class WebSocket(asyncio.Protocol):
    """`node.sessions.line.Line` over a WebSocket. Make it by `upgrade`."""

    __slots__ = (
        "_blocked",
        "_closing",
        "_full",
        "_held",
        "_listener",
        "_open",
        "_paused",
        "_reader",
        "_rest",
        "_skip",
        "_transport",
        "began",
        "full_since",
        "heard",
        "json",
    )

    def __init__(self, transport: asyncio.Transport, now: float) -> None:
        self._transport: asyncio.Transport | None = transport
        self._reader: WebSocketReader | None = WebSocketReader(
            _frames, FRAME_MAX, False, True
        )
        self._listener: Listener | None = None
        self._rest = b""
        """What the parser did not get yet: no whole header, or nothing is taken."""
        self._skip = 0
        """Bytes of a frame's end that are still to come."""
        self._open = False
        """Whether there are further fragments of a message to come."""
        self._held: deque[WSMessage] | None = None
        """Messages that were read, and not taken."""
        self._blocked = False
        """Whether the listener takes none."""
        self._full = False
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
        self._close(WSCloseCode.GOING_AWAY, b"")

    def abort(self) -> None:
        """Break the connection, whatever is on its way."""
        if self._transport is not None:
            self._transport.abort()

    def _close(self, code: int, reason: bytes) -> None:
        if self._closing or self._transport is None:
            return
        self._control(_CLOSE, code.to_bytes(2) + reason)
        self._closing = True
        loop = asyncio.get_running_loop()
        loop.call_soon(self._go_through)  # to the device's close
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
        self._go_through()

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """What came with the upgrade request; aiohttp's name for it."""
        self._rest += data  # until somebody listens, in the same turn of the loop
        return False, b""

    def feed_eof(self) -> None:
        """aiohttp has let go."""

    def data_received(self, data: bytes) -> None:
        self.heard = asyncio.get_running_loop().time()
        if self._rest:
            data = self._rest + data
        if self._held or self._stopped:
            self._rest = data
        else:
            self._read(data)

    def go_on(self) -> None:
        """The listener takes frames again."""
        self._blocked = False
        self._go_through()

    @property
    def _stopped(self) -> bool:
        """Whether no frame is taken now. After our close they are read, and passed by,
        to the device's close."""
        return (self._blocked or self._full) and not self._closing

    def _go_through(self) -> None:
        """Take what was held back, and read on if nothing of it is left."""
        held = self._held
        while held and not self._stopped:
            self._take(held.popleft())
        if not held:
            self._held = None
            if self._rest and not self._stopped:
                data, self._rest = self._rest, b""
                self._read(data)
        if not self._stopped and not self._held:
            self._resume()

    def _read(self, data: bytes) -> None:
        """Take frames as long as they are taken, and keep the rest as it came."""
        while data and not self._stopped:
            if self._reader is None:  # what follows a breach has no meaning
                data = b""
                break
            if not self._skip and len(data) > 1 and data[1] < 0x80:
                # Not masked: aiohttp's parser takes it, RFC 6455 section 5.1 has the
                # connection closed.
                self._breach(WSCloseCode.PROTOCOL_ERROR)
                continue
            end, count = self._whole(data)
            if end == 0:
                break
            messages = _frames.messages = []
            self._reader.feed_data(data[:end])
            error, _frames.error = _frames.error, None
            data = data[end:]
            for place, message in enumerate(messages):
                if (self._blocked or self._full) and self._stopped:
                    self._held = deque(messages[place:])
                    break
                self._take(message)
            if count > len(messages) and self._listener is not None:
                more = self._listener.passed(count - len(messages))
                self._blocked = self._blocked or not more
            if error is not None:
                self._breach(error.code if isinstance(error, WebSocketError) else 1002)
        self._rest = data
        if not (data or self._skip or self._open):
            self.began = 0.0
        elif not self.began:
            self.began = self.heard
        if self._stopped:
            self._pause()

    def _whole(self, data: bytes) -> tuple[int, int]:
        """Where to cut what came in, so that the parser gets few frames at a time,
        and never a part of a header, nor one that is not masked; and how many begin
        before."""
        at, size, count = self._skip, len(data), 0
        while at + 2 <= size and count < FRAMES_AT_ONCE:
            first, length = data[at], data[at + 1] - 0x80
            if length < 0:
                break
            if length < 126:
                end = at + 6 + length
            else:
                wide = at + (4 if length == 126 else 10)
                if wide > size:
                    break
                end = wide + 4 + int.from_bytes(data[at + 2 : wide])
            if not first & 0x08:
                if not self._open:
                    self.began = self.heard
                self._open = not first & 0x80
            at = end
            count += 1
        self._skip = max(0, at - size)
        return min(at, size), count

    def _take(self, message: WSMessage) -> None:
        kind = message.type
        if kind is WSMsgType.CLOSE:
            if self._transport is not None:
                code = message.data or WSCloseCode.OK
                if code == WSCloseCode.ABNORMAL_CLOSURE or code >= 5000:
                    code = WSCloseCode.PROTOCOL_ERROR  # none that may be sent
                self._close(code, b"")
                self._transport.close()
        elif self._closing or self._listener is None:
            return  # what comes between our close and the device's
        elif kind is WSMsgType.BINARY or kind is WSMsgType.TEXT:
            self.json = kind is WSMsgType.TEXT
            self._blocked = not self._listener.received(message.data)
        else:
            if kind is WSMsgType.PING:
                self._control(_PONG, message.data)
            self._blocked = not self._listener.passed(1)

    def _breach(self, code: int) -> None:
        """It broke the protocol: read no more, and close."""
        self._reader = None
        self._close(code, b"")

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
        self._go_through()
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
