"""Sound by sounddevice, which speaks with PortAudio, a library of the system.

PortAudio keeps a list of the devices from when it was started, so it is started anew
for each look, as long as nothing is open. On Linux it knows ALSA only: of a sound
server it sees one device, `pulse`, and PULSE_SOURCE and PULSE_SINK choose there.
"""

import atexit
import re
import threading
from abc import abstractmethod
from typing import Any

import numpy as np

from media.audio.devices import advice, alsa
from media.audio.devices.base import (
    PERIOD,
    RATE,
    Fill,
    Hear,
    Kept,
    Kind,
    Lost,
    Stream,
    bounded,
    close_all,
)
from media.port import Device, Devices, MediaError

try:
    import sounddevice
except OSError as error:  # it is there, PortAudio is not
    raise MediaError("no_library", advice.no_portaudio()) from error

__all__ = ["Sounddevice"]

atexit.register(close_all)

ADDRESS = re.compile(r" \(hw:\d+,\d+\)$")
"""The end of ALSA's names, which changes with the order of plugging in."""

_lock = threading.Lock()
"""PortAudio is not to be called by two threads at once."""
_open = 0
"""How many streams are open."""


class Sounddevice:
    """The system's sound."""

    name = "sounddevice"

    def devices(self) -> Devices:
        return bounded("microphone", _devices)

    def open_microphone(self, id: str, hear: Hear, lost: Lost) -> Stream:
        return PortMicrophone(id, hear, lost).start()

    def open_speaker(self, id: str, fill: Fill, lost: Lost) -> Stream:
        return PortSpeaker(id, fill, lost).start()


class PortStream(Kept):
    """An open device."""

    _native: Any = None

    @abstractmethod
    def _make(self, **options: Any) -> Any:
        """Have the library make a device of this kind; `_open` starts it."""

    def _open(self) -> None:
        global _open
        with _lock:
            try:
                self._native = self._make(
                    device=_pick(self._id, self._kind),
                    samplerate=RATE,
                    channels=1,
                    dtype="int16",
                    blocksize=PERIOD,
                    latency="low",
                    finished_callback=self.stopped,
                )
                _open += 1
                self._native.start()
            except sounddevice.PortAudioError as error:
                raise _refused(self._kind, error) from error
            self.latency = float(self._native.latency)

    def _release(self) -> None:
        global _open
        native, self._native = self._native, None
        if native is not None:
            with _lock:
                native.close(ignore_errors=True)
                _open -= 1

    def _stalled(self) -> MediaError:
        return MediaError("no_device", advice.silent(self._kind))


class PortMicrophone(PortStream):
    """Hears."""

    def __init__(self, id: str, hear: Hear, lost: Lost) -> None:
        super().__init__("microphone", id, lost)
        self._hear = hear

    def _make(self, **options: Any) -> Any:
        def heard(data: Any, count: int, time: Any, status: Any) -> None:
            self.heard(self._hear, data[:, 0].copy())

        return sounddevice.InputStream(callback=heard, **options)


class PortSpeaker(PortStream):
    """Plays."""

    def __init__(self, id: str, fill: Fill, lost: Lost) -> None:
        super().__init__("speaker", id, lost)
        self._fill = fill

    def _make(self, **options: Any) -> Any:
        def filled(data: Any, count: int, time: Any, status: Any) -> None:
            samples = self.filled(self._fill, count)
            data[:, 0] = np.int16(0) if samples is None else samples

        return sounddevice.OutputStream(callback=filled, **options)


def _fresh() -> None:
    """Have PortAudio look again at what is plugged in."""
    alsa.hush()
    if not _open:
        sounddevice._terminate()
        sounddevice._initialize()


def _known(kind: Kind) -> list[tuple[Device, int]]:
    """What there is, the default first, each with PortAudio's number."""
    channels = "max_input_channels" if kind == "microphone" else "max_output_channels"
    which = "default_input_device" if kind == "microphone" else "default_output_device"
    apis = sounddevice.query_hostapis()
    if not apis:
        return []
    api = apis[max(0, sounddevice.default.hostapi)]
    found: list[tuple[Device, int]] = []
    names: dict[str, int] = {}
    for index in api["devices"]:
        info = sounddevice.query_devices(index)
        if not info[channels]:
            continue
        name = ADDRESS.sub("", str(info["name"]))
        names[name] = names.get(name, 0) + 1
        id = name if names[name] == 1 else f"{name} #{names[name]}"
        found.append((Device(kind, id, id, index == api[which]), index))
    return sorted(found, key=lambda one: not one[0].default)


def _pick(id: str, kind: Kind) -> int:
    """PortAudio's number of the wanted device, or of the default."""
    _fresh()
    known = _known(kind)
    if not id and known:
        return known[0][1]
    for device, index in known:
        if device.id == id:
            return index
    raise (
        MediaError("no_device", advice.not_found(kind, id)) if id else advice.none(kind)
    )


def _devices() -> Devices:
    found: list[Device] = []
    missing: list[str] = []
    kinds: tuple[Kind, ...] = ("microphone", "speaker")
    with _lock:
        try:
            _fresh()
            for kind in kinds:
                known = [device for device, _ in _known(kind)]
                found += known
                if not known:
                    missing.append(str(advice.none(kind)))
        except sounddevice.PortAudioError as error:
            raise _refused("microphone", error) from error
    return Devices(tuple(found), tuple(missing))


def _refused(kind: Kind, error: Exception) -> MediaError:
    """PortAudio's error in words."""
    if not advice.permitted():
        return MediaError("no_permission", advice.no_permission(kind))
    why = str(error.args[0] if error.args else error).partition(" [PaErrorCode")[0]
    return MediaError("no_device", advice.refused(kind, why))
