"""A device linked over real nodes: real TLS, real signatures, real checks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from client import Client, Profile
from client.account import linker, self_group
from client.archive.vault import VaultShelf
from client.rooms import upkeep
from protocol.errors import DeviceRevoked, NodeBusy
from protocol.log import LogId
from tests.client.people import PASSWORD, online, room_of, texts, until
from tests.client.real_node import RealNode

pytestmark = pytest.mark.system


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_group, "DELAY", 0.05)
    monkeypatch.setattr(linker, "POLL", 0.1)
    monkeypatch.setattr(linker, "RETRY", 0.2)
    monkeypatch.setattr(upkeep, "PUT_OFF", 200)


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """A history of many small pieces, which stops halfway until this is set."""
    monkeypatch.setattr("client.archive.writer.SEGMENT_BYTES", 3000)
    monkeypatch.setattr("client.archive.writer.PAGE", 10)
    download = VaultShelf.get
    stop = asyncio.Event()

    async def get(self: VaultShelf, vault: str, n: int) -> bytes | None:
        if n > 5 and not stop.is_set():
            raise NodeBusy
        return await download(self, vault, n)

    monkeypatch.setattr(VaultShelf, "get", get)
    return stop


async def test_a_device_is_linked_gets_its_history_and_is_revoked(
    nodes: list[RealNode], tmp_path: Path, stuck: asyncio.Event
) -> None:
    alice = f"linker-alice@{nodes[0].name}"
    bob = f"linker-bob@{nodes[1].name}"
    laptop, words = await Client.register(
        nodes[0].profile(tmp_path / "laptop"), alice, invite="", password=PASSWORD
    )
    other, _ = await Client.register(
        nodes[1].profile(tmp_path / "bob"), bob, invite="", password=PASSWORD
    )
    async with laptop, other:
        await online(laptop)
        await online(other)
        room, said = await talked(laptop, other)
        where = nodes[0].profile(tmp_path / "phone")
        async with await linked(laptop, where) as phone:
            await until(partial(halfway, phone, room))
        stuck.set()
        async with await Client.open(where, password=PASSWORD) as again:
            await online(again)
            await until(partial(texts, again, room), lambda t: t == said)
            await all_three_talk(room, again, laptop, other)
            await a_draft_travels(room, again, laptop)
            await revoked_it_hears_nothing(room, again, laptop, other)
        # With the phrase: a new key on a node that checks who signed what.
        where = nodes[0].profile(tmp_path / "tablet")
        async with await linked(
            laptop, where, by_uri=False, manager=True, history=False
        ) as tablet:
            await online(tablet)
            await tablet_revokes_the_laptop(room, tablet, laptop, other, words)


async def talked(laptop: Client, other: Client) -> tuple[LogId, list[str]]:
    """A direct chat of 40 texts; the room, and what was said."""
    room = (await laptop.start_direct(other.account)).id
    await until(partial(room_of, other, room))
    said = [f"long ago {n} " + "x" * 100 for n in range(40)]
    for text in said:
        await laptop.send_text(room, text)
    await until(partial(texts, other, room), lambda t: t == said)
    return room, said


async def linked(
    old: Client,
    where: Profile,
    *,
    by_uri: bool = True,
    manager: bool = False,
    history: bool = True,
) -> Client:
    """A new device of the account, let in by an old one."""
    async with Client.link(where, old.account, password=PASSWORD) as linking:
        shown = linking.request.uri if by_uri else linking.request.code
        offer = await old.devices.look(shown)
        await old.devices.approve(offer, manager=manager, history=history)
        return await linking.wait()


async def halfway(phone: Client, room: LogId) -> bool:
    return 0 < len(await texts(phone, room)) < 40


async def all_three_talk(
    room: LogId, again: Client, laptop: Client, other: Client
) -> None:
    await until(partial(room_of, again, room), lambda r: r is not None and r.active)
    await again.send_text(room, "from the phone")
    await laptop.send_text(room, "from the laptop")
    await other.send_text(room, "from bob")
    for client in (again, laptop, other):
        await until(partial(texts, client, room), lambda t: len(t) == 43)


async def a_draft_travels(room: LogId, again: Client, laptop: Client) -> None:
    await again.set_draft(room, "half a word")
    await until(
        partial(room_of, laptop, room),
        lambda r: r is not None and r.draft == "half a word",
    )


async def revoked_it_hears_nothing(
    room: LogId, again: Client, laptop: Client, other: Client
) -> None:
    await laptop.devices.revoke(again.device)

    async def refused() -> str:
        return again.connection_detail

    await until(refused, lambda why: DeviceRevoked.title in why)
    for client in (laptop, other):
        await until(
            partial(client.members, room),
            lambda found: all(m.devices == 1 for m in found),
        )
    await other.send_text(room, "not for the phone")
    await until(partial(texts, laptop, room), lambda t: "not for the phone" in t)
    assert "not for the phone" not in await texts(again, room)


async def tablet_revokes_the_laptop(
    room: LogId, tablet: Client, laptop: Client, other: Client, words: Sequence[str]
) -> None:
    await until(partial(room_of, tablet, room), lambda r: r is not None and r.active)
    await tablet.devices.revoke(laptop.device, phrase=" ".join(words))
    await until(
        partial(tablet.members, room),
        lambda found: bool(found) and all(m.devices == 1 for m in found),
    )
    await tablet.send_text(room, "the tablet is left")
    await until(partial(texts, other, room), lambda t: "the tablet is left" in t)
