"""The hot path: what is appended in one batch is what would be, one by one."""

import asyncio
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from node.app import Node
from node.limit import Buckets
from node.rooms import appending
from node.rooms.hub import Hub
from node.rooms.incoming import read_incoming
from node.rooms.submission import Submissions
from node.storage.chain import get_log, list_entries
from node.storage.store import Store, Transaction
from protocol.errors import NodeFault, Refused, StaleEpoch, UnknownRoom
from protocol.log import GENESIS, LogId, chain, read_entry, read_submission
from protocol.wire import Receipt
from tests.node.phone import Phone, Room, further_phone, mail, phone, revocation
from tests.node.process import check_log
from tests.node.raw import held, until
from tests.node.server import make_node, make_settings

Outcome = Receipt | Refused
Acked = dict[bytes, tuple[int | None, bytes | None]]


def put(submissions: Submissions, datas: Iterable[bytes]) -> "asyncio.Future[Any]":
    """Queue submissions in one turn of the loop; their outcomes."""
    loop = asyncio.get_running_loop()
    futures: list[asyncio.Future[Outcome]] = []
    for data in datas:
        future: asyncio.Future[Outcome] = loop.create_future()
        submissions.put(read_incoming(data), future.set_result)
        futures.append(future)
    return asyncio.gather(*futures)


async def meet(alice: Phone, bob: Phone) -> tuple[Room, Room]:
    """A room with both of them, up to date."""
    room = await alice.create_room()
    await alice.add(room, bob.account)
    async with bob.session() as line:
        return room, await bob.join(mail((await line.entries(bob.mailbox, 1))[-1]))


def seqs(outcomes: list[Outcome]) -> list[int | str | None]:
    """What became of submissions: their seqs, or their refusals' codes."""
    return [o.code if isinstance(o, Refused) else o.seq for o in outcomes]


# --- repeats -----------------------------------------------------------------------


async def test_the_same_twice_in_one_batch_is_one_entry(
    node: Node, alice: Phone
) -> None:
    room = await alice.create_room()
    data = alice.message(room)
    outcomes = await put(node.submissions, [data, data])
    assert seqs(outcomes) == [2, 2]
    assert outcomes[0] == outcomes[1]
    assert await check_log(alice, room.id, {data: (2, outcomes[0].hash)}) == 2


async def test_the_same_over_a_session_and_over_http_at_once(
    node: Node, alice: Phone
) -> None:
    room = await alice.create_room()
    datas = [alice.message(room) for _ in range(10)]
    async with alice.session() as line:
        both = await asyncio.gather(
            *(alice.submit(data) for data in datas), line.submit(datas[3])
        )
    assert both[3] == both[-1]
    assert sorted(each.seq or 0 for each in both[:-1]) == list(range(2, 12))
    acked = {d: (r.seq, r.hash) for d, r in zip(datas, both[:-1], strict=True)}
    assert await check_log(alice, room.id, acked) == 11


async def test_repeats_among_what_is_new(node: Node, alice: Phone) -> None:
    room, other = await alice.create_room(), await alice.create_room()
    first = [alice.message(room) for _ in range(5)]
    before = await put(node.submissions, first)
    fresh = [alice.message(room) for _ in range(3)]
    there = [alice.message(other) for _ in range(2)]
    batch = [fresh[0], first[1], there[0], fresh[1], fresh[0], first[4], there[1]]
    after = await put(node.submissions, [*batch, fresh[2]])
    assert seqs(before) == [2, 3, 4, 5, 6]
    assert seqs(after) == [7, 3, 2, 8, 7, 6, 3, 9]
    assert after[1] == before[1] and after[5] == before[4] and after[4] == after[0]
    acked = dict(zip(first, before, strict=True)) | dict(
        zip([*batch, fresh[2]], after, strict=True)
    )
    for of in (room.id, other.id):
        mine: Acked = {
            data: (receipt.seq, receipt.hash)
            for data, receipt in acked.items()
            if read_submission(data).log == of
        }
        assert await check_log(alice, of, mine) == len(mine) + 1


async def test_a_repeat_after_a_restart_answers_the_same(tmp_path: Path) -> None:
    chosen = make_settings(tmp_path)
    node = make_node(chosen)
    await node.start()
    async with phone(node, "alice") as alice:
        await alice.register()
        room = await alice.create_room()
        datas = [alice.message(room) for _ in range(4)]
        before = await put(node.submissions, datas)
        await node.stop()
        node = make_node(chosen)
        await node.start()
        try:
            fresh = alice.message(room)
            after = await put(node.submissions, [datas[2], fresh, *datas])
            assert seqs(after) == [4, 6, 2, 3, 4, 5]
            assert after[2:] == before
            acked: Acked = {fresh: (6, after[1].hash)}
            assert await check_log(alice, room.id, acked) == 6
        finally:
            await node.stop()


# --- what goes wrong ---------------------------------------------------------------


async def test_a_fault_in_one_refuses_that_one(
    node: Node,
    alice: Phone,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    room = await alice.create_room()
    datas = [alice.message(room) for _ in range(6)]
    real = appending._check

    def check(transaction: Any, known: Any, incoming: Any) -> None:
        if incoming.data == datas[2]:
            raise RuntimeError("a fault of ours")
        real(transaction, known, incoming)

    monkeypatch.setattr(appending, "_check", check)
    outcomes = await put(node.submissions, [*datas, datas[0]])
    assert seqs(outcomes) == [2, 3, NodeFault.code, 4, 5, 6, 2]
    monkeypatch.undo()
    (receipt,) = await put(node.submissions, [datas[2]])
    assert receipt.seq == 7
    assert await check_log(alice, room.id, {datas[2]: (7, receipt.hash)}) == 7


async def test_a_batch_whose_commit_fails_acks_nothing(
    node: Node, alice: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = await alice.create_room()
    datas = [alice.message(room) for _ in range(5)]
    await put(node.submissions, [alice.message(room)])

    def fail(_: Connection) -> None:
        raise OperationalError("COMMIT", {}, sqlite3.OperationalError("disk I/O error"))

    async with alice.session() as line:
        await line.ack(**{room.id: 0})
        await line.entries(room.id, 2)
        with monkeypatch.context() as patch:
            patch.setattr(Connection, "commit", fail)
            outcomes = await put(node.submissions, datas)
        assert all(isinstance(each, Refused) for each in outcomes)
        assert all(each.status >= 500 for each in outcomes)
        assert await check_log(alice, room.id, {}) == 2
        again = await put(node.submissions, datas)
        assert seqs(again) == [3, 4, 5, 6, 7]
        # Nobody was told of what was not stored.
        entries = await line.entries(room.id, 5)
        assert [read_entry(each).submission for each in entries] == datas
    assert await check_log(alice, room.id, {}) == 7


async def test_refusals_are_each_ones_own(node: Node, alice: Phone, bob: Phone) -> None:
    room, foreign = await alice.create_room(), await bob.create_room()
    unknown, _ = bob.room_bytes()
    good = [alice.message(room) for _ in range(3)]
    stranger = bob.message(Room(room.id, room.group))  # signed by nobody in it
    outcomes = await put(
        node.submissions, [good[0], stranger, good[1], bob.message(foreign), good[2]]
    )
    assert seqs(outcomes) == [2, UnknownRoom.code, 3, 2, 4]
    assert unknown


# --- what the writer remembers -----------------------------------------------------


async def test_a_commit_between_messages_counts_at_once(
    node: Node, alice: Phone, bob: Phone
) -> None:
    """In one batch: a message, the commit that removes its sender, another one."""
    room, joined = await meet(alice, bob)
    assert seqs(await put(node.submissions, [bob.message(joined)])) == [3]
    data, bundle, staged = alice.commit(room, remove=[bob.address])
    async with held(node.store):
        first = put(node.submissions, [bob.message(joined)])
        committing = asyncio.create_task(alice.submit(data, bundle))
        await until(lambda: node.store.waiting[0] == 2)
        then = put(node.submissions, [bob.message(joined), alice.message(room)])
    assert seqs(await first) == [4]
    assert (await committing).seq == 5
    # Alice wrote hers before she knew of the commit.
    assert seqs(await then) == [UnknownRoom.code, 6]
    room.group.apply_own(staged)
    assert seqs(await put(node.submissions, [alice.message(room)])) == [7]


async def test_who_comes_in_may_write_at_once(
    node: Node, alice: Phone, bob: Phone
) -> None:
    room = await alice.create_room()
    await put(node.submissions, [alice.message(room)])  # the room is remembered
    await alice.add(room, bob.account)
    async with bob.session() as line:
        joined = await bob.join(mail((await line.entries(bob.mailbox, 1))[-1]))
        assert (await line.submit(bob.message(joined))).seq == 4


async def test_epochs_that_are_too_old_are_refused(node: Node, alice: Phone) -> None:
    room = await alice.create_room()
    old = [alice.message(room) for _ in range(4)]
    assert seqs(await put(node.submissions, old[:1])) == [2]
    for number, outcome in ((1, 4), (2, 6), (3, StaleEpoch.code)):
        data, bundle, staged = alice.commit(room)
        await alice.submit(data, bundle)
        room.group.apply_own(staged)
        assert seqs(await put(node.submissions, [old[number]])) == [outcome]


async def test_a_revocation_counts_at_once(
    node: Node, alice: Phone, bob: Phone
) -> None:
    room = await alice.create_room()
    await alice.add(room, bob.account)
    async with further_phone(node, bob) as second:
        data, bundle, joined = second.external_commit(
            room.id, await second.group_state(room.id)
        )
        await second.submit(data, bundle)
        assert seqs(await put(node.submissions, [second.message(joined)])) == [4]
        async with held(node.store):
            first = put(node.submissions, [second.message(joined)])
            revoking = asyncio.create_task(bob.append_log(revocation(bob, second)))
            await until(lambda: node.store.waiting[0] == 2)
            then = put(node.submissions, [second.message(joined)])
        assert seqs(await first) == [5]
        await revoking
        assert seqs(await then) == [UnknownRoom.code]


async def test_what_another_process_wrote_counts_at_once(
    node: Node, alice: Phone
) -> None:
    room = await alice.create_room()
    assert seqs(await put(node.submissions, [alice.message(room)])) == [2]
    with sqlite3.connect(node.settings.database) as other:
        other.execute("DELETE FROM roster WHERE device = ?", (alice.address,))
    other.close()
    outcomes = await put(node.submissions, [alice.message(room)])
    assert seqs(outcomes) == [UnknownRoom.code]


async def test_what_is_forgotten_is_looked_up_again(
    node: Node, alice: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More rooms than are remembered, also in one batch."""
    monkeypatch.setattr(appending, "KNOWN_MAX", 2)
    rooms = [await alice.create_room() for _ in range(5)]
    datas = [alice.message(room) for _ in range(4) for room in rooms]
    outcomes = await put(node.submissions, datas)
    assert seqs(outcomes) == [seq for seq in (2, 3, 4, 5) for _ in rooms]
    for room in rooms:
        assert await check_log(alice, room.id, {}) == 5
    assert len(node.store._known) <= 2


# --- any order ---------------------------------------------------------------------


class Made:
    """A database with a room in it, and messages for it."""

    def __init__(self, data: bytes, name: str, room: LogId, texts: list[bytes]) -> None:
        self.data = data
        self.name = name
        self.room = room
        self.texts = texts
        """Of two members, in turns; every fifth is of somebody who is none."""


@pytest.fixture
async def made(tmp_path: Path) -> Made:
    chosen = make_settings(tmp_path)
    node = make_node(chosen)
    await node.start()
    try:
        async with phone(node, "alice") as alice, phone(node, "bob") as bob:
            for each in (alice, bob):
                await each.register()
                await each.upload_packages()
            room, joined = await meet(alice, bob)
            stranger = bob.room_bytes()[1]
            texts = []
            for number in range(20):
                if number % 5 == 4:
                    texts.append(bob.message(stranger))
                elif number % 2:
                    texts.append(alice.message(room))
                else:
                    texts.append(bob.message(joined))
    finally:
        await node.stop()
    with sqlite3.connect(chosen.database) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return Made(chosen.database.read_bytes(), chosen.name, room.id, texts)


@asynccontextmanager
async def opened(made: Made, path: Path) -> AsyncIterator[tuple[Store, Submissions]]:
    store = Store(path, on_events=lambda _: None)
    hub = Hub(store, made.name, time.time, 1000)
    limit = Buckets(1e9, 1e9, "")
    nobody: Any = None
    submissions = Submissions(store, hub, made.name, time.time, nobody, limit)
    await store.start()
    try:
        yield store, submissions
    finally:
        await store.stop()
        hub.close()


def read_all(room: LogId, connection: Connection) -> list[bytes]:
    log = get_log(connection, room)
    assert log is not None
    found: list[bytes] = []
    while len(found) < log.head:
        run = list_entries(
            connection, log, len(found), upto=log.head, limit=7, max_bytes=1 << 20
        )
        found += run.entries
    return found


BATCHES = st.lists(st.lists(st.integers(0, 19), min_size=1, max_size=8), max_size=8)


async def test_any_order_of_submissions_repeats_and_restarts(made: Made) -> None:
    loop = asyncio.get_running_loop()

    @settings(max_examples=25)
    @given(st.lists(st.tuples(BATCHES, st.booleans()), min_size=1, max_size=4))
    def check(lives: list[tuple[list[list[int]], bool]]) -> None:
        asyncio.run_coroutine_threadsafe(live(made, lives), loop).result(60)

    await asyncio.to_thread(check)


async def live(made: Made, lives: list[tuple[list[list[int]], bool]]) -> None:
    """Lives of a node between restarts: batches, waited for or all at once."""
    wanted: list[int] = []
    told: dict[int, Outcome] = {}
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "node.db"
        path.write_bytes(made.data)
        for batches, wait in lives:
            async with opened(made, path) as (store, submissions):
                waiting = []
                for batch in batches:
                    wanted += batch
                    each = put(submissions, [made.texts[at] for at in batch])
                    waiting.append((batch, each))
                    if wait:
                        await each
                for batch, each in waiting:
                    for at, outcome in zip(batch, await each, strict=True):
                        first = told.setdefault(at, outcome)
                        assert seqs([first]) == seqs([outcome])
                entries = await store.read(partial(read_all, made.room))
    digest, found = GENESIS, []
    for seq, data in enumerate(entries, 1):
        entry, digest = read_entry(data), chain(digest, data)
        assert entry.seq == seq
        if entry.submission in made.texts:
            at = made.texts.index(entry.submission)
            found.append(at)
            receipt = told[at]
            assert isinstance(receipt, Receipt)
            assert (receipt.seq, receipt.hash) == (seq, digest)
    # The model: each once, in the order in which they first came; strangers never.
    assert found == [at for at in dict.fromkeys(wanted) if at % 5 != 4]
    strangers = {seqs([told[at]])[0] for at in told if at % 5 == 4}
    assert strangers <= {UnknownRoom.code}


async def test_a_repeat_is_known_when_its_sender_may_write_no_more(
    node: Node, alice: Phone, bob: Phone
) -> None:
    room, his = await meet(alice, bob)
    data = bob.message(his)
    (first,) = await put(node.submissions, [data])
    assert isinstance(first, Receipt) and first.state == "committed"
    commit, bundle, _ = alice.commit(room, remove=[bob.address])
    await alice.submit(commit, bundle)
    again, late = await put(node.submissions, [data, bob.message(his, b"late")])
    assert again == first
    assert isinstance(late, UnknownRoom)


async def test_what_fails_behind_an_append_is_forgotten(
    node: Node, alice: Phone
) -> None:
    """The append is taken back with it, and so is what is remembered of the room."""
    room = await alice.create_room()
    lost, kept = (read_incoming(alice.message(room)) for _ in range(2))

    def write(transaction: Transaction) -> None:
        node.hub.append(transaction, [lost])
        raise RuntimeError("behind it")

    with pytest.raises(RuntimeError):
        await node.store.write(write)
    (outcome,) = await put(node.submissions, [kept.data])
    assert seqs([outcome]) == [2]
    assert await check_log(alice, room.id, {kept.data: (2, outcome.hash)}) == 2
