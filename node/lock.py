"""One node for one data directory: a lock that dies with its process.

The file also says where the running node listens, so that `status` finds it. It has
one length and is written over, so that a full disk does not matter; blank is what a
node leaves that ended in order.
"""

import fcntl
import logging
import os
from pathlib import Path
from typing import IO

import msgspec

from protocol.errors import TelexError

__all__ = [
    "DataInUse",
    "DataUnwritable",
    "Running",
    "ended_badly",
    "read_running",
    "take_lock",
]

log = logging.getLogger(__name__)

_FILE = "node.lock"

_LENGTH = 1024
"""Bytes of the file: a URL, two numbers, and room."""


class DataInUse(TelexError):
    """Another node runs on the same data."""


class DataUnwritable(TelexError):
    """The data directory cannot be written."""


class Running(msgspec.Struct):
    """What a running node says of itself to commands on the same machine."""

    pid: int
    started: int
    """Unix seconds."""
    url: str
    """Where it listens."""


class DataLock:
    """Holds the lock until `release`, or the end of the process."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def clear(self) -> None:
        """Say nothing yet, or no more."""
        self._write(b"")

    def announce(self, running: Running) -> None:
        """Say where the node listens."""
        self._write(msgspec.json.encode(running))

    def release(self) -> None:
        """Give the data directory free."""
        self.clear()
        self._file.close()

    def _write(self, text: bytes) -> None:
        try:
            os.pwrite(self._file.fileno(), text.ljust(_LENGTH), 0)
        except OSError as error:
            log.warning("%s cannot be written: %s", _FILE, error.strerror)


def take_lock(directory: Path) -> DataLock:
    """Take the data directory for this process.

    Raises:
        DataInUse: another node has it.
        DataUnwritable: the directory is missing, or read-only, or not ours.
    """
    try:
        descriptor = os.open(directory / _FILE, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise DataUnwritable(
            f"The data directory {directory} cannot be written ({error.strerror}); "
            "make it writable for this user."
        ) from error
    file = os.fdopen(descriptor, "r+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise DataInUse(
            f"Another telex-node runs on the data in {directory}; stop it first."
        ) from error
    lock = DataLock(file)
    lock.clear()
    return lock


def read_running(directory: Path) -> Running | None:
    """What the running node says of itself; None: no node runs on this data."""
    try:
        with open(directory / _FILE, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return msgspec.json.decode(file.read(), type=Running)
    except (FileNotFoundError, msgspec.DecodeError):
        pass
    return None


def ended_badly(directory: Path) -> bool:
    """Whether the last node here did not come to release its lock.

    Ask only when `read_running` knows of none.
    """
    try:
        return bool((directory / _FILE).read_bytes().strip())
    except OSError:
        return False
