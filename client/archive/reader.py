"""Reading an archive: sealed segments into the database, beside a running engine.

A segment is opened and checked as a whole before anything of it is written; then it
goes in by short transactions. What is here already stays: the room's own log is worth
more than an archive, and what was deleted here is not brought back. So the same
segment twice changes nothing, and after a kill the segment that was begun is read
again.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce

from client.archive.job import Job, Part, Where, load_job
from client.archive.record import (
    ContactRecord,
    MessageRecord,
    Records,
    RoomRecord,
    read_records,
)
from client.archive.segment import Head, open_segment, previous_of
from client.content.own import Entry
from client.errors import ArchiveRefused
from client.model import State
from client.storage.store import Store, Tx
from client.storage.timeline import LINES, Status
from client.verification.trust import check_root, own_account
from protocol.codec import decode, encode
from protocol.log import GENESIS, LogId, chain

__all__ = ["Restored", "Source", "read_archive"]

Source = Callable[[int], Awaitable[bytes | None]]
"""Gives segment n (1, 2, ...), or None where there is none (yet)."""

Progress = Callable[[int, int, int], object]
"""Gets how many segments and messages were taken in."""

Adopt = Callable[[Tx, Sequence[Entry]], object]
"""Takes registers of the self group (`SelfGroup.adopt`)."""

Salvage = Callable[[ArchiveRefused], object]
"""Is told of a segment that was passed by."""

SALVAGED = frozenset(("archive_damaged", "archive_malformed", "archive_order"))
"""What one bad segment can be; what else is wrong is wrong with all of them."""

STEP = 0.005
"""Seconds of one transaction; with its commit it stays below a fiftieth."""

ROOMS_SHOWN = 20
"""Rooms that are told of in one transaction: each is counted for that."""

HISTORY = "Only its history is here: it came from an archive."
"""Said of a room that this device reads nothing new of."""

JOINING = "This device joins the room."
"""Said of a room whose history is here before its keys."""


@dataclass(frozen=True, slots=True)
class Restored:
    """How far an archive was read."""

    head: Head
    """Behind the last segment that was taken in."""
    complete: bool
    """Whether the archive was complete there; a transfer then has no more."""
    time: int
    """Milliseconds since 1970 when it was complete last; 0: never."""
    messages: int
    """In the segments so far, those included that were here already."""


async def read_archive(
    store: Store,
    archive: str,
    source: Source,
    *,
    adopt: Adopt = lambda tx, entries: None,
    present: Collection[str] | None = None,
    progress: Progress = lambda segments, messages, left: None,
    salvage: Salvage | None = None,
) -> Restored:
    """Read an archive that was noted by `begin` (kind `RESTORE`), as far as it goes.

    Can be called again, after it failed, the process was killed or there is more: it
    goes on with the next segment. Rooms and messages appear as they come.

    Args:
        archive: its id.
        source: `await source(n)` gives the bytes of segment n, or None.
        adopt: takes the registers of the self group, in the transaction that holds
            them (without it they are left out).
        progress: gets segments and messages so far after each segment, and how many
            messages come still, as its writer counted.
        salvage: is told of each segment that is damaged or lost; reading goes on
            behind it, where the next one is proof of its own place. Without it such
            a segment is raised.

    Raises:
        ArchiveRefused: a segment is not the next one of this archive, whole; nothing
            of it was taken in, and what came before stays. `code` is stable.
        What the source raises.
        KeyError: no such archive was noted.
    """
    while True:
        job = await store.run(partial(load_job, archive=archive))
        if job is None:
            raise KeyError("there is no such archive")
        ended = job.where.part is Part.END
        try:
            data = await source(job.head.count + 1)
            if data is None:
                return Restored(job.head, ended, job.whole, job.messages)
            records, head = await asyncio.to_thread(_open, job, data)
        except ArchiveRefused as error:
            if salvage is None or error.code not in SALVAGED:
                raise
            await _skip(store, job, source, error)
            salvage(error)
            continue
        await _take(store, records, adopt, present)
        await store.run(
            partial(_taken, job=job, head=head, records=records, size=len(data))
        )
        progress(head.count, job.messages + len(records.messages), records.left)


async def _skip(store: Store, job: Job, source: Source, error: ArchiveRefused) -> None:
    """Go behind a segment that cannot be read, if there is one behind it."""
    n = job.head.count + 1
    data = await source(n + 1)
    if data is None:
        raise error
    head = Head(n, previous_of(data))
    await asyncio.to_thread(_open, replace(job, head=head), data)
    await store.run(partial(_move, archive=job.id, head=head))


def _move(tx: Tx, archive: str, head: Head) -> None:
    tx.execute(
        "UPDATE archive SET count = ?, hash = ? WHERE id = ?",
        head.count,
        head.hash,
        archive,
    )


def _open(job: Job, data: bytes) -> tuple[Records, Head]:
    content, head = open_segment(job.key, job.place, data)
    return read_records(content), head


def _taken(tx: Tx, job: Job, head: Head, records: Records, size: int) -> None:
    part = Part.END if records.whole else Part.ROOMS
    tx.execute(
        "UPDATE archive SET count = ?, hash = ?, place = ?, messages = messages + ?,"
        " size = size + ?, whole = max(whole, ?) WHERE id = ? AND count = ?",
        head.count,
        head.hash,
        # Whose backup it is matters once that device is gone.
        encode(Where(part, records.device)),
        len(records.messages),
        size,
        records.time if records.whole else 0,
        job.id,
        job.head.count,
    )


Step = Callable[[Tx], object]


async def _take(
    store: Store, records: Records, adopt: Adopt, present: Collection[str] | None
) -> None:
    """Take a segment in, by as many transactions as it needs."""
    now = int(time.time() * 1000)
    steps = _steps(records, adopt, present, now)

    def some(tx: Tx) -> bool:
        end = time.perf_counter() + STEP
        for step in steps:
            step(tx)
            if time.perf_counter() > end:
                return True
        return False

    # A transaction that fails has used steps up; the segment is read again then.
    more = True
    while more:
        more = await store.run(some)
    rooms = [room.id for room in records.rooms]
    for n in range(0, len(rooms), ROOMS_SHOWN):
        await store.run(partial(_show, rooms=rooms[n : n + ROOMS_SHOWN]))


def _show(tx: Tx, rooms: Sequence[str]) -> None:
    tx.rooms.update(map(LogId, rooms))


def _steps(
    records: Records, adopt: Adopt, present: Collection[str] | None, now: int
) -> Iterator[Step]:
    for room in records.rooms:
        joined = present is None or room.id in present
        yield partial(_room, record=room, joined=joined)
    for contact in records.contacts:
        yield partial(_contact, record=contact)
    for n in range(0, len(records.registers), 50):
        yield partial(_adopt, adopt=adopt, entries=records.registers[n : n + 50])
    for id in records.gone:
        yield partial(_gone, id=id.hex(), now=now)
    for message in records.messages:
        yield partial(_message, record=message, records=records, now=now)


def _room(tx: Tx, record: RoomRecord, joined: bool) -> None:
    here = record.status in (Status.ACTIVE, Status.ASKED, Status.CREATING)
    gone = Status.LEFT if here else record.status
    tx.execute(
        "INSERT INTO room (id, hub, direct, title, status, note, activity, read,"
        " disappearing) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET read = max(read, excluded.read),"
        " activity = max(activity, excluded.activity),"
        " direct = max(direct, excluded.direct),"
        " title = CASE title WHEN '' THEN excluded.title ELSE title END",
        record.id,
        record.hub,
        record.direct,
        record.title,
        Status.ASKED if here and joined else gone,
        JOINING if here and joined else record.note or HISTORY,
        record.activity,
        record.read,
        record.disappearing,
    )
    for account, delivered, read in record.receipts:
        tx.execute(
            "INSERT INTO receipt VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " delivered = max(delivered, excluded.delivered),"
            " read = max(read, excluded.read)",
            record.id,
            account,
            delivered,
            read,
        )


def _adopt(tx: Tx, adopt: Adopt, entries: Sequence[Entry]) -> None:
    adopt(tx, entries)


def _contact(tx: Tx, record: ContactRecord) -> None:
    """Pin the root that was pinned when the archive was written.

    One that was met here since then is no older; if it is another one, its owner has
    to be asked.
    """
    row = tx.one(
        "SELECT root, seq, chosen FROM contact WHERE account = ?", record.account
    )
    if row is not None and record.account == own_account(tx):
        return  # of ourselves there is nothing newer than what the node just showed
    if row is not None and bytes(row[0]) != record.root:
        if row[2]:
            return  # somebody chose that one since
        tx.execute(
            "UPDATE contact SET root = ?, seq = 0, entries = ?, head = ?"
            " WHERE account = ?",
            record.root,
            encode([]),
            GENESIS,
            record.account,
        )
        check_root(tx, record.account, bytes(row[0]), None)
        row = None
    elif row is None:
        check_root(tx, record.account, record.root, None)
    seq = 0 if row is None else int(row[1])
    if record.entries and len(record.entries) > seq:
        _extend(tx, record)
    if row is not None and row[2]:
        return  # what a person said here, or took back, counts more
    # Who verified a key chose it. Our other devices are not told: what they know of
    # it may be newer, and the register in which they share it comes back by itself.
    chosen = record.verified_root == record.root
    tx.execute(
        "UPDATE contact SET other_root = coalesce(other_root, ?),"
        " verified_root = coalesce(verified_root, ?),"
        " told = max(told, ?), chosen = max(chosen, ?) WHERE account = ?",
        record.other_root,
        record.verified_root,
        chosen,
        chosen,
        record.account,
    )


def _extend(tx: Tx, record: ContactRecord) -> None:
    """Keep the longer account log of an archive, if it continues the one here."""
    row = tx.one("SELECT entries FROM contact WHERE account = ?", record.account)
    known = [] if row is None else decode(bytes(row[0]), list[bytes])
    if record.entries[: len(known)] != known:
        return  # the two are held against the node's at the next chance
    # It was checked when the segment was read.
    tx.execute(
        "UPDATE contact SET seq = ?, head = ?, entries = ? WHERE account = ?",
        len(record.entries),
        reduce(chain, record.entries, GENESIS),
        encode(record.entries),
        record.account,
    )


def _gone(tx: Tx, id: str, now: int) -> None:
    row = tx.one("SELECT room FROM message WHERE id = ?", id)
    tx.execute(
        "INSERT OR IGNORE INTO removal VALUES (?, ?, ?)",
        id,
        "" if row is None else row[0],
        now,
    )
    tx.execute("DELETE FROM expiry WHERE message = ?", id)
    tx.execute("DELETE FROM message WHERE id = ? AND kind = 'text'", id)


def _message(tx: Tx, record: MessageRecord, records: Records, now: int) -> None:
    id, text = record.id.hex(), record.code is None
    if 0 < record.due <= now:
        return
    device = records.names[record.device]
    added = tx.execute(
        "INSERT OR IGNORE INTO message (id, room, position, seq, kind, sender, device,"
        " time, text, reply_to, state, own, code, archived)"
        " SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1"
        # The line that says that a message was deleted may stand in its place.
        " WHERE ? OR NOT EXISTS (SELECT 1 FROM removal WHERE message = ?)"
        # What cannot be read here, or came from an archive too, makes way.
        " ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, text = excluded.text,"
        " sender = excluded.sender, device = excluded.device, time = excluded.time,"
        " reply_to = excluded.reply_to, state = excluded.state, own = excluded.own,"
        " code = excluded.code, archived = 1 WHERE room = excluded.room AND"
        " (archived OR (kind = 'notice' AND excluded.kind = 'text'))",
        id,
        records.rooms_named[record.room],
        record.position,
        record.position // LINES,
        "text" if text else "notice",
        device.partition("/")[0],
        device,
        record.time,
        record.text,
        None if record.reply_to is None else record.reply_to.hex(),
        int(State.SENT if record.own and text else State.RECEIVED),
        record.own,
        record.code or "",
        not text,
        id,
    )
    if added and record.seconds:
        tx.execute(
            "INSERT OR IGNORE INTO expiry (message, room, seconds, due)"
            " VALUES (?, ?, ?, ?)",
            id,
            records.rooms_named[record.room],
            record.seconds,
            record.due,
        )
