"""Cameras, screens and files as sources; what legs and the screen get of them."""

import asyncio
import itertools
import os
import random
import shutil
import struct
import subprocess
import threading
import wave
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media import ipc
from media.port import Device, Event, Frame, MediaError, Trouble, View
from media.video import camera as camera_module
from media.video import devices, source
from media.video.camera import Camera, fitted
from media.video.screen import Screen
from media.video.source import find_source, pictures
from tests.helpers.fuzz import fuzzing

if TYPE_CHECKING:
    from av import VideoFrame

av = pytest.importorskip("av", reason="the extra `calls` is not installed")

RED = "lavfi:color=red:size=320x240:rate=20"
BLUE = "lavfi:color=blue:size=640x360:rate=20"


def picture(width: int, height: int, colour: tuple[int, int, int]) -> "VideoFrame":
    frame: VideoFrame = av.VideoFrame(width, height, "rgb24")
    frame.planes[0].update(bytes(colour) * (frame.planes[0].buffer_size // 3))
    return frame


def film(path: Path, frames: int = 6, rate: int = 20, size: int = 64) -> Path:
    """A video whose pictures get brighter."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        for number in range(frames):
            shade = 40 + number * 20
            frame = av.VideoFrame(size, size, "yuv420p")
            for plane, value in zip(frame.planes, (shade, 128, 128), strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def shade(frame: "VideoFrame") -> int:
    return bytes(frame.planes[0])[0]


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


# Files


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


def opened(device: str) -> Iterator["VideoFrame"]:
    return pictures(find_source(device), threading.Event())


def test_odd_files_are_refused_with_a_sentence(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("nothing to see here\n" * 100)
    sound = tmp_path / "sound.wav"
    with wave.open(str(sound), "wb") as writer:
        writer.setparams((1, 2, 48_000, 0, "NONE", ""))
        writer.writeframes(bytes(48_000))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    empty = tmp_path / "empty.mp4"
    empty.touch()
    whole = film(tmp_path / "whole.mp4").read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole[: len(whole) // 3])
    for path, words in {
        text: "cannot be read as a video",
        sound: "has no picture in it",
        pipe: "is not a file",
        tmp_path: "is not a file",
        tmp_path / "nowhere.mp4": "There is no file",
        empty: "cannot be read as a video",
        cut: "cannot be read as a video",
    }.items():
        with pytest.raises(MediaError, match=words) as caught:
            next(opened(f"file:{path}"))
        assert caught.value.code == "no_device"
        assert str(path) in str(caught.value)


def test_lists_that_name_other_files_or_servers_are_not_followed(
    tmp_path: Path,
) -> None:
    target = film(tmp_path / "a.mp4")
    for name, text in {
        "a.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n",
        "b.ffconcat": f"ffconcat version 1.0\nfile {target.name}\n",
        "c.m3u8": "#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n",
    }.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(MediaError, match="cannot be read"):
            next(opened(f"file:{tmp_path / name}"))


def test_a_picture_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        tail = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + tail

    bomb = tmp_path / "bomb.png"
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    bomb.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10_000_000)))
        + chunk(b"IEND", b"")
    )
    with pytest.raises(MediaError, match=r"too large|cannot be read"):
        next(opened(f"file:{bomb}"))


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("films")
    return [film(folder / name, frames=3) for name in ("a.mp4", "b.avi", "c.mkv")]


@pytest.mark.fuzz
@fuzzing
@given(seed=st.integers(0, 2**32))
def test_broken_files_give_pictures_or_a_sentence(films: list[Path], seed: int) -> None:
    choose = random.Random(seed)
    path = choose.choice(films)
    data = bytearray(path.read_bytes())
    for _ in range(choose.randint(1, 20)):
        data[choose.randrange(len(data))] = choose.randrange(256)
    broken = path.with_name(f"broken{path.suffix}")
    broken.write_bytes(data)
    found = find_source(f"file:{broken}")
    try:
        with source._open(found) as container:
            for frame in source._decoded(found, container):
                assert frame.width * frame.height <= source.PIXELS
    except MediaError as error:
        assert str(error).endswith(".")


@pytest.mark.parametrize(
    "device", ["webcam", "http://x.example/a.mp4", "file:", "lavfi:", ":", ":x", "\0"]
)
def test_what_names_no_source(device: str) -> None:
    with pytest.raises(MediaError, match="There is no camera") as caught:
        find_source(device)
    assert caught.value.code == "no_device"


def test_a_camera_that_we_may_not_open_or_that_is_in_use() -> None:
    found = find_source("/dev/video0")
    refused = source._explained(found, PermissionError(13, "no"))
    assert refused.code == "no_permission"
    assert "group video" in str(refused)
    busy = source._explained(found, OSError(16, "busy"))
    assert "Another program uses the camera /dev/video0" in str(busy)


def test_a_camera_that_does_not_know_our_size_gives_what_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, asked = av.open, []

    def picky(url: str, format: str, options: dict[str, str] | None = None) -> object:
        asked.append(options)
        if options:
            raise OSError(22, "Invalid argument")
        return real("testsrc2=size=1280x720:rate=30", format="lavfi")

    monkeypatch.setattr(av, "open", picky)
    frame = next(opened("/dev/video0"))
    assert (frame.width, frame.height) == (1280, 720)
    assert asked == [{"video_size": "640x480", "framerate": "30"}, None]


# Screens and devices


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


def test_a_screen_that_is_not_there(no_wayland: None) -> None:
    with pytest.raises(MediaError, match="The screen :98765 cannot be seen"):
        next(opened(":98765"))


def test_wayland_says_what_is_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_SESSION_TYPE", "wayland")
    with pytest.raises(MediaError, match="X11 session") as caught:
        find_source(":0")
    assert str(caught.value) in devices.list_pictures().missing


def test_what_screens_there_are(
    monkeypatch: pytest.MonkeyPatch, no_wayland: None
) -> None:
    monkeypatch.setenv("DISPLAY", ":7")
    screen = Device("screen", ":7", "Screen :7", default=True)
    assert screen in devices.list_pictures().found
    monkeypatch.delenv("DISPLAY")
    assert devices.NO_SCREEN in devices.list_pictures().missing


def test_cameras_by_their_names(tmp_path: Path) -> None:
    for node, name, index in (
        ("video10", "USB Camera\x1b[2J", "0"),
        ("video2", "Integrated Camera: FHD", "0"),
        ("video3", "Integrated Camera: FHD", "1"),
        ("v4l-subdev0", "a sensor", "0"),
    ):
        (tmp_path / node).mkdir()
        (tmp_path / node / "name").write_text(f"{name}\n")
        (tmp_path / node / "index").write_text(f"{index}\n")
    assert devices.list_cameras(tmp_path) == [
        Device("camera", "/dev/video2", "Integrated Camera: FHD", default=True),
        Device("camera", "/dev/video10", "USB Camera[2J"),
    ]
    assert devices.list_cameras(tmp_path / "none") == []


# Pictures for the screen


class Wall:
    """Takes frames."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.room = True
        self.screen = Screen(lambda leg: self.room, self.frames.append)


async def test_frames_have_the_shape_of_the_picture_inside_the_box() -> None:
    for size, box, shown in (
        ((320, 240), (160, 96), (128, 96)),
        ((640, 360), (160, 96), (160, 90)),
        ((90, 160), (161, 97), (55, 97)),
        ((64, 48), (320, 240), (320, 240)),
        ((3000, 2), (80, 96), (80, 1)),
    ):
        wall = Wall()
        wall.screen.set_view(View(*box))
        wall.screen.show("leg", picture(*size, (250, 120, 10)))
        (frame,) = wall.frames
        assert (frame.width, frame.height) == shown
        assert len(frame.data) == frame.width * frame.height * 3
        pixels = set(zip(*[iter(frame.data)] * 3, strict=True))
        assert all(
            abs(a - b) <= 3
            for pixel in pixels
            for a, b in zip(pixel, (250, 120, 10), strict=True)
        )


async def test_no_frames_for_no_view_or_a_screen_that_is_busy() -> None:
    wall = Wall()
    wall.screen.show("leg", picture(32, 32, (1, 2, 3)))
    assert wall.frames == []
    wall.screen.set_view(View(16, 16, 1))
    wall.room = False
    wall.screen.show("a", picture(32, 32, (1, 2, 3)))
    wall.room = True
    wall.screen.show("b", picture(32, 32, (1, 2, 3)))
    wall.screen.show("b", picture(32, 32, (1, 2, 3)))  # too early
    wall.screen.show("", picture(32, 32, (1, 2, 3)))
    assert [frame.leg for frame in wall.frames] == ["b", ""]
    wall.screen.forget("b")
    wall.screen.set_view(View())
    wall.screen.show("c", picture(32, 32, (1, 2, 3)))
    assert len(wall.frames) == 2


async def test_frames_fit_into_a_message_whatever_is_asked_for() -> None:
    wall = Wall()
    wall.screen.set_view(View(100_000, 100_000, 1000))
    wall.screen.show("leg", picture(640, 360, (9, 9, 9)))
    (frame,) = wall.frames
    assert (frame.width, frame.height) == (1280, 720)
    assert len(frame.data) < ipc.MESSAGE
    wall.screen.set_view(View(-5, 10, -1))
    wall.screen.show("other", picture(640, 360, (9, 9, 9)))
    assert len(wall.frames) == 1


def test_sizes_are_even_and_never_larger_than_the_picture() -> None:
    assert fitted(1920, 1080, 640, 480) == (640, 360)
    assert fitted(320, 240, 640, 480) == (320, 240)
    assert fitted(241, 321, 240, 320) == (240, 320)
    assert fitted(10_000, 3, 320, 240) == (320, 2)
