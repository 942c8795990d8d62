"""Who is asking: signatures of devices, checked before anything else happens.

In this order: what the signature claims, whether we know that device, how much is
asked in its name from there, the body, the signature over all of it, the nonce, and
how much the device asks for; so nobody who cannot sign uses up anything of anybody
else.
"""

import ipaddress
from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from http import HTTPStatus

from aiohttp import web

from node.accounts.device import Device, Devices
from node.api.door import prove
from node.api.message import read_body
from node.clock import Clock
from node.limit import Buckets, Held, network_of
from protocol.errors import Refused
from protocol.limits import BODY_MAX
from protocol.replay import NonceCache
from protocol.signature import Claim, Request, read_claim, verify_request

__all__ = ["Gate"]

UNSIGNED_RATE, UNSIGNED_BURST = 5.0, 50.0
"""Requests a second, and at once, from one address, for what needs no known device:
log-in and registration cost a tenth of a second of our time each."""


BODY_SMALL = 64 * 1024
"""Bytes of a body that is not counted: messages pass, whatever large ones wait."""

BODIES, BODIES_EACH = 256 * 1024 * 1024, 16 * 1024 * 1024
"""Bytes of larger bodies on their way in: in all, and of one device from one address.
Whoever sends them slowly holds their memory for a minute."""


FORGED_RATE, FORGED_BURST = 5.0, 100.0
"""Requests a second, and at once, from one address, that prove nothing: beyond it they
are told to wait and not what is wrong. Others from there are not touched by it."""


class Gate:
    """Lets devices in."""

    def __init__(
        self,
        node: str,
        devices: Devices,
        clock: Clock,
        limit: Buckets,
        proxies: Collection[str] = (),
    ) -> None:
        """Make the one gate of a node.

        Args:
            node: its name, for which requests must be signed.
            devices: those that may come in.
            clock: judges signatures.
            limit: counts requests by device.
            proxies: addresses whose X-Forwarded-For is believed.
        """
        self._proxies = frozenset(proxies)
        self._node = node
        self._devices = devices
        self._clock = clock
        self._limit = limit
        self._nonces = NonceCache()
        self._bodies = Held(BODIES, BODIES_EACH, "Too much is on its way already.")
        self._strangers = Buckets(
            UNSIGNED_RATE, UNSIGNED_BURST, "Too many requests from your address."
        )
        self._forged = Buckets(
            FORGED_RATE,
            FORGED_BURST,
            "Too many requests from your address are not signed, or not well.",
        )

    async def device(self, request: web.Request) -> Device:
        """The device that signed a request.

        Raises:
            Refused: it is not signed, or by nobody who may come in.
        """
        try:
            return await self._device(request)
        except Refused as error:
            if error.status == HTTPStatus.UNAUTHORIZED:
                self._forged.take(self.remote(request), self._clock())
            raise

    async def _device(self, request: web.Request) -> Device:
        signed = _signed(request)
        claim = read_claim(signed)
        device = await self._devices.get(claim.keyid)
        # Whoever says that it is this device is counted with its address; what is
        # the device's own is counted once it has proved itself.
        said = f"{device.address} {self.remote(request)}"
        self._limit.take(said, self._clock())
        await self._verify(request, signed, device.auth_key)
        prove(request)
        self._limit.take(device.address, self._clock())
        # Its body may have taken a minute, and the device may be revoked since.
        return await self._devices.get(claim.keyid)

    def stranger(self, request: web.Request) -> str:
        """Count a request from somebody we do not know yet.

        Returns:
            The address it comes from.

        Raises:
            TooMany: there were too many.
        """
        remote = self.remote(request)
        self._strangers.take(remote, self._clock())
        return remote

    def remote(self, request: web.Request) -> str:
        """Where a request comes from, for limits alone: an address, or an IPv6 /64.

        Of IPv6 everybody has at least a /64 (RFC 6177), with 2^64 addresses in it.

        Behind our own proxies it is the last address in X-Forwarded-For that is
        none of them: what stands before it, the client may have written itself.
        """
        address = request.remote or "unknown"
        if address not in self._proxies:
            return network_of(address)
        named = ",".join(request.headers.getall("X-Forwarded-For", []))
        for text in reversed(named.split(",")):
            try:
                address = str(ipaddress.ip_address(text.strip()))
            except ValueError:
                break
            if address not in self._proxies:
                break
        return network_of(address)

    def claim(self, request: web.Request) -> Claim:
        """What the signature says of itself: nothing in it is true yet.

        Raises:
            SignatureMissing, SignatureInvalid.
        """
        return read_claim(_signed(request))

    def once(self, who: str, nonce: str) -> None:
        """Take what proved itself in its body, once.

        Raises:
            Replayed, NodeBusy.
        """
        self._nonces.check(who, nonce, int(self._clock()))

    async def verify(self, request: web.Request, key: bytes) -> None:
        """Check a request's signature by a key that the request itself brought.

        Raises:
            Refused: it does not hold.
        """
        await self._verify(request, _signed(request), key)

    async def _verify(self, request: web.Request, signed: Request, key: bytes) -> None:
        with self._room(request, signed):
            body = await read_body(request)
        now = int(self._clock())
        claim = verify_request(
            signed, public_key=key, body=body, destination=self._node, now=now
        )
        self._nonces.check(claim.keyid, claim.nonce, now)

    def _room(
        self, request: web.Request, signed: Request
    ) -> AbstractContextManager[None]:
        """Room for a body; by address too, for the signature is not checked yet."""
        size = request.content_length
        if size is None:
            size = BODY_MAX if request.can_read_body else 0
        if size <= BODY_SMALL:
            return nullcontext()
        key = f"{read_claim(signed).keyid} {self.remote(request)}"
        return self._bodies.hold(key, min(size, BODY_MAX))


def _signed(request: web.Request) -> Request:
    """The request as it was on the wire, for its signature."""
    path, _, query = request.raw_path.partition("?")
    return Request(
        method=request.method,
        authority=request.headers.get("Host", ""),
        path=path,
        query=query,
        headers=tuple(request.headers.items()),
    )
