"""`/.well-known/telex`: who this node is and where it answers."""

from typing import Literal, cast

from aiohttp import web

from node.api.message import answer
from node.clock import Clock
from node.config import Settings
from node.version import VERSION
from protocol.codec import JSON
from protocol.wire import VERSION as WIRE_VERSION
from protocol.wire import NodeDocument

__all__ = ["DiscoveryApi"]

_Registration = Literal["invite", "open", "closed"]


class DiscoveryApi:
    """The one handler that anybody may ask, unsigned."""

    def __init__(self, settings: Settings, keys: list[bytes], clock: Clock) -> None:
        """`keys` is the node's key log, oldest first."""
        self._settings = settings
        self._keys = keys
        self._clock = clock

    def routes(self) -> list[web.RouteDef]:
        """What `Application.add_routes` takes."""
        return [web.get("/.well-known/telex", self.document)]

    async def document(self, request: web.Request) -> web.Response:
        """The node's document; JSON unless MessagePack is asked for, for people."""
        registration = cast(_Registration, self._settings.registration)
        document = NodeDocument(
            name=self._settings.name,
            base_url=self._settings.public_url,
            versions=[WIRE_VERSION],
            software=f"telex-node/{VERSION}",
            registration=registration,
            keys=self._keys,
            time=int(self._clock()),
        )
        return answer(request, document, default=JSON)
