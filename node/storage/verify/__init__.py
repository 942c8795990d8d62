"""`telex-node verify`: whether the database is still what the node once wrote.

It reads only, beside a running node or on a copy, in short transactions that go on
from a key, so the node's checkpoints are not held up. Each transaction is one moment
of the database: a head that moves meanwhile is no finding.
"""

import sqlite3
import time
from functools import partial
from pathlib import Path

from node.storage.verify.chains import check_entries
from node.storage.verify.files import check_files, check_pages
from node.storage.verify.rows import check_accounts, check_rows
from node.storage.verify.source import (
    RESTORE,
    Database,
    Finding,
    Findings,
    Progress,
    Report,
)

__all__ = ["Finding", "Report", "verify"]


def verify(
    path: Path,
    *,
    progress: Progress = lambda what, done, total: None,
    quick: bool = False,
    indexes: bool = True,
) -> Report:
    """Check a node's database, and the files beside it.

    Args:
        path: the database file; of a node that runs or does not, or a copy.
        progress: told what is checked, how many of it were, and of how many.
        quick: compare sizes of files and do not hash them.
        indexes: hold SQLite's indexes against their tables. It is one long read of
            each table, so leave it out where a node writes meanwhile.

    Raises:
        DatabaseProblem: it cannot be opened, or is of another version.
    """
    started = time.monotonic()
    report = Report(str(path), [])
    found, database = Findings(report), Database(path)
    passes = (
        partial(check_pages, indexes=indexes and not quick),
        check_entries,
        check_rows,
        check_accounts,
        partial(check_files, read=not quick),
    )
    try:
        for check in passes:
            try:
                check(database, found, progress)
            except sqlite3.DatabaseError as error:
                found.add(
                    "unreadable",
                    "",
                    f"Not all of the database can be read ({error}); {RESTORE}.",
                )
    finally:
        database.close()
    report.seconds = round(time.monotonic() - started, 3)
    return report
