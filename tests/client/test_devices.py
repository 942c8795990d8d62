"""Devices of an account over the wire: linked, named, revoked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from client import Client
from client.account import linker, self_group
from client.archive.vault import VaultShelf
from client.enrol.linking import Linking
from client.errors import (
    BadText,
    LinkExpired,
    LinkRefused,
    LinkUnknown,
    NotManager,
    PhraseNeeded,
    ProfileExists,
    UnknownDevice,
    WrongPhrase,
)
from client.model import Device, LinkChanged, LinkProgress
from client.rooms import changes
from client.storage.store import Tx
from protocol.account_log import AccountState, read_account_log
from protocol.address import parse_account
from protocol.credential import read_credential
from protocol.errors import NodeBusy, NodeFault
from protocol.log import LogId
from tests.client.conftest import Join
from tests.client.fake_node import FakeNode
from tests.client.own_devices import hidden, register_of
from tests.client.people import (
    ALICE,
    BOB,
    PASSWORD,
    online,
    opened,
    profile,
    room_of,
    texts,
    until,
)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_group, "DELAY", 0.05)
    monkeypatch.setattr(linker, "POLL", 0.05)
    monkeypatch.setattr(linker, "RETRY", 0.1)
    monkeypatch.setattr(changes, "PUT_OFF", 100)


@dataclass
class Home:
    """Alice's laptop, her phrase, and more devices that are linked to it."""

    fake: FakeNode
    tmp_path: Path
    laptop: Client
    phrase: str
    seen: list[LinkProgress] = field(default_factory=list)

    def linking(self, name: str) -> Linking[Client]:
        """What the new device starts."""
        return Client.link(
            profile(self.tmp_path, name, self.fake.url),
            ALICE,
            password=PASSWORD,
            device_name=name.title(),
        )

    async def link(
        self, name: str, *, manager: bool = False, history: bool = False
    ) -> Client:
        """A linked device, not running."""
        async with self.linking(name) as linking:
            offer = await self.laptop.devices.look(linking.request.code)
            await self.laptop.devices.approve(offer, manager=manager, history=history)
            return await linking.wait()

    def state(self) -> AccountState:
        """Alice's account log, as the node has it."""
        return read_account_log(parse_account(ALICE), self.fake.accounts[ALICE])


@pytest.fixture
async def home(fake: FakeNode, tmp_path: Path) -> AsyncIterator[Home]:
    laptop, words = await Client.register(
        profile(tmp_path, "laptop", fake.url),
        ALICE,
        invite="",
        password=PASSWORD,
        device_name="Laptop",
    )
    async with laptop:
        await online(laptop)
        home = Home(fake, tmp_path, laptop, " ".join(words))
        watch = asyncio.create_task(_watch(home))
        yield home
        watch.cancel()


async def _watch(home: Home) -> None:
    async for event in home.laptop.events():
        if isinstance(event, LinkChanged):
            home.seen.append(event.progress)


async def devices_of(client: Client, room: LogId) -> set[str]:
    """The devices in a room's group, as a client has it."""
    from protocol.policy import device_of

    def read(tx: Tx) -> set[str]:
        group = client._groups.get(tx, room)
        if group is None or not group.active:
            return set()
        return {device_of(member.identity) for member in group.members()}

    return await client._store.run(read)


async def epoch_of(client: Client, room: LogId) -> int:
    """The epoch of a room's group, as a client has it."""

    def read(tx: Tx) -> int:
        group = client._groups.get(tx, room)
        assert group is not None
        return group.epoch

    return await client._store.run(read)


async def active(client: Client, room: LogId) -> None:
    """Wait until a device can write in a room."""
    await until(partial(room_of, client, room), lambda r: r is not None and r.active)


@asynccontextmanager
async def running(client: Client) -> AsyncIterator[Client]:
    async with client:
        yield await online(client)


# --- linking ---------------------------------------------------------------------


async def test_a_linked_device_is_in_every_room_and_talks(
    home: Home, join: Join
) -> None:
    bob = await join("bob")
    room = await home.laptop.start_direct(BOB)
    garden = await home.laptop.create_group("Garden", [BOB])
    async with running(await home.link("phone")) as phone:
        for id in (room.id, garden.id):
            await active(phone, id)
        await until(
            partial(room_of, phone, garden.id), lambda r: r and r.title == "Garden"
        )
        await bob.send_text(room.id, "to both")
        for client in (home.laptop, phone):
            await until(partial(texts, client, room.id), lambda t: "to both" in t)
        await phone.send_text(garden.id, "from the phone")
        for client in (home.laptop, bob):
            await until(
                partial(texts, client, garden.id), lambda t: t == ["from the phone"]
            )
        own, other = await home.laptop.devices.list()
        assert (own.name, own.own, own.manager) == ("Laptop", True, True)
        assert (other.id, other.name) == (phone.device, "Phone")
        assert not other.manager and not other.revoked
        stages = [p.stage for p in home.seen]
        assert "joining" in stages and await _done(home)
        assert await hidden(phone) == await hidden(home.laptop)


async def _done(home: Home) -> bool:
    async def stages() -> list[str]:
        return [p.stage for p in home.seen]

    await until(stages, lambda s: "done" in s)
    return True


async def test_the_qr_codes_text_does_too_and_two_can_be_linked_at_once(
    home: Home, join: Join
) -> None:
    await join("bob")
    room = await home.laptop.start_direct(BOB)
    async with home.linking("phone") as first, home.linking("tablet") as second:
        assert first.request.uri.startswith(f"telex:link:{ALICE}:")
        assert first.request.account == ALICE
        offers = [
            await home.laptop.devices.look(link.request.uri) for link in (first, second)
        ]
        assert [o.name for o in offers] == ["Phone", "Tablet"]
        await asyncio.gather(*(home.laptop.devices.approve(o) for o in offers))
        phone, tablet = await asyncio.gather(first.wait(), second.wait())
    async with running(phone), running(tablet):
        for client in (phone, tablet):
            await active(client, room.id)
        await phone.send_text(room.id, "hello tablet")
        await until(
            partial(texts, tablet, room.id), lambda t: t[-1:] == ["hello tablet"]
        )
        assert len(await tablet.devices.list()) == 3


async def test_two_managers_that_confirm_at_once_both_come_through(
    home: Home,
) -> None:
    async with running(await home.link("phone", manager=True)) as phone:
        assert phone._me.ask is not None
        async with home.linking("one") as one, home.linking("two") as two:
            offers = (
                await home.laptop.devices.look(one.request.code),
                await phone.devices.look(two.request.code),
            )
            await asyncio.gather(
                home.laptop.devices.approve(offers[0]),
                phone.devices.approve(offers[1]),
            )
            for link in (one, two):
                await (await link.wait()).close()
        assert len(home.state().devices) == 4


async def test_rooms_made_later_have_all_devices(home: Home, join: Join) -> None:
    await join("bob")
    async with running(await home.link("phone")) as phone:
        room = await home.laptop.start_direct(BOB)
        await active(phone, room.id)
        garden = await phone.create_group("Garden", [BOB])
        await active(home.laptop, garden.id)


async def test_progress_is_told_while_it_waits(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.enrol.linking.POLL", 1)
    linking = await home.linking("phone")
    stages = []
    async for progress in linking:
        stages.append(progress.stage)
        if len(stages) == 1:
            offer = await home.laptop.devices.look(linking.request.code)
            await home.laptop.devices.approve(offer, history=False)
    assert stages[0] == "waiting" and stages[-1] == "approved"
    phone = await linking.wait()
    assert phone is await linking.wait()
    await phone.close()


async def test_a_wrong_code_leads_nowhere(home: Home) -> None:
    async with home.linking("phone") as linking:
        code = linking.request.code
        wrong = code[:-1] + ("0" if code[-1] != "0" else "1")
        with pytest.raises(LinkUnknown, match="check what you typed"):
            await home.laptop.devices.look(wrong)
        with pytest.raises(LinkUnknown, match="is for bob"):
            await home.laptop.devices.look(f"telex:link:{BOB}:{code}")
        assert len(home.state().devices) == 1


async def test_a_code_that_expired_leaves_no_device(home: Home) -> None:
    async with home.linking("phone") as linking:
        offer = await home.laptop.devices.look(linking.request.code)
        home.fake.links.expire()
        with pytest.raises(LinkUnknown, match="begin again"):
            await home.laptop.devices.approve(offer)
        with pytest.raises(LinkExpired):
            await linking.wait()
    assert len(home.state().devices) == 1 and len(home.state().revoked) == 1
    assert not profile(home.tmp_path, "phone", "").exists()


async def test_nobody_answers_for_ten_minutes(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.enrol.linking.LINK_SECONDS", 0)
    async with home.linking("phone") as linking:
        with pytest.raises(LinkExpired, match="begin with a new one"):
            await linking.wait()


async def test_a_code_is_good_once(home: Home) -> None:
    async with home.linking("phone") as linking:
        offer = await home.laptop.devices.look(linking.request.code)
        again = await home.laptop.devices.look(linking.request.code)
        await home.laptop.devices.approve(offer)
        with pytest.raises(LinkUnknown, match="used already"):
            await home.laptop.devices.approve(again)
        await (await linking.wait()).close()
        found = await home.laptop.devices.look(linking.request.code)
        with pytest.raises(LinkUnknown, match="answered already"):
            await home.laptop.devices.approve(found)


@pytest.mark.parametrize("half", ["offer", "answer"])
async def test_a_half_that_the_node_swaps_is_refused(home: Home, half: str) -> None:
    async with home.linking("phone") as linking, home.linking("eve") as other:
        theirs = {
            "offer": lambda: home.fake.links.halves[other._meeting.slot]["offer"],
            "answer": lambda: bytes(200),
        }
        home.fake.links.swap = lambda h, data: theirs[h]() if h == half else data
        if half == "offer":
            with pytest.raises(LinkRefused, match="not made with this code"):
                await home.laptop.devices.look(linking.request.code)
            return
        offer = await home.laptop.devices.look(linking.request.code)
        await home.laptop.devices.approve(offer)
        with pytest.raises(LinkRefused, match="not made with this code"):
            await linking.wait()
    assert not profile(home.tmp_path, "phone", "").exists()


@pytest.mark.parametrize("lie", ["another", "shorter"])
async def test_a_node_that_shows_another_account_log_is_refused(
    home: Home, join: Join, lie: str
) -> None:
    await join("bob")
    async with home.linking("phone") as linking:
        offer = await home.laptop.devices.look(linking.request.code)
        await home.laptop.devices.approve(offer)
        shown = {
            "another": home.fake.accounts[BOB],
            "shorter": home.fake.accounts[ALICE][:-1],
        }[lie]
        home.fake.lie_of = lambda account, entries, device: (
            shown if device == offer.device else entries
        )
        with pytest.raises(LinkRefused, match="another list"):
            await linking.wait()
    assert not profile(home.tmp_path, "phone", "").exists()


async def test_only_a_manager_confirms(home: Home) -> None:
    async with running(await home.link("phone")) as phone:
        async with home.linking("tablet") as linking:
            offer = await phone.devices.look(linking.request.code)
            with pytest.raises(NotManager, match="may not link"):
                await phone.devices.approve(offer)
        assert len(home.state().devices) == 2


async def test_a_folder_that_is_taken_is_said_before_a_code_is_shown(
    home: Home,
) -> None:
    with pytest.raises(ProfileExists):
        home.linking("laptop")
    with pytest.raises(BadText, match="at least 8"):
        Client.link(profile(home.tmp_path, "x", ""), ALICE, password="short")


async def test_what_a_link_leaves_to_do_is_done_after_a_restart(
    home: Home, join: Join
) -> None:
    await join("bob")
    room = await home.laptop.start_direct(BOB)
    async with home.linking("phone") as linking:
        offer = await home.laptop.devices.look(linking.request.code)
        put, home.fake.links.put_answer = home.fake.links.put_answer, None  # type: ignore
        # As if the laptop had been killed between the log's entry and the answer.
        real = home.laptop._linker.answer
        home.laptop._linker.answer = _die  # type: ignore[method-assign]
        with pytest.raises(NodeFault):
            await home.laptop.devices.approve(offer)
        home.laptop._linker.answer = real  # type: ignore[method-assign]
        home.fake.links.put_answer = put  # type: ignore[method-assign]
        await home.laptop.close()
        async with opened(home.tmp_path, "laptop", home.fake.url) as again:
            await online(again)
            phone = await linking.wait()
            async with running(phone):
                await active(phone, room.id)
                assert len(await again.devices.list()) == 2


async def _die(device: str) -> None:
    raise NodeFault


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


async def leaf_keys(client: Client, room: LogId) -> dict[str, bytes]:
    """The encryption key of each leaf, by device."""
    from protocol.policy import device_of

    def read(tx: Tx) -> dict[str, bytes]:
        group = client._groups.get(tx, room)
        assert group is not None
        tree = group._epoch.tree
        keys = {}
        for member in group.members():
            leaf = tree.leaf(member.leaf)
            assert leaf is not None
            keys[device_of(member.identity)] = leaf.encryption_key
        return keys

    return await client._store.run(read)


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


# --- history ---------------------------------------------------------------------


async def talk_a_lot(home: Home, room: LogId, count: int) -> list[str]:
    """Fill a room with texts, as if they had been said long ago."""
    said = [f"said long ago {n} " + "x" * 200 for n in range(count)]
    for text in said:
        await home.laptop.send_text(room, text)
    await until(partial(_sent, home.laptop, room), lambda n: n == count)
    return said


async def _sent(client: Client, room: LogId) -> int:
    said = await client.messages(room, limit=500)
    return len([m for m in said if m.seq and m.kind == "text"])


async def history_of(client: Client, room: LogId) -> list[str]:
    """All texts of a room."""
    return [m.text for m in await client.messages(room, limit=500) if m.kind == "text"]


async def test_history_comes_and_goes_on_after_both_were_killed(
    home: Home, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.archive.writer.SEGMENT_BYTES", 4000)
    monkeypatch.setattr("client.archive.writer.PAGE", 10)
    bob = await join("bob")
    room = await home.laptop.start_direct(BOB)
    await until(partial(room_of, bob, room.id))
    said = await talk_a_lot(home, room.id, 60)
    stop, busy = asyncio.Event(), set[str]()
    upload, download = VaultShelf.put, VaultShelf.get

    async def put(self: VaultShelf, vault: str, kind: str, n: int, data: bytes) -> None:
        if n > 4 and not stop.is_set():
            busy.add("put")
            raise NodeBusy
        await upload(self, vault, kind, n, data)

    async def get(self: VaultShelf, vault: str, n: int) -> bytes | None:
        if n > 3 and not stop.is_set():
            busy.add("get")
            raise NodeBusy
        return await download(self, vault, n)

    monkeypatch.setattr(VaultShelf, "put", put)
    monkeypatch.setattr(VaultShelf, "get", get)
    phone = await home.link("phone", history=True)
    async with running(phone):

        async def halfway() -> bool:
            come = len(await history_of(phone, room.id))
            return busy == {"put", "get"} and 0 < come < 60

        await until(halfway)
    await home.laptop.close()
    stop.set()
    async with (
        opened(home.tmp_path, "laptop", home.fake.url) as laptop,
        opened(home.tmp_path, "phone", home.fake.url) as again,
    ):
        await online(laptop)
        await until(partial(history_of, again, room.id), lambda t: t == said)
        await active(again, room.id)
        await bob.send_text(room.id, "and on it goes")
        await until(
            partial(history_of, again, room.id), lambda t: t[-1] == "and on it goes"
        )
        seen = await room_of(again, room.id)
        assert seen is not None and seen.title == BOB and seen.unread == 1

        async def left() -> int:
            rows = "SELECT (SELECT count(*) FROM link_job) + (SELECT count(*) FROM"
            sql = f"{rows} meta WHERE key = 'link_vault')"
            counts = [
                await c._store.run(lambda tx: tx.one(sql)) for c in (laptop, again)
            ]
            return sum(int(row[0]) for row in counts if row is not None)

        await until(left, lambda count: count == 0)
        await until(_transfers(home), lambda count: count == 0)


def _transfers(home: Home) -> Callable[[], Awaitable[int]]:
    async def count() -> int:
        vaults = home.fake.vaults
        return sum(vaults.kinds[v] == "transfer" for v in vaults.of(ALICE))

    return count


async def test_history_that_the_node_does_not_take_is_said_on_both(
    home: Home, join: Join
) -> None:
    await join("bob")
    room = await home.laptop.start_direct(BOB)
    await talk_a_lot(home, room.id, 1)
    home.fake.vaults.quota = 0
    phone = await home.link("phone", history=True)
    told: list[LinkProgress] = []

    async def watch() -> None:
        async for event in phone.events():
            if isinstance(event, LinkChanged):
                told.append(event.progress)

    task = asyncio.create_task(watch())
    async with running(phone):
        await active(phone, room.id)

        async def both() -> bool:
            return any("cannot be sent" in p.detail for p in home.seen) and any(
                "could not send" in p.detail for p in told
            )

        await until(both)
        await _done(home)
    task.cancel()


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
