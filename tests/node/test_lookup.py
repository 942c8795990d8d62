"""Looking up many rows at once: what is found, and by which index."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event

from node.rooms.carrying import find_outcomes
from node.rooms.member import members_among
from node.storage.chain import ROOM, append, create_log, find_entries, get_log
from node.storage.engine import open_engine
from node.storage.lookup import LOOKED_UP
from node.storage.schema import migrate
from node.storage.store import Transaction
from protocol.log import LogId, event_id

LOGS = [LogId(letter * 52) for letter in "abc"]


@pytest.fixture
def connection(tmp_path: Path) -> Any:
    migrate(tmp_path / "node.db")
    with open_engine(tmp_path / "node.db").connect() as connection:
        yield connection


def test_of_many_the_held_are_found(connection: Connection) -> None:
    transaction = Transaction(connection)
    written = {}
    for name in LOGS[:2]:
        create_log(connection, name, ROOM, "a", now=1)
        for number in range(LOOKED_UP + 5):
            log, data = get_log(connection, name), b"%d in %s" % (number, name.encode())
            assert log is not None
            written[name, event_id(data)] = append(
                transaction, log, data, event_id(data), 1
            )
    absent = [(LOGS[2], event_id(b"0 in a")), (LOGS[0], event_id(b"never"))]
    elsewhere = [(LOGS[1], event) for log, event in written if log == LOGS[0]]
    found = find_entries(connection, [*written, *absent, *elsewhere])
    assert found == {event: receipt for (_, event), receipt in written.items()}
    assert find_entries(connection, []) == {}


def test_each_is_looked_up_in_an_index(connection: Connection) -> None:
    """A scan would cost more with each entry that was ever stored."""
    plans: list[str] = []

    @event.listens_for(connection, "before_cursor_execute")
    def explain(_: Any, cursor: Any, sql: str, values: Any, *rest: Any) -> None:
        if sql.startswith("WITH"):
            rows = cursor.execute(f"EXPLAIN QUERY PLAN {sql}", values).fetchall()
            plans.extend(row[3] for row in rows)

    wanted = [(name, b"e" * 32) for name in LOGS]
    find_entries(connection, wanted)
    find_outcomes(connection, wanted)
    members_among(connection, {(LOGS[0], "alice@example.org")})
    looked = [plan for plan in plans if "SEARCH" in plan]
    assert [plan.split()[1] for plan in looked] == ["entry", "outcome", "member"]
    assert all(plan.count("=?") == 2 for plan in looked), looked
    assert not any(
        plan.startswith("SCAN") and plan.split()[1] in ("entry", "outcome", "member")
        for plan in plans
    )
