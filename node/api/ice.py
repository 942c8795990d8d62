"""`/telex/v1/ice`: the STUN and TURN servers for a device's calls."""

from aiohttp import web

from node.api.gate import Gate
from node.api.message import answer
from node.calls.access import IceAccess

__all__ = ["IceApi"]


class IceApi:
    """The handler that calls ask."""

    def __init__(self, gate: Gate, access: IceAccess) -> None:
        self._gate = gate
        self._access = access

    def routes(self) -> list[web.RouteDef]:
        """What `Application.add_routes` takes."""
        return [web.get("/telex/v1/ice", self.servers)]

    async def servers(self, request: web.Request) -> web.Response:
        """The servers, with credentials of their own for this device's account."""
        device = await self._gate.device(request)
        return answer(request, self._access.servers(device))
