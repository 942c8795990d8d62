"""A node in memory that speaks the real wire over real HTTP, and can be told to lie.

It orders rooms, keeps cursors and mailboxes, and compares epochs; it checks no
signature and no commit, so what it takes proves nothing about a node. What a client
is shown by a lying node is tested with it: a real one does not lie.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from protocol.codec import encode_json
from protocol.wire import NodeDocument
from tests.client.fake_accounts import FakeAccounts, hash_at
from tests.client.fake_link import FakeLinks
from tests.client.fake_session import FakeSessions
from tests.client.fake_state import NAME, problems
from tests.client.fake_vault import FakeVaults
from tests.helpers.people import key

__all__ = ["NAME", "FakeNode", "hash_at", "running"]


@dataclass
class FakeNode(FakeAccounts, FakeSessions):
    """The node; `url` is set while it runs."""

    vaults: FakeVaults = field(default_factory=FakeVaults)
    links: FakeLinks = field(default_factory=FakeLinks)

    async def well_known(self, request: web.Request) -> web.Response:
        document = NodeDocument(
            NAME, self.url, ["1"], "fake", "open", [key().public], self.time()
        )
        return web.Response(body=encode_json(document), content_type="application/json")

    def app(self) -> web.Application:
        """Everything that it answers."""
        app = web.Application(middlewares=[problems], client_max_size=1 << 24)
        v1 = "/telex/v1"
        app.router.add_get("/.well-known/telex", self.well_known)
        app.add_routes(self.account_routes(v1))
        app.add_routes(self.room_routes(v1))
        app.add_routes(self.session_routes(v1))
        app.add_routes(self.vaults.routes(v1))
        app.add_routes(self.links.routes(v1))
        return app


@asynccontextmanager
async def running(
    node: FakeNode | None = None, port: int = 0
) -> AsyncIterator[FakeNode]:
    """A fake node (or the one from before) on a port (or a free one)."""
    node = node or FakeNode()
    runner = web.AppRunner(node.app(), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, reuse_address=True)
    await site.start()
    port = runner.addresses[0][1]
    node.url = f"http://127.0.0.1:{port}"
    try:
        yield node
    finally:
        for socket in list(node.sockets.values()):
            await socket.close()
        await runner.cleanup()
