"""Fingerprints, codes, verified people, and rooms that ask for them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from client import Client, Room
from client.account import self_group
from client.errors import BadText, Mismatch, SasRefused, Unverified
from client.model import RoomMember, Trust
from client.verification import trust
from client.verification.verification import Verification
from protocol.codec import encode
from protocol.credential import credential_root
from protocol.errors import AddressError, NotAllowed, UnknownAccount
from protocol.fingerprint import Party, fingerprint_digits, fingerprint_uri
from protocol.key import KeyPair
from tests.client.conftest import Join
from tests.client.fake_node import NAME, FakeNode
from tests.client.own_devices import pair
from tests.client.people import (
    ALICE,
    BOB,
    CAROL,
    PASSWORD,
    chat,
    codes,
    online,
    opened,
    profile,
    room_of,
    texts,
    until,
)
from tests.client.test_sas import ended, live
from tests.client.test_sas import trust as trust_in


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_group, "DELAY", 0.05)
    monkeypatch.setattr("client.network.sync.JOIN_GRACE", 0.1)


def three(members: list[RoomMember]) -> bool:
    """Whether three devices are in a room."""
    return sum(member.devices for member in members) == 3


async def member(client: Client, room: Room, account: str) -> Trust:
    """How a client trusts somebody in a room."""
    found = {m.account: m.trust for m in await client.members(room.id)}
    return found[account]


async def test_both_see_the_same_fingerprint(join: Join) -> None:
    alice, bob, _ = await chat(join)
    left = await alice.verification.fingerprint(BOB)
    right = await bob.verification.fingerprint(ALICE)
    assert (left.digits, left.emoji, left.uri) == (right.digits, right.emoji, right.uri)
    roots = [credential_root(c._me.credential) for c in (alice, bob)]
    expected = fingerprint_digits(Party(ALICE, roots[0]), Party(BOB, roots[1]))
    assert left.digits == expected and left.account == BOB
    assert left.uri.startswith("telex:verify:")


async def test_a_fingerprint_of_somebody_new_is_fetched(join: Join) -> None:
    alice, _ = await join("alice"), await join("carol")
    assert len((await alice.verification.fingerprint(CAROL)).digits) == 71
    with pytest.raises(UnknownAccount):
        await alice.verification.fingerprint(f"nobody@{NAME}")
    with pytest.raises(BadText):
        await alice.verification.fingerprint(ALICE)
    with pytest.raises(AddressError):
        await alice.verification.fingerprint("no address")


async def test_the_other_ones_code_verifies(join: Join) -> None:
    alice, bob, room = await chat(join)
    assert await trust_in(alice, room) is Trust.UNVERIFIED
    shown = (await bob.verification.fingerprint(ALICE)).uri
    assert await alice.verification.check_uri(BOB, shown)
    # Looking is not deciding.
    assert await trust_in(alice, room) is Trust.UNVERIFIED
    await alice.verification.confirm(BOB)
    assert await trust_in(alice, room) is await member(alice, room, BOB)
    assert await trust_in(alice, room) is Trust.VERIFIED
    assert await member(alice, room, ALICE) is Trust.VERIFIED
    # Bob has not looked at anything.
    assert await trust_in(bob, room) is Trust.UNVERIFIED
    await alice.verification.withdraw(BOB)
    assert await trust_in(alice, room) is Trust.UNVERIFIED


async def test_a_code_with_another_key_is_a_mismatch(join: Join) -> None:
    alice, bob, room = await chat(join)
    roots = [credential_root(c._me.credential) for c in (alice, bob)]
    forged = KeyPair.from_seed(bytes(32)).public
    for parties in (
        (Party(ALICE, roots[0]), Party(BOB, forged)),
        (Party(ALICE, forged), Party(BOB, roots[1])),
    ):
        with pytest.raises(Mismatch, match="does not fit"):
            await alice.verification.check_uri(BOB, fingerprint_uri(*parties))
    with pytest.raises(BadText, match="carol"):
        other = fingerprint_uri(Party(CAROL, forged), Party(BOB, roots[1]))
        await alice.verification.check_uri(BOB, other)
    with pytest.raises(BadText, match="not a code"):
        await alice.verification.check_uri(BOB, "hello")
    assert await trust_in(alice, room) is Trust.UNVERIFIED


async def test_who_is_verified_stays_so_after_a_restart_and_with_more_devices(
    join: Join, fake: FakeNode, tmp_path: Path
) -> None:
    bob, words = await Client.register(
        profile(tmp_path, "bob", fake.url), BOB, invite="", password=PASSWORD
    )
    alice = await join("alice")
    async with bob:
        await online(bob)
        room = await alice.start_direct(BOB)
        await until(bob.rooms)
        await alice.verification.confirm(BOB)
        phone = await Client.login(
            profile(tmp_path, "phone", fake.url),
            BOB,
            password=PASSWORD,
            phrase=" ".join(words),
        )
        async with phone:
            await until(phone.rooms, lambda rooms: rooms and rooms[0].active)
            await until(
                partial(codes, alice, room.id),
                lambda c: {"device_added", "rejoined"} & set(c),
            )
            assert await member(alice, room, BOB) is Trust.VERIFIED
            listed = await until(
                partial(alice.verification.device_list, BOB), lambda d: len(d) == 2
            )
            assert {d.device for d in listed} == {bob.device, phone.device}
            assert {d.trust for d in listed} == {Trust.VERIFIED}
            assert all(d.created > 1_700_000_000 for d in listed)
            await alice.send_text(room.id, "to both")
            await until(partial(texts, phone, room.id), lambda t: t == ["to both"])
        assert await alice.alarms() == []
    await alice.close()
    async with opened(tmp_path, "alice", fake.url) as again:
        assert await trust_in(again, room) is Trust.VERIFIED


async def test_what_one_device_verified_the_other_knows(
    join: Join, fake: FakeNode, tmp_path: Path
) -> None:
    bob = await join("bob")
    async with pair(fake, tmp_path) as own:
        room = await own.laptop.start_direct(BOB)
        await until(own.phone.rooms, lambda rooms: rooms and rooms[0].active)
        await own.laptop.verification.confirm(BOB)
        await until(partial(trust_in, own.phone, room), lambda t: t is Trust.VERIFIED)
        await own.phone.verification.withdraw(BOB)
        await until(
            partial(trust_in, own.laptop, room), lambda t: t is Trust.UNVERIFIED
        )
        for client in (own.laptop, own.phone, bob):
            assert await client.alarms() == []


async def test_one_device_takes_a_comparison_and_the_other_stops(
    join: Join, fake: FakeNode, tmp_path: Path
) -> None:
    bob = await join("bob")
    async with pair(fake, tmp_path) as own:
        room = await own.laptop.start_direct(BOB)
        await until(own.phone.rooms, lambda rooms: rooms and rooms[0].active)
        await until(
            lambda: bob.members(room.id), lambda m: sum(x.devices for x in m) == 3
        )
        id = await bob.verification.start_sas(ALICE)
        on_laptop = await live(own.laptop, "asked")
        on_phone = await live(own.phone, "asked")
        await own.phone.verification.accept(on_phone.id)
        left = await ended(own.laptop, on_laptop.id)
        assert (left.stage, left.code) == ("refused", "elsewhere")
        theirs, ours = await live(bob, "compare"), await live(own.phone, "compare")
        assert theirs.emoji == ours.emoji
        await bob.verification.agree(id)
        await own.phone.verification.agree(ours.id)
        assert (await ended(bob, id)).stage == "done"
        # The laptop learns of it by the self group.
        for client in (own.phone, own.laptop):
            await until(partial(trust_in, client, room), lambda t: t is Trust.VERIFIED)
        # One that a sibling began is not begun once more.
        await own.phone.verification.start_sas(BOB)
        await live(bob, "asked")
        await until(partial(_siblings, own.laptop), bool)
        with pytest.raises(SasRefused, match="Another device of yours"):
            await own.laptop.verification.start_sas(BOB)
        for client in (own.laptop, own.phone, bob):
            assert await client.alarms() == []


async def _siblings(client: Client) -> int:
    return await client._store.run(
        lambda tx: len(tx.all("SELECT 1 FROM sas WHERE role = 'sibling' AND NOT ended"))
    )


async def test_two_devices_that_accept_at_once_are_one(
    join: Join, fake: FakeNode, tmp_path: Path
) -> None:
    bob = await join("bob")
    async with pair(fake, tmp_path) as own:
        room = await own.laptop.start_direct(BOB)
        await until(own.phone.rooms, lambda rooms: rooms and rooms[0].active)
        await until(
            lambda: bob.members(room.id), lambda m: sum(x.devices for x in m) == 3
        )
        await bob.verification.start_sas(ALICE)
        asked = [await live(c, "asked") for c in (own.laptop, own.phone)]
        # Neither has seen what the other does.
        for client, sas in zip((own.laptop, own.phone), asked, strict=True):
            await client.verification.accept(sas.id)
        theirs = await live(bob, "compare")
        states = await until(
            lambda: _both(own.laptop, own.phone, asked[0].id, asked[1].id),
            lambda s: "waiting" not in s,
        )
        assert sorted(states) == ["compare", "refused"]
        winner = own.laptop if states[0] == "compare" else own.phone
        assert (await live(winner, "compare")).emoji == theirs.emoji


async def _both(one: Client, other: Client, first: str, second: str) -> list[str]:
    found = [await one.verification.sas(first), await other.verification.sas(second)]
    return [sas.stage for sas in found if sas is not None]


# --- rooms for verified people -----------------------------------------------------


async def test_a_room_for_verified_people_waits_and_goes_on(join: Join) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = await alice.create_group("Garden", [BOB])
    await until(bob.rooms)
    await alice.set_refuse_unverified(room.id, True)
    for client in (alice, bob):
        await until(
            partial(room_of, client, room.id), lambda r: r and r.refuse_unverified
        )
        assert "refuse_unverified_on" in await codes(client, room.id)
    await alice.send_text(room.id, "not yet")
    seen = await room_of(alice, room.id)
    assert seen is not None and BOB in seen.note and "waits" in seen.note
    # What waits has not failed, and nobody got it; comparing gets through.
    with pytest.raises(NotAllowed):
        await bob.set_refuse_unverified(room.id, False)
    id = await alice.verification.start_sas(BOB)
    asked = await live(bob, "asked")
    await bob.verification.accept(asked.id)
    await live(alice, "compare")
    assert await texts(bob, room.id) == []
    await alice.verification.agree(id)
    await live(bob, "compare")
    await bob.verification.agree(asked.id)
    await until(partial(texts, bob, room.id), lambda t: t == ["not yet"])
    seen = await room_of(alice, room.id)
    assert seen is not None and seen.note == ""
    assert await alice.alarms() == await bob.alarms() == []


async def test_a_chat_for_verified_people_lets_them_compare_in_it(join: Join) -> None:
    alice, bob, room = await chat(join)
    await bob.set_refuse_unverified(room.id, True)
    await until(partial(room_of, alice, room.id), lambda r: r and r.refuse_unverified)
    await alice.send_text(room.id, "two")
    id = await alice.verification.start_sas(BOB)
    asked = await live(bob, "asked")
    await bob.verification.accept(asked.id)
    await live(alice, "compare")
    await live(bob, "compare")
    assert await texts(bob, room.id) == ["one"]
    await alice.verification.agree(id)
    await bob.verification.agree(asked.id)
    await until(partial(texts, bob, room.id), lambda t: t == ["one", "two"])


async def test_nobody_unverified_is_added_to_such_a_room(join: Join) -> None:
    alice, bob, carol = [await join(name) for name in ("alice", "bob", "carol")]
    room = await alice.create_group("Garden", [BOB])
    await until(bob.rooms)
    await alice.verification.confirm(BOB)
    await alice.set_refuse_unverified(room.id, True)
    with pytest.raises(Unverified, match=f"{CAROL} first"):
        await alice.add_members(room.id, [CAROL])
    assert len(await alice.members(room.id)) == 2
    await alice.verification.confirm(CAROL)
    await alice.add_members(room.id, [CAROL])
    await until(carol.rooms)
    # And taken back again, by who may.
    await alice.set_refuse_unverified(room.id, False)
    await until(
        partial(room_of, carol, room.id), lambda r: r and not r.refuse_unverified
    )
    assert "refuse_unverified_off" in await codes(carol, room.id)


# --- what our devices tell each other ----------------------------------------------


async def test_nonsense_of_another_device_changes_nothing(join: Join) -> None:
    alice, _, room = await chat(join)
    root = await alice._store.run(lambda tx: trust.known(tx, BOB))
    for value in (b"", b"\xc1", encode([2, bytes(32), True, True, b""]), encode([1])):
        await alice._store.run(partial(trust.receive, account=BOB, value=value))
    assert await alice._store.run(lambda tx: trust.known(tx, BOB)) == root
    assert isinstance(alice.verification, Verification)
    assert await trust_in(alice, room) is Trust.UNVERIFIED


async def test_a_mere_sighting_takes_nothing_back(join: Join) -> None:
    """A new device pins the same key later than another one has verified it."""
    alice, _, room = await chat(join)
    await alice.verification.confirm(BOB)
    found = await alice._store.run(lambda tx: trust.known(tx, BOB))
    assert found is not None
    sighting = encode([1, found.root, False, False, b""])
    await alice._store.run(lambda tx: trust.receive(tx, BOB, sighting))
    assert await trust_in(alice, room) is Trust.VERIFIED
    told = await alice._store.run(trust.untold)
    assert [account for account, _ in told] == [BOB]
