"""A node that lies about who is in a room, about people's devices, about a log.

Each lie is told once, and what the person at the screen sees of it is looked at; and
long honest stories raise nothing at all.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client import Alarm, Client, State
from client.account import self_group
from client.enrol import profile as enrol_profile
from client.errors import ClientError, NodeNonsense
from client.model import Trust
from client.storage.store import Tx
from client.verification import audit
from protocol.account_log import (
    AccountState,
    make_credential,
    read_account_log,
    revoke_device,
)
from protocol.address import DeviceAddress, parse_account
from protocol.codec import encode
from protocol.errors import Refused
from protocol.log import Entry, LogId, read_entry
from protocol.wire import Roster
from tests.client.conftest import Join
from tests.client.fake_node import NAME, FakeNode, hash_at, running
from tests.client.home import Home, home
from tests.client.home import running as linked
from tests.client.own_devices import register_of
from tests.client.people import (
    ALICE,
    BOB,
    CAROL,
    PASSWORD,
    codes,
    messages_of,
    online,
    opened,
    profile,
    room_of,
    state_of,
    texts,
    until,
)
from tests.client.test_sas import chat
from tests.helpers.fuzz import LONG

__all__ = ["home"]

EVE = f"eve@{NAME}"
GHOST = f"{EVE}/aaaaaaaaaaaaaaaa"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_group, "DELAY", 0.05)
    monkeypatch.setattr("client.network.sync.JOIN_GRACE", 0.1)
    monkeypatch.setattr(audit, "SPREAD", 1)
    monkeypatch.setattr(audit, "PAUSE", 0.01)


async def alarmed(client: Client, code: str) -> Alarm:
    """Wait for a client to have one alarm, and no other."""
    found = await until(client.alarms)
    assert [alarm.code for alarm in found] == [code]
    return found[0]


async def looked(client: Client) -> list[Alarm]:
    """Let a client look at everything, twice; what it says."""
    for _ in range(2):
        await client._audit.settle()
    return await client.alarms()


@asynccontextmanager
async def two_devices(
    fake: FakeNode, tmp_path: Path, name: str
) -> AsyncIterator[tuple[Client, str]]:
    """A device of an account, and the words to make another one."""
    client, words = await Client.register(
        profile(tmp_path, f"{name}-laptop", fake.url),
        f"{name}@{NAME}",
        invite="",
        password=PASSWORD,
    )
    async with client:
        yield await online(client), " ".join(words)


async def log_in(fake: FakeNode, tmp_path: Path, name: str, words: str) -> Client:
    """The account's second device."""
    return await Client.login(
        profile(tmp_path, f"{name}-phone", fake.url),
        f"{name}@{NAME}",
        password=PASSWORD,
        phrase=words,
    )


# --- who is in a room --------------------------------------------------------


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


# --- devices of people -------------------------------------------------------


def of_entry(seq: int, fake: FakeNode, account: str) -> object:
    """Makes credentials that name an older head of their account log."""

    def make(state: AccountState, device: DeviceAddress) -> bytes:
        old = replace(state, seq=seq, head=hash_at(fake.accounts[account][:seq]))
        return make_credential(old, device)

    return make


async def test_a_device_that_its_owner_does_not_list_is_named_and_marked(
    join: Join, fake: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await join("alice")
    async with two_devices(fake, tmp_path, "bob") as (bob, words):
        room = await alice.start_direct(BOB)
        await until(partial(room_of, bob, room.id))
        # Alice is shown the list as it was; the device says nothing of a newer one.
        fake.lie_of = lambda account, entries, device: (
            entries[:2] if (account, device) == (BOB, alice.device) else entries
        )
        with monkeypatch.context() as patch:
            patch.setattr(enrol_profile, "make_credential", of_entry(2, fake, BOB))
            phone = await log_in(fake, tmp_path, "bob", words)
        async with phone:
            await until(phone.rooms, lambda rooms: rooms and rooms[0].active)
            await phone.send_text(room.id, "it is me")
            await until(partial(texts, alice, room.id))
            alarm = await alarmed(alice, "device_list_false")
            assert alarm.room == room.id
            assert phone.device in alarm.text and BOB in alarm.text
            (message,) = await messages_of(alice, room.id, "it is me")
            assert "not in its owner's list" in message.warning
            await bob.send_text(room.id, "and me")
            (good,) = await until(partial(messages_of, alice, room.id, "and me"))
            assert good.warning == ""
            counted = {
                m.account: m.unverified_devices for m in await alice.members(room.id)
            }
            assert counted == {ALICE: 0, BOB: 1}
            listed = {
                d.device: d.trust for d in await alice.verification.device_list(BOB)
            }
            assert listed == {
                bob.device: Trust.UNVERIFIED,
                phone.device: Trust.CHANGED,
            }
            # It was late and not false: the mark goes, the alarm stays to be read.
            fake.lie_of = lambda account, entries, device: entries
            await alice._audit.settle()
            (message,) = await messages_of(alice, room.id, "it is me")
            assert message.warning == ""


async def test_a_device_of_mine_that_i_do_not_list_is_an_alarm_with_advice(
    join: Join, fake: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await join("bob")
    async with two_devices(fake, tmp_path, "alice") as (alice, words):
        room = await alice.start_direct(BOB)
        fake.lie_of = lambda account, entries, device: (
            entries[:2] if (account, device) == (ALICE, alice.device) else entries
        )
        with monkeypatch.context() as patch:
            patch.setattr(enrol_profile, "make_credential", of_entry(2, fake, ALICE))
            phone = await log_in(fake, tmp_path, "alice", words)
        async with phone:
            await until(phone.rooms, lambda rooms: rooms and rooms[0].active)
            alarm = await alarmed(alice, "device_list_false")
            assert phone.device in alarm.text and "24 words" in alarm.text
            assert "revoke" in alarm.text and alarm.room in fake.logs
            assert room.active


async def test_a_new_device_in_my_list_that_nobody_vouches_for_is_an_alarm(
    join: Join, fake: FakeNode
) -> None:
    """Somebody has the account's signing key, and no words."""
    from protocol.account_log import add_device
    from tests.helpers.people import key

    alice = await join("alice")
    ask = alice._me.ask
    assert ask is not None
    state = read_account_log(parse_account(ALICE), fake.accounts[ALICE])
    stolen = add_device(state, ask, key().public, key().public, alice._clock.now())
    fake.accounts[ALICE].append(stolen)
    # One of our own devices may still say that it was the one that added it.
    assert await looked(alice) == []
    alice._clock.offset += 601
    await alice._audit.settle()
    alarm = await alarmed(alice, "device_list_false")
    after = read_account_log(parse_account(ALICE), fake.accounts[ALICE])
    (new,) = set(after.devices) - set(state.devices)
    assert new in alarm.text and "recover" in alarm.text
    await alice.dismiss(alarm.id)
    assert await looked(alice) == []


async def test_devices_that_i_linked_myself_are_no_alarm(home: Home) -> None:
    """This device added them; the others are told so in the self group."""
    laptop = home.laptop
    async with (
        linked(await home.link("phone")) as phone,
        linked(await home.link("tablet")) as tablet,
    ):
        await laptop._store.run(laptop.verification.share)
        await until(partial(register_of, phone, audit.VOUCHED, tablet.device))
        for client in (laptop, phone, tablet):
            await until(partial(_listed, client), lambda n: n == 3)
            assert await looked(client) == []
            client._clock.offset += 601
            assert await looked(client) == []


async def _listed(client: Client) -> int:
    return len([device for device in await client.devices.list() if not device.revoked])


async def test_a_revoked_device_is_marked_at_once_and_an_alarm_in_an_hour(
    join: Join, fake: FakeNode
) -> None:
    """The node lets a revoked device go on, and nobody takes it out of the room."""
    alice, bob, room = await chat(join)
    await bob.send_text(room.id, "before")
    await until(partial(messages_of, alice, room.id, "before"))
    ask = bob._me.ask
    assert ask is not None
    state = read_account_log(parse_account(BOB), fake.accounts[BOB])
    short = bob.device.partition("/")[2]
    fake.accounts[BOB].append(revoke_device(state, ask, short, alice._clock.now()))
    assert await looked(alice) == []
    fake.offset += 1
    await bob.send_text(room.id, "after")
    (after,) = await until(partial(messages_of, alice, room.id, "after"))
    (before,) = await messages_of(alice, room.id, "before")
    assert "has revoked" in after.warning and before.warning == ""
    alice._clock.offset += 3601
    await alice._audit.settle()
    alarm = await alarmed(alice, "device_list_false")
    assert bob.device in alarm.text and "more than an hour" in alarm.text


# --- lists of devices that are cut short or exchanged ------------------------


async def test_a_list_that_is_shorter_than_it_was_is_an_alarm_with_both_heads(
    join: Join, fake: FakeNode, tmp_path: Path
) -> None:
    alice = await join("alice")
    async with two_devices(fake, tmp_path, "bob") as (_, words):
        phone = await log_in(fake, tmp_path, "bob", words)
        async with phone:
            await online(phone)
            room = await alice.start_direct(BOB)
            assert len(fake.accounts[BOB]) == 4
            fake.lie_of = lambda account, entries, device: (
                entries[:2] if account == BOB else entries
            )
            with pytest.raises(NodeNonsense, match="do not go on from them"):
                await alice.create_group("Garden", [BOB])
            alarm = await alarmed(alice, "account_log_withheld")
            for seq in (4, 2):
                head = hash_at(fake.accounts[BOB][:seq]).hex()
                assert f"{seq} {head}" in alarm.evidence
            # What was known counts: the chat goes on.
            await alice.send_text(room.id, "hello")
            await until(partial(texts, phone, room.id))


async def test_a_device_that_knows_a_longer_list_gives_the_node_away(
    join: Join, fake: FakeNode, tmp_path: Path
) -> None:
    alice = await join("alice")
    async with two_devices(fake, tmp_path, "bob") as (bob, words):
        room = await alice.start_direct(BOB)
        await until(partial(room_of, bob, room.id))
        fake.lie_of = lambda account, entries, device: (
            entries[:2] if (account, device) == (BOB, alice.device) else entries
        )
        phone = await log_in(fake, tmp_path, "bob", words)
        async with phone:
            await until(phone.rooms, lambda rooms: rooms and rooms[0].active)
            alarm = await alarmed(alice, "account_log_withheld")
            assert phone.device in alarm.text and alarm.room == room.id
            for seq in (4, 2):
                head = hash_at(fake.accounts[BOB][:seq]).hex()
                assert f"{seq} {head}" in alarm.evidence
            await phone.send_text(room.id, "it is me")
            (message,) = await until(partial(messages_of, alice, room.id, "it is me"))
            assert message.warning


async def test_a_list_that_does_not_hold_is_refused(join: Join, fake: FakeNode) -> None:
    alice = await join("alice")
    await join("bob")
    forged = list(reversed(fake.accounts[BOB]))
    fake.lie_of = lambda account, entries, device: forged if account == BOB else entries
    with pytest.raises(NodeNonsense, match="does not hold"):
        await alice.start_direct(BOB)
    assert (await alarmed(alice, "bad_account_log")).room is None
    assert await alice.rooms() == []


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
    # Nothing is on its way; from here on Bob is shown another log.
    await until(
        partial(state_of, alice, room.id, "one"), lambda s: s is State.DELIVERED
    )
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


# --- and no alarm where nobody lies ------------------------------------------

steps = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.integers(0, 2)),
        st.tuples(st.just("rename"), st.integers(0, 2)),
        st.tuples(st.just("verify"), st.integers(0, 2)),
        st.tuples(st.just("device"), st.just(1)),
        st.tuples(st.just("remove"), st.just(2)),
        st.tuples(st.just("add"), st.just(2)),
        st.tuples(st.just("leave"), st.just(2)),
        st.tuples(st.just("restart"), st.integers(0, 2)),
        st.tuples(st.just("rules"), st.integers(0, 1)),
        st.tuples(st.just("look"), st.integers(0, 2)),
        st.tuples(st.just("compare"), st.integers(1, 2)),
    ),
    min_size=4,
    max_size=14,
)


@settings(
    max_examples=60 if LONG else 5,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(story=steps)
def test_honest_stories_raise_no_alarm(
    tmp_path_factory: pytest.TempPathFactory, story: list[tuple[str, int]]
) -> None:
    asyncio.run(live_through(tmp_path_factory.mktemp("story"), story))


async def live_through(folder: Path, story: list[tuple[str, int]]) -> None:
    """Live a story with three people, then let everybody look at everything."""
    async with running() as fake, AsyncExitStack() as stack:
        people: list[Client] = []
        words: list[str] = []
        for name in ("alice", "bob", "carol"):
            client, phrase = await Client.register(
                profile(folder, name, fake.url),
                f"{name}@{NAME}",
                invite="",
                password=PASSWORD,
            )
            await stack.enter_async_context(client)
            people.append(await online(client))
            words.append(" ".join(phrase))
        room = (await people[0].create_group("Garden", [BOB, CAROL])).id
        for client in people[1:]:
            await until(partial(room_of, client, room))
        more: list[Client] = []
        for what, who in story:
            try:
                await act(fake, folder, people, words, more, stack, room, what, who)
            except (ClientError, Refused):
                continue  # refused to their faces, as it should be
        await asyncio.gather(*(until(partial(quiet, c)) for c in [*people, *more]))
        for client in [*people, *more]:
            assert await looked(client) == [], story
            # And everything could be looked at.
            assert await client._store.run(_failed) == [], story


def _failed(tx: Tx) -> list[object]:
    return list(tx.all("SELECT kind, subject FROM audit WHERE tries > 0"))


async def act(
    fake: FakeNode,
    folder: Path,
    people: list[Client],
    words: list[str],
    more: list[Client],
    stack: AsyncExitStack,
    room: LogId,
    what: str,
    who: int,
) -> None:
    """One step of a story."""
    client = people[who]
    other = people[(who + 1) % 3].account
    match what:
        case "say":
            await client.send_text(room, "words")
        case "rename":
            await client.rename(room, "Orchard")
        case "verify":
            await client.verification.confirm(other)
        case "device" if not more:
            phone = await log_in(fake, folder, "bob", words[1])
            more.append(await stack.enter_async_context(phone))
        case "remove":
            await people[0].remove_member(room, client.account)
        case "add":
            await people[0].add_members(room, [client.account])
        case "leave":
            await client.leave(room)
        case "rules":
            await people[0].set_refuse_unverified(room, bool(who))
        case "compare":
            await client.verification.start_sas(ALICE)
        case "look":
            await client._audit.settle()
        case "restart":
            await client.close()
            name = client.account.partition("@")[0]
            people[who] = await stack.enter_async_context(
                opened(folder, name, fake.url)
            )


async def quiet(client: Client) -> bool:
    """Whether nothing is on its way from a client (what is held may stay)."""
    await online(client)
    rows = await client._store.run(
        lambda tx: tx.all("SELECT 1 FROM staged UNION SELECT 1 FROM welcome")
    )
    return not rows
