"""The servers that help two devices find a way, as our node names them.

Asked for when a call begins or rings, and kept while they are good for another call.
Nobody waits for a node that does not answer: without servers a device names its own
addresses alone, which is all that two devices in one network need.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from media.port import IceServer
from protocol.errors import TelexError
from protocol.wire import IceServers

__all__ = ["PATIENCE", "Servers"]

PATIENCE = 0.15
"""Seconds that a call waits for the node's answer."""

SECONDS_MAX = 24 * 3600
"""Seconds for which servers are kept, whatever the node says."""

SERVERS_MAX = 16
"""Servers that are used: each is asked by each leg."""

URLS_MAX = 8

AGAIN = 10.0
"""Seconds until a node that had no answer is asked once more."""

logger = logging.getLogger(__name__)


class Servers:
    """What the node named last; `ask` sends the request."""

    def __init__(
        self,
        ask: Callable[[], Awaitable[IceServers]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` gives seconds that never jump."""
        self._ask = ask
        self._clock = clock
        self._found: tuple[IceServer, ...] = ()
        self._good_until = float("-inf")
        self._ask_after = float("-inf")
        self._asking: asyncio.Task[None] | None = None

    def want(self) -> None:
        """A call may need them soon."""
        if self._asking is None and self._clock() >= self._ask_after:
            self._asking = asyncio.create_task(self._renew(), name="ice servers")

    async def get(self) -> tuple[IceServer, ...]:
        """Those that are good now; waits for `PATIENCE` where there are none."""
        self.want()
        if self._asking is not None and self._clock() >= self._good_until:
            await asyncio.wait([self._asking], timeout=PATIENCE)
        return self._found if self._clock() < self._good_until else ()

    async def close(self) -> None:
        """Ask no more."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])

    async def _renew(self) -> None:
        try:
            answer = await self._ask()
        except TelexError as error:
            logger.info("the node names no servers for calls: %s", type(error).__name__)
            self._ask_after = self._clock() + AGAIN
            return
        finally:
            self._asking = None
        seconds = max(0, min(answer.seconds, SECONDS_MAX))
        self._found = tuple(
            IceServer(tuple(s.urls[:URLS_MAX]), s.username, s.credential)
            for s in answer.servers[:SERVERS_MAX]
        )
        self._good_until = self._clock() + seconds
        self._ask_after = self._clock() + max(AGAIN, seconds / 2)
