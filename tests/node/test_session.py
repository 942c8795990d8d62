"""Sessions: reading from a cursor, the window, resuming, malformed frames, the end."""

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from node.app import Node
from protocol.codec import encode, encode_json
from protocol.errors import SessionReplaced
from protocol.limits import WINDOW_BYTES
from protocol.log import LogId, read_entry
from protocol.wire import (
    AckFrame,
    Entries,
    ProblemFrame,
    ResultFrame,
    SubmitFrame,
)
from tests.node.phone import Phone, Room, mail, phone
from tests.node.server import make_node, make_settings, running


async def fill(device: Phone, room: Room, count: int, size: int = 10) -> None:
    for number in range(count):
        await device.submit(device.message(room, bytes([number]) * size))


async def seqs(device: Phone, room: Room, count: int) -> list[int]:
    """What a new session reads."""
    async with device.session() as line:
        return [read_entry(e).seq for e in await line.entries(room.id, count)]


async def test_a_session_resumes_where_it_acked(alice: Phone) -> None:
    room = await alice.create_room()
    await fill(alice, room, 4)
    async with alice.session() as line:
        await line.ack(**{room.id: 0})
        assert len(await line.entries(room.id, 5)) == 5
        await line.ack(**{room.id: 3})
        await line.submit(alice.message(room))
    assert await seqs(alice, room, 3) == [4, 5, 6]
    # Nothing was acked: the same comes again. A cursor never goes back.
    async with alice.session() as line:
        await line.ack(**{room.id: 1})
        assert len(await line.entries(room.id, 3)) == 3
    assert await seqs(alice, room, 3) == [4, 5, 6]


async def test_entries_come_in_order_while_others_write(
    alice: Phone, bob: Phone
) -> None:
    room = await alice.create_room()
    async with alice.session() as line:
        await line.ack(**{room.id: 0})
        writing = asyncio.gather(
            *(alice.submit(alice.message(room)) for _ in range(60))
        )
        entries = await line.entries(room.id, 61)
        await writing
    assert [read_entry(entry).seq for entry in entries] == list(range(1, 62))


async def test_submissions_of_a_session_keep_their_order(alice: Phone) -> None:
    room = await alice.create_room()
    texts = [alice.message(room) for _ in range(100)]
    async with alice.session() as line:
        for number, data in enumerate(texts):
            await line.connection.send_bytes(encode(SubmitFrame(number, data)))
        found: dict[int, int | None] = {}
        while len(found) < len(texts):
            frame = await line.receive()
            assert isinstance(frame, ResultFrame) and frame.receipt is not None
            found[frame.id] = frame.receipt.seq
    assert [found[number] for number in range(100)] == list(range(2, 102))


async def test_no_more_is_sent_than_the_window_holds(alice: Phone) -> None:
    room = await alice.create_room()
    await fill(alice, room, 8, size=60_000)
    async with alice.session() as line:
        await line.ack(**{room.id: 0})
        size, last = 0, 0
        with pytest.raises(TimeoutError):
            while True:
                frame = await line.receive(seconds=0.4)
                assert isinstance(frame, Entries)
                size += sum(map(len, frame.entries))
                last = frame.after + len(frame.entries)
        assert 0 < size <= WINDOW_BYTES
        assert last < 9
        await line.ack(**{room.id: last})
        rest = await line.entries(room.id, 9 - last)
        assert read_entry(rest[-1]).seq == 9


BAD_FRAMES: list[bytes] = [
    b"",
    b"\xc1",
    b"\x00",
    encode({"t": "nothing"}),
    encode({"t": "submit"}),
    encode({"t": "submit", "id": "x", "submission": b""}),
    encode({"t": "ack", "cursors": {"a": -1}}),
    encode({"t": "ack", "cursors": {"a" * 52: 0}}),
    encode({"t": "ack", "cursors": [1]}),
    b"\xdd\xff\xff\xff\xff",
    b"\x91" * 10_000,
    os.urandom(64),
]


async def test_malformed_frames_are_answered_and_change_nothing(alice: Phone) -> None:
    room = await alice.create_room()
    async with alice.session() as line:
        for data in BAD_FRAMES:
            await line.connection.send_bytes(data)
            frame = await line.receive()
            assert isinstance(frame, ProblemFrame), data
            assert frame.problem.code in ("bad_request", "unknown_room"), data
        await line.ack(**{room.id: 99})
        refused = await line.receive()
        assert isinstance(refused, ProblemFrame)
        for submission in (b"", b"\x90", alice.message(room)[:-1], b"\xc1"):
            await line.connection.send_bytes(encode(SubmitFrame(7, submission)))
            answer = await line.receive()
            assert isinstance(answer, ResultFrame) and answer.problem is not None
            assert (answer.id, answer.problem.code) == (7, "bad_request")
        extra = {"t": "ack", "cursors": {room.id: 0}, "later": [1, 2]}
        await line.connection.send_bytes(encode(extra))
        assert len(await line.entries(room.id, 1)) == 1


async def test_json_frames_are_answered_in_json(alice: Phone) -> None:
    room = await alice.create_room()
    async with alice.session() as line:
        frame = encode_json(SubmitFrame(3, alice.message(room))).decode()
        await line.connection.send_str(frame)
        answer = await line.connection.receive_json(timeout=5)
        assert (answer["t"], answer["id"]) == ("result", 3)
        assert answer["receipt"]["state"] == "committed"
        await line.connection.send_str("{")
        assert (await line.connection.receive_json(timeout=5))["t"] == "problem"


async def test_an_oversize_frame_ends_only_its_connection(alice: Phone) -> None:
    room = await alice.create_room()
    async with alice.session() as line:
        await line.connection.send_bytes(bytes(2 * 1024 * 1024 + 1))
        end = await line.connection.receive(timeout=5)
        assert end.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
        assert line.connection.close_code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
    assert (await alice.submit(alice.message(room))).seq == 2


async def test_a_new_session_replaces_the_old(alice: Phone) -> None:
    async with alice.session() as first, alice.session():
        frame = await first.receive()
        assert isinstance(frame, ProblemFrame)
        assert frame.problem.code == SessionReplaced.code


async def test_a_device_that_writes_too_much_is_slowed(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    limits = replace(settings.limits, events_per_second=0.1, events_burst=3)
    async with (
        running(replace(settings, limits=limits)) as node,
        phone(node, "alice") as alice,
    ):
        await alice.register()
        room = await alice.create_room()
        async with alice.session() as line:
            await line.submit(alice.message(room))
            await line.submit(alice.message(room))
            frame = SubmitFrame(9, alice.message(room))
            await line.connection.send_bytes(encode(frame))
            answer = await line.receive()
            assert isinstance(answer, ResultFrame) and answer.problem is not None
            assert answer.problem.code == "too_many"
            assert answer.problem.retry_after == 10


async def test_a_stopping_node_says_so(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    node = make_node(settings)
    await node.start()
    async with phone(node, "alice") as alice:
        await alice.register()
        async with alice.session() as line:
            stopping = asyncio.create_task(node.stop())
            frame = await line.receive()
            assert isinstance(frame, ProblemFrame)
            assert frame.problem.code == "node_busy"
            closed = await line.connection.receive()
            assert closed.type is aiohttp.WSMsgType.CLOSE
            await stopping


async def test_acks_of_others_logs_are_refused(alice: Phone, bob: Phone) -> None:
    room = await alice.create_room()
    async with bob.session() as line:
        for log in (room.id, alice.mailbox, LogId("a" * 52)):
            await line.connection.send_bytes(encode(AckFrame({log: 0})))
            frame = await line.receive()
            assert isinstance(frame, ProblemFrame)
            assert frame.problem.code == "unknown_room"


async def test_what_is_said_after_a_removal_does_not_go_to_who_was_removed(
    node: Node, alice: Phone, bob: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor while the session finds out, however long its look at the database takes."""
    room = await alice.create_room()
    await alice.add(room, bob.account)
    async with bob.session() as line:
        await bob.join(mail((await line.entries(bob.mailbox, 1))[-1]))
        await line.ack(**{room.id: 2})
        looking, look = asyncio.Event(), asyncio.Event()
        read = node.store.read

        async def slow(query: Any) -> Any:
            if "_load" in query.__qualname__:
                looking.set()
                await look.wait()
            return await read(query)

        await alice.submit(alice.message(room, b"for both"))
        assert len(await line.entries(room.id, 1)) == 1
        monkeypatch.setattr(node.store, "read", slow)
        data, bundle, _ = alice.commit(room, remove=[bob.address])
        removal = (await alice.submit(data, bundle)).seq
        await looking.wait()
        # She has not applied her commit yet: this is of the epoch before.
        await alice.submit(alice.message(room, b"not for bob"))
        look.set()
        await alice.submit(alice.message(room, b"nor this"))
        entries = await line.entries(room.id, 1)
        with pytest.raises(TimeoutError):
            while True:
                frame = await line.receive(seconds=0.3)
                assert not isinstance(frame, Entries) or frame.log != room.id
        assert [read_entry(entry).seq for entry in entries][-1] == removal
