"""Archives: what is written comes back, once, in order, and nothing else does."""

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from client.account.contacts import known_log
from client.archive import Kind, begin, read_archive, writer
from client.archive.segment import EMPTY, Place
from client.errors import ArchiveRefused
from client.model import Alarm
from client.storage.store import Store, Tx
from client.storage.timeline import add_notice, get_room
from client.verification.trust import check_root
from tests.client.archives import (
    ALICE,
    BOB,
    KEY,
    VAULT,
    Lines,
    Shelf,
    add_room,
    add_text,
    fill,
    lines,
    make,
    message_id,
    random_key,
    read,
    room_id,
    write,
)

PLACE = Place(ALICE, bytes.fromhex(VAULT), EMPTY)


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a hundred messages make several."""
    monkeypatch.setattr(writer, "SEGMENT_BYTES", 2000)
    monkeypatch.setattr(writer, "PAGE", 20)


@pytest.fixture
async def old(tmp_path: Path) -> AsyncIterator[Store]:
    store = make(tmp_path / "old")
    await store.run(fill)
    yield store
    await store.close()


@pytest.fixture
async def new(tmp_path: Path) -> AsyncIterator[Store]:
    store = make(tmp_path / "new", device="b" * 16)
    yield store
    await store.close()


async def everything(store: Store) -> list[Lines]:
    return await store.run(lambda tx: [lines(tx, room) for room in (1, 2, 3)])


async def test_all_of_it_comes_back(old: Store, new: Store) -> None:
    shelf = Shelf()
    await write(old, shelf)
    assert len(shelf.segments) > 3
    restored = await read(new, shelf)
    assert restored.complete and restored.messages == 3 * 41
    assert restored.head.count == len(shelf.segments)
    assert await everything(new) == await everything(old)
    room = await new.run(lambda tx: get_room(tx, room_id(1)))
    assert room is not None
    assert (room.title, room.hub, room.direct) == ("room 1", "example.org", False)
    assert room.unread == sum(seq % 3 != 0 for seq in range(8, 42))
    assert await new.run(lambda tx: known_log(tx, BOB)) == await old.run(
        lambda tx: known_log(tx, BOB)
    )


async def test_again_changes_nothing(old: Store, new: Store) -> None:
    shelf = Shelf()
    await write(old, shelf)
    await read(new, shelf)
    before = await everything(new)
    await new.run(
        lambda tx: tx.execute("UPDATE archive SET count = 0, hash = ?", EMPTY.hash)
    )
    assert (await read(new, shelf)).complete
    assert await everything(new) == before


async def test_writing_goes_on_where_it_broke_off(old: Store, new: Store) -> None:
    shelf = Shelf(fail_at=2)
    with pytest.raises(ConnectionError):
        await write(old, shelf)
    shelf.fail_at = 4
    with pytest.raises(ConnectionError):
        await write(old, shelf)
    await write(old, shelf)
    await read(new, shelf)
    assert await everything(new) == await everything(old)


async def test_reading_goes_on_with_the_next_segment(old: Store, new: Store) -> None:
    shelf = Shelf()
    await write(old, shelf)
    short = Shelf(shelf.segments[:2])
    assert not (await read(new, short)).complete
    asked: list[int] = []

    async def source(n: int) -> bytes | None:
        asked.append(n)
        return await shelf.get(n)

    assert (await read_archive(new, VAULT, source)).complete
    assert asked[0] == 3
    assert await everything(new) == await everything(old)


async def test_what_is_here_is_worth_more(old: Store, new: Store) -> None:
    def live(tx: Tx) -> None:
        add_room(tx, 1, "new title", read=30)
        add_text(tx, 1, 40, "as the log has it")
        add_notice(
            tx,
            room_id(1),
            seq=39,
            line=0,
            device=BOB,
            time=1,
            code="no_keys",
            text="could not be read",
            id=message_id(1, 39),
        )

    await new.run(live)
    shelf = Shelf()
    await write(old, shelf)
    await read(new, shelf)
    found = {line[0]: line for line in await new.run(lambda tx: lines(tx, 1))}
    assert found[message_id(1, 40)][6] == "as the log has it"
    assert found[message_id(1, 39)][6] == "1: 39 你好"
    room = await new.run(lambda tx: get_room(tx, room_id(1)))
    assert room is not None and room.title == "new title" and room.active
    row = await new.run(lambda tx: tx.one("SELECT read FROM room"))
    assert row == (30,)


async def test_what_was_deleted_stays_deleted(old: Store, new: Store) -> None:
    shelf = Shelf()
    await write(old, shelf, Kind.BACKUP)
    await old.run(
        lambda tx: tx.execute("DELETE FROM message WHERE id = ?", message_id(1, 5))
    )
    await write(old, shelf, Kind.BACKUP)
    await read(new, shelf)
    assert message_id(1, 5) not in {line[0] for line in (await everything(new))[0]}
    # An older archive, in which it still is, does not bring it back either.
    other = "0e" * 16
    await new.run(lambda tx: begin(tx, other, Kind.RESTORE, KEY))
    await new.run(lambda tx: tx.execute("UPDATE message SET archived = 0"))
    await new.run(
        lambda tx: tx.execute("UPDATE archive SET count = 0, hash = ?", EMPTY.hash)
    )
    await read(new, shelf)
    assert await everything(new) == await everything(old)


async def test_a_backup_goes_on_with_what_changed(old: Store, new: Store) -> None:
    shelf = Shelf()
    await write(old, shelf, Kind.BACKUP)
    count = len(shelf.segments)
    await write(old, shelf, Kind.BACKUP)
    assert len(shelf.segments) == count, "nothing changed, nothing is written"

    def go_on(tx: Tx) -> None:
        add_room(tx, 9, "late")
        add_text(tx, 9, 2, "in a new room")
        add_text(tx, 1, 50, "one more")
        tx.execute("UPDATE room SET read = 50 WHERE id = ?", room_id(1))
        check_root(tx, "carol@example.org", b"r" * 32, None)
        tx.execute("INSERT INTO own_register VALUES ('draft', 'x', x'6869', 5, 0)")

    await old.run(go_on)
    await write(old, shelf, Kind.BACKUP)
    assert len(shelf.segments) == count + 1
    drafts: list[tuple[str, str, bytes]] = []
    await new.run(lambda tx: begin(tx, VAULT, Kind.RESTORE, KEY))
    await read_archive(
        new,
        VAULT,
        shelf.get,
        adopt=lambda tx, entries: drafts.extend(
            (e.register, e.key, e.value) for e in entries
        ),
    )
    assert await everything(new) == await everything(old)
    assert [line[6] for line in await new.run(lambda tx: lines(tx, 9))] == [
        "in a new room"
    ]
    row = await new.run(
        lambda tx: tx.one("SELECT root FROM contact WHERE account LIKE 'carol@%'")
    )
    assert row == (b"r" * 32,)
    assert drafts == [("draft", "x", b"hi")]


async def test_what_was_not_sent_and_the_self_group_stay_out(
    old: Store, new: Store
) -> None:
    def more(tx: Tx) -> None:
        add_room(tx, 8, "own devices")
        add_text(tx, 8, 3, "register")
        tx.execute("UPDATE room SET purpose = 'self' WHERE id = ?", room_id(8))
        tx.execute(
            "INSERT INTO message (id, room, position, kind, sender, device, time, text,"
            " state, own) VALUES (?, ?, 1 << 62, 'text', '', '', 0, 'unsent', 0, 1)",
            message_id(1, 99),
            room_id(1),
        )

    await old.run(more)
    shelf = Shelf()
    await write(old, shelf)
    assert (await read(new, shelf)).messages == 3 * 41
    rooms = await new.run(lambda tx: tx.all("SELECT id FROM room ORDER BY id"))
    assert rooms == [(room_id(n),) for n in (1, 2, 3)]


async def test_of_rooms_that_the_account_left_there_is_the_history(
    old: Store, new: Store
) -> None:
    shelf = Shelf()
    await write(old, shelf)
    await new.run(lambda tx: begin(tx, VAULT, Kind.RESTORE, KEY))
    await read_archive(new, VAULT, shelf.get, present=[room_id(2)])
    rooms = await new.run(
        lambda tx: tx.all("SELECT status, note FROM room ORDER BY id")
    )
    assert [row[0] for row in rooms] == ["left", "asked", "left"]
    assert "history" in rooms[0][1]
    assert await everything(new) == await everything(old)


async def test_another_root_than_the_archived_one_is_an_alarm(
    old: Store, new: Store
) -> None:
    await new.run(lambda tx: check_root(tx, BOB, b"x" * 32, None))
    events: list[object] = []
    new.publish = events.extend
    shelf = Shelf()
    await write(old, shelf)
    await read(new, shelf)
    pinned, other = await new.run(
        lambda tx: tx.one("SELECT root, other_root FROM contact")
    ) or (None, None)
    assert other == b"x" * 32 and pinned != other
    assert [e.room for e in events if isinstance(e, Alarm)] == [None]


# --- refusals -----------------------------------------------------------------

Lie = Callable[[list[bytes]], list[bytes]]


@pytest.mark.parametrize(
    ("code", "lie", "before"),
    [
        ("archive_order", lambda s: [s[1], s[0], *s[2:]], 0),
        ("archive_order", lambda s: [s[0], s[2], *s[3:]], 1),
        ("archive_order", lambda s: [s[0], s[0], *s[1:]], 1),
        ("archive_damaged", lambda s: [s[0][:-1] + bytes([s[0][-1] ^ 1])], 0),
        ("archive_damaged", lambda s: [s[0], s[1][:-20]], 1),
        ("archive_malformed", lambda s: [b"", *s[1:]], 0),
        ("archive_malformed", lambda s: [b"X" + s[0][1:]], 0),
        ("archive_malformed", lambda s: [s[0] + bytes(1 << 20)], 0),
        ("archive_version", lambda s: [s[0][:4] + b"\2" + s[0][5:]], 0),
        ("archive_key", lambda s: [s[0][:25] + bytes(8) + s[0][33:]], 0),
    ],
)
async def test_what_is_not_the_next_segment_is_refused_whole(
    old: Store, new: Store, code: str, lie: Lie, before: int
) -> None:
    shelf = Shelf()
    await write(old, shelf)
    with pytest.raises(ArchiveRefused) as error:
        await read(new, Shelf(lie(shelf.segments)))
    assert error.value.code == code and str(error.value).endswith(".")
    row = await new.run(lambda tx: tx.one("SELECT count FROM archive"))
    assert row == (before,)
    if before == 0:
        assert await new.run(lambda tx: tx.all("SELECT id FROM message")) == []
    # The right ones go on from there.
    assert (await read(new, shelf)).complete
    assert await everything(new) == await everything(old)


@pytest.mark.parametrize(
    "lie",
    [
        lambda s: [s[0], s[1][:-1] + bytes([s[1][-1] ^ 1]), *s[2:]],
        lambda s: [s[0], b"rubbish", *s[2:]],
        lambda s: [s[0], s[0], *s[2:]],
    ],
)
async def test_one_bad_segment_does_not_cost_the_ones_behind_it(
    old: Store, new: Store, lie: Lie
) -> None:
    shelf = Shelf()
    await write(old, shelf)
    bad = Shelf(lie(shelf.segments))
    await new.run(lambda tx: begin(tx, VAULT, Kind.RESTORE, KEY))
    passed: list[ArchiveRefused] = []
    restored = await read_archive(new, VAULT, bad.get, salvage=passed.append)
    assert restored.complete and restored.head.count == len(shelf.segments)
    assert len(passed) == 1
    here = [line for room in await everything(old) for line in room]
    back = [line for room in await everything(new) for line in room]
    assert 0 < len(here) - len(back) < len(here) / 3
    assert {line[0] for line in back} < {line[0] for line in here}
    # What is no segment of ours does not become one by standing behind a bad one.
    again = "0e" * 16
    await new.run(lambda tx: begin(tx, again, Kind.RESTORE, KEY))
    with pytest.raises(ArchiveRefused):
        await read_archive(new, again, bad.get, salvage=passed.append)


async def test_another_key_account_or_archive_is_refused(
    old: Store, tmp_path: Path
) -> None:
    shelf = Shelf()
    await write(old, shelf)
    carol = make(tmp_path / "carol", "carol@example.org")
    with pytest.raises(ArchiveRefused) as error:
        await read(carol, shelf)
    assert error.value.code == "archive_key"
    await carol.close()
    alice = make(tmp_path / "alice")
    with pytest.raises(ArchiveRefused) as error:
        await read(alice, shelf, random_key())
    assert error.value.code == "archive_key"
    await alice.run(lambda tx: begin(tx, "0e" * 16, Kind.RESTORE, KEY))
    with pytest.raises(ArchiveRefused) as error:
        await read_archive(alice, "0e" * 16, shelf.get)
    assert error.value.code == "archive_order"
    await alice.close()


async def test_no_step_holds_the_database_for_long(
    new: Store, old: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in rows, not in seconds: a busy machine must not fail this."""
    monkeypatch.setattr(writer, "SEGMENT_BYTES", 256 * 1024)
    monkeypatch.setattr(writer, "PAGE", 300)
    shelf = Shelf()
    await write(old, shelf)
    ticks = iter(range(10**9))
    # Each look at the clock is a "second": every step uses its transaction up.
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))
    runs = 0
    run = new.run

    async def counted(function: Callable[[Tx], object]) -> object:
        nonlocal runs
        runs += 1
        return await run(function)

    monkeypatch.setattr(new, "run", counted)
    await read(new, shelf)
    assert runs > 3 * 41
