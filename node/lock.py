"""One node for one data directory: a lock that dies with its process.

The file also says where the running node listens, so that `status` finds it.
"""

import fcntl
import os
from pathlib import Path
from typing import IO

import msgspec

from protocol.errors import TelexError

__all__ = ["DataInUse", "Running", "read_running", "take_lock"]

_FILE = "node.lock"


class DataInUse(TelexError):
    """Another node runs on the same data."""


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

    def announce(self, running: Running) -> None:
        """Say where the node listens."""
        self._file.seek(0)
        self._file.truncate()
        self._file.write(msgspec.json.encode(running))
        self._file.flush()

    def release(self) -> None:
        """Give the data directory free."""
        self._file.truncate(0)
        self._file.close()


def take_lock(directory: Path) -> DataLock:
    """Take the data directory for this process.

    Raises:
        DataInUse: another node has it.
    """
    descriptor = os.open(directory / _FILE, os.O_RDWR | os.O_CREAT, 0o600)
    file = os.fdopen(descriptor, "r+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise DataInUse(
            f"Another telex-node runs on the data in {directory}; stop it first."
        ) from error
    return DataLock(file)


def read_running(directory: Path) -> Running | None:
    """What the running node says of itself; None: no node runs on this data."""
    try:
        with open(directory / _FILE, "r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return msgspec.json.decode(file.read(), type=Running)
    except (FileNotFoundError, msgspec.DecodeError):
        pass
    return None
