"""A studio whose devices are fakes whose pace the test sets.

`System.pass_time` is a device's thread that does a period of the microphone and of the
speaker. To be imported where numpy and PyAV are known to be there.
"""

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np

from media.audio.devices import Lost, Stream
from media.audio.opus import BLOCK, RATE, Decoder, Pcm
from media.audio.studio import Studio
from media.port import Event, MediaError, Sound, Trouble
from tests.media.sound import blocks, talk

__all__ = ["Room", "Source", "in_call", "open_room"]

PERIOD = 480
"""Half a block: that a period of real devices is one is nothing to rely on."""
OFF = Sound(echo=False, noise=False, gain=False)


class Device(Stream):
    def __init__(self, system: "System", kind: str, id: str, lost: Lost) -> None:
        self.system, self.kind, self.id, self.lost = system, kind, id, lost
        self.latency = 0.02

    def close(self) -> None:
        self.system.closed.append((self.kind, self.id))
        self.system.now.pop(self.kind, None)


class System:
    """Sound devices: at most one microphone and one speaker are open."""

    def __init__(self) -> None:
        self.now: dict[str, Device] = {}
        self.closed: list[tuple[str, str]] = []
        self.missing: set[str] = set()
        self.attempts = 0
        self.sound: Pcm = talk(10.0)
        self.said = 0
        self.played: list[Pcm] = []
        self._hear: Callable[[Pcm], None] = lambda chunk: None
        self._fill: Callable[[int], Pcm] = lambda count: np.zeros(count, np.int16)

    def open_microphone(
        self, id: str, hear: Callable[[Pcm], None], lost: Lost, /
    ) -> Stream:
        self._hear = hear
        return self._open("microphone", id, lost)

    def open_speaker(
        self, id: str, fill: Callable[[int], Pcm], lost: Lost, /
    ) -> Stream:
        self._fill = fill
        return self._open("speaker", id, lost)

    def _open(self, kind: str, id: str, lost: Lost) -> Stream:
        self.attempts += 1
        if kind in self.missing:
            raise MediaError("no_device", f"There is no {kind}: plug one in.")
        assert kind not in self.now, "the one before was not closed"
        self.now[kind] = Device(self, kind, id, lost)
        return self.now[kind]

    def pass_time(self, seconds: float) -> None:
        """Let the devices work, in a thread of their own."""
        thread = threading.Thread(target=self._work, args=(seconds,))
        thread.start()
        thread.join()

    def _work(self, seconds: float) -> None:
        for _ in range(round(seconds * RATE / PERIOD)):
            if "microphone" in self.now:
                self._hear(self.sound[self.said : self.said + PERIOD])
            self.said = (self.said + PERIOD) % (len(self.sound) - PERIOD)
            if "speaker" in self.now:
                self.played.append(self._fill(PERIOD))


class Source:
    """A leg's buffer that plays something at once."""

    def __init__(self, sound: Pcm) -> None:
        self._sound = sound
        self.pulled = 0
        self.rewind()

    def rewind(self) -> None:
        self._blocks = itertools.cycle(blocks(self._sound))

    def get(self, now: float) -> Pcm:
        self.pulled += 1
        return next(self._blocks)


class Room:
    """A studio, its devices, and what it told."""

    def __init__(self) -> None:
        self.system = System()
        self.events: list[Event] = []
        self._changed = asyncio.Event()
        self.studio = Studio(self.hear, system=self.system, retry=0.01, linger=0.01)
        self.sent: dict[str, list[tuple[bytes | None, int]]] = {}

    def hear(self, event: Event) -> None:
        self.events.append(event)
        self._changed.set()

    @property
    def troubles(self) -> list[Trouble]:
        return [event for event in self.events if isinstance(event, Trouble)]

    def add(self, leg: str, sound: Pcm | None = None) -> Source:
        """A leg that plays a sound and notes what is sent to it."""
        source = Source(np.zeros(BLOCK, np.int16) if sound is None else sound)
        sent = self.sent.setdefault(leg, [])

        def send(payload: bytes | None, timestamp: int) -> None:
            sent.append((payload, timestamp))
            self._changed.set()

        self.studio.add(leg, source, send)  # type: ignore[arg-type]
        return source

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait; looked at often, as devices are opened in threads."""
        async with asyncio.timeout(10):
            while not true():
                self._changed.clear()
                try:
                    async with asyncio.timeout(0.005):
                        await self._changed.wait()
                except TimeoutError:
                    pass

    async def ready(self, *kinds: str) -> None:
        """Wait until these devices and no others are used."""
        lines = {"microphone": self.studio._microphone, "speaker": self.studio._speaker}
        await self.until(
            lambda: (
                self.system.now.keys() == set(kinds)
                and all(lines[kind]._token for kind in kinds)
            )
        )

    async def pass_time(self, seconds: float) -> None:
        """Let devices work, and what they sent arrive."""
        self.system.pass_time(seconds)
        await asyncio.sleep(0)

    def decoded(self, leg: str) -> Pcm:
        """What somebody on that leg heard."""
        decoder = Decoder()
        heard: Pcm = np.concatenate(
            [decoder.decode(p) if p else decoder.conceal() for p, _ in self.sent[leg]]
        )
        return heard


@asynccontextmanager
async def open_room() -> AsyncIterator[Room]:
    """A room without processing, which has to leave no device open."""
    room = Room()
    await room.studio.set_sound(OFF)
    yield room
    await room.studio.close()
    assert not room.system.now, "devices stayed open"


async def in_call(room: Room, sound: Pcm | None = None) -> Source:
    source = room.add("bob", sound)
    await room.ready("microphone", "speaker")
    room.sent["bob"].clear()
    return source
