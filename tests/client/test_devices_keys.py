"""Key packages that are lost or past their dates, and leaves that get new keys."""

from __future__ import annotations

from functools import partial

import pytest

from client import Client
from client.account import packages
from client.errors import KeyPackageStale
from client.rooms import upkeep
from client.storage.store import Tx
from e2ee import KeyPackageBundle
from protocol.log import LogId
from protocol.policy import device_of
from tests.client.conftest import Join
from tests.client.fake_node import FakeNode
from tests.client.people import (
    ALICE,
    BOB,
    CAROL,
    codes,
    messages_of,
    room_of,
    texts,
    until,
)

DAY = 24 * 3600
WANTED = 10
"""Key packages of a device, as `conftest` has it."""


async def leaf_key(client: Client, room: LogId, device: str) -> bytes:
    """The encryption key of a device's leaf, as a client sees it."""

    def read(tx: Tx) -> bytes:
        group = client._groups.get(tx, room)
        assert group is not None
        (at,) = [m.leaf for m in group.members() if device_of(m.identity) == device]
        leaf = group._epoch.tree.leaf(at)
        assert leaf is not None
        return leaf.encryption_key

    return await client._store.run(read)


async def commits(fake: FakeNode, room: LogId) -> int:
    """The epoch of a room at its hub."""
    return fake.logs[room].epoch


async def test_a_welcome_to_a_key_that_is_lost_says_so_and_the_device_comes_in(
    join: Join,
) -> None:
    alice, bob = await join("alice"), await join("bob")
    await bob._store.run(lambda tx: tx.execute("DELETE FROM key_package"))
    room = await alice.start_direct(BOB)
    await until(partial(room_of, bob, room.id), lambda r: r is not None and r.active)
    assert "key_package_lost" in await codes(bob, room.id)
    await alice.send_text(room.id, "hello all the same")
    await until(
        partial(texts, bob, room.id), lambda t: t[-1:] == ["hello all the same"]
    )


def stale(client: Client, days: int) -> bytes:
    """A package of a device, as it left one long ago."""
    clock = client._clock
    clock.offset -= days * DAY
    try:
        bundle: KeyPackageBundle = packages.new_bundle(client._me, clock)
    finally:
        clock.offset += days * DAY
    return bundle.key_package


async def test_a_package_past_its_dates_is_claimed_again(
    join: Join, fake: FakeNode
) -> None:
    alice, bob = await join("alice"), await join("bob")
    fake.packages[bob.device][:0] = [stale(bob, 200), stale(bob, 100)]
    room = await alice.start_direct(BOB)
    await until(partial(room_of, bob, room.id), lambda r: r is not None and r.active)


async def test_a_device_with_nothing_else_is_named(join: Join, fake: FakeNode) -> None:
    alice, bob = await join("alice"), await join("bob")
    fake.packages[bob.device] = []
    fake.last_resort[bob.device] = stale(bob, 200)
    with pytest.raises(KeyPackageStale, match="key_package_stale") as caught:
        await alice.start_direct(BOB)
    assert caught.value.code == "key_package_stale" and bob.device in str(caught.value)
    assert await alice.rooms() == []


async def test_who_was_added_by_a_last_resort_takes_new_keys_at_once(
    join: Join, fake: FakeNode
) -> None:
    alice, bob = await join("alice"), await join("bob")
    fake.packages[bob.device] = []
    before = fake.last_resort[bob.device]
    room = await alice.start_direct(BOB)
    await until(partial(room_of, bob, room.id), lambda r: r is not None and r.active)
    await until(partial(commits, fake, room.id), lambda epoch: epoch == 2)
    await bob.send_text(room.id, "hello")
    await until(partial(texts, alice, room.id), lambda t: t == ["hello"])

    async def replaced() -> bool:
        full = len(fake.packages[bob.device]) == WANTED
        return full and fake.last_resort[bob.device] != before

    await until(replaced)


async def test_a_leaf_that_is_a_week_old_is_renewed_before_writing(
    join: Join, fake: FakeNode
) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await until(partial(room_of, bob, room.id), lambda r: r is not None and r.active)
    await alice.send_text(room.id, "one")
    await until(partial(texts, bob, room.id), lambda t: t == ["one"])
    epoch, key = fake.logs[room.id].epoch, await leaf_key(bob, room.id, alice.device)
    week, said = upkeep.UPDATE_AFTER, await codes(alice, room.id)
    # Not in the middle of a round of the room's worker, behind its look at the keys.
    async with alice._workers.lock(room.id):
        await alice._store.run(
            lambda tx: tx.execute("UPDATE room SET updated = updated - ?", week)
        )
        await alice.send_text(room.id, "two")
        await alice.send_text(room.id, "three")
    await until(partial(texts, bob, room.id), lambda t: t == ["one", "two", "three"])
    assert fake.logs[room.id].epoch == epoch + 1
    assert await leaf_key(bob, room.id, alice.device) != key
    assert await codes(alice, room.id) == said


async def test_who_only_reads_commits_nothing(join: Join, fake: FakeNode) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await until(partial(room_of, bob, room.id), lambda r: r is not None and r.active)
    epoch = fake.logs[room.id].epoch
    await bob._store.run(lambda tx: tx.execute("UPDATE room SET updated = 0"))
    await alice.send_text(room.id, "read this")
    await until(partial(texts, bob, room.id))
    await bob.mark_read(room.id)
    await until(
        partial(messages_of, alice, room.id, "read this"), lambda m: m[0].read_by == 1
    )
    assert fake.logs[room.id].epoch == epoch


async def test_who_left_no_package_cannot_be_added_and_nothing_changes(
    join: Join, fake: FakeNode
) -> None:
    alice = await join("alice")
    await join("bob")
    carol = await join("carol")
    fake.packages[carol.device] = []
    fake.last_resort.pop(carol.device)
    room = await alice.create_group("Garden", [BOB])
    with pytest.raises(Exception, match="no device that can be added"):
        await alice.add_members(room.id, [CAROL])
    assert {m.account for m in await alice.members(room.id)} == {ALICE, BOB}


async def test_packages_that_were_used_are_replaced_in_the_same_session(
    join: Join, fake: FakeNode
) -> None:
    alice, bob = await join("alice"), await join("bob")
    socket = fake.sockets[bob.device]
    for n in range(WANTED // 2 + 1):
        room = await alice.create_group(f"Garden {n}", [BOB])
        await until(
            partial(room_of, bob, room.id), lambda r: r is not None and r.active
        )

    async def left() -> int:
        return len(fake.packages[bob.device])

    await until(left, lambda count: count >= WANTED - 1)
    assert fake.sockets[bob.device] is socket
