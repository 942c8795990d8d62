"""History both ways, and the rooms with the latest entries first."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from node.app import Node
from node.rooms.member import Period
from node.rooms.newest import entry_time, read_place
from node.rooms.page import page_before
from node.storage.chain import ROOM, Log, append, create_log, get_log
from node.storage.schema import migrate
from node.storage.store import Store, Transaction
from protocol.codec import encode
from protocol.errors import BadRequest
from protocol.limits import NEWEST_BYTES, NEWEST_ROOMS
from protocol.log import Entry, LogId, read_entry
from protocol.sync import NewestRooms
from protocol.wire import (
    Page,
    Rooms,
)
from tests.helpers.fuzz import fuzzing
from tests.node.phone import Phone, Room

ROOMS = "/telex/v1/rooms"
LOG = LogId("a" * 52)
HEAD = 40


async def newest(
    device: Phone, count: int, limit: int = 0, at: str = ""
) -> NewestRooms:
    query = f"newest={count}"
    query += f"&limit={limit}" if limit else ""
    query += f"&from={at}" if at else ""
    return await device.call("GET", ROOMS, None, NewestRooms, query=query)


async def say(device: Phone, room: Room, size: int = 20) -> None:
    data = device.message(room, os.urandom(size))
    assert (await device.submit(data)).state == "committed"


async def test_the_room_with_the_latest_entry_is_first(alice: Phone) -> None:
    rooms = [await alice.create_room() for _ in range(5)]
    for at in (0, 3, 1):
        await asyncio.sleep(0.002)  # times of entries are in milliseconds
        for _ in range(3):
            await say(alice, rooms[at])
    found = await newest(alice, 2)
    order = [rooms.index(alice.rooms[each.state.room]) for each in found.rooms]
    assert order[:3] == [1, 3, 0] and sorted(order) == [0, 1, 2, 3, 4]
    assert found.more == ""
    first = found.rooms[0]
    assert (first.state.head, first.state.cursor) == (4, None)
    assert (first.page.after, first.page.head) == (2, 4)
    assert [read_entry(data).seq for data in first.page.entries] == [3, 4]
    assert first.time == read_entry(first.page.entries[-1]).time
    # The rest of its history, backwards and to the beginning.
    path = f"/telex/v1/logs/{first.state.room}/entries"
    page = await alice.call("GET", path, None, Page, query="before=3&limit=200")
    assert (page.after, len(page.entries), page.head) == (0, 2, 4)
    assert (await alice.call("GET", path, None, Page, query="before=1")).entries == []
    assert (await alice.call("GET", path, None, Page, query="after=4")).entries == []
    page = await alice.call("GET", path, None, Page, query="before=999&limit=1")
    assert page.after == 3 and len(page.entries) == 1


async def test_rooms_come_in_pages(alice: Phone) -> None:
    rooms = {(await alice.create_room()).id for _ in range(5)}
    seen: list[LogId] = []
    at = ""
    while True:
        found = await newest(alice, 1, limit=2, at=at)
        assert len(found.rooms) <= 2
        seen += [each.state.room for each in found.rooms]
        if not found.more:
            break
        at = found.more
    assert len(seen) == 5 and set(seen) == rooms
    with pytest.raises(BadRequest):
        await newest(alice, 1, at="yesterday")
    assert len((await alice.call("GET", ROOMS, None, Rooms)).rooms) == 5


async def test_a_loud_room_leaves_room_for_the_others(alice: Phone) -> None:
    loud, quiet = [await alice.create_room() for _ in range(2)]
    for _ in range(5):
        await say(alice, loud, size=30_000)
    found = {each.state.room: each for each in (await newest(alice, 200)).rooms}
    pages = found[loud.id].page
    assert sum(map(len, pages.entries)) <= NEWEST_BYTES and len(pages.entries) == 2
    assert found[quiet.id].page.after == 0


async def test_who_is_in_no_room_sees_none(node: Node, bob: Phone) -> None:
    assert await newest(bob, 20, limit=NEWEST_ROOMS) == NewestRooms([])


# --- pages before a seq, whoever was a member when ------------------------------------


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    migrate(tmp_path / "node.db")
    found = Store(tmp_path / "node.db", on_events=lambda _: None)
    await found.start()

    def fill(transaction: Transaction) -> None:
        log: Log | None = create_log(
            transaction.connection, LOG, ROOM, "example.org", now=int(time.time())
        )
        for n in range(HEAD):
            assert log is not None
            append(transaction, log, b"x" * (n % 7), os.urandom(32), 5)
            log = get_log(transaction.connection, LOG)

    await found.write(fill)
    yield found
    await found.stop()


@st.composite
def periods(draw: st.DrawFn) -> list[Period]:
    bounds = draw(st.lists(st.integers(1, HEAD), min_size=1, max_size=6, unique=True))
    bounds.sort()
    found = [
        Period(since, until)
        for since, until in zip(bounds[::2], bounds[1::2], strict=False)
    ]
    if len(bounds) % 2:
        found.append(Period(bounds[-1], None))
    return found


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(periods(), st.integers(1, 10), st.integers(40, 200))
async def test_reading_backwards_shows_everything_once(
    store: Store, member: list[Period], limit: int, max_bytes: int
) -> None:
    allowed = [
        seq
        for seq in range(1, HEAD + 1)
        if any(p.since <= seq <= (p.until or HEAD) for p in member)
    ]

    def read(connection: Connection, before: int) -> Page:
        log = get_log(connection, LOG)
        assert log is not None
        return page_before(connection, log, member, before, limit, max_bytes)

    before, seen = HEAD + 50, list[int]()
    while True:
        page = await store.read(partial(read, before=before))
        if not page.entries:
            break
        seqs = [read_entry(data).seq for data in page.entries]
        assert seqs[0] == page.after + 1 and seqs[-1] < before and len(seqs) <= limit
        assert len(seqs) == 1 or sum(map(len, page.entries)) <= max_bytes
        seen = seqs + seen
        before = seqs[0]
    assert seen == allowed


@given(
    st.integers(0, 2**63),
    st.integers(0, 2**32),
    st.one_of(st.integers(0, 2**53 - 1), st.integers(0, 200)),
)
def test_the_time_of_an_entry_is_read_from_its_first_bytes(
    seq: int, term: int, now: int
) -> None:
    assert entry_time(encode(Entry(seq, term, now, b"x" * 40))[:32]) == now


@pytest.mark.fuzz
@fuzzing
@given(st.binary(max_size=32))
def test_whatever_the_bytes_are_there_is_a_time(head: bytes) -> None:
    assert 0 <= entry_time(head) < 1 << 53


@pytest.mark.fuzz
@fuzzing
@given(st.one_of(st.text(), st.from_regex(r"[0-9]{0,18}-[a-z2-7]{50,54}")))
def test_a_place_is_what_an_answer_said(text: str) -> None:
    try:
        found = read_place(text)
    except BadRequest:
        return
    assert found is not None and text == f"{text.partition('-')[0]}-{found[1]}"
    assert found[0] == int(text.partition("-")[0]) and len(found[1]) == 52
