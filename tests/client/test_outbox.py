"""What becomes of what is written: restarts, no network, lost answers, refusals."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from pathlib import Path

import pytest

from client import (
    Connection,
    ConnectionChanged,
    MessageRemoved,
    State,
)
from client.errors import UnknownMessage
from protocol.errors import NotAllowed, StaleEpoch, TooMany
from tests.client.conftest import Join
from tests.client.fake_node import FakeNode
from tests.client.people import (
    ALICE,
    BOB,
    PASSWORD,
    all_bytes,
    messages_of,
    online,
    opened,
    room_of,
    state_of,
    texts,
    until,
)

# --- the outbox, restarts, no network -------------------------------------------------


async def test_what_is_written_without_network_is_sent_later(
    join: Join, fake: FakeNode, tmp_path: Path
) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await alice.send_text(room.id, "online")
    await until(lambda: state_of(alice, room.id, "online"), lambda s: s > State.PENDING)
    await alice.close()
    async with opened(tmp_path, "alice", "http://127.0.0.1:9") as away:
        assert await texts(away, room.id) == ["online"]
        await away.send_text(room.id, "offline one")
        await away.send_text(room.id, "offline two")
        await until(
            lambda: asyncio.sleep(0, away.connection),
            lambda c: c is Connection.OFFLINE and away.connection_detail,
        )
        assert "cannot be reached" in away.connection_detail
        assert await state_of(away, room.id, "offline two") is State.PENDING
    async with opened(tmp_path, "alice", fake.url) as back:
        said = ["online", "offline one", "offline two"]
        await until(lambda: texts(bob, room.id), lambda t: t == said)
        await until(
            lambda: state_of(back, room.id, "offline two"), lambda s: s > State.PENDING
        )


async def test_a_lost_answer_never_sends_twice(join: Join, fake: FakeNode) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await until(bob.rooms)
    fake.lose_answers = 1
    await alice.send_text(room.id, "only once")
    await until(lambda: texts(bob, room.id))
    await until(
        lambda: state_of(alice, room.id, "only once"), lambda s: s > State.PENDING
    )
    await alice.send_text(room.id, "and on")
    await until(lambda: texts(bob, room.id), lambda t: t == ["only once", "and on"])


async def test_a_refused_message_fails_and_can_be_tried_again(
    join: Join, fake: FakeNode
) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await until(bob.rooms)
    fake.fail["message"] = NotAllowed("Not today.")
    sent = await alice.send_text(room.id, "please")
    await until(lambda: state_of(alice, room.id, "please"), lambda s: s is State.FAILED)
    (failed,) = await messages_of(alice, room.id, "please")
    assert "Not today." in failed.error
    await alice.retry(sent.id)
    await until(lambda: texts(bob, room.id), lambda t: t == ["please"])
    with pytest.raises(UnknownMessage):
        await alice.retry(sent.id)


async def test_a_failed_message_can_be_discarded(join: Join, fake: FakeNode) -> None:
    alice = await join("alice")
    await join("bob")
    room = await alice.start_direct(BOB)
    fake.fail["message"] = NotAllowed("No.")
    sent = await alice.send_text(room.id, "never mind")
    await until(
        lambda: state_of(alice, room.id, "never mind"), lambda s: s is State.FAILED
    )
    events = alice.events()
    await alice.discard(sent.id)
    async with asyncio.timeout(5):
        event = await anext(events)
        while not isinstance(event, MessageRemoved):
            event = await anext(events)
    assert event.id == sent.id
    assert await texts(alice, room.id) == []


@pytest.mark.parametrize("asked", [1, 10**9])
async def test_later_means_later_but_not_never(
    join: Join, fake: FakeNode, monkeypatch: pytest.MonkeyPatch, asked: int
) -> None:
    monkeypatch.setattr("client.rooms.workers.LAST_RETRY", 1.0)
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await until(bob.rooms)
    fake.fail["message"] = TooMany(retry_after=asked)
    await alice.send_text(room.id, "patience")
    assert await state_of(alice, room.id, "patience") is State.PENDING
    await until(lambda: texts(bob, room.id), lambda t: t == ["patience"])


async def test_a_follower_says_pending_until_the_hub_has_it(
    join: Join, fake: FakeNode
) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await until(bob.rooms)
    fake.pending = True
    await alice.send_text(room.id, "far away")
    await until(
        lambda: state_of(alice, room.id, "far away"), lambda s: s > State.PENDING
    )
    await until(lambda: texts(bob, room.id), lambda t: t == ["far away"])


async def test_a_session_that_breaks_is_opened_again(
    join: Join, fake: FakeNode
) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await until(bob.rooms)
    events = bob.events()
    for socket in list(fake.sockets.values()):
        await socket.close()
    async with asyncio.timeout(10):
        async for event in events:
            if isinstance(event, ConnectionChanged):
                break
    await alice.send_text(room.id, "still there?")
    bob.reconnect()
    await until(lambda: texts(bob, room.id), lambda t: t == ["still there?"])


async def test_a_wrong_clock_is_learned(join: Join, fake: FakeNode) -> None:
    fake.offset = 7 * 3600
    alice = await join("alice")
    await join("bob")
    room = await alice.start_direct(BOB)
    sent = await alice.send_text(room.id, "what time is it?")
    assert abs(sent.time / 1000 - fake.time()) < 60


async def test_a_stale_message_is_encrypted_again_and_comes_once(
    join: Join, fake: FakeNode
) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await until(bob.rooms)
    fake.fail["message"] = StaleEpoch(epoch=fake.logs[room.id].epoch)
    await alice.send_text(room.id, "again")
    await until(partial(texts, bob, room.id), lambda t: t == ["again"])
    await until(lambda: state_of(alice, room.id, "again"), lambda s: s > State.PENDING)


async def test_frames_of_noise_end_a_session_and_not_the_client(
    join: Join, fake: FakeNode
) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await until(bob.rooms)
    for noise in (b"\xc1", b"\x80", b"\x81\xa1t\xa4what", bytes(5000)):
        await fake.sockets[bob.device].send_bytes(noise)
        await until(
            lambda: asyncio.sleep(0, bob.connection), lambda c: c is Connection.OFFLINE
        )
        assert "cannot read" in bob.connection_detail
        bob.reconnect()
        await online(bob)
    await alice.send_text(room.id, "still here")
    await until(partial(texts, bob, room.id), lambda t: t == ["still here"])


async def test_the_node_and_the_disk_never_see_a_word(
    join: Join, fake: FakeNode, tmp_path: Path
) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = await alice.create_group("Zanzibar", [BOB])
    await alice.send_text(room.id, "xylophone")
    await until(partial(texts, bob, room.id))
    await until(partial(room_of, bob, room.id), lambda r: r and r.title == "Zanzibar")
    seen = b"".join(e for log in fake.logs.values() for e in log.entries)
    for client in (alice, bob):
        await client.close()
    disk = all_bytes(tmp_path)
    assert len(disk) > 100_000 and len(seen) > 1000
    for word in (b"Zanzibar", b"xylophone", b"room_name", PASSWORD.encode()):
        assert word not in seen and word not in disk


async def test_nothing_is_lost_or_doubled_on_a_bad_line(
    join: Join, fake: FakeNode
) -> None:
    """Answers are lost and sockets closed while two people write."""
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await until(bob.rooms)
    dice = random.Random(7)
    said: dict[str, list[str]] = {ALICE: [], BOB: []}
    for n in range(40):
        writer = dice.choice((alice, bob))
        text = f"word {n}"
        said[writer.account].append(text)
        await writer.send_text(room.id, text)
        match dice.randrange(8):
            case 0:
                fake.lose_answers = 1
            case 1:
                for socket in list(fake.sockets.values()):
                    await socket.close()
            case 2:
                await asyncio.sleep(0.05)
        alice.reconnect()
        bob.reconnect()

    async def settled() -> bool:
        alice.reconnect()
        bob.reconnect()
        return (
            len(await texts(alice, room.id)) == len(await texts(bob, room.id)) == 40
            and all(m.state is not State.PENDING for m in await alice.messages(room.id))
            and all(m.state is not State.PENDING for m in await bob.messages(room.id))
        )

    await until(settled)
    assert await texts(alice, room.id) == await texts(bob, room.id)
    for account, wrote in said.items():
        seen = [m.text for m in await bob.messages(room.id) if m.sender == account]
        assert [text for text in seen if text.startswith("word")] == wrote


async def test_key_packages_are_filled_up_when_they_run_low(
    join: Join, fake: FakeNode
) -> None:
    bob = await join("bob")
    assert len(fake.packages[bob.device]) == 10
    before = fake.last_resort[bob.device]
    del fake.packages[bob.device][:6]
    for socket in list(fake.sockets.values()):
        await socket.close()
    bob.reconnect()
    await until(
        lambda: asyncio.sleep(0, fake.packages[bob.device]), lambda p: len(p) == 10
    )
    assert fake.last_resort[bob.device] == before
    fake.packages[bob.device].clear()
    alice = await join("alice")
    room = await alice.start_direct(BOB)
    await until(partial(room_of, bob, room.id))
    for socket in list(fake.sockets.values()):
        await socket.close()
    bob.reconnect()
    await until(
        lambda: asyncio.sleep(0, fake.last_resort[bob.device]), lambda p: p != before
    )
