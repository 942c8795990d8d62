"""What a signature says of itself: the two fields of RFC 9421, parsed and bounded.

Nothing here is true yet. `signature.read_claim` gives it to whoever looks for the
key, `signature.verify_request` to whoever has it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import http_sf

from protocol.errors import SignatureInvalid, SignatureMissing
from protocol.http_request import Request, collect_fields, request_line_fault

__all__ = [
    "COMPONENTS_MAX",
    "DERIVED",
    "FIELD_MAX",
    "KEYID_MAX",
    "LIFETIME_MAX",
    "TAG",
    "Claim",
    "Found",
    "find_signature",
    "read_parameters",
]

TAG: Final = "telex"
"""The signed name of the profile; signatures with other tags are not for us."""

LIFETIME_MAX: Final = 300
"""Most seconds between `created` and `expires`: with the clock's window a nonce can
be accepted for at most 360 s, and `replay` remembers it for 600 s."""

KEYID_MAX: Final = 256
"""Characters of a key's id: an account (128), a device id (52) and room to spare."""

COMPONENTS_MAX: Final = 16
"""Covered components: seven are ours, the rest is room for a peer's own fields."""

FIELD_MAX: Final = 4096
"""Characters of `Signature-Input` and of `Signature`, all labels together: ours
have 400, so several proxies may add theirs. Parsing is linear in this."""

ALGORITHM: Final = "ed25519"

DERIVED: Final = ("@method", "@authority", "@path", "@query")
"""The derived components that are covered, all of them always."""

_PARAMETERS: Final = frozenset({"created", "expires", "nonce", "keyid", "alg", "tag"})
_NONCE = re.compile(r"[A-Za-z0-9_-]{21}[AQgw]")
_FIELD_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,64}")


@dataclass(frozen=True, slots=True)
class Claim:
    """What a signature says of itself; from `read_claim` it is not yet trusted."""

    keyid: str
    created: int
    expires: int
    nonce: str


@dataclass(frozen=True, slots=True)
class Found:
    """Our signature as it was found in the header, parsed and not yet trusted."""

    claim: Claim
    label: str
    components: tuple[str, ...]
    fields: Mapping[str, list[str]] = field(repr=False)


def find_signature(request: Request) -> Found:
    """Steps (0) to (3): find the one signature with our tag, and parse it.

    Raises:
        SignatureMissing, SignatureInvalid.
    """
    # (0) The sizes and shapes of everything that later steps walk through.
    fields = collect_fields(request)
    if fault := request_line_fault(request):
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
    claim = read_parameters(parameters)
    return Found(claim, label, _components(members), fields)


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


def read_parameters(parameters: Mapping[str, Any]) -> Claim:
    """The six parameters of our profile, each of its type and inside its bounds.

    Raises:
        SignatureInvalid: says which is not.
    """
    if parameters.keys() != _PARAMETERS:
        raise SignatureInvalid("Its parameters are not exactly those of Telex.")
    created, expires = parameters["created"], parameters["expires"]
    nonce, keyid = parameters["nonce"], parameters["keyid"]
    if type(created) is not int or type(expires) is not int:
        raise SignatureInvalid("Its times are not integers.")
    if not 0 < expires - created <= LIFETIME_MAX:
        raise SignatureInvalid("Its lifetime is not 1 to 300 seconds.")
    if not _is_string(parameters["alg"], ALGORITHM):
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
        if name not in DERIVED and not _FIELD_NAME.fullmatch(name):
            raise SignatureInvalid("It covers a component that Telex does not.")
        names.append(name)
    if len(set(names)) != len(names):
        raise SignatureInvalid("It covers a component twice.")
    return tuple(names)
