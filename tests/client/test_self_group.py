"""The self group: what one device sets, the others have; nobody else sees it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client import Client, RoomChanged
from client.account import self_group
from client.account.self_group import BATCH_BYTES, KEYS_MAX
from client.content.own import Entry, Registers, latest
from client.storage.store import Tx
from protocol.codec import decode, encode
from protocol.errors import Malformed
from tests.client.conftest import Join
from tests.client.fake_node import FakeNode
from tests.client.own_devices import hidden, pair, register_of, set_register
from tests.client.people import (
    ALICE,
    BOB,
    PASSWORD,
    codes,
    online,
    opened,
    profile,
    room_of,
    until,
)
from tests.helpers.fuzz import fuzzing

NOW = 1_800_000_000_000


def check_all(registers: Registers) -> None:
    registers.check()
    for entry in registers.entries:
        entry.check(NOW)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_group, "DELAY", 0.05)
    monkeypatch.setattr("client.network.sync.JOIN_GRACE", 0.1)


async def test_it_is_made_once_and_never_shown(
    join: Join, fake: FakeNode, tmp_path: Path
) -> None:
    alice = await join("alice")
    ((room, status),) = await until(
        lambda: hidden(alice), lambda h: h and h[0][1] == "active"
    )
    assert status == "active" and await alice.rooms() == []
    assert await alice.messages(room) == [] and await room_of(alice, room) is None
    await set_register(alice, "draft", "x", b"nobody to tell")
    await alice.close()
    async with opened(tmp_path, "alice", fake.url) as again:
        await online(again)
        assert await hidden(again) == [(room, "active")]
        assert await register_of(again, "draft", "x") == b"nobody to tell"
    # Alone, it says nothing: one entry, the room's first.
    assert fake.logs[room].head == 1


async def test_a_value_reaches_the_other_device_and_back(
    fake: FakeNode, tmp_path: Path
) -> None:
    async with pair(fake, tmp_path) as both:
        heard: list[tuple[str, bytes]] = []
        both.phone.self_group.on(
            "mute", lambda tx, key, value: heard.append((key, value))
        )
        await set_register(both.laptop, "mute", "garden", b"1")
        await until(lambda: register_of(both.phone, "mute", "garden"))
        assert heard == [("garden", b"1")]
        await set_register(both.phone, "mute", "garden", b"")
        await until(
            lambda: register_of(both.laptop, "mute", "garden"), lambda v: v == b""
        )
        assert await both.laptop.rooms() == await both.phone.rooms() == []


async def test_a_device_that_comes_in_never_sees_it_as_a_room(
    join: Join, fake: FakeNode, tmp_path: Path
) -> None:
    await join("bob")
    laptop, words = await Client.register(
        profile(tmp_path, "laptop", fake.url), ALICE, invite="", password=PASSWORD
    )
    async with laptop:
        await online(laptop)
        room = await laptop.start_direct(BOB)
        ((own, _),) = await until(partial(hidden, laptop))
        phone = await Client.login(
            profile(tmp_path, "phone", fake.url),
            ALICE,
            password=PASSWORD,
            phrase=" ".join(words),
        )
        told: set[str] = set()

        async def watch() -> None:
            async for event in phone.events():
                if isinstance(event, RoomChanged):
                    told.add(event.room.id)

        task = asyncio.create_task(watch())
        async with phone:
            await until(
                partial(room_of, phone, room.id), lambda r: r is not None and r.active
            )
            await until(partial(hidden, phone), lambda h: h == [(own, "active")])
            assert [r.id for r in await phone.rooms()] == [room.id]
        task.cancel()
        assert told == {room.id}


async def test_what_was_set_before_is_told_to_a_device_that_comes_later(
    fake: FakeNode, tmp_path: Path
) -> None:
    laptop, words = await Client.register(
        profile(tmp_path, "laptop", fake.url), ALICE, invite="", password=PASSWORD
    )
    async with laptop:
        await online(laptop)
        for n in range(30):
            await set_register(laptop, "mute", f"p{n}@fake.test", bytes(2000))
        phone = await Client.login(
            profile(tmp_path, "phone", fake.url),
            ALICE,
            password=PASSWORD,
            phrase=" ".join(words),
        )
        async with phone:
            await until(
                lambda: phone._store.run(
                    lambda tx: len(phone.self_group.items(tx, "mute"))
                ),
                lambda count: count == 30,
            )
            ((room, _),) = await hidden(phone)
    # 60 kB do not fit into one message.
    assert 2 * BATCH_BYTES < 30 * 2000 and fake.logs[room].head > 4


async def test_the_last_writer_wins_whatever_the_order(
    fake: FakeNode, tmp_path: Path
) -> None:
    async with pair(fake, tmp_path) as both:
        clients = (both.laptop, both.phone)
        rng = random.Random(5)
        for n in range(40):
            await set_register(
                rng.choice(clients), "draft", rng.choice("abc"), f"{n}".encode()
            )
        await set_register(both.laptop, "draft", "end", b"1")
        await set_register(both.phone, "draft", "end2", b"1")
        for client in clients:
            for key in ("end", "end2"):
                await until(partial(register_of, client, "draft", key))

        async def both_have() -> list[dict[str, bytes]]:
            return [
                await c._store.run(partial(c.self_group.items, register="draft"))
                for c in clients
            ]

        await until(both_have, lambda seen: seen[0] == seen[1])


async def test_two_groups_of_a_race_become_one_and_lose_nothing(
    fake: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pair(fake, tmp_path) as both:

        def second(tx: Tx) -> None:
            # As a device does that started before it heard of the first one.
            tx.execute("UPDATE room SET purpose = 'x' WHERE purpose = 'self'")
            room = both.phone.self_group.ensure(tx, strangers=False)
            tx.execute("UPDATE room SET purpose = 'self' WHERE purpose = 'x'")
            assert room is not None
            tx.execute("DELETE FROM own_register")

        await both.phone._store.run(second)
        await set_register(both.laptop, "mute", "one", b"1")
        await set_register(both.phone, "mute", "two", b"2")
        both.phone.reconnect()
        await both.phone._workers.resume()
        for device in (both.laptop, both.phone):
            await until(
                lambda device=device: hidden(device),  # type: ignore[misc]
                lambda h: len(h) == 2 and all(status == "active" for _, status in h),
            )
            for key in ("one", "two"):
                await until(partial(register_of, device, "mute", key))
        rooms = {
            await c._store.run(c.self_group.room) for c in (both.laptop, both.phone)
        }
        assert len(rooms) == 1


async def test_nobody_else_can_set_a_register(join: Join) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = await bob.start_direct(ALICE)
    await until(partial(room_of, alice, room.id))

    def lie(tx: Tx) -> None:
        entry = Entry("contact", BOB, b"trust me", 1)
        bob._letters.queue(tx, room.id, Registers([entry]))

    await bob._store.run(lie)
    bob._workers.poke(room.id)
    await until(partial(codes, alice, room.id), lambda c: "bad_identity" in c)
    assert await register_of(alice, "contact", BOB) == b""


async def test_a_register_is_bounded(join: Join) -> None:
    alice = await join("alice")

    def fill(tx: Tx) -> int:
        for n in range(KEYS_MAX + 7):
            tx.execute(
                "INSERT INTO own_register VALUES ('x', ?, ?, ?, 0)", f"k{n}", b"v", n
            )
        alice.self_group.set(tx, "x", "new", b"v")
        return len(alice.self_group.items(tx, "x"))

    assert await alice._store.run(fill) == KEYS_MAX
    assert await register_of(alice, "x", "k3") == b""
    with pytest.raises(ValueError, match="too long"):
        await set_register(alice, "x", "big", bytes(30_000))


@pytest.mark.fuzz
@fuzzing
@given(st.binary(max_size=200))
def test_bytes_are_registers_or_malformed(data: bytes) -> None:
    with contextlib.suppress(Malformed):
        check_all(decode(data, Registers))


@pytest.mark.fuzz
@fuzzing
@given(st.integers(0, 200), st.integers(0, 255))
def test_changed_registers_are_read_or_malformed(place: int, byte: int) -> None:
    data = bytearray(encode(Registers([Entry("draft", "room", b"text", 5)])))
    data[place % len(data)] = byte
    with contextlib.suppress(Malformed):
        check_all(decode(bytes(data), Registers))


@pytest.mark.parametrize(
    "entry",
    [
        Entry("", "k", b"", 1),
        Entry("x" * 17, "k", b"", 1),
        Entry("dra\nft", "k", b"", 1),
        Entry("draft", "k" * 401, b"", 1),
        Entry("draft", "k", bytes(20 * 1024 + 1), 1),
        Entry("draft", "k", b"", -1),
        Entry("draft", "k", b"", latest(NOW) + 1),
    ],
)
def test_an_entry_outside_its_bounds_is_refused(entry: Entry) -> None:
    with pytest.raises(Malformed):
        entry.check(NOW)
