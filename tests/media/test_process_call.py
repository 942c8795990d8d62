"""Two media processes call each other: what goes in at one comes out at the other.

Signalling is a function call (`Pair`); microphones and speakers are files, cameras are
test pictures of FFmpeg. Everything else is what a call is made of.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import time
import wave
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from media.port import (
    Exited,
    Ice,
    LegState,
    Levels,
    MediaError,
    PeerSays,
    Quality,
    Sound,
    Trouble,
    View,
)
from tests.media.conftest import Ear, Pair

if TYPE_CHECKING:
    import numpy.typing

    Samples = numpy.typing.NDArray[numpy.generic]

np = pytest.importorskip("numpy", reason="the extra `calls` is not installed")
pytest.importorskip("aiortc", reason="the extra `calls` is not installed")

pytestmark = pytest.mark.asyncio(loop_scope="module")

RATE = 48_000
RED = "lavfi:color=0xd02020:size=320x240:rate=15"
BOX = View(160, 96, 15)


def sweep(path: Path, seconds: float = 1.5) -> "Samples":
    """Tones that rise from 300 to 3000 Hz, with a pause: it correlates with nothing
    else, and Opus keeps its shape."""
    time_ = np.arange(int(RATE * seconds)) / RATE
    phase = 2 * np.pi * (300 * time_ + 2700 / (2 * seconds) * time_**2)
    samples: Samples = (9000 * np.sin(phase) * np.minimum(1, 20 * time_)).astype(
        np.int16
    )
    samples = np.concatenate((samples, np.zeros(RATE // 4, np.int16)))
    with wave.open(str(path), "wb") as writer:
        writer.setparams((1, 2, RATE, 0, "NONE", ""))
        writer.writeframes(samples.tobytes())
    return samples


def heard(path: Path) -> "Samples":
    with wave.open(str(path), "rb") as reader:
        samples: Samples = np.frombuffer(
            reader.readframes(reader.getnframes()), np.int16
        )
        return samples


def likeness(sound: "Samples", part: "Samples") -> float:
    """The best normalised correlation of a part with any place in a sound."""
    part = part.astype(float)
    sound = sound.astype(float)
    size = 1 << (len(sound) + len(part)).bit_length()
    product = np.fft.rfft(sound, size) * np.conj(np.fft.rfft(part, size))
    found = np.fft.irfft(product, size)[: len(sound) - len(part)]
    energy = np.concatenate(([0.0], np.cumsum(sound**2)))
    norm = energy[len(part) :] - energy[: -len(part)]
    norm = np.sqrt(np.maximum(norm[: len(found)], 1e6) * np.sum(part**2))
    return float(np.max(np.abs(found / norm)))


def colour(data: bytes) -> tuple[float, ...]:
    return tuple(np.frombuffer(data, np.uint8).reshape(-1, 3).mean(axis=0))


def plain(microphone: str, speaker: str) -> Sound:
    """Nothing is done to the sound, so that it can be compared."""
    return Sound(microphone, speaker, echo=False, noise=False, gain=False)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def processes() -> AsyncIterator[Pair]:
    """Two for all these tests, as two people call each other more than once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TELEX_AUDIO", "null")
        pair = Pair()
        yield pair
        await pair.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def pair(processes: Pair) -> AsyncIterator[Pair]:
    """The two without any call."""
    yield processes
    for ear in (processes.a, processes.b):
        for leg in {event.leg for event in ear.of(LegState)}:
            await ear.media.close(leg)
        await ear.media.set_camera("")
        await ear.media.set_muted(False)
        await ear.media.set_held(False)
        await ear.media.set_view(View())
        await ear.media.set_sound(Sound())
        ear.forget()


@pytest_asyncio.fixture(loop_scope="module")
async def talk(pair: Pair, tmp_path: Path) -> Pair:
    """A call in which both speak all the time, and both are recorded."""
    for name, ear in (("a", pair.a), ("b", pair.b)):
        sweep(tmp_path / f"{name}-says.wav", 1.5 if name == "a" else 1.1)
        await ear.media.set_sound(
            plain(
                f"file-loop:{tmp_path / name}-says.wav",
                f"file:{tmp_path / name}-hears.wav",
            )
        )
    await pair.call()
    return pair


async def levels(ear: Ear, count: int) -> list[Levels]:
    """The next so many."""
    before = len(ear.of(Levels))
    await ear.until(lambda: len(ear.of(Levels)) >= before + count)
    return ear.of(Levels)[before : before + count]


async def until_heard(ear: Ear, loud: bool) -> None:
    """Until the speaker plays something, or for a second nothing."""

    def true() -> bool:
        last = ear.of(Levels)[-5:]
        if loud:
            return bool(last) and last[-1].speaker > 0.02
        return len(last) == 5 and all(level.speaker == 0 for level in last)

    await ear.until(true)


async def test_what_is_said_is_what_is_heard_and_mute_is_silence(
    talk: Pair, tmp_path: Path
) -> None:
    await levels(talk.b, 22)
    await talk.a.media.set_muted(True)
    await talk.b.first(PeerSays, lambda e: e.muted)
    await until_heard(talk.b, loud=False)
    await until_heard(talk.a, loud=True)
    await talk.hang_up()
    await talk.stop()

    at_b, at_a = heard(tmp_path / "b-hears.wav"), heard(tmp_path / "a-hears.wav")
    for what, other, sound in (("a", "b", at_b), ("b", "a", at_a)):
        said = heard(tmp_path / f"{what}-says.wav")
        not_said = heard(tmp_path / f"{other}-says.wav")
        assert likeness(sound, said) > 0.9, f"{what} was not understood"
        assert likeness(sound, not_said) < 0.5
    # Zeros were encoded; Opus' decoder makes some steps of 32,768 of them (-78 dB).
    assert np.abs(at_b[-RATE // 2 :]).max() <= 4


async def test_noise_is_taken_away_in_the_first_call_too(
    pair: Pair, tmp_path: Path
) -> None:
    noise = np.random.default_rng(1).normal(0, 2500, RATE).astype(np.int16)
    with wave.open(str(tmp_path / "noise.wav"), "wb") as writer:
        writer.setparams((1, 2, RATE, 0, "NONE", ""))
        writer.writeframes(noise.tobytes())
    microphone = f"file-loop:{tmp_path}/noise.wav"

    async def loudness() -> float:
        return sum(level.speaker for level in await levels(pair.b, 5)) / 5

    await pair.a.media.stop()
    await pair.a.media.set_sound(plain(microphone, ""))
    await pair.call("noisy")
    await until_heard(pair.b, loud=True)
    before = await loudness()
    await pair.hang_up("noisy")
    await pair.a.media.stop()
    await pair.a.media.set_sound(Sound(microphone, "", echo=False, gain=False))
    await pair.a.media.prepare()
    await pair.call("clean")
    await until_heard(pair.b, loud=True)
    async with asyncio.timeout(15):
        while await loudness() > before * 0.7:
            pass


async def test_hold_is_silence_both_ways_and_ends(talk: Pair) -> None:
    await until_heard(talk.a, loud=True)
    await until_heard(talk.b, loud=True)
    await talk.a.media.set_camera(RED)
    await talk.b.media.set_view(BOX)
    await talk.b.until(lambda: bool(talk.b.frames))
    await talk.a.media.set_held(True)
    said = await talk.b.first(PeerSays, lambda e: e.held)
    assert not said.bye
    await until_heard(talk.a, loud=False)
    await until_heard(talk.b, loud=False)
    await talk.b.first(PeerSays, lambda e: e.held and not e.camera)
    shown = talk.b.frames_of["leg"]
    await talk.a.media.set_held(False)
    await until_heard(talk.a, loud=True)
    await until_heard(talk.b, loud=True)
    await talk.b.until(lambda: talk.b.frames_of["leg"] > shown)


async def test_a_camera_is_seen_in_its_colours_until_it_is_off(pair: Pair) -> None:
    for ear in (pair.a, pair.b):
        await ear.media.set_view(BOX)
    await pair.call()
    await pair.a.media.set_camera(RED)
    await pair.b.first(PeerSays, lambda e: e.camera and not e.screen)
    await pair.b.until(lambda: pair.b.frames_of.get("leg", 0) >= 10)
    await pair.a.until(lambda: pair.a.frames_of.get("", 0) >= 10)
    for frame in (pair.b.frames["leg"], pair.a.frames[""]):
        assert (frame.width, frame.height) == (128, 96)
        for got, sent in zip(colour(frame.data), (0xD0, 0x20, 0x20), strict=True):
            assert abs(got - sent) < 12
    assert "leg" not in pair.a.frames
    quality = await pair.b.first(Quality, lambda e: e.video != "")
    assert quality.video.startswith("VP8 ")

    await pair.b.media.set_view(View(80, 48, 5))
    await pair.b.until(lambda: pair.b.frames["leg"].height == 48)
    before = len(pair.b.of(PeerSays))
    await pair.a.media.set_camera("")
    await pair.b.until(lambda: len(pair.b.of(PeerSays)) > before)
    assert not pair.b.of(PeerSays)[-1].camera
    shown = pair.b.frames_of["leg"]
    await levels(pair.b, 5)
    assert pair.b.frames_of["leg"] <= shown + 1
    await pair.a.media.set_camera(RED)
    await pair.b.until(lambda: pair.b.frames_of["leg"] > shown + 1)


@pytest.mark.skipif(not shutil.which("Xvfb"), reason="Xvfb is not installed")
async def test_a_screen_is_seen(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("XDG_SESSION_TYPE", raising=False)
    reading, writing = os.pipe()
    server = await asyncio.create_subprocess_exec(
        *("Xvfb", "-displayfd", str(writing), "-wr", "-screen", "0", "400x200x24"),
        pass_fds=[writing],
        stderr=subprocess.DEVNULL,
    )
    try:
        os.close(writing)
        with os.fdopen(reading) as line:
            display = f":{(await asyncio.to_thread(line.readline)).strip()}"
        monkeypatch.setenv("DISPLAY", display)
        await pair.a.media.stop()
        screens = [
            d for d in (await pair.a.media.devices()).found if d.kind == "screen"
        ]
        assert [screen.id for screen in screens] == [display]
        await pair.b.media.set_view(BOX)
        await pair.call()
        await pair.a.media.set_camera(display)
        await pair.b.first(PeerSays, lambda e: e.screen and not e.camera)
        await pair.b.until(lambda: pair.b.frames_of.get("leg", 0) >= 3)
        frame = pair.b.frames["leg"]
        assert (frame.width, frame.height) == (160, 80)
        assert min(colour(frame.data)) > 225
        await pair.a.media.set_camera("")
    finally:
        server.terminate()
        await server.wait()


async def test_a_process_that_is_killed_in_a_call_and_a_new_call(talk: Pair) -> None:
    pid = talk.b.media.pid
    assert pid is not None
    await until_heard(talk.b, loud=True)
    os.kill(pid, signal.SIGKILL)
    await talk.b.first(Exited)
    with pytest.raises(MediaError, match="call again"):
        await talk.b.media.open("leg")
    silent = await talk.a.first(LegState, lambda e: e.state == "silent")
    assert silent.leg == "leg"
    await talk.a.media.close("leg")
    await talk.call("again")
    talk.b.events.clear()
    # With the settings of before: it hears the same sound by the same devices.
    await until_heard(talk.b, loud=True)
    assert talk.b.media.pid != pid


async def test_an_engine_that_is_busy_costs_pictures_and_nothing_else(
    talk: Pair, tmp_path: Path
) -> None:
    await talk.b.media.set_view(View(640, 480, 30))
    await talk.a.media.set_camera(RED)
    await talk.b.until(lambda: talk.b.frames_of.get("leg", 0) >= 10)
    await levels(talk.b, 5)
    pid = talk.b.media.pid
    assert pid is not None
    memory = resident(pid)
    counted, shown = len(talk.b.of(Levels)), talk.b.frames_of["leg"]
    asked = asyncio.create_task(talk.b.media.set_muted(False))

    time.sleep(2.0)  # noqa: ASYNC251  # nothing is read by either engine

    await talk.b.until(lambda: len(talk.b.of(Levels)) >= counted + 9)
    assert talk.b.frames_of["leg"] - shown <= 8, "pictures have waited"
    await asked
    assert resident(pid) - memory < 15_000
    await talk.b.until(lambda: talk.b.frames_of["leg"] > shown + 10)
    qualities = talk.b.of(Quality)[-4:]
    await talk.stop()
    assert max(quality.concealed for quality in qualities) < 0.1
    said = heard(tmp_path / "a-says.wav")
    assert likeness(heard(tmp_path / "b-hears.wav")[-RATE * 4 :], said) > 0.8


def resident(pid: int) -> int:
    """KB of memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    raise ValueError(pid)


async def test_calls_in_a_row_leave_nothing_behind(pair: Pair) -> None:
    def held(ear: Ear) -> tuple[int, int]:
        assert ear.media.pid is not None
        about = f"/proc/{ear.media.pid}"
        return len(os.listdir(f"{about}/fd")), len(os.listdir(f"{about}/task"))

    async def one(number: int) -> None:
        await pair.a.media.set_camera(RED)
        await pair.call(f"leg {number}")
        seen = pair.b.frames_of.get(f"leg {number}", 0)
        await pair.b.until(lambda: pair.b.frames_of.get(f"leg {number}", 0) > seen)
        await pair.hang_up(f"leg {number}")
        await pair.a.media.set_camera("")

    await pair.b.media.set_view(BOX)
    for number in range(3):
        await one(number)
    after_three = held(pair.a), held(pair.b)
    for number in range(3, 9):
        await one(number)
    for before, after in zip(after_three, (held(pair.a), held(pair.b)), strict=True):
        # A device of the last call may be closing, a pool may get one more thread.
        assert after[0] <= before[0] + 4
        assert after[1] <= before[1] + 4


async def test_one_leg_that_fails_leaves_the_other(pair: Pair) -> None:
    await pair.call("good")
    for bad, code in (("v=0", "bad_offer"), ("", "bad_offer"), ("x" * 300_000, "")):
        with pytest.raises(MediaError) as caught:
            await pair.b.media.answer("bad", Ice(), bad)
        assert not code or caught.value.code == code
        assert str(caught.value).endswith(".")
    await pair.a.media.offer("bad", Ice())
    with pytest.raises(MediaError) as caught:
        await pair.a.media.accept("bad", "v=0\r\n")
    assert caught.value.code == "bad_answer"
    await pair.a.media.close("bad")
    await pair.a.media.close("bad")
    count = len(pair.a.of(Quality))
    await pair.a.until(lambda: len(pair.a.of(Quality)) > count)
    assert pair.a.of(Quality)[-1].leg == "good"
    assert pair.a.of(LegState)[-1].leg != "good" or (
        pair.a.of(LegState)[-1].state == "connected"
    )


async def test_devices_that_are_not_there_leave_the_other_half(talk: Pair) -> None:
    with pytest.raises(MediaError, match="plugged in") as caught:
        await talk.a.media.set_camera("/dev/video99")
    assert caught.value.code == "no_device"
    await talk.a.media.set_sound(plain("file:/nowhere/at.wav", ""))
    trouble = await talk.a.first(Trouble)
    assert (trouble.kind, trouble.code) == ("microphone", "no_device")
    await until_heard(talk.b, loud=False)
    await until_heard(talk.a, loud=True)


async def test_who_hangs_up_says_so(pair: Pair) -> None:
    await pair.call()
    await pair.b.first(PeerSays)
    await pair.a.media.close("leg")
    await pair.b.first(PeerSays, lambda e: e.bye)
    await pair.a.first(LegState, lambda e: e.state == "closed")


async def test_an_engine_that_dies_hangs_up(pair: Pair) -> None:
    await pair.call()
    await pair.b.first(PeerSays)
    # As the system does when the engine is killed: its end of the socket closes.
    child = pair.a.media._child
    assert child is not None
    child._pipe.abort()
    await pair.b.first(PeerSays, lambda e: e.bye)
