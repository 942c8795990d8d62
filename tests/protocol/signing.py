"""Signed requests for tests: ours, and others truly signed by the same key."""

import base64
import os
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st
from nacl.signing import SigningKey

from protocol.signature import Claim, Request, sign_request, verify_request

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
"""What fuzz tests put into fields: any text, pieces of true fields, any bytes."""
