"""Texts and names: what may be sent, and how what came in is made harmless.

A terminal obeys control characters, and bidi controls make a line read other than
it is written ("Trojan source"). We send neither; what others send is shown with
each such character replaced by a visible sign. The text itself stays as it came.
"""

import unicodedata

from client.errors import BadText
from protocol.limits import TEXT_MAX

__all__ = ["NAME_MAX", "check_name", "check_text", "visible", "visible_line"]

NAME_MAX = 200
"""Bytes of UTF-8 in a room's name: it stands in one line of a list."""

REPLACEMENT = "\ufffd"
_KEPT = frozenset("\n\t")
# U+061C, U+200E/F and the embeddings, overrides and isolates: everything with the
# Bidi_Control property. ZWJ and ZWNJ are kept: emoji and Persian need them.
_BIDI = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
# Line and paragraph separators would break a line where a terminal does not.
_BREAKS = frozenset("\u2028\u2029")


def check_text(text: str) -> str:
    """Check a text that is about to be sent.

    Returns:
        The text, with line ends of other systems as newlines.

    Raises:
        BadText: it is empty, too long or holds characters that are never sent.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise BadText("There is nothing to send: write something first.")
    if _size(text) > TEXT_MAX:
        raise BadText(
            f"This text is longer than {TEXT_MAX // 1024} KiB; send it in parts."
        )
    _refuse_controls(text, kept=_KEPT)
    return text


def check_name(name: str) -> str:
    """Check a room's name that is about to be set; it is one line.

    Raises:
        BadText: it is empty, too long or holds control characters.
    """
    name = name.strip()
    if not name:
        raise BadText("A room's name cannot be empty.")
    if _size(name) > NAME_MAX:
        raise BadText(f"A room's name has at most {NAME_MAX} bytes; use a shorter one.")
    _refuse_controls(name, kept=frozenset())
    return name


def visible(text: str) -> str:
    """The text as it may be printed: control and bidi characters made visible.

    Newline and tab stay; everything else that could move the cursor, colour the
    screen or turn the direction of writing becomes U+FFFD.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(REPLACEMENT if _is_control(c, _KEPT) else c for c in text)


def visible_line(text: str) -> str:
    """Like `visible`, for one line: newlines and tabs become spaces."""
    return visible(text).replace("\n", " ").replace("\t", " ")


def _is_control(character: str, kept: frozenset[str]) -> bool:
    if character in kept:
        return False
    # Cc: C0 and C1 controls; Cs: half of a pair, which no terminal can print.
    return (
        unicodedata.category(character) in ("Cc", "Cs")
        or character in _BIDI
        or character in _BREAKS
    )


def _refuse_controls(text: str, kept: frozenset[str]) -> None:
    for character in text:
        if _is_control(character, kept):
            raise BadText(
                f"The character U+{ord(character):04X} cannot be sent: it is "
                "invisible and could change how the line reads. Remove it."
            )


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
