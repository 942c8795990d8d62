"""Files for bytes that clients send: random names, threads of their own, swept.

A file's name is a token that only a row of the database knows, so nothing that a
client writes ever becomes a part of a path. Bytes are on the disk before a row says
so, and the row is gone before the file is. Whatever happens in between leaves a file
that no row names, and `sweep` takes those away when the node starts.
"""

import asyncio
import errno
import logging
import os
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from protocol.errors import (
    NodeBusy,
    Refused,
    StorageFailed,
    StorageFull,
    StorageReadOnly,
)

__all__ = ["Files", "check_free", "new_token", "refusing", "write_at", "write_new"]

log = logging.getLogger(__name__)

T = TypeVar("T")

_FULL = (errno.ENOSPC, errno.EDQUOT)
"""The disk, or our share of it, is full."""

_READ_ONLY = (errno.EROFS, errno.EPERM, errno.EACCES)

RESERVE = 64 * 1024 * 1024
"""Bytes of the disk that files leave to the database: messages come first."""

_TOKEN = re.compile(r"[0-9a-f]{32}")


def new_token() -> str:
    """The name of a file that is to be."""
    return secrets.token_hex(16)


class Files:
    """A directory of files that rows name, and the threads that work on them."""

    def __init__(self, directory: Path, *, threads: int, waiting: int) -> None:
        """`directory` is made when it is needed.

        Args:
            directory: only these files lie in it.
            threads: that work on the disk.
            waiting: pieces of work that may wait for one; more are refused.
        """
        self.directory = directory
        self._threads = ThreadPoolExecutor(threads, f"telex-{directory.name}")
        self._waiting_max = waiting
        self._waiting = 0

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def path(self, token: str) -> Path:
        """Where the file of a token lies, or will lie."""
        assert _TOKEN.fullmatch(token)
        return self.directory / token[:2] / token

    async def work(self, work: Callable[[], T]) -> T:
        """Do something with files in a thread.

        Raises:
            NodeBusy: too much is waiting.
        """
        if self._waiting >= self._waiting_max:
            raise NodeBusy("Too many files are being written.", retry_after=2)
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1

    async def unlink(self, tokens: Iterable[str]) -> None:
        """Delete files; one that cannot be deleted is swept at the next start."""
        paths = [self.path(token) for token in tokens]
        if paths:
            # Already decided and never to be refused: not counted as waiting.
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._threads, partial(_delete, paths))

    async def sweep(self, known: Callable[[str], Awaitable[set[str]]]) -> int:
        """Delete files that no row names; how many. Call it before the node listens:
        a file under way may have no row yet.

        Args:
            known: reads the tokens of all rows that start with two digits; so never
                more than a small part of them is in memory.

        Raises:
            Refused: the database's trouble.
        """
        count = 0
        for place in await self.work(partial(_list, self.directory)):
            found = await self.work(partial(_list, place))
            if found:
                named = await known(place.name)
                left = [path for path in found if path.name not in named]
                await self.work(partial(_delete, left))
                count += len(left)
        if count:
            log.info("%d files of broken uploads were deleted", count)
        return count


# --- in a thread ----------------------------------------------------------------------


def write_new(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, and have it on the disk.

    Raises:
        StorageFull, StorageReadOnly, StorageFailed: there is no such file.
    """
    part = path.with_suffix(".part")
    try:
        with refusing():
            _make_parents(path)
            with open(part, "xb", opener=_private) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.rename(path)
            _sync_directory(path.parent)
    except Refused:
        _delete([part, path])
        raise


def write_at(path: Path, offset: int, data: bytes, *, sync: bool = True) -> None:
    """Write into a file from `offset` on, and have it on the disk.

    What lies there or beyond is of a write that nobody was told of. The file is made
    at offset 0; it is missing later only if somebody deleted it.

    Raises:
        FileNotFoundError: it is missing.
        StorageFull, StorageReadOnly, StorageFailed: what was there before `offset` is
            as it was.
    """
    with refusing(missing=offset > 0):
        if offset == 0:
            _make_parents(path)
        flags = os.O_WRONLY | (os.O_CREAT if offset == 0 else 0)
        with open(_private(str(path), flags), "wb", buffering=0) as file:
            file.seek(offset)
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
            if sync:
                os.fsync(file.fileno())
        if offset == 0:
            _sync_directory(path.parent)


def check_free(path: Path, wanted: int) -> None:
    """Whether the disk has room for so many bytes, and for the database after that.

    Raises:
        StorageFull: it has not.
    """
    with refusing():
        while not path.is_dir():
            path = path.parent
        found = os.statvfs(path)
    if found.f_bavail * found.f_frsize < wanted + RESERVE:
        raise StorageFull()


@contextmanager
def refusing(*, missing: bool = False) -> Iterator[None]:
    """The disk's errors as what a client is told; `missing`: a missing file passes."""
    try:
        yield
    except OSError as error:
        if missing and isinstance(error, FileNotFoundError):
            raise
        log.error("a file could not be written: %s", error.strerror or error)
        if error.errno in _FULL:
            raise StorageFull() from error
        if error.errno in _READ_ONLY:
            raise StorageReadOnly() from error
        raise StorageFailed() from error


def _make_parents(path: Path) -> None:
    if not path.parent.is_dir():
        for directory in (path.parent.parent, path.parent):
            directory.mkdir(mode=0o700, exist_ok=True)
            _sync_directory(directory.parent)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _list(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _delete(paths: Iterable[Path]) -> None:
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:  # what stays is swept at the next start
            log.warning("%s could not be deleted: %s", path.name, error.strerror)
