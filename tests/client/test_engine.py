"""The whole client over the wire: chats, groups, restarts, a second device."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from client import (
    MessageChanged,
    State,
)
from client.content import Text
from client.errors import BadText, RoomInactive
from client.rooms.changes import Package
from client.storage.store import Tx
from protocol.codec import encode
from protocol.errors import NotAllowed, UnknownAccount, UnknownRoom
from protocol.log import LogId
from protocol.policy import Role
from tests.client.conftest import Join
from tests.client.fake_node import NAME
from tests.client.people import (
    ALICE,
    BOB,
    CAROL,
    codes,
    messages_of,
    room_of,
    state_of,
    texts,
    until,
)

# --- two people ------------------------------------------------------------------


async def test_two_people_write_to_each_other(join: Join) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    assert room.direct and room.title == BOB and room.active
    await alice.send_text(room.id, "hello bob")
    (seen,) = await until(bob.rooms)
    assert seen.title == ALICE and seen.id == room.id
    await until(lambda: texts(bob, room.id), lambda t: t == ["hello bob"])
    await bob.send_text(room.id, "hello alice")
    both = ["hello bob", "hello alice"]
    await until(lambda: texts(alice, room.id), lambda t: t == both)


async def test_many_messages_come_once_and_in_order(join: Join) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await until(bob.rooms)
    said = [f"word {n}" for n in range(40)]
    for text in said:
        await alice.send_text(room.id, text)
    await until(lambda: texts(bob, room.id), lambda t: len(t) >= 40)
    assert await texts(bob, room.id) == said
    await until(lambda: texts(alice, room.id), lambda t: t == said)


async def test_a_message_is_sent_then_delivered_then_read(join: Join) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    sent = await alice.send_text(room.id, "look")
    assert sent.state is State.PENDING and sent.seq is None
    await until(
        lambda: state_of(alice, room.id, "look"), lambda s: s is State.DELIVERED
    )
    seen = await until(lambda: room_of(bob, room.id))
    assert seen is not None and seen.unread == 1
    await bob.mark_read(room.id)
    await until(lambda: state_of(alice, room.id, "look"), lambda s: s is State.READ)
    seen = await room_of(bob, room.id)
    assert seen is not None and seen.unread == 0
    (message,) = await messages_of(alice, room.id, "look")
    assert (message.delivered_to, message.read_by) == (1, 1)


async def test_a_reply_shows_what_it_answers(join: Join) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await alice.send_text(room.id, "tea or coffee?")
    await until(lambda: texts(bob, room.id))
    (question,) = await messages_of(bob, room.id, "tea or coffee?")
    await bob.send_text(room.id, "tea", reply_to=question.id)
    (answer,) = await until(lambda: messages_of(alice, room.id, "tea"))
    assert answer.reply_to is not None
    assert (answer.reply_to.sender, answer.reply_to.text) == (ALICE, "tea or coffee?")


async def test_a_direct_chat_is_made_once(join: Join) -> None:
    alice, bob = await join("alice"), await join("bob")
    first, second = await asyncio.gather(
        alice.start_direct(BOB), alice.start_direct(BOB)
    )
    await until(bob.rooms)
    third = await bob.start_direct(ALICE)
    assert first.id == second.id == third.id


async def test_two_who_begin_at_once_go_on_in_the_same_room(
    join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = await join("alice"), await join("bob")
    both = asyncio.Barrier(2)
    for client in (alice, bob):
        settler = client._rooms._settler

        async def claim(
            accounts: Sequence[str],
            room: LogId | None = None,
            *,
            claim: Any = settler.claim,
        ) -> dict[str, list[Package]]:
            packages: dict[str, list[Package]] = await claim(accounts, room)
            if room is None:  # before the room is made
                await both.wait()
            return packages

        monkeypatch.setattr(settler, "claim", claim)
    await asyncio.gather(alice.start_direct(BOB), bob.start_direct(ALICE))
    used: set[str] = set()
    for client in (alice, bob):
        rooms = await until(
            client.rooms, lambda r: len(r) == 2 and sum(x.active for x in r) == 1
        )
        (active,) = (room for room in rooms if room.active)
        (twin,) = (room for room in rooms if not room.active)
        assert "at the same moment" in twin.note and active.id < twin.id
        with pytest.raises(RoomInactive, match="at the same moment"):
            await client.send_text(twin.id, "to whom?")
        used.add(active.id)
    assert len(used) == 1
    assert (await alice.start_direct(BOB)).id == active.id
    assert (await bob.start_direct(ALICE)).id == active.id
    for client in (alice, bob):
        await client.send_text(active.id, f"from {client.account}")
    for client in (alice, bob):
        await until(partial(texts, client, active.id), lambda t: len(t) == 2)
    # What was written before it was known comes through, and is no secret.
    await bob._store.run(lambda tx: bob._talk.write(tx, twin.id, "early", None))
    bob._workers.poke(twin.id)
    await until(partial(texts, alice, twin.id), lambda t: t == ["early"])
    # When that room ends the other one is still there.
    await alice.leave(active.id)
    for client in (alice, bob):
        await until(partial(room_of, client, twin.id), lambda r: r and r.active)
    assert (await bob.start_direct(ALICE)).id == twin.id


async def test_a_message_of_a_kind_from_the_future_shows_as_such(
    join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await until(partial(room_of, bob, room.id))

    def newer(txn: bytes, seq: int, head: bytes, *body: object) -> bytes:
        return encode([1, txn, seq, head, "hologram", {"shape": "\x1b[2J"}])

    def write(tx: Tx) -> bytes:
        n = alice._letters.queue(tx, room.id, Text("x"))
        with monkeypatch.context() as patch:
            patch.setattr("client.rooms.letters.write_content", newer)
            return alice._letters.encrypt(tx, n) or b""

    await alice._store.run(write)
    alice._workers.poke(room.id)
    await until(partial(codes, bob, room.id), lambda c: "unknown_content" in c)
    notice = (await bob.messages(room.id))[-1]
    assert "update" in notice.text and notice.sender == ALICE


async def test_what_cannot_be_started_leaves_nothing_behind(join: Join) -> None:
    alice = await join("alice")
    with pytest.raises(UnknownAccount):
        await alice.start_direct(f"nobody@{NAME}")
    with pytest.raises(UnknownAccount):
        await alice.create_group("Garden", [f"nobody@{NAME}"])
    with pytest.raises(BadText, match="your own address"):
        await alice.start_direct(ALICE)
    with pytest.raises(UnknownRoom):
        await alice.send_text(LogId("a" * 52), "hello")
    assert await alice.rooms() == []


async def test_harmful_texts_are_refused_before_they_are_stored(join: Join) -> None:
    alice = await join("alice")
    await join("bob")
    room = await alice.start_direct(BOB)
    with pytest.raises(BadText):
        await alice.send_text(room.id, "red \x1b[31m alert")
    assert await texts(alice, room.id) == []


async def test_events_tell_of_a_message_and_its_states(join: Join) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    events = bob.events()
    await alice.send_text(room.id, "ping")
    async with asyncio.timeout(10):
        async for event in events:
            if isinstance(event, MessageChanged) and event.message.text == "ping":
                assert event.message.sender == ALICE
                break


# --- groups -----------------------------------------------------------------------


async def test_a_group_of_three(join: Join) -> None:
    alice, bob, carol = await join("alice"), await join("bob"), await join("carol")
    room = await alice.create_group("Garden", [BOB, CAROL])
    everybody = (alice, bob, carol)
    for client in everybody:
        seen = await until(
            partial(room_of, client, room.id),
            lambda r: r is not None and r.title == "Garden",
        )
        assert seen is not None and seen.members == 3 and not seen.direct
    for n, client in enumerate(everybody):
        await client.send_text(room.id, f"from {n}")
    for client in everybody:
        await until(partial(texts, client, room.id), lambda t: len(t) == 3)
    assert await texts(alice, room.id) == await texts(carol, room.id)
    members = await carol.members(room.id)
    assert [(m.account, m.role, m.own) for m in members] == [
        (CAROL, Role.MEMBER, True),
        (ALICE, Role.OWNER, False),
        (BOB, Role.MEMBER, False),
    ]


async def test_a_member_added_later_reads_from_then_on(join: Join) -> None:
    alice, bob = await join("alice"), await join("bob")
    carol = await join("carol")
    room = await alice.create_group("Garden", [BOB])
    await alice.send_text(room.id, "before carol")
    await until(lambda: texts(bob, room.id))
    await bob.add_members(room.id, [CAROL])
    await alice.send_text(room.id, "hello carol")
    await until(lambda: texts(carol, room.id))
    assert await texts(carol, room.id) == ["hello carol"]
    seen = await until(
        lambda: room_of(carol, room.id), lambda r: r is not None and r.title == "Garden"
    )
    assert seen is not None and seen.members == 3
    assert "added" in await codes(alice, room.id)


async def test_a_removed_member_gets_a_clean_end(join: Join) -> None:
    alice, bob, carol = await join("alice"), await join("bob"), await join("carol")
    room = await alice.create_group("Garden", [BOB, CAROL])
    await until(lambda: room_of(bob, room.id))
    await until(lambda: room_of(carol, room.id))
    with pytest.raises(NotAllowed):
        await bob.remove_member(room.id, CAROL)
    await alice.remove_member(room.id, BOB)
    gone = await until(
        lambda: room_of(bob, room.id), lambda r: r is not None and not r.active
    )
    assert gone is not None and "removed" in gone.note
    assert (await codes(bob, room.id))[-1] == "removed"
    await alice.send_text(room.id, "without bob")
    await until(lambda: texts(carol, room.id))
    assert await texts(bob, room.id) == []
    with pytest.raises(RoomInactive, match="removed"):
        await bob.send_text(room.id, "let me in")
    assert len(await alice.members(room.id)) == 2
    await alice.add_members(room.id, [BOB])
    await until(lambda: room_of(bob, room.id), lambda r: r is not None and r.active)
    await alice.send_text(room.id, "welcome back")
    await until(lambda: texts(bob, room.id), lambda t: t == ["welcome back"])


async def test_leaving_is_confirmed_by_somebody_who_stays(join: Join) -> None:
    alice, bob, carol = await join("alice"), await join("bob"), await join("carol")
    room = await alice.create_group("Garden", [BOB, CAROL])
    await until(lambda: room_of(carol, room.id))
    await until(lambda: room_of(bob, room.id))
    await bob.leave(room.id)
    seen = await room_of(bob, room.id)
    assert seen is not None and not seen.active
    for client in (alice, carol):
        await until(partial(client.members, room.id), lambda m: len(m) == 2)
        assert (await codes(client, room.id))[-1] == "left"
    await alice.send_text(room.id, "two of us")
    await until(lambda: texts(carol, room.id))


async def test_a_group_is_renamed_for_everybody(join: Join) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = await alice.create_group("Garden", [BOB])
    await until(
        lambda: room_of(bob, room.id), lambda r: r is not None and r.title == "Garden"
    )
    await bob.rename(room.id, "Allotment")
    seen = await until(
        lambda: room_of(alice, room.id),
        lambda r: r is not None and r.title == "Allotment",
    )
    assert seen is not None
    assert "renamed" in await codes(alice, room.id)
    with pytest.raises(BadText):
        await bob.rename(room.id, "two\nlines")


async def test_two_who_commit_at_once_both_come_through(join: Join) -> None:
    alice, bob = await join("alice"), await join("bob")
    await join("carol")
    await join("dave")
    room = await alice.create_group("Garden", [BOB])
    await until(lambda: room_of(bob, room.id))
    await asyncio.gather(
        alice.add_members(room.id, [CAROL]), bob.add_members(room.id, [f"dave@{NAME}"])
    )
    for client in (alice, bob):
        await until(partial(client.members, room.id), lambda m: len(m) == 4)
    await asyncio.gather(alice.send_text(room.id, "one"), bob.send_text(room.id, "two"))
    for client in (alice, bob):
        await until(partial(texts, client, room.id), lambda t: len(t) == 2)
