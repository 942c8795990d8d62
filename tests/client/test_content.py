"""The schema inside MLS: what goes in comes out, and nothing else gets in."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.content import (
    Receipt,
    Reply,
    RoomName,
    Text,
    Unknown,
    read_content,
    write_content,
)
from client.content.calling import (
    LINE_MAX,
    LINES_MAX,
    SDP_MAX,
    CallAnswer,
    CallBusy,
    CallCandidates,
    CallDecline,
    CallEnd,
    CallInvite,
    CallOffer,
    CallRinging,
    Signal,
)
from client.content.envelope import CONTENT_MAX
from client.text import NAME_MAX
from protocol.errors import Malformed
from protocol.limits import MESSAGE_MAX, TEXT_MAX
from tests.helpers.fuzz import fuzzing

ID, HASH = bytes(range(16)), bytes(range(32))

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300)
seqs = st.integers(0, (1 << 51) - 1)
ids = st.binary(min_size=16, max_size=16)
numbers = st.integers(1, 10_000)
signals: st.SearchStrategy[Signal] = st.one_of(
    st.builds(CallInvite, ids, texts, st.booleans()),
    st.builds(CallRinging, ids),
    st.builds(CallBusy, ids),
    st.builds(CallDecline, ids, st.sampled_from(["declined", "failed"])),
    st.builds(CallAnswer, ids, texts, texts, numbers),
    st.builds(CallOffer, ids, texts, texts, numbers),
    st.builds(
        CallCandidates, ids, st.lists(texts, min_size=1, max_size=3), texts, numbers
    ),
    st.builds(CallEnd, ids, st.sampled_from(["hung_up", "lost"]), numbers),
)
bodies = st.one_of(
    signals,
    st.builds(Text, texts),
    st.builds(Reply, texts, st.binary(min_size=16, max_size=16)),
    st.builds(Receipt, seqs, seqs),
    st.builds(
        RoomName, st.text(st.characters(categories=["L"]), min_size=1, max_size=40)
    ),
)


@given(
    st.binary(min_size=16, max_size=16),
    seqs,
    st.binary(min_size=32, max_size=32),
    bodies,
)
def test_what_goes_in_comes_out(
    id: bytes, seq: int, hash: bytes, body: Text | Reply | Receipt | RoomName | Signal
) -> None:
    content = read_content(write_content(id, seq, hash, body))
    assert (content.id, content.head_seq, content.head_hash) == (id, seq, hash)
    assert content.body == body


def raw(
    body: object,
    kind: str = "text",
    *,
    id: bytes = ID,
    seq: int = 0,
    hash: bytes = HASH,
    version: int = 1,
) -> bytes:
    return msgspec.msgpack.encode([version, id, seq, hash, kind, body])


def test_an_unknown_kind_is_kept_as_such() -> None:
    assert read_content(raw({"stars": 5}, "rating")).body == Unknown("rating")


def test_a_newer_version_is_not_read_as_ours() -> None:
    assert read_content(raw({"text": "hi"}, version=2)).body == Unknown("text")


def test_unknown_fields_and_trailing_elements_are_ignored() -> None:
    data = msgspec.msgpack.encode(
        [1, ID, 3, HASH, "text", {"text": "hi", "colour": "red"}, 2, 1, "more"]
    )
    assert read_content(data).body == Text("hi")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        raw({}),
        raw({"text": ""}),
        raw({"text": 5}),
        raw({"text": "x" * (TEXT_MAX + 1)}),
        raw({"text": "a", "to": b"short"}, "reply"),
        raw({"name": ""}, "room_name"),
        raw({"name": "a\nb"}, "room_name"),
        raw({"name": "x" * (NAME_MAX + 1)}, "room_name"),
        raw({"call": b"short"}, "call_ringing"),
        raw({"call": ID, "offer": ""}, "call_invite"),
        raw({"call": ID, "offer": "x" * (SDP_MAX + 1)}, "call_invite"),
        raw({"call": ID, "to": "a", "offer": "x", "generation": 0}, "call_offer"),
        raw({"call": ID, "to": "a", "answer": "x", "generation": -1}, "call_answer"),
        raw({"call": ID, "to": "a" * 401, "answer": "x"}, "call_answer"),
        raw({"call": ID, "lines": []}, "call_candidates"),
        raw({"call": ID, "lines": ["a"] * (LINES_MAX + 1)}, "call_candidates"),
        raw({"call": ID, "lines": ["a" * (LINE_MAX + 1)]}, "call_candidates"),
        raw({"call": ID, "code": "bye" * 9}, "call_end"),
        raw({"call": ID, "code": "lost", "seconds": -1}, "call_end"),
        raw({"delivered": -1, "read": 0}, "receipt"),
        raw({"delivered": 1 << 51, "read": 0}, "receipt"),
        raw({"text": "a"}, id=b"short"),
        raw({"text": "a"}, hash=b"short"),
        raw({"text": "a"}, seq=-1),
        raw({"text": "a"}, seq=1 << 51),
        raw({"text": "a"}, kind=""),
        raw({"text": "a"}, kind="k" * 33),
        raw({"text": "a"}, kind="schlüssel"),
        b"\x91" * 5000,
        raw({"text": "a", "padding": "x" * CONTENT_MAX}),
    ],
)
def test_what_is_outside_a_bound_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        read_content(data)


def test_the_longest_text_fits_into_a_message() -> None:
    content = write_content(ID, 1 << 50, HASH, Reply("x" * TEXT_MAX, ID))
    assert len(content) < CONTENT_MAX < MESSAGE_MAX * 0.8


def test_the_longest_description_fits_and_nobody_prints_it() -> None:
    offer = CallOffer(ID, "d" * 340, "planted" * (SDP_MAX // 7), 1)
    assert len(write_content(ID, 1 << 50, HASH, offer)) < CONTENT_MAX
    lines = CallCandidates(ID, ["planted"])
    assert "planted" not in f"{offer!r}{lines!r}{CallAnswer(ID, 'a', 'planted')!r}"


@pytest.mark.fuzz
@fuzzing
@given(st.binary(max_size=200))
def test_bytes_are_read_or_malformed(data: bytes) -> None:
    with contextlib.suppress(Malformed):
        read_content(data)


@pytest.mark.fuzz
@fuzzing
@given(bodies, st.data())
def test_a_changed_content_is_read_or_malformed(
    body: Text | Reply | Receipt | RoomName | Signal, data: st.DataObject
) -> None:
    content = bytearray(write_content(ID, 7, HASH, body))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Malformed):
        read_content(bytes(content))
