"""Blobs of other nodes: fetched once however many ask, and read while they arrive.

The bytes go into a file as they come and are hashed on the way. Readers get them from
that file, but for the last piece, which waits until the hash is known to be the
blob's id: what is wrong is never whole anywhere, and is thrown away. A blob of one
piece is therefore checked before its reader gets anything at all.

A fetch goes on where it was when the line to the other node breaks. It ends when its
readers have left, but for some seconds in which they may come back, and when the
other node sends too slowly: nobody can hold all there are with names of slow nodes.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import BinaryIO, Protocol

from node.blobs.keeper import BlobKeeper
from node.blobs.source import Source, read_piece
from node.storage.files import new_token, refusing, write_at
from protocol.blob import blob_hash, parse_blob_id
from protocol.errors import (
    NodeBusy,
    NodeFault,
    PeerRefused,
    PeerUnreachable,
    Refused,
    TooLarge,
    TooMany,
    UnknownBlob,
)

__all__ = ["BlobFetcher", "Incoming"]

log = logging.getLogger(__name__)

PIECE = 64 * 1024
"""Bytes written and handed on in one go; so many are kept back until all are there."""

FETCHES_MAX = 64
"""Blobs fetched at one time, each with a connection and two pieces in memory: 8 MiB."""

FETCHES_EACH = 4
"""Of them begun for one account: sixteen accounts are needed to hold them all."""

FETCHES_PER_NODE = 4
"""Of them from one node: one that sends a byte a second holds up its own files."""

SECONDS_MAX = 3600.0
"""For a whole fetch: 256 MiB at 0.6 Mbit/s."""

SLOW_BYTES, SLOW_SECONDS = 37_500, 30.0
"""So many more bytes must come in so many seconds: 10 kbit/s."""

ALONE = 10.0
"""Seconds that a fetch goes on without a reader: one whose line broke comes back."""

TRIES = 5
"""Times that a broken line is taken up in a row without one new piece."""

PAUSE = 1.0
"""Seconds before the next try, doubled with each."""


class Incoming(Protocol):
    """A blob as another node sends it."""

    @property
    def size(self) -> int:
        """Bytes of the whole, as that node says."""

    @property
    def pieces(self) -> AsyncIterator[bytes]:
        """Those from the offset on that was asked for."""


Ask = Callable[[str, str, int], AbstractAsyncContextManager[Incoming]]
"""(node, blob, offset): asks another node for the bytes from an offset on."""


class BlobFetcher:
    """Answers blobs, from here or from the node where they lie."""

    def __init__(self, keeper: BlobKeeper, ask: Ask) -> None:
        self._keeper = keeper
        self._ask = ask
        self._fetches: dict[tuple[str, str], _Fetch] = {}
        """By blob and node: one that sends slowly keeps nobody from asking another."""
        self._running: set[_Fetch] = set()
        """Also those that nobody may join any more."""

    async def stop(self) -> None:
        """End what is under way."""
        running = list(self._running)
        for fetch in running:
            fetch.end()
        tasks = (fetch.task for fetch in running if fetch.task is not None)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def open(self, blob: str, node: str | None, account: str) -> Source:
        """A blob, to read.

        Args:
            blob: its id.
            node: where it lies if it is not here; None: nowhere else.
            account: who asks, for the limit.

        Raises:
            UnknownBlob: it is not here, nor there.
            TooLarge: it is larger than this node fetches.
            TooMany: too many are being fetched for this account.
            NodeBusy: too many are being fetched.
            Refused: the other node, or the way to it.
        """
        parse_blob_id(blob)
        fetch = None if node is None else self._fetches.get((blob, node))
        if fetch is None:
            try:
                return await self._keeper.open(blob)
            except UnknownBlob:
                if node is None:
                    raise
            fetch = self._fetches.get((blob, node))
            fetch = fetch or self._begin(blob, node, account)
        source = fetch.reader()
        try:
            await fetch.begun()
        except BaseException:
            source.close()
            raise
        return source

    def _begin(self, blob: str, node: str, account: str) -> "_Fetch":
        fetches = self._fetches.values()
        if sum(fetch.account == account for fetch in fetches) >= FETCHES_EACH:
            raise TooMany("Too many files are being fetched for you.", retry_after=5)
        from_node = sum(fetch.node == node for fetch in fetches)
        if len(fetches) >= FETCHES_MAX or from_node >= FETCHES_PER_NODE:
            raise NodeBusy("Too many files are being fetched.", retry_after=5)
        fetch = _Fetch(self._keeper, self._ask, node, blob, account, self._ended)
        self._fetches[blob, node] = fetch
        self._running.add(fetch)
        fetch.task = asyncio.create_task(fetch.run())
        fetch.task.add_done_callback(lambda _: self._running.discard(fetch))
        return fetch

    def _ended(self, fetch: "_Fetch") -> None:
        """Nobody may join it any more; another of the same blob may have begun."""
        if self._fetches.get((fetch.blob, fetch.node)) is fetch:
            del self._fetches[fetch.blob, fetch.node]


class _Fetch:
    """One blob on its way from another node into a file."""

    def __init__(
        self,
        keeper: BlobKeeper,
        ask: Ask,
        node: str,
        blob: str,
        account: str,
        ended: "Callable[[_Fetch], None]",
    ) -> None:
        """Make one; `ended` is called before those who wait are told how it ended."""
        self.node = node
        self.blob = blob
        self.account = account
        self.size = 0
        self.task: asyncio.Task[None] | None = None
        self._keeper = keeper
        self._ask = ask
        self._ended = ended
        self._token = new_token()
        self._path = keeper.files.path(self._token)
        self._digest = blob_hash()
        self._have = 0
        self._whole = False
        self._error: Refused | None = None
        self._grown = asyncio.Event()
        self._file: BinaryIO | None = None
        self._readers = 0
        self._alone: asyncio.TimerHandle | None = None
        self._pace: asyncio.Timeout | None = None
        self._due = SLOW_BYTES
        """Bytes, those received before a line broke too, that are waited for."""

    # --- for readers ----------------------------------------------------------------

    async def begun(self) -> None:
        """Wait until its size is known and it has a file; of one piece: until it is
        whole.

        Raises:
            Refused: why it cannot be had.
        """
        while self._file is None or (self.size <= PIECE and not self._whole):
            await self._wait()

    async def ready(self, end: int) -> None:
        """Wait until the bytes before `end` may be read.

        Raises:
            Refused: why they never will be.
        """
        while not self._whole and end > min(self._have, self.size - PIECE):
            await self._wait()

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        await self._grown.wait()

    def reader(self) -> Source:
        """To read it while it comes."""
        self._readers += 1
        if self._alone is not None:
            self._alone.cancel()
        return _FetchedSource(self)

    async def read(self, offset: int, count: int) -> bytes:
        """Bytes that may be read."""
        assert self._file is not None
        return await self._keeper.files.work(
            partial(read_piece, self._file, offset, count)
        )

    def left(self) -> None:
        """A reader has ended; the last one closes the file of a fetch that ended."""
        self._readers -= 1
        self._close_if_done()
        if self._readers == 0 and not self._over:
            self._alone = asyncio.get_running_loop().call_later(ALONE, self.end)

    def end(self) -> None:
        """End it, unless all has come and is being put in its place."""
        if self.task is not None and not 0 < self.size == self._have:
            self._ended(self)
            self.task.cancel()

    @property
    def _over(self) -> bool:
        return self._whole or self._error is not None

    def _close_if_done(self) -> None:
        if self._over and self._readers == 0 and self._file is not None:
            self._file.close()

    def _tell(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()

    # --- fetching -------------------------------------------------------------------

    async def run(self) -> None:
        """Fetch it."""
        error: Refused | None = NodeBusy("It is stopping.")
        try:
            try:
                async with (
                    asyncio.timeout(SECONDS_MAX),
                    asyncio.timeout(SLOW_SECONDS) as self._pace,
                ):
                    await self._receive()
            except TimeoutError as late:
                raise PeerUnreachable("It sent the file too slowly.") from late
            if self._digest.hexdigest() != self.blob:
                raise PeerRefused("What it sent is not the file that was asked for.")
            # The last write synced the file only if it was told to: do it now.
            await self._keeper.files.work(
                partial(write_at, self._path, self._have, b"")
            )
            await self._keeper.adopt(self.blob, self.size, self._token)
            error = None
        except Refused as refused:
            error = refused
        except Exception:
            log.exception("fetching a file failed")
            error = NodeFault()
        finally:
            if error is not None:
                await self._keeper.files.unlink([self._token])
            self._whole, self._error = error is None, error
            self._ended(self)
            if self._alone is not None:
                self._alone.cancel()
            self._tell()
            self._close_if_done()
        try:
            await self._keeper.evict()
        except Refused as refused:  # the next hour's chore does it
            log.warning("copies of files could not be dropped: %s", refused)

    async def _receive(self) -> None:
        """Until all bytes are there, however often the line breaks."""
        fails = 0
        while True:
            have = self._have
            try:
                async with self._ask(self.node, self.blob, have) as incoming:
                    await self._take(incoming)
            except PeerUnreachable:
                if 0 < self.size == self._have:
                    return
                fails = 1 if self._have > have else fails + 1
                # Nothing came at all: whoever waits learns it now.
                if self.size == 0 or fails >= TRIES:
                    raise
                await asyncio.sleep(PAUSE * 2 ** (fails - 1))
                continue
            if self._have == self.size:
                return
            raise PeerRefused("It sent less than it announced.")

    async def _take(self, incoming: Incoming) -> None:
        if self.size == 0:
            if not 1 <= incoming.size <= self._keeper.largest:
                raise TooLarge(f"It has {incoming.size} bytes.")
            self.size = incoming.size
        elif incoming.size != self.size:
            raise PeerRefused("The size of the file changed on the way.")
        kept = bytearray()
        try:
            async for piece in incoming.pieces:
                kept += piece
                self._keep_pace(self._have + len(kept))
                if self._have + len(kept) > self.size:
                    raise PeerRefused("It sent more than it announced.")
                while len(kept) >= PIECE:
                    await self._keep(bytes(kept[:PIECE]))
                    del kept[:PIECE]
        finally:
            if kept and self._have + len(kept) <= self.size:
                await self._keep(bytes(kept))

    def _keep_pace(self, come: int) -> None:
        if self._pace is not None and come >= self._due:
            self._due = come + SLOW_BYTES
            self._pace.reschedule(asyncio.get_running_loop().time() + SLOW_SECONDS)

    async def _keep(self, piece: bytes) -> None:
        await self._keeper.files.work(partial(self._write, self._have, piece))
        self._have += len(piece)
        self._tell()

    def _write(self, offset: int, piece: bytes) -> None:
        """In a thread."""
        self._digest.update(piece)
        write_at(self._path, offset, piece, sync=False)
        if self._file is None:
            with refusing():
                self._file = self._path.open("rb")


class _FetchedSource:
    """A reader of a fetch."""

    def __init__(self, fetch: _Fetch) -> None:
        self._fetch: _Fetch | None = fetch

    @property
    def size(self) -> int:
        """Bytes of the whole."""
        return 0 if self._fetch is None else self._fetch.size

    async def read(self, offset: int, count: int) -> bytes:
        """Bytes as soon as they are there."""
        assert self._fetch is not None
        await self._fetch.ready(offset + count)
        return await self._fetch.read(offset, count)

    def close(self) -> None:
        """Leave."""
        if self._fetch is not None:
            self._fetch.left()
            self._fetch = None
