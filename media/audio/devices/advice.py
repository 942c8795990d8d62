"""What is missing and how to get it: a sentence for each, in the system's words."""

import os
import socket
import sys
from typing import Literal

from media.audio.devices import alsa
from media.port import MediaError

__all__ = [
    "broken",
    "hung_up",
    "no_answer",
    "no_device",
    "no_library",
    "no_permission",
    "no_portaudio",
    "no_server",
    "none",
    "not_found",
    "permitted",
    "refused",
    "silent",
    "stalled",
    "unplugged",
]

Kind = Literal["microphone", "speaker"]


def no_library() -> str:
    """The extra is not installed."""
    return "Calls need a sound library: pip install 'telex[calls]'."


def no_portaudio() -> str:
    """sounddevice is there, what it speaks to is not."""
    return {
        "linux": (
            "PortAudio is missing: apt install libportaudio2 (Debian, Ubuntu) or "
            "dnf install portaudio (Fedora)."
        ),
        "darwin": "PortAudio is missing: brew install portaudio.",
    }.get(
        sys.platform, "PortAudio is missing: pip install --force-reinstall sounddevice."
    )


def no_server() -> str:
    """No sound server, no sound card."""
    if sys.platform == "linux":
        if name := os.environ.get("PULSE_SERVER"):
            return (
                f"The sound server that PULSE_SERVER names ({name}) does not answer, "
                f"and there is no sound card: start it, or unset PULSE_SERVER."
            )
        return (
            "There is neither a sound server nor a sound card: start PipeWire or "
            "PulseAudio (systemctl --user start pipewire-pulse, or pulseaudio "
            "--start), or set PULSE_SERVER to one elsewhere."
        )
    return "This system has no sound: check its sound settings."


def no_device(kind: Kind) -> str:
    """None of that kind is plugged in."""
    way = "Input" if kind == "microphone" else "Output"
    pactl = "sources" if kind == "microphone" else "sinks"
    where = {
        "linux": f"in the system's sound settings or `pactl list {pactl}`",
        "darwin": f"in System Settings, Sound, {way}",
    }.get(sys.platform, "in the system's sound settings")
    thing = "a headset" if kind == "microphone" else "headphones"
    return f"There is no {kind}: plug one (or {thing}) in, or look for it {where}."


def none(kind: Kind, served: bool | None = None) -> MediaError:
    """No device of that kind: is there none, or may we not see it?

    Args:
        kind: Of which there is none.
        served: Whether a sound server answers; None: look for one.
    """
    if not permitted():
        return MediaError("no_permission", no_permission(kind))
    if sys.platform == "linux" and not alsa.cards():
        if not (_served() if served is None else served):
            return MediaError("no_device", no_server())
    return MediaError("no_device", no_device(kind))


def _served() -> bool:
    """Whether a sound server takes connections (Linux); one elsewhere is assumed to."""
    name = os.environ.get("PULSE_SERVER", "")
    if name and not name.startswith("unix:"):
        return True
    runtime = os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1)
            probe.connect(name.removeprefix("unix:") or f"{runtime}/pulse/native")
    except OSError:
        return False
    return True


def not_found(kind: Kind, id: str) -> str:
    """The one that was asked for is not there."""
    return (
        f"The {kind} {id!r} is not there: plug it in, or choose another of those "
        f"that `telex audio devices` shows."
    )


def unplugged(kind: Kind, id: str) -> str:
    """It went away while it was in use."""
    if not id:
        return f"The {kind} went away: plug it in again, or choose another."
    return f"The {kind} {id!r} went away: plug it in again, or choose another."


def stalled(kind: Kind) -> str:
    """It is there and gives nothing."""
    return (
        f"The {kind} stopped, though it is still there: plug it in again, or choose "
        f"another."
    )


def silent(kind: Kind) -> str:
    """It gives nothing any more, and nobody knows why."""
    return (
        f"The {kind} went away, or the system's sound server did: plug it in again, or "
        f"choose another."
    )


def hung_up(kind: Kind) -> str:
    """The sound server ended while the device was in use."""
    return (
        f"The system's sound server went away, and the {kind} with it: it usually "
        f"comes back by itself; else start it again."
    )


def no_answer(kind: Kind) -> str:
    """The system's sound hangs."""
    return (
        f"The system's sound server does not answer, so there is no {kind}: "
        f"start it again."
    )


def no_permission(kind: Kind) -> str:
    """The system keeps it from us."""
    return {
        "linux": (
            f"This account may not use the {kind}: sudo usermod -aG audio $USER, then "
            f"log in again; or start PipeWire or PulseAudio."
        ),
        "darwin": (
            f"The terminal may not use the {kind}: allow it in System Settings, "
            f"Privacy & Security, Microphone, and start it again."
        ),
    }.get(
        sys.platform, f"This account may not use the {kind}: allow it in the settings."
    )


def permitted() -> bool:
    """Whether sound cards that are there may be used (Linux; elsewhere: True)."""
    cards = alsa.cards()
    return not cards or any(os.access(card, os.R_OK | os.W_OK) for card in cards)


def refused(kind: Kind, why: str) -> str:
    """It is there and does not open."""
    return (
        f"The {kind} does not open ({why}): close other programs that use it, or "
        f"choose another."
    )


def broken(kind: Kind) -> str:
    """A fault of ours."""
    return f"The {kind} stopped by a fault of Telex itself: the log has the details."
