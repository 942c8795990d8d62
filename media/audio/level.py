"""How loud sound is."""

import math
from typing import Final

import numpy as np

from media.audio.opus import Pcm

__all__ = ["Meter", "rms"]

FLOOR: Final = -60.0
"""dB below full scale that count as nothing: the noise of a quiet room."""
FULL: Final = 32768.0


def rms(block: Pcm) -> float:
    """Root mean square, in steps of int16; 0 for nothing."""
    if not len(block):
        return 0.0
    wave = block.astype(np.float32)
    return math.sqrt(float(np.dot(wave, wave)) / len(wave))


class Meter:
    """The loudest block since it was last read. One thread notes, another reads."""

    def __init__(self) -> None:
        self._peak = 0.0

    def note(self, block: Pcm) -> None:
        """Take notice of a block."""
        self._peak = max(self._peak, rms(block))

    def read(self) -> float:
        """Give 0 (-60 dB and below) to 1 (full scale), linear in dB, and start anew."""
        peak, self._peak = self._peak, 0.0
        if peak <= 0:
            return 0.0
        return min(max(1 - 20 * math.log10(peak / FULL) / FLOOR, 0.0), 1.0)
