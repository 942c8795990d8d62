"""Whether the media process grows with each call.

One pair of processes makes 30 calls in a row, each with sound and pictures both ways.
Resident memory of both after the tenth and the last one.
"""

import asyncio
import time
from pathlib import Path

from bench.calls.links import CAMERA, VIEW
from bench.calls.pair import Pair, pair
from bench.calls.process import environment, resident
from bench.calls.report import Result, progress, result

__all__ = ["run"]

CALLS, EARLY = 30, 10
PICTURES = 5
"""That come in each call before it ends."""

REST = 0.5
"""Seconds after a call before memory is read: what is freed is given back by then."""


def run(folder: Path, rounds: int) -> list[Result]:
    """The same whatever `rounds` is: each call is one of 30."""
    with environment({"TELEX_AUDIO": "null"}):
        return asyncio.run(_measure())


async def _measure() -> list[Result]:
    sizes: list[float] = []
    async with pair() as two:
        for side in two.sides:
            await side.media.set_view(VIEW)
        for number in range(1, CALLS + 1):
            await _call(two)
            if number in (1, EARLY, CALLS):
                await asyncio.sleep(REST)
                both = [resident(side.pid) for side in two.sides]
                progress(f"after call {number}: {both[0]:.1f} and {both[1]:.1f} MB")
                sizes.append(max(both))
    _, early, late = sizes
    return [
        result(f"memory_after_{EARLY}_calls", early, "MB"),
        result(f"memory_after_{CALLS}_calls", late, "MB"),
    ]


async def _call(two: Pair) -> None:
    begun = time.monotonic()
    await two.call()
    for side in two.sides:
        await side.media.set_camera(CAMERA)
    for side in two.sides:

        def shown() -> bool:
            return sum(at > begun for at in side.frames) >= PICTURES  # noqa: B023

        await side.until(shown)
    for side in two.sides:
        await side.media.set_camera("")
    await two.hang_up()
