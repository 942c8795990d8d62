"""Databases with rooms and messages in them, and archives in memory, for tests."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from client.account.contacts import save_account
from client.account.me import set_meta
from client.archive import Kind, Restored, begin, read_archive, write_archive
from client.model import MessageId, State
from client.storage.keyfile import Strength
from client.storage.store import Store, Tx
from client.storage.timeline import (
    Status,
    add_message,
    add_notice,
    list_messages,
    place,
)
from protocol.log import LogId
from tests.helpers.people import Person

ALICE, BOB = "alice@example.org", "bob@example.org"
KEY = bytes(range(32))
VAULT = "0f" * 16
WEAK = Strength(1, 8192)


def room_id(n: int) -> LogId:
    """The id of room n."""
    return LogId("".join("abcdefghijklmnop"[int(d, 16)] for d in f"{n:052x}"))


def message_id(room: int, seq: int) -> MessageId:
    """The id of a message."""
    return MessageId(f"{room:016x}{seq:016x}")


def make(directory: Path, account: str = ALICE, device: str = "a" * 16) -> Store:
    """An empty database of a device."""
    store, finish = Store.create(directory, "correct horse", WEAK)
    finish()
    # Nothing runs yet: the store's own thread is not needed for this.
    store._transact(lambda tx: set_meta(tx, "device", f"{account}/{device}".encode()))
    return store


def add_room(tx: Tx, n: int, title: str = "garden", read: int = 0) -> None:
    """A room that this device is in."""
    tx.execute(
        "INSERT INTO room (id, hub, direct, title, status, members, read)"
        " VALUES (?, 'example.org', 0, ?, ?, 2, ?)",
        room_id(n),
        title,
        Status.ACTIVE,
        read,
    )


def add_text(
    tx: Tx, room: int, seq: int, text: str, *, own: bool = False, reply_to: int = 0
) -> None:
    """A text in a room."""
    add_message(
        tx,
        message_id(room, seq),
        room_id(room),
        position=place(seq),
        seq=seq,
        device=f"{ALICE if own else BOB}/{'a' * 16}",
        time=1_790_000_000_000 + seq,
        text=text,
        reply_to=message_id(room, reply_to) if reply_to else None,
        state=State.SENT if own else State.RECEIVED,
        own=own,
    )


def fill(tx: Tx, rooms: int = 3, messages: int = 40) -> None:
    """Rooms with texts and a notice, and a contact with its log."""
    for room in range(1, rooms + 1):
        add_room(tx, room, f"room {room}", read=7)
        for seq in range(2, messages + 2):
            reply = seq - 1 if seq % 5 == 0 else 0
            add_text(
                tx, room, seq, f"{room}: {seq} 你好", own=seq % 3 == 0, reply_to=reply
            )
        add_notice(
            tx,
            room_id(room),
            seq=1,
            line=0,
            device=BOB,
            time=1_790_000_000_001,
            code="created",
            text="bob made this room.",
        )
    bob = Person(BOB)
    bob.device()
    save_account(tx, bob.state, bob.log)


Lines = list[tuple[str, int, str, str, str, str, str, bool, str | None]]


def lines(tx: Tx, room: int) -> Lines:
    """A room's timeline, as a person compares it."""
    return [
        (
            m.id,
            m.position,
            m.sender,
            m.device,
            m.kind,
            m.code,
            m.text,
            m.own,
            m.reply_to.text if m.reply_to else None,
        )
        for m in list_messages(tx, room_id(room), None, 500)
    ]


@dataclass
class Shelf:
    """Keeps segments, as a vault does: the same bytes again change nothing."""

    segments: list[bytes] = field(default_factory=list)
    fail_at: int = 0
    """Fail once when this segment comes, after (!) it was kept."""

    async def put(self, n: int, data: bytes) -> None:
        if n <= len(self.segments):
            assert self.segments[n - 1] == data, "other bytes for the same segment"
        else:
            assert n == len(self.segments) + 1, "a gap"
            self.segments.append(data)
        if self.fail_at == n:
            self.fail_at = 0
            raise ConnectionError

    async def get(self, n: int) -> bytes | None:
        return self.segments[n - 1] if 0 < n <= len(self.segments) else None


async def write(
    store: Store, shelf: Shelf, kind: Kind = Kind.TRANSFER, key: bytes = KEY
) -> None:
    """Write an archive to its end."""
    await store.run(lambda tx: begin(tx, VAULT, kind, key))
    await write_archive(store, VAULT, shelf.put)


async def read(store: Store, shelf: Shelf, key: bytes = KEY) -> Restored:
    """Read an archive as far as it goes."""
    await store.run(lambda tx: begin(tx, VAULT, Kind.RESTORE, key))
    return await read_archive(store, VAULT, shelf.get)


def random_key() -> bytes:
    """A key that opens nothing."""
    return os.urandom(32)
