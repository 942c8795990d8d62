"""What two people compare: digits, emoji, codes, short strings."""

import hashlib
import hmac
import unicodedata
from base64 import urlsafe_b64encode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wcwidth import wcswidth

from protocol.errors import IdentityError, Malformed
from protocol.fingerprint import (
    EMOJI,
    Party,
    SasContext,
    fingerprint_digits,
    fingerprint_emoji,
    fingerprint_uri,
    read_fingerprint_uri,
    sas_commitment,
    sas_digits,
    sas_emoji,
    sas_public,
    sas_secret,
)
from tests.helpers.fuzz import fuzzing

ALICE = Party("alice@example.org", bytes(range(32)))
BOB = Party("bob@localhost:8443", bytes(range(32, 64)))


def half_of(party: Party) -> bytes:
    """One half, as the design has it, written again."""
    digest = hashlib.sha512(
        b"\0\1" + party.root + party.account.encode() + party.root
    ).digest()
    for _ in range(5199):
        digest = hashlib.sha512(digest + party.root).digest()
    return digest


def test_digits_are_both_halves_in_order() -> None:
    expected = []
    for half in sorted([half_of(ALICE), half_of(BOB)]):
        for n in range(0, 30, 5):
            number = 0
            for byte in half[n : n + 5]:
                number = number * 256 + byte
            expected.append(str(number % 100000).rjust(5, "0"))
    digits = fingerprint_digits(ALICE, BOB)
    assert digits == fingerprint_digits(BOB, ALICE) == " ".join(expected)
    assert len(digits) == 71 and digits.replace(" ", "").isdigit()
    # The very numbers: they may never change, people wrote them down.
    assert digits == (
        "13986 90552 93250 05356 76704 61653 19476 28085 31349 38668 24921 31937"
    )


def test_emoji_are_both_halves_in_order() -> None:
    bits = "".join(
        "".join(f"{byte:08b}" for byte in half[30:39])
        for half in sorted([half_of(ALICE), half_of(BOB)])
    )
    symbols = [EMOJI[int(bits[n : n + 6], 2)].symbol for n in range(0, 144, 6)]
    shown = fingerprint_emoji(ALICE, BOB)
    assert shown == fingerprint_emoji(BOB, ALICE)
    assert shown.replace(" ", "") == "".join(symbols)
    assert [len(group) for group in shown.split(" ")] == [6, 6, 6, 6]


@pytest.mark.parametrize(
    "other",
    [
        Party("carol@localhost:8443", BOB.root),
        Party(BOB.account, bytes(32)),
        Party(BOB.account, BOB.root[:-1] + b"\0"),
    ],
)
def test_another_person_or_key_is_another_fingerprint(other: Party) -> None:
    assert fingerprint_digits(ALICE, BOB) != fingerprint_digits(ALICE, other)
    assert fingerprint_emoji(ALICE, BOB) != fingerprint_emoji(ALICE, other)
    # A half is one person's alone, or somebody could search for both at once.
    same = set(fingerprint_digits(ALICE, BOB).split()) & set(
        fingerprint_digits(ALICE, other).split()
    )
    assert len(same) >= 6


def test_the_table_has_64_symbols_that_are_told_apart() -> None:
    assert len(EMOJI) == 64
    for column in zip(*EMOJI, strict=True):
        assert len(set(column)) == 64
    for symbol, english, chinese in EMOJI:
        assert len(symbol) == 1 and wcswidth(symbol) == 2
        assert unicodedata.east_asian_width(symbol) == "W"
        assert english.isascii() and all("\u4e00" <= c <= "\u9fff" for c in chinese)


def test_a_code_holds_both_keys_and_is_the_same_for_both() -> None:
    uri = fingerprint_uri(ALICE, BOB)
    key = urlsafe_b64encode(ALICE.root).rstrip(b"=").decode()
    assert uri == fingerprint_uri(BOB, ALICE)
    assert uri.startswith(f"telex:verify:1/alice@example.org/{key}/bob@localhost:8443/")
    assert read_fingerprint_uri(f" {uri}\n") == (ALICE, BOB)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "https://example.org",
        fingerprint_uri(ALICE, BOB)[:-1],
        fingerprint_uri(ALICE, BOB) + "A",
        fingerprint_uri(ALICE, BOB) + "/x",
        fingerprint_uri(ALICE, BOB).replace("alice@", "alice"),
        fingerprint_uri(ALICE, BOB).replace(":1/", ":2/"),
        "telex:verify:1/" + "a" * 2000,
    ],
)
def test_what_is_no_code_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        read_fingerprint_uri(text)


@pytest.mark.fuzz
@fuzzing
@given(st.one_of(st.text(), st.binary().map(lambda b: b.decode("latin-1"))), st.data())
def test_no_text_breaks_the_reader(noise: str, data: st.DataObject) -> None:
    uri = fingerprint_uri(ALICE, BOB)
    at = data.draw(st.integers(0, len(uri)))
    for text in (noise, "telex:verify:1/" + noise, uri[:at] + noise + uri[at:]):
        try:
            one, other = read_fingerprint_uri(text)
        except Malformed:
            continue
        assert fingerprint_uri(one, other) in (
            text.strip(),
            fingerprint_uri(other, one),
        )


# --- short strings -------------------------------------------------------------

A, B = b"a" * 32, b"b" * 32
CONTEXT = SasContext(
    b"s" * 16,
    "room",
    7,
    b"h" * 32,
    b"e" * 32,
    "alice@example.org/aaaaaaaaaaaaaaaa",
    ALICE.root,
    sas_public(A),
    "bob@localhost:8443/bbbbbbbbbbbbbbbb",
    BOB.root,
    sas_public(B),
)


def test_both_sides_see_the_same_strings() -> None:
    left = sas_secret(A, sas_public(B), CONTEXT)
    assert left == sas_secret(B, sas_public(A), CONTEXT)
    # HKDF (RFC 5869) and the cuts, computed here once more.
    extracted = hmac.new(b"telex sas 1", b"", "sha256")
    from nacl.bindings import crypto_scalarmult

    extracted.update(crypto_scalarmult(A, sas_public(B)))
    info = msgspec.msgpack.encode(tuple(CONTEXT))
    prk = hmac.new(extracted.digest(), info + b"\1", "sha256").digest()
    assert prk == left
    emoji = hmac.new(prk, b"telex sas emoji\1", "sha256").digest()
    bits = "".join(f"{byte:08b}" for byte in emoji)[:42]
    assert sas_emoji(left) == tuple(
        EMOJI[int(bits[n : n + 6], 2)] for n in range(0, 42, 6)
    )
    number = int(hmac.new(prk, b"telex sas digits\1", "sha256").hexdigest(), 16)
    assert sas_digits(left).replace(" ", "") == str(number)[-12:]
    assert [len(group) for group in sas_digits(left).split()] == [4, 4, 4]


@pytest.mark.parametrize("field", SasContext._fields)
def test_whatever_differs_shows(field: str) -> None:
    value = getattr(CONTEXT, field)
    changed = {
        int: lambda v: v + 1,
        str: lambda v: v + "x",
        bytes: lambda v: bytes([v[0] ^ 1]) + v[1:],
    }[type(value)](value)
    other = sas_secret(A, sas_public(B), CONTEXT._replace(**{field: changed}))
    same = sas_secret(A, sas_public(B), CONTEXT)
    assert sas_emoji(other) != sas_emoji(same) and sas_digits(other) != sas_digits(same)


@pytest.mark.parametrize("key", [bytes(32), bytes([1]) + bytes(31), b"short", b""])
def test_a_key_that_is_none_is_refused(key: bytes) -> None:
    with pytest.raises(IdentityError):
        sas_secret(A, key, CONTEXT)


def test_a_commitment_holds_for_one_key_session_and_device() -> None:
    made = sas_commitment(b"s" * 16, "d", sas_public(A))
    assert made == sas_commitment(b"s" * 16, "d", sas_public(A)) and len(made) == 32
    others = {
        sas_commitment(b"t" * 16, "d", sas_public(A)),
        sas_commitment(b"s" * 16, "e", sas_public(A)),
        sas_commitment(b"s" * 16, "d", sas_public(B)),
    }
    assert len(others) == 3 and made not in others
