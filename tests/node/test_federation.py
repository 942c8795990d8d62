"""Two real nodes over HTTPS on loopback: invite, talk, refuse, go away, come back."""

import asyncio
import os
import time

import pytest

from node.peers.pruning import KEPT, Pruner
from protocol.errors import PeerUnreachable, StaleEpoch, UnknownAccount
from protocol.log import Kind, make_submission, read_entry
from protocol.wire import AccountLog, OutcomeFrame, Page, Rooms
from tests.node.phone import body, phone
from tests.node.world import World, meet


async def test_people_on_two_nodes_talk(world: World) -> None:
    async with (
        phone(world.nodes[0], "alice", tls=world.tls) as alice,
        phone(world.nodes[1], "bob", tls=world.tls) as bob,
    ):
        await alice.register()
        await bob.register()
        await bob.upload_packages()
        log = await alice.call(
            "GET", f"/telex/v1/accounts/{bob.account}/log", None, AccountLog
        )
        assert log.entries == bob.person.log
        async with alice.session() as line, bob.session() as other:
            room, joined = await meet(alice, bob, other)
            await line.ack(**{room.id: 0})
            await line.submit(alice.message(room, b"hello"))
            entry = (await other.entries(room.id, 1))[0]
            assert joined.group.decrypt(body(entry)).content == b"hello"

            data = bob.message(joined, b"hi")
            assert (await other.submit(data)).state == "pending"
            entries = await line.entries(room.id, 4)
            assert room.group.decrypt(body(entries[-1])).content == b"hi"
            await other.entries(room.id, 1)
            again = await bob.submit(data)
            assert (again.state, again.seq) == ("committed", 4)
        path = f"/telex/v1/logs/{room.id}/entries"
        ours = await alice.call("GET", path, None, Page, query="after=2")
        theirs = await bob.call("GET", path, None, Page, query="after=2")
        assert ours == theirs
        rooms = await bob.call("GET", "/telex/v1/rooms", None, Rooms)
        assert [(r.room, r.hub) for r in rooms.rooms] == [(room.id, alice.name)]


async def test_a_follower_commits_and_is_refused_when_late(world: World) -> None:
    async with (
        phone(world.nodes[0], "alice", tls=world.tls) as alice,
        phone(world.nodes[1], "bob", tls=world.tls) as bob,
    ):
        await alice.register()
        await bob.register()
        await bob.upload_packages()
        async with bob.session() as other:
            room, joined = await meet(alice, bob, other)
            data, bundle, staged = bob.commit(joined)
            receipt = await bob.submit(data, bundle)
            assert (receipt.state, receipt.seq) == ("committed", 3)
            await other.entries(room.id, 1)
            late, late_bundle, _ = alice.commit(room)
            with pytest.raises(StaleEpoch):
                await alice.submit(late, late_bundle)
            # A message that the hub refuses: pending first, then its outcome.
            joined.group.apply_own(staged)
            for _ in range(3):
                data, bundle, staged = bob.commit(joined)
                await bob.submit(data, bundle)
                joined.group.apply_own(staged)
            old = make_submission(
                room.id,
                bob.address,
                os.urandom(16),
                Kind.MESSAGE,
                room.group.encrypt(b"too old"),
            )
            assert (await bob.submit(old)).state == "pending"
            while True:
                frame = await other.receive()
                if isinstance(frame, OutcomeFrame):
                    break
            assert frame.receipt.problem is not None
            assert frame.receipt.problem.code == "stale_epoch"
            assert await bob.submit(old) == frame.receipt


async def test_a_hub_that_was_away_gets_what_was_written(world: World) -> None:
    async with (
        phone(world.nodes[0], "alice", tls=world.tls) as alice,
        phone(world.nodes[1], "bob", tls=world.tls) as bob,
    ):
        await alice.register()
        await bob.register()
        await bob.upload_packages()
        async with bob.session() as other:
            room, joined = await meet(alice, bob, other)
            await world.nodes[0].stop()
            texts = [b"one", b"two", b"three"]
            for text in texts:
                receipt = await bob.submit(bob.message(joined, text))
                assert receipt.state == "pending"
            data, bundle, _ = bob.commit(joined)
            with pytest.raises(PeerUnreachable):
                await bob.submit(data, bundle)
            await world.restart(0)
            entries = await other.entries(room.id, 3)
        assert [read_entry(entry).seq for entry in entries] == [3, 4, 5]
        assert [room.group.decrypt(body(e)).content for e in entries] == texts


async def test_a_pruned_outgoing_log_goes_on(world: World) -> None:
    follower = world.nodes[1]
    pruner = Pruner(
        follower.store, follower.settings.name, lambda: time.time() + KEPT + 1
    )
    async with (
        phone(world.nodes[0], "alice", tls=world.tls) as alice,
        phone(follower, "bob", tls=world.tls) as bob,
    ):
        await alice.register()
        await bob.register()
        await bob.upload_packages()
        async with bob.session() as other:
            _, joined = await meet(alice, bob, other)
            first, second = (bob.message(joined, text) for text in (b"1", b"2"))
            await bob.submit(first)
            await other.entries(joined.id, 1)
            for _ in range(250):
                if await pruner.prune():
                    break
                await asyncio.sleep(0.02)  # the hub's ack is not stored yet
            else:
                pytest.fail("nothing was pruned")
            again = await bob.submit(first)
            assert (again.state, again.seq) == ("committed", 3)
            assert (await bob.submit(second)).state == "pending"
            entry = (await other.entries(joined.id, 1))[0]
            assert read_entry(entry).submission == second


async def test_who_does_not_exist_elsewhere(world: World) -> None:
    async with phone(world.nodes[0], "alice", tls=world.tls) as alice:
        await alice.register()
        nobody = f"nobody@{world.nodes[1].settings.name}"
        claimed = await alice.claim(nobody, "someone@localhost:1")
        assert claimed.failed[nobody].code == "unknown_account"
        assert claimed.failed["someone@localhost:1"].code == "peer_unreachable"
        with pytest.raises(UnknownAccount):
            path = f"/telex/v1/accounts/{nobody}/log"
            await alice.call("GET", path, None, AccountLog)
    await asyncio.sleep(0)
