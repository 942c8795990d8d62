"""Blobs whose readers or senders stand still: they cost little and harm nobody."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from node.api.blob import SENDING_EACH
from node.api.gate import BODIES_EACH
from node.app import Node
from node.blobs.fetch import FETCHES_EACH
from protocol.errors import TooMany
from tests.node.blobs import OCTETS, get, upload
from tests.node.phone import Phone

LARGE = bytes(16 * 1024 * 1024)


async def ask(device: Phone, blob: str) -> tuple[socket.socket, bytes]:
    """Ask for a blob, and read no further than its first bytes."""
    path = f"/telex/v1/blobs/{blob}"
    lines = [f"GET {path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in device.headers("GET", path).items()]
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
    line.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(line, ("127.0.0.1", int(device.base.rpartition(":")[2])))
    await loop.sock_sendall(line, "\r\n".join([*lines, "", ""]).encode())
    return line, await loop.sock_recv(line, 1024)


async def rest(line: socket.socket) -> int:
    """Read to the end; how many bytes came."""
    loop, count = asyncio.get_running_loop(), 0
    try:
        while data := await loop.sock_recv(line, 1 << 20):
            count += len(data)
    except ConnectionError:
        pass
    return count


async def test_one_device_has_so_many_at_a_time(alice: Phone, bob: Phone) -> None:
    blob = await upload(alice, LARGE)
    asked = [await ask(alice, blob) for _ in range(SENDING_EACH)]
    assert all(head.startswith(b"HTTP/1.1 200 ") for _, head in asked)
    with pytest.raises(TooMany):
        await get(alice, blob)
    assert len((await get(bob, blob))[2]) == len(LARGE)
    for line, _ in asked:
        line.close()
    async with asyncio.timeout(5):
        while True:
            try:
                assert (await get(alice, blob, Range="bytes=0-9"))[0] == 206
                break
            except TooMany:
                await asyncio.sleep(0.01)  # the node has not noticed yet


async def test_bodies_that_come_slowly_are_bounded(
    alice: Phone, bob: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.api.patience.PENALTY", 0)
    part = LARGE[: 1024 * 1024]
    path, query, loop = (
        f"/telex/v1/blobs/{'a' * 64}",
        "offset=0",
        asyncio.get_event_loop(),
    )

    async def begin_part() -> socket.socket:
        headers = alice.headers("PATCH", path, query, part, content_type=OCTETS)
        lines = [f"PATCH {path}?{query} HTTP/1.1", f"Content-Length: {len(part)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        line = socket.socket()
        line.setblocking(False)
        port = int(alice.base.rpartition(":")[2])
        await loop.sock_connect(line, ("127.0.0.1", port))
        await loop.sock_sendall(line, "\r\n".join([*lines, "", "x"]).encode())
        return line

    slow = [await begin_part() for _ in range(BODIES_EACH // len(part))]
    async with asyncio.timeout(60):
        while True:
            line = await begin_part()
            try:
                async with asyncio.timeout(2):
                    head = await loop.sock_recv(line, 1024)
                break
            except TimeoutError:  # one of the others had not been seen yet
                slow.append(line)
    assert head.startswith(b"HTTP/1.1 429 ")
    await upload(bob, part)
    await alice.create_room()  # small things pass
    for line in slow:
        line.close()


async def test_who_does_not_read_is_cut_off(
    node: Node, alice: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.api.blob.STALLED", 0.1)
    blob = await upload(alice, LARGE)
    line, head = await ask(alice, blob)
    assert head.startswith(b"HTTP/1.1 200 ")
    async with asyncio.timeout(10):
        while node.blob_sender.sending:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0.01)
    assert await rest(line) < len(LARGE)
    line.close()
    assert len((await get(alice, blob))[2]) == len(LARGE)


@pytest.mark.parametrize("announced", [1000, 10_000_000])
async def test_who_left_waits_for_no_other_node(
    node: Node, alice: Phone, monkeypatch: pytest.MonkeyPatch, announced: int
) -> None:
    """Before the first byte came, and behind some of them."""
    monkeypatch.setattr("node.api.blob.LOOKED", 0.01)
    monkeypatch.setattr("node.blobs.fetch.ALONE", 0.0)
    begun, left = asyncio.Semaphore(0), asyncio.Semaphore(0)

    class Stuck:
        size = announced

        @property
        def pieces(self) -> AsyncIterator[bytes]:
            return self._pieces()

        async def _pieces(self) -> AsyncIterator[bytes]:
            try:
                yield bytes(min(self.size - 1, 200_000))
                begun.release()
                await asyncio.Event().wait()
            finally:
                left.release()

    @asynccontextmanager
    async def ask(node: str, blob: str, offset: int) -> AsyncIterator[Stuck]:
        yield Stuck()

    monkeypatch.setattr(node.blob_fetcher, "_ask", ask)
    async with asyncio.timeout(20):
        for n in range(2 * FETCHES_EACH):
            asking = asyncio.create_task(get(alice, f"{n:064x}", f"slow{n % 3}.org"))
            await begun.acquire()
            asking.cancel()
            await left.acquire()
        while True:
            if not node.blob_sender.sending:
                break
            await asyncio.sleep(0.01)
