"""Requests of odd sizes and shapes, all refused."""

from dataclasses import replace
from typing import Any

import pytest

from protocol.errors import Refused, SignatureInvalid
from protocol.signature import FIELD_MAX, HEADER_BYTES_MAX, HEADERS_MAX, read_claim
from tests.protocol.signing import NODE, added, post, value, verify, with_header


def test_refuses_huge_headers() -> None:
    for request in (
        added(post(), *[("X", "1")] * HEADERS_MAX),
        added(post(), ("X", "1" * HEADER_BYTES_MAX)),
        added(post(), ("X" * HEADER_BYTES_MAX, "1")),
        replace(post(), path="/" + "a" * HEADER_BYTES_MAX),
        replace(post(), query="a" * HEADER_BYTES_MAX),
        with_header(post(), "Signature-Input", "a, " * FIELD_MAX),
        with_header(post(), "Signature", f"telex=:{'A' * FIELD_MAX}:"),
        with_header(
            post(),
            "Signature-Input",
            value(post(), "Signature-Input")
            + "".join(f", a{number}=()" for number in range(FIELD_MAX // 6)),
        ),
    ):
        with pytest.raises(SignatureInvalid):
            read_claim(request)


@pytest.mark.parametrize(
    "change",
    [
        *({"method": text} for text in ("post", "", "PO ST", "POST\n", "M" * 40)),
        *({"authority": text} for text in ("", "a b", "a:b", "a/b", "[::1", "é", "a:")),
        *(
            {"path": text}
            for text in ("", "*", "a", "/é", "/%zz", "/ ", "/a?b", "/a\n")
        ),
        *({"query": text} for text in ("é", "a b", "%2", "#", "a\nb", "[]", '"')),
    ],
    ids=str,
)
def test_refuses_a_malformed_request_line(change: dict[str, Any]) -> None:
    with pytest.raises(SignatureInvalid):
        read_claim(replace(post(), **change))
    with pytest.raises(ValueError):
        post(**change)


def test_refuses_header_names_that_fold_to_ours() -> None:
    with pytest.raises(SignatureInvalid):
        verify(added(post(), ("Telex-De\u017ftination", NODE)))
    with pytest.raises(SignatureInvalid):
        verify(added(post(), ("X-\u212aelvin", "1")))


@pytest.mark.parametrize("text", ["é", "a\r\nb", "\0", "\udc80", "\x7f", "a\u2028b"])
def test_refuses_odd_characters_in_fields(text: str) -> None:
    request = post()
    for name in ("Content-Type", "Signature-Input", "Signature", "Content-Digest"):
        with pytest.raises(Refused):
            verify(with_header(request, name, value(request, name) + text))
