"""How much one knows of a person's keys: a sign, a word and a colour.

The sign and the word say the same, so that nothing depends on colour; where there
is no room for the word the sign's shape is enough: full, hollow, a triangle.
"""

from client.model import Trust
from tui.text import say

__all__ = ["COLOURS", "SIGNS", "badge", "word"]

SIGNS = {Trust.VERIFIED: "◆", Trust.UNVERIFIED: "◇", Trust.CHANGED: "▲"}

COLOURS = {
    Trust.VERIFIED: "$success",
    Trust.UNVERIFIED: "$quiet",
    Trust.CHANGED: "$error",
}


def word(trust: Trust) -> str:
    """`verified`, `unverified` or `key changed`."""
    return say(f"trust.{trust.value}")


def badge(trust: Trust) -> str:
    """The sign and the word."""
    return f"{SIGNS[trust]} {word(trust)}"
