"""The camera: one source of pictures at a time, for as many legs as there are.

A thread reads the source. Each leg has a `Feed` of it, asks for a size and a rate,
and gets the newest picture that it has not had: nothing is queued. A source that goes
away is tried again; the call's sound does not notice.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, Protocol

from media.port import Event, MediaError, Trouble
from media.video.source import Source, find_source, pictures

if TYPE_CHECKING:
    import av
    from av.video.reformatter import VideoReformatter

__all__ = ["Camera", "Feed", "PictureSource", "fitted"]

log = logging.getLogger(__name__)

OPENING = 8.0
"""Seconds for the first picture; USB cameras take up to three."""

RETRY = 2.0
"""Seconds until a source that went away is opened again."""

STALLED = 5.0
"""Seconds without a picture after which a source is said to be stuck; a driver can
keep its thread waiting for ever."""

REPEAT = 0.5
"""Seconds after which a picture is given out again when no new one came (a still
picture, a slide show): who comes later, or lost a packet, sees it too."""

LEAVING = 1.0
"""Seconds for a source's thread to end; one that hangs in its driver is left alone."""

CLOCK = Fraction(1, 90_000)
"""The time base of pictures, as of RTP's video (RFC 6184, section 8.2.1)."""


class PictureSource(Protocol):
    """What a leg sends: pictures while a camera is on."""

    def want(self, width: int, height: int, fps: float) -> None:
        """Pictures that fit into this box from now on, at most so many a second."""

    async def next(self) -> "av.VideoFrame":
        """The newest picture not had yet: yuv420p, `pts` in 1/90000 s of its capture.

        Waits, for ever if need be, while no camera is on. Its size can change.
        """


def fitted(width: int, height: int, wide: int, high: int) -> tuple[int, int]:
    """The largest even size of the same shape in a box; never larger than it is."""
    scale = min(wide / width, high / height, 1.0)
    return (
        max(2, round(width * scale / 2) * 2),
        max(2, round(height * scale / 2) * 2),
    )


class Feed:
    """One leg's share of the camera; a `PictureSource`."""

    def __init__(self, leave: Callable[["Feed"], None]) -> None:
        self.box = (320, 240)
        self.fps = 15.0
        self._leave = leave
        self._newest: av.VideoFrame | None = None
        self._come = asyncio.Event()
        self._due = 0.0

    def want(self, width: int, height: int, fps: float) -> None:
        """Pictures that fit into this box from now on, at most so many a second."""
        self.box = (max(2, width), max(2, height))
        self.fps = max(1.0, fps)

    async def next(self) -> "av.VideoFrame":
        """The newest picture not had yet, or again the last if nothing moves."""
        while True:
            try:
                async with asyncio.timeout(REPEAT if self._newest else None):
                    await self._come.wait()
            except TimeoutError:
                pass
            self._come.clear()
            if self._newest is not None:
                return self._newest

    def close(self) -> None:
        """Be done with it."""
        self._leave(self)

    def is_due(self, now: float) -> bool:
        """Whether a picture of now is wanted; asked once for each, by the thread."""
        if now < self._due - 0.2 / self.fps:  # cameras' clocks tremble
            return False
        step = 1 / self.fps
        self._due = self._due + step if now - self._due < step else now + step
        return True

    def put(self, frame: "av.VideoFrame | None") -> None:
        """Take in a picture, or that there is none any more."""
        self._newest = frame
        if frame is None:
            self._come.clear()
        else:
            self._come.set()


class Camera:
    """The source of now, and who wants its pictures."""

    def __init__(
        self,
        hear: Callable[[Event], None],
        show: Callable[["av.VideoFrame"], None] | None = None,
        changed: Callable[[], None] | None = None,
    ) -> None:
        """`show` gets every picture, in the source's thread; `changed`: see `on`."""
        self._hear = hear
        self._show = show
        self._changed = changed or (lambda: None)
        self._feeds: list[Feed] = []
        self._device = ""
        self._hushed = 0
        """Counts `hush`."""
        self._paused = False
        self._capture: _Capture | None = None
        self._watching: asyncio.Task[None] | None = None
        self._on: Literal["", "camera", "screen"] = ""

    @property
    def on(self) -> str:
        """What gives pictures now: `camera` or `screen`; empty: nothing."""
        return self._on

    @property
    def device(self) -> str:
        """What was asked for; empty: nothing."""
        return self._device

    def feed(self) -> Feed:
        """For one more leg; `close` it in the end."""
        feed = Feed(self._feeds.remove)
        self._feeds.append(feed)
        return feed

    async def set_device(self, device: str) -> None:
        """Give pictures of this from now on; empty: of nothing.

        Raises MediaError if it gives none; then nothing is on.
        """
        if device and device == self._device and self._capture is not None:
            return
        hushed = self._hushed
        self._device = ""  # first: `pause` is not to bring it back meanwhile
        await self._end()
        if not device or hushed != self._hushed:
            return
        source = find_source(device)
        self._device = device
        if self._paused:
            return
        try:
            await self._begin(source)
        except MediaError:
            if self._device == device:
                self._device = ""
                await self._end()
            raise

    def hush(self) -> None:
        """Give nothing any more, at once, not even of a device that is being opened.

        The device itself is let go by the `set_device` that follows.
        """
        self._hushed += 1
        self._device = ""
        if self._capture is not None:
            self._capture.stop()
        self._set("")

    async def pause(self, on: bool) -> None:
        """Let go of the device and give nothing, until this is taken back."""
        if on == self._paused:
            return
        self._paused = on
        if on:
            await self._end()
        elif self._device:
            self._run(find_source(self._device), patient=True)

    async def close(self) -> None:
        """Let go of everything."""
        await self.set_device("")

    def _run(self, source: Source, patient: bool = False) -> "_Capture":
        capture = _Capture(self, source, asyncio.get_running_loop(), patient)
        self._capture = capture
        capture.start()
        self._watching = asyncio.create_task(self._watch(capture))
        return capture

    async def _watch(self, capture: "_Capture") -> None:
        """Notice that pictures stay out, though nobody said why."""
        while capture is self._capture:
            await asyncio.sleep(STALLED / 5)
            if self._on and time.monotonic() - capture.seen > STALLED:
                source = capture.source
                text = (
                    f"The {source.kind} {source.name} is stuck: unplug it and plug it"
                    " in again, or turn it off and on."
                )
                capture.stuck = True
                self.troubled(capture, MediaError("no_device", text))

    async def _begin(self, source: Source) -> None:
        capture = self._run(source)
        try:
            async with asyncio.timeout(OPENING):
                await capture.opened
        except TimeoutError:
            raise MediaError(
                "no_device",
                f"The {source.kind} {source.name} gives no pictures:"
                " unplug it and plug it in again.",
            ) from None

    async def _end(self) -> None:
        capture, self._capture = self._capture, None
        if self._watching is not None:
            self._watching.cancel()
        if capture is not None:
            capture.stop()
            await asyncio.to_thread(capture.join, LEAVING)
        self._set("")

    def _set(self, on: Literal["", "camera", "screen"]) -> None:
        if on == self._on:
            return
        self._on = on
        if not on:
            for feed in self._feeds:
                feed.put(None)
        self._changed()

    def wanted(self, now: float) -> list[Feed]:
        """Who wants a picture of now; the source's thread asks."""
        return [feed for feed in list(self._feeds) if feed.is_due(now)]

    def show(self, frame: "av.VideoFrame") -> None:
        """Every picture passes here, in the source's thread."""
        if self._show is not None:
            self._show(frame)

    def arrived(
        self, capture: "_Capture", frames: "list[tuple[Feed, av.VideoFrame]]"
    ) -> None:
        """Pictures for feeds; those of a source that is off by now are late."""
        if capture is not self._capture or capture.stopped:
            return
        self._set(capture.source.kind)
        for feed, frame in frames:
            feed.put(frame)

    def troubled(self, capture: "_Capture", error: MediaError | None) -> None:
        """A source went away, or (None) is there again."""
        if capture is not self._capture or capture.stopped:
            return
        code, text = (error.code, str(error)) if error else ("", "")
        self._hear(Trouble(capture.source.kind, code, text))
        if error:
            self._set("")


class _Capture(threading.Thread):
    """Reads one source until told to stop."""

    def __init__(
        self,
        camera: Camera,
        source: Source,
        loop: asyncio.AbstractEventLoop,
        patient: bool,
    ) -> None:
        """`patient`: it is tried again also if it gives no picture at first."""
        super().__init__(name=f"pictures of {source.kind}", daemon=True)
        self.source = source
        self.opened: asyncio.Future[None] = loop.create_future()
        self._camera = camera
        self._loop = loop
        self._ended = threading.Event()
        self._scalers: dict[tuple[int, int], VideoReformatter] = {}
        self._begun = patient
        self._lost: MediaError | None = None
        self._last = 0.0
        self.seen = time.monotonic()
        """When the last picture came."""
        self.stuck = False

    def stop(self) -> None:
        """Give nothing any more; the thread ends soon."""
        self._ended.set()
        if not self.opened.done():
            self.opened.set_result(None)

    @property
    def stopped(self) -> bool:
        """Whether nothing is wanted of it any more."""
        return self._ended.is_set()

    def run(self) -> None:
        while not self._ended.is_set():
            try:
                for frame in pictures(self.source, self._ended):
                    self._take(frame)
            except MediaError as error:
                self._fail(error)
            except Exception:
                log.exception("a source of pictures failed")
                self._fail(
                    MediaError(
                        "internal",
                        f"The {self.source.kind} stopped by an error of Telex:"
                        " turn it on again.",
                    )
                )
            self._ended.wait(RETRY)

    def _take(self, frame: "av.VideoFrame") -> None:
        self.seen = now = time.monotonic()
        if not self._begun or not self._last:
            self._begun = True
            self._call(self._found)
        if self._lost or self.stuck:
            self._lost, self.stuck = None, False
            self._call(self._camera.troubled, self, None)
        self._camera.show(frame)
        feeds = self._camera.wanted(now)
        made: dict[tuple[int, int], av.VideoFrame] = {}
        frames = []
        for feed in feeds:
            size = fitted(frame.width, frame.height, *feed.box)
            if size not in made:
                made[size] = self._scaled(frame, size, now)
            frames.append((feed, made[size]))
        if frames or now - self._last > REPEAT:
            self._last = now
            self._call(self._camera.arrived, self, frames)

    def _scaled(
        self, frame: "av.VideoFrame", size: tuple[int, int], now: float
    ) -> "av.VideoFrame":
        from av.video.reformatter import VideoReformatter

        # A scaler keeps its tables from picture to picture, as long as it is asked
        # for the same size.
        if size not in self._scalers:
            if len(self._scalers) > 3:
                self._scalers.clear()
            self._scalers[size] = VideoReformatter()
        scaled = self._scalers[size].reformat(
            frame, *size, "yuv420p", interpolation="AREA", threads=1
        )
        scaled.pts = int(now / CLOCK)
        scaled.time_base = CLOCK
        return scaled

    def _fail(self, error: MediaError) -> None:
        if not self._begun:
            self._call(self._refuse, error)
            self._ended.set()
        elif self._lost is None:
            self._lost = error
            self._call(self._camera.troubled, self, error)

    def _found(self) -> None:
        self._camera.arrived(self, [])
        if not self.opened.done():
            self.opened.set_result(None)

    def _refuse(self, error: MediaError) -> None:
        if not self.opened.done():
            self.opened.set_exception(error)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:  # the loop is closed: the process ends
            self._ended.set()
