"""Times that have not come: a hub dates ahead, or our node's time was once far ahead.

Our clock is the node's (`client.clock`), so what was noted by a node that lied, or was
only wrong, lies in the future once the time is right again.
"""

from __future__ import annotations

from functools import partial

import pytest

from client import Client
from client.account import packages
from client.archive import backup
from client.archive.heads import current
from client.content.own import Entry
from client.doctor.ailment import Stage
from client.errors import SasRefused
from client.model import MessageId
from client.rooms.changes import Want, due_wishes, want
from client.rooms.upkeep import plan_update
from client.storage.store import Tx
from client.storage.timeline import add_notice
from client.verification import audit, steps
from protocol.account_log import add_device, read_account_log, revoke_device
from protocol.address import parse_account
from protocol.codec import decode
from protocol.log import Kind, LogId
from tests.client.conftest import Join
from tests.client.fake_node import FakeNode
from tests.client.lies import at_once, looked
from tests.client.own_devices import register_of, set_register
from tests.client.people import ALICE, BOB, CAROL, chat, messages_of, texts, until
from tests.client.test_sas import compared, ended, live
from tests.helpers.people import key

__all__ = ["at_once"]

YEAR = 365 * 24 * 3600
"""Seconds."""


def later(client: Client, seconds: int) -> None:
    """Let time pass, as a client sees it."""
    client._clock.offset += seconds


async def expire(client: Client) -> None:
    """Let a client look for comparisons that took too long."""
    await client._store.run(client.verification._comparisons.expire)


# --- comparisons --------------------------------------------------------------


@pytest.mark.parametrize("stage", ["asked", "compare"])
async def test_a_comparison_that_a_hub_dates_ahead_ends_when_others_do(
    join: Join, fake: FakeNode, stage: str
) -> None:
    alice, bob, _ = await chat(join)
    fake.offset = YEAR
    if stage == "asked":
        left = (await alice.verification.start_sas(BOB), alice)
        right = ((await live(bob, "asked")).id, bob)
        await until(lambda: alice._store.run(_in_log))
    else:
        mine, theirs = await compared(alice, bob)
        left, right = (mine.id, alice), (theirs.id, bob)
    for id, client in (left, right):
        later(client, 601)
        await expire(client)
        sas = await ended(client, id)
        assert (sas.stage, sas.code) == ("failed", "timeout")
        assert await client.alarms() == []
    # The next one is as good as ever.
    await compared(alice, bob)


def _in_log(tx: Tx) -> bool:
    return tx.one("SELECT 1 FROM sas WHERE seq IS NOT NULL") is not None


async def test_a_second_request_that_is_dated_ahead_ends_no_comparison(
    join: Join, fake: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob, room = await chat(join)
    left, right = await compared(alice, bob)
    fake.offset = YEAR
    # Bob's device asks all the same, as one of a hostile make may.
    asked = bob.verification._comparisons
    monkeypatch.setattr(asked, "_live", lambda tx, room: None)
    await bob._store.run(lambda tx: asked.start(tx, ALICE, room.id))
    bob._workers.poke(room.id)
    await bob.send_text(room.id, "behind it")
    await until(partial(texts, alice, room.id), lambda t: "behind it" in t)
    assert (await live(alice, "compare")).id == left.id
    assert right.emoji == left.emoji


async def test_no_comparison_nor_pause_outlives_a_clock_that_was_ahead(
    join: Join, fake: FakeNode
) -> None:
    alice, bob, _ = await chat(join)
    both = (alice, bob)

    def shift(seconds: int) -> None:
        fake.offset += seconds
        for client in both:
            later(client, seconds)

    shift(YEAR)
    for _ in range(steps.TRIES):
        left, right = await compared(alice, bob)
        await alice.verification.refuse(left.id)
        await ended(bob, right.id)
    shift(-YEAR)
    for client in both:
        await expire(client)
    with pytest.raises(SasRefused, match="wait an hour"):
        await alice.verification.start_sas(BOB)
    shift(YEAR)
    id = await alice.verification.start_sas(BOB)
    asked = await live(bob, "asked")
    shift(-YEAR)
    for client, one in zip(both, (id, asked.id), strict=True):
        await expire(client)
        later(client, 601)
        await expire(client)
        assert (await ended(client, one)).code == "timeout"


# --- the list of rooms --------------------------------------------------------


async def test_a_room_that_a_hub_dates_ahead_is_no_longer_on_top_than_others(
    join: Join, fake: FakeNode
) -> None:
    alice, bob, room = await chat(join)
    await join("carol")
    other = await alice.start_direct(CAROL)
    fake.offset = YEAR
    await bob.send_text(room.id, "from next year")
    await until(partial(texts, alice, room.id), lambda t: "from next year" in t)
    assert [r.id for r in await alice.rooms()] == [room.id, other.id]
    fake.offset = 0
    later(alice, 2)  # the fake node's times are whole seconds
    await alice.send_text(other.id, "of today")
    found = await alice.rooms()
    assert [r.id for r in found] == [other.id, room.id]
    assert max(r.order for r in found) <= alice._clock.now_ms()


# --- what our own clock noted when it was ahead --------------------------------


async def test_the_watch_over_the_node_goes_on_after_a_clock_that_was_ahead(
    join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, _, _ = await chat(join)
    looks: list[str] = []

    async def look(kind: audit.Kind, subject: str) -> None:
        looks.append(subject)

    monkeypatch.setattr(alice._audit, "_look", look)
    ahead = alice._clock.now_ms() + YEAR * 1000

    async def everybody() -> bool:
        # Each time: a look that was under way plans the next one itself.
        await alice._store.run(lambda tx: tx.execute("UPDATE audit SET due = ?", ahead))
        alice._audit.wake()
        return {ALICE, BOB} <= set(looks)

    await until(everybody)


async def test_who_was_revoked_while_the_clock_was_ahead_is_marked_and_named(
    join: Join, fake: FakeNode
) -> None:
    alice, bob, room = await chat(join)
    state = read_account_log(parse_account(BOB), fake.accounts[BOB])
    ask, short = bob._me.ask, bob.device.partition("/")[2]
    assert ask is not None
    fake.accounts[BOB].append(revoke_device(state, ask, short, alice._clock.now()))
    later(alice, YEAR)
    assert await looked(alice) == []
    later(alice, -YEAR)
    assert await looked(alice) == []
    fake.offset += 1  # its times are whole seconds
    await bob.send_text(room.id, "after")
    (after,) = await until(partial(messages_of, alice, room.id, "after"))
    assert "has revoked" in after.warning
    later(alice, 3601)
    (alarm,) = await looked(alice)
    assert bob.device in alarm.text and "more than an hour" in alarm.text


async def test_a_device_that_nobody_vouched_for_is_named_after_a_clock_ahead(
    join: Join, fake: FakeNode
) -> None:
    alice = await join("alice")
    state = read_account_log(parse_account(ALICE), fake.accounts[ALICE])
    ask, now = alice._me.ask, alice._clock.now()
    assert ask is not None
    fake.accounts[ALICE].append(add_device(state, ask, key().public, key().public, now))
    later(alice, YEAR)
    assert await looked(alice) == []
    later(alice, -YEAR)
    assert await looked(alice) == []
    later(alice, 601)
    (alarm,) = await looked(alice)
    assert alarm.code == "device_list_false"


async def test_a_value_from_a_clock_that_was_ahead_wins_no_longer(join: Join) -> None:
    alice = await join("alice")
    later(alice, YEAR)
    await set_register(alice, "mute", "x", b"next year")
    later(alice, -YEAR)
    entry = Entry("mute", "x", b"today", alice._clock.now_ms())
    await alice._store.run(lambda tx: alice.self_group.adopt(tx, [entry]))
    assert await register_of(alice, "mute", "x") == b"today"
    # The order of all others is what it was.
    older = Entry("mute", "x", b"yesterday", entry.time - 1)
    await alice._store.run(lambda tx: alice.self_group.adopt(tx, [older]))
    assert await register_of(alice, "mute", "x") == b"today"


async def test_our_devices_are_told_again_when_we_were_here(join: Join) -> None:
    alice = await join("alice")

    async def told() -> int:
        await alice._store.run(alice.devices._present)
        value = await register_of(alice, "seen", alice.device)
        return decode(value, tuple[bytes, int])[1]

    later(alice, YEAR)
    assert await told() > alice._clock.now_ms() - 60_000
    later(alice, -YEAR)
    assert abs(await told() - alice._clock.now_ms()) < 60_000


async def test_keys_are_renewed_that_a_clock_ahead_has_dated(join: Join) -> None:
    alice, _, room = await chat(join)
    now = alice._clock.now_ms()

    def renews(tx: Tx, updated: int) -> bool:
        tx.execute("DELETE FROM intent")
        tx.execute("UPDATE room SET updated = ? WHERE id = ?", updated, room.id)
        tx.execute(
            "INSERT INTO outbox (room, txn, kind, content, state, message)"
            " VALUES (?, randomblob(16), ?, x'', 'waiting', 'test')",
            room.id,
            Kind.MESSAGE,
        )
        plan_update(tx, room.id, now)
        found = tx.one("SELECT 1 FROM intent WHERE kind = ?", Want.UPDATE)
        tx.execute("DELETE FROM intent")
        tx.execute("DELETE FROM outbox WHERE message = 'test'")
        return found is not None

    at = partial(partial, renews)
    assert await alice._store.run(at(updated=now + YEAR * 1000))
    assert not await alice._store.run(at(updated=now + 1000))
    assert not await alice._store.run(at(updated=now - 1000))


async def test_what_a_clock_ahead_put_off_is_done(join: Join) -> None:
    alice, _, room = await chat(join)
    now = alice._clock.now_ms()

    def wanted(tx: Tx) -> list[str]:
        for days, who in ((-1, "due"), (1, "later"), (365, "ahead")):
            due = now + days * 24 * 3600 * 1000
            want(tx, room.id, Want.REMOVE_DEVICE, who, due=due)
        found = due_wishes(tx, room.id, now)
        tx.execute("DELETE FROM intent")
        return [wish.subject for wish in found]

    assert await alice._store.run(wanted) == ["due", "ahead"]


def _ill(tx: Tx, room: LogId, due: int) -> MessageId:
    """A message that cannot be read, and was asked for until `due`."""
    id = MessageId("1" * 32)
    add_notice(
        tx,
        room,
        seq=1,
        line=7,
        device=BOB,
        time=1,
        code="own_lost",
        text="A message could not be read.",
        id=id,
    )
    tx.execute(
        "INSERT INTO ailment (id, room, seq, time, kind, device, txn, code, state, due,"
        " tries) VALUES (?, ?, 1, 1, 'message', ?, x'', 'decryption_failed', ?, ?, 1)",
        id,
        room,
        f"{BOB}/{'a' * 16}",
        Stage.REPAIRING,
        due,
    )
    return id


async def test_what_was_asked_for_with_a_clock_ahead_is_asked_for_again(
    join: Join,
) -> None:
    alice, _, room = await chat(join)
    now = alice._clock.now_ms()

    def asks(tx: Tx) -> tuple[int, list[bytes]]:
        _ill(tx, room.id, now + YEAR * 1000)
        tx.execute(
            "INSERT INTO answer (room, id, key, due, time) VALUES (?, 'x', x'', ?, ?)",
            room.id,
            *(now + YEAR * 1000, now + YEAR * 1000),
        )
        for n, time in enumerate((now, now + YEAR * 1000, now - YEAR * 1000)):
            key = bytes([n]) * 32
            tx.execute("INSERT INTO resend_key VALUES (?, ?, ?)", key, key, time)
        alice._resending.prepare(tx, room.id)
        assert tx.one("SELECT 1 FROM answer") is None
        (tries,) = tx.all("SELECT tries FROM ailment")[0]
        old = tx.all("SELECT public FROM resend_key ORDER BY public LIMIT 2")
        return int(tries), [bytes(row[0]) for row in old]

    tries, keys = await alice._store.run(asks)
    assert tries == 2
    # The key of now is kept, and the new one; none from years before or after.
    assert keys[0] == bytes(32) and keys[1] not in (b"\1" * 32, b"\2" * 32)


async def test_the_last_key_package_is_made_anew_after_a_clock_ahead(
    join: Join, fake: FakeNode
) -> None:
    alice = await join("alice")
    before = fake.last_resort[alice.device]
    refill = partial(
        packages.refill, alice._store, alice._transport, alice._me, alice._clock
    )
    await refill()
    assert fake.last_resort[alice.device] == before
    ahead = alice._clock.now_ms() + YEAR * 1000
    await alice._store.run(
        lambda tx: tx.execute("UPDATE key_package SET created = ?", ahead)
    )
    await refill()
    assert fake.last_resort[alice.device] != before


async def test_no_backup_waits_for_a_clock_that_was_ahead(join: Join) -> None:
    alice, _, room = await chat(join)
    await alice.backup.now()
    await alice.send_text(room.id, "two")
    await until(
        partial(alice._store.run, lambda tx: tx.all("SELECT 1 FROM archive_change"))
    )
    ahead = backup._now() + YEAR * 1000

    def set_to(tx: Tx, column: str, value: int) -> None:
        tx.execute(f"UPDATE archive SET {column} = ?", value)

    def wasteful(tx: Tx) -> bool:
        job = current(tx)
        assert job is not None
        return backup._is_wasteful(tx, job)

    assert not await alice._store.run(alice.backup._due)
    await alice._store.run(partial(set_to, column="whole", value=ahead))
    assert await alice._store.run(alice.backup._due)
    # Nor does what was deleted here stay in a large one for longer than a day.
    await alice._store.run(partial(set_to, column="size", value=backup.SMALL + 1))
    for stale, expected in ((backup._now(), False), (ahead, True)):
        await alice._store.run(partial(set_to, column="stale", value=stale))
        assert await alice._store.run(wasteful) is expected
