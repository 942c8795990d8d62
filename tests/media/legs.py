"""Two legs that call each other in one process, with a studio's clock beside each."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import av
import numpy as np
from numpy.typing import NDArray

from media.audio.opus import Encoder
from media.port import Event, Ice, LegState, PeerSays, Quality, Trouble
from media.rtc.leg import Leg
from tests.media.relay import Relay

Pcm = NDArray[np.int16]
BLOCK = 960
RATE = 48_000
ORANGE = (220, 120, 30)


def speech(seconds: float, seed: int = 1) -> Pcm:
    """Something like a voice: noise through two resonances, in syllables."""
    count = int(seconds * RATE)
    noise = np.random.default_rng(seed).standard_normal(count)
    spectrum = np.fft.rfft(noise)
    f = np.fft.rfftfreq(count, 1 / RATE)
    spectrum *= np.exp(-(((f - 300) / 200) ** 2)) + np.exp(-(((f - 1200) / 400) ** 2))
    voice = np.fft.irfft(spectrum, count)
    t = np.arange(count) / RATE
    voice *= 0.6 + 0.4 * np.sin(2 * np.pi * 3 * t + seed)
    result: Pcm = (voice / np.abs(voice).max() * 12_000).astype(np.int16)
    return result


def likeness(sent: Pcm, heard: Pcm) -> tuple[float, int]:
    """Where in `sent`, which goes round, it is most like `heard`: correlation, sample.

    1.0: the same but for its loudness; noise has less than 0.1.
    """
    rounds = np.concatenate([sent, sent[: len(heard)]]).astype(float)
    size = 1 << (len(rounds) + len(heard)).bit_length()
    spectrum = np.conj(np.fft.rfft(heard.astype(float), size))
    product = np.fft.irfft(np.fft.rfft(rounds, size) * spectrum, size)[: len(sent)]
    best = int(np.argmax(product))
    there = rounds[best : best + len(heard)]
    energy = np.linalg.norm(there) * np.linalg.norm(heard.astype(float))
    return (float(product[best] / energy) if energy else 0.0), best


class Picture:
    """A camera that sees one colour, and a bar that moves through it."""

    def __init__(self, colour: tuple[int, int, int] = ORANGE) -> None:
        self.box = (320, 240)
        self.fps = 15.0
        self.given = 0
        self._colour = colour
        self._due = 0.0

    def want(self, width: int, height: int, fps: float) -> None:
        self.box, self.fps = (width, height), fps

    async def next(self) -> av.VideoFrame:
        self._due = max(self._due + 1 / self.fps, time.monotonic())
        await asyncio.sleep(self._due - time.monotonic())
        self.given += 1
        pixels = np.empty((240, 320, 3), np.uint8)
        pixels[:] = self._colour
        noise = np.random.default_rng(self.given).integers(0, 24, (60, 80, 1))
        pixels[90:150, 120:200] = np.clip(pixels[90:150, 120:200] - noise, 0, 255)
        pixels[:, (self.given * 6) % 300 :][:, :12] = (20, 200, 60)
        return av.VideoFrame.from_ndarray(pixels, format="rgb24")


class Side:
    """A leg, what it told, what it showed, and a studio's clock for it."""

    def __init__(self, name: str, sound: Pcm) -> None:
        self.events: list[Event] = []
        self.shown: list[tuple[float, av.VideoFrame]] = []
        self.rates: list[tuple[int, float]] = []
        self.picture = Picture()
        self.sound = sound
        self.heard: list[Pcm] = []
        self.changed = asyncio.Event()
        self.encoder = Encoder()
        self.quiet = False
        """Send nothing, as in silence (DTX)."""
        self.leg = Leg(name, Ice(), self._hear, self.picture, self._show)
        self.leg.on_rate = self._tune
        self._clock: asyncio.Task[None] | None = None

    def _hear(self, event: Event) -> None:
        self.events.append(event)
        self.changed.set()

    def _show(self, frame: av.VideoFrame) -> None:
        self.shown.append((time.monotonic(), frame))
        self.changed.set()

    def _tune(self, bitrate: int, loss: float) -> None:
        self.rates.append((bitrate, loss))
        self.encoder.tune(bitrate, loss)

    async def until(self, true: Callable[[], object], seconds: float = 15) -> None:
        """Wait for something to be so; looked at with each event."""
        async with asyncio.timeout(seconds):
            while not true():
                self.changed.clear()
                await self.changed.wait()

    @property
    def states(self) -> list[str]:
        return [e.state for e in self.events if isinstance(e, LegState)]

    @property
    def details(self) -> list[str]:
        return [e.detail for e in self.events if isinstance(e, LegState)]

    @property
    def says(self) -> PeerSays | None:
        """The last that the other side said."""
        said = [e for e in self.events if isinstance(e, PeerSays)]
        return said[-1] if said else None

    @property
    def qualities(self) -> list[Quality]:
        return [e for e in self.events if isinstance(e, Quality)]

    @property
    def troubles(self) -> list[str]:
        return [e.code for e in self.events if isinstance(e, Trouble)]

    def start(self) -> None:
        """Speak and listen from now on, a block each 20 ms."""
        self._clock = asyncio.create_task(self._run())

    async def _run(self) -> None:
        begun, blocks = time.monotonic(), 0
        while True:
            at = blocks * BLOCK % (len(self.sound) - BLOCK)
            payload = self.encoder.encode(self.sound[at : at + BLOCK])
            self.leg.send_audio(None if self.quiet else payload, blocks * BLOCK)
            self.heard.append(self.leg.buffer.get(time.monotonic()))
            blocks += 1
            await asyncio.sleep(max(0, begun + blocks * 0.02 - time.monotonic()))

    async def close(self, bye: bool = True) -> None:
        if self._clock is not None:
            self._clock.cancel()
        await self.leg.close(bye)

    def hears(self, other: "Side", seconds: float) -> tuple[float, float]:
        """How the last seconds are like what the other said: correlation, delay (s)."""
        blocks = min(len(self.heard), int(seconds * 50))
        begin = (len(self.heard) - blocks) * BLOCK
        best, at = likeness(other.sound, np.concatenate(self.heard[-blocks:]))
        round_ = len(other.sound) - BLOCK
        return best, ((begin - at) % round_) / RATE


@asynccontextmanager
async def call(
    relay: Relay | None = None, opened: bool = True, sound: Pcm | None = None
) -> AsyncIterator[tuple[Side, Side]]:
    """Two sides that are connected, speak and listen.

    `opened`: False: a, who offers, is not open; b must be, or nothing connects.
    """
    voice = speech(6) if sound is None else sound
    a, b = Side("a", voice), Side("b", voice[::-1].copy())
    try:
        offer = await a.leg.offer()
        answer = await b.leg.answer(relay.rewrite("a", offer) if relay else offer)
        await a.leg.accept(relay.rewrite("b", answer) if relay else answer)
        if opened:
            a.leg.open()
        b.leg.open()
        a.start()
        b.start()
        await a.until(lambda: "connected" in a.states)
        await b.until(lambda: "connected" in b.states)
        yield a, b
    finally:
        await asyncio.gather(a.close(False), b.close(False))
        if relay is not None:
            relay.close()
