"""The library `http-message-signatures`, fitted to the profile of Telex.

The signature base, its serialisation and the digests are the library's; keys, clock
and errors are ours. No exception of the library leaves this module.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from http_message_signatures import (
    ContentDigest,
    HTTPMessageVerifier,
    HTTPSignatureAlgorithm,
    HTTPSignatureKeyResolver,
    VerifyResult,
)
from nacl.signing import SigningKey, VerifyKey

from protocol.errors import DigestMismatch, SignatureInvalid
from protocol.http_request import Request
from protocol.signature_input import ALGORITHM, FIELD_MAX, TAG

__all__ = [
    "Ed25519",
    "Message",
    "Verifier",
    "content_digest",
    "make_message",
    "verify_content_digest",
    "verify_signature",
]


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


class Ed25519(HTTPSignatureAlgorithm):
    """Ed25519 by libsodium over raw keys; it refuses small-order keys."""

    algorithm_id = ALGORITHM

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


class Verifier(HTTPMessageVerifier):
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
class Message:
    """A request as the library wants it.

    Its URL is put together from parts that were checked one by one, so it comes
    apart again at the same places. The scheme is never covered; "https" makes
    ":443" the default port that "@authority" leaves out, on both sides.
    """

    method: str
    url: str
    headers: _Fields


def make_message(request: Request, lines: Sequence[tuple[str, str]]) -> Message:
    """The library's form of a request with these header lines."""
    query = f"?{request.query}" if request.query else ""
    url = f"https://{request.authority}{request.path}{query}"
    return Message(request.method, url, _Fields(lines))


def verify_signature(message: Message, label: str, public_key: bytes) -> VerifyResult:
    """Step (8), by the library: exactly one signature, by this key.

    Raises:
        SignatureInvalid: whatever is wrong with it.
    """
    verify: Callable[..., list[VerifyResult]] = Verifier(
        signature_algorithm=Ed25519, key_resolver=_OneKey(public_key)
    ).verify
    try:
        (result,) = verify(message, max_age=None, expect_tag=TAG, expect_label=label)
    except Exception as error:
        # Everything the library can raise over a peer's bytes means the same; a
        # fault of its own must be a 401 too, or peers retry it as our failure.
        raise SignatureInvalid("The key does not confirm it.") from error
    return result
