"""One writer, some readers: every access to the node's database goes through here.

Writes are functions over a `Transaction`. They queue (bounded, in entries and in
bytes) for one thread that owns one connection; it takes what is there, runs each
function in a savepoint of its own inside one transaction, commits, and only then
are the waiting tasks told, all of them in one call into the event loop. So a
thousand writers share the disk's one sync (group commit), a function that fails
harms no other, and nothing is answered that is not on disk.

Reads run on a few threads with read-only connections, each in a transaction of its
own, so that what one function reads is one moment of the database.

Another process (`telex-node user disable`) may write too; the writer looks at
SQLite's `data_version` when it is idle and tells the node that something changed.
"""

import asyncio
import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from node.event import Event
from node.storage.engine import open_engine
from protocol.errors import (
    NodeBusy,
    NodeFault,
    Refused,
    StorageFailed,
    StorageFull,
)

__all__ = ["Store", "Transaction"]

T = TypeVar("T")

log = logging.getLogger(__name__)

BATCH_MAX = 256
"""Operations in one transaction: a hundred milliseconds of work at most, and beyond
this the disk's sync no longer counts for the single one."""

QUEUE_MAX = 4096
"""Operations that may wait: half a second of work; beyond it a refusal is kinder."""

QUEUE_BYTES = 64 * 1024 * 1024
"""Bytes of submissions that may wait; a submission has up to a megabyte."""

READERS = 3
"""Threads that read: more would fight for the interpreter, not for the disk."""

IDLE = 1.0
"""Seconds between looks for another process's writes when nothing happens."""


@dataclass(slots=True)
class Transaction:
    """What a write function works with."""

    connection: Connection
    events: list[Event] = field(default_factory=list)
    """What the node is told once this is on disk, and never if it fails."""


@dataclass(slots=True)
class _Job:
    operation: Callable[[Transaction], Any]
    future: asyncio.Future[Any]
    size: int
    events: list[Event] = field(default_factory=list)
    result: Any = None
    error: BaseException | None = None


class Store:
    """The database of a running node. Call `start` once, `stop` at the end."""

    def __init__(
        self,
        path: Path,
        *,
        on_events: Callable[[list[Event]], None],
        on_foreign_change: Callable[[], None] = lambda: None,
        idle: float = IDLE,
    ) -> None:
        """Neither callback may block; both are called on the event loop.

        Args:
            path: a database that `schema.migrate` made.
            on_events: gets the events of each batch, before its writers are told.
            on_foreign_change: another process wrote something.
            idle: seconds between looks for that.
        """
        self._path = path
        self._on_events = on_events
        self._on_foreign_change = on_foreign_change
        self._idle = idle
        self._jobs: deque[_Job] = deque()
        self._bytes = 0
        self._wake = threading.Condition()
        self._stopping = True
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._read_engine: Engine | None = None
        self._local = threading.local()
        self._open: list[Connection] = []

    async def start(self) -> None:
        """Open the database and start the threads."""
        self._loop = asyncio.get_running_loop()
        self._read_engine = open_engine(self._path, read_only=True)
        self._readers = ThreadPoolExecutor(READERS, "telex-read")
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="telex-write")
        self._thread.start()

    async def stop(self) -> None:
        """Refuse new work, finish what is queued, close everything."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
            # The last batch told the loop with call_soon: let it happen.
            await asyncio.sleep(0)
        if self._readers is not None:
            self._readers.shutdown(wait=True, cancel_futures=True)
        for connection in self._open:
            connection.close()
        self._open.clear()

    # --- reading ---------------------------------------------------------------

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run a function over a read-only connection, in a thread.

        Raises:
            Refused: what the function raised, or that the node stops or the
                database failed.
        """
        if self._stopping or self._readers is None or self._loop is None:
            raise NodeBusy("It is stopping.")
        return await self._loop.run_in_executor(self._readers, self._read, query)

    def _read(self, query: Callable[[Connection], T]) -> T:
        connection = cast(Connection | None, getattr(self._local, "connection", None))
        if connection is None:
            assert self._read_engine is not None
            connection = self._read_engine.connect()
            self._local.connection = connection
            self._open.append(connection)
        try:
            connection.exec_driver_sql("BEGIN")
            return query(connection)
        except DBAPIError as error:
            raise _refusal(error) from error
        finally:
            connection.rollback()

    # --- writing ---------------------------------------------------------------

    async def write(
        self, operation: Callable[[Transaction], T], *, size: int = 256
    ) -> T:
        """Run a function in the writer's next transaction.

        It is in the queue before the first suspension, so writes happen in the order
        in which they are called.

        Args:
            operation: runs in the writer's thread; it must be short, must not wait,
                and may run on a connection that later rolls back.
            size: the bytes that it holds, for the queue's limit.

        Returns:
            What the function returned, once it is on disk.

        Raises:
            NodeBusy: too much is queued, or the node stops; nothing was done.
            StorageFull, StorageFailed: the disk refused; nothing was stored.
            Exception: what the function raised; nothing of it was stored.
        """
        assert self._loop is not None
        future: asyncio.Future[T] = self._loop.create_future()
        with self._wake:
            if self._stopping:
                raise NodeBusy("It is stopping.")
            if len(self._jobs) >= QUEUE_MAX or self._bytes + size > QUEUE_BYTES:
                raise NodeBusy("Too many writes are waiting.", retry_after=1)
            self._jobs.append(_Job(operation, future, size))
            self._bytes += size
            self._wake.notify()
        return await future

    def _run(self) -> None:
        engine = open_engine(self._path)
        connection = engine.connect()
        version = _data_version(connection)
        try:
            while True:
                batch = self._take()
                if batch is None:
                    return
                if batch:
                    self._commit(connection, batch)
                    self._tell(batch)
                now = _data_version(connection)
                if now != version:
                    version = now
                    self._call(self._on_foreign_change)
        finally:
            connection.close()
            engine.dispose()

    def _take(self) -> list[_Job] | None:
        """The next batch; empty after an idle second, None at the end."""
        with self._wake:
            if not self._jobs and not self._stopping:
                self._wake.wait(self._idle)
            if not self._jobs:
                return None if self._stopping else []
            batch: list[_Job] = []
            while self._jobs and len(batch) < BATCH_MAX:
                job = self._jobs.popleft()
                self._bytes -= job.size
                batch.append(job)
            return batch

    def _commit(self, connection: Connection, batch: list[_Job]) -> None:
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            raw = connection.connection.driver_connection
            assert isinstance(raw, sqlite3.Connection)
            for job in batch:
                _run_job(connection, raw, job)
            connection.commit()
        except BaseException as error:  # whatever it was: nothing is on disk
            log.error("a batch of %d writes failed: %s", len(batch), _reason(error))
            try:
                connection.rollback()
            except DBAPIError as second:
                log.error("the rollback failed too: %s", _reason(second))
            for job in batch:
                job.error = _refusal(error)
                job.events = []

    def _tell(self, batch: list[_Job]) -> None:
        def tell() -> None:
            events = [event for job in batch for event in job.events]
            try:
                self._on_events(events)
            except Exception:  # they are hints; the writers must be told all the same
                log.exception("what was written could not be made known")
            for job in batch:
                if job.future.done():  # its task was cancelled meanwhile
                    continue
                if job.error is not None:
                    job.future.set_exception(job.error)
                else:
                    job.future.set_result(job.result)

        self._call(tell)

    def _call(self, function: Callable[[], None]) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:  # the loop is closed: nobody waits any more
            log.debug("the event loop ended before the writer")


def _run_job(connection: Connection, raw: sqlite3.Connection, job: _Job) -> None:
    """Run one operation in a savepoint; raise only what ends the whole batch."""
    transaction = Transaction(connection)
    raw.execute("SAVEPOINT job")
    try:
        job.result = job.operation(transaction)
    except Exception as error:
        if isinstance(error, DBAPIError) and _ends_batch(error):
            raise
        raw.execute("ROLLBACK TO job")
        raw.execute("RELEASE job")
        job.error = _refusal(error) if isinstance(error, DBAPIError) else error
    else:
        raw.execute("RELEASE job")
        job.events = transaction.events


_BATCH_ENDING = frozenset(
    {
        # SQLite may have rolled the whole transaction back by itself after these.
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_READONLY,
    }
)


def _ends_batch(error: DBAPIError) -> bool:
    return _code(error) in _BATCH_ENDING


def _code(error: BaseException) -> int:
    original = error.orig if isinstance(error, DBAPIError) else error
    # Extended codes hold the plain one in the low byte.
    return int(getattr(original, "sqlite_errorcode", 0) or 0) & 0xFF


def _refusal(error: BaseException) -> Refused:
    """What a waiting writer or reader is told about the database's failure."""
    match _code(error):
        case sqlite3.SQLITE_FULL:
            return StorageFull()
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return NodeBusy("Another program holds its database.", retry_after=1)
        case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_READONLY:
            return StorageFailed()
        case _:
            return NodeFault()


def _reason(error: BaseException) -> str:
    """The driver's words; never the statement's parameters, which are people's."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return f"{type(original).__name__}: {original}"


def _data_version(connection: Connection) -> int:
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    return int(raw.execute("PRAGMA data_version").fetchone()[0])
