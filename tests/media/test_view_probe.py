"""What terminals answer, and what that leads to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.view.pace import Pace
from media.view.probe import (
    QUERY,
    Answers,
    Terminal,
    choose,
    from_environment,
    learn,
    parse,
    worth_asking,
)
from tests.helpers.fuzz import fuzzing

# xterm's (379) and tmux's (3.3a) were recorded, the others are as documented.
XTERM = b"\x1b[?1;3S\x1bP1$r0;48:2::1:2:3m\x1b\\\x1b[?64;1;2;6;9;15;16;17;18;21;22;28c"
XTERM_VT340 = (
    b"\x1b[?1;0;1024S\x1bP1$r0;48:2::1:2:3m\x1b\\\x1b[?63;1;2;4;6;9;15;16;22;28c"
)
KITTY = b"\x1b_Gi=31;OK\x1b\\\x1b[6;18;9t\x1bP1$r48:2:1:2:3m\x1b\\\x1b[?62;c"
FOOT = b"\x1b[?1;0;1024S\x1b[6;20;10t\x1bP1$r0;48:2::1:2:3m\x1b\\\x1b[?62;4;22c"
VTE = b"\x1bP1$r0;48:2:1:2:3m\x1b\\\x1b[?65;1;9c"
OLD = b"\x1b[?1;2c"


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (XTERM, Answers(False, False, 0, (0, 0), True, True)),
        (XTERM_VT340, Answers(False, True, 1024, (0, 0), True, True)),
        (KITTY, Answers(True, False, 0, (9, 18), True, True)),
        (FOOT, Answers(False, True, 1024, (10, 20), True, True)),
        (VTE, Answers(False, False, 0, (0, 0), True, True)),
        (OLD, Answers(done=True)),
        (b"", Answers()),
    ],
)
def test_answers_are_understood(data: bytes, wanted: Answers) -> None:
    assert parse(data) == wanted


def test_keys_between_answers_are_given_back_in_order() -> None:
    data = b"he" + KITTY[:12] + b"ll" + KITTY[12:] + b"o\r\x1b[A\x1b"
    answers = parse(data)
    assert answers.kitty and answers.done
    assert answers.typed == b"hello\r\x1b[A\x1b"


@pytest.mark.parametrize("cut", range(1, len(KITTY)))
def test_half_an_answer_is_not_taken_for_keys(cut: int) -> None:
    answers = parse(b"x" + KITTY[:cut])
    assert not answers.done
    for rubbish in (b"Gi", b"OK", b"$r", b"48"):
        assert rubbish not in answers.typed


@pytest.mark.parametrize(
    "data",
    [
        b"\x1b_Gi=31;ENOTSUP:no\x1b\\\x1b[?62c",
        b"\x1b_Gi=32;OK\x1b\\\x1b[?62c",
        b"\x1b[?62c",
        b"\x1b[?4c",  # 4 as the class of the terminal is not the attribute
    ],
)
def test_graphics_are_not_believed_without_a_yes(data: bytes) -> None:
    answers = parse(data)
    assert not answers.kitty and not answers.sixel


@pytest.mark.parametrize("cell", [b"0;0", b"1;9", b"999;9", b"99999;99999"])
def test_cells_of_impossible_sizes_are_unknown(cell: bytes) -> None:
    assert parse(b"\x1b[6;" + cell + b"t").cell == (0, 0)


@pytest.mark.parametrize("colours", [b"0m", b"0;48;5;16m", b"0;148:2::1:2:3m", b""])
def test_true_colour_is_not_believed_where_it_did_not_stay(colours: bytes) -> None:
    assert not parse(b"\x1bP1$r" + colours + b"\x1b\\").true_colour


@pytest.mark.fuzz
@fuzzing
@given(
    st.lists(
        st.binary(max_size=12)
        | st.sampled_from([b"\x1b", b"\x1b[?", b"\x1b_Gi=31;", b"\x1bP1$r", b"\x1b\\"])
        | st.sampled_from([XTERM, KITTY, FOOT, b"c", b"S", b"9" * 50]),
        max_size=12,
    ).map(b"".join)
)
def test_no_bytes_break_the_parser(data: bytes) -> None:
    answers = parse(data)
    assert len(answers.typed) <= len(data)
    terminal = learn(Terminal(), answers)
    assert choose(terminal).mode in {"kitty", "sixel", "blocks", "256", "braille"}
    side = answers.cell
    assert side == (0, 0) or all(2 <= one <= 200 for one in side)


def test_the_fence_is_asked_last() -> None:
    assert QUERY.endswith("\x1b[c")


@pytest.mark.parametrize(
    ("env", "answers", "mode"),
    [
        ({"TERM": "xterm-256color"}, b"", "256"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, OLD, "blocks"),
        ({"TERM": "xterm-256color"}, VTE, "blocks"),
        ({"TERM": "xterm"}, XTERM_VT340, "sixel"),
        ({"TERM": "xterm-kitty"}, KITTY, "kitty"),
        ({"TERM": "xterm-kitty"}, b"", "kitty"),
        ({"TERM": "xterm-kitty"}, b"\x1b[?62c", "blocks"),
        ({"TERM": "foot"}, FOOT, "sixel"),
        ({"TERM": "tmux-256color", "TMUX": "/tmp/x"}, KITTY, "blocks"),
        ({"TERM": "tmux-256color", "COLORTERM": "truecolor"}, b"", "blocks"),
        ({"TERM": "screen", "STY": "1.x"}, FOOT, "blocks"),
        ({"TERM": "vt220"}, b"", "braille"),
        ({"TERM": "xterm-mono"}, b"", "braille"),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, KITTY, "braille"),
        ({"TERM": "linux"}, b"", "256"),
        ({}, b"", "braille"),
    ],
)
def test_the_finest_is_chosen(env: dict[str, str], answers: bytes, mode: str) -> None:
    terminal = from_environment(env)
    if answers:
        terminal = learn(terminal, parse(answers))
    assert choose(terminal, "auto", env).mode == mode


def test_the_environment_beats_the_setting_and_the_setting_the_terminal() -> None:
    terminal = learn(Terminal(), parse(KITTY))
    assert choose(terminal, "sixel").mode == "sixel"
    assert choose(terminal, "sixel", {"TELEX_VIDEO": "off"}).mode == "off"
    assert choose(terminal, "sixel", {"TELEX_VIDEO": "auto"}).mode == "kitty"
    wrong = choose(terminal, "auto", {"TELEX_VIDEO": "vhs"})
    assert (wrong.mode, wrong.reason) == ("kitty", "unknown")


def test_a_multiplexer_gets_no_graphics_and_says_why() -> None:
    terminal = from_environment({"TERM": "tmux-256color", "TMUX": "x"})
    asked = choose(terminal, "kitty")
    assert (asked.mode, asked.reason) == ("256", "multiplexer")


@pytest.mark.parametrize(
    ("env", "asked"),
    [
        ({"TERM": "xterm-256color"}, True),
        ({"TERM": "xterm-kitty"}, True),
        ({"TERM": "dumb"}, False),
        ({"TERM": "linux"}, False),
        ({}, False),
        ({"TERM": "xterm", "TMUX": "x"}, False),
        ({"TERM": "xterm", "TELEX_VIDEO": "off"}, False),
        ({"TERM": "xterm", "TELEX_VIDEO": "sixel"}, True),
    ],
)
def test_nothing_is_asked_in_vain(env: dict[str, str], asked: bool) -> None:
    assert worth_asking(env) is asked


# --- the pace -----------------------------------------------------------------------


def play(pace: Pace, took: float, seconds: float, start: float = 0.0) -> int:
    """Fifteen frames a second to a terminal that takes so long; how many went."""
    now, went, back = start, 0, -1.0
    while now < start + seconds:
        if 0 <= back <= now:
            pace.answered(back)
            back = -1.0
        if pace.ready(now) and back < 0:
            pace.sent(now)
            went, back = went + 1, now + took
        now += 1 / 15
    if back >= 0:
        pace.answered(max(back, now))
    return went


def test_a_quick_terminal_gets_every_picture() -> None:
    pace = Pace()
    assert play(pace, 0.004, 10) >= 149
    assert pace.level == 0


def test_a_slow_link_gets_fewer_and_coarser_pictures_and_rests() -> None:
    pace = Pace()
    pace.sent(0)
    pace.answered(0.03)  # an empty way takes that long
    went = play(pace, 0.4, 10, start=1)
    assert pace.level == 2
    assert 8 <= went <= 14, "half of the time belongs to the keys"


def test_it_becomes_finer_again_but_not_at_once() -> None:
    pace = Pace()
    pace.sent(0)
    pace.answered(0.01)
    play(pace, 0.4, 10, start=1)
    assert pace.level == 2
    play(pace, 0.012, 15, start=20)
    assert pace.level == 2
    play(pace, 0.012, 60, start=40)
    assert pace.level == 0


def test_only_one_picture_is_under_way_and_two_to_far_terminals() -> None:
    pace = Pace()
    pace.sent(0)
    pace.answered(0.005)
    pace.sent(1)
    assert not pace.ready(1.5)
    far = Pace()
    far.sent(0)
    far.answered(0.2)
    far.sent(1)
    assert far.ready(1.05)
    far.sent(1.05)
    assert not far.ready(1.1)


def test_a_terminal_that_never_answers_gets_all_after_a_while() -> None:
    pace = Pace()
    pace.sent(0)
    assert not pace.ready(0.1)
    assert pace.ready(0.25), "slowly, until it is known"
    assert pace.ready(2.5) and not pace.asks
    pace.sent(2.5)
    assert pace.ready(2.51)


def test_a_lost_answer_stops_nothing_for_ever() -> None:
    pace = Pace()
    pace.sent(0)
    pace.answered(0.01)
    pace.sent(1)
    assert not pace.ready(5)
    assert pace.ready(12)


def test_an_answer_that_nobody_waits_for_changes_nothing() -> None:
    pace = Pace()
    assert pace.answered(1) == 0.0
    assert pace.ready(1)
