"""Token buckets."""

import pytest

from federation.bucket import Buckets
from protocol.errors import TooMany


def test_a_burst_then_the_rate() -> None:
    buckets = Buckets(rate=2, burst=3)
    for _ in range(3):
        buckets.take("a", 100.0)
    with pytest.raises(TooMany) as refused:
        buckets.take("a", 100.0)
    assert refused.value.retry_after == 1
    buckets.take("a", 100.5)
    with pytest.raises(TooMany):
        buckets.take("a", 100.5)
    buckets.take("b", 100.5)


def test_a_clock_that_is_set_back_gives_nothing_and_takes_nothing() -> None:
    buckets = Buckets(rate=1, burst=2)
    buckets.take("a", 1000.0)
    buckets.take("a", 0.0)
    with pytest.raises(TooMany):
        buckets.take("a", 0.0)
    buckets.take("a", 1.0)


def test_the_table_is_bounded() -> None:
    buckets = Buckets(rate=1, burst=1, limit=100)
    for n in range(1000):
        buckets.take(str(n), 0.0)
    assert len(buckets._buckets) == 100
