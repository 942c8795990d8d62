"""Members, strangers and devices of our own that mean harm inside the encryption."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import pytest
from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, SealedBox

from client import Client, Room
from client.account.self_group import FALSE
from client.content import Again, Body, Resend, ResendRequest
from client.rooms import founding
from client.rooms.changes import Want, want
from client.rooms.letters import Arrival
from client.rooms.resending import ANSWERS_KEPT
from client.storage.store import Tx
from e2ee import Group
from protocol.codec import decode, encode
from protocol.log import LogId, read_entry, read_submission, room_id
from protocol.policy import RoomPolicy, RoomValidator
from tests.client.conftest import Join
from tests.client.fake_node import FakeNode
from tests.client.home import Home, active, at_once, home, running
from tests.client.own_devices import hidden, register_of, set_register
from tests.client.people import (
    ALICE,
    BOB,
    CAROL,
    PASSWORD,
    codes,
    messages_of,
    online,
    room_of,
    texts,
    until,
)

__all__ = ["at_once", "home"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.rooms.reader.ASK_DELAY", 100)
    monkeypatch.setattr("client.rooms.unread.ASK_DELAY", 100)
    monkeypatch.setattr("client.network.sync.JOIN_GRACE", 0.1)
    monkeypatch.setattr("client.rooms.resending.KIN_DELAY", 200)
    monkeypatch.setattr("client.rooms.resending.COPY_DELAY", 600)


async def queue(client: Client, room: LogId, body: Body) -> None:
    """Write a content that the program itself would not."""
    await client._store.run(lambda tx: client._letters.queue(tx, room, body))
    client._workers.poke(room)


async def placed(client: Client, room: LogId, text: str) -> str:
    """Write a text and wait for its place; its id."""
    await client.send_text(room, text)
    (said,) = await until(
        partial(messages_of, client, room, text), lambda m: m and m[0].seq is not None
    )
    return said.id


async def follows(writer: Client, reader: Client, room: LogId, text: str) -> None:
    """Write a text and wait for it: all before it was read then, too."""
    await writer.send_text(room, text)
    await until(partial(texts, reader, room), lambda t: text in t)


@contextlib.asynccontextmanager
async def without_keys(client: Client, room: LogId) -> AsyncIterator[None]:
    """Something is said while a device has lost the room's keys, and only then."""
    worker = client._workers._rejoin
    rejoin = worker.rejoin

    async def wait(room: LogId) -> int:
        return 0

    worker.rejoin = wait  # type: ignore[method-assign]
    async with client._workers.lock(room):
        await client._store.run(lambda tx: client._groups.drop(tx, room))
    yield
    await until(partial(codes, client, room), lambda found: "no_keys" in found)
    worker.rejoin = rejoin  # type: ignore[method-assign]
    client._workers.poke(room)


async def answers_of(client: Client, key: bytes) -> list[tuple[str, int]]:
    """What a device answers for a key, and when."""
    rows = await client._store.run(
        lambda tx: tx.all("SELECT id, due FROM answer WHERE key = ?", key)
    )
    return [(str(id), int(due)) for id, due in rows]


def request(id: str, key: PrivateKey) -> ResendRequest:
    return ResendRequest([bytes.fromhex(id)], bytes(key.public_key))


# --- a room that passes itself off as our self group ---------------------------


class Lax(RoomValidator):
    """The rules of somebody who keeps to none."""

    def authorize(self, *args: object) -> None:
        pass


@pytest.fixture
def trap(
    fake: FakeNode, join: Join, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Client, LogId], Awaitable[LogId]]:
    """Bob makes a room that says it binds devices, with a smaller id than ours."""

    async def make(bob: Client, own: LogId) -> LogId:
        fake.validator = Lax(fake.time)
        bob._groups._validator = Lax(bob._clock.now)

        def smaller(seed: bytes) -> LogId:
            return LogId("2" * 4 + room_id(seed)[4:])

        def lying(*args: Any, self_group: bool = False) -> RoomPolicy:
            version, room, direct, roles = args
            roles = {**roles, ALICE: 100}
            return RoomPolicy(version, room, direct, roles, self_group=True)

        with monkeypatch.context() as patch:
            patch.setattr(founding, "RoomPolicy", lying)
            patch.setattr(founding, "room_id", smaller)
            room = await bob.create_group("x", [ALICE])
        assert room.id < own
        return room.id

    return make


def said_by(fake: FakeNode, room: LogId, device: str) -> list[str]:
    """The kinds of what a device wrote in a room, at the hub."""
    found = [read_submission(read_entry(e).submission) for e in fake.logs[room].entries]
    return [str(s.kind) for s in found if s.sender == device]


async def refused(client: Client, room: LogId) -> Room:
    """Wait until the room stands in the list, left, with the reason."""
    seen = await until(partial(room_of, client, room), lambda r: r and not r.active)
    assert seen is not None and "passes itself off" in seen.note
    assert BOB in seen.note
    assert FALSE in await codes(client, room)
    (alarm,) = await client.alarms()
    assert (alarm.code, alarm.room) == (FALSE, room)
    return seen


async def test_a_strangers_room_never_becomes_the_self_group(
    join: Join, fake: FakeNode, trap: Callable[[Client, LogId], Awaitable[LogId]]
) -> None:
    alice, bob = await join("alice"), await join("bob")
    ((own, _),) = await until(
        partial(hidden, alice), lambda h: h and h[0][1] == "active"
    )
    await alice.set_draft((await alice.start_direct(BOB)).id, "never sent")
    false = await trap(bob, own)
    await refused(alice, false)
    assert await hidden(alice) == [(own, "active")]
    await set_register(alice, "draft", "x", b"for my own devices")

    def flush(tx: Tx) -> Sequence[Any]:
        alice.self_group.flush(tx, false)
        return tx.all("SELECT 1 FROM outbox WHERE room = ?", false)

    assert await alice._store.run(flush) == []
    assert said_by(fake, false, alice.device) == []


@pytest.mark.parametrize("when", ["commit", "flush"])
async def test_one_that_was_believed_is_found_out_before_anything_is_told(
    join: Join,
    fake: FakeNode,
    trap: Callable[[Client, LogId], Awaitable[LogId]],
    when: str,
) -> None:
    alice, bob = await join("alice"), await join("bob")
    ((own, _),) = await until(
        partial(hidden, alice), lambda h: h and h[0][1] == "active"
    )

    def believe(tx: Tx, room: LogId, group: Group) -> None:
        tx.execute("UPDATE room SET purpose = 'self' WHERE id = ?", room)

    await set_register(alice, "draft", "x", b"for my own devices")
    alice._reading._welcomes.entered = believe
    if when == "commit":
        alice._workers.pause()  # so that nothing is to be sent at once
    false = await trap(bob, own)
    if when == "commit":
        await until(partial(hidden, alice), lambda h: (false, "active") in h)
        await bob._store.run(lambda tx: want(tx, false, Want.UPDATE))
        bob._workers.poke(false)
    await refused(alice, false)
    assert await hidden(alice) == [(own, "active")]
    assert "message" not in said_by(fake, false, alice.device)


async def test_nothing_is_told_while_a_revoked_device_is_still_there(
    home: Home,
) -> None:
    laptop = home.laptop
    async with running(await home.link("phone")) as phone:
        own = await laptop._store.run(laptop.self_group.room)
        assert own is not None
        await set_register(laptop, "mute", "x", b"1")
        await until(partial(register_of, phone, "mute", "x"))
        laptop._workers.pause()
        await laptop.devices.revoke(phone.device)
        await set_register(laptop, "mute", "x", b"2")

        def flush(tx: Tx) -> Sequence[Any]:
            laptop.self_group.flush(tx, own)
            return tx.all("SELECT content FROM outbox WHERE kind = 'message'")

        assert await laptop._store.run(flush) == []


# --- what is sent again ----------------------------------------------------------


async def test_who_comes_later_gets_nothing_of_before(join: Join) -> None:
    alice, bob, carol = await join("alice"), await join("bob"), await join("carol")
    room = (await alice.create_group("Garden", [BOB])).id
    await active(bob, room)
    said = await placed(alice, room, "before carol")
    await until(partial(texts, bob, room), lambda t: t == ["before carol"])
    await alice.add_members(room, [CAROL])
    await active(carol, room)

    key = PrivateKey.generate()
    await queue(carol, room, request(said, key))
    for member in (alice, bob):
        await follows(carol, member, room, f"please, {member.account}")
        assert await answers_of(member, bytes(key.public_key)) == []

    # Who was there from the start is answered: that is what makes it a test.
    key = PrivateKey.generate()
    await queue(bob, room, request(said, key))
    await until(partial(answers_of, alice, bytes(key.public_key)))


async def test_an_answer_is_sealed_for_the_asker_whoever_comes_before_it(
    join: Join,
) -> None:
    """Bob asks while alice is away; carol comes; alice answers when she is back."""
    alice, bob, carol = await join("alice"), await join("bob"), await join("carol")
    room = (await bob.create_group("Garden", [ALICE])).id
    await active(alice, room)
    said = await placed(alice, room, "only for bob")
    await until(partial(texts, bob, room), lambda t: t == ["only for bob"])
    await alice.close()
    key = PrivateKey.generate()
    await queue(bob, room, request(said, key))
    await placed(bob, room, "asked")
    await bob.add_members(room, [CAROL])
    await active(carol, room)

    answers: list[Resend] = []
    carol._letters._handlers[Resend] = lambda tx, body, arrival: answers.append(body)

    async def came() -> list[Resend]:
        return answers

    async with await Client.open(alice.profile, password=PASSWORD) as back:
        await online(back)
        await until(came)
    for answer in answers:
        assert b"only for bob" not in answer.data
        with pytest.raises(CryptoError):
            SealedBox(PrivateKey.generate()).decrypt(answer.data)
        again = decode(SealedBox(key).decrypt(answer.data), Again)
        assert b"only for bob" in again.body


@pytest.mark.parametrize("key", [bytes(32), b"\1" + bytes(31)])
async def test_a_key_that_nothing_fits_stops_nobody(join: Join, key: bytes) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = (await alice.start_direct(BOB)).id
    await active(bob, room)
    said = await placed(alice, room, "hello")
    await queue(bob, room, ResendRequest([bytes.fromhex(said)], key))
    await follows(bob, alice, room, "asked")
    assert await answers_of(alice, key) == []
    await follows(alice, bob, room, "this leaves")


async def test_an_answer_that_cannot_be_made_is_given_up(join: Join) -> None:
    """It came in by some other way: the room's worker passes it by."""
    alice, bob = await join("alice"), await join("bob")
    room = (await alice.start_direct(BOB)).id
    await active(bob, room)
    said = await placed(alice, room, "hello")
    now = alice._clock.now_ms()
    await alice._store.run(
        lambda tx: tx.execute(
            "INSERT INTO answer VALUES (?, ?, ?, 1, 0, ?)", room, said, bytes(32), now
        )
    )
    await follows(alice, bob, room, "this leaves")
    assert await answers_of(alice, bytes(32)) == [(said, 0)]


async def test_what_was_answered_is_forgotten_after_a_day(join: Join) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = (await alice.start_direct(BOB)).id
    await active(bob, room)
    old = alice._clock.now_ms() - ANSWERS_KEPT - 1000

    def plant(tx: Tx) -> None:
        for due in (0, 1):
            tx.execute(
                "INSERT INTO answer VALUES (?, ?, ?, ?, 0, ?)",
                room,
                bytes([due] * 16).hex(),
                b"k" * 32,
                due,
                old,
            )

    await alice._store.run(plant)
    await follows(alice, bob, room, "x")
    assert await answers_of(alice, b"k" * 32) == []


async def test_nobody_hides_a_line_of_our_other_device(join: Join, home: Home) -> None:
    """Bob says that what our laptop wrote was nothing: it stays, with what he says."""
    laptop, bob = home.laptop, await join("bob")
    room = (await laptop.create_group("Garden", [BOB])).id
    await active(bob, room)
    async with running(await home.link("phone")) as phone:
        await active(phone, room)
        # On a busy machine it came in by itself, which it may do once an hour.
        await phone._store.run(lambda tx: tx.execute("UPDATE room SET asked = 0"))
        real = laptop._letters._handlers[ResendRequest]
        asked: list[tuple[ResendRequest, Arrival]] = []
        laptop._letters._handlers[ResendRequest] = lambda tx, body, arrival: (
            asked.append((body, arrival))
        )
        bob._letters._handlers[ResendRequest] = lambda *ignored: None
        async with without_keys(phone, room):
            said = await placed(laptop, room, "mine")
        await until(partial(codes, phone, room), lambda c: "rejoined" in c)

        def line() -> Awaitable[list[str]]:
            return _line(phone, room, said)

        async def requests() -> list[Any]:
            return [1 for body, _ in asked if bytes.fromhex(said) in body.ids]

        await until(requests)
        await until(line, lambda found: "Waiting for" in found[0])
        nothing = Resend(bytes.fromhex(said), encode(Again("", b"")))
        await queue(bob, room, nothing)
        await until(line, lambda found: "Waiting for" not in found[0])
        (now,) = await line()
        assert now.startswith(f"{BOB} says that this")

        # Our own device knows better, and is believed.
        for body, arrival in asked:
            await laptop._store.run(partial(_call, real, body, arrival))
        laptop._workers.poke(room)
        await until(line, lambda found: found == ["mine"])


async def _line(client: Client, room: LogId, id: str) -> list[str]:
    return [m.text for m in await client.messages(room) if m.id == id]


def _call(handler: Any, body: Any, arrival: Arrival, tx: Tx) -> None:
    handler(tx, body, arrival)


# --- an old timer, an old name -----------------------------------------------------


@pytest.mark.parametrize("what", ["timer", "name"])
async def test_what_is_sent_again_late_does_not_win_over_what_came_since(
    join: Join, what: str
) -> None:
    """Bob misses a change, reads the next one, and then gets the first."""
    alice, bob = await join("alice"), await join("bob")
    room = (await alice.create_group("Garden", [BOB])).id
    await active(bob, room)
    await until(partial(room_of, bob, room), lambda r: r and r.title == "Garden")

    async def change(seconds: int) -> None:
        if what == "timer":
            await alice.set_disappearing(room, seconds)
        else:
            await alice.rename(room, f"Room {seconds}")

    def has(seconds: int, seen: Room | None) -> bool:
        assert seen is not None
        return seconds == (
            seen.disappearing if what == "timer" else int(seen.title[5:] or 0)
        )

    asked: list[tuple[ResendRequest, Arrival]] = []
    real = alice._letters._handlers[ResendRequest]
    alice._letters._handlers[ResendRequest] = lambda tx, body, arrival: asked.append(
        (body, arrival)
    )
    async with without_keys(bob, room):
        await change(3600)
    await until(partial(codes, bob, room), lambda c: "rejoined" in c)

    async def requests() -> list[Any]:
        return asked

    await until(requests)
    await change(60)
    await until(partial(room_of, bob, room), partial(has, 60))

    for body, arrival in asked:
        await alice._store.run(partial(_call, real, body, arrival))
    alice._workers.poke(room)

    async def waiting() -> Sequence[Any]:
        return await alice._store.run(
            lambda tx: tx.all("SELECT 1 FROM answer WHERE due > 0")
        )

    await until(waiting, lambda rows: not rows)
    await follows(alice, bob, room, "the answer is before this")
    assert await bob.doctor.examine(room) == []  # it was read, in its old place
    assert has(60, await room_of(bob, room))


async def test_of_two_who_change_it_at_once_the_later_one_wins_everywhere(
    join: Join,
) -> None:
    """Bob's change gets its place before alice's, whose program shows hers already."""
    alice, bob = await join("alice"), await join("bob")
    room = (await alice.start_direct(BOB)).id
    await active(bob, room)
    posting = alice._workers._posting
    send = posting.send

    async def hold(room: LogId) -> None:
        pass

    posting.send = hold  # type: ignore[method-assign]
    await alice.set_disappearing(room, 60)
    await bob.set_disappearing(room, 3600)
    await until(partial(room_of, alice, room), lambda r: r and r.disappearing == 3600)
    posting.send = send  # type: ignore[method-assign]
    alice._workers.poke(room)
    for client in (alice, bob):
        await until(
            partial(room_of, client, room), lambda r: r and r.disappearing == 60
        )
