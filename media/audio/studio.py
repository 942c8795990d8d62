"""All sound of a call: the microphone to every leg, every leg to the speaker.

    microphone -> Voice: clean, mute, encode -> every leg's `send`
    every leg's JitterBuffer -> Mixer (and tones) -> speaker, and the echo canceller

The microphone is encoded once, however many legs there are. Devices are open only
while there is a leg, the speaker also while there is a tone. The work is done in the
devices' threads, payloads go to the event loop with `call_soon_threadsafe`; the loop
never waits for a device.

Where the milliseconds go, mouth to ear, on a path without delay:

    20 to 30   the microphone's period, an Opus frame that is sent whole, and what the
               system keeps behind it
     6.5       Opus' look-ahead
    12         WebRTC's filters, if any switch of `Sound` is on
     1         encoding, the loop, SRTP, and the same back
    10 to 30   the jitter buffer: its guard, and what steps of 20 ms leave over
    15 to 30   the speaker's period, and what is written ahead of it

The goal is 130 at the 95th percentile. With PulseAudio's virtual devices the first and
the last line together take 35; of whole calls with all processing, on a machine that
did other work too, the medians were 89 and 91. A real sound card adds its own 10 to 40.
With loss the buffer waits 20 more, for the packet that repairs the lost one; with
jitter as long as 97 % of the packets need.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Final, ParamSpec, Protocol

import numpy as np

from media.audio import devices
from media.audio.devices import Lost, Stream
from media.audio.jitter import JitterBuffer
from media.audio.line import RETRY, Line
from media.audio.mixer import Mixer
from media.audio.opus import BITRATE, BLOCK, LOSS, Encoder, Pcm
from media.audio.processing import Processing
from media.audio.tones import Tones
from media.audio.voice import NOTHING, STALL, Voice
from media.port import Event, Levels, MediaError, Sound, Tone, Trouble

__all__ = ["Studio"]

log = logging.getLogger(__name__)

LEVELS: Final = 0.2
"""Seconds between two `Levels`."""
LINGER: Final = 1.0
"""Seconds that devices stay open without a use: after the ringing comes the call,
after a lost leg the next one, and opening them again would cost the first words. What
the microphone hears meanwhile is not even looked at."""

Send = Callable[[bytes | None, int], None]
P = ParamSpec("P")


class System(Protocol):
    """`media.audio.devices`."""

    def open_microphone(
        self, id: str, hear: Callable[[Pcm], None], lost: Lost, /
    ) -> Stream:
        """Open a microphone."""

    def open_speaker(
        self, id: str, fill: Callable[[int], Pcm], lost: Lost, /
    ) -> Stream:
        """Open a speaker."""


class Studio:
    """The sound of all legs. All methods are for the event loop's thread."""

    def __init__(
        self,
        hear: Callable[[Event], None],
        *,
        system: System | None = None,
        retry: float = RETRY,
        linger: float = LINGER,
    ) -> None:
        """`hear` is told `Levels` and `Trouble`, on the event loop's thread."""
        self._loop = asyncio.get_running_loop()
        self._hear = hear
        self._system: System = system or devices
        self._linger = linger
        self._sound = Sound()
        self._legs: dict[str, Send] = {}
        self._buffers: dict[str, JitterBuffer] = {}
        self._rates: dict[str, tuple[int, float]] = {}
        self._tones = Tones(self._later(self._settle))
        self._mixer = Mixer(self._tones)
        self._voice: Voice | None = None
        self._encoder: Encoder | None = None
        self._muted = self._held = False
        self._processing: Processing | None = None
        self._processed: tuple[bool, bool, bool] | None = None
        self._troubled = False
        self._levels: asyncio.Task[None] | None = None
        self._was = (False, False)
        """Whether there was a leg, and a leg or a tone, when devices were arranged."""
        self._talked = self._busy = 0.0
        """Until when."""
        self._idle: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._changing = asyncio.Lock()
        self._microphone = Line(
            "microphone",
            self._open_microphone,
            lambda: self._heard(NOTHING),
            hear,
            self._delayed,
            retry,
            grace=STALL,
        )
        self._speaker = Line(
            "speaker", self._open_speaker, self._drain, hear, self._delayed, retry
        )

    # Legs

    def add(self, leg: str, buffer: JitterBuffer, send: Send) -> None:
        """Let a leg hear us and be heard.

        Args:
            leg: Its name.
            buffer: Where its sound arrives; `time.monotonic` is its clock.
            send: Is called on the event loop's thread for every 20 ms: the payload
                (None: nothing to send) and its RTP timestamp, counted from 0.

        Raises:
            MediaError: `no_library`.
        """
        if self._voice is None:
            self._encoder = Encoder()
            self._voice = Voice(self._encoder, self._later(self._send))
            self._voice.muted, self._voice.held = self._muted, self._held
            if self._processing is not None:  # made by `prepare`
                self._voice.near = self._processing.near
        self._legs[leg], self._buffers[leg] = send, buffer
        self._settle()

    def remove(self, leg: str) -> None:
        """Forget a leg; one that is not there is no error."""
        self._legs.pop(leg, None)
        self._buffers.pop(leg, None)
        self._rates.pop(leg, None)
        self._retune()
        self._settle()

    def tune(self, bitrate: int, loss: float, leg: str = "") -> None:
        """Say what a leg's path takes: bits a second, and its loss (0 to 1).

        All legs get the same payloads: the worst one decides.
        """
        if not leg or leg in self._legs:
            self._rates[leg] = (bitrate, loss)
            self._retune()

    def _retune(self) -> None:
        if self._encoder is not None:
            rates = self._rates.values()
            self._encoder.tune(
                min((bitrate for bitrate, _ in rates), default=BITRATE),
                max((loss for _, loss in rates), default=LOSS),
            )

    # What the person wants

    def set_muted(self, on: bool) -> None:
        """Send silence instead of the microphone."""
        self._muted = on
        if self._voice is not None:
            self._voice.muted = on

    def set_held(self, on: bool) -> None:
        """Neither send nor play the legs."""
        self._held = self._mixer.held = on
        if self._voice is not None:
            self._voice.held = on

    def play(self, tone: Tone) -> None:
        """Play a tone until another is asked for."""
        self._tones.play(tone)
        self._settle()

    async def set_sound(self, sound: Sound) -> None:
        """Use these devices and this processing from now on."""
        async with self._changing:
            old, self._sound = self._sound, sound
            if sound.microphone != old.microphone:
                await self._microphone.switch(sound.microphone)
            if sound.speaker != old.speaker:
                await self._speaker.switch(sound.speaker)
        self._settle()

    async def prepare(self) -> None:
        """Load the libraries, so that the first call starts at once.

        Raises:
            MediaError: `no_library`.
        """
        await asyncio.to_thread(Encoder)
        await self._process()

    async def close(self) -> None:
        """Close all devices."""
        self._legs, self._buffers = {}, {}
        self._tones.play("none")
        self._mixer.sources = ()
        self._was = (False, False)
        if self._idle is not None:
            self._idle.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        async with self._changing:
            await self._microphone.stop()
            await self._speaker.stop()

    # Devices

    def _settle(self) -> None:
        """Open and close what is wanted now."""
        self._mixer.sources = tuple(self._buffers.values())
        now = self._loop.time()
        talking, busy = bool(self._legs), bool(self._legs) or self._tones.playing
        if talking and not self._was[0] and self._voice is not None:
            self._voice.restart()
        if talking or self._was[0]:
            self._talked = now
        if busy or self._was[1]:
            self._busy = now
        self._was = (talking, busy)
        self._start(self._arrange())
        if self._idle is not None:
            self._idle.cancel()
        self._idle = self._loop.call_later(
            self._linger, lambda: self._start(self._arrange())
        )

    async def _arrange(self) -> None:
        """Start and stop lines."""
        async with self._changing:
            (talking, busy), now = self._was, self._loop.time()
            if busy and not self._speaker.running:
                self._mixer.restart()
                self._speaker.start(self._sound.speaker)
                self._levels = self._start(self._tell_levels())
            elif not busy and now >= self._busy + self._linger:
                if self._levels is not None:
                    self._levels.cancel()
                await self._speaker.stop()
            if talking and not self._microphone.running:
                self._microphone.start(self._sound.microphone)
            elif not talking and now >= self._talked + self._linger:
                await self._microphone.stop()
        if talking:
            await self._process()

    async def _process(self) -> None:
        """Load what cleans the microphone's sound, as wanted now."""
        sound = self._sound
        wanted = (sound.echo, sound.noise, sound.gain)
        if wanted == self._processed:
            return
        self._processed = wanted
        made: Processing | None = None
        try:
            if any(wanted):
                made = await asyncio.to_thread(Processing, *wanted, self._latency)
        except MediaError as error:
            self._troubled = True
            self._hear(Trouble("processing", error.code, str(error)))
        else:
            if self._troubled:
                self._troubled = False
                self._hear(Trouble("processing", "", ""))
        if wanted != self._processed:
            return
        self._processing = made
        if self._voice is not None:
            self._voice.near = made.near if made else None
        self._mixer.far = made.far if made else None

    @property
    def _latency(self) -> float:
        return self._microphone.latency + self._speaker.latency

    def _delayed(self) -> None:
        if self._processing is not None:
            self._processing.set_delay(self._latency)

    def _open_microphone(
        self, device: str, in_use: Callable[[], bool], lost: Lost
    ) -> Stream:
        def heard(chunk: Pcm) -> None:
            if in_use():
                self._heard(chunk)

        return self._system.open_microphone(device, heard, lost)

    def _open_speaker(
        self, device: str, in_use: Callable[[], bool], lost: Lost
    ) -> Stream:
        def fill(count: int) -> Pcm:
            if in_use():
                return self._mixer.fill(count, time.monotonic())
            return np.zeros(count, np.int16)

        return self._system.open_speaker(device, fill, lost)

    def _heard(self, chunk: Pcm) -> None:
        if self._voice is not None and self._legs:
            self._voice.hear(chunk, time.monotonic())

    def _drain(self) -> None:
        self._mixer.fill(BLOCK, time.monotonic())

    # On the event loop

    def _send(self, payload: bytes | None, timestamp: int) -> None:
        for leg, send in list(self._legs.items()):
            try:
                send(payload, timestamp)
            except Exception:
                # One leg that fails must not silence the others.
                log.exception("sending sound on %s", leg)

    async def _tell_levels(self) -> None:
        while True:
            await asyncio.sleep(LEVELS)
            microphone = self._voice.meter.read() if self._voice else 0.0
            self._hear(Levels(microphone, self._mixer.meter.read()))

    def _later(self, what: Callable[P, None]) -> Callable[P, None]:
        """Have something done on the event loop, from any thread."""

        def later(*args: P.args, **kwargs: P.kwargs) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(partial(what, *args, **kwargs))

        return later

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the studio failed", exc_info=error)
