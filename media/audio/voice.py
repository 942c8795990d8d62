"""The way of our own voice: from the microphone to payloads.

It runs in the microphone's thread, for a hop to another one costs more than the work:
0.3 ms for echo cancellation and Opus, of the 20 ms that a block lasts. Both let go of
the interpreter's lock meanwhile.
"""

import logging
import threading
from collections.abc import Callable
from typing import Final

import numpy as np

from media.audio.level import Meter
from media.audio.opus import BLOCK, RATE, Encoder, Pcm

__all__ = ["Voice"]

log = logging.getLogger(__name__)

STALL: Final = 0.2
"""Seconds without sound from the microphone that are counted as silence: timestamps
follow the clock (RFC 3550, section 5.1), or the other side would wait for so long from
then on. Some devices call twice and then sleep for a second until they are awake."""
FLUSH: Final = 5
"""Blocks of silence by which what cleans the sound forgets the call before: WebRTC's
filters keep 12 ms of it, and its noise suppression a trace for some more."""
NOTHING: Final[Pcm] = np.zeros(BLOCK, np.int16)


class Voice:
    """Cuts the microphone's sound into blocks, cleans, mutes and encodes them."""

    def __init__(
        self, encoder: Encoder, deliver: Callable[[bytes | None, int], None]
    ) -> None:
        """`deliver` gets each payload (None: nothing to send) and its timestamp."""
        self._encoder = encoder
        self._deliver = deliver
        self._lock = threading.Lock()
        self._rest: Pcm = np.zeros(0, np.int16)
        self._time = 0
        self._last = 0.0
        self._hush = False
        """Whether some of `_rest` was heard while muted."""
        self._silenced = False
        self.muted = False
        self.held = False
        self.near: Callable[[Pcm], Pcm] | None = None
        """Cleans a block (`Processing.near`)."""
        self.meter = Meter()

    def restart(self) -> None:
        """Forget all sound: another call begins."""
        with self._lock:
            self._rest = self._rest[:0]
            self._encoder.reset()
            for _ in range(FLUSH):
                self._clean(NOTHING)

    def hear(self, chunk: Pcm, now: float) -> None:
        """Take in sound of any length; `now`: seconds of a monotonic clock."""
        with self._lock:
            missing = now - self._last - len(chunk) / RATE
            if self._last and missing > STALL:
                self._rest = self._rest[:0]
                self._pass(int(missing * RATE) // BLOCK)
            self._last = now
            self._hush |= self.muted or self.held
            if not len(self._rest):
                self._rest = chunk
            else:
                self._rest = np.concatenate((self._rest, chunk))
            while len(self._rest) >= BLOCK:
                block, self._rest = self._rest[:BLOCK], self._rest[BLOCK:]
                self._block(block)

    def _block(self, block: Pcm) -> None:
        # The canceller hears on while muted: it is to know the room when we speak.
        block = self._clean(block)
        silent = self._hush or self.muted or self.held
        self._hush = self.muted or self.held
        if silent:
            # Zeros alone would not do: the encoder's look-ahead, its FEC and its
            # background noise still know what was said before.
            if not self._silenced:
                self._encoder.reset()
            block = NOTHING
        self._silenced = silent
        self.meter.note(block)
        payload = None if self.held else self._encoder.encode(block)
        self._deliver(payload, self._time)
        self._pass(1)

    def _pass(self, blocks: int) -> None:
        self._time = self._time + blocks * BLOCK & 0xFFFF_FFFF

    def _clean(self, block: Pcm) -> Pcm:
        if self.near is None:
            return block
        try:
            return self.near(block)
        except Exception:
            # With echo and noise is better than not at all.
            log.exception("the microphone's processing failed")
            self.near = None
            return block
