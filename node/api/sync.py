"""Long polling: a session where a WebSocket cannot pass, and acks by request."""

from typing import Any, cast

from aiohttp import web

from node.api.gate import Gate
from node.api.message import answer, number, read
from node.api.socket import Handlers
from node.sessions.delivery import Delivery
from node.sessions.poll import Polls
from protocol.errors import BadRequest
from protocol.limits import POLL_MAX
from protocol.wire import AckFrame, Empty, FromDevice, SubmitFrame

__all__ = ["SyncApi"]


class SyncApi:
    """Handlers of polls, and of a device's frames as requests."""

    def __init__(
        self, gate: Gate, delivery: Delivery, polls: Polls, handlers: Handlers
    ) -> None:
        """`handlers` are those of `SocketApi`."""
        self._gate = gate
        self._delivery = delivery
        self._polls = polls
        self._handlers = handlers

    def routes(self) -> list[web.RouteDef]:
        """What `Application.add_routes` takes."""
        return [
            web.get("/telex/v1/sync", self.poll, allow_head=False),
            web.post("/telex/v1/acks", self.ack),
            web.post("/telex/v1/frames", self.frame),
        ]

    async def poll(self, request: web.Request) -> web.Response:
        """The session's next frames."""
        device = await self._gate.device(request)
        seconds = min(number(request, "timeout", 0) or 0, POLL_MAX)
        polled = await self._polls.poll(
            device,
            request.query.get("session", ""),
            seconds,
            self._gate.remote(request),
            lambda: request.transport is None or request.transport.is_closing(),
        )
        return answer(request, polled)

    async def ack(self, request: web.Request) -> web.Response:
        """How far the device has logs on its disk."""
        device = await self._gate.device(request)
        body = await read(request, AckFrame)
        await self._delivery.ack_alone(device, body.cursors)
        return answer(request, Empty())

    async def frame(self, request: web.Request) -> web.Response:
        """A frame of the device's that has no answer."""
        device = await self._gate.device(request)
        body = await read(request, cast(Any, FromDevice))
        if isinstance(body, AckFrame):
            await self._delivery.ack_alone(device, body.cursors)
        elif isinstance(body, SubmitFrame):
            raise BadRequest("Submissions go to /telex/v1/logs/{log}/entries.")
        elif (handler := self._handlers.get(type(body))) is not None:
            # What it says holds as long as its session does.
            if not self._delivery.connected(device.address):
                raise BadRequest("This device has no session; poll first.")
            handler(device, body)
        return answer(request, Empty())
