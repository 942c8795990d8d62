"""Pictures and videos to show, for tests."""

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

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
