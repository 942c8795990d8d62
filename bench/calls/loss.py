"""How a voice sounds on a network that loses packets, and how late it is.

Two media processes, a voice (espeak-ng) at both ends, a relay between them: 8 s clean,
12 s with loss, 9 s clean again; a call over each network at the same time. Both
directions are judged. PESQ compares what was said in a phase with what came out; delays
are relative to the clean phase of the same call, where the voice in the speaker's file
is found again in the microphone's.
"""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from bench.calls.pair import pair, plain
from bench.calls.process import environment
from bench.calls.report import Result, Skip, middle, need_library, progress
from bench.calls.sound import RATE, began, lag, pesq, read, speech
from tests.media.relay import Path as Network
from tests.media.relay import Relay

if TYPE_CHECKING:
    from bench.calls.sound import Samples

__all__ = ["run"]

DELAY = 0.025
"""Seconds, each way."""

NETWORKS = {
    "loss5": Network(loss=0.05, delay=DELAY),
    "loss10": Network(loss=0.10, delay=DELAY),
    "bursts10": Network(loss=0.10, burst=3, delay=DELAY),
}

WARM, CLEAN, LOSSY, RECOVERING, AFTER = 2.5, 8.0, 12.0, 5.0, 4.0
"""Seconds of the phases; in the first the jitter buffer finds its size."""

PIECE = 2.0
"""Seconds that are looked for at a time."""

NEAR = RATE
"""Samples around the usual delay in which a piece is looked for."""

ALIKE = 0.4
"""Below, a piece was not found: there is a pause in it."""


@dataclass
class Heard:
    """One direction of one call."""

    said: "Samples"
    """The microphone's file, which is played again and again."""
    out: "Samples"
    """The speaker's file."""
    marks: list[float]
    """Where the phases begin and the loss ends: seconds in the speaker's file."""

    @property
    def sent(self) -> "Samples":
        import numpy as np

        return np.concatenate((self.said, self.said))


@dataclass
class Judged:
    """One direction of one call."""

    clean: float
    """PESQ."""
    lossy: float
    during: float
    """Milliseconds more than in the clean phase."""
    after: float


def run(folder: Path, rounds: int) -> list[Result]:
    """`rounds` calls over each network."""
    voices = [speech(folder, voice) for voice in ("en", "en-us+f3")]
    try:
        need_library("pesq", "make bench-calls installs it where there is a compiler")
        judged = True
    except Skip as skip:
        progress(f"loss: PESQ skipped: {skip}")
        judged = False
    with environment({"TELEX_AUDIO": "null"}):
        return asyncio.run(_measure(folder, voices, rounds, judged))


async def _measure(
    folder: Path, voices: list[Path], rounds: int, judged: bool
) -> list[Result]:
    found: dict[str, list[Judged]] = {name: [] for name in NETWORKS}
    for number in range(rounds):
        at_once = (_call(folder, name, voices, number) for name in NETWORKS)
        for name, heard in zip(NETWORKS, await asyncio.gather(*at_once), strict=True):
            found[name] += [_judge(one, judged) for one in heard]
    results: list[Result] = []
    if judged:
        clean = [one.clean for calls in found.values() for one in calls]
        results.append(middle("pesq_clean", clean, "MOS"))
    for name, calls in found.items():
        if judged:
            results.append(middle(f"pesq_{name}", [c.lossy for c in calls], "MOS"))
        during = [one.during for one in calls]
        after = [one.after for one in calls]
        results.append(middle(f"delay_added_during_{name}", during, "ms"))
        results.append(middle(f"delay_added_after_{name}", after, "ms"))
    return results


async def _call(folder: Path, name: str, voices: list[Path], seed: int) -> list[Heard]:
    """One call: what came out at both ends."""
    relay = Relay(Network(delay=DELAY), seed=seed + 1)
    ears = [folder / f"{end}-{name}.wav" for end in "ab"]
    try:
        async with pair() as two:
            for side, voice, ear in zip(two.sides, voices, ears, strict=True):
                await side.media.set_sound(plain(f"file-loop:{voice}", f"file:{ear}"))
            await two.call(relay)
            await asyncio.sleep(WARM)
            marks = [time.monotonic()]
            await asyncio.sleep(CLEAN)
            marks.append(time.monotonic())
            relay.set(NETWORKS[name])
            await asyncio.sleep(LOSSY)
            marks.append(time.monotonic())
            relay.set(Network(delay=DELAY))
            await asyncio.sleep(RECOVERING + AFTER + 0.5)
            starts = [await began(ear) for ear in ears]
            await two.hang_up()
    finally:
        relay.close()
    return [
        Heard(read(said), read(ear), [mark - start for mark in marks])
        for said, ear, start in zip(reversed(voices), ears, starts, strict=True)
    ]


def _judge(heard: Heard, judged: bool) -> Judged:
    """What came of the phases."""
    clean, lossy, end = heard.marks
    usual = _find(heard, clean, lossy)
    before = median(_delays(heard, usual, clean, lossy))
    during = median(_delays(heard, usual, lossy, end))
    after = median(_delays(heard, usual, end + RECOVERING, end + RECOVERING + AFTER))
    return Judged(
        _pesq(heard, usual, clean, lossy) if judged else 0.0,
        _pesq(heard, usual, lossy, end) if judged else 0.0,
        1000 * (during - before),
        1000 * (after - before),
    )


def _find(heard: Heard, start: float, end: float) -> int:
    """By how many samples what was heard lies behind what was said, about."""
    piece = heard.out[round(start * RATE) : round(end * RATE)]
    place, _ = lag(heard.sent, piece)
    return round(start * RATE) - place


def _delays(heard: Heard, usual: int, start: float, end: float) -> list[float]:
    """Seconds by which pieces lie behind; near the usual ones."""
    found: list[float] = []
    at = start
    while at + PIECE <= end:
        begin = round(at * RATE)
        piece = heard.out[begin : begin + round(PIECE * RATE)]
        near = max(0, begin - usual - NEAR)
        place, alike = lag(heard.sent[near : near + piece.size + 2 * NEAR], piece)
        if alike > ALIKE:
            found.append((begin - near - place) / RATE)
        at += PIECE / 2
    if not found:
        raise RuntimeError("nothing of what was said was found in what was heard")
    return found


def _pesq(heard: Heard, usual: int, start: float, end: float) -> float:
    begin, count = round(start * RATE), round((end - start) * RATE)
    place = max(0, begin - usual)
    return pesq(heard.sent[place : place + count], heard.out[begin : begin + count])
