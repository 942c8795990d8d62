"""A call between a media process and a browser, offered by either.

Headless Chromium with its fake devices (a microphone that beeps, a camera that shows a
turning disc on green) at the page of `tests/media/browser`.
"""

import asyncio
import wave
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from media.port import Event, Frame, Ice, LegState, Levels, PeerSays, Sound, View
from tests.media.browser.chromium import CHROMIUM, PATIENCE, Met, Page, chromium
from tests.media.conftest import Ear

if TYPE_CHECKING:
    import numpy.typing

    Samples = numpy.typing.NDArray[numpy.generic]

np = pytest.importorskip("numpy", reason="the extra `calls` is not installed")
pytest.importorskip("aiortc", reason="the extra `calls` is not installed")

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed")

RATE = 48_000
PITCH = 1_000
"""Hz of what we say."""
LEFT, RIGHT = (0xD0, 0x20, 0x20), (0x20, 0x40, 0xC0)
CAMERA = (
    "lavfi:color=0xd02020:size=320x240:rate=15,"
    "drawbox=x=160:y=0:w=160:h=240:color=0x2040c0:t=fill"
)
CAMERA_ON = list(b"\x95\xa5state\xc2\xc2\xc3\xc2")
"""What the page hears of us."""
BEEPS = 4


def write_tone(path: Path) -> None:
    """A second of one pitch."""
    time = np.arange(RATE) / RATE
    with wave.open(str(path), "wb") as writer:
        writer.setparams((1, 2, RATE, 0, "NONE", ""))
        sound = 9000 * np.sin(2 * np.pi * PITCH * time)
        writer.writeframes(sound.astype(np.int16).tobytes())


def beeps(path: Path) -> list[int]:
    """Where sound begins after silence, in blocks of 20 ms."""
    with wave.open(str(path), "rb") as reader:
        sound = np.frombuffer(reader.readframes(reader.getnframes()), np.int16)
    blocks = sound[: len(sound) // 960 * 960].reshape(-1, 960).astype(float)
    loud = np.sqrt((blocks**2).mean(axis=1)) > 500
    return [at for at in range(1, len(loud)) if loud[at] and not loud[at - 1]]


def changed(one: Frame, other: Frame) -> float:
    """The share of pixels that are quite another colour."""
    a, b = (np.frombuffer(f.data, np.uint8).reshape(-1, 3) for f in (one, other))
    return float((np.abs(a.astype(int) - b).max(axis=1) > 60).mean())


class Person:
    """Who calls the browser: speaks, shows, hears and sees."""

    def __init__(self, ear: Ear, folder: Path) -> None:
        self.ear = ear
        self.media = ear.media
        self.speaker = folder / "heard.wav"
        self.microphone = folder / "said.wav"
        self.seen: list[Frame] = []
        self.beeps = 0
        self._loud = False
        ear.more.append(self._hear)

    async def prepare(self) -> None:
        write_tone(self.microphone)
        microphone, speaker = f"file-loop:{self.microphone}", f"file:{self.speaker}"
        plain = Sound(microphone, speaker, echo=False, noise=False, gain=False)
        await self.media.set_sound(plain)
        await self.media.set_view(View(160, 120, 15))
        await self.media.set_camera(CAMERA)

    def _hear(self, event: Event) -> None:
        match event:
            case Frame("leg") if len(self.seen) < 100:
                self.seen.append(event)
            case Levels():
                loud = event.speaker > 0.005
                self.beeps += loud and not self._loud
                self._loud = loud

    async def connected(self) -> None:
        """The call stands."""
        await self.ear.first(LegState, lambda e: e.state == "connected", PATIENCE)

    async def meet(self, page: Page) -> Met:
        """Until both have what they came for: what the page had then."""
        met: Met | None = None
        try:
            async with asyncio.timeout(PATIENCE):
                async for met in page.meets():
                    if is_good(met):
                        break
        except TimeoutError:
            pytest.fail(f"this is all that the page has: {met}")
        assert met is not None
        try:
            await self.ear.until(
                lambda: self.beeps >= BEEPS and len(self.seen) >= 20, PATIENCE
            )
        except TimeoutError:
            pytest.fail(f"{self.beeps} beeps, {len(self.seen)} pictures have come")
        return met

    async def check(self) -> None:
        """What we saw and heard; ends the process, so that the file is whole."""
        assert not [e for e in self.ear.of(LegState) if e.state in BAD]
        await self.media.stop()
        first = self.seen[0]
        assert (first.width, first.height) == (160, 120)
        assert max(changed(first, frame) for frame in self.seen) > 0.01
        red, green, blue = np.frombuffer(first.data, np.uint8).reshape(-1, 3).mean(0)
        assert green > red + 30
        assert green > blue + 30
        # Two may run together where one had to be made up.
        assert len(beeps(self.speaker)) >= BEEPS - 1


BAD = ("silent", "refused", "failed")


def is_good(met: Met) -> bool:
    """Whether the page's user hears us well and sees us in our colours."""
    off = [
        abs(got - sent)
        for seen, colour in zip(met.colours, (LEFT, RIGHT), strict=True)
        for got, sent in zip(seen, colour, strict=True)
    ]
    return (
        met.packets > 50
        and met.energy > 0.001
        and met.concealed < 0.05
        and abs(met.pitch - PITCH) < 60
        and met.pictures > 20
        and max(off) < 30
    )


@pytest.fixture
async def person(ear: Ear, tmp_path: Path) -> Person:
    """Us, ready for a call."""
    person = Person(ear, tmp_path)
    await person.prepare()
    return person


async def test_a_browser_calls_and_we_hang_up(person: Person, tmp_path: Path) -> None:
    async with chromium("offer", tmp_path) as page:
        offer = await page.said("/offer")
        page.reply("/offer", await person.media.answer("leg", Ice(), offer))
        await person.media.open("leg")
        await person.connected()
        # What the page says that is no message of ours has done no harm.
        await person.ear.first(PeerSays, lambda e: e.muted and e.camera, PATIENCE)
        assert CAMERA_ON in (await person.meet(page)).heard
        page.reply("/met", "we")
        await person.media.close("leg")
        await page.said("/ended")
    await person.check()


async def test_we_call_a_browser_that_has_no_channel_until_it_hangs_up(
    person: Person, tmp_path: Path
) -> None:
    async with chromium("answer", tmp_path) as page:
        await page.said("/wanted")
        page.reply("/wanted", await person.media.offer("leg", Ice()))
        await person.media.accept("leg", await page.said("/answer"))
        page.reply("/answer", None)
        await person.media.open("leg")
        await person.connected()
        assert (await person.meet(page)).heard == []
        page.reply("/met", "you")
        await person.ear.first(PeerSays, lambda e: e.bye, PATIENCE)
        await person.media.close("leg")
    await person.check()
