"""The door: listens, counts who is in, and turns away whom there is no room for.

Connections are accepted here and not by the event loop's own server, because here
their number and address are known before they cost anything: before the TLS handshake
and before aiohttp has made a parser. Two limits:

- of all connections, from the limit of open files less what the node itself needs
  (`node.descriptors`): beyond it SQLite could open no file;
- of connections from one network (an IPv6 /64) on which nobody has proved yet to be a
  device or another node: `limits.connections_per_address`, and a quarter of all.

A proxy's connections are many people's, so the second does not count those of
`listen.proxies`, nor of loopback where the node speaks plain HTTP.

Whoever is turned away is told in one write, without TLS (503 `node_busy` or 429
`too_many`, with Retry-After), or just closed. Nothing that is open is ever touched.

When the process has no files left all the same, the door waits: who knocks stays in
the kernel's queue. libuv's own server drops them, by means of a file that it keeps for
that; and takes all of a core, doing nothing, when a thread has got that one too.
"""

import asyncio
import errno
import ipaddress
import logging
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any

from aiohttp import web

from node.descriptors import Doorway, connections_of, open_files_limit
from node.limit import network_of
from protocol.codec import encode_json
from protocol.errors import NodeBusy, Refused, TooMany

__all__ = ["Connection", "Door", "listen_on", "note_peers", "prove"]

log = logging.getLogger(__name__)

BACKLOG = 1024
"""Connections that wait in the kernel: a thousand devices that come back at once. The
system may allow fewer (net.core.somaxconn)."""

ACCEPT_AT_ONCE = 64
"""Connections that are taken in one turn of the event loop; then others' turn."""

HANDSHAKE_TIMEOUT = 15.0
"""Seconds for the TLS handshake: as for a first request."""

STRANGERS_PART = 4
"""One network has a quarter of all connections at most, whatever the settings say."""

RETRY_AFTER = 10
"""Seconds after which somebody turned away may come again: who is silent is closed in
fifteen."""

PAUSE = 1.0
"""Seconds until it is tried again to accept, when there were no files."""

LOOK = 5.0
"""Seconds between two looks at the limit of open files, and two lines in the log at
least: so often a raised limit is noticed."""

QUIET = 60.0
"""Seconds between two lines about the same thing."""

_PEERS = "/telex/fed/"

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Connection(web.RequestHandler):
    """aiohttp's, which says when it is over."""

    __slots__ = ("_door", "_network")

    def __init__(
        self, door: "Door", network: str, server: web.Server, **options: Any
    ) -> None:
        """`network` is empty for one that nobody counts."""
        super().__init__(server, loop=asyncio.get_running_loop(), **options)
        self._door: Door | None = door
        self._network = network

    def prove(self) -> None:
        """Somebody whom we know has asked something on it."""
        if self._network:
            assert self._door is not None
            self._door.proved(self._network)
            self._network = ""

    def leave(self) -> None:
        """It is over, or no longer aiohttp's."""
        if self._door is not None:
            self.prove()
            self._door.left()
            self._door = None

    def connection_lost(self, exc: BaseException | None) -> None:
        """The transport's call, or `websocket.upgrade`'s."""
        super().connection_lost(exc)
        self.leave()


class Door:
    """Lets connections in; `open` it, `watch` it, and `close` it at the end."""

    def __init__(
        self,
        *,
        per_network: int,
        proxies: Collection[str],
        tls: ssl.SSLContext | None,
        sessions: Callable[[], int],
    ) -> None:
        """Make the one of a node.

        Args:
            per_network: connections of strangers from one; 0 for any number.
            proxies: addresses that are many people's.
            tls: the certificate; None: plain HTTP.
            sessions: how many sockets are open that are no longer aiohttp's.
        """
        self._per_network = per_network
        self._proxies = frozenset(proxies)
        self._tls = tls
        self._sessions = sessions
        self._server: web.Server | None = None
        self._options: dict[str, Any] = {}
        self._listening: list[socket.socket] = []
        self._paused: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._inside = 0
        """Connections that are aiohttp's, or in their handshake."""
        self._strangers: dict[str, int] = {}
        self._most = connections_of(open_files_limit())
        self._refused = self._crowded = 0
        self._refused_at = 0.0
        self._said: dict[str, float] = {}

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._listening[0].getsockname()[1])

    @property
    def state(self) -> Doorway:
        """How it is."""
        return Doorway(
            connections=self._inside + self._sessions(),
            most=self._most,
            refused=self._refused,
            crowded=self._crowded,
            refused_at=self._refused_at,
        )

    # --- life -------------------------------------------------------------------

    def open(
        self,
        listening: list[socket.socket],
        server: web.Server,
        options: dict[str, Any],
    ) -> None:
        """Accept on these from now on; `options` are `RequestHandler`'s."""
        self._listening, self._server, self._options = listening, server, options
        self._read()

    def close(self) -> None:
        """Listen no more; who is in stays, who shakes hands goes."""
        if self._paused is not None:
            self._paused.cancel()
        loop = asyncio.get_running_loop()
        for each in self._listening:
            loop.remove_reader(each)
            each.close()
        self._listening = []
        for task in self._tasks:
            task.cancel()

    async def watch(self) -> None:
        """Notice a limit that an admin changed (`prlimit`); runs until cancelled."""
        while True:
            await asyncio.sleep(LOOK)
            self._most = connections_of(open_files_limit())

    # --- who comes ----------------------------------------------------------------

    def _read(self) -> None:
        self._paused = None
        loop = asyncio.get_running_loop()
        for each in self._listening:
            loop.add_reader(each, self._accept, each)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPT_AT_ONCE):
            try:
                made, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no files, no memory, no network
                self._wait(error)
                return
            self._enter(made, str(address[0]))

    def _wait(self, error: OSError) -> None:
        """Leave who knocks in the queue, for there are no files."""
        self._refused_at = time.time()
        self._say("Nobody can be let in for now: %s.", error.strerror)
        loop = asyncio.get_running_loop()
        for each in self._listening:
            loop.remove_reader(each)
        self._paused = loop.call_later(PAUSE, self._read)

    def _enter(self, made: socket.socket, address: str) -> None:
        network = "" if self._is_proxy(address) else network_of(address)
        if self._inside + self._sessions() >= self._most:
            self._refused += 1
            self._refused_at = time.time()
            self._turn_away(made, _FULL)
            self._say("All %d connections are taken; others are refused.", self._most)
            return
        if network:
            here = self._strangers.get(network, 0)
            if here >= self._share():
                self._crowded += 1
                self._turn_away(made, _CROWDED)
                self._say("%s has %d connections without a device.", network, here)
                return
            self._strangers[network] = here + 1
        self._inside += 1
        made.setblocking(False)
        assert self._server is not None
        connection = Connection(self, network, self._server, **self._options)
        work = self._connect(made, connection)
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, made: socket.socket, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        limit = None if self._tls is None else HANDSHAKE_TIMEOUT
        try:
            await loop.connect_accepted_socket(
                partial(_same, connection),
                made,
                ssl=self._tls,
                ssl_handshake_timeout=limit,
            )
        except (OSError, ssl.SSLError, TimeoutError) as error:
            log.debug("a connection did not come about: %s", error)
            connection.leave()
        except BaseException:
            connection.leave()
            raise

    def _is_proxy(self, address: str) -> bool:
        if address in self._proxies:
            return True
        try:
            loopback = ipaddress.ip_address(address.partition("%")[0]).is_loopback
        except ValueError:
            return False
        return loopback and self._tls is None

    def _share(self) -> int:
        """Connections that one network's strangers may have."""
        most = max(1, self._most // STRANGERS_PART)
        return min(self._per_network or most, most)

    def _turn_away(self, made: socket.socket, answer: bytes) -> None:
        with made, suppress(OSError):
            made.setblocking(False)
            if self._tls is None:
                made.send(answer)

    def _say(self, words: str, *values: object) -> None:
        """Log it, unless it was said lately."""
        now = time.monotonic()
        if now - self._said.get(words, -QUIET) >= QUIET:
            self._said[words] = now
            log.warning(words, *values)

    # --- who goes -----------------------------------------------------------------

    def proved(self, network: str) -> None:
        """One from there is no stranger's any more."""
        here = self._strangers[network] - 1
        if here:
            self._strangers[network] = here
        else:
            del self._strangers[network]

    def left(self) -> None:
        """One is over, or is a session now."""
        self._inside -= 1


@web.middleware
async def note_peers(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Know a node by its request having been answered: all of those are signed."""
    response = await handler(request)
    if response.status < 400 and request.path.startswith(_PEERS):
        prove(request)
    return response


def prove(request: web.Request) -> None:
    """Somebody whom we know has signed a request."""
    if isinstance(connection := request.protocol, Connection):
        connection.prove()


def listen_on(host: str | None, port: int) -> list[socket.socket]:
    """Sockets that listen on an address, or on all of both families (None).

    Raises:
        OSError: on none of them it can.
    """
    found = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    made: list[socket.socket] = []
    try:
        for family, *_, address in dict.fromkeys(found):
            try:
                each = socket.create_server(
                    (str(address[0]), port), family=family, backlog=BACKLOG
                )
            except OSError as error:
                # A machine without IPv6 may still have a name for it.
                if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                    raise
                missing = error
                continue
            each.setblocking(False)
            made.append(each)
        if not made:
            raise missing
    except BaseException:
        for each in made:
            each.close()
        raise
    return made


def _same(connection: Connection) -> Connection:
    return connection


def _answer(error: Refused) -> bytes:
    body = encode_json(error.problem())
    status = HTTPStatus(error.status)
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        "Content-Type: application/problem+json\r\n"
        f"Content-Length: {len(body)}\r\nRetry-After: {error.retry_after}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + body


_FULL = _answer(
    NodeBusy("It has as many connections as it may.", retry_after=RETRY_AFTER)
)
_CROWDED = _answer(
    TooMany(
        "Too many connections from your address wait for a first signed request.",
        retry_after=RETRY_AFTER,
    )
)
