"""Fills a scratch node's database, which no process has open, with people and rooms.

The rows are those that the node writes for a registration (`accounts.account`), a
creation and a commit (`rooms.hub`, `rooms.room`) and messages, made in bulk: ten
million entries take a few minutes. What nothing here reads is left empty: account
logs, MLS groups, ratchet trees. A row's journal is of no use to a database that is
thrown away, so there is none until `close`.
"""

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

from node.bench.plan import (
    CREATED_MS,
    EPOCH,
    RoomPlan,
    Terminal,
    ciphertext,
    private_message,
)
from node.rooms.member import peer_reader
from node.storage.chain import MAILBOX, ROOM, event_key, log_number
from node.storage.engine import open_engine
from node.storage.tables import (
    AccountRow,
    CursorRow,
    DeviceRow,
    EntryRow,
    LogRow,
    MemberRow,
    RoomRow,
    RosterRow,
    Row,
    core,
)
from protocol.codec import encode
from protocol.log import (
    GENESIS,
    Entry,
    Kind,
    Submission,
    chain,
    event_id,
    mailbox_id,
)
from protocol.wire import CreateRoom

__all__ = ["Seeder"]

ROOMS_AT_ONCE = 500
"""Rooms whose rows are held before they are written."""

_YEAR = 365 * 24 * 3600


def _statement(model: type[Row], *columns: str) -> str:
    """An INSERT with a question mark for each of these columns, in their order."""
    table = core(model)
    names = ", ".join(f'"{table.c[name].name}"' for name in columns)
    marks = ", ".join("?" * len(columns))
    return f'INSERT INTO "{table.name}" ({names}) VALUES ({marks})'


_ACCOUNT = _statement(AccountRow, "name", "login_hash", "root", "created", "disabled")
_DEVICE = _statement(
    DeviceRow, "address", "name", "auth_key", "mls_key", "expires", "added", "revoked"
)
_LOG = _statement(
    LogRow, "id", "number", "kind", "owner", "party", "term", "head", "hash", "created"
)
_ENTRY = _statement(EntryRow, "log", "seq", "event", "previous", "hash", "data")
_CURSOR = _statement(CursorRow, "reader", "log", "seq")
_ROOM = _statement(
    RoomRow, "id", "creator", "version", "epoch", "group", "group_info", "tree_hash"
)
_ROSTER = _statement(RosterRow, "room", "device")
_MEMBER = _statement(MemberRow, "room", "reader", "since", "until", "node")


class Seeder:
    """Writes to one node's database; use it as a context."""

    def __init__(self, database: Path, node: str) -> None:
        """Open the database; `node` is whose it is."""
        self._path = database
        self._node = node
        self._now = int(time.time())
        self._known: set[str] = set()
        self._engine = open_engine(database)
        self._pooled = self._engine.raw_connection()
        raw = self._pooled.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        self._raw = raw
        for pragma in (
            "journal_mode = OFF",
            "synchronous = OFF",
            "cache_size = -400000",
        ):
            self._raw.execute(f"PRAGMA {pragma}").fetchall()

    def __enter__(self) -> "Seeder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._raw.execute("PRAGMA journal_mode = WAL").fetchall()
        finally:
            self._pooled.close()
            self._engine.dispose()
        if error is None:
            _flush(self._path)  # not while something is measured

    def rooms(self, plans: Iterable[RoomPlan]) -> None:
        """Write rooms and those in them; who is there already stays.

        Sorted by number, the entries grow at their end, which is what makes it quick.
        """
        waiting = sorted(plans, key=lambda plan: log_number(plan.id))
        for start in range(0, len(waiting), ROOMS_AT_ONCE):
            some = waiting[start : start + ROOMS_AT_ONCE]
            self._raw.execute("BEGIN")
            for plan in some:
                self._people(plan.members)
            self._members(some)
            self._entries(some)
            self._raw.execute("COMMIT")

    def _people(self, members: Iterable[Terminal]) -> None:
        new = [
            each
            for each in members
            if each.node == self._node and each.name not in self._known
        ]
        self._known.update(each.name for each in new)
        now, node = self._now, self._node
        boxes = [mailbox_id(each.account) for each in new]
        self._raw.executemany(
            _ACCOUNT, [(each.name, b"", each.auth_key, now, False) for each in new]
        )
        self._raw.executemany(
            _DEVICE,
            [
                (
                    *(each.address, each.name, each.auth_key, each.auth_key),
                    *(now + _YEAR, now, False),
                )
                for each in new
            ],
        )
        self._raw.executemany(
            _LOG,
            [
                (box, log_number(box), MAILBOX, node, each.account, 1, 0, GENESIS, now)
                for each, box in zip(new, boxes, strict=True)
            ],
        )
        self._raw.executemany(
            _CURSOR,
            [(each.address, box, 0) for each, box in zip(new, boxes, strict=True)],
        )

    def _members(self, plans: list[RoomPlan]) -> None:
        mine = [plan for plan in plans if plan.hub == self._node]
        self._raw.executemany(
            _ROOM,
            [
                (plan.id, plan.members[0].account, 2, EPOCH, b"", b"", bytes(32))
                for plan in mine
            ],
        )
        self._raw.executemany(
            _ROSTER,
            [(plan.id, each.address) for plan in mine for each in plan.members],
        )
        periods, cursors = [], []
        for plan in plans:
            for place, each in enumerate(plan.members):
                since = 1 if place == 0 else 2
                here = each.node == self._node
                if here or plan.hub == self._node:
                    periods.append((plan.id, each.account, since, None, each.node))
                if here:
                    cursors.append((each.address, plan.id, plan.head))
            if plan.hub == self._node:
                for node in {each.node for each in plan.members} - {self._node}:
                    periods.append((plan.id, peer_reader(node), 2, None, ""))
                    cursors.append((peer_reader(node), plan.id, plan.head))
        self._raw.executemany(_MEMBER, periods)
        self._raw.executemany(_CURSOR, cursors)

    def _entries(self, plans: list[RoomPlan]) -> None:
        logs = []
        for plan in plans:
            rows, digest, number = [], GENESIS, log_number(plan.id)
            for seq, (submission, added) in enumerate(_said(plan), 1):
                data = encode(Entry(seq, 1, CREATED_MS + seq, submission, added))
                previous, digest = digest, chain(digest, data)
                event = event_key(event_id(submission))
                rows.append((number, seq, event, previous, digest, data))
            self._raw.executemany(_ENTRY, rows)
            head = (1, plan.head, digest, self._now)
            logs.append((plan.id, number, ROOM, plan.hub, "", *head))
        self._raw.executemany(_LOG, logs)


def _said(plan: RoomPlan) -> Iterator[tuple[bytes, tuple[str, ...]]]:
    """A room's submissions, each with the accounts that it brought in."""
    room, first = plan.id, plan.members[0]
    others = tuple(each.account for each in plan.members[1:])
    for kind, body, added in (
        (Kind.CREATE, encode(CreateRoom(plan.seed, b"", b"")), (first.account,)),
        (Kind.COMMIT, b"", others),
    ):
        txn = bytes(15) + bytes([len(kind)])
        yield (
            encode(Submission(1, room, first.address, txn, kind.value, body)),
            added,
        )
    # The header is the same for all; only the ciphertext differs.
    whole = private_message(room, ciphertext(0))
    header = whole[: -len(ciphertext(0))]
    senders = [each.address for each in plan.members]
    for n in range(plan.messages):
        body = header + ciphertext(n * 31)
        txn = n.to_bytes(16, "big")
        sender = senders[n % len(senders)]
        yield encode(Submission(1, room, sender, txn, "message", body)), ()


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
