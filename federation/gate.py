"""Who is asking: the authentication of a peer's request, in numbered steps.

From cheap to expensive, so that nobody makes us work who did not work first: what can
be refused by looking is refused before a key is looked for, and a body is read only
for a key that we know. Every fault of a signature is a 401, whatever the bytes were;
a peer would take a 500 for our failure and come again.

What this does not protect: whether this peer may do what it asks; `Services` and the
stores decide that.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from federation.bucket import Buckets
from federation.discovery import Directory
from federation.policy import PeerPolicy
from federation.ports import Clock
from protocol.address import parse_node
from protocol.errors import (
    AddressError,
    BadRequest,
    NodeBusy,
    Refused,
    SignatureInvalid,
    TooLarge,
    UnsupportedMedia,
)
from protocol.limits import BODY_MAX
from protocol.replay import NonceCache
from protocol.signature import Claim, Request, read_claim, verify_request

__all__ = ["Asked", "Gate"]

_log = logging.getLogger(__name__)

RATE: Final = 100.0
BURST: Final = 400.0
"""Requests a second of one peer: with full pushes 20,000 entries a second, far more
than one node writes; the burst is a node that returns and drains."""

REQUESTS_MAX: Final = 128
"""Requests under way in all: with full bodies 256 MiB."""

REQUESTS_PER_PEER: Final = 16
"""Requests under way from one peer (or one address that says it is): two pushes and
what its users wait for; the rest of `REQUESTS_MAX` is for the others."""

BODY_TIMEOUT: Final = 30.0
"""Seconds for a body to arrive: 2 MiB at 0.6 Mbit/s."""


@dataclass(frozen=True, slots=True)
class Asked:
    """An authenticated request of a peer."""

    peer: str
    body: bytes = field(repr=False)
    claim: Claim
    """What was verified; the answer is signed for it."""
    request: web.Request


class Gate:
    """Lets signed requests of admitted peers through, within limits."""

    def __init__(
        self, name: str, directory: Directory, policy: PeerPolicy, clock: Clock
    ) -> None:
        self._name = name
        self._directory = directory
        self._policy = policy
        self._clock = clock
        self._nonces = NonceCache()
        self._claimed = Buckets(RATE, BURST)
        self._verified = Buckets(RATE, BURST)
        self._under_way: Counter[str] = Counter()

    @contextmanager
    def slot(self, key: str) -> Iterator[None]:
        """Hold one of the bounded places for a request under way.

        Raises:
            NodeBusy: all are taken, or all that one key may have.
        """
        busy = self._under_way
        if busy.total() >= REQUESTS_MAX or busy[key] >= REQUESTS_PER_PEER:
            raise NodeBusy("Too many requests are under way.", retry_after=1)
        busy[key] += 1
        try:
            yield
        finally:
            busy[key] -= 1
            if not busy[key]:
                del busy[key]

    async def admit(self, request: web.Request) -> Asked:
        """Authenticate a request.

        (1) its size, as announced, and no encoding of the body;
        (2) what its signature says of itself, still believed by nobody;
        (3) the origin, from the key's id;
        (4) the policy: is it a node that we talk to at all;
        (5) its bucket: by origin and address, so that nobody can empty a peer's by
            claiming to be that peer;
        (6) the key, from the pin, or by at most one fetch;
        (7) the body, within size and time;
        (8) the signature over all of it;
        (9) the nonce, once;
        (10) the bucket of the peer that it now is for certain.

        Raises:
            Refused: with the code of the step that failed.
        """
        # (1)
        if (request.content_length or 0) > BODY_MAX:
            raise TooLarge(f"At most {BODY_MAX} bytes.")
        if "Content-Encoding" in request.headers:
            raise UnsupportedMedia("Send the body without an encoding.")
        # (2)
        signed = _signed_parts(request)
        claim = _shielded_claim(signed)
        # (3)
        origin = _origin(claim.keyid, self._name)
        # (4)
        self._policy.check(origin)
        # (5)
        now = self._clock.time()
        self._claimed.take(f"{origin} {request.remote}", now)
        with self.slot(f"{origin} {request.remote}"):
            # (6)
            key = await self._directory.key_for(origin, claim.keyid)
            # (7)
            body = await _read_body(request)
        # (8)
        claim = _shielded_verify(signed, key, body, self._name, int(self._clock.time()))
        # (9)
        self._nonces.check(claim.keyid, claim.nonce, int(self._clock.time()))
        # (10)
        self._verified.take(origin, now)
        return Asked(origin, body, claim, request)


def _signed_parts(request: web.Request) -> Request:
    """The request as it was on the wire, for the verifier."""
    hosts = request.headers.getall("Host", [])
    if len(hosts) != 1:
        raise SignatureInvalid("It has not exactly one Host.")
    path, _, query = request.raw_path.partition("?")
    return Request(
        method=request.method,
        authority=hosts[0],
        path=path,
        query=query,
        headers=tuple(request.headers.items()),
    )


def _shielded_claim(signed: Request) -> Claim:
    try:
        return read_claim(signed)
    except Refused:
        raise
    except Exception as error:
        _log.exception("reading a signature failed")
        raise SignatureInvalid() from error


def _shielded_verify(
    signed: Request, key: bytes, body: bytes, name: str, now: int
) -> Claim:
    try:
        return verify_request(
            signed, public_key=key, body=body, destination=name, now=now
        )
    except Refused:
        raise
    except Exception as error:
        _log.exception("verifying a signature failed")
        raise SignatureInvalid() from error


def _origin(keyid: str, own_name: str) -> str:
    """The node that a key's id names."""
    name, mark, _ = keyid.partition("#")
    try:
        origin = parse_node(name)
    except AddressError as error:
        raise SignatureInvalid("Its keyid names no node.") from error
    if not mark or origin == own_name:
        raise SignatureInvalid("Its keyid is not that of another node.")
    return origin


async def _read_body(request: web.Request) -> bytes:
    data = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            async for chunk in request.content.iter_any():
                data += chunk
                if len(data) > BODY_MAX:
                    raise TooLarge(f"At most {BODY_MAX} bytes.")
    except TimeoutError as error:
        raise BadRequest("Its body did not arrive in time.") from error
    return bytes(data)
