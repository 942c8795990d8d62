"""What a lying or broken node can show a client: an alarm, and nothing is believed."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client import Alarm, Client, Room
from client.content import Text
from client.storage.store import Tx
from protocol.codec import encode
from protocol.log import (
    Entry,
    Kind,
    LogId,
    make_submission,
    read_entry,
    read_submission,
)
from protocol.wire import Entries, Receipt
from tests.client.conftest import Join
from tests.client.fake_node import NAME, FakeNode
from tests.client.people import (
    chat,
    codes,
    messages_of,
    room_of,
    texts,
    until,
)
from tests.helpers.fuzz import fuzzing

BOB = f"bob@{NAME}"


async def show(
    fake: FakeNode, client: Client, log: LogId, after: int, entries: list[bytes]
) -> None:
    """Send a client a frame of entries."""
    socket = fake.sockets[client.device]
    await fake.frame(socket, Entries(log, after, entries, after + len(entries)))


async def alarmed(client: Client) -> Alarm:
    """The next alarm of a client."""
    async with asyncio.timeout(10):
        async for event in client.events():
            if isinstance(event, Alarm):
                return event
    raise AssertionError("the events ended")


def changed(data: bytes) -> bytes:
    """The same entry with another time: it still reads, and hashes otherwise."""
    entry = read_entry(data)
    return encode(Entry(entry.seq, entry.term, entry.time + 1, entry.submission))


async def test_a_second_entry_for_one_seq_stops_the_room(
    join: Join, fake: FakeNode
) -> None:
    alice, bob, room = await chat(join)
    log = fake.logs[room.id]
    waiting = asyncio.create_task(alarmed(bob))
    await asyncio.sleep(0)
    await show(fake, bob, room.id, log.head - 1, [changed(log.entries[-1])])
    alarm = await waiting
    assert alarm.room == room.id and "was changed" in alarm.text
    await alice.send_text(room.id, "two")
    # Every other room goes on; what is said there comes behind what was said here.
    other = await bob.create_group("Garden", [f"alice@{NAME}"])
    await until(partial(room_of, alice, other.id))
    await alice.send_text(other.id, "hello")
    await until(partial(texts, bob, other.id), lambda t: t == ["hello"])
    assert await texts(bob, room.id) == ["one"]
    seen = await room_of(bob, room.id)
    assert seen is not None and not seen.active and "was changed" in seen.note


async def test_the_same_entries_again_are_no_news(join: Join, fake: FakeNode) -> None:
    alice, bob, room = await chat(join)
    log = fake.logs[room.id]
    await show(fake, bob, room.id, 2, log.entries[2:])
    await alice.send_text(room.id, "two")
    await until(partial(texts, bob, room.id), lambda t: t == ["one", "two"])


@pytest.mark.parametrize("lie", ["noise", "seq", "log", "term"])
async def test_an_entry_that_does_not_belong_stops_the_room(
    join: Join, fake: FakeNode, lie: str
) -> None:
    _, bob, room = await chat(join)
    head = fake.logs[room.id].head
    other = LogId("b" * 52)
    good = make_submission(room.id, BOB + "/x", bytes(16), Kind.MESSAGE, b"")
    bad = {
        "noise": os.urandom(50),
        "seq": encode(Entry(head + 2, 1, 0, good)),
        "log": encode(
            Entry(
                head + 1,
                1,
                0,
                make_submission(other, BOB, bytes(16), Kind.MESSAGE, b""),
            )
        ),
        "term": encode(Entry(head + 1, 0, 0, good)),
    }[lie]
    waiting = asyncio.create_task(alarmed(bob))
    await asyncio.sleep(0)
    await show(fake, bob, room.id, head, [bad])
    assert (await waiting).room == room.id
    assert await texts(bob, room.id) == ["one"]


async def said(client: Client, room: Room, text: str) -> int:
    """Say something and wait until it is in the log; where it is there."""
    await client.send_text(room.id, text)
    (message,) = await until(
        partial(messages_of, client, room.id, text), lambda m: m[0].seq is not None
    )
    assert message.seq is not None
    return message.seq


async def test_entries_that_are_left_out_raise_an_alarm(
    join: Join, fake: FakeNode
) -> None:
    alice, bob, room = await chat(join)
    log = fake.logs[room.id]
    fake.deaf.add(bob.device)
    await said(alice, room, "hidden")
    seq = await said(alice, room, "shown")
    fake.first_page[room.id] = seq - 1
    waiting = asyncio.create_task(alarmed(bob))
    await asyncio.sleep(0)
    await show(fake, bob, room.id, seq - 1, log.entries[seq - 1 : seq])
    alarm = await waiting
    assert alarm.code == "entries_withheld" and "leaves out" in alarm.text
    # Nothing behind the gap is shown as if nothing was missing, and the room says so.
    assert await texts(bob, room.id) == ["one"]
    seen = await room_of(bob, room.id)
    assert seen is not None and "leaves out" in seen.note
    # It can be left behind: a line stands in its place, and the alarm stays.
    (gap,) = [a for a in await bob.doctor.examine(room.id) if a.code == "log_gap"]
    await bob.doctor.repair(gap.id)
    await fake.hears(bob.device)
    await said(alice, room, "after")
    await until(partial(texts, bob, room.id), lambda t: t == ["one", "after"])
    lines = [m.code or m.text for m in await bob.messages(room.id)]
    assert lines.index("one") < lines.index("rejoined") < lines.index("after")
    assert [a.code for a in await bob.alarms()] == ["entries_withheld"]


async def test_a_gap_in_the_stream_is_filled_by_pages(
    join: Join, fake: FakeNode
) -> None:
    alice, bob, room = await chat(join)
    log = fake.logs[room.id]
    fake.deaf.add(bob.device)
    for n in range(3):
        await said(alice, room, f"more {n}")
    await show(fake, bob, room.id, log.head - 1, log.entries[-1:])
    await until(
        partial(texts, bob, room.id),
        lambda t: t == ["one", "more 0", "more 1", "more 2"],
    )


async def test_two_histories_are_found_out_by_those_who_talk(
    join: Join, fake: FakeNode
) -> None:
    """The hub shows bob another entry than alice: her next message says so."""
    alice, bob, room = await chat(join)
    fake.deaf.add(bob.device)
    two = await said(alice, room, "two")
    await said(alice, room, "three")
    fake.lie_to[bob.device] = lambda name, after, entries: (
        [changed(e) if read_entry(e).seq == two else e for e in entries]
        if name == room.id
        else entries
    )
    waiting = asyncio.create_task(alarmed(bob))
    await asyncio.sleep(0)
    await fake.hears(bob.device)
    alarm = await waiting
    assert alarm.code == "log_fork" and "another history" in alarm.text
    assert "fork" in await codes(bob, room.id)


@pytest.mark.parametrize("what", ["txn", "sender"])
async def test_a_ciphertext_in_another_wrapping_is_not_believed(
    join: Join, fake: FakeNode, what: str
) -> None:
    """The hub passes alice's words off as another submission, or as bob's own."""
    alice, bob, room = await chat(join)

    def rewrap(data: bytes) -> bytes:
        entry = read_entry(data)
        old = read_submission(entry.submission)
        new = make_submission(
            room.id,
            f"carol@{NAME}/aaaaaaaaaaaaaaaa" if what == "sender" else old.sender,
            bytes(16) if what == "txn" else old.txn,
            Kind.MESSAGE,
            old.body,
        )
        return encode(Entry(entry.seq, entry.term, entry.time, new))

    two = fake.logs[room.id].head + 1
    fake.lie_to[bob.device] = lambda name, after, entries: (
        [rewrap(e) if read_entry(e).seq == two else e for e in entries]
        if name == room.id
        else entries
    )
    fake.deaf.add(alice.device)  # she sends it again to nobody
    await alice.send_text(room.id, "two")
    await until(partial(codes, bob, room.id), lambda c: "invalid_message" in c)
    assert await texts(bob, room.id) == ["one"]


async def test_a_receipt_that_names_another_hash_raises_an_alarm(
    join: Join, fake: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, _, room = await chat(join)
    honest = FakeNode.append

    def lie(node: FakeNode, data: bytes) -> Receipt:
        receipt = honest(node, data)
        return Receipt(receipt.event_id, "committed", receipt.seq, bytes(32))

    monkeypatch.setattr(FakeNode, "append", lie)
    waiting = asyncio.create_task(alarmed(alice))
    await asyncio.sleep(0)
    await alice.send_text(room.id, "two")
    assert (await waiting).room == room.id


async def test_kinds_from_the_future_are_kept_and_passed_by(
    join: Join, fake: FakeNode
) -> None:
    alice, bob, room = await chat(join)
    fake.append(
        make_submission(room.id, alice.device, bytes(16), Kind("message"), b"noise")
    )
    future = encode((1, room.id, alice.device, os.urandom(16), "hologram", b"?"))
    fake.append(future)
    await alice.send_text(room.id, "two")
    await until(partial(texts, bob, room.id), lambda t: t == ["one", "two"])
    codes = [m.code for m in await bob.messages(room.id) if m.kind == "notice"]
    assert {"unsupported_version", "unknown_kind"} <= set(codes)
    kept = await bob._store.run(lambda tx: tx.one("SELECT count(*) FROM unknown_entry"))
    assert kept is not None and kept[0] == 1


async def test_a_mistake_of_ours_is_a_notice_and_not_the_end(
    join: Join, fake: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob, room = await chat(join)
    with monkeypatch.context() as patch:

        def fail(*args: object) -> None:
            raise RuntimeError("secret words")

        handlers: dict[Any, Any] = {**bob._letters._handlers, Text: fail}
        patch.setattr(bob._letters, "_handlers", handlers)
        await alice.send_text(room.id, "two")
        await until(
            lambda: bob.messages(room.id), lambda m: m and m[-1].code == "internal"
        )
    assert "secret" not in (await bob.messages(room.id))[-1].text
    await alice.send_text(room.id, "three")
    await until(partial(texts, bob, room.id), lambda t: t == ["one", "two", "three"])


async def test_nothing_is_half_taken_in(
    join: Join, fake: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fails between the message and the cursor: all of it comes again."""
    alice, bob, room = await chat(join)
    inbound = bob._reading._inbound
    real = inbound._read
    failures: list[LogId] = []

    def fail_once(tx: Tx, log: LogId, *rest: object) -> None:
        real(tx, log, *rest)  # type: ignore[arg-type]
        if log == room.id and not failures:
            failures.append(log)
            raise OSError("the disk is full")

    monkeypatch.setattr(inbound, "_read", fail_once)
    await alice.send_text(room.id, "two")
    await until(lambda: asyncio.sleep(0, failures))
    await until(
        lambda: asyncio.sleep(0, bob.connection_detail), lambda d: "check the disk" in d
    )
    assert await texts(bob, room.id) == ["one"]
    bob.reconnect()
    await until(partial(texts, bob, room.id), lambda t: t == ["one", "two"])


@pytest.mark.fuzz
async def test_noise_in_a_log_never_raises(join: Join, fake: FakeNode) -> None:
    """Well-formed entries around noise: each is a line or an alarm, never a crash."""
    alice, bob, room = await chat(join)
    log = fake.logs[room.id]
    real = [read_entry(e).submission for e in log.entries]
    inbound = bob._reading._inbound
    store = bob._store
    await bob._stop()

    kinds = st.sampled_from([*[k.value for k in Kind], "other"])
    bodies = st.one_of(
        st.binary(max_size=60), st.sampled_from(real), st.just(b"\x00\x01\x00\x02")
    )

    @fuzzing
    @given(
        kinds, bodies, st.integers(1, 5), st.sampled_from([alice.device, bob.device])
    )
    def noise(kind: str, body: bytes, term: int, sender: str) -> None:
        def apply(tx: Tx) -> None:
            row = tx.one("SELECT seq FROM log WHERE id = ?", room.id)
            assert row is not None
            submission = encode((1, room.id, sender, os.urandom(16), kind, body))
            entry = encode(Entry(row[0] + 1, term, 0, submission))
            inbound.apply(tx, room.id, row[0], [entry])
            raise ZeroDivisionError  # taken back, so that each example is alone

        with pytest.raises(ZeroDivisionError):
            store._transact(apply)

    await asyncio.to_thread(noise)
