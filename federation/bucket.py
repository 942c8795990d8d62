"""Token buckets: how much of something each peer may ask, with bursts.

Pure arithmetic over a time that comes in. The table of buckets is bounded: a full
bucket carries no information, so the least recently used ones are let go.
"""

from collections import OrderedDict
from dataclasses import dataclass
from math import ceil

from protocol.errors import TooMany

__all__ = ["Buckets"]

BUCKETS_MAX = 10_000
"""Buckets in one table, 2 MB; more peers than that at once share the loss that the
oldest start again with a full burst."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class Buckets:
    """A bucket for each key, each with the same rate and burst."""

    def __init__(self, rate: float, burst: float, limit: int = BUCKETS_MAX) -> None:
        self._rate = rate
        self._burst = burst
        self._limit = limit
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, key: str, now: float) -> None:
        """Take one token.

        Raises:
            TooMany: there is none; says how many seconds to wait.
        """
        bucket = self._buckets.pop(key, None) or _Bucket(self._burst, now)
        self._buckets[key] = bucket
        if len(self._buckets) > self._limit:
            self._buckets.popitem(last=False)
        # A clock that was set back gives nothing, and takes nothing away.
        gained = max(0.0, now - bucket.at) * self._rate
        bucket.tokens = min(self._burst, bucket.tokens + gained)
        bucket.at = now
        if bucket.tokens < 1:
            wait = (1 - bucket.tokens) / self._rate
            raise TooMany(retry_after=ceil(wait))
        bucket.tokens -= 1
