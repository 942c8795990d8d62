"""Pictures of a camera, a screen or a file, one after the other, as time passes.

A source is named by its `Device.id`:

/dev/video0             a camera by Video4Linux
:0                      an X11 screen (a display's name)
file:PATH               a video or a picture, from its beginning again when it ends
lavfi:testsrc2=...      a graph of FFmpeg's filters; for tests
avfoundation:0          a camera of macOS
dshow:NAME              a camera of Windows

Everything here blocks, and belongs into a thread of its own.
"""

import errno
import os
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from media.port import MediaError

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.codeccontext import VideoCodecContext

__all__ = ["WAYLAND", "Source", "find_source", "is_wayland", "pictures"]

SIZE = "640x480"
"""What cameras are asked for: the most that a call sends. They give what is next."""

RATE = 30
"""Pictures a second that cameras are asked for: what nearly all can."""

SCREEN_RATE = 15
"""Screens show text: more only costs time."""

PIXELS = 4096 * 4096
"""Of one picture of a file; more is no video but an attack on the memory."""

STILL = 1.0
"""Seconds for which a picture without a successor stands, before the file begins
anew; so one of a single picture does not spin."""

FORMATS = (
    "matroska,webm,mov,mp4,avi,mpegts,mpeg,ogg,flv,asf,gif,apng,ivf,mpegvideo,"
    "yuv4mpegpipe,png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,image2,h264,hevc,av1,obu,"
    "wav,mp3,flac,aac"
)
"""Containers that files may be: none of those that name other files or servers. The
last ones only for the sentence that there is no picture in them."""

WAYLAND = (
    "Under Wayland only the desktop itself may look at the screen: log in to an X11"
    " session to show yours, or choose a recording of it with F in the list of devices."
)

DISPLAY = re.compile(r"[A-Za-z0-9.-]{0,64}:[0-9]{1,5}(\.[0-9]{1,2})?")
"""The name of an X11 display."""

PLAIN = (errno.EACCES, errno.EPERM, errno.EBUSY, errno.ENOENT, errno.ENODEV)
"""Errors that say what is wrong: it is not what we asked the camera for."""


@dataclass(frozen=True)
class Source:
    """What to open, and how."""

    kind: Literal["camera", "screen"]
    name: str
    """For sentences."""
    url: str
    format: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    live: bool = True
    """It comes at its own pace; what is not has to be held back."""


def find_source(device: str) -> Source:
    """What this id stands for; MediaError if for nothing."""
    scheme, _, rest = device.partition(":")
    if device.startswith("/dev/"):
        options = {"video_size": SIZE, "framerate": str(RATE)}
        return Source("camera", device, device, "v4l2", options)
    if scheme == "file" and rest:
        path = Path(rest).expanduser().absolute()
        options = {
            "protocol_whitelist": "file",
            "format_whitelist": FORMATS,
            "max_pixels": str(PIXELS),
        }
        return Source("camera", str(path), f"file:{path}", None, options, live=False)
    if scheme == "lavfi" and rest:
        return Source("camera", device, rest, "lavfi", live=False)
    if scheme in ("avfoundation", "dshow") and rest:
        url = rest if scheme == "avfoundation" else f"video={rest}"
        options = {"video_size": SIZE, "framerate": str(RATE)}
        return Source("camera", rest, url, scheme, options)
    if DISPLAY.fullmatch(device):
        return _screen(device)
    raise MediaError(
        "no_device",
        f"There is no camera {device!r}: choose one in the list of devices.",
    )


def pictures(source: Source, stop: threading.Event) -> Iterator["av.VideoFrame"]:
    """Its pictures when they are due, until `stop`; MediaError when there are no more.

    Of a file that we cannot follow some are left out.
    """
    while not stop.is_set():
        with _open(source) as container:
            if source.live:
                yield from _live(source, container, stop)
            else:
                yield from _paced(source, container, stop)


def is_wayland() -> bool:
    """Whether the screen belongs to Wayland: X11 programs see a black one then."""
    return (
        os.environ.get("XDG_SESSION_TYPE") == "wayland"
        or os.environ.get("WAYLAND_DISPLAY", "") != ""
    )


def _screen(display: str) -> Source:
    if is_wayland():
        raise MediaError("no_device", WAYLAND)
    options = {"framerate": str(SCREEN_RATE), "draw_mouse": "1"}
    return Source("screen", display, display, "x11grab", options)


def _open(source: Source) -> "InputContainer":
    try:
        import av
    except ImportError as error:
        raise MediaError(
            "no_library",
            "Video needs a library that is not installed:"
            " pip install 'telex[calls]', then call again.",
        ) from error
    av.logging.set_level(None)
    if source.url.startswith("file:"):
        _look_at_file(Path(source.name))
    try:
        container = _opened(source)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise _explained(source, error) from error
    try:
        _check(source, container)
    except MediaError:
        container.close()
        raise
    return container


def _opened(source: Source) -> "InputContainer":
    import av

    try:
        return av.open(source.url, format=source.format, options=dict(source.options))
    except (av.FFmpegError, OSError, ValueError) as error:
        if not source.live or getattr(error, "errno", None) in PLAIN:
            raise
        # Some cameras refuse a size or a rate that is not theirs: as it likes, then.
        return av.open(source.url, format=source.format)


def _look_at_file(path: Path) -> None:
    # FFmpeg would wait for ever at a FIFO.
    if not path.exists():
        raise MediaError("no_device", f"There is no file {path}: look at its name.")
    if not path.is_file():
        raise MediaError(
            "no_device", f"{path} is not a file: choose a video or a picture."
        )


def _check(source: Source, container: "InputContainer") -> None:
    if not container.streams.video:
        raise MediaError(
            "no_device",
            f"{source.name} has no picture in it: choose a video or a picture.",
        )
    stream = container.streams.video[0]
    # None in spite of its type: for what nobody can decode.
    codec: VideoCodecContext | None = stream.codec_context
    if codec is None:
        raise _unreadable(source.name)
    if codec.width * codec.height > PIXELS:
        raise MediaError(
            "no_device",
            f"The pictures of {source.name} are too large"
            f" ({codec.width}x{codec.height}): choose a smaller video.",
        )
    codec.options = {"max_pixels": str(PIXELS)}
    stream.thread_type = "SLICE"  # frame threads would hold pictures back


def _decoded(source: Source, container: "InputContainer") -> Iterator["av.VideoFrame"]:
    import av

    stream = container.streams.video[0]
    try:
        yield from container.decode(stream)
    except av.EOFError:
        return
    except (av.FFmpegError, OSError, ValueError) as error:
        raise _explained(source, error) from error


def _live(
    source: Source, container: "InputContainer", stop: threading.Event
) -> Iterator["av.VideoFrame"]:
    for frame in _decoded(source, container):
        if stop.is_set():
            return
        yield frame
    raise MediaError(
        "no_device",
        f"The {source.kind} {source.name} gives no more pictures:"
        " look whether it is still plugged in.",
    )


def _paced(
    source: Source, container: "InputContainer", stop: threading.Event
) -> Iterator["av.VideoFrame"]:
    """One pass through a file: each picture when its time has come."""
    rate = float(container.streams.video[0].average_rate or 0)
    step = 1 / rate if 1 <= rate <= 240 else 1 / SCREEN_RATE
    begun = time.monotonic()
    due = 0.0
    count = 0
    first: float | None = None
    last = 0.0
    for frame in _decoded(source, container):
        at = frame.time
        if at is None:
            at = last + step
        if first is None:
            first, last = at, at - step
        # Files lie about time: a picture stands for one second at the most, and
        # time never goes back.
        due += min(max(at - last, 0.0), STILL) if count else 0.0
        last = at
        count += 1
        late = time.monotonic() - begun - due
        if late < 0 and stop.wait(-late):
            return
        if late > STILL:  # the machine slept or is too slow: go on from here
            begun += late
        if late < step:
            yield frame
        if stop.is_set():
            return
    if not count:
        raise MediaError(
            "no_device",
            f"Nothing in {source.name} can be shown: choose another video.",
        )
    stop.wait(step if count > 1 else STILL)


def _explained(source: Source, error: Exception) -> MediaError:
    """A sentence for what FFmpeg says; its own words seldom tell what to do."""
    number = getattr(error, "errno", None)
    what = f"the {source.kind} {source.name}"
    if source.url.startswith("file:"):
        what = source.name
    if number in (errno.EACCES, errno.EPERM):
        help_ = (
            "look at its permissions"
            if not source.live
            else "allow it in the system's settings for privacy"
            if sys.platform == "darwin"
            else "add yourself to the group video, then log in again"
        )
        return MediaError("no_permission", f"Telex may not open {what}: {help_}.")
    if number == errno.EBUSY:
        return MediaError(
            "no_device",
            f"Another program uses {what}: close it there, then turn it on again.",
        )
    if source.kind == "screen":
        return MediaError(
            "no_device",
            f"The screen {source.name} cannot be seen: it is not there, or does not"
            " let Telex in (look at DISPLAY and XAUTHORITY).",
        )
    if source.url.startswith("file:"):
        return _unreadable(what)
    return MediaError(
        "no_device",
        f"There are no pictures of {what}: look whether it is plugged in.",
    )


def _unreadable(name: str) -> MediaError:
    return MediaError(
        "no_device", f"{name} cannot be read as a video: choose another file."
    )
