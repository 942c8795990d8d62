"""Content digests (RFC 9530): published vectors, and everything that is refused."""

from collections.abc import Callable

import pytest
from http_message_signatures import ContentDigest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import DigestMismatch
from protocol.signature import FIELD_MAX, content_digest, verify_content_digest
from tests.protocol.signing import BODY, FUZZ, GARBAGE
from tests.protocol.vectors import Case, load, named

# --- vectors ------------------------------------------------------------------

DIGESTS: list[Case] = load("rfc9530/digests.json")


class Sha512(ContentDigest):
    algorithm = "sha-512"


@pytest.mark.parametrize("case", DIGESTS, ids=named(DIGESTS).keys())
def test_content_digest_vector(case: Case) -> None:
    body = bytes.fromhex(case["content_hex"])
    make: Callable[[bytes], str] = content_digest
    if case["alg"] == "sha-512":  # understood, never sent
        make = Sha512.create
    assert make(body) == case["field"]
    verify_content_digest(case["field"], body)


@pytest.mark.parametrize("case", DIGESTS, ids=named(DIGESTS).keys())
def test_corrupted_content_digest_vector_fails(case: Case) -> None:
    body = bytes.fromhex(case["content_hex"])
    name, _, value = case["field"].partition("=:")
    other = "A" if value[0] != "A" else "B"
    for field in (f"{name}=:{other}{value[1:]}", f"{name}=:{value[4:]}", name, ""):
        with pytest.raises(DigestMismatch):
            verify_content_digest(field, body)
    with pytest.raises(DigestMismatch):
        verify_content_digest(case["field"], body + b"\0")


# --- our profile --------------------------------------------------------------


@pytest.mark.parametrize(
    "field",
    [
        "",
        "sha-256",
        "sha-256=1",
        "sha-256=:AAAA:",
        'sha-256="x"',
        "md5=:X48E9qOokqqrvdts8nOJRA==:",
        "sha-256=:" + "A" * 43 + "=:",
        content_digest(BODY) + ", md5=:AAAA:",
        content_digest(b"other") + ", " + content_digest(BODY),
        content_digest(BODY) + ", sha-512=:" + "A" * 86 + "==:",
        content_digest(BODY).replace("sha-256", "SHA-256"),
        content_digest(BODY)[:-1],
        content_digest(BODY) + "\n",
        content_digest(BODY) + "é",
        "a=1, " * FIELD_MAX + content_digest(BODY),
        content_digest(BODY) + f';a="{"a" * FIELD_MAX}"',
    ],
)
def test_refuses_content_digests(field: str) -> None:
    with pytest.raises(DigestMismatch) as caught:
        verify_content_digest(field, BODY)
    assert (caught.value.code, caught.value.status) == ("digest_mismatch", 401)


def test_accepts_its_own_content_digest() -> None:
    verify_content_digest(content_digest(BODY), BODY)
    verify_content_digest(content_digest(b""), b"")


@pytest.mark.fuzz
@settings(max_examples=FUZZ, deadline=None)
@given(text=GARBAGE, body=st.binary(max_size=20))
def test_fuzz_content_digests(text: str, body: bytes) -> None:
    with pytest.raises(DigestMismatch):
        verify_content_digest(text, body)
