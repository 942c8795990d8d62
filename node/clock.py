"""The node's clock, handed to whoever needs the time so that tests can set it."""

import time
from collections.abc import Callable

__all__ = ["Clock", "system_clock"]

Clock = Callable[[], float]
"""Gives unix seconds."""


def system_clock() -> float:
    """The machine's clock."""
    return time.time()
