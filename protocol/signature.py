"""Request signatures: RFC 9421 with Ed25519, in the one profile Telex speaks.

Devices and nodes sign every request the same way. Covered are "@method"
"@authority" "@path" "@query" and "telex-destination", and with a body also
"content-type" and "content-digest" (RFC 9530), so nothing that decides what a
request does can be changed on its way. "@scheme" and "@target-uri" are never
covered: a proxy that ends TLS changes them. The destination is the node's *name*,
because "@authority" may be a host that serves many names; it keeps a request from
being shown to another node.

The signature base, the serialisation and the parsing are those of the library
`http-message-signatures`; the profile, the clock and the order of checks are ours.
No clock and no socket here: time comes in as `now`.

A receiver calls, in this order:

1. `read_claim`, which parses and believes nothing: it says which key to look for,
   and whom to limit or to block, before anything expensive happens;
2. `verify_request` with the key found;
3. `replay.NonceCache.check` with the claim that came back.

Every refusal is a `Refused` with status 401, whatever the bytes were; no function
here answers "is it valid?" with a boolean that a caller could forget to read.

What this does not protect: fields that are not covered (cookies, `Accept`), the
answer to a request, the length of a message, and anything against the holder of the
key. A path with dot segments or a default port that one side normalises does not
verify; paths of ours have neither.
"""

import base64
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import http_sf
from http_message_signatures import (
    ContentDigest,
    HTTPMessageSigner,
    HTTPMessageVerifier,
    HTTPSignatureAlgorithm,
    HTTPSignatureKeyResolver,
    VerifyResult,
)
from nacl.signing import SigningKey, VerifyKey

from protocol.errors import (
    DigestMismatch,
    SignatureExpired,
    SignatureInvalid,
    SignatureMissing,
    WrongDestination,
)
from protocol.limits import CLOCK_FUTURE, CLOCK_PAST, SIGNATURE_LIFETIME

__all__ = [
    "DESTINATION_HEADER",
    "Claim",
    "Request",
    "content_digest",
    "read_claim",
    "sign_request",
    "verify_content_digest",
    "verify_request",
]

DESTINATION_HEADER: Final = "Telex-Destination"

TAG: Final = "telex"
"""The signed name of the profile; signatures with other tags are not for us."""

LABEL: Final = "telex"
"""The label we write. It is not signed, so a reader takes any label."""

LIFETIME_MAX: Final = 300
"""Most seconds between `created` and `expires`: with the clock's window a nonce can
be accepted for at most 360 s, and `replay` remembers it for 600 s."""

NONCE_BYTES: Final = 16
"""128 random bits: no two requests of a key meet in its lifetime."""

KEYID_MAX: Final = 256
"""Characters of a key's id: an account (128), a device id (52) and room to spare."""

COMPONENTS_MAX: Final = 16
"""Covered components: seven are ours, the rest is room for a peer's own fields."""

FIELD_MAX: Final = 4096
"""Characters of `Signature-Input` and of `Signature`, all labels together: ours
have 400, so several proxies may add theirs. Parsing is linear in this."""

HEADERS_MAX: Final = 128
"""Header lines of one request (aiohttp and nginx stop near here too)."""

HEADER_BYTES_MAX: Final = 32 * 1024
"""Characters of request line and header (nginx: 32 KiB, Apache: 8 KiB a line)."""

_DERIVED: Final = ("@method", "@authority", "@path", "@query")
_CONTENT: Final = ("content-type", "content-digest")
_DESTINATION: Final = DESTINATION_HEADER.lower()
_PARAMETERS: Final = frozenset({"created", "expires", "nonce", "keyid", "alg", "tag"})

_METHOD = re.compile(r"[A-Z]{1,32}")
_AUTHORITY = re.compile(r"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_PATH = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*")
_QUERY = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*")
_NONCE = re.compile(r"[A-Za-z0-9_-]{21}[AQgw]")
_FIELD_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,64}")
_FIELD_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_NODE_NAME = re.compile(r"[!-~]{1,262}")


@dataclass(frozen=True, slots=True)
class Request:
    """The parts of a request that a signature can cover, as they were on the wire."""

    method: str
    authority: str
    """The `Host` field (`:authority` in HTTP/2), unchanged by any proxy."""
    path: str
    """Raw and percent-encoded, never decoded or normalised."""
    query: str
    """Raw, without the question mark; empty when there is none."""
    headers: Sequence[tuple[str, str]]
    """Every header line, repeated ones repeated."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a signature says of itself; from `read_claim` it is not yet trusted."""

    keyid: str
    created: int
    expires: int
    nonce: str


# --- content digests (RFC 9530) -----------------------------------------------


def content_digest(body: bytes) -> str:
    """The value of `Content-Digest` for these bytes, with sha-256."""
    return ContentDigest.create(body)


def verify_content_digest(field: str, body: bytes) -> None:
    """Check every digest in a `Content-Digest` field against the body.

    sha-256 is what we send; sha-512 is understood too. A field with an algorithm
    we do not know proves less than it seems to, so it is refused.

    Raises:
        DigestMismatch: the field does not vouch for these bytes.
    """
    if len(field) > FIELD_MAX:
        raise DigestMismatch("Its Content-Digest is too long.")
    try:
        ContentDigest.verify(field, body)
    except Exception as error:  # whatever the library raises: not these bytes
        raise DigestMismatch("Its Content-Digest does not match.") from error


# --- the library's core, fitted to us -----------------------------------------


class _Ed25519(HTTPSignatureAlgorithm):
    """Ed25519 by libsodium over raw keys; it refuses small-order keys."""

    algorithm_id = "ed25519"

    def __init__(
        self, public_key: bytes | None = None, private_key: bytes | None = None
    ) -> None:
        self._public_key = public_key
        self._private_key = private_key

    def sign(self, message: bytes) -> bytes:
        if self._private_key is None:
            raise ValueError("no private key")
        return SigningKey(self._private_key).sign(message).signature

    def verify(self, signature: bytes, message: bytes) -> None:
        if self._public_key is None:
            raise ValueError("no public key")
        VerifyKey(self._public_key).verify(message, signature)


class _OneKey(HTTPSignatureKeyResolver):
    """The caller already chose the key by the claim's `keyid`."""

    def __init__(self, public_key: bytes) -> None:
        self._public_key = public_key

    def resolve_public_key(self, key_id: str) -> bytes:
        return self._public_key


class _Verifier(HTTPMessageVerifier):
    """The library's verifier without its clock: `verify_request` has its own."""

    def validate_created_and_expires(self, sig_input: Any, max_age: Any = None) -> None:
        return None


@dataclass(frozen=True, slots=True)
class _Fields:
    """Header lines as the library wants them: `items()` with repeated lines."""

    lines: Sequence[tuple[str, str]]

    def items(self) -> Iterable[tuple[str, str]]:
        return self.lines


@dataclass(frozen=True, slots=True)
class _Message:
    """A request as the library wants it.

    Its URL is put together from parts that were checked one by one, so it comes
    apart again at the same places. The scheme is never covered; "https" makes
    ":443" the default port that "@authority" leaves out, on both sides.
    """

    method: str
    url: str
    headers: _Fields


def _message(request: Request, lines: Sequence[tuple[str, str]]) -> _Message:
    query = f"?{request.query}" if request.query else ""
    url = f"https://{request.authority}{request.path}{query}"
    return _Message(request.method, url, _Fields(lines))


def _request_line_fault(request: Request) -> str | None:
    """What is wrong with method, authority, path or query, if anything."""
    if not _METHOD.fullmatch(request.method):
        return "Its method is not one word in capitals."
    if not _AUTHORITY.fullmatch(request.authority):
        return "Its Host is not a host with an optional port."
    if not _PATH.fullmatch(request.path):
        return "Its path is not an absolute, percent-encoded path."
    if not _QUERY.fullmatch(request.query):
        return "Its query is not percent-encoded."
    return None


# --- signing ------------------------------------------------------------------


def sign_request(
    *,
    method: str,
    authority: str,
    path: str,
    query: str = "",
    content_type: str | None = None,
    body: bytes = b"",
    destination: str,
    keyid: str,
    private_key: bytes,
    created: int,
    nonce: bytes | None = None,
) -> dict[str, str]:
    """Sign a request.

    Args:
        method: in capitals.
        authority: exactly the `Host` that will be sent: no default port.
        path: raw, percent-encoded, exactly as it will be sent.
        query: raw, without the question mark.
        content_type: of the body; needed with a body, and only then.
        body: the bytes that will be sent, after any encoding.
        destination: the name of the node this is for.
        keyid: how the receiver finds the key.
        private_key: the 32-byte Ed25519 seed.
        created: unix seconds, by the receiver's clock where it is known.
        nonce: 16 bytes; random ones if not given.

    Returns:
        The headers to add to the request, `Content-Type` among them if it has a
        body. Send no other line with one of these names.

    Raises:
        ValueError: an argument cannot be signed; names it, never a key's bytes.
    """
    request = Request(method, authority, path, query, ())
    if fault := _request_line_fault(request):
        raise ValueError(fault)
    if not _NODE_NAME.fullmatch(destination):
        raise ValueError("the destination is not a node's name")
    if not 0 < len(keyid) <= KEYID_MAX:
        raise ValueError(f"a keyid has 1 to {KEYID_MAX} characters")
    if len(private_key) != 32:
        raise ValueError("a private key is a seed of 32 bytes")
    if nonce is None:
        nonce = secrets.token_bytes(NONCE_BYTES)
    if len(nonce) != NONCE_BYTES:
        raise ValueError(f"a nonce has {NONCE_BYTES} bytes")

    headers = {DESTINATION_HEADER: destination}
    if content_type is not None:
        if not _FIELD_VALUE.fullmatch(content_type):
            raise ValueError("the content type is not a field value")
        headers["Content-Type"] = content_type
        headers["Content-Digest"] = content_digest(body)
    elif body:
        raise ValueError("a body needs a content type")

    covered = (
        *_DERIVED,
        *(_CONTENT if content_type is not None else ()),
        _DESTINATION,
    )
    try:
        prepared = HTTPMessageSigner(signature_algorithm=_Ed25519).prepare(
            _message(request, tuple(headers.items())),
            key_id=keyid,
            created=datetime.fromtimestamp(created, UTC),
            expires=datetime.fromtimestamp(created + SIGNATURE_LIFETIME, UTC),
            nonce=base64.urlsafe_b64encode(nonce).rstrip(b"=").decode(),
            label=LABEL,
            tag=TAG,
            covered_component_ids=covered,
            use_existing_digest=content_type is not None,
        )
    except Exception as error:
        raise ValueError("this request cannot be signed") from error
    signature = _Ed25519(private_key=private_key).sign(prepared.signature_base)
    headers["Signature-Input"] = f"{LABEL}={prepared.signature_params}"
    headers["Signature"] = f"{LABEL}=:{base64.b64encode(signature).decode()}:"
    return headers


# --- verifying ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Found:
    """Our signature as it was found in the header, parsed and not yet trusted."""

    claim: Claim
    label: str
    components: tuple[str, ...]
    fields: Mapping[str, list[str]] = field(repr=False)


def read_claim(request: Request) -> Claim:
    """Read what the signature says of itself, before anything expensive.

    Use it to find the key, to block and to limit. Nothing in it is true until
    `verify_request` has returned it.

    Raises:
        SignatureMissing: there is no signature with our tag.
        SignatureInvalid: it cannot be a signature of our profile.
    """
    return _find(request).claim


def verify_request(
    request: Request, *, public_key: bytes, body: bytes, destination: str, now: int
) -> Claim:
    """Verify a request, from the cheap checks to the expensive ones.

    (0) to (3) are those of `read_claim`: size, parsing, one signature with our tag,
    its parameters. Then:

    (4) everything required is covered, and nothing that we could not check;
    (5) every covered field is there exactly once;
    (6) the request is meant for us;
    (7) our clock is inside its time;
    (8) the signature is by this key over all of this;
    (9) the body is the one whose digest was signed.

    The caller must then give the claim to `NonceCache.check`.

    Raises:
        SignatureMissing, SignatureInvalid, WrongDestination, SignatureExpired,
        DigestMismatch: in the order of the steps.
    """
    # (0) to (3)
    found = _find(request)
    claim, fields = found.claim, found.fields

    # (4) A digest that is there but not covered could be anybody's. A type without a
    # body says nothing, and aiohttp's client adds one to every POST.
    has_content = bool(body) or "content-digest" in fields
    required = {*_DERIVED, _DESTINATION, *(_CONTENT if has_content else ())}
    if missing := required.difference(found.components):
        raise SignatureInvalid(f"It does not cover {', '.join(sorted(missing))}.")

    # (5)
    covered = [name for name in found.components if not name.startswith("@")]
    for name in covered:
        if len(fields.get(name, ())) != 1:
            raise SignatureInvalid(f"The field {name} is covered but not there once.")

    # (6)
    if fields[_DESTINATION] != [destination]:
        raise WrongDestination(f"This is {destination}.")

    # (7)
    if not now - CLOCK_PAST <= claim.created <= now + CLOCK_FUTURE:
        raise SignatureExpired("Its time is outside the window.", server_time=now)
    if claim.expires <= now:
        raise SignatureExpired("It has expired.", server_time=now)

    # (8)
    wanted = (*covered, "signature-input", "signature")
    lines = [(name, value) for name in wanted for value in fields[name]]
    result = _verify_signature(_message(request, lines), found.label, public_key)
    if _claim(result.parameters) != claim or not all(
        f'"{name}"' in result.covered_components for name in required
    ):
        raise SignatureInvalid("What was verified is not what was read.")

    # (9)
    if has_content:
        verify_content_digest(fields["content-digest"][0], body)
    return claim


def _find(request: Request) -> _Found:
    """Steps (0) to (3): find the one signature with our tag, and parse it."""
    # (0) The sizes and shapes of everything that later steps walk through.
    fields = _collect(request)
    if fault := _request_line_fault(request):
        raise SignatureInvalid(fault)

    # (1) Both fields are there, and are what RFC 9421 says.
    for name in ("signature-input", "signature"):
        if name not in fields:
            raise SignatureMissing(f"It has no {name} field.")
    inputs = _dictionary("signature-input", fields)
    signatures = _dictionary("signature", fields)

    # (2) Exactly one label has our tag, and a signature to go with it.
    ours = [
        (label, member, parameters)
        for label, (member, parameters) in inputs.items()
        if isinstance(member, list) and _is_string(parameters.get("tag"), TAG)
    ]
    if not ours:
        raise SignatureMissing("None of its signatures is for Telex.")
    if len(ours) > 1:
        raise SignatureInvalid("It has two signatures for Telex.")
    label, members, parameters = ours[0]
    signature, _ = signatures.get(label, (None, None))
    if not isinstance(signature, bytes) or len(signature) != 64:
        raise SignatureInvalid("Its signature is not 64 bytes.")

    # (3) Its parameters and components are of our profile.
    claim = _claim(parameters)
    return _Found(claim, label, _components(members), fields)


def _collect(request: Request) -> dict[str, list[str]]:
    """The header's values by lower-case name, within the limits."""
    if len(request.headers) > HEADERS_MAX:
        raise SignatureInvalid("It has too many header lines.")
    size = len(request.authority) + len(request.path) + len(request.query)
    fields: dict[str, list[str]] = {}
    for name, value in request.headers:
        size += len(name) + len(value)
        if size > HEADER_BYTES_MAX:
            raise SignatureInvalid("Its header is too large.")
        if not name.isascii():  # a Kelvin sign would become a "k"
            raise SignatureInvalid("A header name is not ASCII.")
        fields.setdefault(name.lower(), []).append(value.strip(" \t"))
    return fields


def _refuse_duplicate(key: str, context: str) -> None:
    raise SignatureInvalid(f"A {context} of its signature holds a name twice.")


def _dictionary(
    name: str, fields: Mapping[str, list[str]]
) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Parse a Dictionary field (RFC 9651); no key and no parameter comes twice."""
    text = ", ".join(fields[name])
    if len(text) > FIELD_MAX or not text.isascii():
        raise SignatureInvalid(f"Its {name} field is too long or not ASCII.")
    try:
        parsed: Any = http_sf.parse(
            text.encode(), tltype="dictionary", on_duplicate_key=_refuse_duplicate
        )
    except SignatureInvalid:
        raise
    except Exception as error:  # the parser's, whatever it is: a fault of the sender
        raise SignatureInvalid(f"Its {name} field cannot be parsed.") from error
    return dict(parsed)


def _is_string(value: object, wanted: str) -> bool:
    """Whether it is this String; a Token of the same text equals it in `http_sf`."""
    return type(value) is str and value == wanted


def _claim(parameters: Mapping[str, Any]) -> Claim:
    """The six parameters of our profile, each of its type and inside its bounds."""
    if parameters.keys() != _PARAMETERS:
        raise SignatureInvalid("Its parameters are not exactly those of Telex.")
    created, expires = parameters["created"], parameters["expires"]
    nonce, keyid = parameters["nonce"], parameters["keyid"]
    if type(created) is not int or type(expires) is not int:
        raise SignatureInvalid("Its times are not integers.")
    if not 0 < expires - created <= LIFETIME_MAX:
        raise SignatureInvalid("Its lifetime is not 1 to 300 seconds.")
    if not _is_string(parameters["alg"], _Ed25519.algorithm_id):
        raise SignatureInvalid("Its algorithm is not ed25519.")
    if not isinstance(nonce, str) or not _NONCE.fullmatch(nonce):
        raise SignatureInvalid("Its nonce is not 16 bytes in base64url.")
    if not isinstance(keyid, str) or not 0 < len(keyid) <= KEYID_MAX:
        raise SignatureInvalid("Its keyid is not a short string.")
    return Claim(keyid, created, expires, nonce)


def _components(members: Sequence[Any]) -> tuple[str, ...]:
    """The names of the covered components: each once, and none with parameters."""
    if len(members) > COMPONENTS_MAX:
        raise SignatureInvalid("It covers too many components.")
    names: list[str] = []
    for name, parameters in members:
        if not isinstance(name, str) or parameters:
            raise SignatureInvalid("A covered component is not a plain name.")
        if name not in _DERIVED and not _FIELD_NAME.fullmatch(name):
            raise SignatureInvalid("It covers a component that Telex does not.")
        names.append(name)
    if len(set(names)) != len(names):
        raise SignatureInvalid("It covers a component twice.")
    return tuple(names)


def _verify_signature(message: _Message, label: str, public_key: bytes) -> VerifyResult:
    """Step (8), by the library: exactly one signature, by this key."""
    verify: Callable[..., list[VerifyResult]] = _Verifier(
        signature_algorithm=_Ed25519, key_resolver=_OneKey(public_key)
    ).verify
    try:
        (result,) = verify(message, max_age=None, expect_tag=TAG, expect_label=label)
    except Exception as error:
        # Everything the library can raise over a peer's bytes means the same; a
        # fault of its own must be a 401 too, or peers retry it as our failure.
        raise SignatureInvalid("The key does not confirm it.") from error
    return result
