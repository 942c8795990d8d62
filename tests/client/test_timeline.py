"""Rows and values: pages without overlap, counts, names that cannot do harm."""

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from client.event import Event
from client.model import Alarm, State
from client.storage.keyfile import Strength
from client.storage.store import Store, Tx
from client.storage.timeline import (
    PENDING,
    Status,
    add_message,
    add_notice,
    events_of,
    get_room,
    list_messages,
    list_rooms,
    message_id,
    place,
)
from protocol.log import LogId

ROOM, OTHER = LogId("a" * 52), LogId("b" * 52)
ME, BOB = "me@x.test/aaaaaaaaaaaaaaaa", "bob@x.test/bbbbbbbbbbbbbbbb"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store, _ = Store.create(tmp_path, "password", Strength(1, 8192))

    def rooms(tx: Tx) -> None:
        for room in (ROOM, OTHER):
            tx.execute(
                "INSERT INTO room (id, hub, direct, title, status, members)"
                " VALUES (?, 'x.test', 0, ?, ?, 3)",
                room,
                "a\x1b[31mb" if room == ROOM else "",
                Status.ACTIVE,
            )

    await store.run(rooms)
    yield store
    await store.close()


def write(tx: Tx, seq: int, device: str = BOB, text: str = "hi") -> None:
    own = device == ME
    add_message(
        tx,
        message_id(ROOM, device, seq.to_bytes(16)),
        ROOM,
        position=place(seq),
        seq=seq,
        device=device,
        time=seq,
        text=text,
        reply_to=None,
        state=State.SENT if own else State.RECEIVED,
        own=own,
    )


async def test_pages_follow_each_other_without_overlap(store: Store) -> None:
    def work(tx: Tx) -> list[int | None]:
        for seq in range(1, 101):
            write(tx, seq)
        seen: list[int | None] = []
        before: int | None = None
        while page := list_messages(tx, ROOM, before, 30):
            seen = [m.seq for m in page] + seen
            before = page[0].position
        return seen

    assert await store.run(work) == list(range(1, 101))


async def test_what_has_no_seq_stands_last(store: Store) -> None:
    def work(tx: Tx) -> list[str]:
        for n, text in ((2, "second"), (1, "first")):
            add_message(
                tx,
                message_id(ROOM, ME, n.to_bytes(16)),
                ROOM,
                position=PENDING + n,
                seq=None,
                device=ME,
                time=0,
                text=text,
                reply_to=None,
                state=State.PENDING,
                own=True,
            )
        write(tx, 900, text="theirs")
        return [m.text for m in list_messages(tx, ROOM, None, 10)]

    assert await store.run(work) == ["theirs", "first", "second"]


async def test_unread_counts_the_texts_of_others_behind_the_marker(
    store: Store,
) -> None:
    def work(tx: Tx) -> tuple[int, int]:
        for seq in range(1, 6):
            write(tx, seq)
        write(tx, 6, ME)
        add_notice(
            tx, ROOM, seq=7, line=0, device=BOB, time=0, code="added", text="bob"
        )
        first = get_room(tx, ROOM)
        tx.execute("UPDATE room SET read = 3 WHERE id = ?", ROOM)
        second = get_room(tx, ROOM)
        assert first is not None and second is not None
        return first.unread, second.unread

    assert await store.run(work) == (5, 2)


async def test_a_message_is_delivered_when_everybody_has_it(store: Store) -> None:
    def told(tx: Tx, account: str, delivered: int, read: int) -> State:
        tx.execute(
            "INSERT OR REPLACE INTO receipt VALUES (?, ?, ?, ?)",
            ROOM,
            account,
            delivered,
            read,
        )
        return list_messages(tx, ROOM, None, 1)[0].state

    def work(tx: Tx) -> list[State]:
        write(tx, 5, ME)
        return [
            list_messages(tx, ROOM, None, 1)[0].state,
            told(tx, "bob@x.test", 4, 4),
            told(tx, "bob@x.test", 5, 4),
            told(tx, "me@x.test", 9, 9),
            told(tx, "carol@x.test", 9, 5),
            told(tx, "bob@x.test", 5, 5),
        ]

    assert await store.run(work) == [
        State.SENT,
        State.SENT,
        State.SENT,
        State.SENT,
        State.DELIVERED,
        State.READ,
    ]


async def test_names_and_texts_are_harmless_when_they_come_out(store: Store) -> None:
    harm = "\x1b]0;owned\x07\u202e\n\x9b2J"

    def work(tx: Tx) -> None:
        write(tx, 1, text=harm)
        add_notice(
            tx,
            ROOM,
            seq=2,
            line=0,
            device=harm * 500,
            time=0,
            code="no_keys",
            text=harm,
        )
        first = tx.one("SELECT id FROM message WHERE seq = 1")
        assert first is not None
        add_message(
            tx,
            message_id(ROOM, harm, b"quoting"),
            ROOM,
            position=place(3),
            seq=3,
            device=harm,
            time=0,
            text=harm,
            reply_to=first[0],
            state=State.FAILED,
            own=True,
        )
        tx.execute("UPDATE message SET sender = ?, error = ?", harm, harm)
        tx.execute("UPDATE room SET note = ?, title = ?, hub = ?", harm, harm, harm)
        tx.rooms.add(ROOM)
        tx.events.append(Alarm(ROOM, harm))

    events: list[Event] = []
    store.before_commit = lambda tx: events.extend(events_of(tx)) or []  # type: ignore[func-returns-value]
    await store.run(work)
    messages = await store.run(lambda tx: list_messages(tx, ROOM, None, 10))
    rooms = await store.run(list_rooms)
    shown = repr([strings(value) for value in (*messages, *rooms, *events)])
    assert "owned" in shown
    for harmful in ("\x1b", "\x07", "\u202e", "\x9b"):
        assert repr(harmful)[1:-1] not in shown and harmful not in shown
    # Only a message's own text has lines.
    for message in messages:
        quote = message.reply_to
        lines = [message.sender, message.device, message.error]
        lines += [] if quote is None else [quote.sender, quote.text]
        assert not any("\n" in line for line in lines)
    assert messages[-1].reply_to is not None and len(messages[1].device) <= 256
    assert all("\n" not in room.title + room.note + room.hub for room in rooms)


def strings(value: object) -> list[str]:
    """All strings in an event or value."""
    if isinstance(value, str):
        return [value]
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        return [s for field in fields for s in strings(getattr(value, field.name))]
    return []


def test_a_message_id_belongs_to_room_device_and_txn() -> None:
    ids = {
        message_id(room, device, txn)
        for room in (ROOM, OTHER)
        for device in (ME, BOB)
        for txn in (bytes(16), bytes([1]) * 16)
    }
    assert len(ids) == 8 and all(len(id) == 32 for id in ids)
