"""Text from outside: nothing in it acts, and everything lines up."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.tui.fake_client import FakeClient
from tests.tui.looking import looking
from tui.cells import MARKS_MAX, fit, literal, one_line, wrap

BOB = "bob@example.org"

# The widths of these are the same in every terminal's table.
STEADY = st.text(
    st.sampled_from("ab ,.\nжש你界，。」（ｆｕ🎉👍\u0301")
    | st.characters(min_codepoint=0x20, max_codepoint=0x7E)
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain [b]text[/b]", "plain [b]text[/b]"),
        ("\x1b[31mred\x07", "␛[31mred␇"),
        ("a\rb\r\nc\x85d\u2028e", "a\nb\nc\nd\ne"),
        ("evil\u202egpj.exe", "evil\ufffdgpj.exe"),
        ("\u2066isolate\u2069 \u200fmark", "isolate mark"),
        ("zero\u200bwidth\ufeff\u00ad\u2060", "zerowidth"),
        ("\x9b31m\x7f", "\ufffd31m␡"),
        ("👨\u200d👩\u200d👧 ❤\ufe0f 👍🏽", "👨👩👧 ❤ 👍"),
        ("a\tb", "a    b"),
        ("\ud800", "\ufffd"),
        ("e" + "\u0301" * 50, "e" + "\u0301" * MARKS_MAX),
        ("tag\U000e0041s", "tags"),
    ],
)
def test_literal(text: str, shown: str) -> None:
    assert literal(text) == shown


@given(st.text())
def test_literal_leaves_nothing_that_acts(text: str) -> None:
    shown = literal(text)
    for char in shown:
        assert char == "\n" or (ord(char) >= 0x20 and not 0x7F <= ord(char) < 0xA0)
        assert char not in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    assert literal(shown) == shown


@given(st.text(), st.integers(0, 40))
def test_fit_is_exact(text: str, width: int) -> None:
    assert cell_len(fit(one_line(text), width)) == width


@given(STEADY, st.integers(2, 40))
def test_wrap_fits_and_loses_nothing_but_spaces(text: str, width: int) -> None:
    text = literal(text)
    lines = wrap(text, width)
    assert all(cell_len(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_wrap_breaks_where_people_would() -> None:
    assert wrap("one two three", 8) == ["one two", "three"]
    assert wrap("    code stays", 20) == ["    code stays"]
    assert wrap("averyveryverylongword", 8) == ["averyver", "yverylon", "gword"]
    # No line begins with a closing mark, none ends with an opening one.
    assert wrap("你好世界，再见", 8) == ["你好世", "界，再见"]
    assert wrap("你好（世界）", 6) == ["你好", "（世", "界）"]


HARD = (
    "latin only",
    "全角字符和 latin",
    "한국어 텍스트",
    "שלום עולם",
    "مرحبا بالعالم",
    "👨‍👩‍👧 👍🏽 ❤️ 🇫🇷",
    "e\u0301" * 5 + " zalgo " + "h\u0336\u0341\u0322" * 4,
    "\x1b[2Jboo\u202eoob",
    "ﷺ ½ …",
)


async def test_every_row_is_as_wide_as_the_screen(tmp_path: Path) -> None:
    client = FakeClient()
    room = client.add_room("花园 👍🏽 \u202egarden", [BOB])
    for text in HARD:
        client.hear(room, BOB, text, seen=True)
        client.say(room, text)
    async with looking(tmp_path, client=client, size=(80, 60)) as sight:
        await sight.sees("latin only")
        for line in sight.lines:
            assert cell_len(line) == 80
        rows = [row[:-1] for row in sight.part("#timeline")]
        for row in rows:
            # Bars stand in one column, whatever follows them.
            assert row[:2] in ("  ", " ▎", " ─")
        ends = {cell_len(row.rstrip()) for row in rows if "✓" in row}
        assert len(ends) == 1
        assert "\x1b" not in sight.text and "\u202e" not in sight.text


@pytest.mark.parametrize(
    "evil", ["[bold red]x[/]", "[/]", "[@click=app.quit]go[/]", "\\[x", "[link=x]y"]
)
async def test_markup_is_shown_as_it_is(tmp_path: Path, evil: str) -> None:
    client = FakeClient()
    other = client.add_room(f"other {evil}", [BOB])
    room = client.add_room(f"room {evil}", [BOB])
    client.hear(room, BOB, f"text {evil}", seen=True)
    client.say(room, f"own {evil}")
    async with looking(tmp_path, client=client, size=(140, 30)) as sight:
        await sight.sees(f"room {evil}", f"text {evil}", f"own {evil}")
        client.hear(other, BOB, f"toast {evil}")
        client.alarm(f"alarm {evil}")
        await sight.sees(f"toast {evil}", f"alarm {evil}")
        await sight.press("ctrl+r")
        await sight.sees(f"Reply to You: own {evil}")
        await sight.press("f4")
        await sight.sees(f"Rename room {evil}")
