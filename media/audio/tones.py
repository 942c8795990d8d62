"""Tones of a telephone: somebody calls, it rings over there, busy, over.

425 Hz and its cadences are those of most of Europe (ITU-T E.180, supplement 2). They
are computed when they are asked for, not in the device's thread.
"""

from collections.abc import Callable
from functools import cache
from typing import Final, NamedTuple

import numpy as np

from media.audio.opus import BLOCK, RATE, Pcm
from media.port import Tone

__all__ = ["Tones"]

LOUDNESS: Final = 3000
"""Peak of a tone: -21 dB, clearly below a voice."""
EDGE: Final = 480
"""Samples (10 ms) in which a tone comes and goes, so that it does not click."""
PITCH: Final = 425.0


class Cadence(NamedTuple):
    """Pitches with their seconds; 0 Hz: a pause."""

    parts: tuple[tuple[float, float], ...]
    repeats: bool = True


CADENCES: Final[dict[Tone, Cadence]] = {
    "ring": Cadence(((660, 0.2), (0, 0.05), (880, 0.35), (0, 0.4)) * 2 + ((0, 2.0),)),
    "ringback": Cadence(((PITCH, 1.0), (0, 4.0))),
    "busy": Cadence(((PITCH, 0.48), (0, 0.48))),
    "ended": Cadence(((PITCH, 0.16), (0, 0.16)) * 3, repeats=False),
}


@cache
def _render(tone: Tone) -> Pcm:
    """One round of a tone, a whole number of blocks."""
    parts = []
    for pitch, seconds in CADENCES[tone].parts:
        count = round(seconds * RATE)
        wave = np.sin(2 * np.pi * pitch / RATE * np.arange(count)) * LOUDNESS
        ramp = np.minimum(np.arange(count), np.arange(count)[::-1]) / EDGE
        parts.append(wave * np.minimum(ramp, 1))
    parts.append(np.zeros(-sum(map(len, parts)) % BLOCK))
    return np.concatenate(parts).astype(np.int16)


class Player:
    def __init__(self, sound: Pcm, repeats: bool) -> None:
        self.sound, self.repeats, self.at = sound, repeats, 0


class Tones:
    """Plays one tone at a time; `play` on the event loop, `block` by the speaker."""

    def __init__(self, ended: Callable[[], None]) -> None:
        """`ended` is told, by whoever asks for blocks, that a tone came to its end."""
        self._ended = ended
        self._player: Player | None = None

    @property
    def playing(self) -> bool:
        """Whether there is a tone, or a pause within one."""
        return self._player is not None

    def play(self, tone: Tone) -> None:
        """Play this one instead of what is played."""
        if tone == "none":
            self._player = None
        else:
            self._player = Player(_render(tone), CADENCES[tone].repeats)

    def block(self) -> Pcm | None:
        """Give the next 20 ms of the tone; None: there is none."""
        player = self._player
        if player is None:
            return None
        block = player.sound[player.at : player.at + BLOCK]
        player.at += BLOCK
        if player.at >= len(player.sound):
            player.at = 0
            if not player.repeats and self._player is player:
                self._player = None
                self._ended()
        return block
