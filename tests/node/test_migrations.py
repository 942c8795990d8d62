"""Migrations that move what is stored, there and back."""

import tracemalloc
from pathlib import Path

from alembic import command
from alembic.config import Config

import node.storage
from node.storage.chain import ROOM, append_many, create_log, get_log, list_entries
from node.storage.engine import open_engine
from node.storage.schema import _upgrade, migrate
from node.storage.store import Store, Transaction
from protocol.log import Kind, LogId, event_id, make_submission

LOGS = [LogId("r" * 52), LogId("s" * 52)]
SENDER = "eve@peer.example/" + "a" * 16


def downgrade(path: Path, version: str) -> None:
    """Take a database back, as an admin would with Alembic."""
    config = Config()
    scripts = Path(node.storage.__path__[0]) / "migrations"
    config.set_main_option("script_location", str(scripts))
    engine = open_engine(path)
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        config.attributes["connection"] = connection
        command.downgrade(config, version)
        connection.commit()
    engine.dispose()


def entries(path: Path) -> list[list[bytes]]:
    engine = open_engine(path, read_only=True)
    found = []
    with engine.connect() as connection:
        for name in LOGS:
            log = get_log(connection, name)
            assert log is not None
            run = list_entries(
                connection, log, 0, upto=log.head, limit=1000, max_bytes=1 << 30
            )
            found.append(run.entries)
    engine.dispose()
    return found


async def test_short_keys_are_taken_back_a_few_entries_at_a_time(
    tmp_path: Path,
) -> None:
    path = tmp_path / "node.db"
    migrate(path)
    store = Store(path, on_events=lambda _: None)
    await store.start()

    def fill(transaction: Transaction) -> None:
        for name in LOGS:
            log = create_log(transaction.connection, name, ROOM, "here", now=0)
            data = [
                make_submission(
                    name, SENDER, n.to_bytes(16), Kind.JOIN_REQUEST, bytes(50_000)
                )
                for n in range(150)
            ]
            append_many(transaction, log, [(d, event_id(d)) for d in data], 0)

    await store.write(fill)
    await store.stop()
    before = entries(path)
    assert [len(each) for each in before] == [150, 150]
    tracemalloc.start()
    try:
        downgrade(path, "0003")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000, "of 15 MB of entries"
    engine = open_engine(path, read_only=True)
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT log, seq, length(event_id) FROM entry ORDER BY log, seq"
        ).all()
    engine.dispose()
    assert [tuple(row) for row in rows] == [
        (name, seq, 32) for name in LOGS for seq in range(1, 151)
    ]
    _upgrade(path)
    assert entries(path) == before
