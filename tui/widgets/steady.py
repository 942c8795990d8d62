"""Text that is told often and is seldom another."""

from textual.content import Content
from textual.widgets import Static

__all__ = ["redraw"]


def redraw(widget: Static, text: Content) -> None:
    """Show a text; a layout of the whole screen only if its height may change.

    A layout draws the screen anew, and the picture on it: once a second, for a clock
    that went on, it took a third of what the interface costs in a call.
    """
    before = widget.content
    if isinstance(before, Content) and before.is_same(text):
        return
    widget.update(text, layout=not _as_high(before, text, widget.size.width))


def _as_high(before: object, after: Content, width: int) -> bool:
    """Whether both have as many rows, none of which is wrapped."""
    if not isinstance(before, Content):
        return False
    old, new = before.split("\n"), after.split("\n")
    widest = max(line.cell_length for line in (*old, *new))
    return len(old) == len(new) and widest <= width
