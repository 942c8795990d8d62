"""Alice at home: a laptop, and more devices that are linked to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from client import Client
from client.account import linker, self_group
from client.enrol.linking import Linking
from client.model import LinkChanged, LinkProgress
from client.rooms import upkeep
from client.storage.store import Tx
from protocol.account_log import AccountState, read_account_log
from protocol.address import parse_account
from protocol.log import LogId
from protocol.policy import device_of
from tests.client.fake_node import FakeNode
from tests.client.people import (
    ALICE,
    PASSWORD,
    online,
    profile,
    room_of,
    until,
)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_group, "DELAY", 0.05)
    monkeypatch.setattr(linker, "POLL", 0.05)
    monkeypatch.setattr(linker, "RETRY", 0.1)
    monkeypatch.setattr(upkeep, "PUT_OFF", 100)


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


async def leaf_keys(client: Client, room: LogId) -> dict[str, bytes]:
    """The encryption key of each leaf, by device."""

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


async def all_done(home: Home) -> bool:
    async def stages() -> list[str]:
        return [p.stage for p in home.seen]

    await until(stages, lambda s: "done" in s)
    return True
