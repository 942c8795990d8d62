"""What is tidied up while the node runs, each once an hour."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from protocol.errors import Refused

__all__ = ["Chore", "keep_house"]

log = logging.getLogger(__name__)

EVERY = 3600.0
"""Seconds between two rounds: what has waited for days can wait for an hour."""

Chore = Callable[[], Awaitable[object]]


async def keep_house(chores: Sequence[Chore]) -> None:
    """Do each chore at once and every hour, until cancelled.

    One that fails is tried again in the next round, and stops no other.
    """
    while True:
        for chore in chores:
            try:
                await chore()
            except Refused as error:
                log.warning("the node could not tidy up: %s", error)
        await asyncio.sleep(EVERY)
