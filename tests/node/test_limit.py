"""Buckets and the log-in guard: pure, with time as an argument."""

import pytest

from node.limit import Buckets, Held, LoginGuard
from protocol.errors import NodeBusy, TooMany


def test_a_bucket_refills_at_its_rate() -> None:
    buckets = Buckets(rate=2, burst=3, what="")
    for _ in range(3):
        buckets.take("a", 10.0)
    with pytest.raises(TooMany) as caught:
        buckets.take("a", 10.0)
    assert caught.value.retry_after == 1
    buckets.take("b", 10.0)
    buckets.take("a", 10.5)
    with pytest.raises(TooMany):
        buckets.take("a", 10.5)
    # A clock that goes back gives nothing and takes nothing.
    with pytest.raises(TooMany):
        buckets.take("a", 5.0)


def test_a_large_request_passes_a_full_bucket() -> None:
    buckets = Buckets(rate=1, burst=5, what="")
    buckets.take("a", 0, 8)
    with pytest.raises(TooMany) as caught:
        buckets.take("a", 0, 1)
    assert caught.value.retry_after == 4


def test_strangers_cost_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.limit.KEYS_MAX", 10)
    buckets, guard = Buckets(1, 1, ""), LoginGuard(1)
    for number in range(100):
        buckets.take(str(number), 0)
        guard.failed((str(number),), 0)
    assert len(buckets._levels) <= 10
    assert len(guard._failures) <= 10


def test_each_failure_doubles_the_wait() -> None:
    guard, key = LoginGuard(free=2), ("alice",)
    now, waits = 0.0, []
    for _ in range(16):
        guard.failed(key, now)
        try:
            guard.check(key, now)
            waits.append(0)
        except TooMany as error:
            assert error.retry_after is not None
            waits.append(error.retry_after)
            now += error.retry_after
    assert waits[:6] == [0, 0, 1, 2, 4, 8]
    assert waits[-1] == LoginGuard.WAIT_MAX
    guard.succeeded(key)
    guard.failed(key, now)
    guard.check(key, now)


def test_what_is_held_is_bounded_in_all_and_by_key() -> None:
    held = Held(total=10, each=6, what="")
    with held.hold("a", 4), held.hold("b", 5):
        with pytest.raises(TooMany), held.hold("a", 3):
            pytest.fail("a holds too much")
        with pytest.raises(NodeBusy), held.hold("a", 2):
            pytest.fail("all hold too much")
        with held.hold("a", 1):
            pass
    with held.hold("a", 6):
        pass
    with pytest.raises(ValueError), held.hold("b", 6):
        raise ValueError
    with held.hold("b", 6):
        pass
