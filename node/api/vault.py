"""Vaults and links over HTTP."""

import re

from aiohttp import web

from node.accounts.link import Links
from node.accounts.vault import VaultKeeper
from node.api.gate import Gate
from node.api.message import OCTETS, answer, number, read, read_body
from protocol.errors import BadRequest, TooLarge, UnsupportedMedia
from protocol.limits import SEGMENT_MAX
from protocol.wire import Empty, LinkSlot

__all__ = ["LinkApi", "VaultApi"]

_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


class VaultApi:
    """Handlers about vaults: an account's devices, and no one else."""

    def __init__(self, gate: Gate, vaults: VaultKeeper) -> None:
        self._gate = gate
        self._vaults = vaults

    def routes(self) -> list[web.RouteDef]:
        """What `Application.add_routes` takes."""
        return [
            web.get("/telex/v1/vaults", self.list),
            web.get("/telex/v1/vaults/{vault}", self.look),
            web.delete("/telex/v1/vaults/{vault}", self.drop),
            web.put("/telex/v1/vaults/{vault}/{n}", self.put),
            web.get("/telex/v1/vaults/{vault}/{n}", self.get),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """All vaults of the account."""
        device = await self._gate.device(request)
        return answer(request, await self._vaults.list(device.account.local))

    async def look(self, request: web.Request) -> web.Response:
        """One vault."""
        device = await self._gate.device(request)
        vault = request.match_info["vault"]
        return answer(request, await self._vaults.get(device.account.local, vault))

    async def drop(self, request: web.Request) -> web.Response:
        """End a vault."""
        device = await self._gate.device(request)
        await self._vaults.drop(device.account.local, request.match_info["vault"])
        return answer(request, Empty())

    async def put(self, request: web.Request) -> web.Response:
        """Store a segment."""
        # A body that is too large is refused before it is read.
        if (request.content_length or 0) > SEGMENT_MAX:
            raise TooLarge(f"A segment has at most {SEGMENT_MAX} bytes.")
        device = await self._gate.device(request)
        if request.content_type != OCTETS:
            raise UnsupportedMedia(f"A segment is {OCTETS}.")
        stored = await self._vaults.put(
            device.account.local,
            request.match_info["vault"],
            _number(request),
            request.query.get("kind"),
            await read_body(request),
        )
        return answer(request, stored)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """A segment's bytes, streamed."""
        device = await self._gate.device(request)
        path = await self._vaults.segment(
            device.account.local, request.match_info["vault"], _number(request)
        )
        return web.FileResponse(path, headers={"Content-Type": OCTETS})


class LinkApi:
    """Handlers about links."""

    def __init__(self, gate: Gate, links: Links) -> None:
        self._gate = gate
        self._links = links

    def routes(self) -> list[web.RouteDef]:
        """What `Application.add_routes` takes."""
        return [
            web.put("/telex/v1/links/{id}/offer", self.offer),
            web.get("/telex/v1/links/{id}/offer", self.get_offer),
            web.put("/telex/v1/links/{id}/answer", self.answer),
            web.get("/telex/v1/links/{id}/answer", self.wait_answer),
        ]

    async def offer(self, request: web.Request) -> web.Response:
        """Leave an offer; by anybody, since the device has no account yet."""
        remote = self._gate.stranger(request)
        body = await read(request, LinkSlot)
        await self._links.offer(request.match_info["id"], body.data, remote)
        return answer(request, Empty())

    async def get_offer(self, request: web.Request) -> web.Response:
        """The offer, for a device of this node."""
        await self._gate.device(request)
        found = await self._links.get_offer(request.match_info["id"])
        return answer(request, LinkSlot(found))

    async def answer(self, request: web.Request) -> web.Response:
        """Leave the answer; by a device of this node."""
        await self._gate.device(request)
        body = await read(request, LinkSlot)
        await self._links.answer(request.match_info["id"], body.data)
        return answer(request, Empty())

    async def wait_answer(self, request: web.Request) -> web.Response:
        """The answer, as soon as it comes; unsigned: who knows the id may have it."""
        self._gate.stranger(request)
        seconds = number(request, "timeout", 0) or 0
        found = await self._links.wait_answer(request.match_info["id"], seconds)
        return answer(request, LinkSlot(found))


def _number(request: web.Request) -> int:
    text = request.match_info["n"]
    if not _NUMBER.fullmatch(text):
        raise BadRequest("Segments are numbered from 1.")
    return int(text)
