"""Writing an archive: the database's rows, page by page, into sealed segments.

Each page is one short transaction of the store, so the engine goes on meanwhile. What
changes behind the place that was reached is noted by the database itself (triggers on
`archive_change`), and a backup takes it in at its end.

Not in an archive: keys of MLS and of this device, what was not sent yet, the self
group, and in a backup what vanishes within a day.
"""

import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from client.account.me import get_meta
from client.archive.job import Job, Kind, Part, Where, load_job
from client.archive.record import (
    TEXT_BYTES,
    ContactRecord,
    MessageRecord,
    Records,
    RoomRecord,
)
from client.archive.segment import Head, seal_segment
from client.content.own import Entry
from client.storage.store import Store, Tx
from protocol.codec import decode, encode

__all__ = ["Sink", "write_archive"]

Sink = Callable[[int, bytes], Awaitable[object]]
"""Stores segment n; given the same bytes again it changes nothing."""

Progress = Callable[[int, int], object]
"""Gets how many messages are written, and how many there are."""

SEGMENT_BYTES = 256 * 1024
"""Bytes of records in a segment: a second on a slow line, and a fourth of what a
vault takes, so that one more of the largest record fits in."""

PAGE = 300
"""Rows read in one transaction: two milliseconds."""

CONTACT_BYTES = 200 * 1024
"""Bytes of an account log in an archive; of a longer one there is only the root."""

LIFE_MIN = 24 * 3600
"""Seconds: what vanishes earlier is in no backup, since a backup gets rid of what was
deleted within a day."""

_MESSAGE = (
    "SELECT m.id, m.room, m.position, m.kind, m.device, m.time, m.text, m.reply_to,"
    " m.own, m.code, e.seconds, e.due FROM message m"
    " LEFT JOIN expiry e ON e.message = m.id"
)

_ROOM = (
    "SELECT id, hub, direct, title, status, note, read, activity, disappearing"
    " FROM room WHERE purpose = ''"
)
_CONTACT = "SELECT account, root, entries, other_root, verified_root FROM contact"
_REGISTER = "SELECT register, key, value, time FROM own_register"


class Draft:
    """The records of the segment that is being filled."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.size = 0
        self.rooms: list[RoomRecord] = []
        self.contacts: list[ContactRecord] = []
        self.registers: list[Entry] = []
        self.messages: list[MessageRecord] = []
        self.gone: list[bytes] = []
        self._names: dict[str, int] = {}
        self._rooms: dict[str, int] = {}

    @property
    def full(self) -> bool:
        """Whether no more should go in."""
        return self.size >= SEGMENT_BYTES

    def records(self, device: str, now: int, whole: bool, total: int) -> Records:
        """What is in it, to be sealed."""
        return Records(
            now,
            device,
            whole,
            self.rooms,
            self.contacts,
            list(self._names),
            list(self._rooms),
            self.messages,
            self.gone,
            self.registers,
            max(0, total - len(self.messages)),
        )

    def add_room(self, tx: Tx, row: Sequence[Any]) -> None:
        """Add a row of `room`."""
        receipts = tx.all(
            "SELECT account, delivered, read FROM receipt WHERE room = ? LIMIT 1000",
            row[0],
        )
        id, hub, direct, title, status, note, read, activity, disappearing = row
        self.rooms.append(
            RoomRecord(
                id,
                hub,
                bool(direct),
                title,
                status,
                note,
                read,
                activity,
                [(a, d, r) for a, d, r in receipts],
                disappearing,
            )
        )
        self.size += 200 + len(title) + len(note) + 60 * len(receipts)

    def add_contact(self, row: Sequence[Any]) -> None:
        """Add a row of `contact`."""
        account, root, entries, other, verified = row
        log = (
            [] if len(entries) > CONTACT_BYTES else decode(bytes(entries), list[bytes])
        )
        self.contacts.append(
            ContactRecord(account, bytes(root), log, _bytes(other), _bytes(verified))
        )
        self.size += 200 + len(entries)

    def add_register(self, row: Sequence[Any]) -> None:
        """Add a row of `own_register`."""
        register, key, value, time = row
        self.registers.append(Entry(register, key, bytes(value), time))
        self.size += 60 + len(value) + len(key)

    def add_message(self, tx: Tx, row: Sequence[Any]) -> None:
        """Add a row of `_MESSAGE`, and its room if this segment does not have it."""
        id, room, position, kind, device, time, text, reply_to, own, code = row[:10]
        seconds, due = row[10] or 0, row[11] or 0
        if self.kind is Kind.BACKUP and 0 < seconds < LIFE_MIN:
            return
        if room not in self._rooms:
            found = tx.one(f"{_ROOM} AND id = ?", room)
            if found is None:
                return  # of the self group
            self.add_room(tx, found)
        if len(text) > TEXT_BYTES // 4:
            # Only a notice can be this long; none of ours is read beyond it.
            text = text.encode("utf-8", "surrogatepass")[:TEXT_BYTES].decode(
                "utf-8", "ignore"
            )
        self.messages.append(
            MessageRecord(
                bytes.fromhex(id),
                self._rooms.setdefault(room, len(self._rooms)),
                position,
                self._names.setdefault(device, len(self._names)),
                time,
                text,
                bool(own),
                None if reply_to is None else bytes.fromhex(reply_to),
                None if kind == "text" else code,
                seconds,
                due,
            )
        )
        self.size += 60 + len(text.encode("utf-8", "surrogatepass"))

    def add_gone(self, id: str) -> None:
        """Add the id of a message that was deleted."""
        self.gone.append(bytes.fromhex(id))
        self.size += 20


async def write_archive(
    store: Store,
    archive: str,
    sink: Sink,
    progress: Progress = lambda done, total: None,
) -> Head:
    """Write an archive that was noted by `begin`, from where it stands to its end.

    Can be called again after it failed or the process was killed: it goes on with the
    segment that the sink did not take. A transfer ends; a backup is complete for now,
    and the next call writes what changed since.

    Args:
        archive: its id; `job.begin` has noted kind and key.
        sink: `await sink(n, segment)` stores segment n (1, 2, ...) for good, at most
            `limits.SEGMENT_MAX` bytes; the same n comes again with the same bytes.
        progress: gets messages written and in all, now and then.

    Returns:
        The head of the archive. It is secret to nobody, and who knows it finds out
        whether an older archive is shown.

    Raises:
        What the sink raises. Nothing is lost by that.
        KeyError: no such archive was noted, or it was forgotten meanwhile.
    """
    total = await _count(store)
    while True:
        job = await _load(store, archive)
        progress(job.messages, max(job.messages, total))
        if job.segment is not None:
            await sink(job.head.count, job.segment)
            await store.run(partial(_stored, job=job))
        elif job.where.part is not Part.END:
            draft, where = Draft(job.kind), job.where
            while where.part is not Part.END and not draft.full:
                where = await store.run(partial(_page, draft=draft, where=where))
            await store.run(
                partial(_seal, job=job, draft=draft, where=where, total=total)
            )
        elif not await store.run(partial(_reopen, job=job)):
            return job.head


async def _load(store: Store, archive: str) -> Job:
    job = await store.run(lambda tx: load_job(tx, archive))
    if job is None:
        raise KeyError("there is no such archive")
    return job


def _reopen(tx: Tx, job: Job) -> bool:
    """Go on with a backup that was complete, if something changed since."""
    if job.kind is not Kind.BACKUP or not tx.one("SELECT 1 FROM archive_change"):
        return False
    tx.execute(
        "UPDATE archive SET place = ? WHERE id = ?",
        encode(Where(Part.CHANGES)),
        job.id,
    )
    return True


def _stored(tx: Tx, job: Job) -> None:
    tx.execute(
        "UPDATE archive SET segment = NULL WHERE id = ? AND count = ?",
        job.id,
        job.head.count,
    )


def _seal(tx: Tx, job: Job, draft: Draft, where: Where, total: int) -> None:
    """Save the next segment, and that what is in it need not be written again."""
    now = int(time.time() * 1000)
    whole = where.part is Part.END
    device = (get_meta(tx, "device") or b"").decode()
    records = draft.records(device, now, whole, total - job.messages).encode()
    data, head = seal_segment(job.key, job.place, records, secrets.token_bytes(24))
    tx.execute(
        "UPDATE archive SET count = ?, hash = ?, place = ?, segment = ?,"
        " messages = messages + ?, size = size + ?,"
        " whole = CASE WHEN ? THEN ? ELSE whole END WHERE id = ?",
        head.count,
        head.hash,
        encode(where),
        data,
        len(draft.messages),
        len(data),
        whole,
        now,
        job.id,
    )
    if where.part in (Part.CHANGES, Part.END):
        tx.execute("DELETE FROM archive_change WHERE n <= ?", where.at)


# --- pages --------------------------------------------------------------------


def _page(tx: Tx, draft: Draft, where: Where) -> Where:
    """Add the next rows to a draft.

    Returns:
        The place behind them.
    """
    match where.part:
        case Part.ROOMS:
            return _rooms(tx, draft, where)
        case Part.CONTACTS:
            return _contacts(tx, draft, where)
        case Part.REGISTERS:
            return _registers(tx, draft, where)
        case Part.REMOVALS:
            return _removals(tx, draft, where)
        case Part.MESSAGES:
            return _messages(tx, draft, where)
        case Part.CHANGES:
            return _changes(tx, draft, where)
        case Part.END:
            return where


def _rooms(tx: Tx, draft: Draft, where: Where) -> Where:
    for row in tx.all(f"{_ROOM} AND id > ? ORDER BY id LIMIT ?", where.key, PAGE // 10):
        draft.add_room(tx, row)
        where = Where(Part.ROOMS, row[0])
        if draft.full:
            return where
    return _behind(tx, "room", "id", where, Part.CONTACTS)


def _contacts(tx: Tx, draft: Draft, where: Where) -> Where:
    for row in tx.all(
        f"{_CONTACT} WHERE account > ? ORDER BY account LIMIT ?", where.key, PAGE // 10
    ):
        draft.add_contact(row)
        where = Where(Part.CONTACTS, row[0])
        if draft.full:
            return where
    return _behind(tx, "contact", "account", where, Part.REGISTERS)


def _registers(tx: Tx, draft: Draft, where: Where) -> Where:
    for row in tx.all(
        f"{_REGISTER} WHERE register || ' ' || key > ? AND value != x''"
        " ORDER BY register || ' ' || key LIMIT ?",
        where.key,
        PAGE,
    ):
        draft.add_register(row)
        where = Where(Part.REGISTERS, f"{row[0]} {row[1]}")
        if draft.full:
            return where
    # Without the deleted ones, or the last of them would stand behind for ever.
    rows = "(SELECT * FROM own_register WHERE value != x'')"
    return _behind(tx, rows, "register || ' ' || key", where, Part.REMOVALS)


def _removals(tx: Tx, draft: Draft, where: Where) -> Where:
    for row in tx.all(
        "SELECT message FROM removal WHERE message > ? ORDER BY message LIMIT ?",
        where.key,
        PAGE,
    ):
        draft.add_gone(row[0])
        where = Where(Part.REMOVALS, row[0])
        if draft.full:
            return where
    return _behind(tx, "removal", "message", where, Part.MESSAGES)


def _behind(tx: Tx, table: str, column: str, where: Where, after: Part) -> Where:
    """The same place if there are more rows behind it, or the next part."""
    row = tx.one(f"SELECT 1 FROM {table} WHERE {column} > ? LIMIT 1", where.key)
    if row is None or (where.part is Part.ROOMS and _only_hidden(tx, where)):
        return Where(after)
    return where


def _only_hidden(tx: Tx, where: Where) -> bool:
    return tx.one(f"{_ROOM} AND id > ? LIMIT 1", where.key) is None


def _messages(tx: Tx, draft: Draft, where: Where) -> Where:
    """A page of the room that is under way, newest first, or the next room."""
    if not where.at:
        row = tx.one(
            "SELECT id FROM room WHERE id > ? AND purpose = '' ORDER BY id LIMIT 1",
            where.key,
        )
        if row is None:
            return Where(Part.CHANGES if draft.kind is Kind.BACKUP else Part.END)
        where = Where(Part.MESSAGES, row[0], 1 << 62)
    rows = tx.all(
        f"{_MESSAGE} WHERE m.room = ? AND m.position < ?"
        " ORDER BY m.position DESC LIMIT ?",
        where.key,
        where.at,
        PAGE,
    )
    for row in rows:
        draft.add_message(tx, row)
        where = Where(Part.MESSAGES, where.key, row[2])
        if draft.full:
            return where
    return where if len(rows) == PAGE else Where(Part.MESSAGES, where.key)


def _changes(tx: Tx, draft: Draft, where: Where) -> Where:
    rows = tx.all(
        "SELECT n, kind, id FROM archive_change WHERE n > ? ORDER BY n LIMIT ?",
        where.at,
        PAGE,
    )
    for n, kind, id in rows:
        _change(tx, draft, kind, id)
        where = Where(Part.CHANGES, "", n)
        if draft.full:
            return where
    return where if len(rows) == PAGE else Where(Part.END, "", where.at)


def _change(tx: Tx, draft: Draft, kind: str, id: str) -> None:
    match kind:
        case "g":
            draft.add_gone(id)
        case "m":
            row = tx.one(f"{_MESSAGE} WHERE m.id = ? AND m.seq IS NOT NULL", id)
            if row is not None:
                draft.add_message(tx, row)
        case "r":
            row = tx.one(f"{_ROOM} AND id = ?", id)
            if row is not None:
                draft.add_room(tx, row)
        case "c":
            row = tx.one(f"{_CONTACT} WHERE account = ?", id)
            if row is not None:
                draft.add_contact(row)
        case "o":
            register, _, key = id.partition(" ")
            row = tx.one(f"{_REGISTER} WHERE register = ? AND key = ?", register, key)
            if row is not None:
                draft.add_register(row)


async def _count(store: Store) -> int:
    """How many messages there are, in steps that hold nobody up."""
    total, key, at = 0, "", 0

    def step(tx: Tx) -> tuple[int, str, int]:
        row = tx.one(
            "SELECT count(*), max(position) FROM (SELECT position FROM message"
            " WHERE room = ? AND position > ? ORDER BY position LIMIT 20000)",
            key,
            at,
        )
        if row is not None and row[0] == 20000:
            return 20000, key, int(row[1])
        after = tx.one("SELECT id FROM room WHERE id > ? ORDER BY id LIMIT 1", key)
        found = 0 if row is None else int(row[0])
        return found, "" if after is None else after[0], 0

    while True:
        found, key, at = await store.run(step)
        total += found
        if not key:
            return total


def _bytes(value: Any) -> bytes | None:
    return None if value is None else bytes(value)
