"""Sound that is sent, and what is found in the sound that came out.

Speakers are files (`file:PATH`, see `media.audio.devices.paced`): written at the pace
of the clock, sample by sample as a sound card would have played them. When the file
began is found by watching it grow, so each sample has its time.
"""

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench.calls.report import need_library, need_programs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.int16]

__all__ = [
    "RATE",
    "began",
    "first_tone",
    "lag",
    "pesq",
    "read",
    "speech",
    "tone_file",
]

RATE = 48_000
HEADER = 44
"""Bytes before the samples of a WAV file."""

GROWTHS = 4
"""Of which the earliest tells when the file began: a clock ticks late, never early."""

TEXT = """
The boat left the harbour before the sun had come up, and nobody saw it go.
Seven young people sat in the back and talked about what to do with the money.
A thick fog lay on the water, so the captain kept the engine slow and listened.
When the first island came into view, the cook brought coffee, bread and honey.
They had agreed to share the work: two at the ropes, one at the wheel.
Far behind them a grey ship turned to the north and showed three short flashes.
The girl with the red scarf asked whether anybody knew the way to the bridge.
Her brother laughed, opened a large map, and pointed at a place that was only blue.
By noon the wind was strong enough for both sails, and the engine stopped.
Every hour someone wrote down the speed, the weather, and the names of the birds.
"""


def speech(folder: Path, voice: str) -> Path:
    """About 50 s of a synthetic voice (espeak-ng), mono at 48,000 Hz."""
    need_library("pytest", "make setup")
    need_programs("espeak-ng", "sox")
    from tests.media.waves import speech as speak

    own = folder / f"voice-{voice}"
    own.mkdir()
    return speak(own, TEXT.replace("\n", " "), seed=voice)


def tone_file(path: Path, hertz: float) -> Path:
    """A second of a tone, which can be repeated without a seam."""
    from tests.media.waves import tone, write_wav

    return write_wav(path, tone(hertz, 1.0))


def read(path: Path) -> "Samples":
    """The samples that a speaker's file holds by now, its header aside."""
    import numpy as np

    data = path.read_bytes()[HEADER:]
    return np.frombuffer(data[: len(data) // 2 * 2], "<i2")


async def began(path: Path) -> float:
    """When (`time.monotonic()`) the first sample of a growing file was played."""
    starts: list[float] = []
    size = _size(path)
    async with asyncio.timeout(10):
        while len(starts) < GROWTHS:
            await asyncio.sleep(0.001)
            now, grown = time.monotonic(), _size(path)
            if grown != size:
                size = grown
                starts.append(now - (size - HEADER) / 2 / RATE)
    return min(starts)


def _size(path: Path) -> int:
    return path.stat().st_size


def first_tone(sound: "Samples", hertz: float, start: int) -> int | None:
    """The sample at which a tone begins after `start`; None: there is none.

    Found by its strength in windows of 10 ms, a millisecond apart, against a quarter
    of its strength later on.
    """
    import numpy as np

    part = sound[max(0, start) :].astype(float)
    window, step = RATE // 100, RATE // 1000
    if part.size < 2 * window:
        return None
    turn = np.exp(-2j * np.pi * hertz * np.arange(part.size) / RATE)
    summed = np.concatenate(([0], np.cumsum(part * turn)))
    strength = np.abs(summed[window:] - summed[:-window])[::step] / window
    loudest = float(np.percentile(strength, 95))
    if loudest < 100:
        return None
    return max(0, start) + int(np.argmax(strength > loudest / 4)) * step


def lag(sent: "Samples", heard: "Samples") -> tuple[int, float]:
    """Where in what was sent a piece of what was heard begins, and how alike (0..1)."""
    import numpy as np

    a, b = sent.astype(float), heard.astype(float)
    size = 1 << (a.size + b.size).bit_length()
    products = np.fft.irfft(np.fft.rfft(a, size) * np.conj(np.fft.rfft(b, size)), size)
    products = products[: max(1, a.size - b.size)]
    at = int(np.argmax(products))
    norm = float(np.linalg.norm(a[at : at + b.size]) * np.linalg.norm(b))
    return at, float(products[at]) / norm if norm else 0.0


def pesq(sent: "Samples", heard: "Samples") -> float:
    """How good it sounds, 1 to 4.6 (ITU-T P.862.2, wide band)."""
    from pesq import pesq as rate

    count = min(sent.size, heard.size)
    return float(rate(16_000, _third(sent[:count]), _third(heard[:count]), "wb"))


def _third(sound: "Samples") -> "Samples":
    """At 16,000 Hz."""
    import numpy as np

    taps = np.arange(-96, 97)
    low_pass = np.sinc(taps / 3 * 0.96) * np.hamming(taps.size)
    low_pass /= low_pass.sum()
    smooth = np.convolve(sound.astype(float), low_pass, "same")
    return np.clip(smooth[::3], -32768, 32767).astype(np.int16)
