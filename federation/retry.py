"""When to try an unreachable peer again: a pure function from failures to a delay.

The delay doubles from a second, is drawn between nothing and that ceiling ("full
jitter": peers of a node that fell over do not all come back in the same moment),
and its ceiling is capped by how long the peer has been away: minutes in the first
hour, one probe a day after a week. Nothing is ever given up, because nothing is
lost by waiting: the log stays where it is and is read again from the cursor. A
`hello` of the peer ends the wait at once, so a long ceiling costs little.

No clock and no random source here; both come in as arguments.
"""

from enum import Enum
from typing import Final

__all__ = ["Failure", "ceiling", "delay"]

FIRST: Final = 1.0
"""Seconds: a restart of a peer behind its proxy takes about as long."""

FIRST_REFUSED: Final = 300.0
"""Seconds: a peer that answers, but refuses us (401, 403, an untrusted key), waits
for a human or a key cache; asking each second helps neither."""

LEAST: Final = 0.2
"""Seconds that are always waited, however the jitter falls."""

CAPS: Final = (
    (3600.0, 300.0),
    (24 * 3600.0, 900.0),
    (7 * 24 * 3600.0, 3600.0),
)
"""(away for less than, cap), in seconds: within an hour it is a reboot, so people
wait for it; within a day an outage; within a week a holiday."""

DAILY: Final = 24 * 3600.0
"""Seconds between probes of a peer that has been away for more than a week."""

DAILY_SPREAD: Final = 0.1
"""The share of a day by which daily probes are spread: full jitter would make two
probes a day of one."""

RETRY_AFTER_MAX: Final = 24 * 3600.0
"""Seconds: what a peer may ask us to wait at most."""

LONGEST: Final = RETRY_AFTER_MAX * (1 + DAILY_SPREAD)
"""Seconds beyond which no delay of this module goes."""

_DOUBLINGS_MAX: Final = 20
"""2^20 s is beyond every cap; keeps the power small."""


class Failure(Enum):
    """What kind of failure an attempt met."""

    UNREACHABLE = FIRST
    """No answer, a 5xx, a 429, an answer that makes no sense."""
    REFUSED = FIRST_REFUSED
    """It answered that it will not talk to us, or its key cannot be trusted."""


def ceiling(fails: int, away: float, failure: Failure = Failure.UNREACHABLE) -> float:
    """The longest delay after so many failures.

    Args:
        fails: failures in a row, this one included.
        away: seconds since the first of them.
        failure: of what kind the last one was.
    """
    for limit, cap in CAPS:
        if away < limit:
            doublings = min(max(fails - 1, 0), _DOUBLINGS_MAX)
            return min(failure.value * 2.0**doublings, cap)
    return DAILY


def delay(
    fails: int,
    away: float,
    jitter: float,
    failure: Failure = Failure.UNREACHABLE,
    retry_after: float | None = None,
) -> float:
    """Seconds to wait before the next attempt.

    Args:
        fails: failures in a row, this one included.
        away: seconds since the first of them.
        jitter: random, 0 to 1.
        failure: of what kind the last one was.
        retry_after: what the peer asked for; it is never less than that (up to a
            day), and for a refusal it takes the ladder's place: the peer knows
            when its answer changes.
    """
    top = ceiling(fails, away, failure)
    if top == DAILY:
        drawn = DAILY * (1 - DAILY_SPREAD * jitter)
    else:
        drawn = max(LEAST, top * jitter)
    if retry_after is None:
        return drawn
    asked = min(max(retry_after, LEAST), RETRY_AFTER_MAX)
    if failure is Failure.REFUSED:
        return asked * (1 + DAILY_SPREAD * jitter)
    return max(drawn, asked)
