"""Bytes to read: of a file that is whole, or of one that is still arriving."""

import os
from functools import partial
from typing import BinaryIO, Protocol

from node.storage.files import Files, refusing
from protocol.errors import StorageFailed

__all__ = ["Source", "StoredSource", "read_piece"]


class Source(Protocol):
    """A blob's bytes; `close` it at the end."""

    @property
    def size(self) -> int:
        """Bytes of the whole."""

    async def read(self, offset: int, count: int) -> bytes:
        """Exactly so many bytes from an offset, as soon as they may be read.

        Raises:
            Refused: they cannot be had, or are not the blob's.
        """

    def close(self) -> None:
        """Give back what it holds."""


class StoredSource:
    """A file that is whole."""

    def __init__(self, files: Files, file: BinaryIO, size: int) -> None:
        self._files = files
        self._file = file
        self.size = size

    async def read(self, offset: int, count: int) -> bytes:
        """Bytes of the file."""
        return await self._files.work(partial(read_piece, self._file, offset, count))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_piece(file: BinaryIO, offset: int, count: int) -> bytes:
    """Exactly so many bytes of a file, in a thread; several may read at one time.

    Raises:
        StorageFailed: it is shorter, or cannot be read.
    """
    with refusing():
        found = os.pread(file.fileno(), count, offset)
    if len(found) != count:
        raise StorageFailed("A part of this file was lost.")
    return found
