"""Keys that change: signed rotations, the recovery key, and what an admin accepts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from federation.ports import PeerRecord
from node.admin import peers, rotate_key
from node.app import Node
from node.cli import main
from node.clock import system_clock
from node.config import Settings, render
from node.keys import KeyProblem, create_keys, fingerprint, load_keys
from node.lock import DataInUse
from node.peers.store import Peers
from protocol.log import read_submission
from tests.node.phone import Phone, Room, Socket, body, phone
from tests.node.server import make_settings
from tests.node.world import World, meet


@asynccontextmanager
async def talk(world: World) -> AsyncIterator[tuple[Phone, Room, Socket]]:
    """Bob, who is in a room of alice's on the other node, and his session."""
    async with (
        phone(world.nodes[0], "alice", tls=world.tls) as alice,
        phone(world.nodes[1], "bob", tls=world.tls) as bob,
    ):
        await alice.register()
        await bob.register()
        await bob.upload_packages()
        async with bob.session() as other:
            _, joined = await meet(alice, bob, other)
            yield bob, joined, other


def recovery_file(settings: Settings) -> Path:
    """Where `make_settings` put the recovery key."""
    return settings.data_dir.parent / f"recovery-{settings.port}.key"


async def command(settings: Settings, *arguments: str, answer: str = "") -> Result:
    """Run `telex-node` on the data of a node that runs here."""
    config = settings.data_dir / "telex-node.toml"
    values: dict[str, object] = {
        "name": settings.name,
        "data_dir": str(settings.data_dir),
        "ca_file": str(settings.ca_file),
    }
    config.write_text(render(values))
    invoke = ["--config", str(config), *arguments]
    return await asyncio.to_thread(CliRunner().invoke, main, invoke, answer)


async def test_peers_take_a_signed_rotation(world: World) -> None:
    async with talk(world) as (bob, room, other):
        with pytest.raises(DataInUse):
            rotate_key(world.settings[0], None)
        await world.nodes[0].stop()
        before = load_keys(world.settings[0].data_dir, world.settings[0].name)
        identity = rotate_key(world.settings[0], None)
        assert identity.node_key != before.identity.node_key
        a_minute_passes(world.nodes[1])
        await world.restart(0)
        data = bob.message(room, b"to the new key")
        assert (await bob.submit(data)).state == "pending"
        assert body(await next_entry(other, room)) == body_of(data)
        (record, _), *_ = peers(world.settings[1])
        assert (record.trusted, len(record.keys)) == ("ok", 2)
        listed = await command(world.settings[1], "peer", "list")
        assert f"{world.settings[0].name}  keys trusted" in listed.stdout


async def test_the_recovery_key_signs_when_the_node_key_is_lost(world: World) -> None:
    async with talk(world) as (bob, room, other):
        settings = world.settings[0]
        await world.nodes[0].stop()
        (settings.data_dir / "node.key").unlink()
        with pytest.raises(KeyProblem, match="rotate-key --recovery-key"):
            load_keys(settings.data_dir, settings.name)
        with pytest.raises(KeyProblem):
            rotate_key(settings, None)
        with pytest.raises(KeyProblem, match="not the recovery key"):
            rotate_key(settings, recovery_file(world.settings[1]))
        done = await command(
            settings, "rotate-key", "--recovery-key", str(recovery_file(settings))
        )
        assert done.exit_code == 0, done.output
        keys = load_keys(settings.data_dir, settings.name)
        assert fingerprint(keys.identity) in done.stdout
        a_minute_passes(world.nodes[1])
        await world.restart(0)
        data = bob.message(room, b"to the new key")
        await bob.submit(data)
        assert body(await next_entry(other, room)) == body_of(data)


async def test_an_unsigned_change_waits_for_the_admin(world: World) -> None:
    async with talk(world) as (bob, room, other):
        settings, peer = world.settings[1], world.settings[0]
        await world.nodes[0].stop()
        old = load_keys(peer.data_dir, peer.name)
        for file in ("node.key", "node-keys.json"):
            (peer.data_dir / file).unlink()
        create_keys(peer.data_dir, peer.name, 1_000_000)
        a_minute_passes(world.nodes[1])
        await world.restart(0)
        data = bob.message(room, b"to whom?")
        await bob.submit(data)
        await until_changed(settings)
        listed = ""
        async with asyncio.timeout(20):
            # The pin is recorded first, the attempt that failed by it a moment later.
            while "failing since" not in listed:
                listed = (await command(settings, "peer", "list")).stdout
        assert "keys CHANGED (see `telex-node peer accept`)" in listed
        assert "1 pending" in listed and "next try" in listed
        assert "without a signature" in listed
        asked = await command(settings, "peer", "accept", peer.name, answer="n\n")
        assert asked.exit_code == 1
        new = load_keys(peer.data_dir, peer.name)
        assert fingerprint(old.identity) in asked.stdout
        assert fingerprint(new.identity) in asked.stdout
        shown = (await command(peer, "status")).stdout
        assert fingerprint(new.identity) in shown
        assert peers(settings)[0][0].trusted == "changed"
        done = await command(settings, "peer", "accept", peer.name, "--yes")
        assert done.exit_code == 0, done.output
        # The running node notices, and what was held arrives.
        assert body(await next_entry(other, room)) == body_of(data)
        again = await command(settings, "peer", "accept", peer.name)
        assert "nothing was changed" in again.stdout
        gone = await command(settings, "peer", "accept", "localhost:1", "--yes")
        assert gone.exit_code == 1 and gone.stderr.count("\n") == 1


async def test_what_was_accepted_is_not_written_over(world: World) -> None:
    """The running node may have read a record just before the admin's command."""
    store = Peers(world.nodes[0].store, system_clock)
    held = PeerRecord("peer.example", keys=(b"old",), pinned_at=1, trusted="changed")
    await store.store_peer(held)
    accepted = replace(held, keys=(b"new",), pinned_at=2, trusted="ok")
    await store.store_peer(accepted)
    await store.store_peer(replace(held, fails=3))
    assert await store.get_peer("peer.example") == accepted


def test_a_rotation_that_was_cut_off_leaves_a_usable_key(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    key, following = (settings.data_dir / f for f in ("node.key", "node.key.next"))
    old = key.read_bytes()
    identity = rotate_key(settings, None)
    key.rename(following)
    key.write_bytes(old)
    assert load_keys(settings.data_dir, settings.name).identity == identity
    last = rotate_key(settings, None)
    assert load_keys(settings.data_dir, settings.name).identity == last
    assert last.seq == 3 and not following.exists()


def a_minute_passes(node: Node) -> None:
    """Let a node look at once at documents that it has seen just now."""
    node.federation._transport.directory._attempts.clear()


async def next_entry(other: Socket, room: Room) -> bytes:
    """The next entry of a room that comes in."""
    return (await other.entries(room.id, 1))[0]


def body_of(submission: bytes) -> bytes:
    """What a submission holds."""
    return read_submission(submission).body


async def until_changed(settings: Settings) -> None:
    """Wait until a node has seen that its one peer has other keys."""
    for _ in range(100):
        records = peers(settings)
        if records and records[0][0].trusted == "changed":
            return
        await asyncio.sleep(0.05)
    pytest.fail("the change was not noticed")
