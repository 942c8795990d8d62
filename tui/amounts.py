"""Times and sizes as people read them."""

from tui.text import say

__all__ = ["DAY", "HOUR", "size", "span"]

HOUR, DAY = 3600, 86400
"""Seconds."""


def span(seconds: int) -> str:
    """`off`, `1 hour`, `7 days`: whole days where it is some, else hours, minutes."""
    if seconds <= 0:
        return say("timer.off")
    for unit, name in ((DAY, "day"), (HOUR, "hour"), (60, "minute")):
        if seconds % unit == 0:
            count = seconds // unit
            return say(f"timer.{name}" if count == 1 else f"timer.{name}s", count=count)
    return say("timer.seconds", count=seconds)


def size(count: int) -> str:
    """Bytes as people read them."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return (
        f"{value:.0f} {unit}" if unit == "B" or value >= 10 else f"{value:.1f} {unit}"
    )
