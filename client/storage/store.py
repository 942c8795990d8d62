"""The encrypted database of a profile: one file, one owner, one thread.

    telex.db    SQLCipher, keyed by 32 random bytes
    key.json    those bytes, wrapped by the password, or the keyring too (`keyfile`)
    lock        held while a process has the profile open

One worker thread owns the connection, and everything that must be saved together
runs there as one function in one transaction:

    await store.run(lambda tx: ...)

The function either returns, and all it did is on disk, or raises, and nothing is.
MLS states live in that thread too (`groups`), so a message, the ratchet that it
advanced and the cursor that it moved can never be saved apart.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, TypeVar

import sqlcipher3

from client.errors import (
    Closed,
    ProfileDamaged,
    ProfileExists,
    ProfileInUse,
    ProfileTooNew,
    StorageFailed,
)
from client.event import Event
from client.model import DATABASE_FILE, KEY_FILE, MessageId
from client.storage import keyfile
from client.storage.keyfile import KEY_BYTES, Strength, read_key, wrap
from client.storage.schema import MIGRATIONS
from protocol.log import LogId

__all__ = ["Store", "Tx"]

LOCK_FILE = "lock"

CHECKPOINT_DELAY = 60.0
"""Seconds that a message key which was used may stand in the write-ahead log: emptying
it with each message would double what a message costs."""

_DISK_CODES = (
    sqlcipher3.SQLITE_FULL,
    sqlcipher3.SQLITE_IOERR,
    sqlcipher3.SQLITE_READONLY,
    sqlcipher3.SQLITE_CANTOPEN,
)
"""SQLite's primary result codes that are the disk's doing, not the file's."""

T = TypeVar("T")
Row = tuple[Any, ...]
_Done = tuple[T, Sequence[Event], Sequence[Callable[[], object]]]

logger = logging.getLogger(__name__)


class Tx:
    """One transaction, on the store's thread; do not keep it."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.rooms: set[LogId] = set()
        """Rooms whose row changed: an event will say so."""
        self.messages: dict[MessageId, None] = {}
        """Messages that are new or changed, in order."""
        self.events: list[Event] = []
        """Other events, published if the transaction is committed."""
        self.scrub = False
        """Whether something was deleted that must not stay in the write-ahead log."""
        self.undo: list[Callable[[], object]] = []
        """Run if the transaction is rolled back: memory must not be ahead of disk."""
        self.after: list[Callable[[], object]] = []
        """Run on the event loop once the transaction is committed."""

    def execute(self, sql: str, *values: object) -> int:
        """Run one statement; the number of rows it changed."""
        count: int = self._connection.execute(sql, values).rowcount
        return count

    def insert(self, sql: str, *values: object) -> int:
        """Run one INSERT; the row's number."""
        row: int = self._connection.execute(sql, values).lastrowid
        return row

    def one(self, sql: str, *values: object) -> Row | None:
        """The first row, if there is one."""
        row: Row | None = self._connection.execute(sql, values).fetchone()
        return row

    def all(self, sql: str, *values: object) -> Sequence[Row]:
        """All rows."""
        rows: Sequence[Row] = self._connection.execute(sql, values).fetchall()
        return rows

    @contextlib.contextmanager
    def attempt(self) -> Any:
        """A part that can fail alone: what it changed on disk is taken back."""
        undo, self.undo = self.undo, []
        self.execute("SAVEPOINT attempt")
        try:
            yield
        except BaseException:
            self.execute("ROLLBACK TO attempt")
            self.execute("RELEASE attempt")
            for action in self.undo:
                action()
            self.undo = undo
            raise
        self.execute("RELEASE attempt")
        self.undo = undo + self.undo


class Store:
    """A profile's database, open; make it with `create` or `open`."""

    def __init__(
        self, directory: Path, lock: IO[str], connection: Any, key: bytes
    ) -> None:
        self._directory = directory
        self._key = key
        self._lock: IO[str] | None = lock
        self._connection = connection
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="telex-store")
        self._timer: asyncio.TimerHandle | None = None
        self.before_commit: Callable[[Tx], Sequence[Event]] = lambda tx: tx.events
        """Turns what a transaction changed into events, while it can still read."""
        self.publish: Callable[[Sequence[Event]], None] = lambda events: None
        """Gets the events of each committed transaction, on the event loop."""

    @property
    def directory(self) -> Path:
        """Where the profile lies."""
        return self._directory

    @classmethod
    def create(
        cls, directory: Path, password: str, strength: Strength
    ) -> "tuple[Store, Callable[[], None]]":
        """Make an empty database (blocking).

        Returns:
            The store, and a function (blocking too) that writes the key file: the
            profile exists only from then on. A database without a key file is what
            an unfinished registration left, and is overwritten.

        Raises:
            ProfileExists, ProfileInUse.
            StorageFailed: the disk is full or failing.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        lock = _take_lock(directory)
        try:
            if (directory / KEY_FILE).exists():
                raise ProfileExists(
                    f"There already is an account in {directory}: open it, or choose "
                    "another folder."
                )
            _remove_database(directory)
            key = os.urandom(KEY_BYTES)
            connection = _connect(directory / DATABASE_FILE, key)
        except (ProfileDamaged, StorageFailed) as error:
            # What is new cannot be damaged: the disk did not take it.
            lock.close()
            raise StorageFailed(
                f"The database in {directory} cannot be made: check the disk and its "
                "free space. Nothing was set up here."
            ) from error
        except BaseException:
            lock.close()
            raise
        store = cls(directory, lock, connection, key)
        return store, lambda: wrap(directory / KEY_FILE, key, password, strength)

    @classmethod
    def open(cls, directory: Path, password: str | None) -> "Store":
        """Open the database that is there (blocking: about half a second).

        Args:
            password: None lets the system's keyring open it.

        Raises:
            NoProfile, WrongPassword, ProfileInUse, ProfileDamaged, ProfileTooNew,
            KeyringFailed.
            StorageFailed: the disk is full, read-only or failing.
        """
        key_file = directory / KEY_FILE
        if not key_file.exists():
            read_key(key_file, password)  # raises NoProfile and makes no lock file
        lock = _take_lock(directory)
        try:
            key = read_key(key_file, password)
            path = directory / DATABASE_FILE
            if not path.exists():
                raise ProfileDamaged(f"The database {path} is missing.")
            connection = _connect(path, key)
        except BaseException:
            lock.close()
            raise
        return cls(directory, lock, connection, key)

    async def run(self, function: Callable[[Tx], T]) -> T:
        """Run a function in one transaction on the store's thread.

        Once started it is finished even if the caller is cancelled.

        Raises:
            Closed: the store was closed.
            StorageFailed: the disk is full or failing.
            Whatever the function raises.
        """
        loop = asyncio.get_running_loop()

        def work() -> T:
            result, events, after = self._wrapped(function)
            if events:
                loop.call_soon_threadsafe(self.publish, events)
            for action in after:
                loop.call_soon_threadsafe(action)
            return result

        if self._lock is None:
            raise Closed
        if self._timer is None:
            self._timer = loop.call_later(CHECKPOINT_DELAY, self._tidy)
        return await loop.run_in_executor(self._worker, work)

    def _transact(self, function: Callable[[Tx], T]) -> "_Done[T]":
        if self._connection is None:
            raise Closed
        tx = Tx(self._connection)
        tx.execute("BEGIN")
        try:
            result = function(tx)
            events = self.before_commit(tx)
            tx.execute("COMMIT")
        except BaseException:
            for action in tx.undo:
                action()
            with contextlib.suppress(sqlcipher3.Error):
                tx.execute("ROLLBACK")
            raise
        if tx.scrub:
            self._scrub()
        return result, events, tx.after

    def _scrub(self) -> None:
        """Leave no older copy of what was deleted (its pages are cleared already)."""
        self._checkpoint()
        for copy in self._directory.glob(f"{DATABASE_FILE}.v*"):
            with contextlib.suppress(OSError):
                copy.unlink(missing_ok=True)

    def _checkpoint(self) -> None:
        """Empty the write-ahead log: old keys and texts stand in it."""
        if self._connection is not None:
            with contextlib.suppress(sqlcipher3.Error):
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _tidy(self) -> None:
        """On the event loop, a while after something was written."""
        self._timer = None
        if self._lock is not None:
            loop = asyncio.get_running_loop()
            loop.run_in_executor(self._worker, self._checkpoint)

    def _wrapped(self, function: Callable[[Tx], T]) -> "_Done[T]":
        try:
            return self._transact(function)
        except sqlcipher3.Error as error:
            logger.error("the database failed: %s", error)
            raise StorageFailed(
                f"The database in {self._directory} cannot be used ({error}): check "
                "the disk and its free space. Nothing was changed."
            ) from error

    async def close(self) -> None:
        """Wait for what is running, close the file and give up the lock."""
        lock, self._lock = self._lock, None
        if lock is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.get_running_loop().run_in_executor(
            self._worker, self._close_connection
        )
        self._worker.shutdown(wait=True)
        lock.close()

    def _close_connection(self) -> None:
        self._checkpoint()
        connection, self._connection = self._connection, None
        connection.close()

    async def scrub(self) -> None:
        """Let nothing that was deleted stay on the disk; the same as `Tx.scrub`.

        SQLite overwrites what is deleted in the database (`secure_delete`); this
        empties the write-ahead log, in which it still stands, and removes the copies
        from before migrations: a few milliseconds on the store's thread.

        Raises:
            Closed: the store was closed.
        """

        def mark(tx: Tx) -> None:
            tx.scrub = True

        await self.run(mark)

    async def change_password(self, old: str | None, new: str) -> None:
        """Let another password open this profile; all or nothing.

        Args:
            old: the one so far; None asks the system's keyring.

        Raises:
            WrongPassword, KeyringFailed: the old one does not open it.
        """
        await asyncio.to_thread(
            keyfile.change_password,
            self._directory / KEY_FILE,
            old,
            new,
            keyfile.STRENGTH,
        )

    async def use_keyring(self, *, on: bool) -> None:
        """Let the system's keyring open this profile too, or no more.

        Raises:
            KeyringFailed: there is none, or it refused; nothing changed.
        """
        await asyncio.to_thread(
            keyfile.use_keyring, self._directory / KEY_FILE, self._key, on=on
        )

    async def destroy(self) -> None:
        """Close and remove a database that was never finished."""
        await self.close()
        _remove_database(self._directory)


def _take_lock(directory: Path) -> IO[str]:
    try:
        descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _no_disk(directory, error) from error
    lock = os.fdopen(descriptor, "r+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise ProfileInUse(
            f"The account in {directory} is open in another Telex: close that one, "
            "or use another profile."
        ) from None
    return lock


def _remove_database(directory: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        (directory / (DATABASE_FILE + suffix)).unlink(missing_ok=True)


def _connect(path: Path, key: bytes) -> Any:
    # SQLite gives its WAL and SHM files the mode of the database.
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise _no_disk(path.parent, error) from error
    connection = sqlcipher3.connect(
        str(path), isolation_level=None, check_same_thread=False, cached_statements=256
    )
    try:
        # First of all, else a wrong key is reported on stderr, over the screen.
        connection.execute("PRAGMA cipher_log_level = NONE")
        connection.execute(f"PRAGMA key = \"x'{key.hex()}'\"")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA temp_store = MEMORY")
        _migrate(connection, path)
    except OSError as error:
        connection.close()
        raise _no_disk(path.parent, error) from error
    except sqlcipher3.DatabaseError as error:
        connection.close()
        if error.sqlite_errorcode & 0xFF in _DISK_CODES:
            raise _no_disk(path.parent, error) from error
        raise ProfileDamaged(
            f"The database {path} is damaged, or belongs to another key file: put it "
            "back from a backup, or log in anew in another folder."
        ) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _no_disk(directory: Path, error: Exception) -> StorageFailed:
    logger.error("the profile cannot be opened for writing: %s", error)
    return StorageFailed(
        f"The account in {directory} cannot be opened ({_reason(error)}): the disk is "
        "full, read-only or failing; free some space, or make it writable."
    )


def _reason(error: Exception) -> str:
    """Without the path, which an OSError repeats."""
    return (error.strerror if isinstance(error, OSError) else "") or str(error)


def _migrate(connection: Any, path: Path) -> None:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise ProfileTooNew(
            f"The database {path} was written by a newer Telex (version {version}, "
            f"this one knows {len(MIGRATIONS)}): update Telex."
        )
    if 0 < version < len(MIGRATIONS):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copy2(path, path.with_name(f"{path.name}.v{version}"))
    for number in range(version, len(MIGRATIONS)):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in _statements(MIGRATIONS[number]):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number + 1}")
            connection.execute("COMMIT")
        except BaseException:
            # A full disk may have rolled it back already.
            with contextlib.suppress(sqlcipher3.Error):
                connection.execute("ROLLBACK")
            raise
        logger.info("database migrated to version %d", number + 1)


def _statements(script: str) -> Sequence[str]:
    """The statements of a script (`executescript` would commit before each)."""
    found: list[str] = []
    waiting = ""
    for line in script.splitlines():
        waiting += line.partition("--")[0] + "\n"
        # A trigger holds statements of its own, and ends with its END.
        if sqlcipher3.complete_statement(waiting):
            found.append(waiting)
            waiting = ""
    return [*found, waiting] if waiting.strip() else found
