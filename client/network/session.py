"""One WebSocket session with the node: frames in, frames out.

It lives as long as the connection does; `sync` makes the next one. Submissions are
matched with their results by number. Nothing here decides anything: entries go to
whoever iterates, in the order in which they came.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping

import aiohttp
import msgspec

from client.errors import NodeNonsense, NodeUnreachable, UpgradeFailed
from client.network.refusals import refusal_of
from client.network.transport import REQUEST_TIMEOUT, Transport
from protocol.codec import encode
from protocol.errors import Refused
from protocol.limits import BODY_MAX
from protocol.log import LogId
from protocol.presence import People, Typist
from protocol.wire import (
    AckFrame,
    Entries,
    FromDevice,
    FromNode,
    OutcomeFrame,
    ProblemFrame,
    Ready,
    Receipt,
    ResultFrame,
    SubmitFrame,
)

__all__ = ["Heard", "Session"]

HEARTBEAT = 25.0
"""Seconds between pings: home routers drop what is silent for 60."""

FRAME_MAX = 2 * BODY_MAX
"""Bytes of one frame: a batch of entries, or one entry of the largest size."""

READY_TIMEOUT = 15.0
"""Seconds until the node has said that the session stands."""

UNANSWERED_MAX = 64
"""Submissions that may wait for their result at one time."""

Heard = Entries | OutcomeFrame | People | Typist
"""Frames that a session hands on."""

logger = logging.getLogger(__name__)

_decoder = msgspec.msgpack.Decoder(FromNode)


class Session:
    """An open session; get one from `Session.open`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, ready: Ready) -> None:
        self._socket = socket
        self.ready = ready
        self._waiting: dict[int, asyncio.Future[Receipt]] = {}
        self._count = 0
        self._slots = asyncio.Semaphore(UNANSWERED_MAX)
        self._problem: Refused | None = None

    @classmethod
    async def open(cls, transport: Transport) -> "Session":
        """Connect and wait for the node's `ready`.

        Raises:
            Refused, NodeUnreachable, NodeUntrusted, NodeNonsense.
        """
        socket = await transport.websocket(heartbeat=HEARTBEAT, frame_max=FRAME_MAX)
        try:
            async with asyncio.timeout(READY_TIMEOUT):
                frame = _read(await socket.receive())
        except TimeoutError as error:
            await socket.close()
            raise UpgradeFailed("The node opened a session and fell silent.") from error
        except NodeUnreachable as error:
            await socket.close()
            raise UpgradeFailed(str(error)) from error
        except BaseException:
            await socket.close()
            raise
        match frame:
            case Ready():
                return cls(socket, frame)
            case ProblemFrame(problem):
                await socket.close()
                raise refusal_of(problem)
            case _:
                await socket.close()
                raise NodeNonsense("The node began a session with the wrong frame.")

    async def frames(self) -> AsyncIterator[Heard]:
        """What the node sends, until the session ends.

        Raises:
            Refused: the node ended it and said why.
            NodeUnreachable: the connection was lost.
            NodeNonsense: the node sent what is no frame.
        """
        while True:
            try:
                frame = _read(await self._socket.receive())
            except NodeUnreachable:
                if self._problem is not None:
                    raise self._problem from None
                raise
            problem, self._problem = self._problem, None
            if problem is not None:
                logger.warning("the node refused a frame: %s", problem.code)
            match frame:
                case ResultFrame() as result:
                    self._settle(result)
                case Entries() | OutcomeFrame() | People() | Typist():
                    yield frame
                case ProblemFrame(document):
                    # A frame was refused, or the session is about to end: then
                    # this is why.
                    self._problem = refusal_of(document)
                case Ready():
                    raise NodeNonsense("The node began one session twice.")

    async def submit(self, submission: bytes) -> Receipt:
        """Hand a submission to the node and wait for its answer.

        Raises:
            Refused: the node's refusal.
            NodeUnreachable: the answer did not come; the submission may have been
                taken, and sending the same bytes again is safe.
        """
        async with self._slots:
            self._count += 1
            number = self._count
            answer: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
            self._waiting[number] = answer
            try:
                await self._send(SubmitFrame(number, submission))
                async with asyncio.timeout(REQUEST_TIMEOUT):
                    return await answer
            except TimeoutError as error:
                raise NodeUnreachable("The node did not answer in time.") from error
            finally:
                del self._waiting[number]

    async def ack(self, cursors: Mapping[LogId, int]) -> None:
        """Tell the node what is on our disk.

        Raises:
            NodeUnreachable: the connection was lost.
        """
        await self._send(AckFrame(dict(cursors)))

    async def tell(self, frame: FromDevice) -> None:
        """Send a frame that is not answered: presence, typing.

        Raises:
            NodeUnreachable: the connection was lost.
        """
        await self._send(frame)

    async def close(self) -> None:
        """End the session; whoever waits for a result gets `NodeUnreachable`."""
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(NodeUnreachable("The connection was closed."))
        await self._socket.close()

    async def _send(self, frame: FromDevice) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                await self._socket.send_bytes(encode(frame))
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
            raise NodeUnreachable("The connection to the node was lost.") from error

    def _settle(self, result: ResultFrame) -> None:
        answer = self._waiting.get(result.id)
        if answer is None or answer.done():
            return  # it came after we had stopped waiting
        if result.receipt is not None:
            answer.set_result(result.receipt)
        elif result.problem is not None:
            answer.set_exception(refusal_of(result.problem))
        else:
            answer.set_exception(NodeNonsense("The node sent an empty result."))


def _read(message: aiohttp.WSMessage) -> FromNode:
    if message.type is aiohttp.WSMsgType.BINARY:
        try:
            frame: FromNode = _decoder.decode(message.data)
            return frame
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise NodeNonsense(
                "The node sent a frame that this Telex cannot read; one of the two "
                "may need an update."
            ) from error
    if message.type in (
        aiohttp.WSMsgType.CLOSE,
        aiohttp.WSMsgType.CLOSING,
        aiohttp.WSMsgType.CLOSED,
        aiohttp.WSMsgType.ERROR,
    ):
        raise NodeUnreachable("The connection to the node was lost.")
    raise NodeNonsense("The node sent a frame that is not MessagePack.")
