"""Frames of presence and typing: both encodings, garbage, and what a node believes."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.presence.hearsay import Hearsay
from node.presence.service import _believed, _check_request
from protocol import presence
from protocol.codec import decode, decode_json, encode, encode_json
from protocol.errors import Malformed, Refused
from protocol.log import mailbox_id
from protocol.presence import (
    PEER_PAIRS,
    PEER_PEOPLE,
    PeerPresence,
    PeerPresenceAnswer,
    PeerTyping,
    People,
    Person,
    Presence,
    ShownPerson,
    Typing,
    Typist,
)
from protocol.wire import FromDevice, FromNode
from tests.helpers.fuzz import fuzzing

LOG = mailbox_id("alice@example.org")
ALICE, PEER = "alice@example.org", "example.org"

VALUES: list[object] = [
    Presence("away", [ALICE]),
    Presence("gone"),
    People([Person(ALICE, "dnd", 7)], fresh=True),
    Typing(LOG, on=False),
    Typist(LOG, ALICE, 6),
    PeerPresence(
        3,
        fresh=True,
        people=[ShownPerson(ALICE, "offline", 7, ["bob"])],
        probe=[ALICE],
        typing=[PeerTyping(LOG, ALICE, 6)],
    ),
    PeerPresenceAnswer(3, lost=True, listens=True),
]


@pytest.mark.parametrize("value", VALUES)
def test_both_encodings(value: object) -> None:
    kind: type = type(value)
    assert decode(encode(value), kind) == value
    assert decode_json(encode_json(value), kind) == value


@pytest.mark.parametrize(
    "bad",
    [
        {"t": "presence", "mode": "asleep"},
        {"t": "presence", "mode": "online", "show": "everybody"},
        {"t": "presence", "mode": "online", "show": [1]},
        {"t": "typing", "on": True},
        {"t": "people", "people": [[ALICE, "hidden", 1]]},
        {"t": "people", "people": [[ALICE, "online", "now"]]},
    ],
)
def test_what_is_no_frame_is_malformed(bad: dict[str, object]) -> None:
    for kind in (FromNode, FromDevice):
        with pytest.raises(Malformed):
            decode(encode(bad), kind)  # type: ignore[arg-type]


STRUCTS = [
    kind
    for kind in vars(presence).values()
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct)
]


@pytest.mark.fuzz
@fuzzing
@given(st.sampled_from(STRUCTS), st.binary(max_size=200))
def test_random_bytes_decode_or_are_malformed(kind: type, data: bytes) -> None:
    for read in (decode, decode_json):
        try:
            read(data, kind)
        except Malformed as error:
            assert str(error).isprintable()


ACCOUNTS = st.sampled_from(
    [ALICE, "bob@example.org", "eve@other.example", "nobody", "a@b@c", "", "x" * 500]
) | st.text(max_size=20)
PEOPLE = st.builds(
    ShownPerson,
    ACCOUNTS,
    st.sampled_from(["online", "away", "dnd", "offline"]),
    st.integers(-(2**63), 2**64 - 1),
    st.lists(st.sampled_from(["carol", "dave", "", "x@y"]), max_size=4),
)


@pytest.mark.fuzz
@fuzzing
@given(
    st.lists(
        st.builds(
            PeerPresence,
            st.integers(-(2**63), 2**64 - 1),
            st.booleans(),
            st.lists(PEOPLE, max_size=5),
            st.lists(ACCOUNTS, max_size=3),
        ),
        max_size=8,
    )
)
def test_a_node_is_believed_of_its_own_people_alone(bodies: list[PeerPresence]) -> None:
    here = Hearsay("here.example", lambda account: account == "carol@here.example")
    for now, body in enumerate(bodies, 1000):
        try:
            _check_request(PEER, body)
        except Refused:
            continue
        people = _believed(PEER, body.people, now)
        told, _ = here.take(PEER, body.run, people, now, fresh=body.fresh)
        for viewer, person in told:
            assert viewer == "carol@here.example"
            assert person.account.endswith(f"@{PEER}")
            assert 0 <= person.since <= now + 60
    here.expire(10**6)
    assert here.seen_by("carol@here.example") == [] and not here._peers


def test_a_request_is_bounded() -> None:
    person = ShownPerson(ALICE, "online", 1, ["bob"])
    names = [f"u{number}" for number in range(PEER_PAIRS + 1)]
    for body in (
        PeerPresence(1, people=[person] * (PEER_PEOPLE + 1)),
        PeerPresence(1, probe=[ALICE] * (PEER_PEOPLE + 1)),
        PeerPresence(1, people=[ShownPerson(ALICE, "online", 1, names)]),
    ):
        with pytest.raises(Refused):
            _check_request(PEER, body)
