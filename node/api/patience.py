"""Connections on which nobody asks anything, or reads what was asked for, are closed.

aiohttp waits for a first request as long as it waits between requests, and that must
be longer than the proxies in front keep a connection. So whoever opens connections
and sends a header now and then (a slow loris) would hold each for minutes. Here a
connection that has not sent the whole head of one request in time is closed; and one
to which an answer is on its way that nobody reads, for it would be held for ever.

Who asks for too much is told so a little later, and nothing else is read from that
connection until then: whoever floods costs no more than an idle connection.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

__all__ = ["IDLE", "Patience"]

FIRST_REQUEST = 15.0
"""Seconds from a connection to the end of its first request's head: three lost
packets and a slow line."""

EVERY = 5.0
"""Seconds between two looks: this much longer a connection may live."""

UNREAD = 60.0
"""Seconds in which nothing of an answer was read: `api.socket.SEND_TIMEOUT`."""

PENALTY = 0.5
"""Seconds that a refusal with 429 takes at least, and at most twice: less than its
Retry-After says, and long enough that a hundred connections in a hurry do not count.
Not the same for all, or they would all come back at one moment."""

IDLE = 130.0
"""Seconds to the end of a next request's head: Caddy keeps connections for 120 s,
nginx for 60 and our peers for 75, and they must be the ones who close."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Patience:
    """Knows who has asked; `note` is a middleware, `watch` runs beside the server."""

    def __init__(
        self,
        first_request: float = FIRST_REQUEST,
        every: float = EVERY,
        unread: float = UNREAD,
    ) -> None:
        self._first_request = first_request
        self._every = every
        self._unread = unread
        self._asked: dict[web.RequestHandler, AbstractStreamWriter] = {}
        """With what the newest answer is written to."""
        self._since: dict[web.RequestHandler, float] = {}
        self._stuck: dict[web.RequestHandler, tuple[int, float]] = {}
        """How many bytes of an answer were taken, and since when it is so many."""

    @web.middleware
    async def note(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Remember that this connection has asked something."""
        self._asked[request.protocol] = request.writer
        response = await handler(request)
        if response.status == HTTPStatus.TOO_MANY_REQUESTS:
            await asyncio.sleep(PENALTY * (1 + random.random()))
        return response

    async def watch(self, server: web.Server) -> None:
        """Close those that do not ask; runs until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._every)
            self._look(server.connections, loop.time())

    def _look(self, connections: Iterable[web.RequestHandler], now: float) -> None:
        present = set(connections)
        self._asked = {k: v for k, v in self._asked.items() if k in present}
        silent = present - self._asked.keys()
        self._since = {each: self._since.get(each, now) for each in silent}
        for connection, since in self._since.items():
            if now - since >= self._first_request:
                connection.force_close()
        stuck: dict[web.RequestHandler, tuple[int, float]] = {}
        for connection, writer in self._asked.items():
            transport = connection.transport
            if transport is None or not (left := transport.get_write_buffer_size()):
                continue
            taken = writer.output_size - left
            before = self._stuck.get(connection)
            if before is None or before[0] != taken:
                before = (taken, now)
            stuck[connection] = before
            if now - before[1] >= self._unread:
                transport.abort()
        self._stuck = stuck
