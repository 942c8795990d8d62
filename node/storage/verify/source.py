"""A database that is looked at, and what was found in it."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from node.storage.engine import BUSY_TIMEOUT
from node.storage.schema import CURRENT, DatabaseProblem

__all__ = ["RESTORE", "Database", "Finding", "Findings", "Progress", "Report"]

FINDINGS_MAX = 1000
"""Findings that are told; who has more has lost the disk, and needs no list."""

RESTORE = "restore the newest backup that `telex-node verify` finds in order"

Progress = Callable[[str, int, int], None]
"""Told what is checked, how many of it were, and about how many there are."""


class Finding(msgspec.Struct, frozen=True):
    """Something that is not as it should be."""

    code: str
    where: str
    """The log, account or file; a log's entry as `LOG 17`."""
    text: str
    """One sentence: what is wrong, and what to do."""


class Report(msgspec.Struct):
    """What `verify` found, and how much it looked at."""

    database: str
    findings: list[Finding]
    more: int = 0
    """Findings beyond those that are listed."""
    logs: int = 0
    entries: int = 0
    accounts: int = 0
    files: int = 0
    bytes: int = 0
    """Of those files."""
    seconds: float = 0.0
    entries_per_second: int = 0


class Findings:
    """Collects findings, up to a bound."""

    def __init__(self, report: Report) -> None:
        self.report = report

    def add(self, code: str, where: str, text: str) -> None:
        """Note one; `text` is a sentence."""
        if len(self.report.findings) < FINDINGS_MAX:
            self.report.findings.append(Finding(code, where, text))
        else:
            self.report.more += 1


class Database:
    """A node's database, opened to read."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            DatabaseProblem: it is missing, of another version, or cannot be read.
        """
        if not path.is_file():
            raise DatabaseProblem(f"There is no database at {path}.")
        self.path = path
        try:
            self._connection, version = self._open()
            name = self._value("SELECT value FROM setting WHERE key = 'name'")
            unused = name is None and self._value("SELECT id FROM log LIMIT 1") is None
        except (sqlite3.Error, TypeError) as error:
            raise DatabaseProblem(
                f"The database {path} cannot be read ({error}); {RESTORE}."
            ) from error
        if version != CURRENT:
            raise DatabaseProblem(
                f"The database {path} is of schema {version}, and this version of "
                f"Telex verifies {CURRENT}: use the version of Telex that wrote it."
            )
        if name is None:
            self.close()
            raise DatabaseProblem(
                f"The database {path} is new and holds nothing to verify: start the "
                "node once with `telex-node run`."
                if unused
                else f"The database {path} has lost the name of its node; {RESTORE}."
            )
        self.node = str(name)

    def _value(self, query: str) -> object:
        """The one value that is asked for; None if there is none."""
        row = self._connection.execute(query).fetchone()
        return None if row is None else row[0]

    def _open(self) -> tuple[sqlite3.Connection, str]:
        try:
            return self._connect("mode=ro")
        except sqlite3.OperationalError:
            # A copy on a disk that cannot be written: SQLite makes no index of the
            # write-ahead log there, and needs none if there is no such log.
            journal = self.path.with_name(self.path.name + "-wal")
            if journal.exists() and journal.stat().st_size:
                raise
            return self._connect("mode=ro&immutable=1")

    def _connect(self, options: str) -> tuple[sqlite3.Connection, str]:
        connection = sqlite3.connect(
            f"file:{quote(str(self.path.absolute()))}?{options}",
            uri=True,
            isolation_level=None,
            timeout=BUSY_TIMEOUT / 1000,
            check_same_thread=False,
        )
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return connection, str(row[0])

    def close(self) -> None:
        """Close it."""
        self._connection.close()

    @contextmanager
    def moment(self) -> Iterator[sqlite3.Connection]:
        """One moment of the database; keep it short."""
        self._connection.execute("BEGIN")
        try:
            yield self._connection
        finally:
            self._connection.execute("ROLLBACK")

    def all(self, query: str, *values: object) -> list[Any]:
        """The rows of a query."""
        with self.moment() as connection:
            return connection.execute(query, values).fetchall()

    def number(self, query: str, *values: object) -> int:
        """The one number that a query gives; 0 for none."""
        return int(self.all(query, *values)[0][0] or 0)
