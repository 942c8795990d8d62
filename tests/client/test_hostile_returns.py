"""Who comes back, or stays, in rooms under keys that are not theirs any more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from client import Client
from client.account import self_group
from client.storage.store import Tx
from client.verification import audit, membership, suspicion
from client.verification.trust import check_root
from protocol.key import KeyPair
from protocol.log import LogId
from protocol.policy import device_of
from tests.client.conftest import Join
from tests.client.home import Home, home
from tests.client.home import running as linked
from tests.client.people import (
    ALICE,
    BOB,
    CAROL,
    PASSWORD,
    codes,
    messages_of,
    room_of,
    texts,
    until,
)
from tests.client.plant import accounts, alarms

__all__ = ["home"]

OTHER = KeyPair.from_seed(b"another root key, of nobody here").public


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits that are not what is tested."""
    monkeypatch.setattr(self_group, "DELAY", 0.05)
    monkeypatch.setattr("client.network.sync.JOIN_GRACE", 0.1)
    monkeypatch.setattr(audit, "SPREAD", 1)
    monkeypatch.setattr(audit, "PAUSE", 0.01)


async def test_a_leaf_under_a_key_that_was_given_up_gets_nothing(
    join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob, _ = await join("alice"), await join("bob"), await join("carol")
    room = (await alice.create_group("Garden", [BOB, CAROL])).id
    chat = (await alice.start_direct(BOB)).id
    for one in (room, chat):
        await until(partial(room_of, bob, one), lambda r: r and r.active)
    await alice.set_refuse_unverified(room, True)
    await until(partial(room_of, bob, room), lambda r: r and r.refuse_unverified)
    await alice.verification.confirm(CAROL)
    await alice._store.run(lambda tx: check_root(tx, BOB, OTHER, None))
    await alice.verification.accept_new_key(BOB)
    await alice.verification.confirm(BOB)
    for one in (room, chat):
        held = await until(partial(room_of, alice, one), lambda r: r and r.note)
        assert held is not None and "another root key" in held.note
    await alice.send_text(room, "for the verified bob only")
    await alice.send_text(chat, "and this")
    # The owner of a group takes it out, when nobody asked for its place.
    monkeypatch.setattr(membership, "PLACE_KEPT", 0)
    members = alice.verification._membership
    await alice._store.run(lambda tx: members.part_with(tx, BOB))
    await until(partial(accounts, alice, room), lambda a: BOB not in a)
    await until(
        partial(messages_of, alice, room, "for the verified bob only"),
        lambda m: m and m[0].seq,
    )
    assert await texts(bob, room) == [] == await texts(bob, chat)
    still = await room_of(alice, chat)
    assert still is not None and "start a new chat" in still.note


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_revoked_device_that_comes_back_is_put_out_again(
    join: Join, home: Home, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    """It proves a lie of the hub only where it cannot have been under way."""
    if not at_once:
        monkeypatch.setattr(suspicion, "UNDER_WAY", 0)

    async def devices(client: Client) -> list[str]:
        def look(tx: Tx) -> list[str]:
            group = client._groups.get(tx, room)
            assert group is not None
            return [device_of(m.identity) for m in group.members()]

        return await client._store.run(look)

    laptop, bob = home.laptop, await join("bob")
    async with garden(home, bob) as (room, phone):
        for client in (laptop, bob):
            await until(partial(devices, client), lambda d: phone.device not in d)
        await bob._contacts.refresh(ALICE)
        await come_back(phone, room)
        for client in (laptop, bob):
            await until(partial(returned, client, phone.device))
            if not at_once:
                await until(partial(alarms, client))
                (alarm,) = await client.alarms()
                assert alarm.code == "device_list_false"
                assert phone.device in alarm.text and "all the same" in alarm.text
        await bob.send_text(room, "secret of bob")
        await laptop.send_text(room, "secret")
        for client in (laptop, bob):
            await until(
                partial(texts, client, room),
                lambda t: {"secret", "secret of bob"} <= set(t),
            )
            assert phone.device not in await devices(client)
            assert bool(await alarms(client)) is not at_once
        assert not set(await texts(phone, room)) & {"secret", "secret of bob"}


async def test_who_comes_back_and_is_not_put_out_is_an_alarm_in_a_minute(
    join: Join, home: Home
) -> None:
    bob = await join("bob")
    async with garden(home, bob) as (room, phone):
        await until(partial(codes, bob, room), lambda c: "device_removed" in c)
        await home.laptop.close()
        await bob._contacts.refresh(ALICE)
        await come_back(phone, room)
        await until(partial(returned, bob, phone.device))
        await bob._audit.settle()
        assert not await alarms(bob)
        bob._clock.offset += suspicion.UNDER_WAY // 1000
        await bob._audit.settle()
        assert await alarms(bob) == {"device_list_false"}
        await bob.send_text(room, "secret")
        held = await until(partial(room_of, bob, room), lambda r: r and r.note)
        assert held is not None and phone.device in held.note


@asynccontextmanager
async def garden(home: Home, bob: Client) -> AsyncIterator[tuple[LogId, Client]]:
    """A room with Bob, and a phone that was in it until it was revoked just now."""
    room = (await home.laptop.create_group("Garden", [BOB])).id
    await until(partial(room_of, bob, room), lambda r: r and r.active)
    async with linked(await home.link("phone")) as phone:
        await until(partial(room_of, phone, room), lambda r: r and r.active)
        await home.laptop.devices.revoke(phone.device)
        yield room, phone


async def come_back(phone: Client, room: LogId) -> None:
    """A revoked device asks to be let in, and the hub does."""

    def force(tx: Tx) -> None:
        phone._groups.drop(tx, room, forget=True)
        tx.execute("UPDATE room SET status = 'asked', asked = 0 WHERE id = ?", room)

    await phone._store.run(force)
    phone._workers.poke(room)


async def returned(client: Client, device: str) -> bool:
    """Whether a client has seen a revoked device come back."""
    return await client._store.run(lambda tx: suspicion.is_returned(tx, device))


async def test_who_was_revoked_while_this_device_was_away_is_no_liar(
    join: Join, home: Home
) -> None:
    """The list of devices is read before the room in which they came and went."""
    laptop, bob = home.laptop, await join("bob")
    room = (await laptop.create_group("Garden", [BOB])).id
    await until(partial(room_of, bob, room), lambda r: r and r.active)
    await bob.close()
    async with linked(await home.link("phone")) as phone:
        await until(partial(room_of, phone, room), lambda r: r and r.active)
        await laptop.devices.revoke(phone.device)
        await until(partial(codes, laptop, room), lambda c: "device_removed" in c)
    back = await Client.open(bob.profile, password=PASSWORD)
    await back._contacts.refresh(ALICE)
    async with back:
        await until(partial(codes, back, room), lambda c: "device_removed" in c)
        await back._audit.settle()
        assert not await alarms(back)
        await back.send_text(room, "hello")
        await until(partial(texts, laptop, room), lambda t: t == ["hello"])
