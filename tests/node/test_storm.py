"""A storm of kill -9 under load: what was acked is there, and nothing is twice."""

import asyncio
import os
import random
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import cast

import aiohttp
import pytest

from protocol.codec import decode, encode
from protocol.log import LogId, read_entry
from protocol.wire import (
    AckFrame,
    Entries,
    FromNode,
    Page,
    Ready,
    ResultFrame,
    SubmitFrame,
)
from tests.node.phone import Phone, Room, mail
from tests.node.process import Process, check_log

pytestmark = pytest.mark.system

IN_FLIGHT = 16
"""Submissions of a device that wait for their answer."""


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


class Rider:
    """A device that writes and reads without end, whatever becomes of the node."""

    def __init__(self, phone: Phone, room: Room, have: int) -> None:
        self.phone = phone
        self.room = room
        self.first = have
        self.read: list[bytes] = []
        """Entries after `first`, as they were first seen."""
        self.sent: list[bytes] = []
        self.acked: dict[bytes, tuple[int | None, bytes | None]] = {}
        self.writing = True
        self.moved = asyncio.Event()

    @property
    def have(self) -> int:
        """The last entry that was read."""
        return self.first + len(self.read)

    @property
    def unacked(self) -> list[bytes]:
        """What has no answer yet, in the order in which it was sent."""
        return [data for data in self.sent if data not in self.acked]

    async def ride(self) -> None:
        """Connect again and again; runs until cancelled."""
        while True:
            try:
                await self._session()
            except (aiohttp.ClientError, OSError):
                await asyncio.sleep(0.02)

    async def _session(self) -> None:
        path = "/telex/v1/ws"
        async with self.phone.http.ws_connect(
            f"{self.phone.base}{path}",
            headers=self.phone.headers("GET", path),
            max_msg_size=0,
        ) as socket:
            flight: dict[int, bytes] = {}
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.BINARY:
                    return
                match decode(message.data, cast("type[FromNode]", FromNode)):
                    case Ready():
                        await self._begin(socket, flight)
                    case Entries() as frame if frame.log == self.room.id:
                        self._take(frame)
                        cursors = {LogId(self.room.id): self.have}
                        await socket.send_bytes(encode(AckFrame(cursors)))
                    case ResultFrame() as frame:
                        self._note(flight.pop(frame.id), frame)
                        await self._refill(socket, flight)
                self.moved.set()

    async def _begin(
        self, socket: aiohttp.ClientWebSocketResponse, flight: dict[int, bytes]
    ) -> None:
        """Say what is here, and send again what was not answered, and what was."""
        await socket.send_bytes(encode(AckFrame({LogId(self.room.id): self.have})))
        again = self.unacked
        if self.acked:
            again.append(random.choice(list(self.acked)))
        for data in again:
            await self._send(socket, flight, data)
        await self._refill(socket, flight)

    async def _refill(
        self, socket: aiohttp.ClientWebSocketResponse, flight: dict[int, bytes]
    ) -> None:
        while self.writing and len(flight) < IN_FLIGHT:
            data = self.phone.message(self.room, os.urandom(200))
            self.sent.append(data)
            await self._send(socket, flight, data)

    async def _send(
        self,
        socket: aiohttp.ClientWebSocketResponse,
        flight: dict[int, bytes],
        data: bytes,
    ) -> None:
        number = max(flight, default=0) + 1
        flight[number] = data
        await socket.send_bytes(encode(SubmitFrame(number, data)))

    def _take(self, frame: Entries) -> None:
        """The node may send again what it does not know to be here, never less."""
        known = self.have - frame.after
        assert known >= 0, f"a gap: {frame.after} after {self.have}"
        start = frame.after - self.first
        again = frame.entries[:known]
        assert self.read[start : start + len(again)] == again, "it was another entry"
        self.read += frame.entries[known:]

    def _note(self, data: bytes, frame: ResultFrame) -> None:
        if frame.problem is not None:
            assert frame.problem.status >= 500, frame.problem
            return
        assert frame.receipt is not None
        place = (frame.receipt.seq, frame.receipt.hash)
        assert self.acked.setdefault(data, place) == place, "another answer"


async def riders(process: Process, stack: AsyncExitStack) -> list[Rider]:
    """Three people in one room, at the entry after which each of them may read."""
    phones = [
        await stack.enter_async_context(process.phone(name))
        for name in ("alice", "bob", "carol")
    ]
    for phone in phones:
        await phone.register()
        await phone.upload_packages()
    alice, *others = phones
    room = await alice.create_room()
    await alice.add(room, *(other.account for other in others))
    found = [Rider(alice, room, 0)]
    for other in others:
        async with other.session() as socket:
            welcome = mail((await socket.entries(other.mailbox, 1))[0])
        found.append(Rider(other, await other.join(welcome), welcome.seq))
    return found


async def storm(process: Process, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    async with AsyncExitStack() as stack:
        found = await riders(process, stack)
        async with asyncio.TaskGroup() as tasks:
            rides = [tasks.create_task(rider.ride()) for rider in found]
            for _ in range(kills):
                await progress(found, chance.randrange(1, 400))
                process.end(signal.SIGKILL)
                await asyncio.to_thread(process.start)
            for rider in found:
                rider.writing = False
            await drained(found)
            for ride in rides:
                ride.cancel()
        await check(process, found)


async def progress(found: list[Rider], wanted: int) -> None:
    """Wait until so many more submissions were answered."""
    before = sum(len(rider.acked) for rider in found)
    async with asyncio.timeout(60):
        while sum(len(rider.acked) for rider in found) < before + wanted:
            found[0].moved.clear()
            await found[0].moved.wait()


async def drained(found: list[Rider]) -> None:
    """Wait until all was answered, and all have read the same."""
    async with asyncio.timeout(60):
        for rider in found:
            while rider.unacked:
                rider.moved.clear()
                await rider.moved.wait()
        head = max(seq or 0 for rider in found for seq, _ in rider.acked.values())
        for rider in found:
            while rider.have < head:
                rider.moved.clear()
                await rider.moved.wait()


async def check(process: Process, found: list[Rider]) -> None:
    """The log has each submission once; each reader saw the log; all is in order."""
    alice, room = found[0].phone, found[0].room.id
    acked = {data: place for rider in found for data, place in rider.acked.items()}
    head = await check_log(alice, room, acked)
    assert head == len(acked) + 2, "the room's beginning, and each of them once"
    written = await all_entries(alice, room)
    for rider in found:
        assert rider.read == written[rider.first :]
    submissions = [read_entry(data).submission for data in written[2:]]
    assert sorted(submissions) == sorted(d for rider in found for d in rider.sent)
    assert "All is in order" in process.command("verify")
    status, log = process.end()
    assert status == 0 and "Traceback" not in log
    assert "All is in order" in process.command("verify")


async def all_entries(alice: Phone, room: str) -> list[bytes]:
    found: list[bytes] = []
    path = f"/telex/v1/logs/{room}/entries"
    while True:
        query = f"after={len(found)}"
        page = await alice.call("GET", path, None, Page, query=query)
        found += page.entries
        if len(found) == page.head:
            return found


async def test_three_kills_under_load(process: Process) -> None:
    await storm(process, 3, seed=5)


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_a_hundred_kills_under_load(process: Process) -> None:
    await storm(process, 100, seed=100)
