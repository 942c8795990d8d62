"""A device that was away for long, in a room whose keys changed all the while."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import AsyncIterator
from functools import partial

import pytest

from client import Client, ConnectionChanged, Event
from client.storage.store import Tx
from e2ee import PublicGroup
from protocol.log import Kind, LogId, make_submission
from tests.client.conftest import Join
from tests.client.fake_node import FakeNode
from tests.client.people import BOB, PASSWORD, online, room_of, texts, until
from tests.helpers.fuzz import LONG

EPOCHS = 10_000 if LONG else 600


def change_keys(client: Client, fake: FakeNode, room: LogId, count: int) -> bytes:
    """Let a device change its keys, past its engine; the last authenticator."""

    def work(tx: Tx) -> bytes:
        group = client._groups.get(tx, room)
        assert group is not None
        for _ in range(count):
            staged = group.commit(now=client._clock.now())
            data = make_submission(
                room,
                client.device,
                secrets.token_bytes(16),
                Kind.COMMIT,
                staged.commit,
            )
            fake.append(data)
            group.apply_own(staged)
        client._groups.save_epoch(tx, room, group)
        log = fake.logs[room]
        log.group = PublicGroup.create(
            staged.group_info,
            group.ratchet_tree(),
            now=fake.time(),
            validator=fake.validator,
        )
        log.epoch, log.group_info = group.epoch, staged.group_info
        log.trees[log.group.tree_hash.hex()] = group.ratchet_tree()
        tx.execute(
            "UPDATE log SET seq = ?, hash = ? WHERE id = ?",
            log.head,
            log.hashes[-1],
            room,
        )
        return group.epoch_authenticator

    return client._store._transact(work)[0]


async def test_ten_thousand_epochs_are_caught_up_with(
    join: Join, fake: FakeNode
) -> None:
    """All is read, progress is shown, and other rooms do not wait for it."""
    alice, bob, carol = await join("alice"), await join("bob"), await join("carol")
    room = (await alice.create_group("Busy", [BOB])).id
    other = (await carol.start_direct(BOB)).id
    for each in (room, other):
        await until(partial(room_of, bob, each))
    await bob.close()
    await alice.send_text(room, "before")
    await until(lambda: asyncio.sleep(0, fake.logs[room].head >= 4))
    await alice._stop()
    began = time.monotonic()
    last = await asyncio.to_thread(change_keys, alice, fake, room, EPOCHS)
    made = time.monotonic() - began
    async with await Client.open(bob.profile, password=PASSWORD) as back:
        events = back.events()
        began = time.monotonic()
        shown = await progress(events)
        assert re.fullmatch(r"Read \S+ of \S+ entries that came while away\.", shown)
        await carol.send_text(other, "are you there?")
        await until(partial(texts, back, other))
        assert await epoch(back, room) < EPOCHS or not LONG  # it takes a second
        await back.send_text(other, "in a moment")
        await until(partial(texts, carol, other), lambda t: t[-1] == "in a moment")
        assert await epoch(back, room) < EPOCHS or not LONG
        async with asyncio.timeout(600):
            await back._sync._synced.wait()
            await until(partial(epoch, back, room), lambda e: e >= EPOCHS)
        took = time.monotonic() - began
        print(f"{EPOCHS} epochs: made in {made:.1f} s, caught up with in {took:.1f} s")
        group = await back._store.run(lambda tx: back._groups.get(tx, room))
        assert group is not None and group.epoch_authenticator == last
        await online(back)
        assert await texts(back, room) == ["before"]
        assert back.connection_detail == ""


async def progress(events: AsyncIterator[Event]) -> str:
    """The first word about how far it is."""
    async with asyncio.timeout(20):
        async for event in events:
            if isinstance(event, ConnectionChanged) and event.detail:
                return event.detail
    raise AssertionError("no word")


async def epoch(client: Client, room: LogId) -> int:
    group = await client._store.run(lambda tx: client._groups.get(tx, room))
    return -1 if group is None else group.epoch


pytestmark = pytest.mark.timeout(900 if LONG else 60)
