"""The code and the two halves of a link: what is typed, what is sealed, what is not."""

from __future__ import annotations

import contextlib
import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl import bindings

from client.account.link import (
    ALPHABET,
    CODE_LENGTH,
    Answer,
    Meeting,
    Offer,
    new_code,
    open_answer,
    open_offer,
    parse_code,
    parse_link,
    seal_answer,
    seal_offer,
    show_code,
    uri_of,
)
from client.errors import LinkRefused, LinkUnknown
from protocol.limits import LINK_MAX
from tests.client.people import ALICE, BOB
from tests.helpers.fuzz import fuzzing

PRIVATE = bytes(range(32))
CODE = "0123456789ACDEFG"
MEETING = Meeting.of(ALICE, CODE)
OFFER = Offer(
    1,
    ALICE,
    bytes(32),
    b"m" * 32,
    bindings.crypto_scalarmult_base(PRIVATE),
    "Phone",
)
ANSWER = Answer(
    1, ALICE, f"{ALICE}/aaaaaaaaaaaaaaaa", b"r" * 32, 3, b"h" * 32, 5, "", b"s" * 32
)

codes = st.text(ALPHABET, min_size=CODE_LENGTH, max_size=CODE_LENGTH)


def test_a_code_has_80_bits_and_nothing_that_looks_alike() -> None:
    assert len(set(ALPHABET)) == 32 and not set(ALPHABET) & set("OILB")
    code = new_code()
    assert len(code) == CODE_LENGTH and code != new_code()
    assert show_code(CODE) == "0123-4567-89AC-DEFG"


@pytest.mark.parametrize(
    "typed",
    [
        "0123-4567-89AC-DEFG",
        "0123456789acdefg",
        " 0123 4567 89ac defg ",
        "O123_4567.89aC–dEfG",
        "oi23-4567-b9ac-defg",
        "0L23-4567-B9AC-DEFG",
        "o l23 4567 b9ac defg\n",
    ],
)
def test_typing_forgives_case_dashes_blanks_and_look_alikes(typed: str) -> None:
    assert parse_code(typed) == CODE


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("", "16 letters"),
        ("0123-4567-89AC-DEF", "16 letters"),
        ("0123-4567-89AC-DEFGH", "16 letters"),
        ("0123-4567-89AC-DEFß", "16 letters"),
        ("0123-4567-89AC-DEFé", "stands in no code"),
        ("telex:link:alice:0123-4567-89AC-DEFG", "names no account"),
        ("telex:link:0123456789ACDEFG", "names no account"),
        ("x" * 5000, "16 letters"),
    ],
)
def test_what_is_no_code_says_why(typed: str, why: str) -> None:
    with pytest.raises(LinkUnknown, match=why):
        parse_link(typed)


@given(codes)
def test_a_qr_code_says_account_and_code(code: str) -> None:
    uri = uri_of(ALICE, code)
    assert parse_link(uri) == (ALICE, code)
    assert parse_link(f" {uri.replace('telex:link', 'TELEX:Link')}\n") == (ALICE, code)
    assert parse_link(show_code(code).lower()) == ("", code)


@pytest.mark.fuzz
@fuzzing
@given(st.text(max_size=60))
def test_any_text_is_a_code_or_refused(text: str) -> None:
    for typed in (text, f"telex:link:{text}", f"telex:link:{ALICE}:{text}"):
        with contextlib.suppress(LinkUnknown):
            _, code = parse_link(typed)
            assert len(code) == CODE_LENGTH and not set(code) - set(ALPHABET)


def test_both_sides_read_each_other() -> None:
    sealed = seal_offer(MEETING, OFFER)
    assert open_offer(MEETING, sealed, ALICE) == OFFER
    answer = seal_answer(MEETING, sealed, ANSWER)
    assert open_answer(MEETING, sealed, PRIVATE, answer, ALICE) == ANSWER
    assert len(sealed) < LINK_MAX and len(answer) < LINK_MAX
    for half in (sealed, answer):
        assert b"Phone" not in half and b"s" * 32 not in half


@pytest.mark.parametrize("code", ["0123456789ACDEFH", "1123456789ACDEFG"])
def test_another_code_leads_elsewhere_and_opens_nothing(code: str) -> None:
    other = Meeting.of(ALICE, code)
    assert other.slot != MEETING.slot
    sealed = seal_offer(MEETING, OFFER)
    with pytest.raises(LinkRefused, match="not made with this code"):
        open_offer(other, sealed, ALICE)
    answer = seal_answer(MEETING, sealed, ANSWER)
    with pytest.raises(LinkRefused, match="not made with this code"):
        open_answer(other, sealed, PRIVATE, answer, ALICE)


def test_the_same_code_of_another_account_is_another_meeting() -> None:
    assert Meeting.of(BOB, CODE).slot != MEETING.slot


def test_an_answer_is_for_one_offer_alone() -> None:
    first, second = seal_offer(MEETING, OFFER), seal_offer(MEETING, OFFER)
    answer = seal_answer(MEETING, first, ANSWER)
    with pytest.raises(LinkRefused):
        open_answer(MEETING, second, PRIVATE, answer, ALICE)


def test_who_finds_the_code_later_cannot_read_the_answer() -> None:
    sealed = seal_offer(MEETING, OFFER)
    answer = seal_answer(MEETING, sealed, ANSWER)
    with pytest.raises(LinkRefused):
        open_answer(MEETING, sealed, secrets.token_bytes(32), answer, ALICE)


def test_a_key_of_small_order_is_refused() -> None:
    sealed = seal_offer(
        MEETING, Offer(1, ALICE, bytes(32), bytes(32), bytes(32), "Phone")
    )
    with pytest.raises(LinkRefused):
        seal_answer(MEETING, sealed, ANSWER)


@pytest.mark.parametrize(
    "offer",
    [
        Offer(2, ALICE, bytes(32), bytes(32), bytes(32), ""),
        Offer(1, BOB, bytes(32), bytes(32), bytes(32), ""),
        Offer(1, ALICE, bytes(31), bytes(32), bytes(32), ""),
        Offer(1, ALICE, bytes(32), bytes(32), bytes(32), "x" * 65),
    ],
)
def test_an_offer_that_makes_no_sense_is_refused(offer: Offer) -> None:
    with pytest.raises(LinkRefused):
        open_offer(MEETING, seal_offer(MEETING, offer), ALICE)


@pytest.mark.fuzz
@fuzzing
@given(st.integers(0, 1000), st.integers(1, 255), st.booleans())
def test_a_byte_that_was_changed_is_found(place: int, flip: int, cut: bool) -> None:
    sealed = seal_offer(MEETING, OFFER)
    answer = seal_answer(MEETING, sealed, ANSWER)

    def spoil(data: bytes) -> bytes:
        if cut:
            return data[: place % len(data)]
        changed = bytearray(data)
        changed[place % len(data)] ^= flip
        return bytes(changed)

    with pytest.raises(LinkRefused):
        open_offer(MEETING, spoil(sealed), ALICE)
    with pytest.raises(LinkRefused):
        open_answer(MEETING, sealed, PRIVATE, spoil(answer), ALICE)


def test_nothing_secret_shows_in_a_repr() -> None:
    assert MEETING.offer_key.hex() not in repr(MEETING)
    assert str(MEETING.offer_key) not in repr(MEETING)
