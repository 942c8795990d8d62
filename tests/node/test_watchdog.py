"""The watchdog: what holds up the loop is named; what works elsewhere is not."""

import asyncio
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from node import watchdog as module
from node.local import ask
from node.watchdog import Stalls, Watchdog
from protocol.codec import MSGPACK, encode
from protocol.wire import Entries, Login, ResultFrame, SubmitFrame
from tests.node.blobs import upload
from tests.node.phone import Phone, Room
from tests.node.process import Process

pytestmark = pytest.mark.skipif(
    not hasattr(time, "pthread_getcpuclockid"), reason="this system has no such clock"
)


def compute(seconds: float) -> None:
    """Work that long, by the processor's clock."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@asynccontextmanager
async def watched(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watchdog]:
    monkeypatch.setattr(module, "QUIET", 0.0)
    dog = Watchdog()
    dog.start()
    try:
        await asyncio.sleep(0)  # it learns which frames are the loop's
        await until(lambda: bool(dog.running))
        yield dog
    finally:
        dog.stop()


async def until(true: Callable[[], bool]) -> None:
    for _ in range(4000):
        if true():
            return
        await asyncio.sleep(0.005)
    pytest.fail("it never came true")


async def test_a_callback_that_works_too_long_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="node.watchdog"):
        async with watched(monkeypatch) as dog:
            secret = "correct horse"

            def planted_block() -> str:
                compute(0.05)
                return secret

            planted_block()
            await until(lambda: dog.stalls.count > 0)
    assert dog.stalls.count == 1 and dog.stalls.longest_ms > 20
    (record,) = caplog.records
    line = record.getMessage()
    assert "planted_block" in line and "test_watchdog.py" in line
    assert "event loop is held up" in line and secret not in line
    assert "planted_block" in dog.stalls.last


async def test_many_short_callbacks_and_other_threads_are_no_stall(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with watched(monkeypatch) as dog:
        over = threading.Event()

        def busy_elsewhere() -> None:
            while not over.is_set():
                compute(0.01)

        thread = threading.Thread(target=busy_elsewhere)
        thread.start()
        try:
            for _ in range(40):
                compute(0.005)
                await asyncio.sleep(0)
        finally:
            over.set()
            thread.join()
    assert dog.stalls.count == 0, dog.stalls


async def test_a_callback_that_waits_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE", 0.05)
    async with watched(monkeypatch) as dog:
        reading, writing = os.pipe()
        threading.Timer(0.5, os.write, (writing, b"x")).start()
        os.read(reading, 1)
        await until(lambda: dog.stalls.blocked > 0)
        os.close(reading)
        os.close(writing)
    assert dog.stalls.blocked == 1 and dog.stalls.count == 0
    assert "test_a_callback_that_waits" in dog.stalls.last


async def test_an_idle_loop_costs_next_to_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the processor's clock, which a busy machine does not move."""
    async with watched(monkeypatch):
        began = time.process_time()
        await asyncio.sleep(1)
        spent = time.process_time() - began
    assert spent < 0.005  # it is a few ten-thousandths; other threads add to it


def test_off_means_off() -> None:
    dog = Watchdog(0)
    dog.start()
    assert not dog.running


async def test_a_system_without_such_timers_is_not_watched(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(clock: int, interval: float) -> None:
        raise OSError("there is no timer_create here")

    monkeypatch.setattr(module, "CpuTimer", refuse)
    with caplog.at_level(logging.INFO, logger="node.watchdog"):
        dog = Watchdog()
        dog.start()
        await until(lambda: "is not watched" in caplog.text)
        assert not dog.running
        dog.stop()


# --- a real node under what is heavy ----------------------------------------------


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


BACKLOG = 2000
"""Entries that wait for a device."""


@pytest.mark.system
async def test_nothing_holds_up_the_loop_of_a_node_under_load(process: Process) -> None:
    """Log-ins at full cost, a device far behind, and a large file, all at once."""
    async with process.phone("alice") as alice, process.phone("bob") as bob:
        for device in (alice, bob):
            await device.register()
            await device.upload_packages()
        room = await alice.create_room()
        await alice.add(room, bob.account)
        async with bob.session() as socket:
            await socket.ack(**{room.id: 2})
            await fill(alice, room)
        await asyncio.gather(
            catch_up(bob, room),
            *(log_in(alice) for _ in range(6)),
            upload(alice, os.urandom(12 << 20)),
        )
    state = ask(process.config.parent / "data")
    status, log = process.end()
    assert status == 0 and state.stalls == Stalls(), (state.stalls, log)


async def fill(alice: Phone, room: Room) -> None:
    """Write on one socket, as fast as it takes it."""
    async with alice.session() as socket:
        for number in range(BACKLOG):
            frame = SubmitFrame(number, alice.message(room))
            await socket.connection.send_bytes(encode(frame))
        answered = 0
        while answered < BACKLOG:
            answered += isinstance(await socket.receive(30), ResultFrame)


async def catch_up(bob: Phone, room: Room) -> None:
    """Read all that waits, and ack as it comes."""
    async with bob.session() as socket:
        have = 2
        while have < BACKLOG + 2:
            frame = await socket.receive(30)
            if isinstance(frame, Entries) and frame.log == room.id:
                have = frame.after + len(frame.entries)
                await socket.ack(**{room.id: have})


async def log_in(alice: Phone) -> None:
    name = alice.account.partition("@")[0]
    path = f"/telex/v1/accounts/{name}/login"
    headers = {"Host": alice.name, "Content-Type": MSGPACK}
    body = encode(Login(b"s" * 32))
    assert (await alice.send("POST", path, body, headers=headers))[0] == 200
