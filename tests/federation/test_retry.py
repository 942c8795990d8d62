"""The ladder of retries, as arithmetic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation import retry
from federation.retry import Failure, ceiling, delay

HOUR = 3600.0
DAY = 24 * HOUR


@pytest.mark.parametrize(
    ("fails", "away", "expected"),
    [
        (1, 0, 1),
        (2, 1, 2),
        (5, 20, 16),
        (9, 500, 256),
        (10, 900, 300),
        (500, 3599, 300),
        (500, HOUR, 900),
        (500, DAY, 3600),
        (500, 7 * DAY, DAY),
    ],
)
def test_the_ceiling_doubles_and_is_capped_by_age(
    fails: int, away: float, expected: float
) -> None:
    assert ceiling(fails, away) == expected


def test_a_refusal_begins_at_five_minutes() -> None:
    assert ceiling(1, 0, Failure.REFUSED) == 300
    assert ceiling(3, 2 * HOUR, Failure.REFUSED) == 900


def test_jitter_is_full_but_never_nothing() -> None:
    assert delay(6, 30, 0.5) == 16
    assert delay(6, 30, 0.0) == retry.LEAST


def test_daily_probes_stay_near_a_day() -> None:
    assert delay(99, 8 * DAY, 0.0) == DAY
    assert delay(99, 8 * DAY, 1.0) == pytest.approx(0.9 * DAY)


def test_retry_after_is_honoured_up_to_a_day() -> None:
    assert delay(1, 0, 0.5, retry_after=40) == 40
    assert delay(9, 500, 1.0, retry_after=40) == 256
    assert delay(1, 0, 0.5, retry_after=10 * DAY) == DAY
    assert delay(1, 0, 0.0, Failure.REFUSED, retry_after=40) == 40


@given(
    st.integers(1, 10_000),
    st.floats(0, 1e9),
    st.floats(0, 1),
    st.sampled_from(Failure),
    st.none() | st.floats(-1e9, 1e9),
)
def test_every_delay_is_positive_and_below_the_longest(
    fails: int,
    away: float,
    jitter: float,
    failure: Failure,
    retry_after: float | None,
) -> None:
    wait = delay(fails, away, jitter, failure, retry_after)
    assert retry.LEAST <= wait <= retry.LONGEST


@given(st.integers(1, 100), st.floats(0, 1e7))
def test_the_ceiling_never_falls_as_failures_and_time_go_on(
    fails: int, away: float
) -> None:
    assert ceiling(fails + 1, away + 1) >= ceiling(fails, away)
