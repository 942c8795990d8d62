"""Lost keys, changed keys, commits that cannot be read: said, and repaired."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from client import Alarm, Client, State
from client.errors import ChangeFailed, KeyChanged, RoomInactive
from client.rooms.changes import ASK_INTERVAL, may_join_after
from client.storage.heads import have
from client.storage.store import Tx
from e2ee import Group
from e2ee.errors import BadConfirmationTag
from protocol.errors import InvalidCommit, NoKeyPackage, NotAllowed, Problem
from protocol.log import LogId
from protocol.policy import device_of
from protocol.wire import Claimed, WelcomeMail
from tests.client.conftest import Join
from tests.client.fake_node import NAME, FakeNode
from tests.client.people import (
    codes,
    lose_keys,
    messages_of,
    room_of,
    texts,
    until,
)


class Killed(BaseException):
    """What happens to a process that is killed: nothing after it runs."""


ALICE, BOB, CAROL = f"alice@{NAME}", f"bob@{NAME}", f"carol@{NAME}"


async def test_what_came_between_the_commit_and_the_welcome_is_read_after(
    join: Join, fake: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.fail["group"] = NotAllowed("Nobody joins by itself here.")
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await until(partial(room_of, bob, room.id))
    late = late_trees(bob, monkeypatch)
    await lose_keys(bob, room.id)
    await alice.send_text(room.id, "lost")
    await until(
        lambda: alice.messages(room.id),
        lambda m: any(line.code == "rejoined" for line in m),
    )
    await alice.send_text(room.id, "in between")
    await until(
        lambda: bob.messages(room.id),
        lambda m: [line.code for line in m].count("no_keys") == 2,
    )
    late.set()
    await until(partial(texts, bob, room.id), lambda t: t == ["in between"])
    assert [m.code for m in await bob.messages(room.id)].count("no_keys") == 1


@pytest.mark.parametrize("stays", [True, False])
async def test_who_comes_back_reads_what_was_said_before_the_invitation_was_here(
    join: Join, monkeypatch: pytest.MonkeyPatch, stays: bool
) -> None:
    """Also that they were taken out again."""
    alice, bob = await join("alice"), await join("bob")
    room = (await alice.create_group("Garden", [BOB])).id
    await until(partial(room_of, bob, room))
    await alice.remove_member(room, BOB)
    await until(partial(room_of, bob, room), lambda r: r and r.note)
    late = late_trees(bob, monkeypatch)
    await alice.add_members(room, [BOB])
    await alice.send_text(room, "in between")
    await until(
        partial(messages_of, alice, room, "in between"), lambda m: m[0].seq is not None
    )
    if not stays:
        await alice.remove_member(room, BOB)
        await until(partial(codes, alice, room), lambda c: c.count("removed") == 2)
    head = await alice._store.run(lambda tx: have(tx, room))
    assert head is not None
    await until(
        lambda: bob._store.run(lambda tx: have(tx, room)), lambda seq: seq == head
    )
    late.set()
    await until(partial(texts, bob, room), lambda t: t == ["in between"])
    await until(partial(room_of, bob, room), lambda r: r and r.active is stays)
    assert await bob.alarms() == []


def late_trees(client: Client, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """The trees of a client's Welcomes come only once this is set."""
    late, fetch = asyncio.Event(), client._reading._fetch_tree

    async def slowly(mail: WelcomeMail) -> bool:
        await late.wait()
        return await fetch(mail)

    monkeypatch.setattr(client._reading, "_fetch_tree", slowly)
    return late


async def test_a_commit_that_cannot_be_read_is_said_and_repaired(
    join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = await join("alice"), await join("bob")
    await join("carol")
    room = await alice.create_group("Garden", [BOB])
    await until(partial(room_of, bob, room.id), lambda r: r and r.title == "Garden")
    real = Group.process_commit
    failed: list[bytes] = []

    def fail_for_bob(group: Group, message: bytes, *, now: int) -> object:
        own = next(m for m in group.members() if m.leaf == group.own_leaf)
        if device_of(own.identity) == bob.device and not failed:
            failed.append(message)
            raise BadConfirmationTag("the states differ")
        return real(group, message, now=now)

    monkeypatch.setattr(Group, "process_commit", fail_for_bob)
    await alice.add_members(room.id, [CAROL])
    await until(
        lambda: bob.messages(room.id),
        lambda m: any(line.code == "bad_confirmation_tag" for line in m),
    )
    await until(partial(room_of, bob, room.id), lambda r: r is not None and r.active)
    await alice.send_text(room.id, "all well")
    await until(partial(texts, bob, room.id), lambda t: t == ["all well"])


async def test_a_device_comes_in_again_at_most_once_an_hour(
    join: Join, fake: FakeNode
) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await until(partial(room_of, bob, room.id))
    await lose_keys(bob, room.id)
    await alice.send_text(room.id, "anybody?")
    await until(partial(codes, bob, room.id), lambda c: "rejoined" in c)
    # Its coming in is over once what it missed was sent again, and acknowledged.
    await until(
        partial(messages_of, alice, room.id, "anybody?"),
        lambda found: found[0].state >= State.DELIVERED,
    )
    await lose_keys(bob, room.id)
    await alice.send_text(room.id, "still there?")
    await until(
        partial(room_of, bob, room.id), lambda r: r is not None and not r.active
    )
    wait = await bob._store.run(lambda tx: may_join_after(tx, bob._clock, room.id))
    assert ASK_INTERVAL - 60_000 < wait <= ASK_INTERVAL
    assert (await codes(alice, room.id)).count("rejoined") == 1


async def test_a_changed_root_stops_sending(join: Join) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = await alice.create_group("Garden", [BOB])
    await until(partial(room_of, bob, room.id))
    events = alice.events()
    await alice._store.run(
        lambda tx: tx.execute(
            "UPDATE contact SET root = ? WHERE account = ?", bytes(32), BOB
        )
    )
    with pytest.raises(KeyChanged, match="not the ones known"):
        await alice.create_group("Other", [BOB])
    async with asyncio.timeout(5):
        while not isinstance(await anext(events), Alarm):
            pass
    await alice.send_text(room.id, "secret")
    seen = await until(
        partial(room_of, alice, room.id), lambda r: r is not None and r.note
    )
    assert seen is not None and "keys of bob" in seen.note
    (message,) = await messages_of(alice, room.id, "secret")
    assert message.state is State.PENDING
    assert await texts(bob, room.id) == []


async def test_a_refused_change_says_why_and_is_not_tried_for_ever(
    join: Join, fake: FakeNode
) -> None:
    alice = await join("alice")
    await join("bob")
    await join("carol")
    room = await alice.create_group("Garden", [BOB])
    fake.fail["commit"] = InvalidCommit("The tree does not fit.")
    with pytest.raises(ChangeFailed, match="tree does not fit"):
        await alice.add_members(room.id, [CAROL])
    left = await alice._store.run(lambda tx: tx.all("SELECT * FROM intent"))
    assert not left
    await alice.add_members(room.id, [CAROL])
    assert len(await alice.members(room.id)) == 3


async def test_a_person_without_key_packages_cannot_be_added(
    join: Join, fake: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await join("alice")
    await join("bob")
    problem: Problem = NoKeyPackage().problem()

    async def refuse(path: str, body: object, kind: type[object]) -> object:
        if path == "/key-packages/claim":
            return Claimed([], {BOB: problem})
        return await real(path, body, kind)

    real = alice._transport.post
    monkeypatch.setattr(alice._transport, "post", refuse)
    with pytest.raises(NoKeyPackage):
        await alice.start_direct(BOB)
    assert await alice.rooms() == []


async def test_a_commit_whose_answer_was_lost_is_adopted_from_the_log(
    join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between sending a commit and hearing of it."""
    alice, bob = await join("alice"), await join("bob")
    await join("carol")
    room = await alice.create_group("Garden", [BOB])
    await until(partial(room_of, bob, room.id))
    uplink = alice._reading._uplink
    submit = uplink.submit

    async def then_die(log: LogId, submission: bytes, bundle: object = None) -> object:
        await submit(log, submission, bundle)  # type: ignore[arg-type]
        raise Killed

    await alice._stop()
    monkeypatch.setattr(uplink, "submit", then_die)
    with pytest.raises(Killed):
        await alice.add_members(room.id, [CAROL])
    await alice.close()
    async with await Client.open(alice.profile, password="a long password") as again:
        await until(partial(again.members, room.id), lambda m: len(m) == 3)
        await again.send_text(room.id, "three of us")
        await until(partial(texts, bob, room.id), lambda t: t == ["three of us"])


async def test_a_welcome_that_cannot_be_used_is_asked_for_again(
    join: Join, fake: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.rooms.changes.ASK_INTERVAL", 300)
    fake.fail["group"] = NotAllowed("Nobody joins by itself here.")
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await until(partial(room_of, bob, room.id))
    real = bob._groups.join
    failed: list[str] = []

    def fail_once(tx: Tx, log: LogId, *rest: object) -> object:
        if not failed:
            failed.append(log)
            raise BadConfirmationTag("not today")
        return real(tx, log, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(bob._groups, "join", fail_once)
    await lose_keys(bob, room.id)
    await alice.send_text(room.id, "lost")
    await until(lambda: asyncio.sleep(0, failed))
    await until(partial(room_of, bob, room.id), lambda r: r is not None and r.active)
    await alice.send_text(room.id, "found")
    await until(partial(texts, bob, room.id), lambda t: t == ["found"])


async def test_a_direct_chat_ends_when_the_other_leaves(join: Join) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await until(partial(room_of, bob, room.id))
    await bob.leave(room.id)
    seen = await until(
        partial(room_of, alice, room.id), lambda r: r is not None and not r.active
    )
    assert seen is not None and "start a new one" in seen.note
    with pytest.raises(RoomInactive, match="left this chat"):
        await alice.send_text(room.id, "anybody?")
    again = await alice.start_direct(BOB)
    assert again.id != room.id
    await alice.send_text(again.id, "once more")
    await until(partial(texts, bob, again.id), lambda t: t == ["once more"])


async def test_a_direct_chat_that_nobody_could_be_added_to_is_no_chat(
    join: Join, fake: FakeNode
) -> None:
    alice = await join("alice")
    bob = await join("bob")
    fake.fail["commit"] = InvalidCommit("Not this one.")
    with pytest.raises(ChangeFailed, match="Not this one"):
        await alice.start_direct(BOB)
    (dead,) = await alice.rooms()
    assert not dead.active
    room = await alice.start_direct(BOB)
    await alice.send_text(room.id, "now")
    await until(partial(texts, bob, room.id), lambda t: t == ["now"])
