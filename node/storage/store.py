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

Where the disk or the database fails, everything that was to be written is refused
with what is wrong (`health`), and the writer tries again: with the next write, and
each second, on a new connection where the old one may be spoilt.
"""

import asyncio
import contextlib
import logging
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from node.event import Event
from node.storage.batch import (
    Batched,
    Item,
    Job,
    Run,
    Transaction,
    join,
    may_divide,
    pieces_of,
    runs_of,
)
from node.storage.engine import BUSY_TIMEOUT, open_engine
from node.storage.health import (
    WELL,
    Health,
    diagnose,
    error_code,
    has_room,
    reason,
    refusal,
)
from protocol.errors import NodeBusy
from protocol.log import LogId

__all__ = ["Batched", "Store", "Transaction"]

T = TypeVar("T")

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
"""Seconds between looks for another process's writes when nothing happens, and
between tries to write while the storage fails."""

BUSY_RETRY = 500
"""Milliseconds to wait for a lock that was not given within `BUSY_TIMEOUT`: who
writes meanwhile is told soon."""


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
        self._jobs: deque[Job | Item] = deque()
        self._known: dict[LogId, Any] = {}
        self._bytes = 0
        self._fresh: list[Job | Item] = []
        self._fresh_bytes = 0
        self._wake = threading.Condition()
        self._stopping = True
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._read_engine: Engine | None = None
        self._local = threading.local()
        self._open: list[Connection] = []
        self._writer: Connection | None = None
        self._version = 0
        self._health = WELL
        self._damage = WELL

    @property
    def health(self) -> Health:
        """How the storage is: what is wrong, and since when."""
        return self._health

    @property
    def waiting(self) -> tuple[int, int]:
        """How many writes wait, and their bytes."""
        count = len(self._jobs) + len(self._fresh)
        return count, self._bytes + self._fresh_bytes

    def journal_bytes(self) -> int:
        """The size of the write-ahead log."""
        try:
            return os.path.getsize(f"{self._path}-wal")
        except OSError:
            return 0

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
        self._hand_over()
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
        try:
            if connection is None:
                assert self._read_engine is not None
                connection = self._read_engine.connect()
                self._local.connection = connection
                self._open.append(connection)
            try:
                connection.exec_driver_sql("BEGIN")
                return query(connection)
            finally:
                connection.rollback()
        except DBAPIError as error:
            health = self._note_damage(error)
            if connection is not None and health is not None:
                self._local.connection = None
                self._open.remove(connection)
                connection.close()
            raise refusal(error, health) from error

    # --- writing ---------------------------------------------------------------

    async def write(
        self, operation: Callable[[Transaction], T], *, size: int = 256
    ) -> T:
        """Run a function in the writer's next transaction.

        It is in the queue before the first suspension, so writes happen in the order
        in which they are called.

        Args:
            operation: runs in the writer's thread; it must be short, must not wait,
                may run on a connection that later rolls back, and then once more.
            size: the bytes that it holds, for the queue's limit.

        Returns:
            What the function returned, once it is on disk.

        Raises:
            NodeBusy: too much is queued, or the node stops; nothing was done.
            StorageFull, StorageFailed: the storage fails; nothing was stored.
            Exception: what the function raised; nothing of it was stored.
        """
        assert self._loop is not None
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue(Job(operation, future, size))
        return await future

    def put(self, batched: Batched[T, Any], item: T, size: int) -> None:
        """Queue one of many; `batched.done` is called when it is on disk.

        Raises:
            NodeBusy: too much is queued, or the node stops; nothing was done.
        """
        self._queue(Item(batched, item, size))

    def _queue(self, job: Job | Item) -> None:
        if self._stopping or self._loop is None:
            raise NodeBusy("It is stopping.")
        count, size = self.waiting
        if count >= QUEUE_MAX or size + job.size > QUEUE_BYTES:
            raise NodeBusy("Too many writes are waiting.", retry_after=1)
        if not self._fresh:
            self._loop.call_soon(self._hand_over)
        self._fresh.append(job)
        self._fresh_bytes += job.size

    def _hand_over(self) -> None:
        """Give the writer what came since the event loop went round: one lock, and
        one waking, for many."""
        with self._wake:
            self._jobs += self._fresh
            self._bytes += self._fresh_bytes
            self._wake.notify()
        self._fresh.clear()
        self._fresh_bytes = 0

    def _run(self) -> None:
        engine = open_engine(self._path)
        try:
            self._commit(self._connect(engine), [], trial=True)
        except BaseException as error:  # the node runs, and tries again
            self._fail([], error)
        try:
            while (batch := self._take()) is not None:
                runs = runs_of(batch)
                if runs or self._health is not self._damage:
                    self._write(engine, runs)
                if runs:
                    self._tell(runs)
                try:
                    self._look_for_others(self._connect(engine))
                except (DBAPIError, sqlite3.Error) as error:
                    self._fail([], error)
        finally:
            self._disconnect()
            engine.dispose()

    def _write(self, engine: Engine, runs: "list[Job | Run]") -> None:
        """Do them in one transaction, and refuse them if it fails."""
        try:
            self._commit(self._connect(engine), runs)
        except BaseException as error:  # whatever it was: nothing is on disk
            if error_code(error) not in _DAMAGE or not may_divide(runs):
                self._fail(runs, error)
                return
            # Who touches a damaged page ends the transaction of all: find them.
            self._fail([], error)
            pieces = pieces_of(runs)
            half = len(pieces) // 2
            self._write(engine, pieces[:half])
            self._write(engine, pieces[half:])
            join(runs, pieces)

    def _connect(self, engine: Engine) -> Connection:
        if self._writer is None:
            self._known.clear()
            self._writer = engine.connect()
            self._version = _data_version(self._writer)
        return self._writer

    def _disconnect(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with contextlib.suppress(DBAPIError):
                writer.close()

    def _look_for_others(self, connection: Connection) -> None:
        """Tell the node if another process wrote."""
        now = _data_version(connection)
        if now != self._version:
            self._version = now
            self._known.clear()
            self._call(self._on_foreign_change)

    def _take(self) -> list[Job | Item] | None:
        """The next batch; empty after an idle second, None at the end."""
        with self._wake:
            if not self._jobs and not self._stopping:
                self._wake.wait(self._idle)
            if not self._jobs:
                return None if self._stopping else []
            batch: list[Job | Item] = []
            while self._jobs and len(batch) < BATCH_MAX:
                job = self._jobs.popleft()
                self._bytes -= job.size
                batch.append(job)
            return batch

    def _commit(
        self, connection: Connection, runs: "list[Job | Run]", trial: bool = False
    ) -> None:
        ailing = self._health is not self._damage
        if self._health.state == "locked":
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {BUSY_RETRY}")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        # Before anything is remembered: from here on nobody else writes.
        self._look_for_others(connection)
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        if trial or ailing:
            raw.execute(_TRIAL)
        for run in runs:
            self._run_one(connection, raw, run)
        connection.commit()
        if ailing and (self._health.state != "full" or has_room(self._path)):
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {BUSY_TIMEOUT}")
            log.warning("the storage works again")
            self._health = self._damage

    def _fail(self, runs: "list[Job | Run]", error: BaseException) -> None:
        """Refuse what was not written, and make ready to try again."""
        health = self._note_damage(error)
        if health is None:
            log.error("a batch of %d writes failed: %s", len(runs), reason(error))
        elif health.state != self._health.state:
            self._health = health
            log.error("%s (%s)", health.sentence(), health.reason)
        self._known.clear()
        try:
            if self._writer is not None:
                self._writer.rollback()
        except DBAPIError as second:
            log.error("the rollback failed too: %s", reason(second))
            self._disconnect()
        if health is not None and health.state not in ("full", "locked", "crowded"):
            self._disconnect()  # SQLite may hold on to what it failed with
        for run in runs:
            run.refuse(refusal(error, health))

    def _note_damage(self, error: BaseException) -> Health | None:
        """What an error says of the storage; damage is kept until the node ends."""
        health = diagnose(error, self._path)
        if health is not None and health.state == "damaged" and self._damage.ok:
            log.error("%s (%s)", health.sentence(), health.reason)
            if self._health is self._damage:
                self._health = health
            self._damage = health
        return health

    def _run_one(
        self, connection: Connection, raw: sqlite3.Connection, run: "Job | Run"
    ) -> None:
        """Run one in a savepoint; raise only what ends the whole batch."""
        transaction = Transaction(connection, known=self._known)
        raw.execute("SAVEPOINT job")
        try:
            run.run(transaction)
        except Exception as error:
            if isinstance(error, DBAPIError) and _ends_batch(error, raw):
                raise
            raw.execute("ROLLBACK TO job")
            raw.execute("RELEASE job")
            if transaction.relied:
                self._known.clear()
            if isinstance(run, Run) and len(run.items) > 1:
                self._one_by_one(connection, raw, run)
                return
            if isinstance(error, DBAPIError):
                error = refusal(error, self._note_damage(error))
            run.refuse(error)
        else:
            raw.execute("RELEASE job")
            run.events = transaction.events
        for name in transaction.changed:
            self._known.pop(name, None)

    def _one_by_one(
        self, connection: Connection, raw: sqlite3.Connection, run: "Run"
    ) -> None:
        """A fault of one of many must not be the others'."""
        outcomes: list[Any] = []
        for item in run.items:
            single = Run(run.batched, [item])
            self._run_one(connection, raw, single)
            outcomes += single.outcomes
            run.events += single.events
        run.outcomes = outcomes

    def _tell(self, runs: "list[Job | Run]") -> None:
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


_TRIAL = "UPDATE setting SET value = value WHERE key = 'name'"
"""Writes a page, and changes nothing."""

_BATCH_ENDING = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
    }
)

_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def _ends_batch(error: DBAPIError, raw: sqlite3.Connection) -> bool:
    """Whether nothing more can be written in this transaction."""
    return error_code(error) in _BATCH_ENDING or not raw.in_transaction


def _data_version(connection: Connection) -> int:
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    return int(raw.execute("PRAGMA data_version").fetchone()[0])
