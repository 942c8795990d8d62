"""Requests and what is sent again: in bounds, and noise does no harm."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.public import PrivateKey, SealedBox

from client.content import (
    Again,
    Redaction,
    Resend,
    ResendRequest,
    Text,
    Timer,
    read_body,
    read_content,
    write_content,
)
from client.content.repair import BODY_MAX, IDS_MAX
from client.rooms.letters import Arrival
from client.rooms.notices import Lines
from client.rooms.presence import note_presence, note_present, was_inside
from client.storage.store import Tx
from e2ee.errors import E2eeError
from protocol.codec import encode
from protocol.errors import Malformed, TelexError
from protocol.limits import TEXT_MAX
from protocol.log import GENESIS, Entry, Kind, LogId, Submission
from tests.client.conftest import Join
from tests.client.people import ALICE, BOB, CAROL, room_of, until
from tests.helpers.fuzz import fuzzing

ids = st.binary(min_size=16, max_size=16)
keys = st.builds(
    lambda seed: bytes(PrivateKey(seed).public_key), st.binary(min_size=32, max_size=32)
)
GOOD = bytes(PrivateKey(bytes(range(32))).public_key)
bodies = st.one_of(
    st.builds(ResendRequest, st.lists(ids, min_size=1, max_size=IDS_MAX), keys),
    st.builds(Resend, ids, st.binary(max_size=300), st.one_of(st.just(b""), keys)),
    st.builds(Redaction, ids),
    st.builds(Timer, st.integers(0, 86_400)),
)


@given(bodies)
def test_what_goes_in_comes_out(body: Resend) -> None:
    data = write_content(bytes(16), 0, GENESIS, body)
    assert read_content(data).body == body


@pytest.mark.parametrize(
    "body",
    [
        ResendRequest([], GOOD),
        ResendRequest([bytes(16)] * (IDS_MAX + 1), GOOD),
        ResendRequest([bytes(15)], GOOD),
        ResendRequest([bytes(16)], bytes(31)),
        ResendRequest([bytes(16)], bytes(32)),
        ResendRequest([bytes(16)], b"\1" + bytes(31)),
        ResendRequest([bytes(16)], b"\xed" + b"\xff" * 30 + b"\x7f"),
        ResendRequest([bytes(16)], GOOD, ["x"] * 33),
        ResendRequest([bytes(16)], GOOD, ["x" * 401]),
        Resend(bytes(15), b""),
        Resend(bytes(16), b"", bytes(31)),
        Resend(bytes(16), bytes(2 * BODY_MAX)),
    ],
)
def test_what_is_outside_of_a_bound_is_refused(body: Resend) -> None:
    with pytest.raises(Malformed):
        read_body(body.kind, encode(body))


def test_the_longest_text_can_be_sent_again_sealed() -> None:
    again = encode(Again("text", encode(Text("水" * (TEXT_MAX // 3)))))
    sealed = SealedBox(PrivateKey.generate().public_key).encrypt(again)
    body = Resend(bytes(16), sealed, bytes(32))
    assert read_content(write_content(bytes(16), 0, GENESIS, body)).body == body


@pytest.mark.fuzz
async def test_noise_that_is_sent_again_never_raises_anything_else(join: Join) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = (await alice.start_direct(BOB)).id
    await until(partial(room_of, bob, room))
    await bob._stop()
    store, resending = bob._store, bob._workers._resending
    id = bytes(range(16))

    def plant(tx: Tx) -> None:
        tx.execute(
            "INSERT INTO ailment VALUES (?, ?, 3, 0, 'message', ?, ?, 'no_keys',"
            " 'open', 0, 0, x'')",
            id.hex(),
            room,
            alice.device,
            bytes(16),
        )

    await store.run(plant)
    words = st.sampled_from(["", "text", "reply", "redaction", "timer", "resend", "x"])
    data = st.one_of(
        st.binary(max_size=80),
        st.builds(lambda w, b: encode(Again(w, b)), words, st.binary(max_size=60)),
        st.builds(lambda b: encode(Again(b.kind, encode(b))), bodies),
    )

    @fuzzing
    @given(data, st.sampled_from([alice.device, bob.device]), st.booleans())
    def noise(raw: bytes, sender: str, sealed: bool) -> None:
        def run(tx: Tx) -> None:
            entry = Entry(9, 1, 0, b"")
            submission = Submission(1, room, sender, bytes(16), Kind.MESSAGE, b"")
            arrival = Arrival(room, entry, submission, Lines(tx, room, entry), {})
            body = Resend(id, raw, bytes(32) if sealed else b"")
            try:
                with tx.attempt():
                    resending._came(tx, body, arrival)
                    raise Malformed("taken back, so that each finds the same")
            except (E2eeError, TelexError):
                pass

        store._transact(run)

    noise()
    kept = await store.run(lambda tx: tx.one("SELECT id FROM ailment"))
    assert kept == (id.hex(),)


async def test_who_went_while_we_had_no_keys_was_out_from_the_first_of_it(
    join: Join,
) -> None:
    alice = await join("alice")
    room = LogId("b" * 52)

    def look(tx: Tx) -> list[bool]:
        note_presence(tx, room, BOB, 2, inside=True)
        tx.execute("INSERT INTO held_entry VALUES (?, 7, x'')", room)
        note_present(tx, room, {ALICE}, 12)
        note_presence(tx, room, BOB, 20, inside=True)
        return [was_inside(tx, room, BOB, seq) for seq in (6, 7, 12, 19, 20)]

    assert await alice._store.run(look) == [True, False, False, False, True]


async def test_presence_is_what_the_commits_said(join: Join) -> None:
    alice = await join("alice")
    room = LogId("a" * 52)

    def look(tx: Tx) -> list[bool]:
        note_presence(tx, room, ALICE, 2, inside=True)
        note_presence(tx, room, BOB, 4, inside=False)
        note_presence(tx, room, BOB, 5, inside=True)
        note_presence(tx, room, BOB, 9, inside=False)
        note_presence(tx, room, BOB, 12, inside=True)
        return [
            was_inside(tx, room, BOB, seq) for seq in (3, 4, 5, 8, 9, 11, 12, 99)
        ] + [was_inside(tx, room, CAROL, 5), was_inside(tx, room, ALICE, 1)]

    assert await alice._store.run(look) == [
        *(False, False, True, True, False, False, True, True),
        *(False, False),
    ]
