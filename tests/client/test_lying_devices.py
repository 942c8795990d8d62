"""A node that lies about people's devices: more than there are, fewer, or others.

Each lie is told once, and what the person at the screen sees of it is looked at.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from client import Client
from client.account import vouching
from client.enrol import profile as enrol_profile
from client.errors import NodeNonsense
from client.model import Trust
from protocol.account_log import (
    AccountState,
    make_credential,
    read_account_log,
    revoke_device,
)
from protocol.address import DeviceAddress, parse_account
from tests.client.conftest import Join
from tests.client.fake_node import FakeNode, hash_at
from tests.client.home import Home, home
from tests.client.home import running as linked
from tests.client.lies import alarmed, at_once, log_in, looked, two_devices
from tests.client.own_devices import register_of
from tests.client.people import (
    ALICE,
    BOB,
    chat,
    messages_of,
    online,
    room_of,
    texts,
    until,
)

__all__ = ["at_once", "home"]


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
        await until(partial(register_of, phone, vouching.REGISTER, tablet.device))
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
