"""Logs over HTTP: submitting, pages, and what a room is like now."""

from aiohttp import web

from node.api.gate import Gate
from node.api.message import answer, number, read
from node.rooms.newest import Newest
from node.rooms.page import Pages
from node.rooms.state import RoomStates
from node.rooms.submission import Submissions
from protocol.errors import BadRequest
from protocol.limits import BATCH_ENTRIES, NEWEST_ROOMS
from protocol.log import parse_log_id
from protocol.wire import Submit

__all__ = ["LogApi"]


class LogApi:
    """Handlers about logs."""

    def __init__(
        self,
        gate: Gate,
        submissions: Submissions,
        pages: Pages,
        states: RoomStates,
        newest: Newest,
    ) -> None:
        self._gate = gate
        self._submissions = submissions
        self._pages = pages
        self._states = states
        self._newest = newest

    def routes(self) -> list[web.RouteDef]:
        """What `Application.add_routes` takes."""
        return [
            web.get("/telex/v1/rooms", self.rooms),
            web.post("/telex/v1/logs/{log}/entries", self.submit),
            web.get("/telex/v1/logs/{log}/entries", self.page),
            web.get("/telex/v1/logs/{log}/tree/{hash}", self.tree),
            web.get("/telex/v1/logs/{log}/group", self.group),
            web.get("/telex/v1/logs/{log}/roster", self.roster),
        ]

    async def rooms(self, request: web.Request) -> web.Response:
        """The rooms that the account is in; `newest`: with their newest entries."""
        device = await self._gate.device(request)
        newest = number(request, "newest")
        if newest is None:
            return answer(request, await self._pages.rooms(device))
        limit, start = number(request, "limit", NEWEST_ROOMS), request.query.get("from")
        return answer(
            request, await self._newest.rooms(device, newest, limit or 1, start)
        )

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
        tree = await self._states.tree(str(device.account), log, digest)
        return answer(request, tree)

    async def group(self, request: web.Request) -> web.Response:
        """What a device of an account in the room joins it by, by itself."""
        device = await self._gate.device(request)
        log = parse_log_id(request.match_info["log"])
        return answer(request, await self._states.group(str(device.account), log))

    async def roster(self, request: web.Request) -> web.Response:
        """To which devices the room's entries go."""
        device = await self._gate.device(request)
        log = parse_log_id(request.match_info["log"])
        return answer(request, await self._states.roster(str(device.account), log))
