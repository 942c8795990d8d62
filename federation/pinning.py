"""What we believe of other nodes: pins of their key logs, and their backoff.

Trust on first use: the first document of a node that we see is pinned, whole. Later
documents must begin with the same bytes and verify, so a rotation that the node
signed is taken silently, and anything else sets the peer to `changed`: nothing goes
out to it, nothing of it is taken in, and the admin is told loudly. TLS alone changes
no pin, because a network operator can obtain a certificate.

`PeerBook` is the one owner of `PeerRecord`s: every change is read, made and stored
under the peer's lock here.

What this does not protect: the very first contact, if TLS is broken just then.
"""

import asyncio
import logging
import random
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from weakref import WeakValueDictionary

from federation import retry
from federation.ports import Clock, PeerRecord, PeerStore
from protocol.address import parse_node
from protocol.errors import (
    AddressError,
    IdentityError,
    PeerUnreachable,
    PeerUntrusted,
    VersionUnsupported,
)
from protocol.node_identity import NodeIdentity, continues, read_node_log
from protocol.wire import VERSION, NodeDocument

__all__ = ["PeerBook", "base_authority"]

_log = logging.getLogger(__name__)

SEEN_EVERY = 60.0
"""Seconds between two writes of `last_seen`: it is for people, not worth a
transaction for each request."""

PIN_STEP = 0.001
"""Seconds by which a pin is at least younger than the one that it replaces."""

IDENTITIES_MAX = 1000
"""Key logs kept read: reading one costs a signature check for each revision."""

ERROR_MAX = 300
"""Characters of `last_error`; part of it may come from the peer."""


def base_authority(base_url: str) -> str:
    """The `host[:port]` of a node's base URL, as it stands in `Host`.

    Raises:
        AddressError: it is not `https://host[:port]` in its one spelling.
    """
    scheme, separator, authority = base_url.partition("://")
    if scheme != "https" or not separator:
        raise AddressError("A node's base URL begins with https://.")
    return parse_node(authority)


class PeerBook:
    """Reads and changes what is remembered of peers."""

    def __init__(
        self,
        store: PeerStore,
        clock: Clock,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._clock = clock
        self._jitter = jitter
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._identities: OrderedDict[tuple[str, tuple[bytes, ...]], NodeIdentity] = (
            OrderedDict()
        )

    def _lock(self, name: str) -> asyncio.Lock:
        lock = self._locks.get(name)
        if lock is None:
            lock = self._locks[name] = asyncio.Lock()
        return lock

    async def get(self, name: str) -> PeerRecord:
        """The record of a peer; an empty one if it was never met."""
        return await self._store.get_peer(name) or PeerRecord(name)

    async def known(self) -> list[PeerRecord]:
        """Every peer whose keys are pinned."""
        return [peer for peer in await self._store.list_peers() if peer.keys]

    def identity(self, record: PeerRecord) -> NodeIdentity:
        """The keys in force of a pinned peer.

        Raises:
            IdentityError: nothing is pinned, or the store gave back something else
                than what was pinned.
        """
        key = (record.name, record.keys)
        identity = self._identities.get(key)
        if identity is None:
            identity = read_node_log(record.name, list(record.keys))
            self._identities[key] = identity
            if len(self._identities) > IDENTITIES_MAX:
                self._identities.popitem(last=False)
        return identity

    # --- pins ----------------------------------------------------------------

    async def pin(self, name: str, document: NodeDocument) -> PeerRecord:
        """Take in a document that was just fetched from the node itself.

        Raises:
            PeerUnreachable: it is no usable document.
            VersionUnsupported: we have no common version.
            PeerUntrusted: it does not continue what is pinned; recorded.
        """
        _check_shape(name, document)
        async with self._lock(name):
            record = await self.get(name)
            try:
                identity = read_node_log(name, document.keys)
            except IdentityError as error:
                if not record.keys:
                    raise PeerUnreachable(str(error)) from error
                identity = None
            if identity is None or not continues(list(record.keys), document.keys):
                await self._hold(record)
            return await self._accept(record, document, identity)

    async def repin(self, name: str, document: NodeDocument) -> PeerRecord:
        """Pin a document in place of what was pinned: an admin's decision.

        Raises:
            PeerUnreachable: it is no usable document.
        """
        _check_shape(name, document)
        async with self._lock(name):
            try:
                identity = read_node_log(name, document.keys)
            except IdentityError as error:
                raise PeerUnreachable(str(error)) from error
            # Never older than the pin it replaces, whatever the clock did: a store
            # that two processes write tells by this which pin is the newer.
            before = (await self.get(name)).pinned_at
            pinned_at = max(self._clock.time(), before + PIN_STEP)
            record = PeerRecord(name, pinned_at=pinned_at)
            return await self._accept(record, document, identity)

    async def _hold(self, record: PeerRecord) -> None:
        """Hold all traffic of a peer, record why and refuse."""
        reason = (
            "Its keys changed without a signature of the old ones; nothing is sent "
            "or taken until its admin restores them or you accept them."
        )
        if record.trusted != "changed":
            _log.error("peer %s: %s", record.name, reason)
        await self._store.store_peer(
            replace(record, trusted="changed", last_error=reason)
        )
        raise PeerUntrusted(record.name)

    async def _accept(
        self, record: PeerRecord, document: NodeDocument, identity: NodeIdentity | None
    ) -> PeerRecord:
        assert identity is not None
        now = self._clock.time()
        if not record.keys:
            _log.info("peer %s: pinned %s", record.name, identity.keyid)
        elif record.trusted == "changed":
            _log.warning("peer %s: shows its pinned keys again", record.name)
        elif len(document.keys) > len(record.keys):
            _log.info("peer %s: signed rotation to %s", record.name, identity.keyid)
        changed = replace(
            record,
            base_url=document.base_url,
            keys=tuple(document.keys),
            pinned_at=record.pinned_at or now,
            fetched_at=now,
            trusted="ok",
            last_error="" if record.trusted == "changed" else record.last_error,
        )
        await self._store.store_peer(changed)
        return changed

    # --- backoff -------------------------------------------------------------

    async def failed(
        self,
        name: str,
        error: str,
        failure: retry.Failure,
        retry_after: float | None = None,
    ) -> PeerRecord:
        """Note a failed attempt; the record says when to try next."""
        async with self._lock(name):
            record = await self.get(name)
            now = self._clock.time()
            since = record.failing_since if record.fails else now
            # A clock that was set back must not make the peer look newly lost.
            since = min(since, now)
            fails = record.fails + 1
            wait = retry.delay(fails, now - since, self._jitter(), failure, retry_after)
            record = replace(
                record,
                fails=fails,
                failing_since=since,
                next_try=now + wait,
                last_error=error[:ERROR_MAX],
            )
            await self._store.store_peer(record)
            return record

    async def succeeded(self, name: str) -> None:
        """Note that the peer answered: the ladder begins anew."""
        await self._seen(name, forgive=True)

    async def heard(self, name: str) -> None:
        """Note that a request of the peer verified; its backoff stays."""
        await self._seen(name, forgive=False)

    async def _seen(self, name: str, *, forgive: bool) -> None:
        async with self._lock(name):
            record = await self.get(name)
            now = self._clock.time()
            changed = record
            if abs(now - record.last_seen) >= SEEN_EVERY:
                changed = replace(changed, last_seen=now)
            if forgive and (record.fails or record.last_error):
                changed = replace(
                    changed,
                    fails=0,
                    failing_since=0,
                    next_try=0,
                    last_error="",
                    last_seen=now,
                )
            if changed != record:
                await self._store.store_peer(changed)


def _check_shape(name: str, document: NodeDocument) -> None:
    if document.name != name:
        raise PeerUnreachable(f"What answers for {name} is another node.")
    try:
        base_authority(document.base_url)
    except AddressError as error:
        raise PeerUnreachable(f"The document of {name} is wrong: {error}") from error
    if VERSION not in document.versions:
        raise VersionUnsupported(f"{name} does not speak version {VERSION}.")
