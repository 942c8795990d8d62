"""What is wrong with the disk or the database, in one word, and what to tell whom.

SQLite says little about why it failed ("disk I/O error"), so the directory is asked
too: a small file is written there. The database's own files are never opened beside
SQLite, because closing them would end its locks (sqlite.org/howtocorrupt.html, 2.2).
"""

import contextlib
import errno
import os
import sqlite3
import time
from pathlib import Path

import msgspec
from sqlalchemy.exc import DBAPIError

from protocol.errors import (
    NodeBusy,
    NodeFault,
    Refused,
    StorageBusy,
    StorageDamaged,
    StorageFailed,
    StorageFull,
    StorageReadOnly,
)

__all__ = ["WELL", "Health", "diagnose", "error_code", "has_room", "reason", "refusal"]

ENOUGH = 1024 * 1024
"""Bytes that must be free before a disk that was full counts as well again: a
message needs a few pages, and less than this is gone in a moment."""

_PROBE = "node.probe"
_PROBE_BYTES = 64 * 1024


class Health(msgspec.Struct, frozen=True):
    """How the storage is."""

    state: str = "ok"
    """ok, full, read_only, locked, crowded (no more files may be opened), damaged or
    failed."""
    since: int = 0
    """Unix seconds."""
    reason: str = ""
    """The driver's words."""

    @property
    def ok(self) -> bool:
        """Whether all is well."""
        return self.state == "ok"

    def sentence(self) -> str:
        """What is wrong and what to do; empty if all is well."""
        return _SENTENCES.get(self.state, "")


WELL = Health()

_SENTENCES = {
    "full": "The disk is full, so nothing new is stored: make room; the node goes on "
    "by itself.",
    "read_only": "The disk or the database is read-only, so nothing new is stored: "
    "look for the cause in the system's log, and make it writable; the node goes on "
    "by itself where it can.",
    "locked": "Another program holds the database, so nothing new is stored: end it; "
    "the node goes on by itself.",
    "crowded": "The node has as many files and connections open as the system lets it, "
    "so nothing new is stored: raise its limit of open files (`LimitNOFILE=` of its "
    "unit, `ulimit -n`); the node goes on by itself.",
    "damaged": "The database is damaged, so what lies on the damaged pages is refused: "
    "run `telex-node verify`, and restore the newest backup that it finds in order.",
    "failed": "The disk fails, so nothing new is stored: look for the cause in the "
    "system's log; the node goes on by itself where it can.",
}

_REFUSALS: dict[str, tuple[type[Refused], int]] = {
    "full": (StorageFull, 10),
    "read_only": (StorageReadOnly, 10),
    "locked": (StorageBusy, 2),
    "crowded": (NodeBusy, 5),
    "damaged": (StorageDamaged, 60),
    "failed": (StorageFailed, 10),
}
"""What a client is told, and after how many seconds it may ask again."""

_BY_CODE = {
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_READONLY: "read_only",
    sqlite3.SQLITE_BUSY: "locked",
    sqlite3.SQLITE_LOCKED: "locked",
    sqlite3.SQLITE_CORRUPT: "damaged",
    sqlite3.SQLITE_NOTADB: "damaged",
    sqlite3.SQLITE_IOERR: "failed",
    sqlite3.SQLITE_CANTOPEN: "failed",
    sqlite3.SQLITE_PERM: "read_only",
}

_BY_ERRNO = {
    errno.ENOSPC: "full",
    errno.EDQUOT: "full",
    errno.EROFS: "read_only",
    errno.EPERM: "read_only",
    errno.EACCES: "read_only",
    errno.EMFILE: "crowded",
    errno.ENFILE: "crowded",
}


def diagnose(error: BaseException, database: Path) -> Health | None:
    """What an error says about the storage; None: nothing, it is another fault.

    Args:
        error: the driver's, or SQLAlchemy's around it, or the system's.
        database: the database file.
    """
    if isinstance(error, OSError):
        state = _BY_ERRNO.get(error.errno or 0, "failed")
    else:
        found = _BY_CODE.get(error_code(error))
        if found is None:
            return None
        state = found
    if state == "failed":
        state = _ask_disk(database)
    return Health(state, int(time.time()), reason(error))


def refusal(error: BaseException, health: Health | None) -> Refused:
    """What a waiting writer or reader is told."""
    if isinstance(error, Refused):
        return error
    if health is None:
        return NodeFault()
    kind, seconds = _REFUSALS[health.state]
    return kind(retry_after=seconds)


def has_room(database: Path) -> bool:
    """Whether there is room to go on writing."""
    try:
        found = os.statvfs(database.parent)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize >= ENOUGH


def error_code(error: BaseException) -> int:
    """SQLite's primary result code; 0: it is none of SQLite's."""
    original = error.orig if isinstance(error, DBAPIError) else error
    # Extended codes hold the plain one in the low byte.
    return int(getattr(original, "sqlite_errorcode", 0) or 0) & 0xFF


def reason(error: BaseException) -> str:
    """The driver's words; never the statement's parameters, which are people's."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return f"{type(original).__name__}: {original}"


def _ask_disk(database: Path) -> str:
    """Why a write fails, by writing a small file: one of the states."""
    if not os.access(database, os.W_OK):
        return "read_only"
    path = database.with_name(_PROBE)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(descriptor, bytes(_PROBE_BYTES))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        return _BY_ERRNO.get(error.errno or 0, "failed")
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
    return "failed"
