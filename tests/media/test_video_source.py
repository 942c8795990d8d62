"""What can be a source of pictures, what cannot, and what is said of it; frames for
the screen."""

import os
import random
import struct
import threading
import wave
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media import ipc
from media.port import Device, Frame, MediaError, View
from media.video import devices, source
from media.video.camera import fitted
from media.video.screen import Screen
from media.video.source import find_source, pictures
from tests.helpers.fuzz import fuzzing
from tests.media.films import av, film, picture

if TYPE_CHECKING:
    from av import VideoFrame


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
