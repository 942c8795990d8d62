"""Linking over the wire: the code, the rooms, the history, and what goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import pytest

from client import Client
from client.archive.vault import VaultShelf
from client.errors import (
    BadText,
    LinkExpired,
    LinkRefused,
    LinkUnknown,
    NotManager,
    ProfileExists,
)
from client.model import LinkChanged, LinkProgress, State
from protocol.errors import NodeBusy, NodeFault
from protocol.log import LogId
from tests.client.conftest import Join
from tests.client.home import (
    Home,
    active,
    all_done,
    at_once,
    home,
    running,
)
from tests.client.own_devices import hidden
from tests.client.people import (
    ALICE,
    BOB,
    online,
    opened,
    profile,
    room_of,
    texts,
    until,
)

__all__ = ["at_once", "home"]

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
        assert "joining" in stages and await all_done(home)
        rooms = await hidden(home.laptop)
        await until(partial(hidden, phone), lambda found: found == rooms)


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


@dataclass
class Stuck:
    """Vaults that are busy after some pieces, until they are `free`."""

    free: bool = False
    ways: set[str] = field(default_factory=set)
    """Which of "put" and "get" were refused."""


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Stuck:
    """A history of many small pieces, which stops halfway in both directions."""
    monkeypatch.setattr("client.archive.writer.SEGMENT_BYTES", 4000)
    monkeypatch.setattr("client.archive.writer.PAGE", 10)
    found = Stuck()
    upload, download = VaultShelf.put, VaultShelf.get

    async def put(self: VaultShelf, vault: str, kind: str, n: int, data: bytes) -> None:
        if n > 4 and not found.free:
            found.ways.add("put")
            raise NodeBusy
        await upload(self, vault, kind, n, data)

    async def get(self: VaultShelf, vault: str, n: int) -> bytes | None:
        if n > 3 and not found.free:
            found.ways.add("get")
            raise NodeBusy
        return await download(self, vault, n)

    monkeypatch.setattr(VaultShelf, "put", put)
    monkeypatch.setattr(VaultShelf, "get", get)
    return found


@asynccontextmanager
async def watched(client: Client) -> AsyncIterator[list[LinkProgress]]:
    """What a client shows of a link's progress, meanwhile."""
    shown: list[LinkProgress] = []

    async def watch() -> None:
        async for event in client.events():
            if isinstance(event, LinkChanged):
                shown.append(event.progress)

    task = asyncio.create_task(watch())
    try:
        yield shown
    finally:
        task.cancel()


async def test_history_comes_and_goes_on_after_both_were_killed(
    home: Home, join: Join, stuck: Stuck
) -> None:
    bob = await join("bob")
    room = await home.laptop.start_direct(BOB)
    await until(partial(room_of, bob, room.id))
    said = await talk_a_lot(home, room.id, 60)
    phone = await home.link("phone", history=True)
    async with watched(phone) as shown, running(phone):

        async def halfway() -> bool:
            come = len(await history_of(phone, room.id))
            return stuck.ways == {"put", "get"} and 0 < come < 60

        await until(halfway)
    # A bar that has an end: what came, of all that will.
    assert any(p.stage == "history" and 0 < p.done < 60 <= p.total for p in shown)
    await home.laptop.close()
    stuck.free = True
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
        # Bob has had them all along, and so it stands here too.
        await until(
            partial(_least_state, again, room.id),
            lambda state: state >= State.DELIVERED,
        )
        await until(partial(_left_to_do, laptop, again), lambda count: count == 0)
        await until(_transfers(home), lambda count: count == 0)


async def _least_state(client: Client, room: LogId) -> int:
    """How far the slowest of the own texts has come."""
    return min(int(m.state) for m in await client.messages(room, limit=500) if m.own)


async def _left_to_do(*clients: Client) -> int:
    """Rows about a link that is not over."""
    rows = "SELECT (SELECT count(*) FROM link_job) + (SELECT count(*) FROM"
    sql = f"{rows} meta WHERE key = 'link_vault')"
    counts = [await c._store.run(lambda tx: tx.one(sql)) for c in clients]
    return sum(int(row[0]) for row in counts if row is not None)


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
    async with watched(phone) as told, running(phone):
        await active(phone, room.id)

        async def both() -> bool:
            return any("cannot be sent" in p.detail for p in home.seen) and any(
                "could not send" in p.detail for p in told
            )

        await until(both)
        await all_done(home)
