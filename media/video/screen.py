"""Pictures for the screen: scaled to what it wants, no more than it can draw.

Frames are of the picture's shape, as large as fits into the box that was asked for
(small pictures are made larger). Nothing waits: what comes too early or while the
screen is busy is left out.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from media.port import Frame, View

if TYPE_CHECKING:
    import av
    from av.video.reformatter import VideoReformatter

__all__ = ["Screen"]

WIDTH, HEIGHT, FPS = 1280, 720, 60
"""The most that can be asked for: it has to fit into a message (`ipc.MESSAGE`)."""

OWN = 0.5
"""Pictures of our own camera for each one of a leg: in them we look whether our face is
there, and drawing one costs as much."""


class Screen:
    """What the legs and our own camera show."""

    def __init__(
        self, has_room: Callable[[str], bool], show: Callable[[Frame], None]
    ) -> None:
        """`show` is called on the event loop's thread, `has_room` on any."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._has_room = has_room
        self._send = show
        self._view = View()
        self._pictures: dict[str, _Picture] = {}

    def set_view(self, view: View) -> None:
        """Make frames of this size from now on; of none if it has no width."""
        self._view = View(
            min(max(view.width, 0), WIDTH),
            min(max(view.height, 0), HEIGHT),
            min(max(view.fps, 1), FPS),
        )

    def show(self, leg: str, frame: "av.VideoFrame") -> None:
        """A picture of a leg; on any thread, but on one for each leg."""
        view = self._view
        if not view.width or not view.height:
            return
        picture = self._pictures.get(leg) or self._pictures.setdefault(leg, _Picture())
        fps = view.fps if leg else view.fps * OWN
        if not picture.is_due(time.monotonic(), fps) or not self._has_room(leg):
            return
        scaled = picture.scaled(leg, frame, view)
        if threading.get_ident() == self._thread:
            self._send(scaled)
        else:
            try:
                self._loop.call_soon_threadsafe(self._send, scaled)
            except RuntimeError:  # the loop is closed: the process ends
                return

    def forget(self, leg: str) -> None:
        """A leg ended."""
        self._pictures.pop(leg, None)


class _Picture:
    """One leg's scaler and pace."""

    def __init__(self) -> None:
        self._due = 0.0
        self._scaler: VideoReformatter | None = None

    def is_due(self, now: float, fps: float) -> bool:
        step = 1 / fps
        if now < self._due - 0.2 * step:  # pictures do not come evenly
            return False
        self._due = self._due + step if now - self._due < step else now + step
        return True

    def scaled(self, leg: str, frame: "av.VideoFrame", view: View) -> Frame:
        from av.video.reformatter import VideoReformatter

        if self._scaler is None:
            self._scaler = VideoReformatter()
        scale = min(view.width / frame.width, view.height / frame.height)
        width = max(1, round(frame.width * scale))
        height = max(1, round(frame.height * scale))
        rgb = self._scaler.reformat(
            frame,
            width,
            height,
            "rgb24",
            interpolation="AREA" if scale < 1 else "BILINEAR",
            threads=1,
        )
        plane = rgb.planes[0]
        data = bytes(plane)
        if plane.line_size != width * 3:
            rows = range(0, plane.line_size * height, plane.line_size)
            data = b"".join(data[at : at + width * 3] for at in rows)
        return Frame(leg, width, height, data)
