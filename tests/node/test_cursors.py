"""Acks: gathered, written late and seldom, and never lost but by a crash."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from node.app import Node
from node.sessions import cursor
from node.sessions.cursor import Cursors
from node.storage.store import Store
from protocol.codec import encode
from protocol.errors import Refused, StorageFailed
from protocol.log import LogId, read_entry
from protocol.wire import AckFrame, Entries, ProblemFrame, Ready
from tests.node.phone import Phone, Room, Socket, phone
from tests.node.process import Process
from tests.node.raw import ack, held, raw_session, until
from tests.node.server import make_node, make_settings


class Writes:
    """What is written of cursors: how often, and what."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runs: list[list[tuple[str, LogId, int]]] = []
        self.failing: Refused | None = None
        real = Cursors.write

        def write(one: Cursors, transaction: Any, items: Any) -> Any:
            if self.failing is not None:
                raise self.failing
            for _, cursors in items:
                self.runs.append([(*key, seq) for key, seq in cursors.items()])
            return real(one, transaction, items)

        monkeypatch.setattr(Cursors, "write", write)


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Writes:
    return Writes(monkeypatch)


async def stored(store: Store, device: str, log: LogId) -> int | None:
    """The device's cursor as it is on disk."""
    found: int | None = await store.read(
        lambda c: c.exec_driver_sql(
            "SELECT seq FROM cursor WHERE reader = ? AND log = ?", (device, log)
        ).scalar()
    )
    return found


async def until_stored(node: Node, device: Phone, log: LogId, seq: int) -> None:
    async with asyncio.timeout(10):
        while (await stored(node.store, device.address, log)) != seq:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def filled(device: Phone, count: int) -> Room:
    """A room with so many entries."""
    room = await device.create_room()
    for _ in range(count - 1):
        await device.submit(device.message(room))
    return room


@asynccontextmanager
async def read_through(device: Phone, room: Room, count: int) -> AsyncIterator[Socket]:
    """A session that has read all of a room and acked none of it."""
    async with device.session() as line:
        await line.ack(**{room.id: 0})
        await line.entries(room.id, count)
        yield line


async def test_many_acks_are_few_writes(
    node: Node, alice: Phone, writes: Writes
) -> None:
    room = await filled(alice, 60)
    async with read_through(alice, room, 60) as line:
        for seq in range(1, 61):
            await line.ack(**{room.id: seq})
        await until_stored(node, alice, room.id, 60)
    # What came within one delay was one row.
    assert 1 <= len(writes.runs) <= 5
    for run in writes.runs:
        assert len(run) == 1
    assert [run[0][2] for run in writes.runs][-1] == 60


async def test_acks_of_many_logs_and_devices_are_one_write(
    node: Node,
    alice: Phone,
    bob: Phone,
    writes: Writes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cursor, "DELAY", 0.3)
    rooms = [await filled(each, 3) for each in (alice, alice, bob)]
    async with alice.session() as one, bob.session() as two:
        for line, room in ((one, rooms[0]), (one, rooms[1]), (two, rooms[2])):
            await line.ack(**{room.id: 0})
            await line.entries(room.id, 3)
        for seq in (1, 2, 3):
            await one.ack(**{rooms[0].id: seq, rooms[1].id: seq})
            await two.ack(**{rooms[2].id: seq})
        for device, room in ((alice, rooms[0]), (alice, rooms[1]), (bob, rooms[2])):
            await until_stored(node, device, room.id, 3)
    assert len(writes.runs) <= 2
    assert {(device, log) for device, log, _ in writes.runs[-1]} <= {
        (alice.address, rooms[0].id),
        (alice.address, rooms[1].id),
        (bob.address, rooms[2].id),
    }


async def test_who_comes_back_at_once_sees_its_own_acks(
    node: Node, alice: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cursor, "DELAY", 60.0)
    room = await filled(alice, 6)
    async with read_through(alice, room, 6) as line:
        await line.ack(**{room.id: 4})
        await line.submit(alice.message(room))  # the ack came before it
    async with alice.session() as line:
        found = [read_entry(e).seq for e in await line.entries(room.id, 3)]
    assert found == [5, 6, 7]
    assert await stored(node.store, alice.address, room.id) == 0


async def test_a_graceful_stop_writes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cursor, "DELAY", 60.0)
    monkeypatch.setattr("node.api.socket.CLOSE_TIMEOUT", 0.1)
    chosen = make_settings(tmp_path)
    node = make_node(chosen)
    await node.start()
    async with phone(node, "alice") as alice:
        await alice.register()
        room = await filled(alice, 6)
        async with read_through(alice, room, 6) as line:
            await line.ack(**{room.id: 4})
            await line.submit(alice.message(room))
            await node.stop()
        node = make_node(chosen)
        await node.start()
        try:
            assert await stored(node.store, alice.address, room.id) == 4
            async with alice.session() as line:
                found = [read_entry(e).seq for e in await line.entries(room.id, 3)]
            assert found == [5, 6, 7]
        finally:
            await node.stop()


async def test_a_stop_while_others_are_written_writes_them_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cursor, "DELAY", 0.01)
    monkeypatch.setattr("node.api.socket.CLOSE_TIMEOUT", 0.1)
    chosen = make_settings(tmp_path)
    node = make_node(chosen)
    await node.start()
    async with phone(node, "alice") as alice:
        await alice.register()
        room = await filled(alice, 6)
        async with read_through(alice, room, 6) as line:
            async with held(node.store):
                await line.ack(**{room.id: 2})
                await until(lambda: node.delivery._cursors._writing)
                await line.ack(**{room.id: 5})
                await until(lambda: node.delivery._cursors._pending)
                stopping = asyncio.create_task(node.stop())
                await until(lambda: not node.delivery._cursors._pending)
            await stopping
        node = make_node(chosen)
        await node.start()
        try:
            assert await stored(node.store, alice.address, room.id) == 5
        finally:
            await node.stop()


async def test_what_storage_refuses_is_kept_for_later(
    node: Node, alice: Phone, writes: Writes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cursor, "DELAY", 0.01)
    monkeypatch.setattr(cursor, "RETRY", 0.05)
    room = await filled(alice, 6)
    tried = 0
    again = Cursors._again

    def count(one: Cursors, store: Store, error: Refused) -> None:
        nonlocal tried
        tried += 1
        again(one, store, error)

    monkeypatch.setattr(Cursors, "_again", count)
    async with read_through(alice, room, 6) as line:
        writes.failing = StorageFailed()
        await line.ack(**{room.id: 2})
        await until(lambda: tried >= 2)
        await line.ack(**{room.id: 5})  # while what came before waits
        await until(lambda: tried >= 4)
        assert await stored(node.store, alice.address, room.id) == 0
        writes.failing = None
        await until_stored(node, alice, room.id, 5)
    # The older never came after the newer, and nothing goes on for ever.
    assert [run[0][2] for run in writes.runs] == [5]
    assert not node.delivery._cursors._pending
    assert not node.delivery._cursors._writing


async def test_what_waits_is_bounded(
    node: Node, alice: Phone, writes: Writes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound nothing new waits, but what waits still moves on."""
    monkeypatch.setattr(cursor, "PENDING_MAX", 1)
    monkeypatch.setattr(cursor, "DELAY", 0.3)
    first, second = await filled(alice, 3), await filled(alice, 3)
    async with alice.session() as line:
        for room in (first, second):
            await line.ack(**{room.id: 0})
            await line.entries(room.id, 3)
        await line.ack(**{first.id: 1})
        await line.ack(**{second.id: 3})
        await line.ack(**{first.id: 3})
        await until_stored(node, alice, first.id, 3)
        assert await stored(node.store, alice.address, second.id) == 0
    async with alice.session() as line:
        assert len(await line.entries(second.id, 3)) == 3


async def test_acks_that_cannot_be_are_answered_and_change_nothing(
    node: Node, alice: Phone, bob: Phone
) -> None:
    room, others = await filled(alice, 3), await filled(bob, 2)
    async with read_through(alice, room, 3) as line:
        for log, seq, code in (
            (room.id, 4, "bad_request"),
            (room.id, 1 << 40, "bad_request"),
            (room.id, -1, "bad_request"),
            (others.id, 1, "unknown_room"),
            (LogId("a" * 52), 0, "unknown_room"),
            (bob.mailbox, 0, "unknown_room"),
        ):
            await line.connection.send_bytes(encode(AckFrame({log: seq})))
            refused = await line.receive()
            assert isinstance(refused, ProblemFrame), (log, seq)
            assert refused.problem.code == code, (log, seq)
        # One that holds a good one and a bad one: the good one was a step forward.
        frame = AckFrame({room.id: 2, others.id: 1})
        await line.connection.send_bytes(encode(frame))
        assert isinstance(await line.receive(), ProblemFrame)
        await line.ack(**{room.id: 1})  # a step back is none
        await line.submit(alice.message(room))
        await until_stored(node, alice, room.id, 2)
    async with alice.session() as line:
        found = [read_entry(e).seq for e in await line.entries(room.id, 2)]
    assert found == [3, 4]


async def test_an_ack_of_a_million_logs_holds_up_nobody(
    node: Node, alice: Phone
) -> None:
    room = await filled(alice, 2)
    names = {f"{number:052d}": 1 for number in range(30_000)}
    async with read_through(alice, room, 2) as line:
        await line.connection.send_bytes(encode({"t": "ack", "cursors": names}))
        refused = await line.receive()
        assert isinstance(refused, ProblemFrame)
        assert refused.problem.code == "bad_request"
        assert (await line.submit(alice.message(room))).seq == 3


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    found = Process(tmp_path)
    found.init()
    text = found.config.read_text()
    found.config.write_text(
        text.replace('registration = "invite"', 'registration = "open"')
    )
    found.start()
    yield found
    if found.running is not None:
        found.running.kill()
        found.running.communicate()


@pytest.mark.system
async def test_a_crash_redelivers_at_most(process: Process) -> None:
    """Killed right behind an ack: what was acked may come again, no gap is left."""
    async with process.phone("alice") as alice:
        await alice.register()
        room = await filled(alice, 20)
        have = 0
        for _ in range(2):
            async with raw_session(alice) as line:
                assert isinstance(await line.told(), Ready)
                for seq in range(have, 11 + have // 2):
                    await line.send(ack(room.id, seq))
                    have = seq
                process.end(signal.SIGKILL)
            await asyncio.to_thread(process.start)
            async with alice.session() as again:
                frames = [read_entry(e).seq for e in await first(again, room)]
                assert frames[0] <= have + 1
                assert frames == list(range(frames[0], 21))


async def first(line: Socket, room: Room) -> list[bytes]:
    """All that the room has for a device, up to its head."""
    await line.ack(**{room.id: 0})
    found: list[bytes] = []
    while not found or read_entry(found[-1]).seq != 20:
        frame = await line.receive()
        assert isinstance(frame, Entries)
        found += frame.entries
    return found
