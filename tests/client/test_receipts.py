"""What receipts cost: a cursor that moves, not an entry for each message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import msgspec
import pytest

from client import Client, Room, State
from client.content import Text, read_content
from client.model import MessageChanged
from client.rooms import talk
from client.storage.heads import have
from protocol.errors import Malformed, NotAllowed
from tests.client.conftest import Join
from tests.client.fake_node import FakeNode
from tests.client.people import (
    BOB,
    PASSWORD,
    chat,
    messages_of,
    online,
    opened,
    room_of,
    state_of,
    texts,
    until,
)
from tests.client.real_node import RealNode

Enter = Callable[[RealNode, str], Awaitable[Client]]


DELAY, GAP = talk.RECEIPT_DELAY, talk.RECEIPT_GAP


@pytest.fixture
async def enter(tmp_path: Path) -> AsyncIterator[Enter]:
    """Registers accounts on real nodes and runs their clients."""
    async with AsyncExitStack() as stack:

        async def register(node: RealNode, name: str) -> Client:
            unique = f"{name}-{tmp_path.name.replace('_', '-')[-20:]}".strip("-")
            client, _ = await Client.register(
                node.profile(tmp_path / name),
                f"{unique}@{node.name}",
                invite="",
                password=PASSWORD,
            )
            await stack.enter_async_context(client)
            return await online(client)

        yield register


async def reading(client: Client) -> None:
    """Somebody who looks at every message when it comes."""
    async for event in client.events():
        if isinstance(event, MessageChanged) and not event.message.own:
            await client.mark_read(event.message.room)


async def head(client: Client, room: Room) -> int:
    """How many entries a room has."""
    seq = await client._store.run(lambda tx: have(tx, room.id))
    assert seq is not None
    return seq


def has(text: str, said: list[str]) -> bool:
    """Whether it was said."""
    return text in said


async def talk_of(
    alice: Client, bob: Client, room: Room, first: int, turns: int, run: int
) -> int:
    """`turns` messages, in runs of one after the other; entries that it cost."""
    before = await head(alice, room)
    sent: list[str] = []
    for number in range(turns):
        writer, reader = (alice, bob) if number // run % 2 == 0 else (bob, alice)
        text = f"message {first + number}"
        await writer.send_text(room.id, text)
        sent.append(text)
        if number % run == run - 1:
            await until(partial(texts, reader, room.id), partial(has, text))
    await until(partial(state_of, writer, room.id, text), lambda s: s is State.READ)
    return await head(alice, room) - before


@pytest.mark.system
async def test_a_conversation_of_200_messages_costs_a_handful_of_receipts(
    nodes: list[RealNode], enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """329 and 40 entries if each look at a new message sent a receipt."""
    # The delay that people have, and less than half of the gap, to save time.
    monkeypatch.setattr(talk, "RECEIPT_DELAY", DELAY)
    monkeypatch.setattr(talk, "RECEIPT_GAP", GAP / 2.5)
    alice, bob = await enter(nodes[0], "alice"), await enter(nodes[0], "bob")
    room = await alice.start_direct(bob.account)
    await until(partial(room_of, bob, room.id))
    readers = [asyncio.create_task(reading(c)) for c in (alice, bob)]
    stream = await talk_of(alice, bob, room, 0, 200, 200)
    turns = await talk_of(alice, bob, room, 1000, 20, 1)
    for task in readers:
        task.cancel()
    assert 200 < stream <= 205
    assert 20 < turns <= 23


async def test_who_answers_sends_no_receipt(join: Join) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await alice.send_text(room.id, "one")
    await until(partial(texts, bob, room.id), lambda t: t == ["one"])
    await bob.mark_read(room.id)
    await bob.send_text(room.id, "two")
    await until(partial(state_of, alice, room.id, "one"), lambda s: s is State.READ)
    # Its text is the room's last entry: the answer alone said it.
    (two,) = await messages_of(alice, room.id, "two")
    assert two.seq == await head(alice, room)


async def test_after_a_long_absence_one_receipt_says_it_all(
    fake: FakeNode, join: Join, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob, room = await chat(join)
    await bob.close()
    for number in range(100):
        await alice.send_text(room.id, f"message {number}")
    last = f"message {99}"
    await until(partial(state_of, alice, room.id, last), lambda s: s is State.SENT)
    before = await head(alice, room)
    async with opened(tmp_path, "bob", fake.url) as again:
        await online(again)
        await until(
            partial(state_of, alice, room.id, last), lambda s: s is State.DELIVERED
        )
        assert await head(alice, room) - before == 1


async def test_switched_off_nobody_learns_what_was_read(join: Join) -> None:
    alice, bob, room = await chat(join)
    await bob.presence.set_switch("receipts", False)
    await bob.mark_read(room.id)
    await alice.send_text(room.id, "two")
    await until(
        partial(state_of, alice, room.id, "two"), lambda s: s is State.DELIVERED
    )
    await bob.mark_read(room.id)
    await bob.send_text(room.id, "three")
    await until(partial(texts, alice, room.id), lambda t: "three" in t)
    (two,) = await messages_of(alice, room.id, "two")
    assert (two.state, two.read_by) == (State.DELIVERED, 0)
    await bob.presence.set_switch("receipts", True)
    await bob.send_text(room.id, "four")
    await until(partial(state_of, alice, room.id, "two"), lambda s: s is State.READ)


async def test_large_rooms_have_none(
    join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talk, "RECEIPT_MEMBERS", 1)
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await alice.send_text(room.id, "one")
    await until(partial(texts, bob, room.id), partial(has, "one"))
    await bob.mark_read(room.id)
    await bob.send_text(room.id, "two")
    await until(partial(texts, alice, room.id), partial(has, "two"))
    assert await state_of(alice, room.id, "one") is State.SENT


async def test_what_a_refused_message_told_is_told_again(
    fake: FakeNode, join: Join
) -> None:
    alice, bob, room = await chat(join)
    fake.fail["message"] = NotAllowed("Not today.")
    await bob.mark_read(room.id)
    await bob.send_text(room.id, "no")
    await until(partial(state_of, bob, room.id, "no"), lambda s: s is State.FAILED)
    await until(partial(state_of, alice, room.id, "one"), lambda s: s is State.READ)


async def test_an_older_program_without_receipts_in_its_messages_is_read() -> None:
    data = msgspec.msgpack.encode([1, bytes(16), 3, bytes(32), "text", {"text": "hi"}])
    content = read_content(data)
    assert content.body == Text("hi") and (content.delivered, content.read) == (0, 0)
    for bad in (-1, 1 << 51, "x"):
        row = [1, bytes(16), 3, bytes(32), "text", {"text": "hi"}, bad, 0]
        with pytest.raises(Malformed):
            read_content(msgspec.msgpack.encode(row))
