"""Backpressure: what nobody reads, what comes too fast, and too many at once."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from node.api import socket as socket_module
from node.api.patience import Patience
from node.api.websocket import BUFFER_MAX
from node.app import Node
from node.rooms.incoming import Incoming
from node.sessions.session import Session
from protocol.codec import decode_json
from protocol.errors import Problem
from protocol.limits import WINDOW_BYTES
from protocol.log import read_entry
from protocol.wire import Entries, Ready, Receipt, ResultFrame, Submit
from tests.node.phone import Phone, Room, phone
from tests.node.process import check_log
from tests.node.raw import (
    ack,
    frame,
    gone,
    plain,
    raw_session,
    submit,
    until,
    upgrade,
)
from tests.node.server import make_node, make_settings
from tests.node.test_appending import meet, put

SMALL = 4096
"""Of a receive buffer: the kernel doubles it."""

FRAMING = 4 * 1024
"""Bytes of frames' heads and answers around a window of entries."""


def session_of(node: Node, device: Phone) -> Session:
    return node.delivery._sessions[device.address]


def waiting_for(node: Node, device: Phone) -> int:
    """Bytes that the node holds for a device's socket."""
    (talk,) = (
        t for t in node._sockets._talks if t.session.device.address == device.address
    )
    transport = talk.socket._transport
    return 0 if transport is None else transport.get_write_buffer_size()


@asynccontextmanager
async def impatient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **seconds: float
) -> AsyncIterator[Node]:
    """A node that looks often, and waits for less."""
    monkeypatch.setattr(socket_module, "LOOK", 0.05)
    for name, value in seconds.items():
        monkeypatch.setattr(socket_module, name, value)
    node = make_node(make_settings(tmp_path))
    await node.start()
    try:
        yield node
    finally:
        await node.stop()


# --- who does not read -------------------------------------------------------------


async def test_a_reader_that_stops_costs_a_window_and_slows_nobody(
    node: Node, alice: Phone, bob: Phone
) -> None:
    """Twenty megabytes for a room in which one reads nothing, and then all."""
    room, _ = await meet(alice, bob)
    datas = [alice.message(room, os.urandom(60_000)) for _ in range(340)]
    async with (
        raw_session(bob, buffer=SMALL) as stuck,
        alice.session() as line,
    ):
        await stuck.send(ack(room.id, 2))
        await line.ack(**{room.id: 2})
        await until(lambda: room.id in session_of(node, bob)._readings)
        most, have = 0, 2
        for start in range(0, len(datas), 20):
            await put(node.submissions, datas[start : start + 20])
            while have < start + 20 + 2:  # at once, whoever else does not read
                told = await line.receive()
                assert isinstance(told, Entries) and told.after == have
                have += len(told.entries)
                await line.ack(**{room.id: have})
            session = session_of(node, bob)
            assert 0 < session._unacked <= WINDOW_BYTES
            # What was read for it and does not go yet is one entry at most.
            assert session._fetched is None or len(session._fetched.frame.entries) == 1
            most = max(most, waiting_for(node, bob))
        # What the kernel took in is not the node's.
        assert most <= WINDOW_BYTES + FRAMING
        assert len(session._turns) <= 1 and len(session._answers) <= 1
        # It reads again: nothing is missing, and all is in order.
        found: list[bytes] = []
        while len(found) < len(datas):
            told = await stuck.told()
            if isinstance(told, Entries) and told.log == room.id:
                found += [read_entry(e).submission for e in told.entries]
                await stuck.send(ack(room.id, 2 + len(found)))
        assert found == datas


async def test_who_does_not_read_answers_is_not_read_and_then_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        impatient(tmp_path, monkeypatch, SEND_TIMEOUT=3.0) as node,
        phone(node, "alice") as alice,
    ):
        await alice.register()
        node._sockets.frame_rate = 50_000.0
        async with raw_session(alice, buffer=SMALL) as line:
            (talk,) = node._sockets._talks
            bad, sent, most = frame(b"\xc1") * 1000, 0, 0
            with suppress(TimeoutError, ConnectionError):
                while True:
                    async with asyncio.timeout(1):
                        await line.send(bad)
                    sent += len(bad)
                    most = max(most, waiting_for(node, alice))
            # Neither what waits to be read nor what waits to be sent grows.
            assert talk.socket.paused and not talk.socket.ready
            assert talk.socket._reader.waiting <= 512 * 1024
            assert most <= BUFFER_MAX + 64 * 1024
            await gone(node)


async def test_who_reads_slowly_is_not_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held up by the node itself, for longer than the node waits for the silent."""
    async with (
        impatient(tmp_path, monkeypatch, HEARTBEAT=0.2) as node,
        phone(node, "alice") as alice,
    ):
        await alice.register()
        room = await alice.create_room()
        node._sockets.frame_rate = 400.0
        async with raw_session(alice) as line:
            assert isinstance(await line.told(), Ready)
            await line.send(frame(b"\xc1") * 1400 + submit(1, alice.message(room)))
            problems = 0
            while (await line.frame())[1].find(b"problem") >= 0 and problems < 1400:
                problems += 1
            assert problems >= 1399


async def test_an_answer_that_nobody_reads_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages over HTTP, asked for without end and never read."""
    node = make_node(make_settings(tmp_path))
    node._patience = Patience(every=0.05, unread=0.5)
    await node.start()
    try:
        async with phone(node, "alice") as alice:
            await alice.register()
            room = await alice.create_room()
            datas = [alice.message(room, os.urandom(60_000)) for _ in range(40)]
            await put(node.submissions, datas)
            server = node._runner.server if node._runner else None
            assert server is not None
            # More than the kernel takes: it is the node that would hold the rest.
            async with plain(alice, buffer=SMALL) as line:
                await line.send(b"".join(page(alice, room) for _ in range(16)))
                await until(lambda: node._patience._stuck)
                (held,) = node._patience._stuck
                await until(lambda: held not in server.connections)
            # Who reads, however slowly, gets it all.
            async with plain(alice, buffer=SMALL) as line:
                await line.send(b"".join(page(alice, room) for _ in range(8)))
                started = time.monotonic()
                for _ in range(8):
                    status, found = await line.head()
                    assert status == 200
                    size = found.lower().partition("content-length: ")[2].split()[0]
                    assert int(size) > 900_000
                    await line.take(int(size))
                    await asyncio.sleep(0.15)
                assert time.monotonic() - started > 1.0
    finally:
        await node.stop()


def page(device: Phone, room: Room) -> bytes:
    """A request for a megabyte of a room."""
    path = f"/telex/v1/logs/{room.id}/entries"
    headers = device.headers("GET", path, "after=1")
    lines = [f"GET {path}?after=1 HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


# --- who asks for too much ---------------------------------------------------------


@asynccontextmanager
async def strict(tmp_path: Path) -> AsyncIterator[Node]:
    """A node that takes little of each device."""
    chosen = make_settings(tmp_path)
    limits = replace(
        chosen.limits,
        events_per_second=20.0,
        events_burst=50,
        requests_per_second=1.0,
        requests_burst=20,
    )
    node = make_node(replace(chosen, limits=limits))
    await node.start()
    try:
        yield node
    finally:
        await node.stop()


async def test_a_flood_of_messages_is_refused_and_loses_none_that_was_acked(
    tmp_path: Path,
) -> None:
    async with strict(tmp_path) as node, phone(node, "alice") as alice:
        await alice.register()
        room = await alice.create_room()
        datas = [alice.message(room) for _ in range(600)]
        flood = b"".join(submit(n, data) for n, data in enumerate(datas))
        acked: dict[bytes, tuple[int | None, bytes | None]] = {}
        refused = 0
        async with raw_session(alice) as line:
            assert isinstance(await line.told(), Ready)
            sending = asyncio.create_task(line.send(flood))
            for _ in datas:
                told = await line.told()
                assert isinstance(told, ResultFrame)
                if told.problem is not None:
                    assert told.problem.code == "too_many"
                    assert (told.problem.retry_after or 0) >= 1
                    refused += 1
                elif told.receipt is not None:
                    place = (told.receipt.seq, told.receipt.hash)
                    acked[datas[told.id]] = place
            await sending
        assert len(acked) >= 49 and refused >= 400
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(node.submissions._limit, "take", lambda *_: None)
            assert await check_log(alice, room.id, acked) == len(acked) + 1


async def test_a_flood_of_requests_is_told_to_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.api.patience.PENALTY", 0.01)
    monkeypatch.setattr("node.api.gate.FORGED_RATE", 0.1)
    async with (
        strict(tmp_path) as node,
        phone(node, "alice") as alice,
        phone(node, "bob") as bob,
    ):
        await alice.register()
        await bob.register()
        path = "/telex/v1/rooms"

        async def ask(headers: dict[str, str]) -> tuple[int, str | None]:
            url = f"{alice.base}{path}"
            async with alice.http.get(url, headers=headers) as answer:
                if answer.status != 200:
                    found = decode_json(await answer.read(), Problem)
                    assert (found.code == "too_many") == (answer.status == 429)
                    if answer.status == 429:
                        wait = answer.headers["Retry-After"]
                        assert found.retry_after == int(wait) >= 1
                return answer.status, answer.headers.get("Retry-After")

        signed = [await ask(alice.headers("GET", path)) for _ in range(40)]
        assert {status for status, _ in signed[:15]} == {200}
        assert {status for status, _ in signed[-15:]} == {429}
        # Without a signature, or with somebody's whom nobody knows.
        lie = alice.address[:-1] + "2"
        unsigned = [await ask({}) for _ in range(90)]
        unknown = [await ask(alice.headers("GET", path, keyid=lie)) for _ in range(40)]
        answers = [status for status, _ in unsigned + unknown]
        assert set(answers[:90]) == {401} and answers[-1] == 429
        # Another from the same address is not held to account for it.
        assert (await ask(bob.headers("GET", path)))[0] == 200


async def test_who_is_refused_waits_for_it(tmp_path: Path) -> None:
    """A connection that floods is answered twice a second, and not read meanwhile."""
    async with strict(tmp_path) as node, phone(node, "alice") as alice:
        await alice.register()
        path = "/telex/v1/rooms"
        async with plain(alice) as line:
            for _ in range(25):
                lines = [f"GET {path} HTTP/1.1"]
                lines += [f"{k}: {v}" for k, v in alice.headers("GET", path).items()]
                await line.send(("\r\n".join(lines) + "\r\n\r\n").encode())
            started = time.monotonic()
            statuses: list[int] = []
            while statuses.count(429) < 2:
                status, head = await line.head()
                statuses.append(status)
                size = head.lower().partition("content-length: ")[2].split()[0]
                await line.take(int(size))
            assert time.monotonic() - started >= 1.0


async def test_few_handshakes_of_one_session_are_under_way(
    node: Node, alice: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are large: the others wait in the socket."""
    shake, now, most = node.submissions.shake, 0, 0

    async def counted(incoming: Incoming, asked: Submit) -> Receipt:
        nonlocal now, most
        now += 1
        most = max(most, now)
        try:
            await asyncio.sleep(0.01)
            return await shake(incoming, asked)
        finally:
            now -= 1

    monkeypatch.setattr(node.submissions, "shake", counted)
    async with raw_session(alice) as line:
        assert isinstance(await line.told(), Ready)
        await line.send(b"".join(submit(n, alice.room_bytes()[0]) for n in range(20)))
        numbers: set[int] = set()
        while len(numbers) < 20:
            told = await line.told()
            if isinstance(told, ResultFrame):
                assert told.receipt is not None and told.receipt.seq == 1
                numbers.add(told.id)
        assert 1 <= most <= 4
        (talk,) = node._sockets._talks
        assert talk.under_way == 0


# --- how many ----------------------------------------------------------------------


async def test_connections_are_limited_and_places_come_back(tmp_path: Path) -> None:
    chosen = make_settings(tmp_path)
    limits = replace(chosen.limits, connections=3, connections_per_address=2)
    node = make_node(replace(chosen, limits=limits))
    await node.start()
    try:
        names = ("alice", "bob", "carol", "dave")
        async with (
            phone(node, names[0]) as alice,
            phone(node, names[1]) as bob,
            phone(node, names[2]) as carol,
            phone(node, names[3]) as dave,
        ):
            for each in (alice, bob, carol, dave):
                await each.register()
            async with raw_session(alice), raw_session(bob):
                async with plain(carol) as line:
                    await line.send(upgrade(carol))
                    status, head = await line.head()
                    assert status == 429 and "Retry-After: 30" in head
                    assert b"too_many" in await line.take(20)
                async with (
                    raw_session(carol, source="127.0.0.2"),
                    plain(dave, source="127.0.0.3") as line,
                ):
                    await line.send(upgrade(dave))
                    status, head = await line.head()
                    assert status == 503 and "Retry-After: 30" in head
                    assert b"node_busy" in await line.take(21)
                assert node.delivery._admitted == 3 or node.delivery.sessions <= 3
                await until(lambda: node.delivery._admitted == 2)
            await gone(node)
            async with raw_session(carol), raw_session(dave) as line:
                assert isinstance(await line.told(), Ready)
    finally:
        await node.stop()
