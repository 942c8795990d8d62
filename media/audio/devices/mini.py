"""Sound by miniaudio: PulseAudio, PipeWire, ALSA, CoreAudio, WASAPI, sndio.

It needs no library of the system and knows the devices by the names that people know.
Its Python classes are used for their memory and callbacks; what they lack (which
device is the default, letting go of a context) is asked of the same C library.
"""

import atexit
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import miniaudio
import numpy as np
from _miniaudio import ffi, lib  # type: ignore[import-not-found]

from media.audio.devices import advice, alsa
from media.audio.devices.base import (
    PERIOD,
    RATE,
    Fill,
    Hear,
    Kept,
    Kind,
    Lost,
    NoSound,
    Stream,
    bounded,
    close_all,
)
from media.port import Device, Devices, MediaError

__all__ = ["Miniaudio"]

atexit.register(close_all)

BACKENDS = [
    miniaudio.Backend[name]
    for name in (
        *("WASAPI", "DSOUND", "WINMM", "COREAUDIO", "SNDIO", "AUDIO4", "OSS"),
        *("PULSEAUDIO", "ALSA"),
    )
]
"""The first that works is it. Not the silent one: that a system has no sound is to be
said."""
PERIODS = 2
"""Of `PERIOD` samples each, that the system's buffer holds."""
LATENCY = 0.02
"""Seconds that a device is assumed to add: the library does not tell. With virtual
devices of PulseAudio 35 ms pass from `fill` to `hear`, a period of 20 ms among them:
both together; with cards more."""
NAME = "Telex"
WHY = 1.0
"""Seconds for finding out why a device is lost."""
MONITOR = ".monitor"
"""How PulseAudio's ids of what a speaker plays end; nobody wants one as microphone."""


class Miniaudio:
    """The system's sound."""

    name = "miniaudio"

    def devices(self) -> Devices:
        return bounded("microphone", lambda: _devices(_backends()))

    def open_microphone(self, id: str, hear: Hear, lost: Lost) -> Stream:
        return MiniMicrophone(id, hear, lost).start()

    def open_speaker(self, id: str, fill: Fill, lost: Lost) -> Stream:
        return MiniSpeaker(id, fill, lost).start()


class MiniStream(Kept):
    """An open device; `_native` is made and closed by the keeper alone."""

    _native: "miniaudio.AbstractDevice | None" = None
    _backends: list["miniaudio.Backend"]
    """The one that it is of."""
    _wanders = False
    """Whether PulseAudio may give it another device when the default one goes."""

    @abstractmethod
    def _make(self, **options: Any) -> "miniaudio.AbstractDevice":
        """Have the library make a device of this kind; `_open` starts it."""

    def _open(self) -> None:
        with _context(_backends()) as context:
            self._backends = [miniaudio.Backend(context.backend)]
            memory = _pick(_known(context, self._kind), self._id, self._kind)
            pulse = context.backend == miniaudio.Backend.PULSEAUDIO.value
            self._wanders = pulse and self._kind == "microphone" and not memory
        try:
            self._native = self._make(
                nchannels=1,
                sample_rate=RATE,
                buffersize_msec=PERIOD * 1000 // RATE,
                device_id=memory,
                callback_periods=PERIODS,
                backends=self._backends,
                app_name=NAME,
            )
            self._native.stop_callback = self.stopped
            self._native.start(iter(()))
        except miniaudio.MiniaudioError as error:
            raise _refused(self._kind, error) from error
        self.latency = LATENCY

    def _release(self) -> None:
        native, self._native = self._native, None
        if native is not None:
            native.stop_callback = None
            native.close()
            lib.ma_context_uninit(native._context)

    def _gone(self) -> MediaError | None:
        try:
            found = bounded(self._kind, lambda: _devices(self._backends), WHY).found
        except NoSound:
            return MediaError("no_device", advice.hung_up(self._kind))
        except MediaError as error:
            return error
        ids = {one.id for one in found if one.kind == self._kind}
        if self._id in ids or (ids and not self._id) or self._id.endswith(MONITOR):
            return None
        return MediaError("no_device", advice.unplugged(self._kind, self._id))

    def _astray(self) -> MediaError | None:
        """PulseAudio moves what hears the default microphone, when that is unplugged,
        to what the speakers play if there is nothing else: an echo for the others.
        """
        if not self._wanders:
            return None
        try:
            found = bounded(self._kind, lambda: _devices(self._backends), WHY).found
        except MediaError:
            return None
        if any(one.default for one in found if one.kind == self._kind):
            return None
        return MediaError("no_device", advice.unplugged(self._kind, self._id))

    def _stalled(self) -> MediaError:
        return MediaError("no_device", advice.stalled(self._kind))


class MiniMicrophone(MiniStream):
    """Hears."""

    def __init__(self, id: str, hear: Hear, lost: Lost) -> None:
        super().__init__("microphone", id, lost)
        self._hear = hear

    def _make(self, **options: Any) -> "miniaudio.AbstractDevice":
        return _Capture(self, self._hear, options)


class MiniSpeaker(MiniStream):
    """Plays."""

    def __init__(self, id: str, fill: Fill, lost: Lost) -> None:
        super().__init__("speaker", id, lost)
        self._fill = fill

    def _make(self, **options: Any) -> "miniaudio.AbstractDevice":
        return _Playback(self, self._fill, options)


class _Capture(miniaudio.CaptureDevice):  # type: ignore[misc]
    """Without the generator that the library wants, and with one copy less."""

    def __init__(self, stream: Kept, hear: Hear, options: dict[str, Any]) -> None:
        self._stream, self._hear = stream, hear
        super().__init__(**options)

    def _data_callback(self, device: Any, output: Any, input: Any, count: int) -> None:
        data = np.frombuffer(ffi.buffer(input, count * 2), np.int16)
        self._stream.heard(self._hear, data.copy())


class _Playback(miniaudio.PlaybackDevice):  # type: ignore[misc]
    """The library sets the buffer to silence before it calls."""

    def __init__(self, stream: Kept, fill: Fill, options: dict[str, Any]) -> None:
        self._stream, self._fill = stream, fill
        super().__init__(**options)

    def _data_callback(self, device: Any, output: Any, input: Any, count: int) -> None:
        samples = self._stream.filled(self._fill, count)
        if samples is not None:
            ffi.memmove(output, np.ascontiguousarray(samples), count * 2)


def _backends() -> list["miniaudio.Backend"]:
    """Those to try now; ALSA without a card lists converters, and servers that are not.

    The first that works is taken.
    """
    alsa_too = alsa.has_cards()
    return [one for one in BACKENDS if alsa_too or one.name != "ALSA"]


@contextmanager
def _context(allowed: list["miniaudio.Backend"]) -> Iterator[Any]:
    """A connection to the system's sound."""
    alsa.hush()
    context = ffi.new("ma_context*")
    backends = ffi.new("ma_backend[]", [one.value for one in allowed])
    result = lib.ma_context_init(backends, len(allowed), ffi.NULL, context)
    if result != lib.MA_SUCCESS:
        if not advice.permitted():
            raise MediaError("no_permission", advice.no_permission("microphone"))
        raise NoSound("no_device", advice.no_server())
    try:
        yield context
    finally:
        lib.ma_context_uninit(context)


def _known(context: Any, kind: Kind) -> list[tuple[Device, Any]]:
    """What there is, the default first, each with the library's own id."""
    infos, count = ffi.new("ma_device_info**"), ffi.new("ma_uint32*")
    places = [ffi.NULL] * 4
    at = 0 if kind == "speaker" else 2
    places[at : at + 2] = [infos, count]
    result = lib.ma_context_get_devices(context, *places)
    if result != lib.MA_SUCCESS:
        raise _refused(kind, miniaudio.MiniaudioError("", result))
    found: list[tuple[Device, Any]] = []
    for info in infos[0][0 : count[0]]:
        id = _name(context, info.id)
        name = ffi.string(info.name).decode("utf-8", "replace")
        memory = ffi.new("ma_device_id*", info.id)
        if context.backend == miniaudio.Backend.ALSA.value and not alsa.is_card(id):
            continue
        found.append((Device(kind, id, name, bool(info.isDefault)), memory))
    return sorted(found, key=lambda one: not one[0].default)


def _name(context: Any, id: Any) -> str:
    """A device's id as text: all but WASAPI's are C strings."""
    data = bytes(ffi.buffer(ffi.addressof(id)))
    if context.backend == miniaudio.Backend.WASAPI.value:
        return data[:128].decode("utf-16-le", "replace").partition("\0")[0]
    return data.partition(b"\0")[0].decode("utf-8", "replace")


def _usable(known: list[tuple[Device, Any]]) -> list[tuple[Device, Any]]:
    return [
        one
        for one in known
        if one[0].kind == "speaker" or not one[0].id.endswith(MONITOR)
    ]


def _pick(known: list[tuple[Device, Any]], id: str, kind: Kind) -> Any:
    """The library's id of the wanted one; NULL: follow the system's default."""
    if id:
        for device, memory in known:
            if device.id == id:
                return memory
        raise MediaError("no_device", advice.not_found(kind, id))
    usable = _usable(known)
    if not usable:
        raise advice.none(kind, served=True)
    device, memory = usable[0]
    return ffi.NULL if device.default or device is known[0][0] else memory


def _devices(allowed: list["miniaudio.Backend"]) -> Devices:
    found: list[Device] = []
    missing: list[str] = []
    with _context(allowed) as context:
        kinds: tuple[Kind, ...] = ("microphone", "speaker")
        for kind in kinds:
            known = _known(context, kind)
            usable = _usable(known)
            found += [device for device, _ in usable]
            if not usable:
                missing.append(str(advice.none(kind, served=True)))
    return Devices(tuple(found), tuple(missing))


def _refused(kind: Kind, error: Exception) -> MediaError:
    """The library's error in words."""
    result = error.args[1] if len(error.args) > 1 else 0
    if result == lib.MA_ACCESS_DENIED or not advice.permitted():
        return MediaError("no_permission", advice.no_permission(kind))
    if result in (lib.MA_NO_DEVICE, lib.MA_NO_BACKEND):
        return MediaError("no_device", advice.no_device(kind))
    return MediaError("no_device", advice.refused(kind, RESULTS.get(result, "?")))


RESULTS = {
    value: name.removeprefix("MA_").lower().replace("_", " ")
    for name in dir(lib)
    if name.startswith("MA_")
    for value in [getattr(lib, name)]
    if isinstance(value, int) and value < 0
}
"""The library's errors, in words."""
