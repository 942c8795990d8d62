"""Texts: what may be sent, and what a terminal may be shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.errors import BadText
from client.text import NAME_MAX, check_name, check_text, visible, visible_line
from protocol.limits import TEXT_MAX

HARMFUL = [
    "\x00", "\x07", "\x1b[31m", "\x7f", "\x9b31m", "\u202e", "\u2066", "\u200f",
    "\u061c", "\u2028", "\u2029", "\ud800", "\x85",
]  # fmt: skip


@pytest.mark.parametrize("harm", HARMFUL)
def test_controls_are_refused_on_sending_and_shown_as_signs(harm: str) -> None:
    with pytest.raises(BadText, match=r"U\+[0-9A-F]{4}"):
        check_text(f"a{harm}b")
    with pytest.raises(BadText):
        check_name(f"a{harm}b")
    shown = visible(f"a{harm}b")
    assert harm[0] not in shown and "\ufffd" in shown


@given(st.text())
def test_what_is_shown_never_holds_a_control(text: str) -> None:
    shown = visible(text)
    assert len(shown) == len(text)
    assert all(c in "\n\t" or c.isprintable() or ord(c) > 0x9F for c in shown)
    assert visible(shown) == shown
    assert "\n" not in visible_line(text)


@pytest.mark.parametrize(
    "text",
    [
        "hello",
        "two\nlines\tand a tab",
        "你好，世界",
        "👩‍👩‍👧 family",
        "می‌خواهم",
        "שלום",
    ],
)
def test_ordinary_writing_passes_unchanged(text: str) -> None:
    assert check_text(text) == text
    assert visible(text) == text


def test_line_ends_of_other_systems_become_newlines() -> None:
    assert check_text("a\r\nb\rc") == "a\nb\nc"


def test_empty_and_long_texts_are_refused() -> None:
    for text in ("", " \n\t "):
        with pytest.raises(BadText, match="nothing to send"):
            check_text(text)
    assert check_text("x" * TEXT_MAX)
    with pytest.raises(BadText, match="longer than 16 KiB"):
        check_text("é" * (TEXT_MAX // 2 + 1))


def test_names_are_one_short_line() -> None:
    assert check_name("  Garden  ") == "Garden"
    for name in ("", "  ", "a\nb", "x" * (NAME_MAX + 1)):
        with pytest.raises(BadText):
            check_name(name)
