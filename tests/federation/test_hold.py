"""Holds of single logs."""

from federation.hold import Holds
from protocol.log import LogId

A, B = LogId("a" * 52), LogId("b" * 52)


def test_a_refused_log_waits_longer_each_time_and_alone() -> None:
    holds = Holds()
    waits = []
    now = 0.0
    for _ in range(5):
        holds.refused(A, now, 1.0)
        wait = holds.next_end(now)
        assert wait is not None and holds.active(now) == {A}
        waits.append(wait)
        now += wait
        assert holds.active(now) == set()
    assert waits == [1, 2, 4, 8, 16]


def test_going_back_once_is_followed_at_once() -> None:
    holds = Holds()
    holds.acked(A, after=100, seq=5, now=0.0, jitter=1.0)
    assert holds.active(0.0) == set()
    holds.acked(A, after=5, seq=60, now=0.0, jitter=1.0)
    holds.acked(A, after=60, seq=101, now=0.0, jitter=1.0)
    holds.acked(A, after=101, seq=50, now=0.0, jitter=1.0)
    assert holds.active(0.0) == set()


def test_going_back_and_forth_is_followed_more_and_more_slowly() -> None:
    holds = Holds()
    waits = []
    now = 0.0
    for _ in range(6):
        holds.acked(A, after=10, seq=5, now=now, jitter=1.0)
        waits.append(holds.next_end(now) or 0.0)
        now += waits[-1]
        holds.acked(A, after=5, seq=10, now=now, jitter=1.0)
    assert waits == [0, 2, 4, 8, 16, 32]


def test_no_progress_is_a_hold() -> None:
    holds = Holds()
    holds.acked(B, after=10, seq=10, now=0.0, jitter=1.0)
    assert holds.active(0.5) == {B}
    holds.clear()
    assert holds.active(0.5) == set()
    assert holds.next_end(0.5) is None
