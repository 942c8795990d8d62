"""Ten members change one room at once: one group, one epoch, nobody is forgotten.

Real engines on two real nodes, with entries that come late and in bursts. Whatever is
wanted in the same moment (people added and removed, people who leave, new keys, devices
that come back without keys, new names) is carried out, or refused with a reason.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from client import Client
from client.errors import ChangeFailed, RoomInactive
from client.rooms import changes, resending
from client.rooms.changes import Want, want
from client.rooms.groups import accounts_of
from client.storage.store import Tx
from protocol.log import LogId
from protocol.wire import GroupState
from tests.client.people import PASSWORD, online
from tests.client.real_node import RealNode
from tests.helpers.fuzz import LONG

pytestmark = [pytest.mark.system, pytest.mark.timeout(3600 if LONG else 170)]

MEMBERS = 10
OUTSIDERS = 4
ROUNDS = 25 if LONG else 2
PATIENCE = 60.0
"""Seconds until everybody has settled: two cores do the work of sixteen machines."""


@dataclass
class Story:
    """What is wanted in one round, and what became of it."""

    room: LogId
    added: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)


async def test_ten_members_change_a_room_at_once(
    nodes: list[RealNode], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "ASK_INTERVAL", 500)
    monkeypatch.setattr(resending, "COPY_DELAY", 60_000)
    async with AsyncExitStack() as stack:
        people = []
        for n in range(MEMBERS + OUTSIDERS):
            node = nodes[n % 2]
            client, _ = await Client.register(
                node.profile(tmp_path / str(n)),
                f"racer{n}@{node.name}",
                invite="",
                password=PASSWORD,
            )
            people.append(await stack.enter_async_context(client))
        for client in people:
            await online(client)
        for seed in range(ROUNDS):
            await race(people, seed)


async def race(people: list[Client], seed: int) -> None:
    """One round, with its own room and its own delays."""
    chance = random.Random(seed)
    members, outsiders = people[:MEMBERS], people[MEMBERS:]
    owner = members[0]
    created = await owner.create_group(
        f"race {seed}", [client.account for client in members[1:]]
    )
    story = Story(created.id)
    for client in members:
        await settled(client, story.room, {m.account for m in members})
    with pytest.MonkeyPatch.context() as patch:
        for client in people:
            late(patch, client, story.room, random.Random(chance.random()))
        await asyncio.gather(*wishes(members, outsiders, story, chance))
    await check(people, story, {m.account for m in members})


def late(
    patch: pytest.MonkeyPatch, client: Client, room: LogId, chance: random.Random
) -> None:
    """Entries of the room come late, and several at once."""
    real = client._reading.take

    async def take(log: LogId, *rest: Any, **options: Any) -> object:
        if log == room:
            await asyncio.sleep(chance.choice([0, 0, 0.02, 0.1, 0.3]))
        return await real(log, *rest, **options)

    patch.setattr(client._reading, "take", take)


def wishes(
    members: list[Client], outsiders: list[Client], story: Story, chance: random.Random
) -> list[Any]:
    """What all members want at once."""
    order = members[1:]
    chance.shuffle(order)
    victim, leaver, lost, updater, namer, *adders = order
    newcomers = [client.account for client in outsiders]
    chance.shuffle(newcomers)
    found = [
        attempt(story, lambda: members[0].remove_member(story.room, victim.account)),
        attempt(story, lambda: leaver.leave(story.room)),
        lose(lost, story.room),
        renew(updater, story.room),
        attempt(story, lambda: namer.rename(story.room, f"named {namer.account}")),
    ]
    story.gone |= {victim.account, leaver.account}
    for client, newcomer in zip(adders, newcomers, strict=True):
        story.added.add(newcomer)
        found.append(add(story, client, newcomer))
    chance.shuffle(found)
    return found


async def add(story: Story, client: Client, newcomer: str) -> None:
    before = len(story.refused)
    await attempt(story, lambda: client.add_members(story.room, [newcomer]))
    if len(story.refused) > before:
        story.added.discard(newcomer)


async def attempt(story: Story, wish: Any) -> None:
    try:
        await wish()
    except (ChangeFailed, RoomInactive) as error:
        story.refused.append(str(error))


async def lose(client: Client, room: LogId) -> None:
    """This device has no keys any more, in the middle of it all."""
    await client._store.run(lambda tx: client._groups.drop(tx, room))
    client._workers.poke(room)


async def renew(client: Client, room: LogId) -> None:
    """This device wants new keys for its leaf."""
    await client._store.run(lambda tx: want(tx, room, Want.UPDATE))
    client._workers.poke(room)


async def check(people: list[Client], story: Story, before: set[str]) -> None:
    """One group; everybody in it who should be, everybody else out of it."""
    wanted = (before - story.gone) | story.added
    inside = [client for client in people if client.account in wanted]
    for client in inside:
        await settled(client, story.room, wanted)
    states = await agreed(inside, story.room)
    assert len(states) == 1, states
    (epoch, _), hub = next(iter(states)), await group_at_hub(inside[0], story.room)
    assert hub.epoch == epoch
    for client in people:
        if client.account in before - wanted:
            assert not await open_room(client, story.room)
    left = [
        row
        for client in inside
        for row in await client._store.run(
            lambda tx: tx.all(
                "SELECT kind, subject FROM intent WHERE room = ? UNION ALL"
                " SELECT 'staged', room FROM staged WHERE room = ? UNION ALL"
                " SELECT 'join', room FROM staged_join WHERE room = ?",
                *[story.room] * 3,
            )
        )
    ]
    assert left == []
    assert story.refused == [] or all(r.endswith(".") for r in story.refused)
    # And everybody can talk to everybody.
    said = [await client.send_text(story.room, client.account) for client in inside]
    for client in inside:
        await until(lambda c=client: texts_in(c, story.room), {m.text for m in said})


async def texts_in(client: Client, room: LogId) -> set[str]:
    return {m.text for m in await client.messages(room, limit=200) if m.kind == "text"}


async def until(look: Any, wanted: object) -> None:
    end = time.monotonic() + PATIENCE
    while (seen := await look()) != wanted:
        assert time.monotonic() < end, (seen, wanted)
        await asyncio.sleep(0.05)


async def settled(client: Client, room: LogId, accounts: set[str]) -> None:
    """Wait until a client sees these accounts in the room and can write there."""

    def look(tx: Tx) -> object:
        group = client._groups.get(tx, room)
        row = tx.one("SELECT status, rewound FROM room WHERE id = ?", room)
        busy = tx.one(
            "SELECT 1 FROM intent WHERE room = ? UNION SELECT 1 FROM staged"
            " WHERE room = ?",
            room,
            room,
        )
        if row != ("active", 0) or group is None or busy is not None:
            return (row, group is not None, busy)
        return set(accounts_of(group.members()))

    await until(lambda: client._store.run(look), accounts)


async def agreed(clients: list[Client], room: LogId) -> set[tuple[int, bytes]]:
    """The epochs of some clients, once they are one; with their authenticators."""

    def look(client: Client, tx: Tx) -> tuple[int, bytes]:
        group = client._groups.get(tx, room)
        return (-1, b"") if group is None else (group.epoch, group.epoch_authenticator)

    end = time.monotonic() + PATIENCE
    while True:
        found = {await client._store.run(partial(look, client)) for client in clients}
        if len(found) == 1 or time.monotonic() > end:
            return found
        await asyncio.sleep(0.1)


async def group_at_hub(client: Client, room: LogId) -> GroupState:
    return await client._transport.get(f"/logs/{room}/group", GroupState)


async def open_room(client: Client, room: LogId) -> bool:
    return any(r.id == room and r.active for r in await client.rooms())
