"""Devices of an account over the wire: named and revoked."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from client import Client
from client.errors import (
    BadText,
    NotManager,
    PhraseNeeded,
    UnknownDevice,
    WrongPhrase,
)
from client.model import Device
from client.storage.store import Tx
from protocol.credential import read_credential
from protocol.errors import NodeFault
from tests.client.conftest import Join
from tests.client.fake_node import FakeNode
from tests.client.home import (
    Home,
    active,
    at_once,
    devices_of,
    home,
    leaf_keys,
    running,
)
from tests.client.own_devices import hidden, register_of
from tests.client.people import (
    ALICE,
    BOB,
    PASSWORD,
    online,
    opened,
    profile,
    texts,
    until,
)

__all__ = ["at_once", "home"]

# --- names -----------------------------------------------------------------------


async def test_a_name_is_seen_on_all_devices(home: Home) -> None:
    async with running(await home.link("phone")) as phone:
        await home.laptop.devices.rename(phone.device, "Alice's pocket")

        async def name() -> str:
            return next(d for d in await phone.devices.list() if d.own).name

        await until(name, lambda n: n == "Alice's pocket")
        with pytest.raises(UnknownDevice):
            await phone.devices.rename(f"{ALICE}/aaaaaaaaaaaaaaaa", "x")
        with pytest.raises(BadText):
            await phone.devices.rename(phone.device, "")


# --- revoking --------------------------------------------------------------------


async def test_a_revoked_device_is_out_of_all_rooms_and_locked_out(
    home: Home, join: Join
) -> None:
    bob = await join("bob")
    room = await home.laptop.start_direct(BOB)
    garden = await home.laptop.create_group("Garden", [BOB])
    async with running(await home.link("phone")) as phone:
        for id in (room.id, garden.id):
            await active(phone, id)
        ((own, _),) = await until(partial(hidden, phone))
        await home.laptop.devices.revoke(phone.device)
        for id in (room.id, garden.id, own):
            await until(
                partial(devices_of, home.laptop, id),
                lambda d: d and phone.device not in d,
            )
        for id in (room.id, garden.id):
            await until(
                partial(devices_of, bob, id), lambda d: d and phone.device not in d
            )
        await bob.send_text(room.id, "without the phone")
        await until(partial(texts, home.laptop, room.id), lambda t: len(t) == 1)
        assert await texts(phone, room.id) == []
    lost = [d for d in await home.laptop.devices.list() if d.revoked]
    assert [d.id for d in lost] == [phone.device] and not lost[0].manager


async def test_the_other_devices_renew_their_keys_after_it(
    home: Home, join: Join
) -> None:
    await join("bob")
    room = await home.laptop.start_direct(BOB)
    async with (
        running(await home.link("phone")) as phone,
        running(await home.link("tablet")) as tablet,
    ):
        for client in (phone, tablet):
            await active(client, room.id)
            await until(partial(devices_of, client, room.id), lambda d: len(d) == 4)
        before = await leaf_keys(home.laptop, room.id)
        await home.laptop.devices.revoke(phone.device)
        tablet.reconnect()
        await tablet.devices.check()

        async def renewed() -> bool:
            now = await leaf_keys(home.laptop, room.id)
            return phone.device not in now and all(
                now[d] != before[d] for d in (home.laptop.device, tablet.device)
            )

        await until(renewed)


async def test_revoking_goes_on_after_a_restart(home: Home, join: Join) -> None:
    await join("bob")
    room = await home.laptop.start_direct(BOB)
    async with running(await home.link("phone")) as phone:
        await active(phone, room.id)
    home.fake.fail["commit"] = NodeFault()
    await home.laptop.devices.revoke(phone.device)
    await home.laptop.close()
    async with opened(home.tmp_path, "laptop", home.fake.url) as again:
        await online(again)
        await until(
            partial(devices_of, again, room.id),
            lambda d: d and phone.device not in d,
        )


async def test_another_device_takes_it_out_where_the_first_cannot(
    home: Home, join: Join
) -> None:
    await join("bob")
    room = await home.laptop.start_direct(BOB)
    async with running(await home.link("tablet")) as tablet:
        async with running(await home.link("phone")) as phone:
            for client in (phone, tablet):
                await active(client, room.id)
        await tablet.close()
        # The laptop writes the entry and is gone for good before any commit.
        home.laptop.devices._eviction.settle = lambda *a, **k: []  # type: ignore
        await home.laptop.devices.revoke(phone.device)
        await home.laptop.close()
        async with opened(home.tmp_path, "tablet", home.fake.url) as again:
            await online(again)
            await until(
                partial(devices_of, again, room.id),
                lambda d: d and phone.device not in d,
            )


async def test_an_admin_takes_out_a_device_that_somebody_revoked(
    home: Home, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.account.eviction.OTHERS_WAIT", 10)
    bob = await join("bob")
    room = await bob.create_group("Garden", [ALICE])
    await active(home.laptop, room.id)
    async with running(await home.link("phone")) as phone:
        await active(phone, room.id)
    home.laptop.devices._eviction.settle = lambda *a, **k: []  # type: ignore
    await home.laptop.devices.revoke(phone.device)
    await home.laptop.close()
    await bob._rooms._settler._contacts.refresh(ALICE)
    await until(
        partial(devices_of, bob, room.id), lambda d: d and phone.device not in d
    )


async def test_a_manager_is_revoked_with_the_phrase_and_its_key_ends(
    home: Home,
) -> None:
    phone = await home.link("phone", manager=True)
    async with running(phone):
        await until(
            partial(register_of, home.laptop, "seen", phone.device), lambda v: v
        )
        before = home.state().ask
        with pytest.raises(PhraseNeeded, match="recovery phrase"):
            await home.laptop.devices.revoke(phone.device)
        with pytest.raises(WrongPhrase):
            await home.laptop.devices.revoke(
                phone.device, phrase="abandon " * 23 + "art"
            )
        assert phone.device.partition("/")[2] in home.state().devices
        await home.laptop.devices.revoke(phone.device, phrase=home.phrase)
        assert home.state().ask != before
        own = next(d for d in await home.laptop.devices.list() if d.own)
        assert own.manager
        async with home.linking("eve") as linking:
            offer = await phone.devices.look(linking.request.code)
            with pytest.raises(NotManager):
                await phone.devices.approve(offer)
    await home.laptop.close()
    async with opened(home.tmp_path, "laptop", home.fake.url) as again:
        await online(again)
        assert again._me.ask is not None and again._me.ask.public == home.state().ask


async def test_a_device_without_the_key_revokes_with_the_phrase(home: Home) -> None:
    async with running(await home.link("phone")) as phone:
        with pytest.raises(PhraseNeeded):
            await phone.devices.revoke(home.laptop.device)
        await phone.devices.revoke(home.laptop.device, phrase=home.phrase)
        listed: list[Device] = await phone.devices.list()
        assert [(d.own, d.manager, d.revoked) for d in listed] == [
            (True, True, False),
            (False, False, True),
        ]


async def test_what_cannot_be_revoked_says_why(home: Home) -> None:
    with pytest.raises(BadText, match="this device"):
        await home.laptop.devices.revoke(home.laptop.device)
    for device in (f"{ALICE}/aaaaaaaaaaaaaaaa", f"{BOB}/aaaaaaaaaaaaaaaa", "nonsense"):
        with pytest.raises(UnknownDevice):
            await home.laptop.devices.revoke(device)


async def test_certificates_are_renewed_where_several_hold_the_key(
    fake: FakeNode, tmp_path: Path
) -> None:
    fake.offset = -320 * 24 * 3600
    laptop, words = await Client.register(
        profile(tmp_path, "laptop", fake.url), ALICE, invite="", password=PASSWORD
    )
    laptop._clock.offset = fake.offset
    home = Home(fake, tmp_path, laptop, " ".join(words))
    for name in ("phone", "tablet"):
        await (await home.link(name, manager=True)).close()
    await laptop.close()
    fake.offset = 0
    async with (
        opened(tmp_path, "laptop", fake.url) as one,
        opened(tmp_path, "phone", fake.url) as two,
        opened(tmp_path, "tablet", fake.url) as three,
    ):
        for client in (one, two, three):
            await online(client)
            own = home.state().devices[client.device.partition("/")[2]]
            shown = read_credential(client._me.credential, None)
            assert shown.expires == own.certificate.expires
            assert own.certificate.expires - fake.time() > 300 * 24 * 3600
        # Three came to do it; each certificate was renewed once.
        assert len(fake.accounts[ALICE]) == 4 + 3
        await one.devices.revoke(two.device, phrase=home.phrase)
    fake.offset = 320 * 24 * 3600
    async with opened(tmp_path, "tablet", fake.url) as three:
        # Its key is from before the new one: it renews nothing, and stays in.
        await online(three)
        assert len(fake.accounts[ALICE]) == 4 + 3 + 2
    async with opened(tmp_path, "laptop", fake.url) as one:
        await online(one)
        assert len(fake.accounts[ALICE]) == 4 + 3 + 2 + 2


async def test_a_new_key_whose_answer_was_lost_is_taken_up(home: Home) -> None:
    phone = await home.link("phone", manager=True)
    await phone.close()
    post = home.laptop.devices._transport.post

    async def lost(*args: object) -> object:
        await post(*args)  # type: ignore[arg-type]
        raise NodeFault

    home.laptop.devices._transport.post = lost  # type: ignore
    with pytest.raises(NodeFault):
        await home.laptop.devices.revoke(phone.device, phrase=home.phrase)
    home.laptop.devices._transport.post = post  # type: ignore
    await home.laptop.close()
    async with opened(home.tmp_path, "laptop", home.fake.url) as again:
        await online(again)
        assert again._me.ask is not None and again._me.ask.public == home.state().ask


async def test_a_linked_device_that_never_came_can_be_revoked(
    home: Home, join: Join
) -> None:
    await join("bob")
    await home.laptop.start_direct(BOB)
    async with home.linking("phone") as linking:
        offer = await home.laptop.devices.look(linking.request.code)
        await home.laptop.devices.approve(offer)
    await home.laptop.devices.revoke(offer.device)

    async def left() -> int:
        def count(tx: Tx) -> int:
            row = tx.one(
                "SELECT (SELECT count(*) FROM intent) + (SELECT count(*) FROM link_job)"
            )
            return -1 if row is None else int(row[0])

        return await home.laptop._store.run(count)

    await until(left, lambda count: count == 0)
