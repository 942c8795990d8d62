"""Microphones and speakers: what there is, and open ones.

int16, mono, 48,000 Hz, `PERIOD` samples at a time or a multiple. Ids are names that
stay the same from start to start; the empty one is the system's default. Besides the
devices of the system there are

    null:            silence; plays to nobody
    file:PATH        a microphone that plays a sound file in real time and then is
                     silent; a speaker that writes a WAV file
    file-loop:PATH   a microphone that plays it again and again

miniaudio speaks with the system, sounddevice where miniaudio is missing;
`TELEX_AUDIO` (`miniaudio`, `sounddevice` or `null`) forces one.

base.py         streams that cannot hang; what backends have in common
advice.py       what is missing and how to get it
alsa.py         which of ALSA's names are cards; its complaints are not shown
mini.py         miniaudio: PulseAudio, PipeWire, ALSA, CoreAudio, WASAPI
portaudio.py    sounddevice: PortAudio
paced.py        null and files, by the clock
"""

import os
from collections.abc import Callable, Iterator
from typing import TypeVar

from media.audio.devices import advice, paced
from media.audio.devices.base import (
    PERIOD,
    RATE,
    Backend,
    Fill,
    Hear,
    Lost,
    NoSound,
    Samples,
    Stream,
)
from media.port import Devices, MediaError

__all__ = [
    "PERIOD",
    "RATE",
    "Fill",
    "Hear",
    "Lost",
    "Samples",
    "Stream",
    "find_devices",
    "list_devices",
    "open_microphone",
    "open_speaker",
]

Result = TypeVar("Result")
FORCE = "TELEX_AUDIO"
NAMES = ("miniaudio", "sounddevice", "null")


def list_devices(backend: str = "") -> Devices:
    """Microphones and speakers that are there now, and why others are missing."""
    return find_devices(backend)[1]


def find_devices(backend: str = "") -> tuple[str, Devices]:
    """The name of the backend that is in use (empty: none), and what it finds."""
    missing: Devices | None = None
    for one in _usable(backend):
        try:
            if isinstance(one, MediaError):
                raise one
            found = one.devices()
            if found.found or missing is None:
                return one.name, found
        except MediaError as error:
            missing = missing or Devices(missing=(str(error),))
            if not _elsewhere(error):
                break
    return "", missing or Devices()


def open_microphone(id: str, hear: Hear, lost: Lost, *, backend: str = "") -> Stream:
    """Open a microphone; `hear` is called from then on.

    Args:
        id: `Device.id`, or empty for the system's default.
        hear: Is given each period, in the device's thread.
        lost: Is told once when the device goes away, in a thread of its own.
        backend: `miniaudio`, `sounddevice` or `null`; empty: `TELEX_AUDIO`, else
            the first that works.

    Raises:
        MediaError: `no_library`, `no_device` or `no_permission`.
    """
    if paced.owns(id):
        return paced.open_microphone(id, hear, lost)
    return _first(backend, lambda one: one.open_microphone(id, hear, lost))


def open_speaker(id: str, fill: Fill, lost: Lost, *, backend: str = "") -> Stream:
    """Open a speaker; `fill(n)` is asked for `n` samples whenever it needs some.

    The rest is as with `open_microphone`.
    """
    if paced.owns(id):
        return paced.open_speaker(id, fill, lost)
    return _first(backend, lambda one: one.open_speaker(id, fill, lost))


def _first(backend: str, ask: Callable[[Backend], Result]) -> Result:
    """What the first backend answers that knows this system's sound at all."""
    error: MediaError | None = None
    for one in _usable(backend):
        try:
            if isinstance(one, MediaError):
                raise one
            return ask(one)
        except MediaError as failed:
            error = error or failed
            if not _elsewhere(failed):
                break
    assert error is not None, "there is always a backend or an error"
    raise error


def _elsewhere(error: MediaError) -> bool:
    """Whether another backend may do better."""
    return error.code == "no_library" or isinstance(error, NoSound)


def _usable(name: str) -> Iterator[Backend | MediaError]:
    """The backends to try, or why one cannot be tried; at least one of either."""
    name = name or os.environ.get(FORCE, "")
    if name and name not in NAMES:
        yield MediaError(
            "no_library",
            f"There is no sound library {name!r}: {FORCE} can be {', '.join(NAMES)}.",
        )
    for one in (name,) if name else NAMES[:2]:
        try:
            if one == "miniaudio":
                from media.audio.devices.mini import Miniaudio

                yield Miniaudio()
            elif one == "sounddevice":
                from media.audio.devices.portaudio import Sounddevice

                yield Sounddevice()
            elif one == "null":
                yield paced.Null()
        except ImportError:
            yield MediaError("no_library", advice.no_library())
        except MediaError as error:
            yield error
