"""Time-scaling: a little more or less of the same sound, at the same pitch.

A pitch period is left out or played twice, with a cross-fade between two places that
look alike (WSOLA; Verhelst and Roelands, 1993). The place is always the start of what
is played next, so that nothing has to wait for it.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from media.audio.opus import Pcm

__all__ = ["HISTORY", "HUSH", "SHORTEST", "lengthen", "shorten"]

SHORTEST: Final = 120
"""2.5 ms: the pitch of a very high voice, 400 Hz."""
LONGEST: Final = 720
"""15 ms: the pitch of a very low voice, 66 Hz."""
HISTORY: Final = LONGEST
"""Samples of what was played last that `lengthen` looks at."""
WINDOW: Final = 480
"""10 ms are compared, and cross-faded."""
COARSE: Final = 8
"""The search goes over every eighth sample first: voices are below 3 kHz there."""
HUSH: Final = 50.0
"""RMS below which (-56 dB) it is a pause: any place is as good as another."""

Wave = npt.NDArray[np.float32]


def shorten(pcm: Pcm, limit: int, likeness: float) -> Pcm | None:
    """Leave out up to `limit` samples at the start.

    Args:
        pcm: At least `limit + 480` samples.
        limit: At least `SHORTEST`.
        likeness: Correlation (0 to 1) below which nothing is done.

    Returns:
        The shorter sound; None: there is no good place.
    """
    wave = pcm.astype(np.float32)
    longest = min(limit, LONGEST, len(wave) - WINDOW)
    if longest < SHORTEST:
        return None
    lag = _period(wave[:WINDOW], wave[: longest + WINDOW], likeness)
    if lag is None:
        return None
    joint = _fade(wave[:WINDOW], wave[lag : lag + WINDOW])
    return np.concatenate((joint, pcm[lag + WINDOW :]))


def lengthen(history: Pcm, pcm: Pcm, likeness: float) -> Pcm | None:
    """Play some samples twice at the start, up to `LONGEST`; else as `shorten`.

    Args:
        history: What was played just before, `HISTORY` samples.
        pcm: What comes now, at least 480 samples.
    """
    wave = np.concatenate((history, pcm)).astype(np.float32)
    start = len(history)
    # Backwards: a lag into the past looks like one into the future.
    past = wave[start - LONGEST : start + WINDOW][::-1]
    lag = _period(past[:WINDOW], past, likeness)
    if lag is None:
        return None
    overlap = min(lag, WINDOW)
    back = start - lag
    joint = _fade(wave[start : start + overlap], wave[back : back + overlap])
    rest = np.concatenate((history, pcm))[back + overlap :]
    return np.concatenate((joint, rest))


def _period(template: Wave, wave: Wave, likeness: float) -> int | None:
    """Find at what lag a wave looks most like its start."""
    longest = len(wave) - len(template)
    if float(np.dot(template, template)) < HUSH * HUSH * len(template):
        return longest
    coarse = wave[: len(wave) // COARSE * COARSE].reshape(-1, COARSE).mean(axis=1)
    start = SHORTEST // COARSE
    alike = _alike(coarse[: len(template) // COARSE], coarse[start:])
    lag = (start + int(np.argmax(alike))) * COARSE
    low, high = max(lag - COARSE, SHORTEST), min(lag + COARSE, longest)
    alike = _alike(template, wave[low : high + len(template)])
    best = int(np.argmax(alike))
    return low + best if alike[best] >= likeness else None


def _alike(template: Wave, wave: Wave) -> Wave:
    """Normalised correlation of a template with each place of a wave."""
    products = np.correlate(wave, template, "valid")
    sums = np.cumsum(np.concatenate((np.zeros(1), wave.astype(np.float64) ** 2)))
    energy = sums[len(template) :] - sums[: -len(template)]
    scale = np.sqrt(np.maximum(energy * float(np.dot(template, template)), 1.0))
    return np.asarray(products / scale, np.float32)


def _fade(old: Wave, new: Wave) -> Pcm:
    ramp = np.linspace(0, 1, len(old), dtype=np.float32)
    return (old * (1 - ramp) + new * ramp).astype(np.int16)
