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
from datetime import UTC, datetime
from typing import Final

from http_message_signatures import HTTPMessageSigner

from protocol.errors import SignatureExpired, SignatureInvalid, WrongDestination
from protocol.http_request import (
    HEADER_BYTES_MAX,
    HEADERS_MAX,
    Request,
    request_line_fault,
)
from protocol.limits import CLOCK_FUTURE, CLOCK_PAST, SIGNATURE_LIFETIME
from protocol.signature_core import (
    Ed25519,
    content_digest,
    make_message,
    verify_content_digest,
    verify_signature,
)
from protocol.signature_input import (
    COMPONENTS_MAX,
    DERIVED,
    FIELD_MAX,
    KEYID_MAX,
    LIFETIME_MAX,
    TAG,
    Claim,
    Found,
    find_signature,
    read_parameters,
)

__all__ = [
    "COMPONENTS_MAX",
    "DESTINATION_HEADER",
    "FIELD_MAX",
    "HEADERS_MAX",
    "HEADER_BYTES_MAX",
    "KEYID_MAX",
    "LIFETIME_MAX",
    "NONCE_BYTES",
    "Claim",
    "Request",
    "content_digest",
    "read_claim",
    "sign_request",
    "verify_content_digest",
    "verify_request",
]

DESTINATION_HEADER: Final = "Telex-Destination"

LABEL: Final = "telex"
"""The label we write. It is not signed, so a reader takes any label."""

NONCE_BYTES: Final = 16
"""128 random bits: no two requests of a key meet in its lifetime."""

_CONTENT: Final = ("content-type", "content-digest")
_DESTINATION: Final = DESTINATION_HEADER.lower()

_FIELD_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_NODE_NAME = re.compile(r"[!-~]{1,262}")

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
    if nonce is None:
        nonce = secrets.token_bytes(NONCE_BYTES)
    if fault := _signing_fault(request, destination, keyid, private_key, nonce):
        raise ValueError(fault)
    headers = {DESTINATION_HEADER: destination}
    if content_type is not None:
        if not _FIELD_VALUE.fullmatch(content_type):
            raise ValueError("the content type is not a field value")
        headers["Content-Type"] = content_type
        headers["Content-Digest"] = content_digest(body)
    elif body:
        raise ValueError("a body needs a content type")
    parameters, base = _signature_base(request, headers, keyid, created, nonce)
    signature = Ed25519(private_key=private_key).sign(base)
    headers["Signature-Input"] = f"{LABEL}={parameters}"
    headers["Signature"] = f"{LABEL}=:{base64.b64encode(signature).decode()}:"
    return headers


def _signing_fault(
    request: Request, destination: str, keyid: str, private_key: bytes, nonce: bytes
) -> str | None:
    """What about these arguments cannot be signed, if anything."""
    if fault := request_line_fault(request):
        return fault
    if not _NODE_NAME.fullmatch(destination):
        return "the destination is not a node's name"
    if not 0 < len(keyid) <= KEYID_MAX:
        return f"a keyid has 1 to {KEYID_MAX} characters"
    if len(private_key) != 32:
        return "a private key is a seed of 32 bytes"
    if len(nonce) != NONCE_BYTES:
        return f"a nonce has {NONCE_BYTES} bytes"
    return None


def _signature_base(
    request: Request, headers: dict[str, str], keyid: str, created: int, nonce: bytes
) -> tuple[str, bytes]:
    """The signature's parameters, serialised, and the bytes to be signed."""
    content = "Content-Type" in headers
    covered = (*DERIVED, *(_CONTENT if content else ()), _DESTINATION)
    try:
        prepared = HTTPMessageSigner(signature_algorithm=Ed25519).prepare(
            make_message(request, tuple(headers.items())),
            key_id=keyid,
            created=datetime.fromtimestamp(created, UTC),
            expires=datetime.fromtimestamp(created + SIGNATURE_LIFETIME, UTC),
            nonce=base64.urlsafe_b64encode(nonce).rstrip(b"=").decode(),
            label=LABEL,
            tag=TAG,
            covered_component_ids=covered,
            use_existing_digest=content,
        )
    except Exception as error:
        raise ValueError("this request cannot be signed") from error
    return prepared.signature_params, prepared.signature_base


# --- verifying ----------------------------------------------------------------


def read_claim(request: Request) -> Claim:
    """Read what the signature says of itself, before anything expensive.

    Use it to find the key, to block and to limit. Nothing in it is true until
    `verify_request` has returned it.

    Raises:
        SignatureMissing: there is no signature with our tag.
        SignatureInvalid: it cannot be a signature of our profile.
    """
    return find_signature(request).claim


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
    found = find_signature(request)
    # (4) and (5)
    required, covered = _check_coverage(found, has_body=bool(body))
    # (6)
    if found.fields[_DESTINATION] != [destination]:
        raise WrongDestination(f"This is {destination}.")
    # (7)
    claim = found.claim
    if not now - CLOCK_PAST <= claim.created <= now + CLOCK_FUTURE:
        raise SignatureExpired("Its time is outside the window.", server_time=now)
    if claim.expires <= now:
        raise SignatureExpired("It has expired.", server_time=now)
    # (8)
    wanted = (*covered, "signature-input", "signature")
    lines = [(name, value) for name in wanted for value in found.fields[name]]
    result = verify_signature(make_message(request, lines), found.label, public_key)
    if read_parameters(result.parameters) != claim or not all(
        f'"{name}"' in result.covered_components for name in required
    ):
        raise SignatureInvalid("What was verified is not what was read.")
    # (9)
    if "content-digest" in required:
        verify_content_digest(found.fields["content-digest"][0], body)
    return claim


def _check_coverage(found: Found, *, has_body: bool) -> tuple[set[str], list[str]]:
    """Steps (4) and (5): the components that must be covered, and covered fields."""
    fields = found.fields
    # A digest that is there but not covered could be anybody's. A type without a
    # body says nothing, and aiohttp's client adds one to every POST.
    has_content = has_body or "content-digest" in fields
    required = {*DERIVED, _DESTINATION, *(_CONTENT if has_content else ())}
    if missing := required.difference(found.components):
        raise SignatureInvalid(f"It does not cover {', '.join(sorted(missing))}.")
    covered = [name for name in found.components if not name.startswith("@")]
    for name in covered:
        if len(fields.get(name, ())) != 1:
            raise SignatureInvalid(f"The field {name} is covered but not there once.")
    return required, covered
