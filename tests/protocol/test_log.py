"""Submissions, entries and the chain: shapes that hold, and damage that shows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.codec import encode
from protocol.errors import Malformed
from protocol.log import (
    GENESIS,
    Entry,
    Kind,
    chain,
    event_id,
    mailbox_id,
    make_submission,
    outgoing_id,
    parse_log_id,
    read_entry,
    read_submission,
    room_id,
)
from tests.helpers.fuzz import fuzzing

SENDER = "alice@example.org/abcdefghijklmn27"
ROOM = room_id(b"seed")


def test_a_submission_reads_back_and_its_id_follows_from_its_bytes() -> None:
    data = make_submission(ROOM, SENDER, bytes(16), Kind.MESSAGE, b"body")
    submission = read_submission(data)
    assert (submission.log, submission.sender, submission.body) == (
        ROOM,
        SENDER,
        b"body",
    )
    other = make_submission(ROOM, SENDER, bytes(15) + b"\1", Kind.MESSAGE, b"body")
    assert event_id(data) == event_id(bytes(data)) != event_id(other)


def test_ids_of_rooms_mailboxes_and_outgoing_logs_never_meet() -> None:
    ids = {
        room_id(b"x"),
        mailbox_id("x"),
        outgoing_id("x", ""),
        outgoing_id("", "x"),
        outgoing_id("a", "b"),
        outgoing_id("b", "a"),
    }
    assert len(ids) == 6
    assert all(parse_log_id(log) == log for log in ids)


@pytest.mark.parametrize(
    "text", ["", "a" * 51, "a" * 53, "A" * 52, "1" * 52, "../" * 18]
)
def test_a_text_that_is_no_log_id_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        parse_log_id(text)


def test_unknown_trailing_fields_of_a_newer_version_are_ignored_and_hashed() -> None:
    known = make_submission(ROOM, SENDER, bytes(16), Kind.MESSAGE, b"body")
    newer = encode([1, ROOM, SENDER, bytes(16), "message", b"body", "from the future"])
    assert read_submission(newer) == read_submission(known)
    assert event_id(newer) != event_id(known)


@pytest.mark.parametrize(
    "fields",
    [
        [2, ROOM, SENDER, bytes(16), "message", b""],
        [1, "short", SENDER, bytes(16), "message", b""],
        [1, ROOM, SENDER, bytes(15), "message", b""],
        [1, ROOM, SENDER, bytes(16), "", b""],
        [1, ROOM, SENDER, bytes(16), "m" * 33, b""],
        [1, ROOM, SENDER, bytes(16), "m\u202e", b""],
        [1, ROOM, SENDER, bytes(16), "message"],
        [1, ROOM, SENDER, "text", "message", b""],
    ],
)
def test_a_submission_of_another_shape_is_refused(fields: list[object]) -> None:
    with pytest.raises(Malformed):
        read_submission(encode(fields))


def test_an_entry_counts_from_one() -> None:
    assert read_entry(encode(Entry(1, 1, 0, b""))).seq == 1
    for seq, term in ((0, 1), (1, 0), (-1, 1), (1 << 53, 1)):
        with pytest.raises(Malformed):
            read_entry(encode(Entry(seq, term, 0, b"")))


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=8), st.data())
def test_a_change_anywhere_changes_the_head(
    entries: list[bytes], data: st.DataObject
) -> None:
    def head(log: list[bytes]) -> bytes:
        value = GENESIS
        for entry in log:
            value = chain(value, entry)
        return value

    index = data.draw(st.integers(0, len(entries) - 1))
    changed = list(entries)
    changed[index] += b"!"
    assert head(changed) != head(entries)
    assert head(entries[:-1]) != head(entries)


@pytest.mark.fuzz
@fuzzing
@given(st.binary(max_size=300))
def test_random_bytes_decode_or_are_malformed(data: bytes) -> None:
    for read in (read_submission, read_entry):
        try:
            read(data)
        except Malformed as error:
            assert str(error)
