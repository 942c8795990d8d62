"""Frames from the node: read, or refused with an error of ours, whatever they are."""

import aiohttp
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.errors import NodeNonsense, NodeUnreachable
from client.network.session import _read
from protocol.codec import encode
from protocol.log import LogId
from protocol.wire import Entries, Ready, Receipt, ResultFrame
from tests.helpers.fuzz import fuzzing

LOG = LogId("a" * 52)


def binary(data: bytes) -> aiohttp.WSMessage:
    return aiohttp.WSMessage(aiohttp.WSMsgType.BINARY, data, None)


@pytest.mark.parametrize(
    "frame",
    [
        Ready(1_790_000_000, LOG),
        Entries(LOG, 3, [b"x", b"y"], 5),
        ResultFrame(7, Receipt(bytes(32), "pending")),
    ],
)
def test_frames_come_out_as_they_went_in(frame: object) -> None:
    assert _read(binary(encode(frame))) == frame


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", b"\x80", b"\x81\xa1t\xa7unknown", b"\x90" * 9, b"\x81" * 4000],
)
def test_noise_is_no_frame(data: bytes) -> None:
    with pytest.raises(NodeNonsense):
        _read(binary(data))


def test_text_frames_are_not_ours() -> None:
    with pytest.raises(NodeNonsense):
        _read(aiohttp.WSMessage(aiohttp.WSMsgType.TEXT, "{}", None))


def test_a_closed_socket_is_a_lost_connection() -> None:
    with pytest.raises(NodeUnreachable):
        _read(aiohttp.WSMessage(aiohttp.WSMsgType.CLOSED, None, None))


@pytest.mark.fuzz
@fuzzing
@given(
    st.one_of(
        st.binary(max_size=200),
        st.dictionaries(
            st.sampled_from(["t", "log", "after", "entries", "head", "id", "receipt"]),
            st.one_of(
                st.integers(-(2**63), 2**64 - 1),
                st.text(max_size=9),
                st.binary(max_size=9),
                st.none(),
                st.sampled_from(["ready", "entries", "result", "outcome", "problem"]),
                st.lists(st.binary(max_size=9), max_size=3),
            ),
        ).map(msgspec.msgpack.encode),
    )
)
def test_any_bytes_are_a_frame_or_nonsense(data: bytes) -> None:
    try:
        _read(binary(data))
    except NodeNonsense as error:
        assert "cannot read" in str(error)
