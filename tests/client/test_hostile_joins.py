"""A hub with helpers tries to bring people into rooms whom nobody let in."""

from __future__ import annotations

import os
from functools import partial

import pytest

from client import Client
from client.account import self_group
from client.rooms import founding
from client.rooms.groups import group_id
from client.storage.store import Tx
from client.verification import audit
from client.verification.rules import held_by
from e2ee import (
    CommitResult,
    Group,
    ProposalReceived,
)
from e2ee.errors import BadMembershipTag, PathSecretMismatch
from protocol.errors import NodeFault
from protocol.log import (
    Kind,
    make_submission,
)
from protocol.policy import RoomPolicy
from protocol.whole import WHOLE_MAX
from tests.client.conftest import Join
from tests.client.fake_node import NAME, FakeNode
from tests.client.people import (
    ALICE,
    BOB,
    CAROL,
    PASSWORD,
    codes,
    messages_of,
    room_of,
    texts,
    until,
)
from tests.client.plant import Lax, accounts, alarms, overhear, plant, submissions

MALLORY = f"mallory@{NAME}"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits that are not what is tested."""
    monkeypatch.setattr(self_group, "DELAY", 0.05)
    monkeypatch.setattr("client.network.sync.JOIN_GRACE", 0.1)
    monkeypatch.setattr(audit, "SPREAD", 1)
    monkeypatch.setattr(audit, "PAUSE", 0.01)


@pytest.mark.parametrize("direct", [False, True])
async def test_no_invitation_replaces_a_group_that_works(
    join: Join, fake: FakeNode, direct: bool
) -> None:
    alice, bob, mallory = await join("alice"), await join("bob"), await join("mallory")
    if direct:
        room = (await alice.start_direct(BOB)).id
    else:
        room = (await alice.create_group("Garden", [BOB])).id
    await until(partial(room_of, bob, room), lambda r: r and r.active)
    epoch = fake.logs[room].epoch
    evil = await plant(fake, room, mallory, [alice, bob])
    for client in (alice, bob):
        found = await until(
            partial(codes, client, room), lambda c: "group_rewound" in c
        )
        assert "forged_commit" in found
        assert {"group_rewound", "forged_commit"} <= await alarms(client)
        assert await accounts(client, room) == [ALICE, BOB]
    fake.logs[room].epoch = epoch  # the hub takes what is said, to hand it on
    await alice.send_text(room, "just for bob")
    await until(partial(texts, bob, room), lambda t: t == ["just for bob"])
    heard = overhear(evil, submissions(fake, room), mallory._clock.now())
    assert not heard


async def test_without_keys_an_invitation_must_be_where_the_log_leads(
    join: Join, fake: FakeNode
) -> None:
    alice, bob, mallory = await join("alice"), await join("bob"), await join("mallory")
    room = (await alice.create_group("Garden", [BOB])).id
    await until(partial(room_of, bob, room), lambda r: r and r.active)
    fake.fail["group"] = NodeFault()
    await bob._store.run(lambda tx: bob._groups.drop(tx, room))
    await plant(fake, room, mallory, [bob, alice])
    await until(partial(codes, bob, room), lambda c: "group_rewound" in c)
    assert {"group_rewound", "forged_commit"} <= await alarms(bob)
    assert await accounts(bob, room) == []


@pytest.mark.parametrize("beyond", [0, 1, (1 << 64) - 1 - WHOLE_MAX])
async def test_a_group_in_an_epoch_that_none_comes_to_is_not_joined(
    join: Join, fake: FakeNode, beyond: int
) -> None:
    """It has 64 bits (RFC 9420, section 8.1); what stores and counts it has 53."""
    bob, mallory = await join("bob"), await join("mallory")
    room = (await mallory.create_group("Garden", [])).id
    await until(partial(room_of, mallory, room), lambda r: r and r.active)
    await plant(fake, room, mallory, [bob], WHOLE_MAX + beyond)
    found = await until(
        partial(room_of, bob, room), lambda r: r and (r.active or r.note)
    )
    assert found is not None and found.active is (beyond == 0)
    if beyond:
        assert "could not be used (malformed)" in found.note
        assert await accounts(bob, room) == []
    # Whatever came, the next one is read.
    chat = await bob.start_direct(MALLORY)
    await until(partial(room_of, mallory, chat.id), lambda r: r and r.active)
    await mallory.send_text(chat.id, "hello")
    await until(partial(texts, bob, chat.id), lambda t: t == ["hello"])


async def test_who_is_new_is_named_to_who_comes_back(join: Join) -> None:
    alice, bob, _ = await join("alice"), await join("bob"), await join("carol")
    room = (await alice.create_group("Garden", [BOB])).id
    await until(partial(room_of, bob, room), lambda r: r and r.active)
    await alice.remove_member(room, BOB)
    await until(partial(room_of, bob, room), lambda r: r and not r.active)
    await alice.add_members(room, [CAROL])
    await alice.add_members(room, [BOB])
    await until(partial(room_of, bob, room), lambda r: r and r.active)
    (line,) = [m for m in await bob.messages(room) if m.code == "new_here"]
    assert line.text == (
        f"In this room now, and not when you were last in it: {CAROL}."
    )
    assert not await alarms(bob)  # it is right, as far as anybody can tell


async def test_a_direct_chat_of_three_is_none(
    join: Join, fake: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.validator = Lax(fake.time)
    alice, bob, mallory = await join("alice"), await join("bob"), await join("mallory")
    mallory._groups._validator = Lax(mallory._clock.now)

    def trap(version: int, room: str, direct: bool, *rest: object, **more: object):  # type: ignore[no-untyped-def]
        return RoomPolicy(version, room, True, *rest, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(founding, "RoomPolicy", trap)
        room = (await mallory.create_group("x", [ALICE, BOB])).id
    for client in (alice, bob):
        await until(partial(alarms, client), lambda a: "direct_not_two" in a)
        (alarm,) = await client.alarms()
        assert MALLORY in alarm.text
    chat = await alice.start_direct(BOB)
    assert chat.id != room
    await alice.send_text(chat.id, "just between us")
    await until(partial(texts, bob, chat.id), lambda t: t == ["just between us"])
    assert await texts(mallory, room) == []

    def held(tx: Tx) -> str:
        group = mallory._groups.get(tx, room)
        assert group is not None
        return held_by(tx, MALLORY, group)[0]

    assert "others in it than the two" in await mallory._store.run(held)


async def test_a_commit_that_nobody_signed_takes_no_keys(
    join: Join, fake: FakeNode
) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = (await alice.create_group("Garden", [BOB])).id
    await until(partial(room_of, bob, room), lambda r: r and r.active)
    real = next(s for s in submissions(fake, room) if s.kind == Kind.COMMIT)
    for body in (b"junk", real.body):
        txn = os.urandom(16)
        fake.append(make_submission(room, alice.device, txn, Kind.COMMIT, body))
    await fake.flush()
    await alice.send_text(room, "as ever")
    await until(partial(texts, bob, room), lambda t: t == ["as ever"])
    found = await codes(bob, room)
    assert found.count("forged_commit") == 2 and "rejoined" not in found
    assert await alarms(bob) == await alarms(alice) == {"forged_commit"}
    (ailment, _) = await bob.doctor.examine(room)
    assert ailment.repair == "none" and "hub" in ailment.cause
    await alice.add_members(room, [(await join("carol")).account])
    await until(partial(accounts, bob, room), lambda a: CAROL in a)
    assert await alarms(bob) == {"forged_commit"}


async def test_noise_from_an_epoch_that_never_was_takes_no_keys(
    join: Join, fake: FakeNode
) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = (await alice.create_group("Garden", [BOB])).id
    await until(partial(room_of, bob, room), lambda r: r and r.active)
    await alice.send_text(room, "one")
    await until(partial(texts, bob, room), lambda t: t == ["one"])
    body = next(s.body for s in submissions(fake, room) if s.kind == Kind.MESSAGE)
    at = body.index(group_id(room)) + len(group_id(room))
    later = body[:at] + (99).to_bytes(8, "big") + body[at + 8 :]
    txn = os.urandom(16)
    fake.append(make_submission(room, alice.device, txn, Kind.MESSAGE, later))
    await fake.flush()
    await until(partial(codes, bob, room), lambda c: "future_epoch" in c)
    assert await accounts(bob, room) == [ALICE, BOB]
    await alice.send_text(room, "two")
    await until(partial(texts, bob, room), lambda t: "two" in t)


@pytest.mark.parametrize("damaged", [False, True])
async def test_an_old_group_brings_nobody_back(
    join: Join, fake: FakeNode, damaged: bool
) -> None:
    """With the keys lost, or damaged on the disk together with what followed them."""
    alice, bob, carol = await join("alice"), await join("bob"), await join("carol")
    room = (await alice.create_group("Garden", [BOB, CAROL])).id
    for client in (bob, carol):
        await until(partial(room_of, client, room), lambda r: r and r.active)
    log = fake.logs[room]
    old = (log.group, log.group_info, log.epoch, set(log.members))
    hers = await carol._store.run(
        lambda tx: tx.one(
            "SELECT e.data, r.data FROM mls_epoch e JOIN mls_ratchet r USING (room)"
            " WHERE room = ?",
            room,
        )
    )
    await alice.remove_member(room, CAROL)
    await until(partial(codes, bob, room), lambda c: "removed" in c)
    log.group, log.group_info, log.epoch, log.members = old

    def lose(tx: Tx) -> None:
        bob._groups.drop(tx, room)
        if damaged:
            tx.execute("UPDATE trail SET data = NULL")

    await bob._store.run(lose)
    await bob.send_text(room, "carol is gone, so: secret")
    await until(partial(alarms, bob), lambda a: a == {"group_rewound"})
    seen = await until(partial(room_of, bob, room), lambda r: r and not r.active)
    assert seen is not None and "another group" in seen.note
    (message,) = await messages_of(bob, room, "carol is gone, so: secret")
    assert message.seq is None
    assert hers is not None
    group = carol._groups._load(bytes(hers[0]), bytes(hers[1]))
    heard = overhear(group, submissions(fake, room), carol._clock.now())
    assert not any("secret" in said for said in heard)


async def test_what_happens_without_keys_is_followed_and_said(
    join: Join, fake: FakeNode
) -> None:
    alice, bob, _ = await join("alice"), await join("bob"), await join("carol")
    room = (await alice.create_group("Garden", [BOB])).id
    await until(partial(room_of, bob, room), lambda r: r and r.active)
    fake.fail["group"] = NodeFault()
    await bob._store.run(lambda tx: bob._groups.drop(tx, room))
    await alice.add_members(room, [CAROL])
    await until(partial(codes, bob, room), lambda c: "added" in c)
    await alice.remove_member(room, CAROL)
    await until(partial(codes, bob, room), lambda c: "removed" in c)
    del fake.fail["group"]
    bob._workers.poke(room)
    await until(partial(codes, bob, room), lambda c: "rejoined" in c)
    assert await accounts(bob, room) == [ALICE, BOB]
    assert "new_here" not in await codes(bob, room)
    assert not await alarms(bob)


async def test_behind_a_gap_only_who_was_known_is_believed(
    join: Join, fake: FakeNode
) -> None:
    alice, bob, _ = await join("alice"), await join("bob"), await join("carol")
    room = (await alice.create_group("Garden", [BOB])).id
    await until(partial(room_of, bob, room), lambda r: r and r.active)
    await bob.close()
    await alice.add_members(room, [CAROL])
    head = fake.logs[room].head
    fake.first_page[room] = head  # how she came in is not shown
    fake.cursors[bob.device, room] = head
    async with await Client.open(bob.profile, password=PASSWORD) as back:
        await alice.send_text(room, "?")
        await until(
            partial(alarms, back),
            lambda a: {"entries_withheld", "ghost_member"} <= a,
        )
        assert CAROL not in await accounts(back, room)


async def test_a_right_commit_that_does_not_open_here_is_followed(
    join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member can make such a one, and no hub can tell: it is no hub's lie."""
    alice, bob, carol = await join("alice"), await join("bob"), await join("carol")
    room = (await alice.create_group("Garden", [BOB])).id
    await until(partial(room_of, bob, room), lambda r: r and r.active)
    process, receive = Group.process_commit, Group.receive_proposal
    failed: list[str] = []

    def commit(self: Group, message: bytes, *, now: int) -> CommitResult:
        if self is bob._groups._cache.get(room) and "commit" not in failed:
            failed.append("commit")
            raise PathSecretMismatch("for this one only")
        return process(self, message, now=now)

    def proposal(self: Group, message: bytes) -> ProposalReceived:
        if self is bob._groups._cache.get(room) and "proposal" not in failed:
            failed.append("proposal")
            raise BadMembershipTag("for this one only")
        return receive(self, message)

    monkeypatch.setattr(Group, "process_commit", commit)
    monkeypatch.setattr(Group, "receive_proposal", proposal)
    await alice.add_members(room, [CAROL])
    await until(partial(codes, bob, room), lambda c: "rejoined" in c)
    assert "added" in await codes(bob, room)
    await until(partial(accounts, bob, room), lambda a: a == [ALICE, BOB, CAROL])
    await until(partial(room_of, carol, room), lambda r: r and r.active)
    await bob._store.run(
        lambda tx: tx.execute("UPDATE room SET asked = 0 WHERE id = ?", room)
    )
    await carol.leave(room)
    await until(partial(accounts, bob, room), lambda a: a == [ALICE, BOB])
    assert failed == ["commit", "proposal"]
    await alice.send_text(room, "on we go")
    await until(partial(texts, bob, room), lambda t: t == ["on we go"])
    assert not await alarms(bob)
    assert not await alarms(alice)
