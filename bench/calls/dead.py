"""A peer that died: how soon that is shown.

Its media process is killed (SIGKILL) in a call of two; what counts is the time until
the other engine is told.
"""

import asyncio
import os
import signal
import time
from pathlib import Path

from bench.calls.pair import pair
from bench.calls.process import environment
from bench.calls.report import Result, middle

__all__ = ["run"]

TALKED = 2.0
"""Seconds of the call before the peer dies."""


def run(folder: Path, rounds: int) -> list[Result]:
    """`rounds` calls."""
    with environment({"TELEX_AUDIO": "null"}):
        return asyncio.run(_measure(rounds))


async def _measure(rounds: int) -> list[Result]:
    seconds = []
    for _ in range(rounds):
        async with pair() as two:
            await two.call()
            await asyncio.sleep(TALKED)
            died = time.monotonic()
            os.kill(two.b.pid, signal.SIGKILL)
            seconds.append(await two.a.state("silent", died) - died)
    return [middle("dead_peer_shown", seconds, "s")]
