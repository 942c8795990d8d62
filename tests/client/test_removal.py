"""Messages deleted for oneself and for everyone, and messages that vanish."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import sqlcipher3

from client import Client, Message, MessageRemoved
from client.account import self_group
from client.content import Again, Redaction, Resend, Text, Timer, read_body
from client.content.removal import DISAPPEARING_MAX
from client.errors import BadText, UnknownMessage
from client.model import MessageId
from client.rooms import removing
from client.storage import store as store_module
from client.storage.store import Tx
from protocol.codec import encode
from protocol.errors import Malformed, NotAllowed
from protocol.log import LogId
from tests.client.conftest import Join
from tests.client.fake_node import FakeNode
from tests.client.own_devices import pair as own_devices
from tests.client.people import (
    ALICE,
    BOB,
    CAROL,
    PASSWORD,
    all_bytes,
    codes,
    messages_of,
    room_of,
    texts,
    until,
)

PLANTED = "zanzibar-secret-word"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits for Welcomes, and for what our other devices are told."""
    monkeypatch.setattr("client.network.sync.JOIN_GRACE", 0.1)
    monkeypatch.setattr(self_group, "DELAY", 0.05)


class Plain:
    """A connection that is not encrypted: its files can be searched."""

    def __init__(self, connection: object) -> None:
        self._connection = connection

    def execute(self, sql: str, *values: object) -> object:
        if sql.startswith("PRAGMA key"):
            sql = "SELECT 1"
        if sql.startswith("PRAGMA secure_delete") and not Plain.secure:
            sql = "PRAGMA secure_delete = OFF"
        return self._connection.execute(sql, *values)  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)

    secure = True


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Plain]]:
    """Databases whose bytes can be searched for what was deleted."""
    real = sqlcipher3.connect

    def connect(*args: object, **options: object) -> Plain:
        return Plain(real(*args, **options))

    monkeypatch.setattr(sqlcipher3, "connect", connect)
    yield Plain
    Plain.secure = True


async def pair(join: Join) -> tuple[Client, Client, LogId]:
    """Alice and bob in a chat."""
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await until(partial(room_of, bob, room.id))
    return alice, bob, room.id


async def sent(client: Client, room: LogId, text: str) -> MessageId:
    """Send a text and wait until it has its place."""
    message = await client.send_text(room, text)
    await until(
        partial(messages_of, client, room, text), lambda m: m[0].seq is not None
    )
    return message.id


async def test_deleted_for_everyone_it_is_gone_everywhere(
    join: Join, plain: type[Plain]
) -> None:
    alice, bob, room = await pair(join)
    id = await sent(alice, room, PLANTED)
    await until(partial(texts, bob, room), lambda t: t == [PLANTED])
    answer = await bob.send_text(room, "what do you mean?", reply_to=id)
    await until(partial(messages_of, alice, room, answer.text))
    for client in (alice, bob):  # the positive control: it can be found
        assert PLANTED.encode() in all_bytes(client.profile.directory)
    await alice.delete_message(id, True)
    await until(partial(codes, bob, room), lambda c: "deleted" in c)
    for client in (alice, bob):
        line = next(m for m in await client.messages(room) if m.id == id)
        assert (line.kind, line.text) == ("notice", "This message was deleted.")
        assert line.sender == ALICE
        (reply,) = await messages_of(client, room, answer.text)
        assert reply.reply_to is not None and PLANTED not in reply.reply_to.text
        await until(partial(none_left, client), lambda left: not left)


async def none_left(client: Client) -> bool:
    """Whether the word is still on a disk."""
    return PLANTED.encode() in all_bytes(client.profile.directory)


async def test_without_secure_deletion_the_word_would_be_found(
    join: Join, plain: type[Plain]
) -> None:
    """The negative control: the search above would see what is merely unlinked."""
    plain.secure = False
    alice, bob, room = await pair(join)
    for n in range(3):
        await sent(alice, room, f"{PLANTED} {n}")
    await until(partial(texts, bob, room), lambda t: len(t) == 3)
    await alice._store.run(lambda tx: tx.execute("DELETE FROM message"))
    await alice.close()
    assert PLANTED.encode() in all_bytes(alice.profile.directory)


async def test_deleted_for_me_it_stays_with_the_others(
    join: Join, plain: type[Plain]
) -> None:
    alice, bob, room = await pair(join)
    id = await sent(alice, room, PLANTED)
    await until(partial(texts, bob, room), lambda t: t == [PLANTED])
    await bob.delete_message(id, False)
    assert await texts(bob, room) == []
    assert not await none_left(bob)
    await sent(alice, room, "next")
    await until(partial(texts, bob, room), lambda t: t == ["next"])
    assert await texts(alice, room) == [PLANTED, "next"]
    with pytest.raises(UnknownMessage):
        await bob.delete_message(id, False)


async def test_deleted_for_me_it_goes_from_my_other_devices(
    fake: FakeNode, join: Join, tmp_path: Path
) -> None:
    bob = await join("bob")
    async with own_devices(fake, tmp_path) as both:
        room = (await bob.start_direct(ALICE)).id
        for client in (both.laptop, both.phone):
            await until(partial(room_of, client, room), lambda r: r and r.active)
        id = await sent(bob, room, PLANTED)
        for client in (both.laptop, both.phone):
            await until(partial(texts, client, room), lambda t: t == [PLANTED])
        await both.laptop.delete_message(id, False)
        await until(partial(texts, both.phone, room), lambda t: t == [])
        assert await texts(bob, room) == [PLANTED]


async def test_a_message_that_never_left_is_simply_dropped(
    join: Join, fake: FakeNode, plain: type[Plain]
) -> None:
    alice, _, room = await pair(join)
    await alice._stop()
    message = await alice.send_text(room, PLANTED)
    await alice.delete_message(message.id, True)
    assert await alice.messages(room, limit=1) != [message]
    assert not await none_left(alice)
    left = await alice._store.run(lambda tx: tx.all("SELECT 1 FROM outbox"))
    assert left == []


async def test_who_may_delete_what_others_wrote(join: Join) -> None:
    alice, bob, carol = await join("alice"), await join("bob"), await join("carol")
    room = (await alice.create_group("Garden", [BOB, CAROL])).id
    for client in (bob, carol):
        await until(partial(room_of, client, room))
    id = await sent(bob, room, "weeds")
    for client in (alice, carol):
        await until(partial(texts, client, room), lambda t: t == ["weeds"])
    with pytest.raises(NotAllowed, match="role is above"):
        await carol.delete_message(id, True)
    # Who does it all the same is not heard.
    await carol._store.run(
        lambda tx: carol._letters.queue(tx, room, Redaction(bytes.fromhex(id)))
    )
    await sent(carol, room, "roses")
    await until(partial(texts, alice, room), lambda t: t == ["weeds", "roses"])
    await alice.delete_message(id, True)
    for client in (bob, carol):
        line = await until(
            partial(find, client, room, id), lambda m: m is not None and m.code
        )
        assert line is not None and line.text == f"{ALICE} deleted this message."
    direct = (await alice.start_direct(BOB)).id
    await until(partial(room_of, bob, direct))
    theirs = await sent(bob, direct, "mine")
    await until(partial(texts, alice, direct))
    with pytest.raises(NotAllowed):
        await alice.delete_message(theirs, True)


async def find(client: Client, room: LogId, id: MessageId) -> Message | None:
    """A line by its id."""
    return next((m for m in await client.messages(room) if m.id == id), None)


async def test_a_line_of_the_program_cannot_be_deleted(join: Join) -> None:
    alice, bob, room = await pair(join)
    (line, *_) = await bob.messages(room)
    assert line.kind == "notice"
    with pytest.raises(UnknownMessage):
        await bob.delete_message(line.id, False)
    await alice._store.run(
        lambda tx: alice._letters.queue(tx, room, Redaction(bytes.fromhex(line.id)))
    )
    await sent(alice, room, "done")
    await until(partial(texts, bob, room), lambda t: t == ["done"])
    assert line in await bob.messages(room)


async def test_what_was_deleted_is_not_brought_back_by_an_answer(join: Join) -> None:
    """Bob lost his keys, alice deletes, and carol still answers with a copy."""
    alice, bob, carol = await join("alice"), await join("bob"), await join("carol")
    room = (await alice.create_group("Garden", [BOB, CAROL])).id
    for client in (bob, carol):
        await until(partial(room_of, client, room))
    await bob._store.run(lambda tx: bob._groups.drop(tx, room))
    id = await sent(alice, room, PLANTED)
    await alice.delete_message(id, True)
    await until(partial(codes, carol, room), lambda c: "deleted" in c)
    await until(partial(codes, bob, room), lambda c: "rejoined" in c)

    def answer(tx: Tx) -> None:
        again = encode(Again("text", encode(Text(PLANTED))))
        alice._letters.queue(tx, room, Resend(bytes.fromhex(id), again))

    await alice._store.run(answer)
    await sent(alice, room, "end")
    await until(partial(texts, bob, room), lambda t: t == ["end"])
    await until(bob.doctor.examine, lambda found: not found)
    assert all(PLANTED not in m.text for m in await bob.messages(room))


async def test_messages_vanish_after_they_are_read(
    join: Join, plain: type[Plain]
) -> None:
    alice, bob, room = await pair(join)
    await alice.set_disappearing(room, 3600)
    await until(partial(room_of, bob, room), lambda r: r and r.disappearing == 3600)
    line = next(m for m in await bob.messages(room) if m.code == "disappearing")
    assert line.text == f"{ALICE} lets messages vanish 1 hour after they are read."
    await sent(alice, room, PLANTED)
    await until(partial(texts, bob, room), lambda t: t == [PLANTED])
    await bob._stop()
    later(bob, 3601)
    await bob._store.run(bob._removing.sweep)
    assert await texts(bob, room) == [PLANTED]  # not read yet: nothing has begun
    await bob.mark_read(room)
    await bob._store.run(bob._removing.sweep)
    later(bob, 3599)
    await bob._store.run(bob._removing.sweep)
    assert await texts(bob, room) == [PLANTED]
    await bob.close()
    back = await Client.open(bob.profile, password=PASSWORD)
    later(back, 3 * 3600 + 1)
    await back._store.run(back._removing.sweep)
    assert await texts(back, room) == []
    assert not await none_left(back)
    await back.close()
    later(alice, 3601)  # at its sender it began when it was sent
    await alice._store.run(alice._removing.sweep)
    assert await texts(alice, room) == []
    assert not await none_left(alice)
    await alice.set_disappearing(room, 0)
    await sent(alice, room, "stays")
    later(alice, 10**6)
    await alice._store.run(alice._removing.sweep)
    assert await texts(alice, room) == ["stays"]


def later(client: Client, seconds: int) -> None:
    """Move a client's clock."""
    client._clock.offset += seconds


async def test_the_sweep_runs_by_itself_and_says_so(join: Join) -> None:
    alice, bob, room = await pair(join)
    await alice.set_disappearing(room, 1)
    await sent(alice, room, "quick")
    await until(partial(texts, bob, room), lambda t: t == ["quick"])
    events = bob.events()
    await bob.mark_read(room)
    await until(partial(texts, bob, room), lambda t: t == [])
    async for event in events:
        if isinstance(event, MessageRemoved):
            break


async def test_a_clock_that_was_put_back_delays_by_one_period_at_most(
    join: Join,
) -> None:
    alice, _, room = await pair(join)
    later(alice, 10**7)
    await alice.set_disappearing(room, 60)
    await sent(alice, room, "old")
    later(alice, -(10**7))
    await alice._store.run(alice._removing.sweep)
    later(alice, 61)
    await alice._store.run(alice._removing.sweep)
    assert await texts(alice, room) == []


async def test_in_a_group_admins_decide_whether_messages_vanish(join: Join) -> None:
    alice, bob, carol = await join("alice"), await join("bob"), await join("carol")
    room = (await alice.create_group("Garden", [BOB])).id
    await until(partial(room_of, bob, room))
    with pytest.raises(NotAllowed, match="only admins"):
        await bob.set_disappearing(room, 60)
    await bob._store.run(lambda tx: bob._letters.queue(tx, room, Timer(60)))
    await sent(bob, room, "done")
    await until(partial(texts, alice, room), lambda t: t == ["done"])
    found = await room_of(alice, room)
    assert found is not None and found.disappearing == 0
    with pytest.raises(BadText, match="one year"):
        await alice.set_disappearing(room, DISAPPEARING_MAX + 1)
    await alice.set_disappearing(room, 7 * 86_400)
    await until(partial(room_of, bob, room), lambda r: r and r.disappearing)
    await alice.add_members(room, [CAROL])  # and who comes later is told
    await until(
        partial(room_of, carol, room), lambda r: r and r.disappearing == 7 * 86_400
    )


@pytest.mark.parametrize(
    "kind, body",
    [
        ("redaction", {"id": bytes(15)}),
        ("redaction", {}),
        ("timer", {"seconds": -1}),
        ("timer", {"seconds": DISAPPEARING_MAX + 1}),
    ],
)
def test_what_is_outside_of_a_bound_is_refused(kind: str, body: object) -> None:
    with pytest.raises(Malformed):
        read_body(kind, encode(body))


@pytest.mark.parametrize(
    "seconds, words",
    [(1, "1 second"), (90, "90 seconds"), (120, "2 minutes"), (604_800, "1 week")],
)
def test_a_time_is_said_in_words(seconds: int, words: str) -> None:
    assert removing._duration(seconds) == words


def test_the_older_copy_of_a_migration_goes_with_the_first_deletion(
    tmp_path: Path,
) -> None:
    copy = tmp_path / "telex.db.v1"
    copy.write_bytes(b"older")
    store = store_module.Store.__new__(store_module.Store)
    store._directory, store._connection = tmp_path, sqlcipher3.connect(":memory:")
    store._scrub()
    assert not copy.exists()
