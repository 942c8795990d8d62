"""How a voice sounds on a network that loses packets, and how late it is.

Two media processes, a voice (espeak-ng) at both ends, a relay between them: 8 s clean,
12 s with loss, 9 s clean again. Both directions are judged. PESQ compares what was said
in a phase with what came out; delays are relative to the clean phase of the same call,
where the voice in the file of the speaker is found again in the file of the microphone.
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

ALIKE = 0.4
"""Below, a piece was not found: there is a pause in it."""


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
        for name, network in NETWORKS.items():
            found[name] += await _call(folder, voices, network, number, judged)
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


async def _call(
    folder: Path, voices: list[Path], network: Network, seed: int, judged: bool
) -> list[Judged]:
    """One call, judged at both ends."""
    relay = Relay(Network(delay=DELAY), seed=seed + 1)
    ears = [folder / "a-hears.wav", folder / "b-hears.wav"]
    try:
        async with pair() as two:
            for side, voice, ear in zip(two.sides, voices, ears, strict=True):
                await side.media.set_sound(plain(f"file-loop:{voice}", f"file:{ear}"))
            await two.call(relay)
            await asyncio.sleep(WARM)
            marks = [time.monotonic()]
            await asyncio.sleep(CLEAN)
            marks.append(time.monotonic())
            relay.set(network)
            await asyncio.sleep(LOSSY)
            marks.append(time.monotonic())
            relay.set(Network(delay=DELAY))
            await asyncio.sleep(RECOVERING + AFTER + 0.5)
            starts = [await began(ear) for ear in ears]
            await two.hang_up()
    finally:
        relay.close()
    return [
        await asyncio.to_thread(_judge, said, ear, [m - start for m in marks], judged)
        for said, ear, start in zip(reversed(voices), ears, starts, strict=True)
    ]


def _judge(said: Path, ear: Path, marks: list[float], judged: bool) -> Judged:
    """What came of the phases: `marks` are seconds in the file of the speaker."""
    import numpy as np

    once, heard = read(said), read(ear)
    sent = np.concatenate((once, once))
    clean, lossy, end = marks
    before = _delays(sent, heard, clean, lossy)
    during = _delays(sent, heard, lossy, end)
    after = _delays(sent, heard, end + RECOVERING, end + RECOVERING + AFTER)
    usual = median(before)
    return Judged(
        _pesq(sent, heard, clean, lossy) if judged else 0.0,
        _pesq(sent, heard, lossy, end) if judged else 0.0,
        1000 * (median(during) - usual),
        1000 * (median(after) - usual),
    )


def _delays(sent: "Samples", heard: "Samples", start: float, end: float) -> list[float]:
    """Seconds from where a piece lies in the one file to where it lies in the other."""
    found: list[float] = []
    at = start
    while at + PIECE <= end:
        piece = heard[round(at * RATE) : round((at + PIECE) * RATE)]
        place, alike = lag(sent, piece)
        if alike > ALIKE:
            found.append(at - place / RATE)
        at += PIECE / 2
    if not found:
        raise RuntimeError("nothing of what was said was found in what was heard")
    return found


def _pesq(sent: "Samples", heard: "Samples", start: float, end: float) -> float:
    piece = heard[round(start * RATE) : round(end * RATE)]
    place, _ = lag(sent, piece)
    return pesq(sent[place : place + piece.size], piece)
