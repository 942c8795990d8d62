"""A proxy in front of a node that does with WebSockets what some proxies do."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

Way = Literal["pass", "refuse", "strip", "cut", "hang up"]

HOP = ("upgrade", "connection", "sec-websocket-version", "sec-websocket-key")


@dataclass
class UpgradeProxy:
    """Passes requests on to a node; `way` is what happens to upgrades."""

    node: str
    """Its URL."""
    way: Way = "pass"
    lose: int = 0
    """Of so many answers to polls that hold entries, one is lost; 0: none."""
    polls: int = 0
    lost: int = 0
    upgrades: int = 0
    websockets: int = 0
    """Those that are open."""
    url: str = ""
    _held: int = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["UpgradeProxy"]:
        """Listen, until the end."""
        app = web.Application(client_max_size=4 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._serve)
        async with (
            aiohttp.ClientSession(auto_decompress=False) as self._http,
            TestServer(app) as server,
        ):
            self.url = str(server.make_url("")).rstrip("/")
            yield self

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        headers = request.headers.copy()
        if "Upgrade" in headers:
            self.upgrades += 1
            match self.way:
                case "refuse":
                    return web.Response(status=403, text="<h1>Not here</h1>")
                case "cut":
                    return _cut(request)
                case "strip":
                    for name in HOP:
                        headers.pop(name, None)
                case _:
                    return await self._tunnel(request)
        body = await request.read()
        async with self._http.request(
            request.method,
            f"{self.node}{request.raw_path}",
            headers=headers,
            data=body or None,
        ) as answer:
            content = await answer.read()
        if request.path == "/telex/v1/sync":
            self.polls += 1
            self._held += len(content) > 200
            if self.lose and len(content) > 200 and self._held % self.lose == 0:
                self.lost += 1
                return _cut(request)
        fields = {"Content-Type": answer.headers["Content-Type"]}
        if "Content-Encoding" in answer.headers:
            fields["Content-Encoding"] = answer.headers["Content-Encoding"]
        return web.Response(status=answer.status, body=content, headers=fields)

    async def _tunnel(self, request: web.Request) -> web.StreamResponse:
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower() not in HOP and not name.lower().startswith("sec-websocket")
        }
        async with self._http.ws_connect(
            f"{self.node}{request.raw_path}", headers=headers, max_msg_size=0
        ) as inner:
            outer = web.WebSocketResponse(max_msg_size=0)
            await outer.prepare(request)
            if self.way == "hang up":
                return _cut(request)
            self.websockets += 1
            try:
                await asyncio.wait(
                    [
                        asyncio.create_task(_relay(inner, outer)),
                        asyncio.create_task(_relay(outer, inner)),
                    ],
                    return_when=asyncio.FIRST_COMPLETED,
                )
            finally:
                self.websockets -= 1
            await outer.close()
        return outer


def _cut(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def _relay(
    source: aiohttp.ClientWebSocketResponse | web.WebSocketResponse,
    sink: aiohttp.ClientWebSocketResponse | web.WebSocketResponse,
) -> None:
    with contextlib.suppress(ConnectionError):
        async for message in source:
            if message.type is aiohttp.WSMsgType.BINARY:
                await sink.send_bytes(message.data)
