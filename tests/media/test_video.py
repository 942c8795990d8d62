"""The camera that legs share, of a test picture, a file or a screen."""

import asyncio
import itertools
import os
import shutil
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from media import ipc
from media.desk import Desk
from media.port import Event, MediaError, Sound, Trouble
from media.video import camera as camera_module
from media.video import source
from media.video.camera import Camera
from tests.media.films import BLUE, RED, av, film, picture, shade

if TYPE_CHECKING:
    from av import VideoFrame


class Studio:
    """A camera, and what it told."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.shown: list[VideoFrame] = []
        self.changes: list[str] = []
        self.camera = Camera(
            self.events.append, self.shown.append, lambda: self.changed()
        )

    def changed(self) -> None:
        self.changes.append(self.camera.on)


@pytest.fixture
async def studio() -> AsyncIterator[Studio]:
    studio = Studio()
    yield studio
    await studio.camera.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("pictures of")]


async def until(true: Callable[[], bool], seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


# A camera that legs share


async def test_legs_get_the_camera_in_the_sizes_that_they_want(studio: Studio) -> None:
    large, small = studio.camera.feed(), studio.camera.feed()
    large.want(640, 480, 30)
    small.want(160, 120, 30)
    await studio.camera.set_device(BLUE)
    for feed, size in ((large, (640, 360)), (small, (160, 90))):
        before = 0
        for _ in range(4):
            frame = await feed.next()
            assert (frame.width, frame.height) == size
            assert frame.format.name == "yuv420p"
            assert frame.time_base == Fraction(1, 90_000)
            assert frame.pts is not None
            assert frame.pts > before
            before = frame.pts
    large.want(320, 240, 30)
    await until_size(large, (320, 180))


async def until_size(feed: camera_module.Feed, size: tuple[int, int]) -> None:
    async with asyncio.timeout(10):
        while True:
            frame = await feed.next()
            if (frame.width, frame.height) == size:
                return


async def test_a_slower_rate_leaves_pictures_out(studio: Studio) -> None:
    slow = studio.camera.feed()
    slow.want(320, 240, 5)
    await studio.camera.set_device(RED)
    first, last = await slow.next(), None
    for _ in range(4):
        last = await slow.next()
    assert last is not None
    assert first.pts is not None
    assert last.pts is not None
    # Four steps of 200 ms; the camera itself makes one each 50 ms.
    assert (last.pts - first.pts) / 90_000 > 0.6


async def test_who_is_late_gets_the_newest_picture_only(
    studio: Studio, tmp_path: Path
) -> None:
    feed = studio.camera.feed()
    feed.want(64, 64, 60)
    await studio.camera.set_device(f"file:{film(tmp_path / 'a.mp4', frames=9)}")
    await until(lambda: len(studio.shown) >= 4)
    newest = studio.shown[-1].pts
    await until(lambda: studio.shown[-1].pts != newest)
    assert shade(await feed.next()) >= 40 + 2 * 20 - 5


async def test_nothing_comes_before_a_camera_is_on_and_after_it_is_off(
    studio: Studio,
) -> None:
    feed = studio.camera.feed()
    waiting = asyncio.create_task(feed.next())
    await asyncio.sleep(0)
    assert not waiting.done()
    await studio.camera.set_device(RED)
    await asyncio.wait_for(waiting, 10)
    assert studio.camera.on == "camera"
    await studio.camera.set_device("")
    assert studio.camera.on == ""
    assert studio.changes == ["camera", ""]
    shown = len(studio.shown)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(feed.next(), camera_module.REPEAT * 1.5)
    assert len(studio.shown) == shown
    assert studio.events == []


async def test_the_device_is_let_go_while_the_call_is_held(studio: Studio) -> None:
    feed = studio.camera.feed()
    await studio.camera.set_device(RED)
    await feed.next()
    await studio.camera.pause(True)
    assert studio.camera.on == ""
    assert not [t for t in threading.enumerate() if t.name.startswith("pictures of")]
    await studio.camera.set_device(BLUE)
    assert studio.camera.on == ""
    await studio.camera.pause(False)
    await feed.next()
    assert studio.camera.on == "camera"
    assert studio.shown[-1].width == 640


async def test_another_camera_in_the_middle(studio: Studio) -> None:
    feed = studio.camera.feed()
    feed.want(640, 480, 30)
    await studio.camera.set_device(RED)
    assert (await feed.next()).width == 320
    await studio.camera.set_device(BLUE)
    await until_size(feed, (640, 360))
    assert studio.changes == ["camera", "", "camera"]


async def test_a_camera_that_fails_leaves_none_on(studio: Studio) -> None:
    await studio.camera.set_device(RED)
    with pytest.raises(MediaError) as caught:
        await studio.camera.set_device("/dev/video99")
    assert caught.value.code == "no_device"
    assert "plugged in" in str(caught.value)
    assert studio.camera.device == ""
    await studio.camera.set_device(RED)
    assert studio.changes == ["camera", "", "camera"]


async def test_a_source_that_goes_away_is_told_and_tried_again(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(camera_module, "RETRY", 0.05)
    path = film(tmp_path / "a.mp4", frames=3)
    feed = studio.camera.feed()
    await studio.camera.set_device(f"file:{path}")
    await feed.next()
    away = path.rename(tmp_path / "away.mp4")
    await until(lambda: bool(studio.events))
    (trouble,) = studio.events
    assert isinstance(trouble, Trouble)
    assert (trouble.kind, trouble.code) == ("camera", "no_device")
    assert str(path) in trouble.text
    assert studio.camera.on == ""
    away.rename(path)
    await until(lambda: len(studio.events) == 2)
    assert studio.events[1] == Trouble("camera", "", "")
    await feed.next()
    assert studio.camera.on == "camera"


async def test_a_camera_whose_driver_hangs_is_told(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(camera_module, "STALLED", 0.3)
    go_on = threading.Event()
    whole = source.pictures

    def hanging(found: source.Source, stop: threading.Event) -> "Iterator[VideoFrame]":
        for number, frame in enumerate(whole(found, stop)):
            if number == 3:
                go_on.wait(20)
            yield frame

    monkeypatch.setattr(camera_module, "pictures", hanging)
    await studio.camera.set_device(RED)
    await until(lambda: bool(studio.events))
    (trouble,) = studio.events
    assert isinstance(trouble, Trouble)
    assert "is stuck" in trouble.text
    assert studio.camera.on == ""
    go_on.set()
    await until(lambda: len(studio.events) == 2)
    assert studio.events[1] == Trouble("camera", "", "")
    await until(lambda: studio.camera.on == "camera")


async def test_a_call_that_is_held_while_its_camera_opens(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening, go_on = threading.Event(), threading.Event()
    whole = source.pictures

    def slow(found: source.Source, stop: threading.Event) -> "Iterator[VideoFrame]":
        opening.set()
        go_on.wait(20)
        yield from whole(found, stop)

    monkeypatch.setattr(camera_module, "pictures", slow)
    turned_on = asyncio.create_task(studio.camera.set_device(RED))
    await asyncio.to_thread(opening.wait)
    held = asyncio.create_task(studio.camera.pause(True))
    await asyncio.wait_for(turned_on, 10)
    go_on.set()
    await held
    assert studio.camera.on == ""
    await studio.camera.pause(False)
    await until(lambda: studio.camera.on == "camera")


async def test_off_is_off_at_once_also_while_a_camera_opens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opening, go_on = threading.Event(), threading.Event()
    whole = source.pictures

    def slow(found: source.Source, stop: threading.Event) -> "Iterator[VideoFrame]":
        opening.set()
        go_on.wait(20)
        yield from whole(found, stop)

    monkeypatch.setattr(camera_module, "pictures", slow)
    desk = Desk(lambda event: None, lambda frame: None, lambda leg: True)
    await desk.do(ipc.Prepare())
    assert desk._parts is not None
    camera = desk._parts.camera
    states: list[str] = []
    monkeypatch.setattr(camera, "_changed", lambda: states.append(camera.on))
    turned_on = asyncio.create_task(desk.do(ipc.SetCamera(RED)))
    await asyncio.to_thread(opening.wait)
    turned_off = asyncio.create_task(desk.do(ipc.SetCamera("")))
    await asyncio.wait_for(turned_on, 5)  # does not wait for the driver
    go_on.set()
    await turned_off
    assert states == []  # it was never on
    # On, off and on again: what was asked for last counts.
    await asyncio.gather(*(desk.do(ipc.SetCamera(d)) for d in (RED, "", BLUE, "", RED)))
    assert (camera.on, camera.device) == ("camera", RED)
    await desk.close()


async def test_of_many_sound_devices_the_last_one_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who goes through a list of them does not wait for each."""
    desk = Desk(lambda event: None, lambda frame: None, lambda leg: True)
    await desk.do(ipc.Prepare())
    assert desk._parts is not None
    used: list[str] = []

    async def use(sound: Sound) -> None:
        used.append(sound.microphone)
        await asyncio.sleep(0)

    monkeypatch.setattr(desk._parts.studio, "set_sound", use)
    names = [f"null:{number}" for number in range(30)]
    await asyncio.gather(*(desk.do(ipc.SetSound(Sound(name))) for name in names))
    assert used == [names[0], names[-1]]
    await desk.close()


async def test_a_hold_that_ends_while_a_camera_is_turned_off_brings_none_back(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device's thread takes its time to end."""
    camera = studio.camera
    whole = source.pictures

    def lingering(
        found: source.Source, stop: threading.Event
    ) -> "Iterator[VideoFrame]":
        yield from whole(found, stop)
        time.sleep(0.2)

    monkeypatch.setattr(camera_module, "pictures", lingering)
    await camera.set_device(RED)
    off = asyncio.create_task(camera.set_device(""))
    await asyncio.sleep(0)
    await camera.pause(True)
    await camera.pause(False)
    await off
    assert camera._capture is None
    assert camera.on == camera.device == ""


async def test_a_file_begins_again_and_a_still_picture_stays(
    studio: Studio, tmp_path: Path
) -> None:
    await studio.camera.set_device(f"file:{film(tmp_path / 'a.mp4', frames=3)}")
    await until(lambda: len(studio.shown) >= 7)
    shades = [shade(frame) for frame in studio.shown]
    assert any(after < before for before, after in itertools.pairwise(shades))

    still = tmp_path / "still.png"
    with av.open(str(still), "w", format="image2") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "rgb24"
        container.mux(stream.encode(picture(32, 16, (0, 200, 0))))
        container.mux(stream.encode(None))
    await studio.camera.set_device(f"file:{still}")
    feed = studio.camera.feed()
    for _ in range(3):
        frame = await asyncio.wait_for(feed.next(), 10)
        assert (frame.width, frame.height) == (32, 16)


@pytest.fixture
def no_wayland(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("XDG_SESSION_TYPE", raising=False)


class Server:
    """An X server with a white screen."""

    def __init__(self, display: str = "") -> None:
        reading, writing = os.pipe()
        arguments = [display] if display else []
        self._process = subprocess.Popen(
            ["Xvfb", *arguments, "-displayfd", str(writing), "-wr", "-nolisten", "tcp",
             "-screen", "0", "400x200x24"],
            pass_fds=[writing],
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(writing)
        with os.fdopen(reading) as line:
            self.display = f":{line.readline().strip()}"

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)


@pytest.mark.skipif(not shutil.which("Xvfb"), reason="Xvfb is not installed")
async def test_the_screen_is_a_source_and_its_end_is_told(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, no_wayland: None
) -> None:
    monkeypatch.setattr(camera_module, "RETRY", 0.1)
    server = await asyncio.to_thread(Server)
    try:
        feed = studio.camera.feed()
        feed.want(200, 200, 15)
        await studio.camera.set_device(server.display)
        assert studio.camera.on == "screen"
        frame = await feed.next()
        assert (frame.width, frame.height) == (200, 100)
        assert shade(frame) > 220
    finally:
        await asyncio.to_thread(server.stop)
    await until(lambda: bool(studio.events))
    (trouble,) = studio.events
    assert isinstance(trouble, Trouble)
    assert trouble.kind == "screen"
    assert trouble.text.startswith(f"The screen {server.display}")
    assert studio.camera.on == ""
