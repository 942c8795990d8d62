"""Drafts, read markers and quiet rooms, on one device and from one to the other."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from client import Client, Room
from client.account import self_group
from client.errors import BadText
from client.rooms import talk
from protocol.errors import UnknownRoom
from protocol.limits import TEXT_MAX
from protocol.log import LogId
from tests.client.conftest import Join
from tests.client.fake_node import FakeNode
from tests.client.own_devices import Pair, hidden, pair
from tests.client.people import BOB, online, opened, room_of, texts, until


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_group, "DELAY", 0.05)
    monkeypatch.setattr("client.network.sync.JOIN_GRACE", 0.1)


async def seen(client: Client, room: LogId) -> Room:
    """A room in the list."""
    found = await room_of(client, room)
    assert found is not None
    return found


async def shared_room(both: Pair) -> LogId:
    """A chat with Bob that both devices are in."""
    room = await both.laptop.start_direct(BOB)
    await until(
        partial(room_of, both.phone, room.id), lambda r: r is not None and r.active
    )
    return room.id


async def test_a_draft_survives_a_restart_and_is_gone_when_sent(
    join: Join, fake: FakeNode, tmp_path: Path
) -> None:
    alice = await join("alice")
    await join("bob")
    room = await alice.start_direct(BOB)
    assert room.draft == ""
    await alice.set_draft(room.id, "half a\nsentence")
    await alice.close()
    async with opened(tmp_path, "alice", fake.url) as again:
        assert (await seen(again, room.id)).draft == "half a\nsentence"
        await online(again)
        await again.send_text(room.id, "another one first")
        assert (await seen(again, room.id)).draft == "half a\nsentence"
        await again.send_text(room.id, "half a\nsentence, and all of it")
        assert (await seen(again, room.id)).draft == ""
        # Nobody else to tell: the self group holds its first entry alone.
        ((own, _),) = await hidden(again)
        assert fake.logs[own].head == 1


async def test_a_draft_follows_to_the_other_device(
    join: Join, fake: FakeNode, tmp_path: Path
) -> None:
    await join("bob")
    async with pair(fake, tmp_path) as both:
        room = await shared_room(both)
        for text in ("h", "he", "hel", "hello fr"):
            await both.laptop.set_draft(room, text)
        await until(partial(seen, both.phone, room), lambda r: r.draft == "hello fr")
        await both.phone.send_text(room, "hello from the phone")
        await until(partial(seen, both.laptop, room), lambda r: r.draft == "")
        await until(partial(texts, both.laptop, room), lambda t: len(t) == 1)


async def test_what_is_typed_quickly_is_one_message(
    join: Join, fake: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await join("bob")
    async with pair(fake, tmp_path) as both:
        room = await shared_room(both)
        monkeypatch.setattr(self_group, "DELAY", 0.5)
        ((own, _),) = await hidden(both.laptop)
        before = fake.logs[own].head
        for n in range(30):
            await both.laptop.set_draft(room, "x" * n)
        await until(partial(seen, both.phone, room), lambda r: r.draft == "x" * 29)
        assert fake.logs[own].head - before < 4


async def test_a_room_is_quiet_on_both(
    join: Join, fake: FakeNode, tmp_path: Path
) -> None:
    await join("bob")
    async with pair(fake, tmp_path) as both:
        room = await shared_room(both)
        await both.phone.set_muted(room, True)
        assert (await seen(both.phone, room)).muted
        await until(partial(seen, both.laptop, room), lambda r: r.muted)
        await both.laptop.set_muted(room, False)
        await until(partial(seen, both.phone, room), lambda r: not r.muted)


async def test_what_was_read_is_read_on_both_in_rooms_without_receipts(
    join: Join, fake: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talk, "RECEIPT_MEMBERS", 1)
    bob = await join("bob")
    async with pair(fake, tmp_path) as both:
        room = await shared_room(both)
        await until(partial(room_of, bob, room))
        await bob.send_text(room, "look")
        for client in (both.laptop, both.phone):
            await until(partial(seen, client, room), lambda r: r.unread == 1)
        await both.phone.mark_read(room)
        await until(partial(seen, both.laptop, room), lambda r: r.unread == 0)
        # Never back, whatever comes in late.
        await both.laptop._store.run(
            lambda tx: both.laptop._drafts._read(tx, room, bytes(8))
        )
        assert (await seen(both.laptop, room)).unread == 0


async def test_a_draft_is_bounded_and_for_a_room(join: Join) -> None:
    alice = await join("alice")
    await join("bob")
    room = await alice.start_direct(BOB)
    with pytest.raises(BadText, match="too long"):
        await alice.set_draft(room.id, "x" * (TEXT_MAX + 1))
    with pytest.raises(UnknownRoom):
        await alice.set_draft(LogId("nowhere"), "x")
    await alice.set_draft(room.id, "x" * TEXT_MAX)
    assert len((await seen(alice, room.id)).draft) == TEXT_MAX
