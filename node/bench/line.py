"""Sockets of the load process: a WebSocket and a signed GET, with little in between.

The client must not be what is measured, so there is no general WebSocket here: whole
frames, binary, masked with a key of zeros (RFC 6455 section 5.3 leaves the choice to
the client), and several frames in one write.
"""

import asyncio
import base64
import os
import ssl
import time
from typing import cast

from node.bench.plan import BenchProblem, Place, Terminal
from protocol.signature import sign_request

__all__ = ["Line", "Tap", "connect", "frame", "header", "signed_get"]

SOURCES = 5000
"""Connections from one address of loopback: of 28,000 ports there each way."""

_BINARY, _CLOSE, _PING, _PONG = 0x82, 0x88, 0x89, 0x8A


def header(size: int) -> bytes:
    """What stands before a masked binary frame's payload (RFC 6455 section 5.2)."""
    if size < 126:
        return bytes((_BINARY, 0x80 | size)) + bytes(4)
    if size < 65536:
        return bytes((_BINARY, 0x80 | 126)) + size.to_bytes(2, "big") + bytes(4)
    return bytes((_BINARY, 0x80 | 127)) + size.to_bytes(8, "big") + bytes(4)


def frame(payload: bytes) -> bytes:
    """A binary frame as a client sends it."""
    return header(len(payload)) + payload


class Line(asyncio.Protocol):
    """A WebSocket. Override `frame` and `drained`; write with `self.write`."""

    def __init__(self, terminal: Terminal, place: Place) -> None:
        self.terminal = terminal
        self.place = place
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Set to the reason when the connection breaks."""
        self._upgraded: asyncio.Future[None] = (
            asyncio.get_running_loop().create_future()
        )
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def frame(self, payload: bytes) -> None:
        """A frame has come."""

    def drained(self) -> None:
        """All frames that came together were given to `frame`."""

    def write(self, data: bytes) -> None:
        """Send bytes, if the connection still stands."""
        if self._transport is not None:
            self._transport.write(data)

    def abort(self) -> None:
        """Break the connection."""
        if self._transport is not None:
            self._transport.abort()

    async def upgraded(self) -> None:
        """Wait until the node has answered the upgrade.

        Raises:
            BenchProblem: it refused.
        """
        await self._upgraded

    # --- asyncio.Protocol -------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade, signed once."""
        self._transport = cast(asyncio.Transport, transport)
        path = "/telex/v1/ws"
        headers = signed_headers(self.terminal, self.place, path)
        headers |= {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        }
        self._transport.write(_request(path, headers))

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        self._transport = None
        reason = str(exc) if exc is not None else "the node closed the connection"
        if not self._upgraded.done():
            self._upgraded.set_exception(BenchProblem(f"No session: {reason}."))
        if not self.ended.done():
            self.ended.set_result(reason)

    def data_received(self, data: bytes) -> None:
        """Cut what came into frames."""
        if self._rest:
            data = self._rest + data
        if not self._upgraded.done():
            data = self._answered(data)
        at, size = 0, len(data)
        while size - at >= 2:
            start, length = at + 2, data[at + 1]
            if length == 126:
                start = at + 4
                length = int.from_bytes(data[at + 2 : start], "big")
            elif length == 127:
                start = at + 10
                length = int.from_bytes(data[at + 2 : start], "big")
            end = start + length
            if end > size or start > size:
                break
            if data[at] == _BINARY:
                self.frame(data[start:end])
            else:
                self._control(data[at], data[start:end])
            at = end
        self._rest = data[at:] if at else data
        self.drained()

    def _answered(self, data: bytes) -> bytes:
        head, end, rest = data.partition(b"\r\n\r\n")
        if not end:
            return data
        if head.startswith(b"HTTP/1.1 101"):
            self._upgraded.set_result(None)
            return rest
        line = head.split(b"\r\n", 1)[0].decode(errors="replace")
        said = rest.decode(errors="replace")[:200]
        self._upgraded.set_exception(
            BenchProblem(f"The scratch node refused a session: {line} {said}")
        )
        return b""

    def _control(self, kind: int, payload: bytes) -> None:
        if kind == _PING:
            self.write(bytes((_PONG, 0x80 | len(payload))) + bytes(4) + payload)
        elif kind == _CLOSE:
            reason = payload[2:].decode(errors="replace") or "it said goodbye"
            if not self.ended.done():
                self.ended.set_result(reason)
            self.abort()


class Tap(asyncio.Protocol):
    """A kept-alive HTTP connection: one request, then its answer, in turns."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._data = b""
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request that waits."""
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(BenchProblem("The node closed a connection."))

    def data_received(self, data: bytes) -> None:
        """Wait for a whole answer."""
        self._data += data
        head, end, body = self._data.partition(b"\r\n\r\n")
        if not end or self._answer is None:
            return
        length = None
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        if length is None:
            self._answer.set_exception(BenchProblem("An answer came without length."))
        elif len(body) >= length:
            self._data = body[length:]
            self._answer.set_result((int(head.split(b" ", 2)[1]), body[:length]))

    async def ask(self, request: bytes) -> bytes:
        """Send a request and wait for the body of its answer.

        Raises:
            BenchProblem: it was refused.
        """
        if self._transport is None:
            raise BenchProblem("The node closed a connection.")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        status, body = await self._answer
        if status != 200:
            said = body.decode(errors="replace")[:200]
            raise BenchProblem(f"The scratch node answered {status}: {said}")
        return body

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.abort()


def trust(place: Place) -> ssl.SSLContext | None:
    """How to trust a place's certificate; None: it has none."""
    if not place.ca_file:
        return None
    return ssl.create_default_context(cafile=place.ca_file)


async def connect(
    line: Line, number: int = 0, tls: ssl.SSLContext | None = None
) -> None:
    """Connect a line and wait for the upgrade.

    Args:
        line: not connected yet.
        number: of the connection: spreads many over addresses of loopback.
        tls: made by `trust`, once for all.

    Raises:
        BenchProblem: the node refuses, or cannot be reached.
    """
    source = f"127.0.0.{1 + number // SOURCES}"
    try:
        await asyncio.get_running_loop().create_connection(
            lambda: line,
            "127.0.0.1",
            line.place.port,
            local_addr=(source, 0) if number >= SOURCES else None,
            ssl=tls,
            server_hostname="localhost" if tls is not None else None,
        )
        await line.upgraded()
    except OSError as error:
        raise BenchProblem(
            f"Connection {number + 1} could not be made: {error.strerror or error}."
        ) from error


def signed_headers(
    terminal: Terminal, place: Place, path: str, query: str = ""
) -> dict[str, str]:
    """The headers of a GET, signed by a device (RFC 9421)."""
    signed = sign_request(
        method="GET",
        authority=place.name,
        path=path,
        query=query,
        destination=place.name,
        keyid=terminal.address,
        private_key=terminal.seed,
        created=int(time.time()),
    )
    return {"Host": place.name} | signed


def signed_get(terminal: Terminal, place: Place, path: str, query: str = "") -> bytes:
    """A whole GET request, signed by a device."""
    headers = signed_headers(terminal, place, path, query)
    return _request(f"{path}?{query}" if query else path, headers)


def _request(target: str, headers: dict[str, str]) -> bytes:
    lines = [f"GET {target} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()
