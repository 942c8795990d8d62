"""A hub with helpers tries to bring people into rooms whom nobody let in."""

from __future__ import annotations

import os
from functools import partial

import pytest

from client import Client
from client.account import self_group
from client.content import read_content
from client.rooms import founding
from client.rooms.groups import group_id
from client.storage.store import Tx
from client.verification import audit, verification
from client.verification.rules import held_by
from client.verification.trust import check_root
from e2ee import Extension, Group, key_package_info
from e2ee.errors import E2eeError
from protocol.codec import encode
from protocol.errors import NodeFault
from protocol.key import KeyPair
from protocol.log import (
    Kind,
    LogId,
    Submission,
    mailbox_id,
    make_submission,
    read_entry,
    read_submission,
)
from protocol.policy import TELEX_ROOM, RoomPolicy, RoomValidator, account_of, device_of
from protocol.wire import WelcomeMail
from tests.client.conftest import Join
from tests.client.fake_node import NAME, FakeNode
from tests.client.home import Home, home
from tests.client.home import running as linked
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

__all__ = ["home"]

MALLORY = f"mallory@{NAME}"
OTHER = KeyPair.from_seed(b"another root key, of nobody here").public


class Lax(RoomValidator):
    """The validator of who keeps to no rules."""

    def authorize(self, context: object, sender: object, effects: object) -> None:
        """Allow it."""


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits that are not what is tested."""
    monkeypatch.setattr(self_group, "DELAY", 0.05)
    monkeypatch.setattr("client.network.sync.JOIN_GRACE", 0.1)
    monkeypatch.setattr(audit, "SPREAD", 1)
    monkeypatch.setattr(audit, "PAUSE", 0.01)


async def alarms(client: Client) -> set[str]:
    """The codes of a client's alarms."""
    return {alarm.code for alarm in await client.alarms()}


async def accounts(client: Client, room: LogId) -> list[str]:
    """Who is in the group that a client holds."""

    def look(tx: Tx) -> list[str]:
        group = client._groups.get(tx, room)
        return (
            []
            if group is None
            else sorted({account_of(m.identity) for m in group.members()})
        )

    return await client._store.run(look)


def submissions(fake: FakeNode, room: LogId) -> list[Submission]:
    """What stands in a room's log."""
    return [
        read_submission(read_entry(entry).submission)
        for entry in fake.logs[room].entries
    ]


def overhear(group: Group, said: list[Submission], now: int) -> list[str]:
    """What somebody reads with a group's keys."""
    heard = []
    for submission in said:
        try:
            if submission.kind == Kind.MESSAGE:
                body = read_content(group.decrypt(submission.body).content).body
                heard.append(repr(body))
            elif submission.kind == Kind.COMMIT:
                group.process_commit(submission.body, now=now)
        except E2eeError:
            continue
    return heard


async def plant(
    fake: FakeNode, room: LogId, mallory: Client, victims: list[Client]
) -> Group:
    """Mallory makes a group with the room's id, and the hub sends it to all."""

    def rules(tx: Tx) -> bytes:
        group = victims[-1]._groups.get(tx, room)
        assert group is not None
        return next(e.data for e in group.context.extensions if e.type == TELEX_ROOM)

    data = await victims[-1]._store.run(rules)
    now = mallory._clock.now()
    evil = Group.create(
        group_id=group_id(room),
        signature_private=mallory._me.mls.seed,
        identity=mallory._me.credential,
        extensions=[Extension(TELEX_ROOM, data)],
        now=now,
        validator=Lax(mallory._clock.now),
    )
    packages = [fake.packages[c.device].pop(0) for c in victims]
    staged = evil.commit(add=packages, now=now)
    txn = os.urandom(16)
    commit = make_submission(room, mallory.device, txn, Kind.COMMIT, staged.commit)
    receipt = fake.append(commit)
    assert receipt.seq is not None and receipt.hash is not None
    evil.apply_own(staged)
    tree_hash, log = evil.context.tree_hash, fake.logs[room]
    log.trees[tree_hash.hex()] = evil.ratchet_tree()
    log.epoch, log.group_info = evil.epoch, staged.group_info
    refs = {key_package_info(p).ref: c for p, c in zip(packages, victims, strict=True)}
    for n, (ref, welcome) in enumerate(staged.welcomes):
        client = refs[ref]
        mail = WelcomeMail(
            room,
            NAME,
            client.device,
            ref,
            receipt.seq,
            receipt.hash,
            tree_hash,
            welcome,
        )
        txn = receipt.hash[:15] + bytes([n])
        box = mailbox_id(client.account)
        fake.append(make_submission(box, NAME, txn, Kind.WELCOME, encode(mail)))
    await fake.flush()
    return evil


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


async def test_a_leaf_under_a_key_that_was_given_up_gets_nothing(
    join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob, _ = await join("alice"), await join("bob"), await join("carol")
    room = (await alice.create_group("Garden", [BOB, CAROL])).id
    chat = (await alice.start_direct(BOB)).id
    for one in (room, chat):
        await until(partial(room_of, bob, one), lambda r: r and r.active)
    await alice.set_refuse_unverified(room, True)
    await until(partial(room_of, bob, room), lambda r: r and r.refuse_unverified)
    await alice.verification.confirm(CAROL)
    await alice._store.run(lambda tx: check_root(tx, BOB, OTHER, None))
    await alice.verification.accept_new_key(BOB)
    await alice.verification.confirm(BOB)
    for one in (room, chat):
        held = await until(partial(room_of, alice, one), lambda r: r and r.note)
        assert held is not None and "another root key" in held.note
    await alice.send_text(room, "for the verified bob only")
    await alice.send_text(chat, "and this")
    # The owner of a group takes it out, when nobody asked for its place.
    monkeypatch.setattr(verification, "PLACE_KEPT", 0)
    await alice._store.run(lambda tx: alice.verification._part_with(tx, BOB))
    await until(partial(accounts, alice, room), lambda a: BOB not in a)
    await until(
        partial(messages_of, alice, room, "for the verified bob only"),
        lambda m: m and m[0].seq,
    )
    assert await texts(bob, room) == [] == await texts(bob, chat)
    still = await room_of(alice, chat)
    assert still is not None and "start a new chat" in still.note


async def test_a_revoked_device_that_comes_back_is_put_out_again(
    join: Join, fake: FakeNode, home: Home
) -> None:
    async def devices(client: Client) -> list[str]:
        def look(tx: Tx) -> list[str]:
            group = client._groups.get(tx, room)
            assert group is not None
            return [device_of(m.identity) for m in group.members()]

        return await client._store.run(look)

    laptop, bob = home.laptop, await join("bob")
    room = (await laptop.create_group("Garden", [BOB])).id
    await until(partial(room_of, bob, room), lambda r: r and r.active)
    async with linked(await home.link("phone")) as phone:
        await until(partial(room_of, phone, room), lambda r: r and r.active)
        await laptop.devices.revoke(phone.device)
        for client in (laptop, bob):
            await until(partial(devices, client), lambda d: phone.device not in d)
        await bob._contacts.refresh(ALICE)

        def force(tx: Tx) -> None:
            phone._groups.drop(tx, room, forget=True)
            tx.execute("UPDATE room SET status = 'asked', asked = 0 WHERE id = ?", room)

        await phone._store.run(force)
        phone._workers.poke(room)
        for client in (laptop, bob):
            await until(partial(alarms, client), lambda a: "device_list_false" in a)
            (alarm,) = await client.alarms()
            assert phone.device in alarm.text and "all the same" in alarm.text
        await bob.send_text(room, "secret of bob")
        await laptop.send_text(room, "secret")
        for client in (laptop, bob):
            await until(
                partial(texts, client, room),
                lambda t: {"secret", "secret of bob"} <= set(t),
            )
            assert phone.device not in await devices(client)
        assert not set(await texts(phone, room)) & {"secret", "secret of bob"}


async def test_who_was_revoked_while_this_device_was_away_is_no_liar(
    join: Join, home: Home
) -> None:
    """The list of devices is read before the room in which they came and went."""
    laptop, bob = home.laptop, await join("bob")
    room = (await laptop.create_group("Garden", [BOB])).id
    await until(partial(room_of, bob, room), lambda r: r and r.active)
    await bob.close()
    async with linked(await home.link("phone")) as phone:
        await until(partial(room_of, phone, room), lambda r: r and r.active)
        await laptop.devices.revoke(phone.device)
        await until(partial(codes, laptop, room), lambda c: "device_removed" in c)
    back = await Client.open(bob.profile, password=PASSWORD)
    await back._contacts.refresh(ALICE)
    async with back:
        await until(partial(codes, back, room), lambda c: "device_removed" in c)
        await back._audit.settle()
        assert not await alarms(back)
        await back.send_text(room, "hello")
        await until(partial(texts, laptop, room), lambda t: t == ["hello"])
