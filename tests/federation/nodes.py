"""Nodes for tests: real aiohttp servers with TLS on loopback around a `Federation`."""

import asyncio
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Middleware

from federation.policy import PeerPolicy
from federation.ports import SystemClock
from federation.service import Federation
from protocol.codec import encode_json
from protocol.key import KeyPair
from protocol.node_identity import begin_node_log, key_id, next_revision, read_node_log
from protocol.wire import VERSION, NodeDocument
from tests.federation.clock import FakeClock
from tests.federation.memory import MemoryStore

__all__ = ["Handler", "TestNode", "eventually", "keypair"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Fault = Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]


def keypair(text: str) -> KeyPair:
    """A key that follows from a text."""
    return KeyPair.from_seed(text.encode().ljust(32, b"\0")[:32])


async def eventually(
    condition: Callable[[], bool],
    clock: FakeClock | None = None,
    step: float = 0.0,
    seconds: float = 10.0,
) -> None:
    """Wait until something holds; with a step, the fake clock moves meanwhile."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        await asyncio.sleep(0.005)
        if clock is not None and step:
            clock.advance(step)


class TestNode:
    """A node that keeps its port, its store and its key over restarts."""

    __test__ = False

    def __init__(
        self,
        ca_file: Path,
        tls: ssl.SSLContext,
        clock: FakeClock | None = None,
        policy: PeerPolicy | None = None,
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.port: int = port
        self.name = f"127.0.0.1:{port}"
        self.key = keypair(self.name)
        self.recovery = keypair("recovery " + self.name)
        self.key_log = [begin_node_log(self.name, self.key, self.recovery.public, 1)]
        self.store = MemoryStore(self.name)
        self.policy = policy
        self.clock = clock
        self.fault: Fault | None = None
        """What happens to requests on their way in or answers on their way out."""
        self.documents = 0
        """How often the document was fetched."""
        self.requests: list[str] = []
        self._ca_file = ca_file
        self._tls = tls
        self._runner: web.AppRunner | None = None
        self.federation: Federation | None = None

    @property
    def keyid(self) -> str:
        return key_id(self.name, self.key.public)

    @property
    def running(self) -> Federation:
        assert self.federation is not None
        return self.federation

    async def start(self) -> "TestNode":
        federation = Federation(
            self.name,
            self.key,
            peer_store=self.store,
            log_store=self.store,
            services=self.store,
            policy=self.policy,
            ca_file=self._ca_file,
            clock=self.clock or SystemClock(),
            jitter=lambda: 1.0,
        )
        self.federation = federation
        app = web.Application(middlewares=[self._middleware()])
        app.add_routes(federation.routes())
        app.router.add_get("/.well-known/telex", self._document)
        self._runner = web.AppRunner(app, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(
            self._runner,
            "127.0.0.1",
            self.port,
            ssl_context=self._tls,
            reuse_address=True,
        )
        await site.start()
        await federation.start()
        return self

    async def stop(self) -> None:
        """Stop; what is in the store stays."""
        if self.federation is not None:
            await self.federation.stop()
            self.federation = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def rotate(self, signed: bool = True) -> None:
        """Put another key in force, with or without the old one's signature."""
        key = keypair(f"next {len(self.key_log)} {self.name}")
        if signed:
            identity = read_node_log(self.name, self.key_log)
            self.key_log.append(
                next_revision(identity, self.key, key.public, self.recovery.public, 2)
            )
        else:
            self.key_log = [begin_node_log(self.name, key, key.public, 2)]
        self.key = key
        self.running.rotate(key)

    async def _document(self, request: web.Request) -> web.Response:
        self.documents += 1
        document = NodeDocument(
            name=self.name,
            base_url=f"https://{self.name}",
            versions=[VERSION],
            software="test",
            registration="closed",
            keys=self.key_log,
            time=0,
        )
        return web.Response(body=encode_json(document), content_type="application/json")

    def _middleware(self) -> Middleware:
        @web.middleware
        async def middleware(
            request: web.Request, handler: Handler
        ) -> web.StreamResponse:
            self.requests.append(request.path)
            if self.fault is not None:
                return await self.fault(request, handler)
            return await handler(request)

        return middleware
