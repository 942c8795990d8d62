"""Signatures that somebody meddled with: the request, its body, or the key."""

import base64
from dataclasses import replace
from typing import Any

import pytest
from nacl.signing import SigningKey

from protocol.errors import DigestMismatch, Refused, SignatureInvalid, WrongDestination
from protocol.signature import DESTINATION_HEADER, content_digest, read_claim
from tests.protocol.signing import (
    BODY,
    NOW,
    PUBLIC,
    added,
    get,
    post,
    value,
    verify,
    with_header,
)


@pytest.mark.parametrize(
    "change",
    [
        {"method": "PUT"},
        {"method": "GET"},
        {"authority": "chat.example.org"},
        {"authority": "chat.example.org:7402"},
        {"path": "/telex/v1/rooms/abd%2F/entries"},
        {"path": "/telex/v1/rooms/abc%2f/entries"},
        {"path": "/telex/v1/rooms/abc//entries"},
        {"query": ""},
        {"query": "after=8&x=%20"},
        {"query": "after=7&x=+"},
        {"query": "x=%20&after=7"},
        {"path": "/telex/v1/rooms/abc%2F/entries", "query": "after=7&x=%20&y"},
    ],
    ids=str,
)
def test_refuses_a_changed_request_line(change: dict[str, Any]) -> None:
    with pytest.raises(SignatureInvalid):
        verify(replace(post(), **change))


def test_refuses_parts_that_only_look_the_same_when_joined() -> None:
    request = post()
    moved = replace(
        request, authority=request.authority + "/telex", path="/v1/rooms/abc%2F/entries"
    )
    for one in (
        moved,
        replace(request, path=f"{request.path}?{request.query}", query=""),
        replace(request, authority=f"user@{request.authority}"),
        replace(request, query=f"{request.query}#x"),
    ):
        with pytest.raises(SignatureInvalid):
            verify(one)


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("Content-Type", "application/json", SignatureInvalid),
        ("Content-Type", "Application/msgpack", SignatureInvalid),
        ("Content-Digest", content_digest(b"other"), SignatureInvalid),
        (DESTINATION_HEADER, "example.com", WrongDestination),
        (DESTINATION_HEADER, "Example.org", WrongDestination),
        (DESTINATION_HEADER, "example.org.", WrongDestination),
        (DESTINATION_HEADER, "", WrongDestination),
    ],
)
def test_refuses_a_changed_header(name: str, text: str, error: type[Refused]) -> None:
    with pytest.raises(error):
        verify(with_header(post(), name, text))


@pytest.mark.parametrize("name", ["Content-Type", "Content-Digest", DESTINATION_HEADER])
def test_refuses_a_stripped_covered_header(name: str) -> None:
    with pytest.raises(SignatureInvalid):
        verify(with_header(post(), name, None))


@pytest.mark.parametrize("name", ["Content-Type", "Content-Digest", DESTINATION_HEADER])
def test_refuses_a_covered_header_twice(name: str) -> None:
    request = post()
    for text in (value(request, name), "other", ""):
        with pytest.raises(SignatureInvalid):
            verify(added(request, (name, text)))
        with pytest.raises(SignatureInvalid):
            verify(added(request, (name.upper(), text)))


def test_refuses_a_joined_header_that_hides_a_second_line() -> None:
    """Signed as one line, sent as two that join to the same text."""
    request = post(content_type="a/b, c/d")
    split = added(with_header(request, "Content-Type", "a/b"), ("Content-Type", "c/d"))
    with pytest.raises(SignatureInvalid):
        verify(split)


@pytest.mark.parametrize("body", [b"", BODY + b"\0", BODY[:-1], BODY[::-1]])
def test_refuses_another_body(body: bytes) -> None:
    with pytest.raises(DigestMismatch):
        verify(post(), body=body)


def test_refuses_a_body_that_nobody_signed() -> None:
    with pytest.raises(SignatureInvalid):
        verify(get(), body=b"x")
    with_fields = added(
        get(), ("Content-Type", "a/b"), ("Content-Digest", content_digest(b"x"))
    )
    with pytest.raises(SignatureInvalid):
        verify(with_fields, body=b"x")
    with pytest.raises(SignatureInvalid):
        verify(with_fields, body=b"")


@pytest.mark.parametrize("bit", [0, 7, 255, 511])
def test_refuses_a_changed_signature(bit: int) -> None:
    request = post()
    raw = bytearray(base64.b64decode(value(request, "Signature")[7:-1]))
    raw[bit // 8] ^= 1 << bit % 8
    changed = f"telex=:{base64.b64encode(raw).decode()}:"
    with pytest.raises(SignatureInvalid):
        verify(with_header(request, "Signature", changed))


@pytest.mark.parametrize("size", [0, 1, 63, 65, 128])
def test_refuses_a_signature_of_another_size(size: int) -> None:
    raw = (base64.b64decode(value(post(), "Signature")[7:-1]) * 2)[:size]
    changed = f"telex=:{base64.b64encode(raw).decode()}:"
    with pytest.raises(SignatureInvalid):
        read_claim(with_header(post(), "Signature", changed))


def test_refuses_a_signature_with_s_not_reduced() -> None:
    raw = base64.b64decode(value(post(), "Signature")[7:-1])
    order = 2**252 + 27742317777372353535851937790883648493
    high = int.from_bytes(raw[32:], "little") + order
    malleable = base64.b64encode(raw[:32] + high.to_bytes(32, "little")).decode()
    with pytest.raises(SignatureInvalid):
        verify(with_header(post(), "Signature", f"telex=:{malleable}:"))


@pytest.mark.parametrize(
    "key",
    [
        bytes(SigningKey(bytes(32)).verify_key),
        bytes(32),
        b"\x01" + bytes(31),
        b"\xff" * 32,
        PUBLIC[:31],
        PUBLIC + b"\0",
        b"",
    ],
    ids=["other", "zero", "identity", "not a point", "short", "long", "empty"],
)
def test_refuses_another_key(key: bytes) -> None:
    with pytest.raises(SignatureInvalid):
        verify(post(), public_key=key)


def test_refuses_a_forgery_for_a_small_order_key() -> None:
    """With the identity as key, R = identity and s = 0 fit any message."""
    forged = base64.b64encode(b"\x01" + bytes(63)).decode()
    with pytest.raises(SignatureInvalid):
        verify(
            with_header(post(), "Signature", f"telex=:{forged}:"),
            public_key=b"\x01" + bytes(31),
        )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (f"created={NOW}", f"created={NOW + 1}"),
        (f"expires={NOW + 120}", f"expires={NOW + 119}"),
        ("MDEy", "MDEz"),
        ("alice", "malice"),
        ('"@method" "@authority"', '"@authority" "@method"'),
    ],
)
def test_refuses_changed_parameters(old: str, new: str) -> None:
    text = value(post(), "Signature-Input")
    assert old in text
    with pytest.raises(SignatureInvalid):
        verify(with_header(post(), "Signature-Input", text.replace(old, new)))
