"""Sound without devices, at the pace of the clock: silence and files.

For tests and bots, and for whoever wants to be in a call without a microphone.
"""

import time
import wave
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from media.audio.devices.base import (
    PERIOD,
    RATE,
    Fill,
    Hear,
    Kept,
    Kind,
    Lost,
    Samples,
    Stream,
)
from media.port import Device, Devices, MediaError

if TYPE_CHECKING:
    from av import AudioFrame

__all__ = ["Null", "open_microphone", "open_speaker", "owns", "read_sound"]

PREFIXES = ("null:", "file:", "file-loop:")
LATE = 0.5
"""Seconds by which the clock may run after before it lets go of what it missed."""
RATES = range(4_000, 768_001)
"""Samples a second of a file. Below, a kilobyte would be hours of sound; above, the
resampler takes seconds to begin and much memory."""
READ = RATE // 2
"""Samples that are read of a file at a time, at least."""
WRITE = RATE // 5
"""Samples that are written to a file at a time."""


def owns(id: str) -> bool:
    """Whether this is an id of one of ours."""
    return id.startswith(PREFIXES)


class Null:
    """The backend without any sound."""

    name = "null"

    def devices(self) -> Devices:
        return Devices(
            found=(
                Device("microphone", "null:", "Silence", default=True),
                Device("speaker", "null:", "Nobody", default=True),
            )
        )

    def open_microphone(self, id: str, hear: Hear, lost: Lost) -> Stream:
        return open_microphone(id or "null:", hear, lost)

    def open_speaker(self, id: str, fill: Fill, lost: Lost) -> Stream:
        return open_speaker(id or "null:", fill, lost)


def open_microphone(id: str, hear: Hear, lost: Lost) -> Stream:
    """One that plays a file or silence. Raises `MediaError` for a bad file."""
    return FileMicrophone(id, hear, lost).start()


def open_speaker(id: str, fill: Fill, lost: Lost) -> Stream:
    """One that writes a file or nothing."""
    return FileSpeaker(id, fill, lost).start()


class Paced(Kept):
    """Its keeper is the device, too: it ticks once a period."""

    latency = 0.0

    @abstractmethod
    def _tick(self) -> None:
        """Hear or play one period."""

    def _stalled(self) -> MediaError:
        return MediaError("internal", "The clock stopped.")

    def _watch(self) -> None:
        due = time.monotonic()
        while not self._ended.is_set() and self._error is None:
            due += PERIOD / RATE
            wait = due - time.monotonic()
            if wait > 0:
                time.sleep(wait)  # a period at most: an Event costs more
            elif wait < -LATE:
                due -= wait
            if not self._ended.is_set():
                self._tick()
        super()._watch()


class FileMicrophone(Paced):
    """Plays a file."""

    def __init__(self, id: str, hear: Hear, lost: Lost) -> None:
        super().__init__("microphone", id, lost)
        self._hear = hear
        self._sound: Iterator[Samples] = iter(())

    def _open(self) -> None:
        prefix, _, path = self._id.partition(":")
        if prefix != "null":
            self._sound = _periods(Path(path), loop=prefix == "file-loop")
            first = next(self._sound, None)
            if first is not None:
                self._sound = _with(first, self._sound)

    def _tick(self) -> None:
        try:
            samples = next(self._sound, None)
        except MediaError as error:
            self.failed(error)
            return
        if samples is None:
            samples = np.zeros(PERIOD, np.int16)
        self.heard(self._hear, samples)

    def _release(self) -> None:
        self._sound = iter(())


class FileSpeaker(Paced):
    """Writes a WAV file: readable at any time, to within 0.2 s."""

    def __init__(self, id: str, fill: Fill, lost: Lost) -> None:
        super().__init__("speaker", id, lost)
        self._fill = fill
        self._out: BinaryIO | None = None
        self._file: wave.Wave_write | None = None
        self._waiting: list[Samples] = []

    def _open(self) -> None:
        prefix, _, path = self._id.partition(":")
        if prefix == "null":
            return
        try:
            self._out = open(path, "wb")  # noqa: SIM115
        except OSError as error:
            raise MediaError(*_unusable("speaker", path, error)) from error
        self._file = wave.open(self._out, "wb")  # noqa: SIM115
        self._file.setnchannels(1)
        self._file.setsampwidth(2)
        self._file.setframerate(RATE)

    def _tick(self) -> None:
        samples = self.filled(self._fill, PERIOD)
        if self._file is None:
            return
        self._waiting.append(np.zeros(PERIOD, np.int16) if samples is None else samples)
        if len(self._waiting) * PERIOD >= WRITE:
            self._flush()

    def _flush(self) -> None:
        assert self._file is not None
        try:
            self._file.writeframes(
                np.concatenate(self._waiting).astype("<i2").tobytes()
            )
        except OSError as error:
            path = self._id.partition(":")[2]
            self.failed(MediaError(*_unusable("speaker", path, error)))
        self._waiting.clear()

    def _release(self) -> None:
        if self._file is not None and self._waiting:
            self._flush()
        for one in (self._file, self._out):
            if one is not None:
                one.close()


def _with(first: Samples, rest: Iterator[Samples]) -> Iterator[Samples]:
    yield first
    yield from rest


def _periods(path: Path, *, loop: bool) -> Iterator[Samples]:
    """The file in pieces of one period, the last one filled up with silence."""
    left = np.zeros(0, np.int16)
    while True:
        some = False
        for piece in _joined(read_sound(path)):
            some = some or piece.size > 0
            left = np.concatenate((left, piece))
            whole = left.size // PERIOD * PERIOD
            for at in range(0, whole, PERIOD):
                yield left[at : at + PERIOD].copy()
            left = left[whole:]
        if not (loop and some):
            break
    if left.size:
        yield np.concatenate((left, np.zeros(PERIOD - left.size, np.int16)))


def _joined(pieces: Iterator[Samples]) -> Iterator[Samples]:
    """The same in larger pieces: files have small ones, each as dear as a large."""
    some: list[Samples] = []
    for piece in pieces:
        some.append(piece)
        if sum(one.size for one in some) >= READ:
            yield np.concatenate(some)
            some.clear()
    if some:
        yield np.concatenate(some)


def read_sound(path: Path) -> Iterator[Samples]:
    """A sound file of any rate, layout and format, in pieces.

    Raises:
        MediaError: `no_device`: it cannot be read, or there is no sound in it.
    """
    try:
        import av
        from av.audio.resampler import AudioResampler
    except ImportError as error:
        text = "Sound files need PyAV: pip install 'telex[calls]'."
        raise MediaError("no_library", text) from error
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise MediaError("no_device", f"There is no sound in {str(path)!r}.")
            resampler = AudioResampler("s16", "mono", RATE)
            for frame in container.decode(audio=0):
                if frame.sample_rate not in RATES:
                    text = f"The file {str(path)!r} is damaged: its rate is odd."
                    raise MediaError("no_device", text)
                for piece in resampler.resample(frame):
                    yield _mono(piece)
            for piece in resampler.resample(None):
                yield _mono(piece)
    except (av.FFmpegError, OSError) as error:
        raise MediaError(*_unusable("microphone", str(path), error)) from error


def _mono(frame: "AudioFrame") -> Samples:
    return frame.to_ndarray().reshape(-1).astype(np.int16, copy=False)


def _unusable(kind: Kind, path: str, error: Exception) -> tuple[str, str]:
    code = "no_permission" if isinstance(error, PermissionError) else "no_device"
    why = getattr(error, "strerror", None) or str(error)
    return code, f"The file {path!r} cannot be the {kind}: {why}."
