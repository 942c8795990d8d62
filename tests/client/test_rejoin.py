"""A device that lost its keys comes back by itself: the external commit."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from client import Client
from client.errors import NodeUnreachable
from client.rooms import rejoin
from client.storage.store import Tx
from protocol.errors import NodeFault, NotAllowed, NotFound, StaleEpoch
from protocol.log import Kind, LogId, read_entry, read_submission
from protocol.wire import GroupState
from tests.client.conftest import Join
from tests.client.fake_node import FakeNode
from tests.client.people import (
    BOB,
    CAROL,
    PASSWORD,
    codes,
    lose_keys,
    messages_of,
    online,
    room_of,
    texts,
    until,
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits for Welcomes and for hubs that are away."""
    monkeypatch.setattr("client.network.sync.JOIN_GRACE", 0.1)
    monkeypatch.setattr("client.rooms.workers.FIRST_RETRY", 0.2)


class Killed(BaseException):
    """What happens to a process that is killed: nothing after it runs."""


def kinds(fake: FakeNode, room: LogId, sender: str) -> list[str]:
    """What a device has written into a room's log."""
    found = [
        read_submission(read_entry(entry).submission)
        for entry in fake.logs[room].entries
    ]
    return [s.kind for s in found if s.sender == sender]


async def test_a_device_that_lost_its_keys_joins_again_by_itself(
    join: Join, fake: FakeNode
) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await alice.send_text(room.id, "before")
    await until(partial(texts, bob, room.id))
    await lose_keys(bob, room.id)
    await alice.close()  # nobody is there to let anybody in
    await bob.send_text(room.id, "here again")
    await until(partial(codes, bob, room.id), lambda c: "rejoined" in c)
    assert Kind.JOIN_REQUEST not in kinds(fake, room.id, bob.device)
    async with await Client.open(alice.profile, password=PASSWORD) as back:
        await until(
            partial(texts, back, room.id), lambda t: t == ["before", "here again"]
        )
        (line,) = [m for m in await back.messages(room.id) if m.code == "rejoined"]
        name = bob.device.partition("/")[2]
        assert line.text == f"{BOB}'s device {name} joined again."
        assert len(await back.members(room.id)) == 2


async def test_damaged_keys_are_as_good_as_lost(join: Join) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await until(partial(room_of, bob, room.id))

    def damage(tx: Tx) -> None:
        tx.execute("UPDATE mls_epoch SET data = substr(data, 1, 200)")
        bob._groups._cache.clear()

    await bob._store.run(damage)
    await bob.send_text(room.id, "still here")
    await until(partial(texts, alice, room.id), lambda t: t == ["still here"])
    await alice.send_text(room.id, "so am I")
    await until(partial(texts, bob, room.id), lambda t: t == ["still here", "so am I"])


async def test_a_lost_welcome_is_not_needed(
    join: Join, fake: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = await join("alice"), await join("bob")
    await join("carol")
    monkeypatch.setattr(bob._reading._inbound._welcomes, "receive", lambda *a: False)
    room = await alice.create_group("Garden", [BOB, CAROL])
    await fake.sockets[bob.device].close()  # the next session sees the room
    await until(partial(room_of, bob, room.id), lambda r: r is not None and r.active)
    await alice.send_text(room.id, "welcome")
    await until(partial(texts, bob, room.id), lambda t: t == ["welcome"])
    seen = await until(
        partial(room_of, bob, room.id), lambda r: r and r.title == "Garden"
    )
    assert seen is not None and seen.members == 3


async def test_the_loser_of_a_race_builds_anew(join: Join, fake: FakeNode) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await until(partial(room_of, bob, room.id))
    fake.fail["commit"] = StaleEpoch(epoch=fake.logs[room.id].epoch)
    await lose_keys(bob, room.id)
    await alice.send_text(room.id, "?")
    await until(partial(codes, bob, room.id), lambda c: "rejoined" in c)
    assert kinds(fake, room.id, bob.device).count(Kind.COMMIT) == 1


async def test_a_tree_that_is_gone_means_that_somebody_was_faster(
    join: Join, fake: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await until(partial(room_of, bob, room.id))
    transport = bob._transport
    real = transport.get
    missed: list[str] = []

    async def gone_once(path: str, kind: type[object]) -> object:
        if "/tree/" in path and not missed:
            missed.append(path)
            raise NotFound
        return await real(path, kind)

    monkeypatch.setattr(transport, "get", gone_once)
    await lose_keys(bob, room.id)
    await alice.send_text(room.id, "?")
    await until(partial(codes, bob, room.id), lambda c: "rejoined" in c)
    assert missed and Kind.JOIN_REQUEST not in kinds(fake, room.id, bob.device)


async def test_an_external_commit_is_found_again_by_its_hash(
    join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between sending the commit and hearing of it."""
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await until(partial(room_of, bob, room.id))
    await bob._stop()
    await lose_keys(bob, room.id)
    uplink = bob._reading._uplink
    submit = uplink.submit

    async def then_die(log: LogId, submission: bytes, bundle: object = None) -> object:
        await submit(log, submission, bundle)  # type: ignore[arg-type]
        raise Killed

    monkeypatch.setattr(uplink, "submit", then_die)
    with pytest.raises(Killed):
        await bob._workers._rejoin.rejoin(room.id)
    await bob.close()
    async with await Client.open(bob.profile, password=PASSWORD) as again:
        await until(partial(codes, again, room.id), lambda c: c[-1] == "rejoined")
        await again.send_text(room.id, "here")
        await until(partial(texts, alice, room.id), lambda t: t == ["here"])
    assert (await codes(alice, room.id)).count("rejoined") == 1


async def test_the_log_is_read_to_its_end_before_the_commit(
    join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies between the cursor and the head is read with the keys from before."""
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await until(partial(room_of, bob, room.id))
    await bob.close()
    for text in ("one", "two"):
        await alice.send_text(room.id, text)
    await until(
        lambda: messages_of(alice, room.id, "two"), lambda m: m[0].seq is not None
    )
    back = await Client.open(bob.profile, password=PASSWORD)
    await back._store.run(
        lambda tx: tx.execute("UPDATE room SET rewound = 1 WHERE id = ?", room.id)
    )
    assert await back._workers._rejoin.rejoin(room.id) == 0
    assert await texts(back, room.id) == ["one", "two"]
    async with back:
        await online(back)
        await back.send_text(room.id, "three")
        await until(partial(texts, alice, room.id), lambda t: t[-1] == "three")
    assert (await codes(alice, room.id))[-1] == "rejoined"


async def test_where_the_hub_lets_nobody_in_the_others_are_asked(
    join: Join, fake: FakeNode
) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await until(partial(room_of, bob, room.id))
    fake.fail["group"] = NotAllowed("Nobody joins by itself here.")
    await lose_keys(bob, room.id)
    await alice.send_text(room.id, "?")
    await until(partial(codes, alice, room.id), lambda c: "rejoined" in c)
    assert Kind.JOIN_REQUEST in kinds(fake, room.id, bob.device)
    await until(partial(room_of, bob, room.id), lambda r: r is not None and r.active)


async def test_trouble_at_the_hub_is_waited_out(join: Join, fake: FakeNode) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await until(partial(room_of, bob, room.id))
    fake.fail["group"] = NodeFault()
    await lose_keys(bob, room.id)
    await alice.send_text(room.id, "?")
    await until(partial(codes, bob, room.id), lambda c: "no_keys" in c)
    assert Kind.JOIN_REQUEST not in kinds(fake, room.id, bob.device)
    del fake.fail["group"]
    await until(partial(codes, bob, room.id), lambda c: "rejoined" in c)


async def test_a_group_that_is_not_this_rooms_is_not_joined(
    join: Join, fake: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lying hub shows another room's group, then this one's with a cut tree."""
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    other = await alice.create_group("Trap", [BOB])
    await until(partial(room_of, bob, other.id))
    await until(partial(room_of, bob, room.id))
    transport = bob._transport
    real = transport.get

    async def lie(path: str, kind: type[object]) -> object:
        if path == f"/logs/{room.id}/group":
            honest = await real(path, GroupState)
            trap = await real(f"/logs/{other.id}/group", GroupState)
            trap.seq, trap.hash = honest.seq, honest.hash
            return trap
        if "/tree/" in path:
            path = path.replace(room.id, other.id)
        return await real(path, kind)

    monkeypatch.setattr(transport, "get", lie)
    await lose_keys(bob, room.id)
    before = kinds(fake, room.id, bob.device).count(Kind.COMMIT)
    await bob._workers._rejoin.rejoin(room.id)
    assert kinds(fake, room.id, bob.device).count(Kind.COMMIT) == before
    group = await bob._store.run(lambda tx: bob._groups.get(tx, room.id))
    assert group is None


async def test_a_room_that_changes_too_fast_is_left_for_later(
    join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rejoin, "PAUSE", 0.001)
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await until(partial(room_of, bob, room.id))
    uplink = bob._reading._uplink

    async def stale(*args: object) -> object:
        raise StaleEpoch(epoch=7)

    await bob._stop()
    await lose_keys(bob, room.id)
    with monkeypatch.context() as patch:
        patch.setattr(uplink, "submit", stale)
        with pytest.raises(NodeUnreachable, match="too fast"):
            await bob._workers._rejoin.rejoin(room.id)
    assert await asyncio.wait_for(bob._workers._rejoin.rejoin(room.id), 10) > 0
