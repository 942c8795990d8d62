"""A node that lies about who is in a room, or shows two people two histories.

Each lie is told once, and what the person at the screen sees of it is looked at.
"""

from __future__ import annotations

import re
from functools import partial

import pytest

from client.verification import audit
from protocol.codec import encode
from protocol.log import Entry, LogId, read_entry
from protocol.wire import Roster
from tests.client.conftest import Join
from tests.client.fake_node import NAME, FakeNode
from tests.client.lies import alarmed, at_once, looked
from tests.client.people import (
    BOB,
    chat,
    codes,
    room_of,
    texts,
    until,
)

__all__ = ["at_once"]

EVE = f"eve@{NAME}"
GHOST = f"{EVE}/aaaaaaaaaaaaaaaa"


async def test_somebody_whom_only_the_node_has_in_a_room_is_named(
    join: Join, fake: FakeNode
) -> None:
    alice, bob, room = await chat(join)

    def add(name: LogId, roster: Roster) -> Roster:
        if name != room.id:
            return roster
        return Roster(roster.seq, [*roster.devices, GHOST], [*roster.accounts, EVE])

    fake.lie_about = add
    for client in (alice, bob):
        await client._audit.settle()
        alarm = await alarmed(client, "ghost_member")
        assert GHOST in alarm.text and alarm.room == room.id
        assert GHOST in alarm.evidence and alice.device in alarm.evidence
        # Once, also when it was dismissed.
        await client.dismiss(alarm.id)
        assert await looked(client) == []


async def test_a_ghost_is_found_by_who_joins_and_at_each_change(
    join: Join, fake: FakeNode
) -> None:
    """Nobody has to ask: the roster is read when the members changed."""
    fake.lie_about = lambda name, roster: Roster(
        roster.seq, roster.devices, [*roster.accounts, EVE]
    )
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await until(partial(room_of, bob, room.id))
    for client in (alice, bob):
        found = await until(
            client.alarms, lambda a: room.id in {alarm.room for alarm in a}
        )
        assert {alarm.code for alarm in found} == {"ghost_member"}
        assert all(EVE in alarm.text for alarm in found)


async def test_a_roster_that_is_newer_or_older_than_what_was_read_is_no_alarm(
    join: Join, fake: FakeNode
) -> None:
    alice, bob, room = await chat(join)
    for shift in (-1, 5):
        fake.lie_about = lambda name, roster, by=shift: Roster(  # type: ignore[misc]
            roster.seq + by, [*roster.devices, GHOST], roster.accounts
        )
        assert await looked(alice) == []
    row = await alice._store.run(
        lambda tx: tx.one("SELECT tries FROM audit WHERE subject = ?", room.id)
    )
    assert row is not None and row[0] > 0
    assert await texts(bob, room.id) == ["one"]


async def test_a_roster_that_never_fits_is_an_alarm_in_the_end(
    join: Join, fake: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, _, room = await chat(join)
    monkeypatch.setattr(audit, "TRIES_MAX", 3)
    fake.lie_about = lambda name, roster: replace_seq(roster, roster.seq + 10)
    for _ in range(3):
        await alice._audit.settle()
    found = [alarm for alarm in await alice.alarms() if alarm.room == room.id]
    assert [alarm.code for alarm in found] == ["ghost_member"]
    assert "never says" in found[0].text


def replace_seq(roster: Roster, seq: int) -> Roster:
    """The same roster, of another moment."""
    return Roster(seq, roster.devices, roster.accounts)


# --- two histories -----------------------------------------------------------


def altered(data: bytes) -> bytes:
    """The same entry with another time: it still reads, and hashes otherwise."""
    entry = read_entry(data)
    return encode(Entry(entry.seq, entry.term, entry.time + 1, entry.submission))


async def test_two_histories_are_found_by_each_within_one_message(
    join: Join, fake: FakeNode
) -> None:
    alice, bob, room = await chat(join)
    log = fake.logs[room.id]
    # From here on Bob is shown another log.
    fork = log.head + 1
    fake.lie_to[bob.device] = lambda name, after, entries: (
        [altered(e) if read_entry(e).seq == fork else e for e in entries]
        if name == room.id
        else entries
    )
    await alice.send_text(room.id, "two")
    await until(partial(texts, bob, room.id), lambda t: t == ["one", "two"])
    # Alice's next message names her head, and Bob's receipt or message his.
    await alice.send_text(room.id, "three")
    theirs = await until(bob.alarms)
    assert {alarm.code for alarm in theirs} == {"log_fork"}
    assert {alarm.room for alarm in theirs} == {room.id}
    ours = await until(alice.alarms)
    assert {alarm.code for alarm in ours} == {"log_fork"}
    said = [alarm for alarm in ours if BOB in alarm.text]
    assert said and NAME in said[0].text
    heads = dict(re.findall(r"(theirs|ours) at (\d+: \w+)", said[0].evidence))
    seq, ours_there = heads["ours"].split(": ")
    assert int(seq) >= fork and ours_there == log.hashes[int(seq)].hex()
    assert heads["theirs"].startswith(f"{seq}: ") and heads["theirs"] != heads["ours"]
    assert "fork" in await codes(alice, room.id)
