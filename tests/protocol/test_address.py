"""Addresses have one spelling each; everything else is refused, never repaired."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.address import parse_account, parse_device, parse_node
from protocol.errors import AddressError


@pytest.mark.parametrize(
    "text",
    [
        "alice@example.org",
        "a@b",
        "a.b-c_d9@sub.example.org",
        "alice@localhost:7401",
        "alice@127.0.0.1:7401",
        "x@xn--bcher-kva.de",
    ],
)
def test_an_account_reads_back_as_it_was_written(text: str) -> None:
    assert str(parse_account(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "alice",
        "@example.org",
        "alice@",
        "Alice@example.org",
        "alice@Example.org",
        "alice@example.org.",
        "alice@example..org",
        "alice@-example.org",
        "alice@example.org:443",
        "alice@example.org:0",
        "alice@example.org:65536",
        "alice@example.org:07401",
        "alice@example.org:٣",
        "alice@example.org/x",
        "al ice@example.org",
        ".alice@example.org",
        "alice.@example.org",
        "alice@example.org\n",
        "alice@exa\u202emple.org",
        "al\u0000ice@example.org",
        "аlice@example.org",
        "alice@bücher.de",
        "a" * 65 + "@example.org",
        "alice@" + "a" * 64 + ".org",
        "alice@" + "a." * 130 + "org",
        "alice@ex@ample.org",
    ],
)
def test_an_account_that_breaks_a_rule_is_refused(text: str) -> None:
    with pytest.raises(AddressError) as refused:
        parse_account(text)
    # The message can be printed: nothing in it moves a cursor or the eye.
    assert str(refused.value).isprintable()


def test_a_device_needs_sixteen_characters_of_base32() -> None:
    device = parse_device("alice@example.org/abcdefghijklmn27")
    assert str(device.account) == "alice@example.org"
    for bad in ("abcdefghijklmn2", "abcdefghijklmn271", "ABCDEFGHIJKLMN27", ""):
        with pytest.raises(AddressError):
            parse_device(f"alice@example.org/{bad}")


@pytest.mark.fuzz
@given(st.text(max_size=80))
def test_any_text_is_an_address_or_an_address_error(text: str) -> None:
    for parse in (parse_account, parse_device, parse_node):
        with contextlib.suppress(AddressError):
            assert str(parse(text)) == text
