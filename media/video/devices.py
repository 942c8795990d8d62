"""Which cameras and screens there are."""

import os
import sys
from pathlib import Path

from media.port import Device, Devices
from media.video.source import WAYLAND, is_wayland

__all__ = ["list_pictures"]

CLASS = Path("/sys/class/video4linux")

NO_CAMERA = (
    "No camera was found: plug one in, or choose a file instead with F in the list of"
    " devices."
)

NO_SCREEN = (
    "There is no screen to show: DISPLAY names no X11 display. Start Telex in a window"
    " of an X11 session."
)


def list_pictures() -> Devices:
    """Cameras and screens; a sentence for each of which there is none."""
    if sys.platform == "darwin":
        return _asked("avfoundation")
    if sys.platform == "win32":
        return _asked("dshow")
    cameras = list_cameras(CLASS)
    found = list(cameras)
    missing = [] if cameras else [NO_CAMERA]
    display = os.environ.get("DISPLAY", "")
    if is_wayland():
        missing.append(WAYLAND)
    elif display:
        found.append(Device("screen", display, f"Screen {display}", default=True))
    else:
        missing.append(NO_SCREEN)
    return Devices(tuple(found), tuple(missing))


def list_cameras(folder: Path) -> list[Device]:
    """Cameras of Video4Linux by its folder in sysfs, the lowest number first."""
    found: list[tuple[int, str]] = []
    try:
        entries = list(folder.iterdir())
    except OSError:
        return []
    for entry in entries:
        number = entry.name.removeprefix("video")
        # A camera has several nodes; pictures come from the first, and only from it.
        if not number.isdecimal() or _line(entry / "index") not in ("", "0"):
            continue
        found.append((int(number), _line(entry / "name") or entry.name))
    return [
        Device("camera", f"/dev/video{number}", name, default=at == 0)
        for at, (number, name) in enumerate(sorted(found))
    ]


def _line(path: Path) -> str:
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return ""
    return "".join(c for c in text.strip() if c.isprintable())[:80]


def _asked(system: str) -> Devices:
    """As FFmpeg names them, on systems without such files."""
    import av.device

    cameras = [
        Device("camera", f"{system}:{device.name}", device.description, at == 0)
        for at, device in enumerate(av.device.enumerate_input_devices(system))
        if "video" in device.media_types
    ]
    return Devices(tuple(cameras), () if cameras else (NO_CAMERA,))
