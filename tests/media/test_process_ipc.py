"""The pipe between the engine and the media process."""

import asyncio
import socket
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media import ipc
from media.port import Frame, Ice, IceServer, LegState, Levels
from tests.helpers.fuzz import fuzzing

ICE = Ice((IceServer(("turn:t.example",), "1700000000:ann", "hunter2"),))


def packed(*messages: ipc.FromEngine | ipc.FromChild) -> bytes:
    bodies = [msgspec.msgpack.encode(message) for message in messages]
    return b"".join(struct.pack(">I", len(body)) + body for body in bodies)


def test_messages_come_out_whole_however_the_bytes_are_cut() -> None:
    sent: list[ipc.FromEngine] = [
        ipc.Request(1, ipc.Offer("leg", ICE)),
        ipc.Request(2, ipc.AddCandidates("leg", ("candidate:1",))),
        ipc.Seen(""),
    ]
    data = packed(*sent)
    for step in (1, 3, 7, len(data)):
        splitter = ipc.Splitter(ipc.from_engine)
        heard = [
            message
            for at in range(0, len(data), step)
            for message in splitter.feed(data[at : at + step])
        ]
        assert heard == sent


def test_a_length_beyond_the_limit_is_refused_before_anything_is_kept() -> None:
    splitter = ipc.Splitter(ipc.from_child)
    with pytest.raises(ipc.PipeError):
        list(splitter.feed(struct.pack(">I", ipc.MESSAGE + 1)))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc0",
        msgspec.msgpack.encode(["Unknown", 1]),
        msgspec.msgpack.encode(["Request", 1, ["Play", "loud"]]),
        msgspec.msgpack.encode(["Request", "1", ["Prepare"]]),
        msgspec.msgpack.encode(["Done", 1, "an answer to nobody"]),
        b"\x91" * 100_000,
    ],
)
def test_what_is_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(ipc.PipeError):
        splitter = ipc.Splitter(ipc.from_engine)
        list(splitter.feed(struct.pack(">I", len(body)) + body))


@pytest.mark.fuzz
@fuzzing
@given(data=st.binary(max_size=300), cut=st.integers(1, 40))
def test_any_bytes_are_messages_or_refused(data: bytes, cut: int) -> None:
    for splitter in (ipc.Splitter(ipc.from_engine), ipc.Splitter(ipc.from_child)):
        try:
            for at in range(0, len(data), cut):
                for message in splitter.feed(data[at : at + cut]):
                    assert isinstance(message, msgspec.Struct)
        except ipc.PipeError:
            pass


@pytest.mark.fuzz
@fuzzing
@given(at=st.integers(4, 200), value=st.integers(0, 255))
def test_a_message_with_one_wrong_byte_is_one_or_refused(at: int, value: int) -> None:
    data = bytearray(packed(ipc.Request(7, ipc.Answer("leg", ICE, "v=0" * 20))))
    data[min(at, len(data) - 1)] = value
    try:
        for message in ipc.Splitter(ipc.from_engine).feed(bytes(data)):
            assert isinstance(message, ipc.Request | ipc.Seen)
    except ipc.PipeError:
        pass


def test_no_text_of_a_message_shows_credentials_or_descriptions() -> None:
    for message in (
        ipc.Request(1, ipc.Offer("leg", ICE)),
        ipc.Request(1, ipc.Answer("leg", ICE, "a=ice-pwd:hunter2")),
        ipc.Request(1, ipc.Accept("leg", "a=ice-pwd:hunter2")),
        ipc.Request(1, ipc.AddCandidates("leg", ("candidate:hunter2",))),
        ipc.Done(1, "a=ice-pwd:hunter2"),
    ):
        assert "hunter2" not in repr(message)


class Ends:
    """Both ends of a pipe, and what they heard."""

    def __init__(self) -> None:
        self.at_engine: list[ipc.FromChild] = []
        self.at_child: list[ipc.FromEngine] = []
        self.lost: list[str] = []
        self.engine = ipc.Pipe(
            ipc.from_child, self.at_engine.append, lambda: self.lost.append("engine")
        )
        self.child = ipc.Pipe(
            ipc.from_engine, self.at_child.append, lambda: self.lost.append("child")
        )

    async def connect_child(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: self.child, sock=sock)

    async def connect_engine(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: self.engine, sock=sock)


async def until(true: object) -> None:
    assert callable(true)
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_pictures_are_dropped_for_an_engine_that_is_busy_and_only_they() -> None:
    ours, theirs = socket.socketpair()
    ends = Ends()
    await ends.connect_child(theirs)
    picture = Frame("leg", 160, 96, bytes(160 * 96 * 3))
    for number in range(300):
        ends.child.show(picture)
        ends.child.send(Levels(number / 1000, 0.0))
    ends.child.send(LegState("leg", "connected"))
    assert ends.child.dropped == 300 - ipc.PICTURES

    await ends.connect_engine(ours)
    await until(lambda: ends.at_engine[-1:] == [LegState("leg", "connected")])
    levels = [m.microphone for m in ends.at_engine if isinstance(m, Levels)]
    assert levels == [number / 1000 for number in range(300)]
    assert sum(isinstance(m, Frame) for m in ends.at_engine) == ipc.PICTURES

    ends.engine.send(ipc.Seen("leg"))
    await until(lambda: ends.at_child)
    ends.child.seen("leg")
    ends.child.show(picture)
    await until(lambda: isinstance(ends.at_engine[-1], Frame))
    ends.child.close()
    ends.engine.close()
    await until(lambda: len(ends.lost) == 2)


async def test_legs_do_not_take_each_others_room() -> None:
    ours, theirs = socket.socketpair()
    ends = Ends()
    await ends.connect_child(theirs)
    for leg in ("a", "b", ""):
        for _ in range(3):
            ends.child.show(Frame(leg, 2, 2, bytes(12)))
    assert ends.child.dropped == 3
    ends.child.abort()
    await until(lambda: ends.lost)
    ours.close()


async def test_an_end_that_never_reads_is_lost_before_it_costs_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ipc, "WAITING", 100_000)
    ours, theirs = socket.socketpair()
    ends = Ends()
    await ends.connect_child(theirs)
    for _ in range(2000):
        ends.child.send(LegState("leg", "failed", "x" * 1000))
        if ends.child._transport is None or ends.child._transport.is_closing():
            break
    else:
        pytest.fail("it kept everything")
    await until(lambda: ends.lost == ["child"])
    ours.close()


async def test_an_end_that_sends_what_is_no_message_is_lost() -> None:
    ours, theirs = socket.socketpair()
    ends = Ends()
    await ends.connect_child(theirs)
    ours.sendall(b"GET / HTTP/1.1\r\n\r\n")
    await until(lambda: ends.lost == ["child"])
    assert ends.at_child == []
    assert ours.recv(1) == b""
    ours.close()
