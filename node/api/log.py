"""Logs over HTTP: submitting, pages, trees, and the rooms of an account."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from node.api.gate import Gate
from node.api.message import answer, number, read
from node.rooms.page import Pages
from node.rooms.submission import Submissions
from protocol.errors import BadRequest
from protocol.limits import BATCH_ENTRIES
from protocol.log import LogId, parse_log_id
from protocol.wire import Submit, Tree

__all__ = ["LogApi"]

RemoteTree = Callable[[str, LogId, str], Awaitable[Tree]]
"""Asks a room's hub for a ratchet tree."""


class LogApi:
    """Handlers about logs."""

    def __init__(
        self,
        gate: Gate,
        submissions: Submissions,
        pages: Pages,
        node: str,
        remote_tree: RemoteTree,
    ) -> None:
        self._gate = gate
        self._submissions = submissions
        self._pages = pages
        self._node = node
        self._remote_tree = remote_tree

    def routes(self) -> list[web.RouteDef]:
        """What `Application.add_routes` takes."""
        return [
            web.get("/telex/v1/rooms", self.rooms),
            web.post("/telex/v1/logs/{log}/entries", self.submit),
            web.get("/telex/v1/logs/{log}/entries", self.page),
            web.get("/telex/v1/logs/{log}/tree/{hash}", self.tree),
        ]

    async def rooms(self, request: web.Request) -> web.Response:
        """The rooms that the account is in."""
        device = await self._gate.device(request)
        return answer(request, await self._pages.rooms(device))

    async def submit(self, request: web.Request) -> web.Response:
        """Append, carry or forward a submission; answers its receipt."""
        device = await self._gate.device(request)
        log = parse_log_id(request.match_info["log"])
        body = await read(request, Submit)
        return answer(request, await self._submissions.submit(device, body, log))

    async def page(self, request: web.Request) -> web.Response:
        """Entries after a seq, or before one."""
        device = await self._gate.device(request)
        page = await self._pages.page(
            device,
            parse_log_id(request.match_info["log"]),
            after=number(request, "after"),
            before=number(request, "before"),
            limit=number(request, "limit") or BATCH_ENTRIES,
        )
        return answer(request, page)

    async def tree(self, request: web.Request) -> web.Response:
        """A ratchet tree by its hash, fetched from the room's hub if need be."""
        device = await self._gate.device(request)
        log = parse_log_id(request.match_info["log"])
        text = request.match_info["hash"]
        try:
            digest = bytes.fromhex(text)
        except ValueError as error:
            raise BadRequest("A tree's hash is written in hex digits.") from error
        account = str(device.account)
        hub = await self._pages.hub_of(account, log)
        if hub == self._node:
            return answer(request, await self._pages.tree(account, log, digest))
        return answer(request, await self._remote_tree(hub, log, digest.hex()))
