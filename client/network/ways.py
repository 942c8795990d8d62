"""Which way a session takes: a WebSocket, or long polls where none passes.

Some proxies refuse every upgrade, strip it, or cut what was upgraded. A WebSocket is
tried first at each new session, since the network may be another one by then; polls
come after it, and end when a WebSocket passes again (`polling`).
"""

import logging
from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from client.errors import (
    ClientError,
    NodeNonsense,
    NodeUnreachable,
    UpgradeFailed,
    UpgradeRefused,
)
from client.network.polling import PollSession
from client.network.session import Heard, Session
from client.network.transport import Transport
from protocol.errors import NotFound, Refused
from protocol.log import LogId
from protocol.wire import FromDevice, Ready, Receipt

__all__ = ["AnySession", "Ways"]

CUTS = 2
"""WebSockets in a row that were cut before they stood: then polls are tried. One alone
is a node that restarts."""

logger = logging.getLogger(__name__)


class AnySession(Protocol):
    """A session with the node, whatever it goes over; see `session.Session`."""

    ready: Ready

    def frames(self) -> AsyncIterator[Heard]:
        """What the node sends, until the session ends."""

    async def submit(self, submission: bytes) -> Receipt:
        """Hand a submission to the node and wait for its answer."""

    async def ack(self, cursors: Mapping[LogId, int]) -> None:
        """Tell the node what is on our disk."""

    async def tell(self, frame: FromDevice) -> None:
        """Send a frame that is not answered."""

    async def close(self) -> None:
        """End the session."""


class Ways:
    """Opens sessions, and remembers how WebSockets fared."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._cuts = 0
        self._found: Session | None = None
        """A WebSocket that passed while polls were under way."""

    async def open(self) -> AnySession:
        """Open a session.

        Raises:
            Refused, NodeUnreachable, NodeUntrusted, NodeNonsense.
        """
        found, self._found = self._found, None
        if found is not None:
            return found
        if self._cuts >= CUTS:
            # One way for each attempt: nobody is to be knocked at twice as often.
            self._cuts = 0
            polling = await self._poll()
            self._cuts = CUTS - 1
            return polling
        try:
            session = await Session.open(self._transport)
        except UpgradeRefused:
            return await self._poll()
        except UpgradeFailed:
            self._cuts += 1
            raise
        self._cuts = 0
        return session

    async def _poll(self) -> PollSession:
        try:
            polling = await PollSession.open(self._transport, self._find)
        except (NotFound, NodeNonsense) as error:  # a node without polls, or no node
            raise NodeUnreachable(
                "No session with the node can be opened from this network; Telex "
                "keeps trying."
            ) from error
        logger.info("no WebSocket passes here: Telex asks again and again instead")
        return polling

    async def _find(self) -> bool:
        """Whether a WebSocket passes now; it is the next session."""
        try:
            self._found = await Session.open(self._transport)
        except (ClientError, Refused):
            return False
        self._cuts = 0
        return True
