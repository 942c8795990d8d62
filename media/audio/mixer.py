"""What the speaker plays: the sum of all legs and of a tone.

The speaker asks, in its own thread and for as many samples as it likes; each 20 ms
every leg's buffer is asked for a block. That takes well below a millisecond: no
allocation to speak of, no lock that anybody holds for long.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import numpy as np

from media.audio.level import Meter
from media.audio.opus import BLOCK, Pcm
from media.audio.tones import Tones

__all__ = ["Mixer", "mix"]

log = logging.getLogger(__name__)

KNEE: Final = 24_000.0
"""Up to here (-2.7 dB) a sum is as it is; above it is bent below full scale."""
ROOM: Final = 32_767.0 - KNEE


class Source(Protocol):
    """A leg's `JitterBuffer`."""

    def get(self, now: float) -> Pcm:
        """The next block."""


def mix(blocks: Sequence[Pcm]) -> Pcm:
    """Add blocks up, with soft limiting; one alone stays exactly as it is."""
    if not blocks:
        return np.zeros(BLOCK, np.int16)
    if len(blocks) == 1:
        return blocks[0]
    total = np.zeros(BLOCK, np.float32)
    for block in blocks:
        total += block
    size = np.abs(total)
    if float(size.max()) > KNEE:
        bent = KNEE + ROOM * np.tanh((size - KNEE) / ROOM)
        total = np.where(size > KNEE, np.sign(total) * bent, total)
    return total.astype(np.int16)


class Mixer:
    """Pulls the legs' buffers at the speaker's pace.

    Whoever plays calls `fill`; everything else is set from the event loop.
    """

    def __init__(self, tones: Tones) -> None:
        self._tones = tones
        self._lock = threading.Lock()
        self._rest: Pcm = np.zeros(0, np.int16)
        self.sources: tuple[Source, ...] = ()
        """Replaced as a whole: another thread reads it."""
        self.held = False
        """Whether legs are passed over; their buffers are emptied all the same."""
        self.far: Callable[[Pcm], None] | None = None
        """Is told exactly what is played, a block at a time (`Processing.far`)."""
        self.meter = Meter()

    def restart(self) -> None:
        """Forget all sound: another call begins."""
        with self._lock:
            self._rest = self._rest[:0]

    def fill(self, count: int, now: float) -> Pcm:
        """Give the next `count` samples; `now`: seconds of `time.monotonic`."""
        with self._lock:
            if count == BLOCK and not len(self._rest):  # as our devices ask
                return self._block(now)
            while len(self._rest) < count:
                self._rest = np.concatenate((self._rest, self._block(now)))
            played, self._rest = self._rest[:count], self._rest[count:]
        return played

    def _block(self, now: float) -> Pcm:
        blocks = [source.get(now) for source in self.sources]
        if self.held:
            blocks = []
        tone = self._tones.block()
        if tone is not None:
            blocks.append(tone)
        block = mix(blocks)
        self.meter.note(block)
        if self.far is not None:
            try:
                self.far(block)
            except Exception:
                # Without echo cancellation the call goes on, without a speaker not.
                log.exception("the echo canceller failed")
                self.far = None
        return block
