"""The signature profile: what is accepted, for whom, when, and what we do not sign."""

import base64
import traceback
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import (
    DigestMismatch,
    SignatureExpired,
    SignatureInvalid,
    WrongDestination,
)
from protocol.limits import CLOCK_FUTURE, CLOCK_PAST, SIGNATURE_LIFETIME
from protocol.signature import (
    DESTINATION_HEADER,
    KEYID_MAX,
    LIFETIME_MAX,
    Claim,
    content_digest,
    read_claim,
)
from tests.protocol.signing import (
    BODY,
    COVERED,
    FUZZ,
    KEY,
    KEYID,
    NODE,
    NOW,
    PARAMETERS,
    PUBLIC,
    SEED,
    added,
    crafted,
    get,
    post,
    value,
    verify,
)

# --- what is accepted ---------------------------------------------------------


def test_signs_and_verifies_a_body() -> None:
    claim = verify(post())
    assert claim == Claim(
        KEYID, NOW, NOW + SIGNATURE_LIFETIME, PARAMETERS["nonce"][1:-1]
    )
    assert read_claim(post()) == claim


def test_signature_has_this_very_form() -> None:
    request = post()
    assert value(request, "Signature-Input") == (
        'telex=("@method" "@authority" "@path" "@query" "content-type" '
        f'"content-digest" "telex-destination");created={NOW};keyid="{KEYID}";'
        f'alg="ed25519";expires={NOW + SIGNATURE_LIFETIME};'
        'nonce="MDEyMzQ1Njc4OWFiY2RlZg";tag="telex"'
    )
    base = (
        '"@method": POST\n"@authority": chat.example.org:7401\n'
        '"@path": /telex/v1/rooms/abc%2F/entries\n"@query": ?after=7&x=%20\n'
        '"content-type": application/msgpack\n'
        f'"content-digest": {content_digest(BODY)}\n"telex-destination": {NODE}\n'
        f'"@signature-params": {value(request, "Signature-Input")[len("telex=") :]}'
    )
    signature = base64.b64encode(KEY.sign(base.encode()).signature).decode()
    assert value(request, "Signature") == f"telex=:{signature}:"


def test_get_without_a_body_has_no_content_fields() -> None:
    request = get()
    assert {name for name, _ in request.headers[3:]} == {
        DESTINATION_HEADER,
        "Signature-Input",
        "Signature",
    }
    assert "content" not in value(request, "Signature-Input")
    assert verify(request, body=b"").keyid == KEYID


def test_a_type_that_the_http_client_added_to_no_body_says_nothing() -> None:
    """aiohttp adds one to a POST without a body; with a body it must be covered."""
    request = added(get(method="POST"), ("Content-Type", "application/octet-stream"))
    verify(request, body=b"")
    with pytest.raises(SignatureInvalid):
        verify(request, body=b"x")


def test_an_empty_body_with_a_type_is_a_body() -> None:
    request = post(body=b"")
    verify(request, body=b"")
    with pytest.raises(DigestMismatch):
        verify(request, body=b"x")


@pytest.mark.parametrize(
    "authority", ["localhost:7401", "[::1]:7401", "a", "127.0.0.1"]
)
@pytest.mark.parametrize("query", ["", "a", "a=b&a=c", "a=%2F?/@:"])
def test_accepts_any_authority_and_query(authority: str, query: str) -> None:
    verify(post(authority=authority, query=query))


def test_authority_is_compared_without_case_and_without_the_port_of_https() -> None:
    verify(replace(post(authority="Example.ORG"), authority="example.org"))
    verify(replace(post(authority="example.org:443"), authority="example.org"))


def test_accepts_other_labels_orders_and_more_fields() -> None:
    verify(crafted(label="sig1"))
    verify(crafted(list(reversed(COVERED))))
    verify(crafted(COVERED, dict(reversed(PARAMETERS.items()))))
    covers_more = crafted([*COVERED, "x-more"], base={'"x-more"': "1"})
    verify(added(covers_more, ("X-More", "1")))


def test_ignores_signatures_for_others() -> None:
    """A proxy may sign too, in a line of its own; with a bad one it is refused."""
    theirs = '("@method");created=1;keyid="p";tag="proxy"'
    request = added(
        post(), ("Signature-Input", f"p={theirs}"), ("Signature", "p=:AAAA:")
    )
    assert verify(request).keyid == KEYID


@pytest.mark.parametrize("age", [-CLOCK_FUTURE, 0, SIGNATURE_LIFETIME - 1])
def test_accepts_the_edges_of_the_window(age: int) -> None:
    verify(post(), now=NOW + age)


def test_accepts_a_lifetime_up_to_the_limit() -> None:
    parameters = PARAMETERS | {"expires": f"{NOW + LIFETIME_MAX}"}
    verify(crafted(None, parameters), now=NOW + CLOCK_PAST - 1)


def test_random_nonces_differ() -> None:
    assert len({verify(post(nonce=None)).nonce for _ in range(50)}) == 50


@settings(max_examples=FUZZ, deadline=None)
@given(
    body=st.binary(max_size=64),
    path=st.from_regex(r"/([A-Za-z0-9._~-]|%[0-9A-F]{2}|/){0,20}", fullmatch=True),
    query=st.from_regex(r"([a-z0-9=&+;]|%[0-9a-f]{2}){0,20}", fullmatch=True),
    keyid=st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1),
    nonce=st.binary(min_size=16, max_size=16),
)
def test_whatever_we_sign_we_verify(
    body: bytes, path: str, query: str, keyid: str, nonce: bytes
) -> None:
    keyid = keyid[:KEYID_MAX]
    request = post(path=path, query=query, body=body, keyid=keyid, nonce=nonce)
    claim = verify(request, body=body)
    assert claim.keyid == keyid
    assert base64.urlsafe_b64decode(claim.nonce + "==") == nonce


# --- destination and clock ----------------------------------------------------


@pytest.mark.parametrize(
    "name", ["example.com", "localhost:7401", "example.org:443", ""]
)
def test_refuses_a_request_for_another_node(name: str) -> None:
    with pytest.raises(WrongDestination) as caught:
        verify(post(), destination=name)
    assert (caught.value.code, caught.value.status) == ("wrong_destination", 401)


@pytest.mark.parametrize(
    ("created", "expires"),
    [
        (NOW - CLOCK_PAST - 1, NOW - 1),
        (NOW + CLOCK_FUTURE + 1, NOW + 300),
        (NOW - 100, NOW),
        (NOW - 100, NOW - 1),
        (0, 300),
        (-1, 1),
        (999_999_999_999_000, 999_999_999_999_001),
    ],
)
def test_refuses_what_is_not_of_this_time(created: int, expires: int) -> None:
    times = {"created": str(created), "expires": str(expires)}
    request = crafted(None, PARAMETERS | times)
    with pytest.raises(SignatureExpired) as caught:
        verify(request)
    assert (caught.value.code, caught.value.status) == ("signature_expired", 401)
    assert caught.value.server_time == NOW
    assert caught.value.problem().server_time == NOW
    assert read_claim(request).created == created  # parsing has no clock


@pytest.mark.parametrize("age", [-CLOCK_FUTURE - 1, SIGNATURE_LIFETIME, 301, 10**9])
def test_refuses_our_own_out_of_its_time(age: int) -> None:
    with pytest.raises(SignatureExpired):
        verify(post(), now=NOW + age)


# --- signing refuses our own mistakes -----------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"private_key": SEED[:31]},
        {"private_key": SEED + PUBLIC},
        {"nonce": b"short"},
        {"nonce": b""},
        {"keyid": ""},
        {"keyid": "k" * (KEYID_MAX + 1)},
        {"keyid": "schlüssel"},
        {"keyid": "a\nb"},
        {"destination": ""},
        {"destination": "a b"},
        {"destination": "a\r\nX: y"},
        {"destination": "münchen.example"},
        {"content_type": None},
        {"content_type": ""},
        {"content_type": " a/b"},
        {"content_type": "a/b\r\nX: y"},
        {"content_type": "é"},
        {"created": 10**15},
        {"created": -(10**15)},
    ],
    ids=str,
)
def test_does_not_sign_what_cannot_be_verified(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        post(**change)


def test_private_keys_are_in_no_error() -> None:
    secret = bytes.fromhex("c0ffee" * 10 + "c0ff")
    shown = {secret.hex(), repr(secret), repr(secret)[2:-1], secret.decode("latin-1")}
    for change in (
        {"private_key": secret + b"x"},
        {"method": "x"},
        {"created": 10**15},
    ):
        try:
            post(**{"private_key": secret, **change})
        except ValueError as error:
            text = "".join(traceback.format_exception(error)) + repr(error)
            assert not any(one in text for one in shown)
        else:
            pytest.fail("signed")
    request = post(private_key=secret)
    assert not any(one in repr(request) for one in shown)
