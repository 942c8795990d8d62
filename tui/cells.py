"""Text from outside, made safe to draw, and measured in terminal cells.

Everything that another person wrote passes `literal` before it reaches the screen:
nothing in it may move the cursor, change the direction of its neighbours, hide, or
take another number of cells on one terminal than on the next. Terminals disagree
about joined emoji, skin tones and variation selectors, so those are drawn as their
parts; what is stored, sent, quoted and copied stays as it was.
"""

import re
from collections.abc import Iterator

from rich.cells import cell_len, set_cell_size, split_graphemes

__all__ = ["ELLIPSIS", "cell_len", "fit", "literal", "one_line", "pad", "wrap"]

ELLIPSIS = "…"
TAB_CELLS = 4
MARKS_MAX = 6
"""Combining marks on one letter: Vietnamese needs 2, pointed Hebrew 4; a tower of
fifty draws over the lines above."""

_PLAIN = re.compile(r"[ -~\n]*", re.ASCII)
# Bidi embeddings, isolates and marks; joiners; invisible spaces, operators and
# fillers; variation selectors; tags; skin tones (see the module's docstring).
_DROPPED = re.compile(
    "[\u061c\u200b\u200d-\u200f\u202a-\u202c\u2060-\u2064\u2066-\u206f\ufeff"
    "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\uffa0"
    "\ufe00-\ufe0f\U000e0000-\U000e0fff\U0001f3fb-\U0001f3ff]"
)
_NEWLINE = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
# What is left of the controls, forced directions, lone surrogates and
# non-characters is shown, so that nobody can hide behind it.
_SHOWN = re.compile(
    "[\x00-\x09\x0e-\x1f\x7f-\x9f\u202d\u202e\ud800-\udfff\ufffe\uffff]"
)
_OPENING = "（［｛「『《〈【“‘"
_CLOSING = "，。、；：？！）］｝」』》〉】”’…"


def literal(text: str) -> str:
    """The text as it may be drawn: its letters, newlines, and nothing that acts."""
    if _PLAIN.fullmatch(text):
        return text
    text = _NEWLINE.sub("\n", text)
    text = _DROPPED.sub("", text)
    text = _SHOWN.sub(lambda found: _picture(found[0]), text)
    return _fewer_marks(text)


def _picture(char: str) -> str:
    code = ord(char)
    if char == "\t":
        return " " * TAB_CELLS
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else "\ufffd"


def _fewer_marks(text: str) -> str:
    if text.isascii():
        return text
    kept: list[str] = []
    marks = 0
    for char in text:
        marks = marks + 1 if char != "\n" and cell_len(char) == 0 else 0
        if marks <= MARKS_MAX:
            kept.append(char)
    return "".join(kept)


def one_line(text: str) -> str:
    """The text made literal, with its line breaks and runs of space as one space."""
    return " ".join(literal(text[:2000]).split())


def fit(text: str, width: int) -> str:
    """Exactly `width` cells: padded, or cut with an ellipsis."""
    if width <= 0:
        return ""
    if cell_len(text) <= width:
        return pad(text, width)
    return pad(set_cell_size(text, width - 1).rstrip() + ELLIPSIS, width)


def pad(text: str, width: int) -> str:
    """The text filled up with spaces to `width` cells."""
    return text + " " * max(0, width - cell_len(text))


def wrap(text: str, width: int) -> list[str]:
    """Break literal text into lines of at most `width` cells, between words.

    Wide (East Asian) characters may part anywhere but before a closing or after an
    opening mark; a word longer than the line is cut. Spaces at the start of a line
    are kept, so that code keeps its shape.
    """
    width = max(2, width)
    lines: list[str] = []
    for paragraph in text.split("\n"):
        if cell_len(paragraph) <= width:
            lines.append(paragraph)
        else:
            lines.extend(_wrap_paragraph(paragraph, width))
    return lines


def _wrap_paragraph(paragraph: str, width: int) -> Iterator[str]:
    line, used = "", 0
    for word in _words(paragraph):
        size = cell_len(word)
        if used + size <= width or (word.isspace() and line):
            line, used = line + word, used + size
            continue
        # A space that hangs over the edge costs nothing; it is cut off below.
        visible = cell_len(word.rstrip())
        if used + visible <= width:
            line, used = line + word, used + size
            continue
        if line.strip():
            yield line.rstrip()
            line, used = "", 0
        while cell_len(word.rstrip()) > width - used:
            head, word = _cut(word, width - used)
            yield line + head
            line, used = "", 0
        line, used = line + word, used + cell_len(word)
    if line.strip():
        yield line.rstrip()


def _cut(word: str, width: int) -> tuple[str, str]:
    """Part a word where `width` cells end, never inside a character."""
    spans, _total = split_graphemes(word)
    used = 0
    for start, _end, size in spans:
        if used + size > width and start:
            return word[:start], word[start:]
        used += size
    return word, ""


def _words(paragraph: str) -> Iterator[str]:
    """The pieces between which a line may break, spaces after their word."""
    piece = ""
    previous = ""
    for char in paragraph:
        if piece and _may_break(previous, char):
            yield piece
            piece = ""
        piece += char
        previous = char
    if piece:
        yield piece


def _may_break(before: str, after: str) -> bool:
    if after == " ":
        return False
    if before == " ":
        return True
    if after in _CLOSING or before in _OPENING:
        return False
    if cell_len(after) == 0:
        return False
    return cell_len(before) == 2 or cell_len(after) == 2
