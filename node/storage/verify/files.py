"""What lies below the rows: SQLite's pages, and the files of backups and blobs."""

import sqlite3
from hashlib import blake2b
from pathlib import Path

from node.storage.verify.source import RESTORE, Database, Findings, Progress

__all__ = ["check_files", "check_pages"]

FILES = 200
"""Files whose rows are read at one time."""

PAGE_FAULTS = 100
"""Lines that SQLite may say about one table."""

_BLOCK = 1024 * 1024

_FILES: tuple[tuple[str, str, str, str], ...] = (
    (
        "segment",
        "vaults",
        "SELECT rowid, token, size, digest, printf('segment %d of the backup %s of %s',"
        " n, vault, name) FROM segment WHERE rowid > ? ORDER BY rowid LIMIT ?",
        "SELECT 1 FROM segment WHERE token = ?",
    ),
    (
        "blob",
        "blobs",
        "SELECT rowid, token, size, id, 'blob ' || id FROM blob WHERE rowid > ?"
        " ORDER BY rowid LIMIT ?",
        "SELECT 1 FROM blob WHERE token = ?",
    ),
)
"""Table, directory beside the database, its rows, and whether one is there still."""


def check_files(
    database: Database, found: Findings, progress: Progress, *, read: bool
) -> None:
    """Hold the files of backups and blobs against their rows.

    Args:
        database: the files lie beside it.
        found: where findings go.
        progress: told how many were looked at.
        read: hash their bytes as well; else only their sizes are compared.
    """
    tables = {row[0] for row in database.all("SELECT name FROM sqlite_master")}
    for table, directory, query, still in _FILES:
        if table not in tables:
            continue
        total = database.number(f"SELECT count(*) FROM {table}")
        after, done = 0, 0
        while rows := database.all(query, after, FILES):
            for _, token, size, digest, words in rows:
                path = database.path.parent / directory / token[:2] / token
                wrong = _look_at(path, size, digest if read else None)
                if wrong and database.all(still, token):  # not dropped meanwhile
                    found.add(
                        "file_wrong",
                        f"{directory}/{token[:2]}/{token}",
                        f"The file {path} of {words} {wrong}; restore it from a "
                        "backup of this directory.",
                    )
                done += 1
                found.report.files += 1
                found.report.bytes += size
                progress(directory, done, total)
            after = rows[-1][0]


def _look_at(path: Path, size: int, digest: bytes | str | None) -> str:
    """What is wrong with a file, as the end of a sentence; empty: nothing."""
    try:
        have = path.stat().st_size
        if have != size:
            return f"has {have} bytes instead of {size}"
        if digest is None:
            return ""
        hashed = blake2b(digest_size=32)
        with open(path, "rb") as file:
            while block := file.read(_BLOCK):
                hashed.update(block)
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    known = hashed.hexdigest() if isinstance(digest, str) else hashed.digest()
    return "" if known == digest else "holds other bytes than were stored"


# --- pages ------------------------------------------------------------------------


def check_pages(
    database: Database, found: Findings, progress: Progress, *, indexes: bool
) -> None:
    """Let SQLite check its pages, a table in each transaction.

    Args:
        database: the database.
        found: where findings go.
        progress: told how many tables were checked.
        indexes: hold the indexes against their tables too, which takes several
            times as long and one long read of the largest table.
    """
    pragma = "integrity_check" if indexes else "quick_check"
    try:
        names = database.all(
            "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
        )
    except sqlite3.DatabaseError as error:
        found.add("page_damaged", "", f"No table can be read ({error}); {RESTORE}.")
        return
    for place, (name,) in enumerate(names, 1):
        try:
            asked = database.all(f'PRAGMA {pragma}("{name}")')
            faults = [str(row[0]) for row in asked[:PAGE_FAULTS]]
        except sqlite3.DatabaseError as error:
            faults = [str(error)]
        for fault in faults:
            if fault != "ok":
                words = " ".join(fault.split())
                found.add(
                    "page_damaged",
                    name,
                    f"A page of the table {name} is damaged ({words}); {RESTORE}.",
                )
        progress("pages", place, len(names))
