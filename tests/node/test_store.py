"""The writer and the chain: group commit, savepoints, and the log's invariants."""

import asyncio
import sqlite3
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, insert, select, text

from node.event import EntriesAppended, Event
from node.storage import store as store_module
from node.storage.chain import (
    ROOM,
    append,
    create_log,
    find_entry,
    get_log,
    hash_at,
    list_entries,
)
from node.storage.schema import DatabaseProblem, _upgrade, check_schema, migrate
from node.storage.store import Store, Transaction
from node.storage.tables import METADATA, SettingRow, core
from protocol.errors import NodeBusy, NotAllowed, StorageFull
from protocol.log import GENESIS, LogId, chain, event_id, read_entry
from protocol.wire import Receipt

ROOM_ID = LogId("a" * 52)


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[tuple[Store, list[Event]]]:
    events: list[Event] = []
    migrate(path)
    store = Store(path, on_events=events.extend)
    await store.start()
    try:
        yield store, events
    finally:
        await store.stop()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened(tmp_path / "node.db") as (store, _):
        yield store


def add(data: bytes) -> "Append":
    return Append(data)


class Append:
    """The operation that appends a submission once."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __call__(self, transaction: Transaction) -> Receipt:
        connection = transaction.connection
        log = get_log(connection, ROOM_ID)
        if log is None:
            log = create_log(connection, ROOM_ID, ROOM, "a", now=1)
        event = event_id(self.data)
        known = find_entry(connection, ROOM_ID, event)
        return known or append(transaction, log, self.data, event, 1)


async def entries_of(store: Store, after: int, limit: int) -> list[bytes]:
    def read(connection: Connection) -> list[bytes]:
        log = get_log(connection, ROOM_ID)
        if log is None:
            return []
        run = list_entries(
            connection,
            log,
            after,
            upto=log.head,
            limit=limit,
            max_bytes=1 << 20,
        )
        return run.entries

    return await store.read(read)


@given(
    st.lists(st.integers(0, 12), max_size=40),
    st.integers(1, 7),
    st.sets(st.integers(0, 39)),
)
@settings(max_examples=12, deadline=None)
async def test_the_log_keeps_its_invariants(
    texts: list[int], limit: int, restarts: set[int]
) -> None:
    """Any submissions, repeated and interleaved, over restarts of the store."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "node.db"
        told: dict[bytes, Receipt] = {}
        read: list[bytes] = []
        position = 0
        while position < len(texts) or not position:
            async with opened(path) as (store, events):
                batch = []
                while position < len(texts):
                    batch.append(b"%d" % texts[position])
                    position += 1
                    if position in restarts:
                        break
                receipts = await asyncio.gather(
                    *(store.write(add(data)) for data in batch)
                )
                for data, receipt in zip(batch, receipts, strict=True):
                    # The same submission answers the same, for ever.
                    assert told.setdefault(data, receipt) == receipt
                appended = [e for e in events if isinstance(e, EntriesAppended)]
                # A reader with a cursor sees each entry once, in order.
                while page := await entries_of(store, len(read), limit):
                    read += page
                told_of = [data for e in appended for data in e.entries]
                assert told_of == read[len(read) - len(told_of) :]
            if not texts:
                break
        digest = GENESIS
        for seq, data in enumerate(read, 1):
            entry = read_entry(data)
            digest = chain(digest, data)
            receipt = told[entry.submission]
            assert (entry.seq, receipt.seq, receipt.hash) == (seq, seq, digest)
        assert len(read) == len(set(texts))


async def test_one_failing_operation_harms_no_other(store: Store) -> None:
    def fail(transaction: Transaction) -> None:
        add(b"never")(transaction)
        raise NotAllowed("no")

    def collide(transaction: Transaction) -> None:
        for _ in range(2):
            transaction.connection.execute(
                insert(core(SettingRow)).values(key="k", value="v")
            )

    results = await asyncio.gather(
        store.write(add(b"one")),
        store.write(fail),
        store.write(collide),
        store.write(add(b"two")),
        return_exceptions=True,
    )
    assert isinstance(results[0], Receipt) and isinstance(results[3], Receipt)
    assert isinstance(results[1], NotAllowed)
    assert isinstance(results[2], Exception)
    assert (results[0].seq, results[3].seq) == (1, 2)
    assert len(await entries_of(store, 0, 9)) == 2
    keys = await store.read(lambda c: c.scalars(select(core(SettingRow).c.key)).all())
    assert keys == []


async def test_nothing_is_told_before_it_is_on_disk(tmp_path: Path) -> None:
    async with opened(tmp_path / "node.db") as (store, _):
        await asyncio.gather(*(store.write(add(b"%d" % n)) for n in range(50)))
        # Another connection, as after a crash: it sees everything that was acked.
        with sqlite3.connect(tmp_path / "node.db") as other:
            assert other.execute("SELECT count(*) FROM entry").fetchone() == (50,)


async def test_a_full_disk_is_a_refusal_and_no_loss(store: Store) -> None:
    await store.write(add(b"one"))

    def shrink(transaction: Transaction) -> None:
        pages = transaction.connection.scalar(text("PRAGMA page_count"))
        transaction.connection.execute(text(f"PRAGMA max_page_count = {pages}"))

    await store.write(shrink)
    with pytest.raises(StorageFull):
        for number in range(200):
            await store.write(add(b"%d" % number + bytes(4000)))
    head = len(await entries_of(store, 0, 500))
    await store.write(
        lambda t: t.connection.execute(text("PRAGMA max_page_count = 1000000")) and None
    )
    assert (await store.write(add(b"again"))).seq == head + 1


async def test_a_full_queue_refuses(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "QUEUE_MAX", 3)
    results = await asyncio.gather(
        *(store.write(add(b"%d" % n)) for n in range(50)), return_exceptions=True
    )
    done = [r for r in results if isinstance(r, Receipt)]
    assert any(isinstance(r, NodeBusy) for r in results)
    assert len(await entries_of(store, 0, 99)) == len(done)
    with pytest.raises(NodeBusy):
        await store.write(add(b"x"), size=1 << 40)


async def test_a_stopped_store_refuses_and_keeps_what_it_took(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    async with opened(path) as (store, _):
        tasks = [asyncio.create_task(store.write(add(b"%d" % n))) for n in range(20)]
        await asyncio.sleep(0)
    assert len({(await task).seq for task in tasks}) == 20
    with pytest.raises(NodeBusy):
        await store.write(add(b"late"))
    with pytest.raises(NodeBusy):
        await store.read(lambda c: None)


async def test_another_process_is_noticed(tmp_path: Path) -> None:
    path, noticed = tmp_path / "node.db", asyncio.Event()
    migrate(path)
    store = Store(
        path, on_events=lambda _: None, on_foreign_change=noticed.set, idle=0.1
    )
    await store.start()
    try:
        await store.write(add(b"ours"))
        await asyncio.sleep(0.25)
        assert not noticed.is_set()
        with sqlite3.connect(path) as other:
            other.execute("INSERT INTO setting VALUES ('k', 'v')")
        async with asyncio.timeout(5):
            await noticed.wait()
    finally:
        await store.stop()


async def test_hashes_are_known_at_every_entry(store: Store) -> None:
    receipts = [await store.write(add(b"%d" % n)) for n in range(3)]

    def read(connection: Connection) -> list[bytes | None]:
        log = get_log(connection, ROOM_ID)
        assert log is not None
        return [hash_at(connection, log, seq) for seq in range(5)]

    found = await store.read(read)
    assert found == [GENESIS, *(r.hash for r in receipts), None]


# --- the schema ------------------------------------------------------------------


def test_migrations_make_the_tables_that_the_code_has(tmp_path: Path) -> None:
    from sqlalchemy import create_engine, inspect

    path = tmp_path / "node.db"
    assert migrate(path) is None
    assert path.stat().st_mode & 0o777 == 0o600
    check_schema(path)
    found = inspect(create_engine(f"sqlite:///{path}"))
    assert set(found.get_table_names()) == {*METADATA.tables, "alembic_version"}
    for name, table in METADATA.tables.items():
        columns = {c["name"]: c["nullable"] for c in found.get_columns(name)}
        assert columns == {c.name: c.nullable for c in table.columns}, name
        indexes = {i["name"] for i in found.get_indexes(name)}
        assert {i.name for i in table.indexes} <= indexes, name
        unique = {u["name"] for u in found.get_unique_constraints(name)}
        assert unique == {
            c.name for c in table.constraints if c.__visit_name__.startswith("unique")
        }, name


def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    migrate(path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    before = path.read_bytes()
    for attempt in (migrate, check_schema):
        with pytest.raises(DatabaseProblem, match="newer version of Telex"):
            attempt(path)
    assert path.read_bytes() == before


def test_an_older_database_is_copied_before_it_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    _upgrade(path, "0001")
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO setting VALUES ('name', 'example.org')")
        for device, revoked in (("gone", True), ("here", False)):
            connection.execute(
                "INSERT INTO device VALUES (?, 'alice', x'', x'', 1, 1, ?)",
                (device, revoked),
            )
            connection.execute("INSERT INTO roster VALUES ('room', ?)", (device,))
    with pytest.raises(DatabaseProblem, match="telex-node run"):
        check_schema(path)
    copy = migrate(path)
    assert copy is not None and copy.stat().st_mode & 0o777 == 0o600
    with sqlite3.connect(copy) as connection:
        rows = connection.execute("SELECT value FROM setting").fetchall()
    assert rows == [("example.org",)]
    check_schema(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT device FROM roster").fetchall() == [("here",)]


def test_files_that_are_no_database_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    with pytest.raises(DatabaseProblem, match="telex-node init"):
        check_schema(path)
    path.write_bytes(b"this is no database at all, only text" * 100)
    for attempt in (migrate, check_schema):
        with pytest.raises(DatabaseProblem, match="restore a backup"):
            attempt(path)
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE photo (id INTEGER)")
    with pytest.raises(DatabaseProblem, match="not the database of a Telex node"):
        migrate(path)
