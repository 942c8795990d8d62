"""The signature profile: what is accepted, and everything that is not."""

import base64
import os
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from protocol.errors import (
    DigestMismatch,
    Refused,
    SignatureExpired,
    SignatureInvalid,
    SignatureMissing,
    WrongDestination,
)
from protocol.limits import CLOCK_FUTURE, CLOCK_PAST, SIGNATURE_LIFETIME
from protocol.signature import (
    COMPONENTS_MAX,
    DESTINATION_HEADER,
    FIELD_MAX,
    HEADER_BYTES_MAX,
    HEADERS_MAX,
    KEYID_MAX,
    LIFETIME_MAX,
    Claim,
    Request,
    content_digest,
    read_claim,
    sign_request,
    verify_content_digest,
    verify_request,
)

SEED = bytes(range(32))
KEY = SigningKey(SEED)
PUBLIC = bytes(KEY.verify_key)
NOW = 1_800_000_000
NODE = "example.org"
KEYID = "alice@other.example/7kq2"
BODY = b"\x82\xa1a\x01"
NONCE = b"0123456789abcdef"
FUZZ = 20_000 if os.environ.get("TELEX_FUZZ") else 300

COVERED = [
    *("@method", "@authority", "@path", "@query"),
    *("content-type", "content-digest", "telex-destination"),
]
PARAMETERS = {
    "created": f"{NOW}",
    "keyid": f'"{KEYID}"',
    "alg": '"ed25519"',
    "expires": f"{NOW + 120}",
    "nonce": '"MDEyMzQ1Njc4OWFiY2RlZg"',
    "tag": '"telex"',
}


def post(**changed: Any) -> Request:
    """A signed POST as it arrives; arguments of `sign_request` can be changed."""
    given: dict[str, Any] = {
        "method": "POST",
        "authority": "chat.example.org:7401",
        "path": "/telex/v1/rooms/abc%2F/entries",
        "query": "after=7&x=%20",
        "content_type": "application/msgpack",
        "body": BODY,
        "destination": NODE,
        "keyid": KEYID,
        "private_key": SEED,
        "created": NOW,
        "nonce": NONCE,
        **changed,
    }
    headers = sign_request(**given)
    others = [("Host", given["authority"]), ("Accept", "*/*"), ("Accept", "a/b")]
    return Request(
        given["method"],
        given["authority"],
        given["path"],
        given["query"],
        [*others, *headers.items()],
    )


def get(**changed: Any) -> Request:
    return post(
        **{"method": "GET", "content_type": None, "body": b"", "query": ""} | changed
    )


def verify(
    request: Request,
    *,
    body: bytes = BODY,
    public_key: bytes = PUBLIC,
    destination: str = NODE,
    now: int = NOW,
) -> Claim:
    return verify_request(
        request, public_key=public_key, body=body, destination=destination, now=now
    )


def value(request: Request, name: str) -> str:
    return next(text for key, text in request.headers if key.lower() == name.lower())


def with_header(request: Request, name: str, text: str | None) -> Request:
    """The request with a header replaced, or without it."""
    lines = [one for one in request.headers if one[0].lower() != name.lower()]
    return replace(request, headers=lines if text is None else [*lines, (name, text)])


def added(request: Request, *lines: tuple[str, str]) -> Request:
    return replace(request, headers=[*request.headers, *lines])


def crafted(
    covered: list[str] | None = None,
    parameters: dict[str, str] | None = None,
    *,
    base: dict[str, str] | None = None,
    label: str = "telex",
) -> Request:
    """A POST truly signed by the right key over whatever the test wants.

    What is refused here is refused by the profile and not by a broken signature.
    """
    request = post()
    names = [
        name if name.startswith('"') else f'"{name}"' for name in covered or COVERED
    ]
    given = PARAMETERS if parameters is None else parameters
    inner = f"({' '.join(names)})" + "".join(
        f";{name}={text}" if text else f";{name}" for name, text in given.items()
    )
    values = {
        '"@method"': request.method,
        '"@authority"': request.authority,
        '"@path"': request.path,
        '"@query"': f"?{request.query}",
        '"@scheme"': "https",
        '"@target-uri"': f"https://{request.authority}{request.path}?{request.query}",
        '"@request-target"': f"{request.path}?{request.query}",
        '"accept"': "*/*, a/b",
        **{f'"{name.lower()}"': text for name, text in request.headers[3:]},
        **(base or {}),
    }
    lines = [f"{name}: {values.get(name, '')}" for name in names]
    text = "\n".join([*lines, f'"@signature-params": {inner}'])
    signature = base64.b64encode(KEY.sign(text.encode()).signature).decode()
    request = with_header(request, "Signature-Input", f"{label}={inner}")
    return with_header(request, "Signature", f"{label}=:{signature}:")


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


# --- tampering ----------------------------------------------------------------


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


# --- the profile, with true signatures ----------------------------------------


def test_crafting_gives_true_signatures() -> None:
    verify(crafted())


@pytest.mark.parametrize("name", COVERED)
def test_demands_every_component(name: str) -> None:
    with pytest.raises(SignatureInvalid, match=name):
        verify(crafted([one for one in COVERED if one != name]))


@pytest.mark.parametrize(
    "component",
    [
        *("@scheme", "@target-uri", "@request-target", "@status", "@unknown"),
        *('"@query-param";name="after"', '"@method";req', '"@signature-params"'),
        *('"content-digest";sf', '"content-digest";key="sha-256"', '"content-type";bs'),
        *('"content-type";tr', "Content-Type", "X-Upper", "", "a b", "x-missing"),
        *("accept", "signature", "signature-input"),
    ],
)
def test_refuses_components_that_are_not_of_the_profile(component: str) -> None:
    with pytest.raises(SignatureInvalid):
        verify(crafted([*COVERED, component]))


@pytest.mark.parametrize("name", COVERED)
def test_a_component_with_parameters_does_not_count(name: str) -> None:
    for parameter in ("sf", "bs", "req"):
        changed = [f'"{name}";{parameter}' if one == name else one for one in COVERED]
        with pytest.raises(SignatureInvalid):
            read_claim(crafted(changed))


def test_refuses_components_that_are_not_strings_or_come_twice() -> None:
    for inner in ("method", "1", ":AAAA:", "?1", '"@method"'):
        text = value(post(), "Signature-Input").replace("(", f"({inner} ", 1)
        with pytest.raises(SignatureInvalid):
            read_claim(with_header(post(), "Signature-Input", text))


def test_refuses_too_many_components() -> None:
    extra = [f"x-{number}" for number in range(COMPONENTS_MAX)]
    with pytest.raises(SignatureInvalid, match="too many"):
        verify(crafted([*COVERED, *extra]))


@pytest.mark.parametrize("name", [one for one in PARAMETERS if one != "tag"])
def test_demands_every_parameter(name: str) -> None:
    kept = {key: text for key, text in PARAMETERS.items() if key != name}
    with pytest.raises(SignatureInvalid):
        verify(crafted(None, kept))


@pytest.mark.parametrize(
    "changed",
    [
        {"alg": '"rsa-pss-sha512"'},
        {"alg": '"hmac-sha256"'},
        {"alg": '"ED25519"'},
        {"alg": '""'},
        {"alg": "ed25519"},
        {"alg": "1"},
        {"created": f'"{NOW}"'},
        {"created": f"{NOW}.0"},
        {"created": f"@{NOW}"},
        {"created": ""},
        {"created": "?1"},
        {"expires": f"{NOW}"},
        {"expires": f"{NOW - 1}"},
        {"expires": f"{NOW + LIFETIME_MAX + 1}"},
        {"expires": "999999999999999"},
        {"expires": f'"{NOW + 120}"'},
        {"nonce": '""'},
        {"nonce": '"MDEyMzQ1Njc4OWFiY2RlZ"'},
        {"nonce": '"MDEyMzQ1Njc4OWFiY2RlZgg"'},
        {"nonce": '"MDEyMzQ1Njc4OWFiY2RlZg=="'},
        {"nonce": '"MDEyMzQ1Njc4OWFiY2RlZh"'},
        {"nonce": '"MDEyMzQ1Njc4OWFi+2RlZg"'},
        {"nonce": "MDEyMzQ1Njc4OWFiY2RlZg"},
        {"nonce": ":MDEyMzQ1Njc4OWFiY2RlZg==:"},
        {"keyid": '""'},
        {"keyid": f'"{"k" * (KEYID_MAX + 1)}"'},
        {"keyid": "alice"},
        {"keyid": "?1"},
        {"more": '"1"'},
        {"req": ""},
    ],
    ids=str,
)
def test_refuses_parameters_out_of_bounds(changed: dict[str, str]) -> None:
    with pytest.raises(SignatureInvalid):
        read_claim(crafted(None, PARAMETERS | changed))


@pytest.mark.parametrize("tag", ['"web-bot-auth"', '"Telex"', '""', "telex", "1", None])
def test_a_signature_with_another_tag_is_none_of_ours(tag: str | None) -> None:
    parameters = {key: text for key, text in PARAMETERS.items() if key != "tag"}
    if tag is not None:
        parameters["tag"] = tag
    with pytest.raises(SignatureMissing):
        verify(crafted(None, parameters))


def test_an_algorithm_that_is_a_token_is_refused_before_the_key_is_used() -> None:
    """A Token equals the String of the same text in `http_sf`."""
    request = crafted(None, PARAMETERS | {"alg": "ed25519"})
    with pytest.raises(SignatureInvalid):
        read_claim(request)


def test_refuses_two_signatures_with_our_tag() -> None:
    request = post()
    two = added(
        request,
        (
            "Signature-Input",
            value(request, "Signature-Input").replace("telex=", "b=", 1),
        ),
        ("Signature", value(request, "Signature").replace("telex=", "b=", 1)),
    )
    with pytest.raises(SignatureInvalid, match="two"):
        verify(two)


@pytest.mark.parametrize("name", ["Signature-Input", "Signature"])
def test_refuses_a_label_twice(name: str) -> None:
    request = post()
    with pytest.raises(SignatureInvalid):
        read_claim(added(request, (name, value(request, name))))
    joined = f"{value(request, name)}, {value(request, name)}"
    with pytest.raises(SignatureInvalid):
        read_claim(with_header(request, name, joined))


def test_refuses_a_parameter_twice() -> None:
    request = post()
    for more_text in (";created=1", ';alg="ed25519"', ';tag="telex"', ';keyid="m"'):
        text = value(request, "Signature-Input") + more_text
        with pytest.raises(SignatureInvalid):
            read_claim(with_header(request, "Signature-Input", text))


def test_refuses_a_label_without_its_signature() -> None:
    request = post()
    other = value(request, "Signature").replace("telex=", "other=", 1)
    with pytest.raises(SignatureInvalid):
        read_claim(with_header(request, "Signature", other))


@pytest.mark.parametrize("text", ["telex", "telex=1", 'telex="a"', "telex=(:AAAA:)"])
def test_refuses_a_signature_that_is_not_bytes(text: str) -> None:
    with pytest.raises(SignatureInvalid):
        read_claim(with_header(post(), "Signature", text))


@pytest.mark.parametrize("name", ["Signature-Input", "Signature"])
def test_a_missing_signature_is_said_to_be_missing(name: str) -> None:
    with pytest.raises(SignatureMissing) as caught:
        verify(with_header(post(), name, None))
    assert (caught.value.code, caught.value.status) == ("signature_missing", 401)
    with pytest.raises(Refused):
        verify(with_header(post(), name, ""))


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


# --- sizes and shapes ---------------------------------------------------------


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


# --- content digests ----------------------------------------------------------


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


# --- fuzzing ------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        *("telex", "=", "(", ")", ";", ",", " ", '"', "\\", ":", "?1", "@1", "%", "-"),
        *('"@method"', '"@path"', 'tag="telex"', "created=", "expires=", ";req", "1.5"),
        *('alg="ed25519"', "999999999999999", "keyid", "nonce", "\t", "*", "A", "\n"),
        *("é", "\udc80", "\0", ":AAAA:", "(((", "9" * 20, '%"%ff"', "@99999999999999"),
    ]
)
GARBAGE = st.one_of(
    st.text(max_size=200),
    st.lists(PIECES, max_size=30).map("".join),
    st.binary(max_size=200).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
)


def only_our_errors(call: Callable[[], object]) -> None:
    try:
        call()
    except Refused as error:
        assert error.status == 401
        assert error.code in {
            "signature_missing",
            "signature_invalid",
            "signature_expired",
            "wrong_destination",
            "digest_mismatch",
        }


@pytest.mark.fuzz
@settings(max_examples=FUZZ, deadline=None)
@given(name=st.sampled_from(["Signature-Input", "Signature"]), text=GARBAGE)
@example(name="Signature-Input", text="telex=(@99999999999999);tag=telex")
@example(name="Signature-Input", text='telex=("a";x=@99999999999999);tag="telex"')
def test_fuzz_signature_fields(name: str, text: str) -> None:
    request = with_header(post(), name, text)
    only_our_errors(lambda: read_claim(request))
    with pytest.raises(Refused):
        verify(request)


@pytest.mark.fuzz
@settings(max_examples=FUZZ, deadline=None)
@given(data=st.data(), name=st.sampled_from(["Signature-Input", "Signature"]))
def test_fuzz_edits_of_a_true_field(data: st.DataObject, name: str) -> None:
    """Cut, repeat or replace a piece: refused, or it still says the same."""
    request = post()
    text = value(request, name)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 40)))
    changed = text[:start] + data.draw(GARBAGE) + text[end:]
    request = with_header(request, name, changed)
    try:
        claim = verify(request)
    except Refused as error:
        assert error.status == 401
    else:
        assert claim == verify(post())


@pytest.mark.fuzz
@settings(max_examples=FUZZ, deadline=None)
@given(inner=GARBAGE, parameters=GARBAGE)
def test_fuzz_inside_the_list(inner: str, parameters: str) -> None:
    text = f'telex=({inner});{parameters};tag="telex"'
    request = with_header(post(), "Signature-Input", text)
    only_our_errors(lambda: read_claim(request))
    only_our_errors(lambda: verify(request))


@pytest.mark.fuzz
@settings(max_examples=FUZZ, deadline=None)
@given(
    method=GARBAGE,
    authority=GARBAGE,
    path=GARBAGE,
    query=GARBAGE,
    headers=st.lists(
        st.tuples(
            st.one_of(
                st.sampled_from([*COVERED[4:], "signature", "signature-input", "host"]),
                GARBAGE,
            ),
            GARBAGE,
        ),
        max_size=8,
    ),
    body=st.binary(max_size=20),
)
def test_fuzz_whole_requests(
    method: str,
    authority: str,
    path: str,
    query: str,
    headers: list[tuple[str, str]],
    body: bytes,
) -> None:
    request = Request(method, authority, path, query, headers)
    with pytest.raises(Refused):
        verify(request, body=body)
    signed = post()
    for one in (
        replace(signed, method=method),
        replace(signed, authority=authority),
        replace(signed, path=path),
        replace(signed, query=query),
        replace(signed, headers=[*signed.headers, *headers]),
    ):
        only_our_errors(lambda one=one: verify(one, body=body))  # type: ignore[misc]


@pytest.mark.fuzz
@settings(max_examples=FUZZ, deadline=None)
@given(text=GARBAGE, body=st.binary(max_size=20))
def test_fuzz_content_digests(text: str, body: bytes) -> None:
    with pytest.raises(DigestMismatch):
        verify_content_digest(text, body)
