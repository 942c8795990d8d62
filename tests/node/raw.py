"""WebSockets by hand, over plain sockets: for what a proper client never does."""

import asyncio
import base64
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

from node.app import Node
from node.storage.store import Store
from protocol.codec import decode, encode
from protocol.log import LogId
from protocol.wire import AckFrame, FromNode, SubmitFrame
from tests.node.phone import Phone

PATH = "/telex/v1/ws"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def frame(
    data: bytes,
    kind: int = BINARY,
    *,
    fin: bool = True,
    mask: bool = True,
    rsv: int = 0,
) -> bytes:
    """A frame as a client sends it (RFC 6455 section 5.2)."""
    first = (0x80 if fin else 0) | rsv << 4 | kind
    size, bit = len(data), 0x80 if mask else 0
    if size < 126:
        head = bytes((first, bit | size))
    elif size < 65536:
        head = bytes((first, bit | 126)) + size.to_bytes(2)
    else:
        head = bytes((first, bit | 127)) + size.to_bytes(8)
    if not mask:
        return head + data
    key = os.urandom(4)
    pad = (key * (size // 4 + 1))[:size]
    mixed = int.from_bytes(data) ^ int.from_bytes(pad)
    return head + key + mixed.to_bytes(size)


def submit(number: int, data: bytes) -> bytes:
    """A submission in a frame."""
    return frame(encode(SubmitFrame(number, data)))


def ack(log: LogId, seq: int) -> bytes:
    """An ack in a frame."""
    return frame(encode(AckFrame({log: seq})))


def upgrade(phone: Phone, method: str = "GET", **changes: str | None) -> bytes:
    """A signed upgrade; `changes` are to headers of it, None leaves one out."""
    key = base64.b64encode(os.urandom(16)).decode()
    headers: dict[str, str | None] = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key,
    }
    for name, value in changes.items():
        headers[name.replace("_", "-")] = value
    lines = [f"{method} {PATH} HTTP/1.1"]
    for name, value in (phone.headers(method, PATH) | headers).items():
        if value is not None:
            lines.append(f"{name}: {value}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def until(holds: Callable[[], object], seconds: float = 10) -> None:
    """Wait for what nobody tells."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - the node has no event for a test
            await asyncio.sleep(0.01)


async def gone(node: Node) -> None:
    """Wait until a node has no session, and has counted all of them out."""
    delivery = node.delivery
    await until(lambda: not delivery.sessions and not delivery._admitted)
    assert not delivery._addresses
    assert not delivery._accounts
    assert not delivery._readers
    assert not delivery._subscribed
    assert not node._sockets._talks


@asynccontextmanager
async def held(store: Store) -> AsyncIterator[None]:
    """What is queued meanwhile is one batch."""
    entered, go = threading.Event(), threading.Event()

    def wait(_: object) -> None:
        entered.set()
        go.wait(20)

    task = asyncio.create_task(store.write(wait))
    await asyncio.sleep(0)
    await asyncio.to_thread(entered.wait, 10)
    try:
        yield
    finally:
        go.set()
        await task


class Raw:
    """A connection, and what came on it."""

    def __init__(self, plain: socket.socket) -> None:
        self.socket = plain
        self.buffer = b""
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        await self._loop.sock_sendall(self.socket, data)

    async def more(self, seconds: float = 10) -> bool:
        """Wait for more; False at the end of the connection."""
        async with asyncio.timeout(seconds):
            try:
                data = await self._loop.sock_recv(self.socket, 65536)
            except ConnectionError:
                return False
        self.buffer += data
        return bool(data)

    async def take(self, count: int, seconds: float = 10) -> bytes:
        """So many bytes.

        Raises:
            EOFError: there are fewer.
        """
        while len(self.buffer) < count:
            if not await self.more(seconds):
                raise EOFError
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    async def head(self) -> tuple[int, str]:
        """An HTTP answer's status, and its head."""
        while b"\r\n\r\n" not in self.buffer:
            if not await self.more():
                raise EOFError
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        return int(head.split()[1]), head.decode()

    async def frame(self, seconds: float = 10) -> tuple[int, bytes]:
        """The next frame: its opcode and payload."""
        first, size = await self.take(2, seconds)
        assert first & 0xF0 == 0x80 and size < 128, "the node sends whole, unmasked"
        if size > 125:
            size = int.from_bytes(await self.take(2 if size == 126 else 8))
        return first & 0x0F, await self.take(size, seconds)

    async def told(self, seconds: float = 10) -> FromNode:
        """What the next frame says."""
        kind, data = await self.frame(seconds)
        assert kind == BINARY, (kind, data)
        return decode(data, cast("type[FromNode]", FromNode))

    async def closed(self) -> int | None:
        """Read to the end; the code of the node's close, None if there was none."""
        code = None
        try:
            while True:
                kind, data = await self.frame()
                if kind == CLOSE:
                    code = int.from_bytes(data[:2])
        except EOFError:
            return code

    def close(self) -> None:
        """Leave without a word."""
        self.socket.close()


@asynccontextmanager
async def plain(
    phone: Phone, *, buffer: int = 0, source: str = ""
) -> AsyncIterator[Raw]:
    """A connection to the phone's node; `buffer` is the receive buffer's size."""
    with socket.socket() as made:
        if buffer:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        if source:
            made.bind((source, 0))
        made.setblocking(False)
        host, _, port = phone.base.rpartition("//")[2].partition(":")
        await asyncio.get_running_loop().sock_connect(made, (host, int(port)))
        yield Raw(made)


@asynccontextmanager
async def raw_session(
    phone: Phone, behind: bytes = b"", *, buffer: int = 0, source: str = ""
) -> AsyncIterator[Raw]:
    """A session past the upgrade; `behind` goes out in one piece with the request."""
    async with plain(phone, buffer=buffer, source=source) as line:
        await line.send(upgrade(phone) + behind)
        status, head = await line.head()
        assert status == 101, head
        yield line
