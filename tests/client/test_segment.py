"""Segments and records of archives: the right bytes, or refused."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import msgpack

from client.archive.record import Records, RoomRecord, read_records
from client.archive.segment import EMPTY, Head, Place, open_segment, seal_segment
from client.errors import ArchiveRefused
from protocol.codec import encode
from tests.client.archives import (
    ALICE,
    BOB,
    KEY,
    VAULT,
    room_id,
)
from tests.helpers.fuzz import fuzzing
from tests.helpers.people import Person

PLACE = Place(ALICE, bytes.fromhex(VAULT), EMPTY)


def seal(records: bytes, place: Place = PLACE) -> bytes:
    return seal_segment(KEY, place, records, bytes(24))[0]


def test_a_segment_opens_at_its_place_alone() -> None:
    data, head = seal_segment(KEY, PLACE, b"records", bytes(24))
    assert open_segment(KEY, PLACE, data) == (b"records", head)
    assert b"records" not in data and KEY not in data
    for place in (
        Place(BOB, PLACE.archive, EMPTY),
        Place(ALICE, bytes(16), EMPTY),
        Place(ALICE, PLACE.archive, head),
        Place(ALICE, PLACE.archive, Head(0, b"x" * 32)),
    ):
        with pytest.raises(ArchiveRefused):
            open_segment(KEY, place, data)


@pytest.mark.parametrize("size", [0, 1, 4094, 4095, 4096, 100_000, 250_000])
def test_sizes_are_rounded_up_and_come_back(size: int) -> None:
    records = bytes(size)
    data = seal(records)
    assert open_segment(KEY, PLACE, data)[0] == records
    assert len(data) <= max(4096, size * 1.13) + 200


def records(**changes: object) -> Records:
    room = RoomRecord(room_id(1), "example.org", False, "t", "active", "", 0, 0)
    values: dict[str, object] = {
        "time": 1,
        "device": f"{ALICE}/a",
        "whole": True,
        "rooms": [room],
        "contacts": [],
        "names": [BOB],
        "rooms_named": [room_id(1)],
        "messages": [],
        "gone": [],
        **changes,
    }
    return Records(**values)  # type: ignore[arg-type]


ID = bytes(16)


@pytest.mark.parametrize(
    "bad",
    [
        {"messages": [(ID[1:], 0, 4096, 0, 0, "text", False)]},
        {"messages": [(ID, 1, 4096, 0, 0, "text", False)]},
        {"messages": [(ID, -1, 4096, 0, 0, "text", False)]},
        {"messages": [(ID, 0, 4095, 0, 0, "text", False)]},
        {"messages": [(ID, 0, 1 << 63, 0, 0, "text", False)]},
        {"messages": [(ID, 0, 4096, 1, 0, "text", False)]},
        {"messages": [(ID, 0, 4096, 0, -1, "text", False)]},
        {"messages": [(ID, 0, 4096, 0, 0, "x" * 40_000, False)]},
        {"messages": [(ID, 0, 4096, 0, 0, "text", False, b"short")]},
        {"messages": [(ID, 0, 4096, 0, 0, "text", 7)]},
        {"rooms_named": ["b" * 52]},
        {"rooms_named": ["../../etc"]},
        {"names": ["x" * 2000]},
        {"gone": [b"short"]},
        {"time": -1},
        {"contacts": [(BOB, b"short", [])]},
        {"contacts": [("no address", bytes(32), [])]},
        {"contacts": [(BOB, bytes(32), [b"no entry"])]},
        {"rooms": [(room_id(1), "no host!", False, "", "active", "", 0, 0)]},
        {"rooms": [(room_id(1), "example.org", False, "", "king", "", 0, 0)]},
        {"rooms": [(room_id(1), "example.org", False, "", "left", "", 1 << 60, 0)]},
    ],
)
def test_records_outside_their_bounds_are_refused(bad: dict[str, object]) -> None:
    assert read_records(encode(records())).rooms
    with pytest.raises(ArchiveRefused) as error:
        read_records(encode(records(**bad)))
    assert error.value.code == "archive_malformed"


def test_a_contact_with_somebody_elses_log_is_refused() -> None:
    bob = Person(BOB)
    good = records(contacts=[(BOB, bob.root.public, bob.log)])
    assert read_records(encode(good)).contacts[0].account == BOB
    for contact in (
        ("carol@example.org", bob.root.public, bob.log),
        (BOB, bytes(32), bob.log),
    ):
        with pytest.raises(ArchiveRefused):
            read_records(encode(records(contacts=[contact])))


@pytest.mark.fuzz
@fuzzing
@given(st.binary(max_size=400), st.integers(0, 400), st.integers(0, 255))
def test_any_bytes_are_a_segment_or_refused(tail: bytes, at: int, byte: int) -> None:
    good = seal(encode(records()))
    changed = bytearray(good)
    changed[at % len(good)] ^= byte
    for data in (tail, good[: at % len(good)] + tail, bytes(changed)):
        try:
            content, _ = open_segment(KEY, PLACE, data)
        except ArchiveRefused as error:
            assert error.code in ArchiveRefused.TITLES
        else:
            assert data == good and read_records(content) == records()


_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.binary(max_size=40), st.text()
    ),
    lambda inner: st.lists(inner, max_size=9),
    max_leaves=30,
)


@pytest.mark.fuzz
@fuzzing
@given(_values, st.integers(0, 9), st.binary(max_size=200))
def test_any_content_is_records_or_refused(value: object, at: int, raw: bytes) -> None:
    fields = msgpack.decode(encode(records()))
    fields[at] = value
    candidates = [raw]
    with contextlib.suppress(OverflowError):
        candidates += [msgpack.encode(fields), msgpack.encode(value)]
    for data in candidates:
        try:
            read_records(data)
        except ArchiveRefused as error:
            assert error.code == "archive_malformed"
