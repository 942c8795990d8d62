"""The presentation language: every length is checked, only one form is taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2ee.codec import (
    MAX_VECTOR,
    Reader,
    decode,
    optional,
    u8,
    u16,
    u16_vector,
    u32,
    u32_vector,
    u64,
    varint,
    vector,
    vectors,
)
from e2ee.errors import LimitExceeded, Malformed


@given(st.integers(0, MAX_VECTOR))
def test_varint_round_trip(value: int) -> None:
    encoded = varint(value)
    assert decode(encoded, Reader.varint) == value
    assert len(encoded) == (1 if value < 64 else 2 if value < 16384 else 4)


@pytest.mark.parametrize(
    "header",
    [
        "4000",
        "403f",
        "80000000",
        "80003fff",
        "c0",
        "c000000000000000",
        "ff",
        "40",
        "800000",
        "80",
    ],
)
def test_varint_refuses_long_forms_and_the_reserved_prefix(header: str) -> None:
    with pytest.raises(Malformed):
        decode(bytes.fromhex(header), Reader.varint)


def test_varint_refuses_what_no_header_can_say() -> None:
    with pytest.raises(LimitExceeded):
        varint(MAX_VECTOR + 1)


def test_length_is_checked_before_anything_is_allocated() -> None:
    # A header that claims 2^30 - 1 bytes, with three behind it.
    with pytest.raises(Malformed):
        decode(b"\xbf\xff\xff\xff" + b"abc", Reader.vector)
    with pytest.raises(Malformed):
        decode(b"\xbf\xff\xff\xff" + b"abc", lambda reader: reader.items(Reader.vector))
    with pytest.raises(LimitExceeded):
        decode(vector(bytes(9)), lambda reader: reader.vector(8))


@given(
    st.binary(),
    st.lists(st.binary()),
    st.lists(st.integers(0, 0xFFFF)),
    st.lists(st.integers(0, 0xFFFFFFFF)),
    st.none() | st.binary(),
    st.integers(0, 2**64 - 1),
)
def test_structures_round_trip(
    blob: bytes,
    blobs: list[bytes],
    shorts: list[int],
    words: list[int],
    maybe: bytes | None,
    number: int,
) -> None:
    encoded = (
        vector(blob)
        + vectors(map(vector, blobs))
        + u16_vector(shorts)
        + u32_vector(words)
        + optional(None if maybe is None else vector(maybe))
        + u64(number)
    )
    reader = Reader(encoded)
    assert reader.vector() == blob
    assert reader.items(Reader.vector) == blobs
    assert reader.u16_vector() == tuple(shorts)
    assert reader.u32_vector() == tuple(words)
    assert (reader.vector() if reader.present() else None) == maybe
    assert reader.u64() == number
    reader.finish()
    for cut in range(0, len(encoded), max(1, len(encoded) // 20)):
        with pytest.raises(Malformed):
            reader = Reader(encoded[:cut])
            reader.vector()
            reader.items(Reader.vector)
            reader.u16_vector()
            reader.u32_vector()
            if reader.present():
                reader.vector()
            reader.u64()


def test_trailing_bytes_are_refused() -> None:
    with pytest.raises(Malformed):
        decode(u32(7) + b"\0", Reader.u32)


def test_an_item_may_not_reach_past_its_list() -> None:
    # The list says two bytes; its item claims three, which do follow.
    with pytest.raises(Malformed):
        decode(b"\x02\x03aaa", lambda reader: reader.items(Reader.vector))


def test_lists_of_numbers_need_whole_numbers() -> None:
    with pytest.raises(Malformed):
        decode(vector(b"abc"), Reader.u16_vector)
    with pytest.raises(Malformed):
        decode(vector(b"abcde"), Reader.u32_vector)


@pytest.mark.parametrize("flag", range(2, 256, 23))
def test_a_presence_octet_is_0_or_1(flag: int) -> None:
    with pytest.raises(Malformed):
        decode(u8(flag), Reader.present)


def test_a_list_has_a_limit() -> None:
    with pytest.raises(LimitExceeded):
        decode(vectors([u16(1)] * 4), lambda reader: reader.items(Reader.u16, 3))
