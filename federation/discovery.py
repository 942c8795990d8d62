"""From a node's name to its address and keys: `https://NAME/.well-known/telex`.

Two callers with different rights:

- `resolve`, before we ask or push: we choose the name, so a failed fetch is only
  remembered for seconds (a peer that starts up is found quickly);
- `key_for`, when a request comes in: a stranger chooses the name, so an origin costs
  at most one fetch a minute, all strangers together one a second, and a failure is a
  plain 401 with the seconds to wait.

A document is good for an hour, and for a week while its node cannot be reached;
fetches of one name never overlap.

What this does not protect: a stranger can make us send one small GET to a host of
its choice; nothing of the answer is shown to it.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from math import ceil
from typing import Final
from weakref import WeakValueDictionary

from federation.bucket import Buckets
from federation.pinning import PeerBook
from federation.policy import PeerPolicy
from federation.ports import Clock, PeerRecord
from protocol.errors import (
    IdentityError,
    PeerUnreachable,
    PeerUntrusted,
    Refused,
    UnknownKey,
)
from protocol.wire import NodeDocument

__all__ = ["Directory", "Fetch"]

Fetch = Callable[[str], Awaitable[NodeDocument]]
"""Gets a node's document; raises `Refused` when it cannot."""

FRESH: Final = 3600.0
"""Seconds that a document is used without asking again: a moved node and a revoked
key are found within the hour."""

STALE: Final = 7 * 24 * 3600.0
"""Seconds that it is used while the node's document cannot be had (Matrix's number
too): a broken web server must not cut a node off."""

STRANGER_EVERY: Final = 60.0
"""Seconds between two fetches from one origin that strangers can cause."""

STRANGERS_RATE: Final = 1.0
STRANGERS_BURST: Final = 30.0
"""Fetches a second that strangers can cause together: names cost them nothing."""

AGAIN_FIRST: Final = 1.0
AGAIN_MAX: Final = 60.0
"""Seconds that a failed fetch of our own is remembered: doubling to a minute."""

ATTEMPTS_MAX: Final = 10_000
"""Names of which attempts are remembered, about 2 MB."""


@dataclass(slots=True)
class _Attempts:
    """Fetches of one name: when, by whom, how often in vain."""

    at: float = float("-inf")
    stranger_at: float = float("-inf")
    fails: int = 0
    error: str = ""

    def wait(self, now: float, *, stranger: bool) -> float:
        """Seconds until the next fetch may be made; not positive: now."""
        if stranger:
            return _until(self.stranger_at, STRANGER_EVERY, now)
        if self.fails:
            pause = min(AGAIN_MAX, AGAIN_FIRST * 2.0 ** min(self.fails - 1, 10))
            return _until(self.at, pause, now)
        return _until(self.at, AGAIN_MAX, now)


class Directory:
    """Finds nodes and their keys."""

    def __init__(
        self, book: PeerBook, policy: PeerPolicy, fetch: Fetch, clock: Clock
    ) -> None:
        self._book = book
        self._policy = policy
        self._fetch = fetch
        self._clock = clock
        self._attempts: OrderedDict[str, _Attempts] = OrderedDict()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._strangers = Buckets(STRANGERS_RATE, STRANGERS_BURST, limit=1)

    async def resolve(self, name: str) -> PeerRecord:
        """Where a peer answers and with which keys, before something goes out.

        Raises:
            PeerBlocked: the policy keeps it out.
            PeerUnreachable: it has no document and we remember none.
            PeerUntrusted: its keys changed; everything is held.
            VersionUnsupported: we have no common version.
        """
        self._policy.check(name)
        record = await self._book.get(name)
        if record.trusted == "ok" and 0 <= self._age(record) < FRESH:
            return record
        try:
            return await self._refresh(name, stranger=False)
        except _TooSoon as limited:
            # Somebody else may have fetched it while we waited for our turn.
            record = await self._book.get(name)
            error: Refused = PeerUnreachable(
                limited.error, retry_after=ceil(limited.wait)
            )
        except PeerUnreachable as unreachable:
            error = unreachable
        if record.trusted == "changed":
            raise PeerUntrusted(name)
        if record.trusted == "ok" and self._age(record) < STALE:
            return record
        raise error

    async def refresh(self, name: str) -> None:
        """Look again, because an answer was signed with a key that is not pinned.

        Raises:
            Refused: as `resolve`; nothing is raised if the last look was just now.
        """
        try:
            await self._refresh(name, stranger=False)
        except _TooSoon:
            return

    async def key_for(self, origin: str, keyid: str) -> bytes:
        """The key with which a node signed a request that came in.

        Raises:
            UnknownKey: the node does not publish this key, or cannot be asked now.
            PeerUntrusted: its keys changed; nothing of it is taken in.
            TooMany: too many strangers at once.
        """
        record = await self._book.get(origin)
        key = self._match(record, keyid)
        if key is not None and 0 <= self._age(record) < FRESH:
            return key
        wait = STRANGER_EVERY
        try:
            await self._refresh(origin, stranger=True)
        except _TooSoon as limited:
            wait = limited.wait
        except PeerUntrusted:
            raise
        except (PeerUnreachable, Refused) as error:
            if error.code == "too_many":
                raise
        record = await self._book.get(origin)
        if record.trusted == "changed":
            raise PeerUntrusted()
        key = self._match(record, keyid)
        if key is not None and self._age(record) < STALE:
            return key
        raise UnknownKey(
            f"{origin} does not publish it, or could not be asked.",
            retry_after=max(1, ceil(wait)),
        )

    def _age(self, record: PeerRecord) -> float:
        return self._clock.time() - record.fetched_at

    def _match(self, record: PeerRecord, keyid: str) -> bytes | None:
        if record.trusted != "ok":
            return None
        try:
            identity = self._book.identity(record)
        except IdentityError:
            return None
        return identity.node_key if identity.keyid == keyid else None

    async def look(self, name: str) -> NodeDocument:
        """Fetch a node's document now, for an admin who decides to trust it."""
        return await self._fetch(name)

    async def _refresh(self, name: str, *, stranger: bool) -> PeerRecord:
        lock = self._locks.get(name)
        if lock is None:
            lock = self._locks[name] = asyncio.Lock()
        async with lock:
            attempts = self._attempts.pop(name, None) or _Attempts()
            self._attempts[name] = attempts
            if len(self._attempts) > ATTEMPTS_MAX:
                self._attempts.popitem(last=False)
            now = self._clock.time()
            wait = attempts.wait(now, stranger=stranger)
            if wait > 0:
                raise _TooSoon(wait, attempts.error)
            if stranger:
                self._strangers.take("", now)
                attempts.stranger_at = now
            attempts.at = now
            try:
                record = await self._book.pin(name, await self._fetch(name))
            except Refused as error:
                attempts.fails += 1
                attempts.error = str(error)
                raise
            attempts.fails, attempts.error = 0, ""
            return record


class _TooSoon(Exception):
    """The last fetch of this name is too near."""

    def __init__(self, wait: float, error: str) -> None:
        super().__init__()
        self.wait = wait
        self.error = error or "Its document was asked for a moment ago."


def _until(at: float, pause: float, now: float) -> float:
    """Seconds left of a pause; none after a clock was set back."""
    return at + pause - now if at <= now else 0.0
