"""Every struct of the wire goes both ways in both encodings, and bears garbage."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import wire
from protocol.codec import decode, decode_json, encode, encode_json
from protocol.errors import Malformed
from protocol.key import Signed
from protocol.log import mailbox_id
from protocol.presence import Presence, Typing, Typist
from tests.helpers.fuzz import fuzzing

LOG = mailbox_id("alice@example.org")

FRAMES: list[wire.FromNode | wire.FromDevice] = [
    wire.Ready(1, LOG),
    wire.Entries(LOG, 3, [b"\0\xff"], 4),
    wire.SubmitFrame(
        1, b"x", wire.Bundle(b"g", [wire.AddressedWelcome("d", b"r", b"w")])
    ),
    wire.ResultFrame(1, wire.Receipt(b"e", "committed", 4, b"h")),
    wire.AckFrame({LOG: 7}),
    Presence("online", ["bob@example.org"]),
    Typing(LOG),
    Typist(LOG, "bob@example.org", 6),
]


@pytest.mark.parametrize("frame", FRAMES)
def test_frames_go_both_ways(frame: object) -> None:
    kind: object = wire.FromNode | wire.FromDevice
    assert decode(encode(frame), kind) == frame  # type: ignore[arg-type]
    assert decode_json(encode_json(frame), kind) == frame  # type: ignore[arg-type]


def test_unknown_fields_are_ignored() -> None:
    data = encode({"t": "ack", "cursors": {LOG: 1}, "from": "the future"})
    assert decode(data, wire.FromDevice) == wire.AckFrame({LOG: 1})  # type: ignore[arg-type]


STRUCTS = [
    kind
    for kind in vars(wire).values()
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct)
]


def test_no_repr_shows_a_login_secret() -> None:
    secret = bytes(range(200, 232))
    proof = Signed(b"payload", b"signature")
    for body in (
        wire.Register("alice", secret, []),
        wire.Login(secret),
        wire.AddDevice(secret, []),
        wire.Recover(proof, [], secret),
    ):
        for text in (repr(body), str(body), f"{body}", repr([body])):
            assert repr(secret)[2:-1] not in text and secret.hex() not in text
            assert type(body).__name__ in text
        assert repr(secret)[2:-1] not in repr(list(body.__rich_repr__()))
        assert decode(encode(body), type(body)) == body


@pytest.mark.fuzz
@fuzzing
@given(st.sampled_from(STRUCTS), st.binary(max_size=200))
def test_random_bytes_decode_or_are_malformed(kind: type, data: bytes) -> None:
    for read in (decode, decode_json):
        try:
            read(data, kind)
        except Malformed as error:
            assert str(error).isprintable()


def test_a_deeply_nested_body_is_malformed_and_nothing_worse() -> None:
    for read, data in ((decode_json, b"[" * 100_000), (decode, b"\x91" * 100_000)):
        with pytest.raises(Malformed):
            read(data, wire.Login)
