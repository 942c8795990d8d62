"""What every sound backend has in common: values, and streams that cannot hang.

Native sound libraries call back in a thread of theirs, and each of their calls can
hang: a sound server that was stopped answers neither an open nor a close, and a
device that was unplugged often just stops calling. So each open device has a *keeper*,
a thread that opens it, watches that it calls, says once that it is lost, and closes
it. Whoever waits for the keeper waits for a bounded time.
"""

import logging
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from media.audio.devices import advice
from media.port import Devices, MediaError

__all__ = [
    "PERIOD",
    "RATE",
    "Backend",
    "Fill",
    "Hear",
    "Kept",
    "Kind",
    "Lost",
    "NoSound",
    "Samples",
    "Stream",
    "bounded",
    "close_all",
]

logger = logging.getLogger(__name__)

RATE = 48_000
"""Samples a second, everywhere in `media`."""
PERIOD = 960
"""Samples that a device takes or gives at a time: 20 ms, as Opus does. With half of it
words were 10 ms earlier, and each second had a hundred more wake-ups."""
OPEN = 4.0
"""Seconds that opening or listing may take; more means a server that hangs."""
CLOSE = 1.0
"""Seconds that `close` waits; a keeper that needs longer goes on in the background."""
QUIET = 0.3
"""Seconds without a call from the device after which the system is asked whether the
device is still there."""
STARVED = 1.0
"""Seconds without a call after which a device is lost that seems to be there."""
WAKING = 4.0
"""Seconds after opening in which it is not: cards, Bluetooth and virtual sinks may
take two calls and then none for two seconds, until they are awake."""
ASTRAY = 1.0
"""Seconds between two looks whether the system gave the stream another device."""
LOOK = 0.2
"""Seconds between two looks of the keeper."""

Samples = NDArray[np.int16]
"""Mono, `RATE` a second."""
Hear = Callable[[Samples], None]
"""Is given what the microphone heard, an array of its own, in the device's thread."""
Fill = Callable[[int], Samples]
"""Gives that many samples for the speaker, in the device's thread."""
Lost = Callable[[MediaError], None]
"""Is told once that the device is gone, in any thread; the stream is then to close."""
Kind = Literal["microphone", "speaker"]


class Stream:
    """An open microphone or speaker."""

    latency: float = 0.0
    """Seconds between the air and the callback, as well as the backend knows."""

    def close(self) -> None:
        """Stop; takes `CLOSE` seconds at most, may be called twice and from anywhere.

        No callback starts after it came back, unless the system's sound hangs.
        """


_started: "weakref.WeakSet[Kept]" = weakref.WeakSet()
"""All streams that may be open."""


def close_all() -> None:
    """Close all streams.

    For the end of the process, where PortAudio hangs when streams are open: backends
    have `atexit` call it, after the library so that it runs before the library's own.
    """
    for stream in list(_started):
        stream.close()


class NoSound(MediaError):
    """The system has none that the backend knows; another one may know some."""


class Backend(Protocol):
    """A way to the system's sound; its constructor raises `MediaError`."""

    name: str

    def devices(self) -> Devices:
        """Microphones and speakers that are plugged in, the default ones first."""

    def open_microphone(self, id: str, hear: Hear, lost: Lost) -> Stream:
        """See `media.audio.devices.open_microphone`."""

    def open_speaker(self, id: str, fill: Fill, lost: Lost) -> Stream:
        """See `media.audio.devices.open_speaker`."""


class Kept(Stream, ABC):
    """A native device and its keeper; backends say how to open and to close it.

    A subclass's native callback calls `heard` or `filled`, which never raise.
    """

    def __init__(self, kind: Kind, id: str, lost: Lost) -> None:
        self._kind: Kind = kind
        self._id = id
        self._lost = lost
        self._ended = threading.Event()
        """Nothing more is heard or filled; the keeper closes."""
        self._opened = threading.Event()
        self._wake = threading.Event()
        self._refused: MediaError | None = None
        """Why it did not open."""
        self._error: MediaError | None = None
        """Why it is lost."""
        self._quiet = False
        self._beat = 0.0
        self._asked = 0.0
        """How long it was silent when the system was asked."""
        self._followed = 0.0
        """When it was last looked whether it went astray."""
        self._caller = 0
        """The device's own thread, which cannot wait for its own end."""
        self._keeper = threading.Thread(
            target=self._keep, name=f"telex-{kind}", daemon=True
        )

    @abstractmethod
    def _open(self) -> None:
        """Open and start the native device; raises `MediaError`. Sets `latency`."""

    @abstractmethod
    def _release(self) -> None:
        """Close what `_open` opened, also when it came half way."""

    def _gone(self) -> MediaError | None:
        """Why it cannot call any more; None: it is there, or nobody knows."""
        return None

    def _astray(self) -> MediaError | None:
        """Whether it calls, but for a device that nobody wants."""
        return None

    @abstractmethod
    def _stalled(self) -> MediaError:
        """What to say of a device that does not call, though it is not known gone."""

    def start(self) -> Self:
        """Open the device and give it back. Raises `MediaError`."""
        _started.add(self)
        self._keeper.start()
        if not self._opened.wait(OPEN):
            self._ended.set()
            raise MediaError("no_device", advice.no_answer(self._kind))
        if self._refused is not None:
            raise self._refused
        return self

    def close(self) -> None:
        self._ended.set()
        self._wake.set()
        if threading.get_ident() not in (self._keeper.ident, self._caller):
            self._keeper.join(CLOSE)

    def failed(self, error: MediaError) -> None:
        """Have the keeper say that the device is lost; the first error counts."""
        if self._error is None:
            self._error = error
        self._wake.set()

    def stopped(self) -> None:
        """Have the keeper find out why the device does not call any more."""
        self._quiet = True
        self._wake.set()

    def heard(self, hear: Hear, samples: Samples) -> None:
        """Pass on what the microphone heard."""
        self._called()
        if self._ended.is_set() or self._error is not None:
            return
        try:
            hear(samples)
        except Exception:
            # The caller is the library's C code: an error would be lost there.
            self._broken()

    def filled(self, fill: Fill, count: int) -> Samples | None:
        """What the speaker is to play: `count` samples; None: silence."""
        self._called()
        if self._ended.is_set() or self._error is not None:
            return None
        try:
            samples = fill(count)
            if samples.dtype != np.int16 or samples.shape != (count,):
                raise ValueError(f"{samples.dtype}{samples.shape}, not int16[{count}]")
            return samples
        except Exception:
            # As in `heard`; silence is played from here on.
            self._broken()
            return None

    def _called(self) -> None:
        self._beat = time.monotonic()
        self._caller = threading.get_ident()

    def _broken(self) -> None:
        logger.exception("the sound of the %s", self._kind)
        self.failed(MediaError("internal", advice.broken(self._kind)))

    def _keep(self) -> None:
        try:
            try:
                self._open()
            except MediaError as error:
                self._refused = error
                return
            except Exception:
                # A native library fails in its own ways; `start` has to hear of it.
                logger.exception("opening the %s", self._kind)
                self._refused = MediaError("internal", advice.broken(self._kind))
                return
            finally:
                self._opened.set()
            self._watch()
        finally:
            try:
                self._release()
            except Exception:
                # Nobody waits for it, and the device is not used again.
                logger.exception("closing the %s", self._kind)

    def _watch(self) -> None:
        """Until it is closed or lost."""
        since = time.monotonic()
        while not self._ended.is_set():
            self._wake.wait(LOOK)
            self._wake.clear()
            if self._ended.is_set():
                return
            if self._error is None:
                self._error = self._look(since)
            if self._error is not None and not self._ended.is_set():
                try:
                    self._lost(self._error)
                except Exception:
                    # A fault of who listens must not keep the device open.
                    logger.exception("saying that the %s is lost", self._kind)
                return

    def _look(self, since: float) -> MediaError | None:
        """Why it is lost, if it is."""
        now = time.monotonic()
        silent = now - max(self._beat, since)
        if self._quiet:
            return self._gone() or self._stalled()
        if silent < QUIET:
            self._asked = 0.0
            if now - self._followed < ASTRAY:
                return None
            self._followed = now
            return self._astray()
        if silent >= 2 * self._asked:  # 0.3, 0.6, 1.2 s: asking is not free
            self._asked = silent
            if (error := self._gone()) is not None:
                return error
        starved = now - since > WAKING and silent > STARVED
        return self._stalled() if starved else None


def bounded(kind: Kind, ask: Callable[[], Devices], limit: float = OPEN) -> Devices:
    """Ask the system for its devices; a server that hangs is a `MediaError`."""
    found: list[Devices | Exception] = []

    def run() -> None:
        try:
            found.append(ask())
        except Exception as error:
            # Whatever it is, it is raised again in the thread that asked.
            found.append(error)

    thread = threading.Thread(target=run, name="telex-devices", daemon=True)
    thread.start()
    thread.join(limit)
    if not found:
        raise MediaError("no_device", advice.no_answer(kind))
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]
