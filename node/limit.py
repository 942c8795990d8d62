"""Limits on how often and how much: token buckets, the log-in's growing wait, and what
is held at one time.

Pure: time comes in as an argument. The first two forget what is quiet, and hold a
bounded number of keys, so that counting strangers costs a bounded amount of memory.
"""

import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil

from protocol.errors import NodeBusy, TooMany

__all__ = ["Buckets", "Held", "LoginGuard", "network_of"]

KEYS_MAX = 50_000
"""Keys that are counted at one time, in some 10 MB; the quietest is forgotten."""


class Buckets:
    """A token bucket for each key: `rate` a second, `burst` at once."""

    def __init__(self, rate: float, burst: float, what: str) -> None:
        """`what` completes the sentence "Too many ...; wait and try again"."""
        self._rate = rate
        self._burst = burst
        self._what = what
        self._levels: OrderedDict[str, list[float]] = OrderedDict()

    def take(self, key: str, now: float, amount: float = 1) -> None:
        """Take from the key's bucket.

        Raises:
            TooMany: it is empty; says how many seconds to wait.
        """
        bucket = self._levels.get(key)
        if bucket is None:
            bucket = self._levels[key] = [self._burst, now]
            if len(self._levels) > KEYS_MAX:
                self._levels.popitem(last=False)
        else:
            self._levels.move_to_end(key)
        level, at = bucket
        if now > at:
            level = min(self._burst, level + (now - at) * self._rate)
        # A single request larger than the bucket passes when the bucket is full.
        needed = amount if amount < self._burst else self._burst
        allowed = level >= needed
        bucket[0], bucket[1] = level - amount if allowed else level, now
        if not allowed:
            wait = (needed - level) / self._rate
            raise TooMany(self._what, retry_after=max(1, ceil(wait)))


class Held:
    """How much of something is held at one time, in all and by each key."""

    def __init__(self, total: int, each: int, what: str) -> None:
        """`what` completes the sentence "Too many requests; wait and try again"."""
        self._total = total
        self._each = each
        self._what = what
        self._held: Counter[str] = Counter()
        self._sum = 0

    @contextmanager
    def hold(self, key: str, amount: int) -> Iterator[None]:
        """Hold so much more, until the end of the block.

        Raises:
            TooMany: this key holds too much already.
            NodeBusy: all keys together do.
        """
        if self._held[key] + amount > self._each:
            raise TooMany(self._what, retry_after=1)
        if self._sum + amount > self._total:
            raise NodeBusy(self._what, retry_after=1)
        self._held[key] += amount
        self._sum += amount
        try:
            yield
        finally:
            self._sum -= amount
            self._held[key] -= amount
            if self._held[key] <= 0:
                del self._held[key]


@dataclass(slots=True)
class _Failures:
    count: int
    until: float


class LoginGuard:
    """Doubles the wait with each failed log-in of an account or from an address.

    The first `free` failures cost nothing; then 1 s, 2 s, 4 s ... up to an hour.
    Success forgets. It lives in memory: a restart forgives, and an admin who
    restarts every few seconds has other troubles.
    """

    WAIT_MAX = 3600
    """Seconds: a locked-out owner waits no longer than this."""

    FORGET = 24 * 3600
    """Seconds after which failures no longer count."""

    def __init__(self, free: int) -> None:
        self._free = free
        self._failures: OrderedDict[str, _Failures] = OrderedDict()

    def check(self, keys: tuple[str, ...], now: float) -> None:
        """Refuse while one of the keys has to wait.

        Raises:
            TooMany: says for how many seconds.
        """
        wait = 0.0
        for key in keys:
            if found := self._failures.get(key):
                wait = max(wait, found.until - now)
        if wait > 0:
            raise TooMany("Too many failed log-ins.", retry_after=ceil(wait))

    def failed(self, keys: tuple[str, ...], now: float) -> None:
        """Count a failure of each key."""
        for key in keys:
            found = self._failures.pop(key, None)
            if found is None or now - found.until > self.FORGET:
                found = _Failures(0, now)
            found.count += 1
            beyond = found.count - self._free
            if beyond > 0:
                found.until = now + min(self.WAIT_MAX, 2.0 ** min(beyond - 1, 20))
            else:
                found.until = now
            self._failures[key] = found
            if len(self._failures) > KEYS_MAX:
                self._failures.popitem(last=False)

    def succeeded(self, keys: tuple[str, ...]) -> None:
        """Forget the failures of each key."""
        for key in keys:
            self._failures.pop(key, None)


def network_of(address: str) -> str:
    """What one customer of a network has: an IPv4 address, or an IPv6 /64."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found.packed[:8] + bytes(8), 64)))
