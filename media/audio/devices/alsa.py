"""Linux's own sound: whether there is a card, and quiet about what is not there."""

import ctypes
import sys
from contextlib import suppress
from pathlib import Path

__all__ = ["cards", "has_cards", "hush", "is_card"]

SOUND = Path("/dev/snd")
"""Where the kernel has its sound cards."""

HANDLER = ctypes.CFUNCTYPE(
    None, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p
)


def cards() -> list[Path]:
    """The PCM devices of the sound cards."""
    return list(SOUND.glob("pcm*")) if SOUND.is_dir() else []


def has_cards() -> bool:
    """Whether ALSA is worth asking."""
    return bool(cards())


def is_card(id: str) -> bool:
    """Whether an ALSA name is a card (or the one that the user made the default).

    The others are converters, servers and `null`, which every installation lists.
    """
    return ":" in id or id in ("default", "sysdefault")


_silent = HANDLER(lambda *_: None)
"""Takes a complaint; lives as long as libasound may call it."""

_hushed = False


def hush() -> None:
    """Keep libasound from writing its complaints over the screen (stderr)."""
    global _hushed
    if _hushed or sys.platform != "linux":
        return
    _hushed = True
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libasound.so.2").snd_lib_error_set_handler(_silent)
