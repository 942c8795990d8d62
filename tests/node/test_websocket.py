"""RFC 6455 as the node keeps it: what it takes, what it refuses, and how it ends."""

import asyncio
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection

from node.accounts.device import Device
from node.api import websocket
from node.api.websocket import WebSocket
from node.app import Node
from node.sessions import delivery
from node.sessions.reading import load_readings
from protocol.codec import encode, encode_json
from protocol.log import LogId
from protocol.wire import (
    AckFrame,
    Entries,
    ProblemFrame,
    Ready,
    ResultFrame,
    SubmitFrame,
)
from tests.helpers.fuzz import fuzzing
from tests.node.phone import Phone, phone
from tests.node.raw import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    frame,
    gone,
    plain,
    raw_session,
    submit,
    until,
    upgrade,
)
from tests.node.server import make_node, make_settings

MIB = 1024 * 1024


# --- what is taken -----------------------------------------------------------------


async def test_a_message_may_come_in_fragments_with_pings_between(
    alice: Phone,
) -> None:
    room = await alice.create_room()
    body = encode(SubmitFrame(7, alice.message(room)))
    async with raw_session(alice) as line:
        assert isinstance(await line.told(), Ready)
        await line.send(frame(body[:10], BINARY, fin=False))
        await line.send(frame(b"are you there?", PING))
        await line.send(frame(b"", 0, fin=False))
        await line.send(frame(b"unasked", PONG))
        await line.send(frame(body[10:], 0))
        assert await line.frame() == (PONG, b"are you there?")
        answer = await line.told()
        assert isinstance(answer, ResultFrame) and answer.receipt is not None


async def test_frames_may_come_byte_by_byte_or_all_at_once(alice: Phone) -> None:
    room = await alice.create_room()
    async with raw_session(alice) as line:
        assert isinstance(await line.told(), Ready)
        for byte in submit(1, alice.message(room)):
            await line.send(bytes((byte,)))
        many = [submit(n, alice.message(room)) for n in range(2, 150)]
        large = submit(150, alice.message(room, os.urandom(50_000)))
        await line.send(b"".join(many) + large)
        found: list[tuple[int, int | None]] = []
        while len(found) < 150:
            answer = await line.told()
            assert isinstance(answer, ResultFrame) and answer.receipt is not None
            found.append((answer.id, answer.receipt.seq))
        assert found == [(n, n + 1) for n in range(1, 151)]


@pytest.mark.parametrize("count", [1, 400])
async def test_frames_right_behind_the_upgrade_are_taken(
    alice: Phone, count: int
) -> None:
    """They come before the node has even looked at the signature."""
    room = await alice.create_room()
    sent = [submit(n, alice.message(room, bytes(500))) for n in range(count)]
    cut = len(sent[-1]) // 2
    whole = b"".join(sent)
    async with raw_session(alice, behind=whole[:-cut]) as line:
        assert isinstance(await line.told(), Ready)
        await line.send(whole[-cut:])
        for number in range(count):
            answer = await line.told()
            assert isinstance(answer, ResultFrame) and answer.receipt is not None
            assert (answer.id, answer.receipt.seq) == (number, number + 2)


# --- what is refused ---------------------------------------------------------------

BREACHES: dict[str, tuple[bytes, int]] = {
    "not masked": (frame(b"\x80", mask=False), 1002),
    "a ping that is not masked": (frame(b"", PING, mask=False), 1002),
    "reserved bit 1": (frame(b"\x80", rsv=4), 1002),
    "reserved bit 2": (frame(b"\x80", rsv=2), 1002),
    "reserved bit 3": (frame(b"\x80", rsv=1), 1002),
    "opcode 3": (frame(b"\x80", 3), 1002),
    "opcode 11": (frame(b"\x80", 11), 1002),
    "a ping in fragments": (frame(b"", PING, fin=False), 1002),
    "a long ping": (frame(bytes(126), PING), 1002),
    "a continuation of nothing": (frame(b"\x80", 0), 1002),
    "a message within another": (frame(b"a", fin=False) + frame(b"b"), 1002),
    "a fragment of another": (frame(b"a", fin=False) + frame(b"b", fin=False), 1002),
    "half a close code": (frame(b"\3", CLOSE), 1002),
    "close code 999": (frame((999).to_bytes(2), CLOSE), 1002),
    "close code 1005": (frame((1005).to_bytes(2), CLOSE), 1002),
    "close code 1006": (frame((1006).to_bytes(2), CLOSE), 1002),
    "close code 5000": (frame((5000).to_bytes(2), CLOSE), 1002),
    "text that is not UTF-8": (frame(b"\xff\xfe", TEXT), 1007),
    "a reason that is not UTF-8": (frame(b"\x03\xe8\xff", CLOSE), 1007),
    "more than two MiB": (b"\x82\xff" + (2 * MIB + 1).to_bytes(8) + b"mask", 1009),
    "all there is": (b"\x82\xff" + b"\xff" * 8 + b"mask", 1009),
    "many fragments": (
        frame(bytes(MIB), fin=False) + frame(bytes(MIB + 1), 0, fin=False),
        1009,
    ),
}


async def test_what_breaks_the_protocol_ends_the_connection(
    node: Node, alice: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "CLOSE_TIMEOUT", 0.1)
    for name, (data, code) in BREACHES.items():
        async with raw_session(alice) as line:
            assert isinstance(await line.told(), Ready)
            # What follows has no meaning, and is not answered.
            await line.send(data + frame(b"\x80"))
            assert await line.closed() == code, name
    await gone(node)


async def test_a_close_is_answered_with_its_code(node: Node, alice: Phone) -> None:
    room = await alice.create_room()
    for code in (None, 1000, 1001, 3000, 4999):
        async with raw_session(alice) as line:
            assert isinstance(await line.told(), Ready)
            data = b"" if code is None else code.to_bytes(2) + b"good-bye"
            await line.send(frame(data, CLOSE) + submit(1, alice.message(room)))
            assert await line.closed() == (code or 1000)
    await gone(node)
    assert (await alice.submit(alice.message(room))).seq == 2


NO_UPGRADES: list[tuple[str, dict[str, str | None]]] = [
    ("GET", {"Sec_WebSocket_Version": "12"}),
    ("GET", {"Sec_WebSocket_Version": None}),
    ("GET", {"Sec_WebSocket_Key": None}),
    ("GET", {"Sec_WebSocket_Key": "c2hvcnQ="}),
    ("GET", {"Sec_WebSocket_Key": "?" * 24}),
    ("GET", {"Connection": "keep-alive"}),
    ("GET", {"Upgrade": "h2c"}),
    ("GET", {"Upgrade": None, "Connection": None}),
    ("POST", {}),
    ("HEAD", {}),
]


async def test_what_is_no_upgrade_is_refused(node: Node, alice: Phone) -> None:
    for method, changes in NO_UPGRADES:
        async with plain(alice) as line:
            await line.send(upgrade(alice, method, **changes))
            status, head = await line.head()
            assert status == 400, (method, changes, head)
            assert "application/problem+json" in head
    await gone(node)


# --- how it ends -------------------------------------------------------------------


async def test_a_connection_lost_while_its_session_loads_leaves_nothing(
    node: Node,
    alice: Phone,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    room = await alice.create_room()
    async with alice.session() as first:
        await first.ack(**{room.id: 0})
        await first.entries(room.id, 1)
    reading, go = threading.Event(), threading.Event()
    load = load_readings

    def wait(connection: Connection, device: Device) -> Any:
        reading.set()
        go.wait(10)
        return load(connection, device)

    monkeypatch.setattr(delivery, "load_readings", wait)
    async with raw_session(alice) as line:
        await asyncio.to_thread(reading.wait, 10)
        line.close()
        await gone(node)
        go.set()
    monkeypatch.undo()
    await until(lambda: not node.delivery._loading)
    await gone(node)
    async with alice.session() as line_again:
        await line_again.entries(room.id, 1)
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


async def test_a_node_stops_though_a_device_does_not_close(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "CLOSE_TIMEOUT", 0.2)
    monkeypatch.setattr("node.api.socket.CLOSE_TIMEOUT", 0.2)
    node = make_node(make_settings(tmp_path))
    await node.start()
    async with phone(node, "alice") as alice:
        await alice.register()
        async with raw_session(alice) as line:
            assert isinstance(await line.told(), Ready)
            async with asyncio.timeout(5):
                await node.stop()
            told = await line.told()
            assert isinstance(told, ProblemFrame)
            assert told.problem.code == "node_busy"
            assert await line.closed() == 1001
    await gone(node)


# --- anything at all ---------------------------------------------------------------

PIECES = st.one_of(
    st.binary(max_size=40),
    st.builds(
        frame,
        st.binary(max_size=200),
        st.integers(0, 15),
        fin=st.booleans(),
        mask=st.sampled_from([True, True, True, False]),
        rsv=st.sampled_from([0, 0, 0, 1, 4]),
    ),
    st.builds(frame, st.binary(max_size=60), st.sampled_from([TEXT, BINARY])),
    st.just(frame(encode(AckFrame({LogId("a" * 52): 1})))),
    st.just(frame(encode_json(AckFrame({LogId("a" * 52): 1})), TEXT)),
    st.just(frame(bytes(300))),
    st.just(frame(b"", PING)),
)


class Wire:
    """Where a WebSocket writes to in these tests, and who listens to it."""

    def __init__(self, stops: list[bool]) -> None:
        self.stops = stops
        self.got: list[tuple[bytes, bool]] = []
        self.sent: list[bytes] = []
        self.reading = True
        self.socket = WebSocket(self, 0.0)  # type: ignore[arg-type]
        self.socket.listen(self)

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def abort(self) -> None:
        pass

    close = drained = lost = abort

    def received(self, data: bytes, text: bool) -> bool:
        self.got.append((data, text))
        return not (self.stops and self.stops.pop())

    def passed(self) -> bool:
        return True


@pytest.mark.fuzz
@fuzzing
@given(st.lists(PIECES, max_size=12), st.lists(st.integers(1, 50)), st.data())
async def test_messages_are_the_same_however_they_come(
    pieces: list[bytes], cuts: list[int], data: st.DataObject
) -> None:
    """Cut anywhere, and held up anywhere, it is what the whole would have been."""
    whole = b"".join(pieces)
    wires = [Wire([]), Wire(data.draw(st.lists(st.booleans(), max_size=20)))]
    wires[0].socket.data_received(whole)
    start = 0
    for cut in [*cuts, len(whole)]:
        wires[1].socket.data_received(whole[start : start + cut])
        start += cut
        while not wires[1].reading:
            wires[1].socket.go_on()
    await asyncio.sleep(0)
    for wire in wires:
        assert wire.reading
        closes = [each for each in wire.sent if each[0] == 0x88]
        assert len(closes) <= 1 and (not closes or wire.sent[-1] == closes[0])
    short, long = sorted((wires[0].got, wires[1].got), key=len)
    assert long[: len(short)] == short
    codes = [[each for each in wire.sent if each[0] == 0x88] for wire in wires]
    assert codes[0] == codes[1]
    if not codes[0]:  # else some may have been taken before the breach was seen
        assert wires[0].got == wires[1].got and wires[0].sent == wires[1].sent


@pytest.mark.fuzz
async def test_whatever_comes_no_session_is_left_behind(
    node: Node,
    alice: Phone,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(websocket, "CLOSE_TIMEOUT", 0.05)
    examples: list[bytes] = []

    @fuzzing
    @given(st.lists(PIECES, max_size=12))
    def collect(pieces: list[bytes]) -> None:
        examples.append(b"".join(pieces))

    collect()
    for data in examples[-60:]:
        with suppress(ConnectionError):
            async with raw_session(alice) as line:
                await line.send(data)
                assert isinstance(await line.told(), Ready)
    await gone(node)
    room = await alice.create_room()
    async with alice.session() as proper:
        assert (await proper.submit(alice.message(room))).seq == 2
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


async def test_pings_without_end_are_read_no_faster_than_frames(
    node: Node, alice: Phone
) -> None:
    """They cost as much as other frames, and are counted with them."""
    room = await alice.create_room()
    async with raw_session(alice) as line:
        assert isinstance(await line.told(), Ready)
        (talk,) = node._sockets._talks
        node._sockets.frame_rate = 1000.0
        started = time.monotonic()
        await line.send(frame(b"", PING) * 3000 + submit(1, alice.message(room)))
        pongs = 0
        while (await line.frame())[0] == PONG:
            pongs += 1
        assert pongs == 3000
        # 1,000 at once, 2,000 at 1,000 a second, less what one round lets through.
        assert time.monotonic() - started > 1
        assert talk.socket._reader.waiting == 0
        await until(lambda: not talk.socket.paused)


async def test_frames_that_come_too_fast_are_all_taken_at_the_rate(
    node: Node, alice: Phone
) -> None:
    room = await alice.create_room()
    async with raw_session(alice) as line:
        assert isinstance(await line.told(), Ready)
        node._sockets.frame_rate = 1000.0
        bad = frame(b"\xc1")
        await line.send(bad * 1500 + submit(1, alice.message(room)))
        problems = 0
        async with asyncio.timeout(10):
            while isinstance(await line.told(), ProblemFrame):
                problems += 1
        assert problems == 1500


async def test_entries_and_answers_share_a_text_line(alice: Phone) -> None:
    room = await alice.create_room()
    async with raw_session(alice) as line:
        assert isinstance(await line.told(), Ready)
        await line.send(frame(encode_json(AckFrame({room.id: 0})), TEXT))
        kind, data = await line.frame()
        assert kind == TEXT and b'"entries"' in data
        await line.send(frame(encode(AckFrame({room.id: 1}))))
        await alice.submit(alice.message(room))
        assert isinstance(await line.told(), Entries)
