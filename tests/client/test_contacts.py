"""A person's root key changes: nothing is sent until one chose, nothing is lost."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client import Client, Room, State
from client.account import self_group
from client.errors import KeyChanged, UnknownAlarm
from client.model import Trust
from client.storage.store import Tx
from client.verification import trust
from client.verification.trust import check_root
from protocol.codec import encode
from protocol.key import KeyPair
from tests.client.conftest import Join
from tests.client.fake_node import FakeNode
from tests.client.own_devices import pair, set_register
from tests.client.people import (
    ALICE,
    BOB,
    CAROL,
    PASSWORD,
    chat,
    online,
    opened,
    profile,
    room_of,
    state_of,
    texts,
    until,
)
from tests.client.test_sas import trust as trust_in
from tests.helpers.fuzz import fuzzing

OTHER = KeyPair.from_seed(b"another root key, of nobody here").public


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_group, "DELAY", 0.05)
    monkeypatch.setattr("client.network.sync.JOIN_GRACE", 0.1)


async def shown(client: Client, account: str, root: bytes, room: Room) -> None:
    """A client meets a root key of somebody."""
    await client._store.run(lambda tx: check_root(tx, account, root, room.id))


async def swapped(client: Client, account: str, room: Room) -> None:
    """A client knew another key of somebody than the one that is in the rooms."""

    def swap(tx: Tx) -> None:
        found = trust.known(tx, account)
        assert found is not None
        tx.execute("UPDATE contact SET root = ? WHERE account = ?", OTHER, account)
        check_root(tx, account, found.root, room.id)

    await client._store.run(swap)


async def held(client: Client, room: Room) -> str:
    """Wait for a room to say why nothing is sent; what it says."""
    found = await until(partial(room_of, client, room.id), lambda r: r and r.note)
    assert found is not None
    return found.note


async def test_a_changed_key_stops_all_rooms_and_says_why(
    join: Join, fake: FakeNode, tmp_path: Path
) -> None:
    alice, bob, room = await chat(join)
    garden = await alice.create_group("Garden", [BOB])
    await until(partial(room_of, bob, garden.id))
    await alice.verification.confirm(BOB)
    await shown(alice, BOB, OTHER, room)
    for each in (room, garden):
        await alice.send_text(each.id, "waits")
        assert f"keys of {BOB} changed" in await held(alice, each)
        assert await state_of(alice, each.id, "waits") is State.PENDING
        assert await trust_in(alice, each) is Trust.CHANGED
    (alarm,) = await alice.alarms()
    assert alarm.code == "key_changed" and alarm.time > 0
    assert BOB in alarm.text and "had verified" in alarm.text
    assert "accept the new key or keep the old one" in alarm.text
    assert OTHER.hex() in alarm.evidence
    # The same again is no news, and nothing is forgotten by a restart.
    await shown(alice, BOB, OTHER, garden)
    await alice.close()
    async with opened(tmp_path, "alice", fake.url) as again:
        await online(again)
        assert [a.id for a in await again.alarms()] == [alarm.id]
        (change,) = await again.verification.changed()
        assert change.account == BOB and not change.kept
        assert set(change.rooms) == {room.id, garden.id}
        assert change.old.digits != change.new.digits
        assert change.old == await again.verification.fingerprint(BOB)
        assert await state_of(again, room.id, "waits") is State.PENDING
        with pytest.raises(KeyChanged):
            await again.verification.confirm(BOB)
        with pytest.raises(KeyChanged):
            await again.verification.start_sas(BOB)
        assert "waits" not in await texts(bob, room.id)


async def test_the_new_key_is_accepted_and_what_waited_goes_out(
    join: Join, fake: FakeNode, tmp_path: Path
) -> None:
    alice, bob, room = await chat(join)
    await alice.verification.confirm(BOB)
    await swapped(alice, BOB, room)
    await alice.send_text(room.id, "waits")
    await held(alice, room)
    await alice.verification.accept_new_key(BOB)
    await until(partial(texts, bob, room.id), lambda t: t == ["one", "waits"])
    assert await trust_in(alice, room) is Trust.UNVERIFIED
    assert await alice.verification.changed() == []
    assert await alice.alarms() == []
    found = await room_of(alice, room.id)
    assert found is not None and found.note == ""
    # The key before it is known to be an old one: no alarm, and it is not taken back.
    await shown(alice, BOB, OTHER, room)
    assert await alice.alarms() == []
    await alice.close()
    async with opened(tmp_path, "alice", fake.url) as again:
        await again.send_text(room.id, "more")
        await until(partial(texts, bob, room.id), lambda t: t[-1] == "more")
        # It can be verified anew.
        await again.verification.confirm(BOB)
        assert await trust_in(again, room) is Trust.VERIFIED


async def test_the_old_key_is_kept_and_rooms_with_the_new_one_stay_shut(
    join: Join, fake: FakeNode, tmp_path: Path
) -> None:
    alice, bob, carol = [await join(name) for name in ("alice", "bob", "carol")]
    garden = await alice.create_group("Garden", [BOB, CAROL])
    for client in (bob, carol):
        await until(partial(room_of, client, garden.id))
    await swapped(alice, BOB, garden)
    await alice.send_text(garden.id, "waits")
    await held(alice, garden)
    await alice.verification.keep_old_key(BOB)
    assert "kept the old key" in await held(alice, garden)
    assert await alice.alarms() == []
    (change,) = await alice.verification.changed()
    assert change.kept
    await alice.close()
    async with opened(tmp_path, "alice", fake.url) as again:
        await online(again)
        assert await state_of(again, garden.id, "waits") is State.PENDING
        assert [c.kept for c in await again.verification.changed()] == [True]
        # It goes on without them.
        await again.remove_member(garden.id, BOB)
        await until(partial(texts, carol, garden.id), lambda t: t == ["waits"])
        found = await room_of(again, garden.id)
        assert found is not None and found.note == ""
    assert await texts(bob, garden.id) == []


async def test_a_lie_about_a_key_is_refused_and_the_chat_goes_on(join: Join) -> None:
    """The node once showed another key; the person says that they have the old one."""
    alice, bob, room = await chat(join)
    await alice.verification.confirm(BOB)
    await shown(alice, BOB, OTHER, room)
    await alice.send_text(room.id, "waits")
    await held(alice, room)
    await alice.verification.keep_old_key(BOB)
    await until(partial(texts, bob, room.id), lambda t: t == ["one", "waits"])
    # A third one is an alarm of its own.
    await shown(alice, BOB, bytes(32), room)
    assert [a.code for a in await alice.alarms()] == ["key_changed"]
    assert [c.kept for c in await alice.verification.changed()] == [False]


@pytest.mark.parametrize("choice", ["accept", "keep"])
async def test_the_choice_holds_on_all_own_devices(
    join: Join, fake: FakeNode, tmp_path: Path, choice: str
) -> None:
    await join("bob")
    async with pair(fake, tmp_path) as own:
        room = await own.laptop.start_direct(BOB)
        await until(own.phone.rooms, lambda rooms: rooms and rooms[0].active)
        for client in (own.laptop, own.phone):
            await shown(client, BOB, OTHER, room)
            assert len(await client.alarms()) == 1
        if choice == "accept":
            await own.laptop.verification.accept_new_key(BOB)
            await until(own.phone.verification.changed, lambda c: c == [])
        else:
            await own.laptop.verification.keep_old_key(BOB)
            await until(
                own.phone.verification.changed, lambda c: [x.kept for x in c] == [True]
            )
        assert await own.phone.alarms() == []
        roots = [
            (await c._store.run(lambda tx: trust.known(tx, BOB)))
            for c in (own.laptop, own.phone)
        ]
        assert roots[0] == roots[1]


async def test_two_own_devices_that_were_shown_different_keys_say_so(
    join: Join, fake: FakeNode, tmp_path: Path
) -> None:
    """At first contact the node shows the phone another key of Bob than the laptop."""
    await join("bob")
    async with pair(fake, tmp_path) as own:
        room = await own.laptop.start_direct(BOB)
        sighting = encode([1, OTHER, False, False, b""])
        await set_register(own.phone, trust.REGISTER, BOB, sighting)
        await until(own.laptop.alarms, lambda a: [x.code for x in a] == ["key_changed"])
        assert await trust_in(own.laptop, room) is Trust.CHANGED


async def test_somebody_who_starts_anew_is_let_in_once_they_are_accepted(
    join: Join, fake: FakeNode, tmp_path: Path
) -> None:
    """Bob lost his words, and registers again at the same address."""
    alice, bob, room = await chat(join)
    await bob.close()
    fake.accounts.pop(BOB)
    fake.packages.pop(bob.device, None)
    fake.last_resort.pop(bob.device, None)
    again, _ = await Client.register(
        profile(tmp_path, "again", fake.url), BOB, invite="", password=PASSWORD
    )
    async with again:
        await online(again)
        with pytest.raises(KeyChanged):
            await alice.create_group("Garden", [BOB])
        await alice.send_text(room.id, "is it you?")
        assert f"keys of {BOB} changed" in await held(alice, room)
        (change,) = await alice.verification.changed()
        theirs = await again.verification.fingerprint(ALICE)
        assert (change.new.digits, change.new.uri) == (theirs.digits, theirs.uri)
        await alice.verification.accept_new_key(BOB)
        await until(
            partial(state_of, alice, room.id, "is it you?"),
            lambda state: state is not State.PENDING,
        )
        garden = await alice.create_group("Garden", [BOB])
        await until(partial(room_of, again, garden.id))
        await alice.send_text(garden.id, "hello again")
        await until(partial(texts, again, garden.id), lambda t: t == ["hello again"])
        # The new device is let into the old chat, in the place of the old one.
        await until(partial(room_of, again, room.id), lambda r: r and r.active)
        await alice.send_text(room.id, "here too")
        await until(partial(texts, again, room.id), lambda t: t[-1:] == ["here too"])
        (member,) = [m for m in await alice.members(room.id) if not m.own]
        assert (member.account, member.devices) == (BOB, 1)
        assert await alice.alarms() == []


async def test_who_says_to_be_me_changes_nothing_of_mine(join: Join) -> None:
    alice, bob, room = await chat(join)
    await shown(alice, ALICE, OTHER, room)
    (alarm,) = await alice.alarms()
    assert alarm.code == "key_changed" and "says to be you" in alarm.text
    assert await alice.verification.changed() == []
    await alice.send_text(room.id, "two")
    await until(partial(texts, bob, room.id), lambda t: t == ["one", "two"])


@pytest.mark.fuzz
async def test_no_value_of_the_register_breaks_what_is_known(join: Join) -> None:
    alice, _, room = await chat(join)
    store = alice._store
    await alice._stop()
    roots = st.sampled_from([OTHER, bytes(32), b"short", b""])
    shared = st.tuples(st.just(1), roots, st.booleans(), st.booleans(), roots)
    values = st.one_of(st.binary(max_size=80), shared.map(encode))
    accounts = st.sampled_from([ALICE, BOB, CAROL])

    @fuzzing
    @given(st.lists(st.tuples(accounts, values), max_size=4))
    def noise(told: list[tuple[str, bytes]]) -> None:
        def play(tx: Tx) -> None:
            own = trust.known(tx, ALICE)
            for account, value in told:
                trust.receive(tx, account, value)
                found = trust.known(tx, account)
                assert found is None or len(found.root) == 32
            # Whatever a device of ours says, our own root is from our own words.
            assert trust.known(tx, ALICE) == own
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            store._transact(play)

    await asyncio.to_thread(noise)
    assert room.direct


async def test_alarms_are_kept_until_they_are_dismissed(
    join: Join, fake: FakeNode, tmp_path: Path
) -> None:
    alice, _, room = await chat(join)
    await shown(alice, BOB, OTHER, room)
    (alarm,) = await alice.alarms()
    await alice.close()
    async with opened(tmp_path, "alice", fake.url) as again:
        assert await again.alarms() == [alarm]
        await again.dismiss(alarm.id)
        assert await again.alarms() == []
        # It is not raised for the same again, and still nothing is sent.
        await shown(again, BOB, OTHER, room)
        assert await again.alarms() == []
        assert await trust_in(again, room) is Trust.CHANGED
        for wrong in ("", "0", "-1", "x", "9" * 40, "²"):
            with pytest.raises(UnknownAlarm):
                await again.dismiss(wrong)
