"""What tests of sound need of the machine: skipped where it is missing."""

import shutil

import pytest

__all__ = ["BACKENDS", "require", "require_backend"]

PACKAGES = {
    "pulseaudio": "pulseaudio",
    "pactl": "pulseaudio-utils",
    "paplay": "pulseaudio-utils",
    "parec": "pulseaudio-utils",
    "espeak-ng": "espeak-ng",
    "sox": "sox",
}


def require(*programs: str) -> None:
    """Skip the test where one of the programs is missing, and say how to get it."""
    for one in programs:
        if shutil.which(one) is None:
            pytest.skip(f"{one} is not there: apt install {PACKAGES.get(one, one)}")


BACKENDS = ["miniaudio", "sounddevice"]
"""Those that speak with the system."""


def require_backend(name: str) -> str:
    """Skip the test where a sound backend's library is missing; its name."""
    if name == "sounddevice":
        try:
            import sounddevice  # noqa: F401
        except OSError:
            pytest.skip("PortAudio is not there: apt install libportaudio2")
    return name
