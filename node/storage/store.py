"""One writer, some readers: every access to the node's database goes through here.

Writes are functions over a `Transaction`. They queue (bounded, in entries and in
bytes) for one thread that owns one connection; it takes what is there, runs each
function in a savepoint of its own inside one transaction, commits, and only then
are the waiting tasks told, all of them in one call into the event loop. So a
thousand writers share the disk's one sync (group commit), a function that fails
harms no other, and nothing is answered that is not on disk. What comes by the
thousand a second is `Batched`: neighbours in the queue are one function's work.

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
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

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
from protocol.log import LogId

__all__ = ["Batched", "Store", "Transaction"]

T = TypeVar("T")
Item = TypeVar("Item", contravariant=True)
Outcome = TypeVar("Outcome")

log = logging.getLogger(__name__)

BATCH_MAX = 1024
"""Operations in one transaction: of messages 20 ms of work, and beyond this the
disk's sync no longer counts for the single one."""

QUEUE_MAX = 16384
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
    changed: set[LogId] = field(default_factory=set)
    """Logs whose heads were moved."""
    known: dict[LogId, Any] = field(default_factory=dict)
    """What batches remember of logs from one transaction to the next: the writer is
    the only one to change them. Who changes what is remembered takes it out."""

    def undo(self) -> None:
        """Take back what was written here so far."""
        self.connection.exec_driver_sql("ROLLBACK TO job")
        self.events.clear()
        self.known.clear()


class Batched(Protocol[Item, Outcome]):
    """A kind of write of which many come at once."""

    def write(
        self, transaction: Transaction, items: Sequence[Item]
    ) -> Sequence[Outcome]:
        """In the writer's thread: do them, in order; an outcome for each.

        What it raises is a fault, and refuses all of them.
        """

    def done(
        self, items: Sequence[Item], outcomes: Sequence[Outcome | Refused]
    ) -> None:
        """On the event loop: they are on disk, or refused."""


@dataclass(slots=True)
class _Job:
    """A function that somebody waits for."""

    operation: Callable[[Transaction], Any]
    future: asyncio.Future[Any]
    size: int
    events: list[Event] = field(default_factory=list)
    result: Any = None
    error: BaseException | None = None

    def run(self, transaction: Transaction) -> None:
        self.result = self.operation(transaction)

    def refuse(self, error: BaseException) -> None:
        self.error = error
        self.events = []

    def tell(self) -> None:
        if self.future.done():  # its task was cancelled meanwhile
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class _Item:
    """One of a batch: as small as can be, they come by the thousand."""

    __slots__ = ("batched", "item", "size")

    def __init__(self, batched: Batched[Any, Any], item: Any, size: int) -> None:
        self.batched = batched
        self.item = item
        self.size = size


@dataclass(slots=True)
class _Run:
    """Neighbours of one kind, done together."""

    batched: Batched[Any, Any]
    items: list[Any]
    events: list[Event] = field(default_factory=list)
    outcomes: Sequence[Any] = ()

    def run(self, transaction: Transaction) -> None:
        self.outcomes = self.batched.write(transaction, self.items)

    def refuse(self, error: BaseException) -> None:
        refused = error if isinstance(error, Refused) else NodeFault()
        self.outcomes = [refused] * len(self.items)
        self.events = []

    def tell(self) -> None:
        self.batched.done(self.items, self.outcomes)


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
        self._jobs: deque[_Job | _Item] = deque()
        self._known: dict[LogId, Any] = {}
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
        self._queue(_Job(operation, future, size))
        return await future

    def put(self, batched: Batched[T, Any], item: T, size: int) -> None:
        """Queue one of many; `batched.done` is called when it is on disk.

        Raises:
            NodeBusy: too much is queued, or the node stops; nothing was done.
        """
        self._queue(_Item(batched, item, size))

    def _queue(self, job: _Job | _Item) -> None:
        with self._wake:
            if self._stopping:
                raise NodeBusy("It is stopping.")
            if len(self._jobs) >= QUEUE_MAX or self._bytes + job.size > QUEUE_BYTES:
                raise NodeBusy("Too many writes are waiting.", retry_after=1)
            self._jobs.append(job)
            self._bytes += job.size
            if len(self._jobs) == 1:  # else the writer has been woken already
                self._wake.notify()

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
                    runs = _runs(batch)
                    self._commit(connection, runs)
                    self._tell(runs)
                now = _data_version(connection)
                if now != version:
                    version = now
                    self._known.clear()
                    self._call(self._on_foreign_change)
        finally:
            connection.close()
            engine.dispose()

    def _take(self) -> list[_Job | _Item] | None:
        """The next batch; empty after an idle second, None at the end."""
        with self._wake:
            if not self._jobs and not self._stopping:
                self._wake.wait(self._idle)
            if not self._jobs:
                return None if self._stopping else []
            batch: list[_Job | _Item] = []
            while self._jobs and len(batch) < BATCH_MAX:
                job = self._jobs.popleft()
                self._bytes -= job.size
                batch.append(job)
            return batch

    def _commit(self, connection: Connection, runs: "list[_Job | _Run]") -> None:
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            raw = connection.connection.driver_connection
            assert isinstance(raw, sqlite3.Connection)
            for run in runs:
                self._run_one(connection, raw, run)
            connection.commit()
        except BaseException as error:  # whatever it was: nothing is on disk
            log.error("a batch of %d writes failed: %s", len(runs), _reason(error))
            self._known.clear()
            try:
                connection.rollback()
            except DBAPIError as second:
                log.error("the rollback failed too: %s", _reason(second))
            for run in runs:
                run.refuse(_refusal(error))

    def _run_one(
        self, connection: Connection, raw: sqlite3.Connection, run: "_Job | _Run"
    ) -> None:
        """Run one in a savepoint; raise only what ends the whole batch."""
        transaction = Transaction(connection, known=self._known)
        raw.execute("SAVEPOINT job")
        try:
            run.run(transaction)
        except Exception as error:
            if isinstance(error, DBAPIError) and _ends_batch(error):
                raise
            raw.execute("ROLLBACK TO job")
            raw.execute("RELEASE job")
            if isinstance(run, _Run):
                self._known.clear()
                if len(run.items) > 1:
                    self._one_by_one(connection, raw, run)
                    return
            run.refuse(_refusal(error) if isinstance(error, DBAPIError) else error)
        else:
            raw.execute("RELEASE job")
            run.events = transaction.events
        for name in transaction.changed:
            self._known.pop(name, None)

    def _one_by_one(
        self, connection: Connection, raw: sqlite3.Connection, run: "_Run"
    ) -> None:
        """A fault of one of many must not be the others'."""
        outcomes: list[Any] = []
        for item in run.items:
            single = _Run(run.batched, [item])
            self._run_one(connection, raw, single)
            outcomes += single.outcomes
            run.events += single.events
        run.outcomes = outcomes

    def _tell(self, runs: "list[_Job | _Run]") -> None:
        def tell() -> None:
            events = [event for run in runs for event in run.events]
            try:
                self._on_events(events)
            except Exception:  # they are hints; the writers must be told all the same
                log.exception("what was written could not be made known")
            for run in runs:
                run.tell()

        self._call(tell)

    def _call(self, function: Callable[[], None]) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:  # the loop is closed: nobody waits any more
            log.debug("the event loop ended before the writer")


def _runs(batch: "list[_Job | _Item]") -> "list[_Job | _Run]":
    """The batch in order, neighbours of one kind together."""
    runs: list[_Job | _Run] = []
    for batched, jobs in groupby(batch, lambda job: getattr(job, "batched", None)):
        if batched is None:
            runs += cast("list[_Job]", list(jobs))
        else:
            runs.append(_Run(batched, [cast("_Item", job).item for job in jobs]))
    return runs


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
