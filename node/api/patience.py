"""Connections on which nobody asks anything are closed.

aiohttp waits for a first request as long as it waits between requests, and that must
be longer than the proxies in front keep a connection. So whoever opens connections
and sends a header now and then (a slow loris) would hold each for minutes. Here a
connection that has not sent the whole head of one request in time is closed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web

__all__ = ["IDLE", "Patience"]

FIRST_REQUEST = 15.0
"""Seconds from a connection to the end of its first request's head: three lost
packets and a slow line."""

EVERY = 5.0
"""Seconds between two looks: this much longer a connection may live."""

IDLE = 130.0
"""Seconds to the end of a next request's head: Caddy keeps connections for 120 s,
nginx for 60 and our peers for 75, and they must be the ones who close."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Patience:
    """Knows who has asked; `note` is a middleware, `watch` runs beside the server."""

    def __init__(
        self, first_request: float = FIRST_REQUEST, every: float = EVERY
    ) -> None:
        self._first_request = first_request
        self._every = every
        self._asked: set[web.RequestHandler] = set()
        self._since: dict[web.RequestHandler, float] = {}

    @web.middleware
    async def note(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Remember that this connection has asked something."""
        self._asked.add(request.protocol)
        return await handler(request)

    async def watch(self, server: web.Server) -> None:
        """Close those that do not ask; runs until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._every)
            self._look(server.connections, loop.time())

    def _look(self, connections: Iterable[web.RequestHandler], now: float) -> None:
        present = set(connections)
        self._asked &= present
        silent = present - self._asked
        self._since = {each: self._since.get(each, now) for each in silent}
        for connection, since in self._since.items():
            if now - since >= self._first_request:
                connection.force_close()
