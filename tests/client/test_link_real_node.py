"""A device linked over real nodes: real TLS, real signatures, real checks."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from client import Client
from client.account import linker, self_group
from client.archive.vault import VaultShelf
from client.rooms import upkeep
from protocol.errors import DeviceRevoked, NodeBusy
from tests.client.people import PASSWORD, online, room_of, texts, until
from tests.client.real_node import RealNode

pytestmark = pytest.mark.system


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_group, "DELAY", 0.05)
    monkeypatch.setattr(linker, "POLL", 0.1)
    monkeypatch.setattr(linker, "RETRY", 0.2)
    monkeypatch.setattr(upkeep, "PUT_OFF", 200)


async def test_a_device_is_linked_gets_its_history_and_is_revoked(
    nodes: list[RealNode], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.archive.writer.SEGMENT_BYTES", 3000)
    monkeypatch.setattr("client.archive.writer.PAGE", 10)
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
        room = await laptop.start_direct(bob)
        await until(partial(room_of, other, room.id))
        said = [f"long ago {n} " + "x" * 100 for n in range(40)]
        for text in said:
            await laptop.send_text(room.id, text)
        await until(partial(texts, other, room.id), lambda t: t == said)
        download = VaultShelf.get
        stop = asyncio.Event()

        async def get(self: VaultShelf, vault: str, n: int) -> bytes | None:
            if n > 5 and not stop.is_set():
                raise NodeBusy
            return await download(self, vault, n)

        monkeypatch.setattr(VaultShelf, "get", get)
        where = nodes[0].profile(tmp_path / "phone")
        async with Client.link(where, alice, password=PASSWORD) as linking:
            offer = await laptop.devices.look(linking.request.uri)
            await laptop.devices.approve(offer)
            phone = await linking.wait()
        async with phone:

            async def halfway() -> bool:
                return 0 < len(await texts(phone, room.id)) < 40

            await until(halfway)
        stop.set()
        async with await Client.open(where, password=PASSWORD) as again:
            await online(again)
            await until(partial(texts, again, room.id), lambda t: t == said)
            await until(
                partial(room_of, again, room.id), lambda r: r is not None and r.active
            )
            await again.send_text(room.id, "from the phone")
            await laptop.send_text(room.id, "from the laptop")
            await other.send_text(room.id, "from bob")
            for client in (again, laptop, other):
                await until(partial(texts, client, room.id), lambda t: len(t) == 43)
            await again.set_draft(room.id, "half a word")
            await until(
                partial(room_of, laptop, room.id),
                lambda r: r is not None and r.draft == "half a word",
            )
            await laptop.devices.revoke(again.device)

            async def refused() -> str:
                return again.connection_detail

            await until(refused, lambda why: DeviceRevoked.title in why)
            for client in (laptop, other):
                await until(
                    partial(client.members, room.id),
                    lambda found: all(m.devices == 1 for m in found),
                )
            await other.send_text(room.id, "not for the phone")
            await until(
                partial(texts, laptop, room.id), lambda t: "not for the phone" in t
            )
            assert "not for the phone" not in await texts(again, room.id)
        # With the phrase: a new key on a node that checks who signed what.
        async with Client.link(
            nodes[0].profile(tmp_path / "tablet"), alice, password=PASSWORD
        ) as linking:
            offer = await laptop.devices.look(linking.request.code)
            await laptop.devices.approve(offer, manager=True, history=False)
            tablet = await linking.wait()
        async with tablet:
            await online(tablet)
            await until(
                partial(room_of, tablet, room.id), lambda r: r is not None and r.active
            )
            await tablet.devices.revoke(laptop.device, phrase=" ".join(words))
            await until(
                partial(tablet.members, room.id),
                lambda found: bool(found) and all(m.devices == 1 for m in found),
            )
            await tablet.send_text(room.id, "the tablet is left")
            await until(
                partial(texts, other, room.id), lambda t: "the tablet is left" in t
            )
