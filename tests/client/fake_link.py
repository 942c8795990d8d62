"""Links of a fake node: offers and answers, and ways to lie about them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from protocol.codec import MSGPACK, decode, encode
from protocol.errors import LinkPending, LinkTaken, UnknownLink
from protocol.wire import Empty, LinkSlot

__all__ = ["FakeLinks"]


@dataclass
class FakeLinks:
    """Halves of links by id; take one out and it has expired."""

    halves: dict[str, dict[str, bytes]] = field(default_factory=dict)
    events: dict[str, asyncio.Event] = field(
        default_factory=lambda: defaultdict(asyncio.Event)
    )
    swap: Callable[[str, bytes], bytes] = lambda half, data: data
    """Changes the halves that are shown: `offer` or `answer`, and its bytes."""

    def expire(self) -> None:
        """Ten minutes are over."""
        self.halves.clear()
        for event in self.events.values():
            event.set()

    def routes(self, v1: str) -> list[web.RouteDef]:
        """What they answer."""
        path = f"{v1}/links/{{id}}"
        return [
            web.put(f"{path}/offer", self.put_offer),
            web.get(f"{path}/offer", self.get_offer),
            web.put(f"{path}/answer", self.put_answer),
            web.get(f"{path}/answer", self.wait_answer),
        ]

    async def put_offer(self, request: web.Request) -> web.Response:
        halves = self.halves.setdefault(request.match_info["id"], {})
        return await _put(request, halves, "offer")

    async def get_offer(self, request: web.Request) -> web.Response:
        return self._shown("offer", self._find(request)["offer"])

    async def put_answer(self, request: web.Request) -> web.Response:
        answer = await _put(request, self._find(request), "answer")
        self.events[request.match_info["id"]].set()
        return answer

    async def wait_answer(self, request: web.Request) -> web.Response:
        if "answer" not in self._find(request):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(float(request.query["timeout"])):
                    await self.events[request.match_info["id"]].wait()
        halves = self._find(request)
        if "answer" not in halves:
            raise LinkPending
        return self._shown("answer", halves["answer"])

    def _find(self, request: web.Request) -> dict[str, bytes]:
        found = self.halves.get(request.match_info["id"])
        if found is None:
            raise UnknownLink
        return found

    def _shown(self, half: str, data: bytes) -> web.Response:
        body = encode(LinkSlot(self.swap(half, data)))
        return web.Response(body=body, content_type=MSGPACK)


async def _put(
    request: web.Request, halves: dict[str, bytes], half: str
) -> web.Response:
    data = decode(await request.read(), LinkSlot).data
    if halves.setdefault(half, data) != data:
        raise LinkTaken
    return web.Response(body=encode(Empty()), content_type=MSGPACK)
