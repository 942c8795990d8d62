"""The nonce cache: once, bounded, and failing closed."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import NodeBusy, Refused, Replayed
from protocol.limits import CLOCK_FUTURE
from protocol.replay import KEY_SHARE, NONCES_MAX, REMEMBERED, NonceCache
from protocol.signature import LIFETIME_MAX

NOW = 1_800_000_000


def test_accepts_a_nonce_once() -> None:
    cache = NonceCache()
    cache.check("k", "n", NOW)
    for later in (0, 1, 60, REMEMBERED - 1):
        with pytest.raises(Replayed) as caught:
            cache.check("k", "n", NOW + later)
    assert (caught.value.code, caught.value.status) == ("replayed", 401)


def test_a_nonce_belongs_to_its_key() -> None:
    cache = NonceCache()
    for keyid, nonce in (("k", "n"), ("j", "n"), ("k", "m"), ("kn", ""), ("", "kn")):
        cache.check(keyid, nonce, NOW)
    assert len(cache) == 5


def test_a_refused_replay_does_not_prolong_the_memory() -> None:
    cache = NonceCache()
    cache.check("k", "n", NOW)
    with pytest.raises(Replayed):
        cache.check("k", "n", NOW + REMEMBERED - 1)
    cache.check("k", "n", NOW + REMEMBERED)


def test_remembers_longer_than_a_signature_can_live() -> None:
    assert REMEMBERED > LIFETIME_MAX + CLOCK_FUTURE


def test_full_cache_refuses_and_recovers() -> None:
    cache = NonceCache(limit=8)
    for number in range(8):
        cache.check(f"k{number}", "n", NOW + number)
    with pytest.raises(NodeBusy) as caught:
        cache.check("other", "n", NOW + 10)
    assert caught.value.retry_after == REMEMBERED - 10
    with pytest.raises(Replayed):  # what it holds is still known
        cache.check("k0", "n", NOW + 10)
    assert len(cache) == 8
    cache.check("other", "n", NOW + REMEMBERED)


def test_one_key_cannot_shut_out_the_others() -> None:
    cache = NonceCache(limit=40)
    for number in range(40 // KEY_SHARE):
        cache.check("greedy", str(number), NOW)
    with pytest.raises(NodeBusy):
        cache.check("greedy", "more", NOW)
    cache.check("modest", "n", NOW)
    cache.check("greedy", "more", NOW + REMEMBERED)


def test_a_refused_nonce_is_not_remembered() -> None:
    cache = NonceCache(limit=4)
    cache.check("k", "a", NOW)
    with pytest.raises(NodeBusy):
        cache.check("k", "b", NOW)
    assert len(cache) == 1


def test_a_clock_that_steps_back_forgets_nothing() -> None:
    cache = NonceCache()
    cache.check("k", "n", NOW)
    cache.check("k", "m", NOW - 300)
    for nonce in ("n", "m"):
        with pytest.raises(Replayed):
            cache.check("k", nonce, NOW - 300)


def test_old_nonces_leave_no_trace() -> None:
    cache = NonceCache()
    for number in range(1000):
        cache.check(f"k{number}", "n", NOW)
    for number in range(100):
        cache.check("k", str(number), NOW + REMEMBERED + 1)
    assert len(cache) == 100
    assert cache._held == {"k": 100}


def test_quiet_hours_do_not_make_one_call_slow() -> None:
    cache = NonceCache()
    for number in range(100_000):
        cache.check(f"k{number % 10}", str(number), NOW)
    start = time.perf_counter()
    cache.check("k", "n", NOW + 86_400)
    assert time.perf_counter() - start < 0.01


def test_the_limit_holds_a_busy_node_for_ten_minutes() -> None:
    assert NONCES_MAX / REMEMBERED > 800


@given(
    st.lists(
        st.tuples(st.sampled_from("kj"), st.integers(0, 6), st.integers(0, 200)),
        max_size=60,
    )
)
def test_against_a_model(calls: list[tuple[str, int, int]]) -> None:
    """Never accepted twice within ten minutes, never more than the limit."""
    cache, now = NonceCache(limit=8), NOW
    accepted: dict[tuple[str, str], int] = {}
    for keyid, nonce, step in calls:
        now += step
        entry = (keyid, str(nonce))
        seen = entry in accepted and now - accepted[entry] < REMEMBERED
        try:
            cache.check(*entry, now)
        except Refused as error:
            assert isinstance(error, Replayed) is seen
        else:
            assert not seen
            accepted[entry] = now
        assert len(cache) <= 8
