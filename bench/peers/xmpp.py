"""A lean XMPP client (RFC 6120, 6121): log in without TLS, then stanzas in and out.

As little as the load needs: what it sends is written by hand, and of what comes it
looks at the start tags alone.
"""

import asyncio
import base64
from collections.abc import Awaitable
from typing import cast
from xml.parsers import expat

from node.bench.plan import BenchProblem

__all__ = ["DOMAIN", "ROOMS", "Client", "Stream"]

DOMAIN = "localhost"
ROOMS = f"rooms.{DOMAIN}"
PASSWORD = "bench"

PATIENCE = 60.0
"""Seconds to wait for a server's answer."""

_OPEN = (
    f"<?xml version='1.0'?><stream:stream to='{DOMAIN}' version='1.0' "
    "xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
)
_BIND = (
    "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>"
    "<resource>bench</resource></bind></iq>"
)


class Stream(asyncio.Protocol):
    """A stream of stanzas: calls `stanza` for each tag at its top."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[str] = loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._waiting: dict[str, asyncio.Future[dict[str, str]]] = {}
        self._depth = 0
        self._parser = self._fresh()

    def write(self, text: str) -> None:
        """Send text, if the connection still stands."""
        if self._transport is not None:
            self._transport.write(text.encode())

    def stanza(self, name: str, attributes: dict[str, str]) -> None:
        """A stanza begins."""

    def drained(self) -> None:
        """All stanzas that came together were given to `stanza`."""

    def restart(self) -> None:
        """Open the stream (again)."""
        self._parser = self._fresh()
        self._depth = 0
        self.write(_OPEN)

    def expect(self, *names: str) -> Awaitable[tuple[str, dict[str, str]]]:
        """The next stanza of one of these names; the others' futures are dropped."""
        loop = asyncio.get_running_loop()
        futures = {name: loop.create_future() for name in names}
        self._waiting = dict(futures)
        return self._first(futures)

    async def _first(
        self, futures: "dict[str, asyncio.Future[dict[str, str]]]"
    ) -> tuple[str, dict[str, str]]:
        waiting = [
            *futures.values(),
            cast("asyncio.Future[dict[str, str]]", self.ended),
        ]
        done, _ = await asyncio.wait(
            waiting, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED
        )
        self._waiting = {}
        for name, future in futures.items():
            if future in done:
                return name, future.result()
        why = self.ended.result() if self.ended.done() else "it does not answer"
        raise BenchProblem(f"The server did not say {' or '.join(futures)}: {why}.")

    # --- asyncio.Protocol -------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        self._transport = None
        if not self.ended.done():
            self.ended.set_result(str(exc or "the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        """Cut what came into stanzas."""
        try:
            self._parser.Parse(data, False)
        except expat.ExpatError as error:
            if not self.ended.done():
                self.ended.set_result(f"it sent what is no XML: {error}")
            return
        self.drained()

    def _fresh(self) -> expat.XMLParserType:
        parser = expat.ParserCreate()
        parser.StartElementHandler = self._started
        parser.EndElementHandler = self._finished
        return parser

    def _started(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth != 2:
            return
        waiting = self._waiting.get(name)
        if waiting is not None and not waiting.done():
            waiting.set_result(attributes)
        self.stanza(name, attributes)

    def _finished(self, name: str) -> None:
        self._depth -= 1


class Client(Stream):
    """Somebody who is logged in."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.address = f"{name}@{DOMAIN}/bench"

    async def log_in(self, port: int, source: str = "127.0.0.1") -> None:
        """Connect, log in by PLAIN and become available.

        Raises:
            BenchProblem: the server refused, or does not answer.
        """
        await self._connect(port, source)
        secret = base64.b64encode(f"\0{self.name}\0{PASSWORD}".encode()).decode()
        answer = self.expect("success", "failure")
        self.write(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' "
            f"mechanism='PLAIN'>{secret}</auth>"
        )
        if (await answer)[0] == "failure":
            raise BenchProblem(f"The server lets {self.name} not in.")
        answer = self.expect("stream:features")
        self.restart()
        await answer
        await self.ask(_BIND)
        self.write("<presence/>")

    async def register(self, port: int, names: list[str]) -> None:
        """Make accounts, in band (XEP-0077), on a stream that nobody logs in on."""
        await self._connect(port, "127.0.0.1")
        for name in names:
            await self.ask(
                "<iq type='set' id='new'><query xmlns='jabber:iq:register'>"
                f"<username>{name}</username><password>{PASSWORD}</password>"
                "</query></iq>"
            )
        self.close()

    async def ask(self, stanza: str) -> None:
        """Send an iq and wait for its result.

        Raises:
            BenchProblem: it was refused.
        """
        answer = self.expect("iq")
        self.write(stanza)
        _, attributes = await answer
        if attributes.get("type") != "result":
            raise BenchProblem(f"The server refused {stanza}.")

    async def join(self, room: str) -> None:
        """Enter a room (XEP-0045), without its history; waits until we are in."""
        answer = self.expect("message")  # the room's subject comes last
        self.write(
            f"<presence to='{room}@{ROOMS}/{self.name}'>"
            "<x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='0'/></x>"
            "</presence>"
        )
        await answer

    def close(self) -> None:
        """Break the connection."""
        if self._transport is not None:
            self._transport.abort()

    async def _connect(self, port: int, source: str) -> None:
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: self, "127.0.0.1", port, local_addr=(source, 0)
            )
        except OSError as error:
            raise BenchProblem(f"The server cannot be reached: {error}.") from error
        answer = self.expect("stream:features")
        self.restart()
        await answer
