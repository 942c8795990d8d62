"""What narrow links carry: sound and pictures at 450 kbit/s, sound alone at 100.

Two media processes with cameras (FFmpeg's moving test picture) and a relay that lets so
many bits a second through, each way, with a queue of 0.2 s. Both directions count.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from bench.calls.pair import Pair, Side, pair, plain
from bench.calls.process import environment
from bench.calls.report import Result, middle
from bench.calls.sound import speech
from media.port import PeerSays, View
from tests.media.relay import Path as Network
from tests.media.relay import Relay

__all__ = ["CAMERA", "VIEW", "run"]

CAMERA = "lavfi:testsrc2=size=320x240:rate=15"
VIEW = View(320, 240, 15)

WIDE, NARROW = 450_000, 100_000
DELAY = 0.02

WATCHED = 12.0
"""Seconds that pictures are watched, once the first has come."""

FREEZE = 0.5
"""Seconds without a picture that count as a freeze."""

LISTENED = 6.0
"""Seconds of sound after pictures have stopped."""


def run(folder: Path, rounds: int) -> list[Result]:
    """`rounds` calls over each link."""
    voices = [speech(folder, voice) for voice in ("en", "en-us+f3")]
    with environment({"TELEX_AUDIO": "null"}):
        return asyncio.run(_measure(voices, rounds))


async def _measure(voices: list[Path], rounds: int) -> list[Result]:
    wide: list[tuple[float, float, float]] = []
    narrow: list[tuple[float, float]] = []
    async with pair() as two:
        for side, voice in zip(two.sides, voices, strict=True):
            await side.media.set_sound(plain(f"file-loop:{voice}", "null:"))
            await side.media.set_view(VIEW)
        for _ in range(rounds):
            wide += await _call(two, WIDE, _watch)
            narrow += await _call(two, NARROW, _fall_back)
    return [
        middle("link450_pictures", [one[0] for one in wide], "1/s"),
        middle("link450_freezes", [one[1] for one in wide], "1/min"),
        middle("link450_concealed", [one[2] for one in wide], "%"),
        middle("link100_pictures_stopped", [one[0] for one in narrow], "s"),
        middle("link100_concealed", [one[1] for one in narrow], "%"),
    ]


T = TypeVar("T")


async def _call(
    two: Pair, rate: int, watch: Callable[[Pair, float], Awaitable[list[T]]]
) -> list[T]:
    """One call over such a link, both cameras on."""
    relay = Relay(Network(rate=rate, delay=DELAY))
    try:
        await two.call(relay)
        await asyncio.sleep(1.0)
        begun = time.monotonic()
        await asyncio.gather(*(side.media.set_camera(CAMERA) for side in two.sides))
        found = await watch(two, begun)
        await asyncio.gather(*(side.media.set_camera("") for side in two.sides))
        await two.hang_up()
    finally:
        relay.close()
    return found


async def _watch(two: Pair, begun: float) -> list[tuple[float, float, float]]:
    """For each side: pictures a second, freezes a minute, percent made up."""
    for side in two.sides:
        await side.until(lambda side=side: _frames(side, begun))  # type: ignore[misc]
    since = time.monotonic()
    await asyncio.sleep(WATCHED)
    end = time.monotonic()
    found = []
    for side in two.sides:
        frames = [since, *_frames(side, since), end]
        freezes = sum(later - at > FREEZE for at, later in pairwise(frames))
        pictures = (len(frames) - 2) / (end - since)
        made_up = 100 * side.concealed(since)
        found.append((pictures, freezes * 60 / (end - since), made_up))
    return found


async def _fall_back(two: Pair, begun: float) -> list[tuple[float, float]]:
    """For each side: seconds until it saw no more pictures, percent made up after."""
    ends = []
    for side in two.sides:
        on = await side.first(PeerSays, lambda e: e.camera, begun)
        ends.append(await side.first(PeerSays, lambda e: not e.camera, on))
    since = time.monotonic()
    await asyncio.sleep(LISTENED)
    return [
        (end - begun, 100 * side.concealed(since))
        for side, end in zip(two.sides, ends, strict=True)
    ]


def _frames(side: Side, since: float) -> list[float]:
    return [at for at in side.frames if at >= since]
