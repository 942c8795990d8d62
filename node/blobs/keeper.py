"""The blobs of this node: uploads in parts, and what is here whole.

An upload is a row and a file; each part is in the file, and synced, before the row
says how many bytes there are, so a node that is killed goes on where it was. The last
part makes it whole: the file is hashed as it lies on the disk, and only if that is
the blob's id does a row of `blob` name the file. Nobody can read a blob before.

A blob is stored once however many accounts upload it, and counts against each one's
quota. Whoever knows an id of something that is here already may keep it without
sending it: the id is a secret that only readers of the bytes were told.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO
from weakref import WeakValueDictionary

from sqlalchemy import Connection

from node.blobs import rows
from node.blobs.rows import Stored, Upload
from node.blobs.source import StoredSource
from node.clock import Clock
from node.storage.files import Files, check_free, new_token, refusing, write_at
from node.storage.store import Store, Transaction
from protocol.blob import Blobs, BlobUpload, blob_hash, parse_blob_id
from protocol.errors import (
    BadRequest,
    BlobMismatch,
    BlobQuotaExceeded,
    Refused,
    StorageFailed,
    TooLarge,
    UnknownBlob,
    UploadConflict,
)
from protocol.limits import BLOB_PART_MAX

__all__ = ["BlobKeeper"]

log = logging.getLogger(__name__)

DAY = 24 * 3600

UPLOAD_KEPT = DAY
"""Seconds after its last part that an upload is kept: a night without network."""

UPLOADS_MAX = 16
"""Uploads of an account at one time."""

LIST_MAX = 500
"""Blobs in one page of an account's list: 50 KB."""

PRUNE_BATCH = 100
"""Rows dropped in one write."""

THREADS = 4
"""Threads that work on files: two that write while two read; a disk does no more."""

WAITING_MAX = 128
"""Pieces of work that wait for one: 128 parts of an upload are 128 MiB of memory."""

HASH_STEP = 4 * 1024 * 1024
"""Bytes hashed before another piece of work has its turn: some milliseconds."""

PIECE = 64 * 1024
"""Bytes read in one go."""

Tokens = list[str]
"""Of files that no row names any more."""


class BlobKeeper:
    """What lies in `data_dir/blobs`; `name` is an account's, without the node."""

    def __init__(
        self,
        store: Store,
        directory: Path,
        clock: Clock,
        *,
        quota: int,
        largest: int,
        days: int,
        copies: int,
    ) -> None:
        """Sizes are in bytes.

        Args:
            store: the node's database.
            directory: made when it is needed.
            clock: tests may set theirs.
            quota: of one account.
            largest: of one blob.
            days: that a blob is kept after it was last asked for; 0: for ever.
            copies: of other nodes' blobs, in all.
        """
        self.files = Files(directory, threads=THREADS, waiting=WAITING_MAX)
        self.largest = largest
        self._store = store
        self._clock = clock
        self._quota = quota
        self._days = days
        self._copies = copies
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = (
            WeakValueDictionary()
        )

    def close(self) -> None:
        """End the threads."""
        self.files.close()

    # --- uploads ------------------------------------------------------------------

    async def begin(self, name: str, blob: str, size: int) -> BlobUpload:
        """Begin an upload, or say how far it is.

        Raises:
            BadRequest, TooLarge: there can be no such blob.
            UploadConflict: it was announced with another size.
            BlobQuotaExceeded, StorageFull: there is no room for it.
        """
        parse_blob_id(blob)
        if size < 1:
            raise BadRequest("A blob is not empty.")
        if size > self.largest:
            raise TooLarge(f"A file has at most {self.largest} bytes here.")
        begun = await self._store.read(lambda c: rows.find_upload(c, name, blob))
        if begun is None:
            await self.files.work(partial(check_free, self.files.directory, size))
        found, gone = await self._store.write(partial(self._begin, name, blob, size))
        await self.files.unlink(gone)
        return found

    def _begin(
        self, name: str, blob: str, size: int, transaction: Transaction
    ) -> tuple[BlobUpload, list[str]]:
        connection, now = transaction.connection, int(self._clock())
        stored = rows.find_blob(connection, blob)
        if stored is not None:
            if stored.size != size:
                raise UploadConflict(f"It has {stored.size} bytes.")
            gone = rows.drop_upload(connection, name, blob)
            self._hold(connection, name, blob, size, now)
            rows.touch(connection, blob, now)
            return BlobUpload(blob, size, size, True), gone
        upload = rows.find_upload(connection, name, blob)
        if upload is None:
            if rows.uploads(connection, name) >= UPLOADS_MAX:
                raise BlobQuotaExceeded(f"{UPLOADS_MAX} uploads are under way.")
            self._check_quota(connection, name, size)
            upload = Upload(blob, size, 0, new_token())
            rows.store_upload(connection, name, upload, now)
        elif upload.size != size:
            raise UploadConflict(f"It was announced with {upload.size} bytes.")
        return BlobUpload(blob, size, upload.received, False), []

    async def append(
        self, name: str, blob: str, offset: int, part: bytes
    ) -> BlobUpload:
        """Store the next part; the last one makes the blob whole.

        Raises:
            BadRequest, TooLarge: it is no part.
            UnknownBlob: no such upload was begun.
            UploadConflict: another part is due; asking for the upload says which.
            BlobMismatch: it is not what was announced; the upload has ended.
            StorageFull, StorageFailed, NodeBusy: nothing of the part was kept.
        """
        parse_blob_id(blob)
        if not part:
            raise BadRequest("A part is not empty.")
        if len(part) > BLOB_PART_MAX:
            raise TooLarge(f"A part has at most {BLOB_PART_MAX} bytes.")
        # One part of an upload at a time; devices of an account may meet in one.
        async with self._locks.setdefault((name, blob), asyncio.Lock()):
            upload = await self._store.read(partial(self._due, name, blob))
            if isinstance(upload, BlobUpload):
                return upload
            end = offset + len(part)
            if offset != upload.received or end > upload.size:
                raise UploadConflict(
                    f"The node has {upload.received} of {upload.size} bytes."
                )
            path = self.files.path(upload.token)
            try:
                await self.files.work(partial(write_at, path, offset, part))
            except FileNotFoundError as error:
                log.error("an upload's file is missing: %s", path.name)
                await self._end(name, blob)
                raise StorageFailed("The upload was lost; send it anew.") from error
            if end < upload.size:
                return await self._move(upload, end)
            return await self._finish(name, upload)

    def _due(self, name: str, blob: str, connection: Connection) -> Upload | BlobUpload:
        """The upload that goes on; or what is to be answered, since it is done."""
        upload = rows.find_upload(connection, name, blob)
        if upload is not None:
            return upload
        stored = rows.find_blob(connection, blob)
        if stored is None or not rows.holds(connection, name, blob):
            raise UnknownBlob("No such upload was begun, or it has ended.")
        return BlobUpload(blob, stored.size, stored.size, True)

    async def _move(self, upload: Upload, received: int) -> BlobUpload:
        now = int(self._clock())
        if not await self._store.write(
            lambda t: rows.move_upload(t.connection, upload.token, received, now)
        ):
            await self.files.unlink([upload.token])
            raise UnknownBlob("The upload has ended.")
        return BlobUpload(upload.blob, upload.size, received, False)

    async def _finish(self, name: str, upload: Upload) -> BlobUpload:
        """All bytes are in the file: check them, and let the blob be seen."""
        path = self.files.path(upload.token)
        if await self._hash(path) != upload.blob:
            await self._end(name, upload.blob)
            raise BlobMismatch()

        def write(transaction: Transaction) -> list[str]:
            connection, now = transaction.connection, int(self._clock())
            gone = rows.drop_upload(connection, name, upload.blob)
            if upload.token not in gone:
                raise UnknownBlob("The upload has ended.")
            blob, size = upload.blob, upload.size
            if rows.store_blob(connection, blob, size, upload.token, now):
                gone.remove(upload.token)  # else somebody else was first
            self._hold(connection, name, blob, size, now)
            return gone

        try:
            await self.files.unlink(await self._store.write(write))
        except UnknownBlob:
            await self.files.unlink([upload.token])
            raise
        return BlobUpload(upload.blob, upload.size, upload.size, True)

    async def _hash(self, path: Path) -> str:
        """The hash of a file as it lies on the disk."""
        digest = blob_hash()

        def step(file: BinaryIO) -> bool:
            with refusing():
                for _ in range(HASH_STEP // PIECE):
                    piece = file.read(PIECE)
                    if not piece:
                        return False
                    digest.update(piece)
            return True

        file = await self.files.work(partial(_open, path))
        try:
            while await self.files.work(partial(step, file)):
                pass
        finally:
            file.close()
        return digest.hexdigest()

    async def upload(self, name: str, blob: str) -> BlobUpload:
        """How far an upload is.

        Raises:
            UnknownBlob: none was begun.
        """
        parse_blob_id(blob)
        found = await self._store.read(partial(self._due, name, blob))
        if isinstance(found, BlobUpload):
            return found
        return BlobUpload(found.blob, found.size, found.received, False)

    async def _end(self, name: str, blob: str) -> None:
        gone = await self._store.write(
            lambda t: rows.drop_upload(t.connection, name, blob)
        )
        await self.files.unlink(gone)

    # --- what an account keeps ------------------------------------------------------

    async def drop(self, name: str, blob: str) -> None:
        """The account keeps it no more, nor its upload; done if it was done before."""
        parse_blob_id(blob)
        async with self._locks.setdefault((name, blob), asyncio.Lock()):
            gone = await self._store.write(
                lambda t: (
                    rows.drop_upload(t.connection, name, blob)
                    + rows.drop_holder(t.connection, name, blob)
                )
            )
            await self.files.unlink(gone)

    async def list(self, name: str, after: str = "") -> Blobs:
        """What an account keeps, by id."""
        if after:
            parse_blob_id(after)

        def read(connection: Connection) -> Blobs:
            found = rows.list_held(connection, name, after, LIST_MAX + 1)
            used = rows.usage(connection, name)
            more = len(found) > LIST_MAX
            return Blobs(found[:LIST_MAX], more, used, self._quota, self.largest)

        return await self._store.read(read)

    def _hold(
        self, connection: Connection, name: str, blob: str, size: int, now: int
    ) -> None:
        if not rows.holds(connection, name, blob):
            self._check_quota(connection, name, size)
            rows.add_holder(connection, name, blob, size, now)

    def _check_quota(self, connection: Connection, name: str, size: int) -> None:
        used = rows.usage(connection, name)
        if used + size > self._quota:
            raise BlobQuotaExceeded(f"{used} of {self._quota} bytes are in use.")

    # --- reading ------------------------------------------------------------------

    async def open(self, blob: str, *, held: bool = False) -> StoredSource:
        """A blob that is here; close it after.

        Args:
            blob: its id.
            held: only if an account of ours keeps it.

        Raises:
            UnknownBlob: it is not here.
        """
        parse_blob_id(blob)
        stored = await self._store.read(lambda c: rows.find_blob(c, blob, held=held))
        if stored is None:
            raise UnknownBlob()
        path = self.files.path(stored.token)
        try:
            file = await self.files.work(partial(_open, path))
        except FileNotFoundError as error:
            await self._lost(stored)
            raise UnknownBlob() from error
        await self._touch(stored)
        return StoredSource(self.files, file, stored.size)

    async def _touch(self, stored: Stored) -> None:
        """To the day: reading a blob does not cost a write each time."""
        now = int(self._clock())
        if now - stored.touched < DAY:
            return
        try:
            await self._store.write(
                lambda t: rows.touch(t.connection, stored.blob, now)
            )
        except Refused as error:  # the next reader tries again
            log.warning("that a file was asked for could not be noted: %s", error)

    async def _lost(self, stored: Stored) -> None:
        """Its file is gone: forget it, so that it can be uploaded again."""

        def write(transaction: Transaction) -> bool:
            if rows.find_blob(transaction.connection, stored.blob) != stored:
                return False
            rows.drop_blobs(transaction.connection, [stored])
            return True

        if await self._store.write(write):
            log.error("a blob's file is missing: %s", stored.token)

    # --- copies of other nodes' blobs -------------------------------------------------

    async def adopt(self, blob: str, size: int, token: str) -> None:
        """A file is whole and its hash was checked: it is a copy that may be read.

        Raises:
            Refused: the database's trouble; the file is the caller's.
        """
        now = int(self._clock())
        known = await self._store.write(
            lambda t: rows.store_blob(t.connection, blob, size, token, now)
        )
        if not known:
            await self.files.unlink([token])

    async def evict(self) -> None:
        """Drop copies until they fit.

        Raises:
            Refused: the database's trouble.
        """
        if await self._store.read(rows.copied) > self._copies:
            await self._drop(lambda c: rows.evict_copies(c, self._copies, PRUNE_BATCH))

    # --- housekeeping ---------------------------------------------------------------

    async def prune(self) -> None:
        """Drop what is past its time, and copies that are too many.

        Raises:
            Refused: the database's trouble.
        """
        now = int(self._clock())
        await self._drop(
            lambda c: rows.drop_stale_uploads(c, now - UPLOAD_KEPT, PRUNE_BATCH)
        )
        if self._days:
            before = now - self._days * DAY
            await self._drop(lambda c: rows.expire(c, before, PRUNE_BATCH))
        await self.evict()

    async def _drop(self, drop: Callable[[Connection], Tokens]) -> None:
        while gone := await self._store.write(lambda t: drop(t.connection)):
            await self.files.unlink(gone)

    async def sweep(self) -> int:
        """Delete files that no row names; how many. Call it before the node listens.

        Raises:
            Refused: the database's trouble.
        """
        return await self.files.sweep(
            lambda start: self._store.read(lambda c: rows.tokens(c, start))
        )


def _open(path: Path) -> BinaryIO:
    with refusing(missing=True):
        return path.open("rb")
