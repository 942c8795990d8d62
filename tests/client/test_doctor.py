"""What cannot be read is asked for, sent again, explained and repaired."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from nacl.public import PrivateKey

from client import Client, State
from client.content import (
    Again,
    Redaction,
    Resend,
    ResendRequest,
    RoomName,
    Text,
    envelope,
    write_content,
)
from client.errors import UnknownAilment
from client.rooms import resending
from client.rooms.letters import Arrival
from client.storage.store import Tx
from protocol.codec import encode
from protocol.errors import NodeFault
from protocol.log import GENESIS, Kind, make_submission
from tests.client.conftest import Join
from tests.client.fake_node import FakeNode
from tests.client.own_devices import pair as own_devices
from tests.client.people import (
    ALICE,
    BOB,
    CAROL,
    PASSWORD,
    codes,
    lose_keys,
    messages_of,
    online,
    room_of,
    texts,
    until,
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delays that gather, and that leave the word to others."""
    monkeypatch.setattr("client.rooms.reader.ASK_DELAY", 150)
    monkeypatch.setattr("client.network.sync.JOIN_GRACE", 0.1)
    monkeypatch.setattr(resending, "KIN_DELAY", 200)
    monkeypatch.setattr(resending, "COPY_DELAY", 600)


async def test_what_was_missed_is_sent_again_into_its_old_place(join: Join) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    first = await alice.send_text(room.id, "one")
    await until(partial(texts, bob, room.id))
    await lose_keys(bob, room.id)
    await alice.send_text(room.id, "two", reply_to=first.id)
    await alice.send_text(room.id, "three")
    await until(partial(texts, bob, room.id), lambda t: t == ["one", "two", "three"])
    at_bob, at_alice = [
        [(m.id, m.seq, m.text) for m in await c.messages(room.id) if m.kind == "text"]
        for c in (bob, alice)
    ]
    assert at_bob == at_alice
    (answer,) = await messages_of(bob, room.id, "two")
    assert answer.reply_to is not None and answer.reply_to.text == "one"
    assert answer.sender == ALICE and answer.state is State.RECEIVED
    await until(bob.doctor.examine, lambda found: found == [])
    assert "no_keys" not in await codes(bob, room.id)


async def test_who_is_away_sends_it_when_back(join: Join) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await until(partial(room_of, bob, room.id))
    await bob.close()
    await alice.send_text(room.id, "hello")
    await until(
        partial(messages_of, alice, room.id, "hello"), lambda m: m[0].seq is not None
    )
    await alice.close()
    back = await Client.open(bob.profile, password=PASSWORD)
    await back._store.run(lambda tx: back._groups.drop(tx, room.id))
    async with back:
        await online(back)
        lost = await until(
            partial(back.messages, room.id),
            lambda m: any("Waiting for alice" in line.text for line in m),
        )
        line = next(m for m in lost if "Waiting for" in m.text)
        (ailment,) = [a for a in await back.doctor.examine() if a.message == line.id]
        assert (ailment.code, ailment.repair) == ("no_keys", "ask_resend")
        assert ailment.state == "repairing" and ALICE in ailment.repair_text
        async with await Client.open(alice.profile, password=PASSWORD):
            await until(partial(texts, back, room.id), lambda t: t == ["hello"])


async def test_another_device_than_the_author_gives_a_copy_that_says_so(
    join: Join,
) -> None:
    alice, bob, carol = await join("alice"), await join("bob"), await join("carol")
    room = await alice.create_group("Garden", [BOB, CAROL])
    await until(partial(room_of, carol, room.id))
    await until(partial(room_of, bob, room.id))
    await lose_keys(bob, room.id)
    await alice.send_text(room.id, "the roses")
    await until(partial(texts, carol, room.id), lambda t: t == ["the roses"])
    await alice.close()
    copy = await until(
        partial(bob.messages, room.id),
        lambda m: any(line.code == "copied" for line in m),
    )
    line = next(m for m in copy if m.code == "copied")
    assert line.text == f"{ALICE} wrote, as {CAROL} has it: the roses"
    assert line.kind == "notice" and line.sender == ALICE
    async with await Client.open(alice.profile, password=PASSWORD):
        # What its author sends is better, and takes the copy's place.
        await bob.doctor.repair_all()
        await bob._store.run(
            lambda tx: tx.execute("UPDATE ailment SET state = 'open', due = 0")
        )
        bob._workers.poke(room.id)
        await until(partial(texts, bob, room.id), lambda t: t == ["the roses"])


async def test_who_came_later_gets_nothing_of_what_was_said_before(
    join: Join,
) -> None:
    """One was there and asks; one came since, and cannot open the answer."""
    alice, bob, carol = await join("alice"), await join("bob"), await join("carol")
    room = await alice.create_group("Garden", [BOB])
    await until(partial(room_of, bob, room.id))
    await bob._stop()
    await alice.send_text(room.id, "before carol")
    await until(
        partial(messages_of, alice, room.id, "before carol"),
        lambda m: m[0].seq is not None,
    )
    await alice.add_members(room.id, [CAROL])
    await until(partial(room_of, carol, room.id))
    answers: list[bytes] = []
    real = carol._letters._handlers[Resend]

    def look(tx: Tx, body: Resend, arrival: Arrival) -> None:
        answers.append(body.data)
        real(tx, body, arrival)

    carol._letters._handlers[Resend] = look
    await bob.close()
    back = await Client.open(bob.profile, password=PASSWORD)
    await back._store.run(lambda tx: back._groups.drop(tx, room.id))
    async with back:
        await until(partial(texts, back, room.id), lambda t: t == ["before carol"])
    await alice.send_text(room.id, "since carol")
    await until(partial(texts, carol, room.id), lambda t: t == ["since carol"])
    assert answers and all(b"before carol" not in data for data in answers)

    # And who was not there asks in vain, even knowing the id.
    (said,) = await messages_of(alice, room.id, "before carol")

    key = bytes(PrivateKey.generate().public_key)

    def ask(tx: Tx) -> None:
        body = ResendRequest([bytes.fromhex(said.id)], key)
        carol._letters.queue(tx, room.id, body)

    await carol._store.run(ask)
    await carol.send_text(room.id, "please")
    await until(partial(texts, alice, room.id), lambda t: t[-1] == "please")
    assert (
        await alice._store.run(
            lambda tx: tx.all("SELECT 1 FROM answer WHERE key = ?", key)
        )
        == []
    )


async def test_nobody_can_put_words_into_anothers_mouth(join: Join) -> None:
    """Mallory sends again what alice never said: it is mallory's copy at most."""
    alice, bob, carol = await join("alice"), await join("bob"), await join("carol")
    room = await alice.create_group("Garden", [BOB, CAROL])
    for client in (bob, carol):
        await until(partial(room_of, client, room.id))
    await lose_keys(bob, room.id)
    for client in (alice, carol):
        client._letters._handlers[ResendRequest] = lambda *ignored: None
    said = await alice.send_text(room.id, "yes")
    await until(partial(codes, bob, room.id), lambda c: "rejoined" in c)
    await until(
        partial(bob.messages, room.id),
        lambda m: any(line.text.startswith("Waiting for") for line in m),
    )
    # What others say of it counts once it was asked for.
    await until(
        bob.doctor.examine,
        lambda found: (said.id, "repairing") in {(a.message, a.state) for a in found},
    )

    def forge(tx: Tx, word: str, body: bytes) -> None:
        again = encode(Again(word, body))
        message = Resend(bytes.fromhex(said.id), again)
        carol._letters.queue(tx, room.id, message)

    name = encode(RoomName("stolen"))
    gone = encode(Redaction(bytes.fromhex(said.id)))
    await carol._store.run(partial(forge, word="", body=b""))
    await carol._store.run(partial(forge, word="room_name", body=name))
    await carol._store.run(partial(forge, word="redaction", body=gone))
    await carol._store.run(partial(forge, word="text", body=encode(Text("no"))))
    carol._workers.poke(room.id)
    seen = await until(
        partial(bob.messages, room.id),
        lambda m: any(line.code == "copied" for line in m),
    )
    line = next(m for m in seen if m.id == said.id)
    assert line.text == f"{ALICE} wrote, as {CAROL} has it: no"
    found = await room_of(bob, room.id)
    assert found is not None and found.title != "stolen"


async def test_what_was_no_message_leaves_no_line(join: Join) -> None:
    """A receipt that could not be read: once it is known to be one, it is nothing."""
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await until(partial(room_of, bob, room.id))
    await bob.send_text(room.id, "hello")
    await until(partial(texts, alice, room.id))
    await lose_keys(bob, room.id)
    await alice.mark_read(room.id)  # a receipt is all that alice sends
    await until(partial(codes, bob, room.id), lambda c: "rejoined" in c)
    await until(
        partial(bob.messages, room.id),
        lambda m: not any(line.code == "no_keys" for line in m),
    )
    await until(bob.doctor.examine, lambda found: found == [])


async def test_a_missed_name_is_learned_late(join: Join) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = await alice.create_group("Garden", [BOB])
    await until(partial(room_of, bob, room.id), lambda r: r and r.title == "Garden")
    await lose_keys(bob, room.id)
    await alice.rename(room.id, "Orchard")
    await until(partial(room_of, bob, room.id), lambda r: r and r.title == "Orchard")


async def test_a_restored_old_copy_joins_again_before_it_writes(
    join: Join, fake: FakeNode
) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await until(partial(room_of, bob, room.id))
    await bob.send_text(room.id, "one")
    await until(partial(texts, alice, room.id))
    await bob.close()
    database = bob.profile.directory / "telex.db"
    old = database.read_bytes()
    async with await Client.open(bob.profile, password=PASSWORD) as newer:
        await online(newer)
        await newer.send_text(room.id, "two")
        await until(partial(texts, alice, room.id), lambda t: t == ["one", "two"])
        head = fake.logs[room.id].head
        await until(
            lambda: newer._store.run(lambda tx: tx.one("SELECT max(seq) FROM log")),
            lambda row: row is not None and row[0] >= head,
        )
    database.write_bytes(old)
    async with await Client.open(bob.profile, password=PASSWORD) as back:
        await back.send_text(room.id, "three")
        await until(
            partial(texts, alice, room.id), lambda t: t == ["one", "two", "three"]
        )
        assert (await codes(alice, room.id))[-1] == "rejoined"
        assert not {"generation_used", "decryption_failed"} & set(
            await codes(alice, room.id)
        )
        # What this device itself had forgotten comes back as others have it.
        await until(
            partial(back.messages, room.id),
            lambda m: any(
                line.code == "copied" and line.text.endswith(": two") for line in m
            ),
        )


async def test_a_device_whose_keys_are_doubted_joins_again(join: Join) -> None:
    """Alice's ratchet went back, unnoticed: her messages use keys twice."""
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await until(partial(room_of, bob, room.id))
    ratchets = await alice._store.run(
        lambda tx: tx.one("SELECT data FROM mls_ratchet WHERE room = ?", room.id)
    )
    assert ratchets is not None
    await alice.send_text(room.id, "one")
    await until(partial(texts, bob, room.id), lambda t: t == ["one"])

    def rewind(tx: Tx) -> None:
        sql = "UPDATE mls_ratchet SET data = ? WHERE room = ?"
        tx.execute(sql, ratchets[0], room.id)
        alice._groups._cache.clear()

    await alice._store.run(rewind)
    await alice.send_text(room.id, "two")
    await until(partial(texts, bob, room.id), lambda t: t == ["one", "two"])
    assert "rejoined" in await codes(bob, room.id)


async def test_nobody_can_be_kept_from_writing_by_doubts(join: Join) -> None:
    """Whoever says again and again that alice's keys do not fit is heard once."""
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await until(partial(room_of, bob, room.id))

    def doubt(tx: Tx) -> None:
        key = bytes(PrivateKey.generate().public_key)
        body = ResendRequest([bytes(16)], key, [alice.device])
        bob._letters.queue(tx, room.id, body)

    for n in range(3):
        await bob._store.run(doubt)
        await bob.send_text(room.id, f"doubt {n}")
        await until(partial(messages_of, alice, room.id, f"doubt {n}"))
        await alice.send_text(room.id, f"answer {n}")
        await until(partial(messages_of, bob, room.id, f"answer {n}"))
    assert (await codes(bob, room.id)).count("rejoined") == 1


async def test_who_is_removed_while_without_keys_does_not_wait_for_ever(
    join: Join, fake: FakeNode
) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = await alice.create_group("Garden", [BOB])
    await until(partial(room_of, bob, room.id))
    fake.fail["group"] = NodeFault()
    await lose_keys(bob, room.id)
    await alice.send_text(room.id, "?")
    await until(partial(room_of, bob, room.id), lambda r: r and not r.active)
    await alice.remove_member(room.id, BOB)
    await until(
        partial(room_of, bob, room.id),
        lambda r: r and r.note == "You were removed from this room.",
    )
    found = await bob.doctor.examine(room.id)
    assert found and all(a.repair == "none" for a in found)
    assert all("not in this room" in a.repair_text for a in found)


async def test_a_room_that_cannot_wait_is_joined_when_asked(
    join: Join, fake: FakeNode
) -> None:
    """The hour between two joinings is for machines; who presses the key is heard."""
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await until(partial(room_of, bob, room.id))
    for n in range(2):
        await lose_keys(bob, room.id)
        await alice.send_text(room.id, f"round {n}")
        if n == 1:
            await until(partial(room_of, bob, room.id), lambda r: r and not r.active)
            found = await bob.doctor.examine(room.id)
            sick = next(a for a in found if a.code == "lost_keys")
            assert sick.device == bob.device and sick.repair == "rejoin"
            assert (await bob.doctor.repair(sick.id)).state == "repaired"
            with pytest.raises(UnknownAilment):
                await bob.doctor.repair(sick.id)
        await until(partial(messages_of, bob, room.id, f"round {n}"))


async def test_what_a_newer_version_says_is_read_after_the_update(
    join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await until(partial(room_of, bob, room.id))
    with monkeypatch.context() as patch:
        patch.delitem(envelope._KINDS, "text")
        body = Text("from the future")
        txn = bytes(range(16))

        group = await alice._store.run(lambda tx: alice._groups.get(tx, room.id))
        assert group is not None

        def send(tx: Tx) -> bytes:
            content = write_content(txn, 0, GENESIS, body)
            data = group.encrypt(content)
            alice._groups.save_ratchets(tx, room.id, group)
            return make_submission(room.id, alice.device, txn, Kind.MESSAGE, data)

        data = await alice._store.run(send)
        await alice._reading._uplink.submit(room.id, data)
        await until(partial(codes, bob, room.id), lambda c: "unknown_content" in c)
        (sick,) = await bob.doctor.examine()
        assert sick.repair == "update" and "Update Telex" in sick.repair_text
    await bob.close()
    async with await Client.open(bob.profile, password=PASSWORD) as updated:
        await until(
            partial(texts, updated, room.id), lambda t: t == ["from the future"]
        )
        assert await updated.doctor.examine() == []


async def test_our_other_device_gives_what_its_author_cannot(
    fake: FakeNode, join: Join, tmp_path: Path
) -> None:
    """The author is away: what our other device has is as good, and is no copy."""
    bob = await join("bob")
    async with own_devices(fake, tmp_path) as both:
        room = await bob.start_direct(ALICE)
        for client in (both.laptop, both.phone):
            await until(
                partial(room_of, client, room.id), lambda r: r is not None and r.active
            )
        await lose_keys(both.phone, room.id)
        await bob.send_text(room.id, "for both of you")
        await until(
            partial(messages_of, bob, room.id, "for both of you"),
            lambda m: m[0].seq is not None,
        )
        await bob.close()
        for client in (both.laptop, both.phone):
            await until(
                partial(texts, client, room.id), lambda t: t == ["for both of you"]
            )
        (message,) = await messages_of(both.phone, room.id, "for both of you")
        assert message.sender == BOB and not message.own and message.code == ""


async def test_a_gap_in_the_log_is_said_and_can_be_left_behind(
    join: Join, fake: FakeNode
) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await until(partial(room_of, bob, room.id))
    await bob.close()
    for text in ("one", "two"):
        await alice.send_text(room.id, text)
        await until(
            partial(messages_of, alice, room.id, text), lambda m: m[0].seq is not None
        )
    head = fake.logs[room.id].head
    fake.first_page[room.id] = head  # what lies before is not given any more
    fake.cursors[bob.device, room.id] = head
    async with await Client.open(bob.profile, password=PASSWORD) as back:
        await alice.send_text(room.id, "three")
        # Its cursor says that it once had more: it comes in again behind the gap.
        await until(partial(codes, back, room.id), lambda c: "rejoined" in c)
        await alice.send_text(room.id, "four")
        await until(
            partial(texts, back, room.id),
            lambda t: t is not None and t[-1:] == ["four"],
        )
        assert not [
            a for a in await back.doctor.examine(room.id) if a.code == "log_gap"
        ]


async def test_what_waits_and_what_is_broken_is_said(
    join: Join, fake: FakeNode
) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await until(partial(room_of, bob, room.id))
    await alice._stop()
    message = await alice.send_text(room.id, "wait for me")

    def age(tx: Tx) -> None:
        tx.execute("UPDATE message SET time = time - 3600000 WHERE id = ?", message.id)
        tx.execute("INSERT INTO staged VALUES (?, x'', x'', x'', x'')", room.id)

    await alice._store.run(age)
    found = {a.code: a for a in await alice.doctor.examine(room.id)}
    assert {"outbox_waits", "commit_waits"} == set(found)
    assert all(a.repair == "wait" and a.device == "" for a in found.values())
    waiting = await alice.doctor.repair(found["outbox_waits"].id)
    assert waiting.state == "repairing"

    def break_it(tx: Tx) -> None:
        tx.execute("UPDATE log SET broken = 'rewritten' WHERE id = ?", room.id)

    await alice._store.run(break_it)
    (broken,) = await alice.doctor.examine(room.id)
    assert (broken.code, broken.repair) == ("log_broken", "none")
    assert (await alice.doctor.repair(broken.id)).state == "open"
    assert "another node" in broken.repair_text
