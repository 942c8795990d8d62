"""Who of a room's members does what any of them could do.

A wish to leave, or a device that asks to be let in, needs a commit by somebody. All
members order themselves by a hash of epoch and leaf, and the first acts at once, the
next two seconds later and so on: whoever sees that it was done does nothing. Two who
act at once cost one lost race, never a wrong group.
"""

from collections.abc import Collection
from hashlib import sha256

from e2ee import Group

__all__ = ["STEP", "delay_for"]

STEP = 2.0
"""Seconds from one rank to the next: a commit over a slow line, and its echo."""

DELAY_MAX = 60.0
"""Seconds after which everybody tries: the first thirty may all be away."""


def delay_for(group: Group, *, without: Collection[int] = ()) -> float:
    """Seconds that this device waits before it does what any member could do.

    Args:
        group: the group as it is now.
        without: leaves that cannot do it themselves.
    """
    own = _rank(group.epoch, group.own_leaf)
    before = sum(
        1
        for member in group.members()
        if member.leaf not in without and _rank(group.epoch, member.leaf) < own
    )
    return min(DELAY_MAX, STEP * before)


def _rank(epoch: int, leaf: int) -> bytes:
    return sha256(f"{epoch} {leaf}".encode()).digest()
