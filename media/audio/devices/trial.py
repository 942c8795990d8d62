"""A trial of the devices, for `telex audio test`: tone, recording, playback."""

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from media.audio.devices import Samples, open_microphone, open_speaker
from media.audio.devices.base import PERIOD, RATE
from media.audio.processing import Processing
from media.port import MediaError, Sound

__all__ = ["FLOOR", "Heard", "decibels", "play", "record", "test_tone"]

FLOOR = -60.0
"""Decibels of full scale below which a microphone gives nothing but its own noise."""
TAIL = 0.3
"""Seconds of silence after what is played, so that all of it leaves the device."""
PATIENCE = 5.0
"""Seconds more than the sound is long that a device may take to play or hear it."""
STEP = 2
"""Periods in a measure of loudness: 40 ms, 25 a second."""

MUTE = "The microphone gives no sound: choose another."


def test_tone() -> Samples:
    """Two soft notes, 0.8 s."""
    at = np.arange(int(0.4 * RATE)) / RATE
    swell = np.sin(np.pi * at / 0.4) ** 0.5
    notes = [np.sin(2 * np.pi * pitch * at) * swell for pitch in (523.25, 659.25)]
    return (np.concatenate(notes) * 0.25 * 32767).astype(np.int16)


test_tone.__test__ = False  # type: ignore[attr-defined]  # the name is not pytest's


def decibels(samples: Samples) -> float:
    """Loudness (RMS) in decibels of full scale; -96 is silence."""
    if not samples.size:
        return -96.0
    power = float(np.mean((samples / 32768.0) ** 2))
    return max(-96.0, 10 * float(np.log10(power + 1e-12)))


def play(
    id: str, samples: Samples, began: Callable[[], None], *, backend: str = ""
) -> None:
    """Play to the end; `began` is called when the speaker is open.

    Raises:
        MediaError: The speaker is not there, or it gets lost.
    """
    rest = np.concatenate((samples, np.zeros(int(TAIL * RATE), np.int16)))
    at = 0
    end = threading.Event()
    errors: list[MediaError] = []

    def fill(count: int) -> Samples:
        nonlocal at
        part = rest[at : at + count]
        at += count
        if at >= rest.size:
            end.set()
        return np.concatenate((part, np.zeros(count - part.size, np.int16)))

    def lost(error: MediaError) -> None:
        errors.append(error)
        end.set()

    stream = open_speaker(id, fill, lost, backend=backend)
    try:
        began()
        if not end.wait(rest.size / RATE + PATIENCE):
            raise MediaError("no_device", "The speaker takes no sound: choose another.")
    finally:
        stream.close()
    if errors:
        raise errors[0]


@dataclass
class Heard:
    """What a microphone heard."""

    samples: Samples
    loudest: float
    """Decibels of full scale, of the loudest 50 ms."""
    raw: float
    """The same before echo, noise and gain were processed."""

    @property
    def nothing(self) -> bool:
        """Whether it was silence: a muted or a wrong microphone."""
        return self.raw < FLOOR


def record(
    sound: Sound,
    seconds: float,
    began: Callable[[], None],
    show: Callable[[float, float], None],
    *,
    backend: str = "",
) -> Heard:
    """Record for some seconds, and show how loud it is.

    Args:
        sound: Which microphone, and what is done to its sound.
        began: Is called when the microphone is open.
        show: Is told 25 times a second: decibels of full scale, and seconds
            left; in the caller's thread.
        backend: As for `open_microphone`.

    Raises:
        MediaError: The microphone is or gets lost, or processing has no library.
    """
    processing = Processing(sound.echo, sound.noise, sound.gain, 0.0)
    parts: list[Samples] = []
    raw: list[float] = []
    errors: list[MediaError] = []
    more = threading.Condition()
    wanted = max(STEP, round(seconds * RATE / PERIOD))

    def hear(samples: Samples) -> None:
        clean = processing.near(samples)
        with more:
            parts.append(clean)
            raw.append(decibels(samples))
            more.notify()

    def lost(error: MediaError) -> None:
        with more:
            errors.append(error)
            more.notify()

    loudest, seen = -96.0, 0

    def ready() -> bool:
        return bool(errors) or len(parts) >= seen + STEP

    stream = open_microphone(sound.microphone, hear, lost, backend=backend)
    with contextlib.closing(stream):
        began()
        while seen + STEP <= wanted and not errors:
            with more:
                if not more.wait_for(ready, PATIENCE):
                    raise MediaError("no_device", MUTE)
                now = decibels(np.concatenate(parts[seen:][:STEP] or [_NOTHING]))
            seen += STEP
            loudest = max(loudest, now)
            show(now, (wanted - seen) * PERIOD / RATE)
    if errors:
        raise errors[0]
    return Heard(np.concatenate(parts[:wanted]), loudest, max(raw))


_NOTHING = np.zeros(0, np.int16)
