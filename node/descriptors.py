"""How many files the node may have open (RLIMIT_NOFILE), and what they are for.

Each connection is a file. When there is none left, nobody gets in, no file can be
opened and SQLite cannot read; so the node takes what the system lets it have, and
keeps some of it from connections.
"""

import resource
from math import ceil
from pathlib import Path

import msgspec

__all__ = [
    "Doorway",
    "advice",
    "connections_of",
    "open_files",
    "open_files_limit",
    "raise_open_files",
    "sessions_of",
]

OPEN_FILES_MAX = 1 << 20
"""What Linux allows a process unless told otherwise (fs.nr_open), and more than one
event loop can serve. Some containers offer 2^30, over which old libraries loop."""

_FALLBACK = 10_240
"""macOS calls its hard limit infinite and refuses more than this (OPEN_MAX)."""

RESERVED_MIN, RESERVED_PART, RESERVED_MAX = 128, 8, 4096
"""Files that are no connections of others: the database has some 20, libraries and
logs 10, each other node up to 6 (512 of them at once), and each file that is sent or
comes one. So an eighth of all, between these two."""

SESSIONS_PART = 0.75
"""Of all connections may be sessions; the rest is for requests, those of devices that
have a session too, and of other nodes."""


class Doorway(msgspec.Struct):
    """How it is at the door."""

    connections: int = 0
    """That are open."""
    most: int = 0
    """As many as there may be; 0: unknown."""
    refused: int = 0
    """Turned away since the node started, because there was no room at all."""
    crowded: int = 0
    """Turned away because their network had too many."""
    refused_at: float = 0.0
    """Unix seconds: when somebody was turned away for lack of room; 0: never."""


def raise_open_files() -> int:
    """Raise the soft limit as far as the hard limit allows; what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard > OPEN_FILES_MAX:
        wanted = OPEN_FILES_MAX
    else:
        wanted = hard
    for number in (wanted, min(wanted, _FALLBACK)):
        if soft == resource.RLIM_INFINITY or soft >= number:
            break
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
            break
        except (OSError, ValueError):
            continue
    return open_files_limit()


def open_files_limit() -> int:
    """The soft limit, or `OPEN_FILES_MAX` where there is none."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return OPEN_FILES_MAX if soft == resource.RLIM_INFINITY else soft


def open_files() -> int:
    """How many files this process has open; 0 where the system does not say."""
    for directory in ("/proc/self/fd", "/dev/fd"):
        try:
            return sum(1 for _ in Path(directory).iterdir())
        except OSError:
            continue
    return 0


def connections_of(limit: int) -> int:
    """How many connections of others a limit of open files has room for."""
    reserved = min(RESERVED_MAX, max(RESERVED_MIN, limit // RESERVED_PART))
    return max(1, limit - reserved, limit // 2)


def sessions_of(limit: int) -> int:
    """How many sessions a limit of open files has room for."""
    return max(1, int(connections_of(limit) * SESSIONS_PART))


def advice(limit: int, sessions: int) -> str:
    """What to do about a limit that is too low for so many sessions; else empty."""
    room = sessions_of(limit)
    if room >= sessions:
        return ""
    return (
        f"The node may have {limit} files open, enough for {room} sessions and not for "
        f"the {sessions} of limits.connections: let it have {_needed(sessions)} (in a "
        f"systemd unit LimitNOFILE={_needed(sessions)}, in a shell `ulimit -n`) and "
        "start it again, or lower limits.connections."
    )


def _needed(sessions: int) -> int:
    """A limit that has room for so many sessions, a power of two."""
    limit = 1 << (ceil(sessions / SESSIONS_PART) + RESERVED_MIN).bit_length()
    return limit if sessions_of(limit // 2) < sessions else limit // 2
