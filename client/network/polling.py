"""A session over long polls, for networks that let no WebSocket through.

It says and hears the same frames as `session.Session`. The node keeps the session
between two polls; if it has lost it, or an answer was lost, it begins another one, and
so do we: `sync` then compares what is here with what is there, as after any cut.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from http import HTTPStatus

from client.errors import ClientError, NodeNonsense, NodeUnreachable
from client.network.pace import LAST_DELAY
from client.network.refusals import refusal_of
from client.network.session import Heard
from client.network.transport import Transport
from protocol.errors import Refused
from protocol.log import LogId, read_submission
from protocol.sync import Polled
from protocol.wire import (
    AckFrame,
    Empty,
    FromDevice,
    FromNode,
    ProblemFrame,
    Ready,
    Receipt,
    ResultFrame,
    Submit,
)

__all__ = ["PollSession"]

POLL_SECONDS = 20
"""Seconds that the node may keep a poll waiting: with them and the answer it stays
below the time of any request."""

TRIES = 3
"""Polls that may fail in a row: the node keeps the session for half a minute."""

TRY_PAUSE = 2.0
"""Seconds between them."""

PROBE_FIRST, PROBE_LAST = 60.0, 3600.0
"""Seconds until it is tried whether a WebSocket passes now, doubled each time."""

logger = logging.getLogger(__name__)


class PollSession:
    """An open session; get one from `PollSession.open`."""

    def __init__(
        self,
        transport: Transport,
        first: Polled,
        ready: Ready,
        websocket: Callable[[], Awaitable[bool]],
    ) -> None:
        self.ready = ready
        self._websocket = websocket
        self._transport = transport
        self._token = first.session
        self._first = first.frames[1:]
        self._acks: dict[LogId, int] = {}
        self._acked = asyncio.Event()
        self._acking = asyncio.create_task(self._send_acks())
        self._order: dict[LogId, asyncio.Lock] = {}
        self._probe_after = PROBE_FIRST
        self._probe_at = time.monotonic() + PROBE_FIRST

    @classmethod
    async def open(
        cls, transport: Transport, websocket: Callable[[], Awaitable[bool]]
    ) -> "PollSession":
        """Begin a session.

        Args:
            transport: to the node.
            websocket: tries to open a WebSocket; if it could, this session is over.

        Raises:
            Refused, NodeUnreachable, NodeUntrusted, NodeNonsense.
        """
        first = await transport.get("/sync?timeout=0", Polled)
        match first.frames:
            case [Ready() as ready, *_]:
                return cls(transport, first, ready, websocket)
            case [ProblemFrame(problem), *_]:
                raise refusal_of(problem)
            case _:
                raise NodeNonsense("The node began a session with the wrong frame.")

    async def frames(self) -> AsyncIterator[Heard]:
        """What the node sends, until the session ends.

        Raises:
            Refused: the node ended it and said why.
            NodeUnreachable: the connection was lost, or a WebSocket passes again.
            NodeNonsense: the node sent what is no frame.
        """
        frames: list[FromNode] = self._first
        while True:
            for frame in frames:
                match frame:
                    case ProblemFrame(problem):
                        raise refusal_of(problem)
                    case Ready():
                        raise NodeUnreachable("The node has begun the session anew.")
                    case ResultFrame():
                        raise NodeNonsense("The node answered what was not asked.")
                    case _:
                        yield frame
            await self._probe()
            frames = await self._poll()

    async def submit(self, submission: bytes) -> Receipt:
        """Hand a submission to the node and wait for its answer.

        Those for one room go one after the other: requests may overtake each other.

        Raises:
            Refused: the node's refusal.
            NodeUnreachable: the answer did not come; sending it again is safe.
        """
        log = read_submission(submission).log
        async with self._order.setdefault(log, asyncio.Lock()):
            return await self._transport.post(
                f"/logs/{log}/entries", Submit(submission), Receipt
            )

    async def ack(self, cursors: Mapping[LogId, int]) -> None:
        """Tell the node what is on our disk, a moment later."""
        for log, seq in cursors.items():
            self._acks[log] = max(seq, self._acks.get(log, 0))
        self._acked.set()

    async def tell(self, frame: FromDevice) -> None:
        """Send a frame that is not answered.

        Raises:
            ClientError: the connection was lost.
        """
        try:
            await self._transport.post("/frames", frame, Empty)
        except Refused as error:
            logger.warning("the node refused a frame: %s", error.code)

    async def close(self) -> None:
        """End the session; the node notices by itself."""
        self._acking.cancel()
        await asyncio.gather(self._acking, return_exceptions=True)

    # --- polls ----------------------------------------------------------------------

    async def _poll(self) -> list[FromNode]:
        path = f"/sync?timeout={POLL_SECONDS}&session={self._token}"
        for left in reversed(range(TRIES)):
            try:
                answer = await self._transport.get(path, Polled)
                self._token = answer.session
                return answer.frames
            except NodeUnreachable:
                if not left:
                    raise
                wait = TRY_PAUSE
            except Refused as error:
                if error.status != HTTPStatus.TOO_MANY_REQUESTS or not left:
                    raise
                wait = min(error.retry_after or TRY_PAUSE, LAST_DELAY)
            await asyncio.sleep(wait)
        raise AssertionError("unreachable")

    async def _probe(self) -> None:
        """Now and then, see whether a WebSocket passes."""
        if time.monotonic() < self._probe_at:
            return
        if await self._websocket():
            raise NodeUnreachable("Telex goes back to a WebSocket.")
        self._probe_after = min(2 * self._probe_after, PROBE_LAST)
        self._probe_at = time.monotonic() + self._probe_after

    async def _send_acks(self) -> None:
        """Send acks as they gather; one that is lost is repeated by the next session,
        or by the next ack of its log."""
        while True:
            await self._acked.wait()
            self._acked.clear()
            cursors, self._acks = self._acks, {}
            try:
                await self._transport.post("/acks", AckFrame(cursors), Empty)
            except Refused as error:
                logger.warning("the node refused an ack: %s", error.code)
            except ClientError:
                for log, seq in cursors.items():
                    self._acks[log] = max(seq, self._acks.get(log, 0))
                self._acked.set()
                await asyncio.sleep(TRY_PAUSE)
