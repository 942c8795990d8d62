"""How the engine and the media process talk: MessagePack over a pair of Unix sockets.

A message is its length (4 bytes, big endian) and a Struct. The engine sends `Request`s
with numbers, the process answers each with `Done` or `Failed`, and tells events.
Pictures are dropped while the engine is busy: no more than `PICTURES` of each leg are
on the way (the engine says `Seen` for each). Nothing else is ever dropped: an end that
does not read what it is told is lost, with `WAITING` bytes.

Neither end trusts the other more than it must: lengths are bounded before anything is
kept, and what is no message ends the pipe.
"""

import asyncio
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar, cast

import msgspec

from media.port import (
    Candidates,
    Devices,
    Exited,
    Frame,
    Ice,
    LegState,
    Levels,
    PeerSays,
    Quality,
    Sound,
    Tone,
    Trouble,
    Value,
    View,
)

__all__ = [
    "Command",
    "Done",
    "Failed",
    "FromChild",
    "FromEngine",
    "Pipe",
    "PipeError",
    "Request",
    "Seen",
    "Splitter",
    "from_child",
    "from_engine",
]

MESSAGE = 4 * 1024 * 1024
"""Bytes of one message: a picture of 1280x720 has 2.7 million."""

WAITING = 16 * 1024 * 1024
"""Bytes that wait to be read by the other end before it counts as lost: hours of
events, but for pictures, of which there are few."""

PICTURES = 2
"""Pictures of a leg that are on the way at a time: one to draw, one to come."""

_LENGTH = struct.Struct(">I")


class PipeError(Exception):
    """The other end sent what is no message, or does not read."""


class Prepare(Value, frozen=True):
    """As in `MediaPort`, like all these."""


class Offer(Value, frozen=True):
    leg: str
    ice: Ice


class Answer(Value, frozen=True):
    leg: str
    ice: Ice
    offer: str

    def __repr__(self) -> str:
        return f"Answer({self.leg!r})"


class Accept(Value, frozen=True):
    leg: str
    answer: str

    def __repr__(self) -> str:
        return f"Accept({self.leg!r})"


class AddCandidates(Value, frozen=True):
    leg: str
    lines: tuple[str, ...]

    def __repr__(self) -> str:
        return f"AddCandidates({self.leg!r}, {len(self.lines)})"


class Open(Value, frozen=True):
    leg: str


class Close(Value, frozen=True):
    leg: str


class SetMuted(Value, frozen=True):
    on: bool


class SetHeld(Value, frozen=True):
    on: bool


class SetSound(Value, frozen=True):
    sound: Sound


class SetCamera(Value, frozen=True):
    device: str


class SetView(Value, frozen=True):
    view: View


class Play(Value, frozen=True):
    tone: Tone


class ListDevices(Value, frozen=True):
    pass


class Ping(Value, frozen=True):
    """Answered at once by the event loop: it lives."""


class Stop(Value, frozen=True):
    """End all legs, then the process."""


Command = (
    Prepare
    | Offer
    | Answer
    | Accept
    | AddCandidates
    | Open
    | Close
    | SetMuted
    | SetHeld
    | SetSound
    | SetCamera
    | SetView
    | Play
    | ListDevices
    | Ping
    | Stop
)


class Request(Value, frozen=True):
    """To be answered with this number."""

    number: int
    command: Command


class Seen(Value, frozen=True):
    """A picture of this leg was taken in: another may come."""

    leg: str


class Done(Value, frozen=True):
    """The answer to a request: text for descriptions, Devices, else nothing."""

    number: int
    value: str | Devices | None = None

    def __repr__(self) -> str:
        return f"Done({self.number})"


class Failed(Value, frozen=True):
    """Why a request was not done; as of `MediaError`."""

    number: int
    code: str
    text: str


Told = LegState | Candidates | PeerSays | Quality | Levels | Trouble | Frame | Exited
"""`port.Event`, spelt out for the decoder."""

FromEngine = Request | Seen
FromChild = Done | Failed | Told

from_engine: msgspec.msgpack.Decoder[FromEngine] = msgspec.msgpack.Decoder(FromEngine)
from_child: msgspec.msgpack.Decoder[FromChild] = msgspec.msgpack.Decoder(FromChild)

In = TypeVar("In")


class Splitter(Generic[In]):
    """Bytes as they come in to messages; holds no more than one unfinished message."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[In]) -> None:
        self._decoder = decoder
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[In]:
        """The messages that are whole now; PipeError for what is none."""
        self._buffer += data
        at = 0
        try:
            while len(self._buffer) - at >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(self._buffer, at)
                if length > MESSAGE:
                    raise PipeError(f"a message of {length} bytes")
                end = at + _LENGTH.size + length
                if len(self._buffer) < end:
                    break
                body = bytes(memoryview(self._buffer)[at + _LENGTH.size : end])
                at = end
                try:
                    yield self._decoder.decode(body)
                except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as e:
                    raise PipeError("what came in is no message") from e
        finally:
            del self._buffer[:at]


class Pipe(asyncio.Protocol, Generic[In]):
    """One end; made by `loop.create_unix_connection(lambda: pipe, sock=...)`."""

    def __init__(
        self,
        decoder: msgspec.msgpack.Decoder[In],
        heard: Callable[[In], None],
        lost: Callable[[], None],
    ) -> None:
        """`lost` is called once, when nothing more will come."""
        self._splitter = Splitter(decoder)
        self._heard = heard
        self._lost = lost
        self._encoder = msgspec.msgpack.Encoder()
        self._transport: asyncio.Transport | None = None
        self._pictures: Counter[str] = Counter()
        self.dropped = 0
        """Pictures that were not sent."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._splitter.feed(data):
                self._heard(message)
        except PipeError:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._lost()

    def send(self, message: FromEngine | FromChild) -> None:
        """Send it, after what waits already; nothing happens when the pipe is lost."""
        if self._transport is None or self._transport.is_closing():
            return
        body = self._encoder.encode(message)
        if len(body) > MESSAGE:
            raise PipeError(f"a message of {len(body)} bytes")
        self._transport.write(_LENGTH.pack(len(body)) + body)
        if self._transport.get_write_buffer_size() > WAITING:
            self.abort()

    def has_room(self, leg: str) -> bool:
        """Whether a picture of this leg would be sent now."""
        if self._pictures[leg] < PICTURES:
            return True
        self.dropped += 1
        return False

    def show(self, frame: Frame) -> None:
        """Send a picture, or drop it if the other end is busy."""
        if self.has_room(frame.leg):
            self._pictures[frame.leg] += 1
            self.send(frame)

    def seen(self, leg: str) -> None:
        """The other end took in a picture of this leg."""
        if self._pictures[leg] > 1:
            self._pictures[leg] -= 1
        else:
            del self._pictures[leg]

    def close(self) -> None:
        """Send what waits, then end."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End now."""
        if self._transport is not None:
            self._transport.abort()
