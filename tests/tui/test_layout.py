"""Rows of messages, and the keys of terminals without the kitty protocol."""

from dataclasses import replace
from datetime import date, datetime

import pytest
from textual._xterm_parser import XTermParser
from textual.events import Key

from client.model import Message, State
from tests.tui.test_history import message
from tui.cells import cell_len
from tui.keys import shown_key
from tui.layout import Context, clock, day_title, lay_out
from tui.widgets.composer import teach_keys

TODAY = date(2026, 11, 23)
NOW = int(datetime(2026, 11, 23, 12, 0).timestamp() * 1000)
CONTEXT = Context(60, TODAY, "example.org")


def at(number: int, minutes: float = 0, **values: object) -> Message:
    one = message(number, text="hello")
    return replace(one, time=NOW + int(minutes * 60_000), **values)  # type: ignore[arg-type]


def rows(one: Message, previous: Message | None = None) -> list[str]:
    return [row.text.rstrip() for row in lay_out(one, previous, CONTEXT).rows]


def test_a_name_and_a_time_begin_a_group() -> None:
    assert rows(at(1))[3:] == [
        f" ▎ bob{'12:00':>53}",
        " ▎ hello",
    ]
    # Shortly after, only the words; in another minute, its time; later, all again.
    assert rows(at(2, 0.1), at(1)) == [" ▎ hello"]
    assert rows(at(2, 2), at(1)) == [f" ▎ hello{'12:02':>51}"]
    assert len(rows(at(2, 6), at(1))) == 3
    assert len(rows(at(2, 0.1, sender="carol@example.net"), at(1))) == 3


def test_people_of_other_nodes_are_named_whole() -> None:
    shown = rows(at(1, sender="bob@evil.example"))
    assert " ▎ bob@evil.example" in shown[3]


@pytest.mark.parametrize("width", [4, 12, 20, 60, 300])
def test_no_row_is_wider_than_the_timeline(width: int) -> None:
    context = Context(width, TODAY, "example.org", unread=1000)
    one = at(1, own=True, state=State.FAILED, text="wide 你好 " * 20, error="x " * 40)
    for row in lay_out(one, None, context).rows:
        if width >= 20:
            assert cell_len(row.text) <= width


def test_a_message_of_newlines_does_not_fill_the_memory() -> None:
    assert len(rows(at(1, text="\n" * 16_000))) < 500


def test_days_have_names() -> None:
    assert day_title(TODAY, TODAY) == "Today"
    assert day_title(date(2026, 11, 22), TODAY) == "Yesterday"
    assert day_title(date(2026, 11, 2), TODAY) == "Monday, 2 November 2026"


@pytest.mark.parametrize("time", [-(2**63), 2**63, 0])
def test_nonsense_times_do_no_harm(time: int) -> None:
    assert clock(time).year >= 1
    rows(at(1), None)


def test_the_mouse_copies_words_without_bars_and_times() -> None:
    block = lay_out(at(1, own=True, state=State.READ), None, CONTEXT)
    name, text = block.rows[-2:]
    assert name.words(0, -1) == "You"
    assert text.words(0, -1) == "hello"
    assert text.words(4, 7) == "ell"


@pytest.mark.parametrize(
    ("sequence", "keys"),
    [
        ("\r", ["enter"]),
        ("\n", ["ctrl+j"]),
        # Alt+Enter: Textual alone would say "enter" and send half a message.
        ("\x1b\r", ["ctrl+j"]),
        ("\x1b[1;3A", ["alt+up"]),
        ("\x1b[1;5A", ["ctrl+up"]),
        ("\x1ba", ["alt+a"]),
        ("\x1b1", ["alt+1"]),
        ("\x1b[13;2u", ["shift+enter"]),
        ("\x1bOP", ["f1"]),
        ("\x1b[1;5F", ["ctrl+end"]),
    ],
)
def test_keys_as_terminals_send_them(sequence: str, keys: list[str]) -> None:
    teach_keys()
    parser = XTermParser()
    seen = [event.key for event in parser.feed(sequence) if isinstance(event, Key)]
    # A lone Escape waits for more; the pause after a key ends the wait.
    seen += [event.key for event in parser.tick() if isinstance(event, Key)]
    import time

    end = time.monotonic() + 2
    while not seen and time.monotonic() < end:
        time.sleep(0.02)
        seen += [event.key for event in parser.tick() if isinstance(event, Key)]
    assert seen == keys


def test_keys_as_people_read_them() -> None:
    assert shown_key("f2,ctrl+l") == "F2 / Ctrl+L"
    assert shown_key("ctrl+pageup") == "Ctrl+PgUp"
    assert shown_key("escape,q,x") == "Esc / Q"
