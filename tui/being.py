"""Whether people are there, in a sign and in words; and who types.

The signs differ by shape, so that nothing depends on colour, and each takes one cell.
Nothing is drawn where nothing is known.
"""

import time
from collections.abc import Sequence

from client.model import PersonPresence
from tui.cells import cell_len, one_line
from tui.layout import clock, person
from tui.text import say

__all__ = ["COLOURS", "SIGNS", "being", "typing_text", "word"]

SIGNS = {"online": "●", "away": "◐", "dnd": "⊘", "offline": "○"}

COLOURS = {
    "online": "$success",
    "away": "$warning",
    "dnd": "$error",
    "offline": "$quiet",
}

MINUTE, HOUR, DAY = 60, 3600, 24 * 3600

NAMED = 2
"""People who type that are named; more are counted."""


def word(presence: PersonPresence, now: float | None = None) -> str:
    """`online`, `last seen 5 min ago`; empty if nothing is known.

    Args:
        presence: of somebody.
        now: seconds since 1970.
    """
    if presence.state == "unknown":
        return ""
    if presence.state != "offline" or not presence.since:
        return say(f"being.{presence.state}")
    ago = max(0, int((time.time() if now is None else now) - presence.since))
    if ago < MINUTE:
        return say("being.seen.now")
    if ago < HOUR:
        return say("being.seen.minutes", count=ago // MINUTE)
    if ago < DAY:
        return say("being.seen.hours", count=ago // HOUR)
    day = f"{clock(presence.since * 1000):%Y-%m-%d}"
    return say("being.seen.day", day=day)


def being(presence: PersonPresence) -> str:
    """The sign and the word; empty if nothing is known."""
    text = word(presence)
    return f"{SIGNS[presence.state]} {text}" if text else ""


def typing_text(accounts: Sequence[str], node: str, width: int) -> str:
    """Who types, in as many cells; empty if nobody does."""
    if not accounts:
        return ""
    names = [one_line(person(account, node)[0]) for account in accounts]
    many = say("typing.many", count=len(names))
    if len(names) > NAMED:
        return many if cell_len(many) <= width else ""
    key = "typing.one" if len(names) == 1 else "typing.two"
    text = say(key, who=names[0], other=names[-1])
    if cell_len(text) <= width:
        return text
    short = say("typing.short") if len(names) == 1 else many
    return short if cell_len(short) <= width else ""
