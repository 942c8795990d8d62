"""Pulls: what is missing of a peer's log is asked for, page by page.

A page is a stream that was asked for: it carries its owner's checkpoint, and goes
through the same checks and the same port as a push. Pulls are bounded, and one that
fails is dropped: the gap is still there at the next push, and starts another.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from protocol.errors import Refused
from protocol.limits import BATCH_ENTRIES
from protocol.log import LogId
from protocol.wire import Page, Stream, StreamAck

__all__ = ["Puller", "page_stream"]

_log = logging.getLogger(__name__)

PULLS_MAX: Final = 64
"""Pulls at one time: as many pages of a MiB are in memory at most."""

PULLS_PER_PEER: Final = 4
"""Pulls from one peer at one time, so that one with many gaps starves no other."""

GetPage = Callable[[str, LogId, int, int], Awaitable[Page]]
"""Asks a peer for a page: peer, log, after, limit."""

Take = Callable[[str, Stream], Awaitable[StreamAck]]
"""`Inbox.take`."""


def page_stream(page: Page) -> Stream | None:
    """A page as the stream it is; None if there is nothing in it to check."""
    if not page.entries or page.checkpoint is None:
        return None
    return Stream(
        page.log, page.after, page.previous, page.entries, page.head, page.checkpoint
    )


class Puller:
    """Fills gaps in copies of peers' logs."""

    def __init__(self, get_page: GetPage) -> None:
        self._get_page = get_page
        self._pulls: dict[tuple[str, LogId], asyncio.Task[None]] = {}

    def want(self, peer: str, log: LogId, have: int, upto: int, take: Take) -> None:
        """Start to pull entries have+1 to `upto`, unless too much is being pulled."""
        key = (peer, log)
        mine = sum(1 for other, _ in self._pulls if other == peer)
        if key in self._pulls or mine >= PULLS_PER_PEER:
            return
        if len(self._pulls) >= PULLS_MAX:
            return
        task = asyncio.create_task(self._pull(peer, log, have, upto, take))
        self._pulls[key] = task
        task.add_done_callback(lambda _: self._pulls.pop(key, None))

    async def stop(self) -> None:
        """Drop every pull."""
        tasks = list(self._pulls.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _pull(
        self, peer: str, log: LogId, have: int, upto: int, take: Take
    ) -> None:
        _log.info("pulling a log of %s from %d to %d", peer, have, upto)
        try:
            while have < upto:
                page = await self._get_page(peer, log, have, BATCH_ENTRIES)
                stream = page_stream(page)
                if stream is None or stream.log != log:
                    return
                ack = await take(peer, stream)
                if ack.problem is not None or ack.seq <= have:
                    return
                have = ack.seq
        except Refused as error:
            _log.info("a pull from %s ended: %s", peer, error)
        except Exception:
            _log.exception("a pull from %s failed", peer)
