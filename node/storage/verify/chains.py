"""Every entry of every log against the chain, its event id and its log's head."""

import sqlite3
import time
from typing import Any

from node.storage.chain import event_key, log_number
from node.storage.verify.source import RESTORE, Database, Findings, Progress
from protocol.codec import decode
from protocol.errors import Malformed
from protocol.log import GENESIS, Entry, LogId, chain, event_id

__all__ = ["check_entries"]

CHUNK_ROWS = 2000
CHUNK_BYTES = 8 * 1024 * 1024
"""Of one transaction: some ten milliseconds, and memory that any machine has."""

_ENTRIES = (
    "SELECT log, seq, event, previous, hash, data FROM entry"
    " WHERE (log, seq) > (?, ?) ORDER BY log, seq LIMIT ?"
)
_LOG = "SELECT id, kind, owner, term, head, hash FROM log WHERE number = ?"
_EMPTY = (
    "SELECT id, kind, owner, head FROM log WHERE id > ? AND NOT EXISTS"
    " (SELECT 1 FROM entry WHERE entry.log = log.number) ORDER BY id LIMIT ?"
)
_NEXT_LOG = "SELECT number FROM log WHERE number > ? ORDER BY number LIMIT 1"
_PERIODS = "SELECT since, until FROM member WHERE room = ?"


class _Log:
    """A log while its entries pass by."""

    __slots__ = ("hash", "id", "kind", "known", "number", "ours", "seq", "term")

    def __init__(self, number: int, row: tuple[Any, ...] | None, node: str) -> None:
        self.number = number
        self.known = row is not None
        unknown = (f"number {number}", "", "", 0)
        self.id, self.kind, owner, self.term = unknown if row is None else row[:4]
        self.ours = owner == node
        self.seq = 0
        self.hash = GENESIS


def check_entries(database: Database, found: Findings, progress: Progress) -> None:
    """Follow the chain of every log from its first entry to its head."""
    _Walk(database, found, progress).run()
    _check_empty(database, found)


class _Walk:
    """One walk over all entries, in the order of (log, seq)."""

    def __init__(self, database: Database, found: Findings, progress: Progress) -> None:
        self._database = database
        self._found = found
        self._progress = progress
        self._log: _Log | None = None
        self._total = database.number("SELECT sum(head) FROM log")
        self._limit = CHUNK_ROWS

    def run(self) -> None:
        """Walk to the end, or to where nothing can be read any more."""
        started = time.perf_counter()
        place: tuple[int, int] | None = (-1, 0)
        while place is not None:
            with self._database.moment() as connection:
                try:
                    rows = self._read(connection, place)
                except sqlite3.DatabaseError as error:
                    place = self._step_over(connection, place, error)
                    continue
                place = self._take(connection, rows)
            self._progress("entries", self._found.report.entries, self._total)
        seconds = max(time.perf_counter() - started, 1e-6)
        report = self._found.report
        report.entries_per_second = round(report.entries / seconds)

    def _read(
        self, connection: sqlite3.Connection, place: tuple[int, int]
    ) -> list[tuple[Any, ...]]:
        """The next entries behind a place; the last of them is empty at the end."""
        size, rows = 0, []
        for row in connection.execute(_ENTRIES, (*place, self._limit)):
            rows.append(row)
            size += len(row[5])
            if size > CHUNK_BYTES:
                return rows
        if len(rows) < self._limit:
            rows.append(())
        self._limit = min(CHUNK_ROWS, self._limit * 2)
        return rows

    def _take(
        self, connection: sqlite3.Connection, rows: list[tuple[Any, ...]]
    ) -> tuple[int, int] | None:
        """Check entries; where to go on, or None at the end."""
        for row in rows:
            log = self._log
            if not row:
                self._finish(connection)
                return None
            if log is None or log.number != row[0]:
                self._finish(connection)
                log = self._begin(connection, row)
            self._check(connection, log, row)
            self._found.report.entries += 1
        return rows[-1][0], rows[-1][1]

    def _begin(self, connection: sqlite3.Connection, row: tuple[Any, ...]) -> _Log:
        number, first, _, previous, _, _ = row
        found = connection.execute(_LOG, (number,)).fetchone()
        log = _Log(number, found, self._database.node)
        self._log = log
        self._found.report.logs += 1
        if not log.known:
            self._found.add(
                "log_missing",
                log.id,
                f"There are entries of log {log.id}, but the log itself is missing; "
                f"{RESTORE}.",
            )
        elif log_number(LogId(log.id)) != number:
            self._found.add(
                "number_wrong",
                log.id,
                f"The log {log.id} stands under a number that is not its own; "
                f"{RESTORE}.",
            )
        if first > 1:
            self._miss(connection, log, first)
            log.seq, log.hash = first - 1, previous
        return log

    def _check(
        self, connection: sqlite3.Connection, log: _Log, row: tuple[Any, ...]
    ) -> None:
        _, seq, event, previous, digest, data = row
        if seq != log.seq + 1 and not self._was_pruned(connection, log, seq):
            self._miss(connection, log, seq)
        elif previous != log.hash and seq == log.seq + 1:
            self._add(
                "chain_broken",
                log,
                seq,
                f"does not follow from entry {seq - 1}: one of the two was changed or "
                "exchanged",
            )
        log.seq, log.hash = seq, digest
        if chain(previous, data) != digest:
            self._add(
                "entry_changed",
                log,
                seq,
                "is not what was stored: its bytes or its hash were changed",
            )
        else:
            self._check_content(log, seq, event, data)

    def _check_content(self, log: _Log, seq: int, event: bytes, data: bytes) -> None:
        """An entry whose bytes are those that were stored: does its row fit them?"""
        try:
            entry = decode(data, Entry)
        except Malformed:
            # Another hub may write what it likes; that is kept under its own name.
            fits, placed = not log.ours and event == event_key(event_id(data)), True
        else:
            placed = not log.ours or (entry.seq == seq and entry.term <= log.term)
            fits = event == event_key(event_id(entry.submission)) or (
                not log.ours and event == event_key(event_id(data))
            )
        if not fits:
            self._add(
                "event_id_wrong",
                log,
                seq,
                "stands under an event id that is not its own, so a repeat of it "
                "would be stored twice",
            )
        if not placed:
            self._add("entry_misplaced", log, seq, "says that its place is another")

    def _finish(self, connection: sqlite3.Connection) -> None:
        """All entries of the log have passed: the head must name the last."""
        log, self._log = self._log, None
        if log is None or not log.known:
            return
        _, _, _, _, head, digest = connection.execute(_LOG, (log.number,)).fetchone()
        if head != log.seq:
            self._found.add(
                "head_wrong",
                log.id,
                f"The head of log {log.id} is said to be {head}, but its last entry is "
                f"{log.seq}; {RESTORE}.",
            )
        elif digest != log.hash:
            self._found.add(
                "head_wrong",
                log.id,
                f"The hash of log {log.id} is not the one of its last entry, {head}; "
                f"{RESTORE}.",
            )

    def _miss(self, connection: sqlite3.Connection, log: _Log, seq: int) -> None:
        """Entries up to `seq - 1` are not here: say so unless that may be."""
        first, last = log.seq + 1, seq - 1
        if log.kind == "outgoing" and first == 1:
            return  # old ones are dropped once the peer has them
        if not log.ours and log.known:
            # A copy holds what accounts of ours may read; an invitation may come
            # before the room, and then the entry with it is not here.
            periods = connection.execute(_PERIODS, (log.id,)).fetchall()
            if not any(
                since < last and (until is None or until >= first)
                for since, until in periods
            ):
                return
        which = f"entry {first}" if first == last else f"entries {first} to {last}"
        verb = "is" if first == last else "are"
        self._found.add(
            "entry_missing",
            f"{log.id} {first}",
            f"Of log {log.id}, {which} {verb} missing; {RESTORE}.",
        )

    def _was_pruned(self, connection: sqlite3.Connection, log: _Log, seq: int) -> bool:
        """Whether a running node dropped the entries before `seq` while we walked."""
        if log.kind != "outgoing":
            return False
        first = connection.execute(
            "SELECT min(seq) FROM entry WHERE log = ?", (log.number,)
        ).fetchone()[0]
        return bool(first == seq)

    def _add(self, code: str, log: _Log, seq: int, what: str) -> None:
        self._found.add(
            code, f"{log.id} {seq}", f"Entry {seq} of log {log.id} {what}; {RESTORE}."
        )

    def _step_over(
        self,
        connection: sqlite3.Connection,
        place: tuple[int, int],
        error: sqlite3.DatabaseError,
    ) -> tuple[int, int] | None:
        """A page cannot be read: close in on it, then go on behind its log."""
        if self._limit > 1:
            self._limit = max(1, self._limit // 8)
            return place
        self._log, self._limit = None, CHUNK_ROWS
        number, seq = place
        row = connection.execute(_LOG, (number,)).fetchone()
        name = row[0] if row is not None else "that comes first"
        self._found.add(
            "unreadable",
            f"{name} {seq + 1}",
            f"What stands behind entry {seq} of the log {name} cannot be read "
            f"({error}); {RESTORE}.",
        )
        later = connection.execute(_NEXT_LOG, (number,)).fetchone()
        return None if later is None else (later[0], 0)


def _check_empty(database: Database, found: Findings) -> None:
    """Logs without entries: new ones, pruned ones, and copies that are to come."""
    after = ""
    while rows := database.all(_EMPTY, after, CHUNK_ROWS):
        for name, kind, owner, head in rows:
            found.report.logs += 1
            if head and owner == database.node and kind != "outgoing":
                found.add(
                    "entry_missing",
                    f"{name} 1",
                    f"All {head} entries of log {name} are missing; {RESTORE}.",
                )
        after = rows[-1][0]
