"""What comes too slowly, or stops: requests, bodies, upgrades, frames, life signs."""

import asyncio
import time
from contextlib import suppress
from pathlib import Path

import pytest

from node.api.patience import Patience
from protocol.wire import Entries, Ready, ResultFrame
from tests.node.phone import phone
from tests.node.raw import (
    BINARY,
    PING,
    Raw,
    frame,
    gone,
    plain,
    raw_session,
    submit,
    upgrade,
)
from tests.node.server import make_node, make_settings
from tests.node.test_pressure import impatient


async def dripped(line: Raw, data: bytes, seconds: float = 0.02) -> float:
    """Send a byte now and then; the seconds until the connection was closed."""
    started = time.monotonic()
    ended = asyncio.create_task(line.closed())
    with suppress(ConnectionError):
        for byte in data:
            await line.send(bytes((byte,)))
            done, _ = await asyncio.wait([ended], timeout=seconds)
            if done:
                return time.monotonic() - started
    await ended
    return time.monotonic() - started


async def test_frames_that_drip_are_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        impatient(tmp_path, monkeypatch, FRAME_TIMEOUT=0.4) as node,
        phone(node, "alice") as alice,
    ):
        await alice.register()
        room = await alice.create_room()
        pinged = b"".join(
            frame(b"x", 0, fin=False) + frame(b"", PING) for _ in range(99)
        )
        for data in (
            frame(bytes(5000)),  # one frame
            frame(b"a", BINARY, fin=False) + pinged,  # or fragments, with life signs
            b"\x82",  # or half a head
        ):
            async with raw_session(alice) as line:
                assert isinstance(await line.told(), Ready)
                assert 0.4 <= await dripped(line, data) < 5
            await gone(node)
        # Who sends message after message is none of them, though none ends with the
        # packet that it came in.
        async with raw_session(alice) as line:
            assert isinstance(await line.told(), Ready)
            stream = b"".join(submit(n, alice.message(room)) for n in range(30))
            for start in range(0, len(stream), 400):
                await line.send(stream[start : start + 400])
                await asyncio.sleep(0.03)
            for number in range(30):
                told = await line.told()
                assert isinstance(told, ResultFrame) and told.id == number


async def test_who_answers_no_ping_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        impatient(tmp_path, monkeypatch, HEARTBEAT=0.3) as node,
        phone(node, "alice") as alice,
        phone(node, "bob") as bob,
    ):
        await alice.register()
        await bob.register()
        async with raw_session(alice) as silent, bob.session() as line:
            # A proper client answers, by itself, while it reads.
            reading = asyncio.create_task(line.receive(seconds=30))
            started = time.monotonic()
            kinds = []
            with suppress(EOFError):
                while True:
                    kinds.append((await silent.frame())[0])
            assert kinds[0] == BINARY and set(kinds[1:]) == {PING}
            assert time.monotonic() - started >= 0.4
            room = await bob.create_room()
            assert node.delivery.sessions == 1 and not reading.done()
            await line.ack(**{room.id: 0})
            assert isinstance(await reading, Entries)


async def test_bodies_and_upgrades_that_drip_are_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.api.message.BODY_TIMEOUT", 0.4)
    monkeypatch.setattr("node.app.IDLE", 1.0)
    node = make_node(make_settings(tmp_path))
    node._patience = Patience(0.4, every=0.05)
    await node.start()
    try:
        async with phone(node, "alice") as alice:
            await alice.register()
            request = upgrade(alice)
            async with plain(alice) as line:
                assert await dropped(line, request[:-4], b"") < 5
            # On a connection that has asked before it may take as long as idleness.
            async with plain(alice) as line:
                await line.send(b"GET /.well-known/telex HTTP/1.1\r\nHost: x\r\n\r\n")
                await line.head()
                assert await dropped(line, request[:200], b"") < 5
            path = "/telex/v1/key-packages"
            lines = [f"PUT {path} HTTP/1.1", "Content-Length: 5000"]
            made = alice.headers("PUT", path, "", bytes(5000))
            lines += [f"{name}: {value}" for name, value in made.items()]
            async with plain(alice) as line:
                await line.send(("\r\n".join(lines) + "\r\n\r\n").encode())
                sending = asyncio.create_task(drip(line))
                status, head = await line.head()
                sending.cancel()
                assert status == 400, head
            await gone(node)
    finally:
        await node.stop()


async def drip(line: Raw) -> None:
    with suppress(ConnectionError):
        while True:
            await line.send(b"x")
            await asyncio.sleep(0.02)


async def dropped(line: Raw, data: bytes, then: bytes) -> float:
    """Drip a request's head without an end; the seconds until it is closed."""
    started = time.monotonic()
    with suppress(ConnectionError):
        for byte in data:
            await line.send(bytes((byte,)))
            with suppress(TimeoutError):
                if not await line.more(0.02):
                    break
    return time.monotonic() - started
