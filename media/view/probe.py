"""What a terminal can: from its environment and its answers, and what to draw with.

The question is one string of queries, the last of which every terminal answers (DA1):
when that answer is there, the others are there or never come. What was typed meanwhile
stands between the answers and is given back.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

__all__ = [
    "MODES",
    "QUERY",
    "Answers",
    "Choice",
    "Mode",
    "Terminal",
    "choose",
    "from_environment",
    "learn",
    "parse",
    "worth_asking",
]

Mode = Literal["kitty", "sixel", "blocks", "256", "braille", "off"]

MODES: tuple[Mode, ...] = ("kitty", "sixel", "blocks", "256", "braille", "off")
"""What pictures can be drawn with, finest first."""

OVERRIDE = "TELEX_VIDEO"
"""The environment's word beats the setting's."""

QUERY = (
    "\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\"  # kitty graphics: a pixel to check
    "\x1b[?1;1;0S"  # XTSMGRAPHICS: how many colours sixel has
    "\x1b[16t"  # XTWINOPS: pixels of a cell
    "\x1b[48;2;1;2;3m\x1bP$qm\x1b\\\x1b[0m"  # DECRQSS: does 24 bit colour stay?
    "\x1b[c"  # DA1, the fence
)

# One alternative for each answer; bounded, since a terminal may be anything.
ANSWER = re.compile(
    rb"\x1b_Gi=31[^\x1b;]{0,40};(?P<kitty>[^\x1b]{0,200})\x1b\\"
    rb"|\x1b\[\?1;(?P<status>\d);?(?P<registers>[\d;]{0,40})S"
    rb"|\x1b\[6;(?P<high>\d{1,5});(?P<wide>\d{1,5})t"
    rb"|\x1bP[01]\$r(?P<sgr>[^\x1b]{0,200})\x1b\\"
    rb"|\x1b\[\?(?P<da1>[\d;]{0,100})c"
)

# An answer of which the end has not come.
BROKEN = re.compile(rb"\x1b(?:_G[^\x1b]*\x1b?|P[01]\$[^\x1b]*\x1b?|\[\?[\d;]*)\Z")

MONO = re.compile(r"|dumb|vt[1-5]\d\d.*|.*-m(ono)?")
"""Terminals (TERM) without colours."""

KEPT = re.compile(r"(?:^|;|:)48[;:]2[;:](?:1)?[;:]?1[;:]2[;:]3(?:[;:]|m|$)")

SMALLEST_CELL, LARGEST_CELL = 2, 200
"""Pixels; what is outside is no cell."""

ASSUMED_REGISTERS = 256
"""Of a terminal with sixel that does not say: what those in use today have."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What a terminal said."""

    kitty: bool = False
    sixel: bool = False
    registers: int = 0
    """Colours of sixel; 0: it did not say."""
    cell: tuple[int, int] = (0, 0)
    """Pixels of a cell, width and height; 0: it did not say."""
    true_colour: bool = False
    done: bool = False
    """The fence is answered: nothing more comes."""
    typed: bytes = b""
    """What was between the answers: keys."""


def parse(data: bytes) -> Answers:
    """Read what came from the terminal since the query; never fails."""
    answers = Answers()
    for found in ANSWER.finditer(data):
        kind = found.lastgroup
        if found["kitty"] is not None:
            answers = replace(answers, kitty=found["kitty"] == b"OK")
        elif found["status"] is not None:
            said = found["registers"].partition(b";")[0]
            fine = found["status"] == b"0" and said.isdigit()
            number = min(int(said), 1 << 16) if fine else 0
            answers = replace(answers, registers=number)
        elif kind == "wide":
            cell = int(found["wide"]), int(found["high"])
            if all(SMALLEST_CELL <= side <= LARGEST_CELL for side in cell):
                answers = replace(answers, cell=cell)
        elif found["sgr"] is not None:
            kept = KEPT.search(found["sgr"].decode("latin-1")) is not None
            answers = replace(answers, true_colour=kept)
        elif found["da1"] is not None:
            can = found["da1"].split(b";")[1:]
            answers = replace(answers, sixel=b"4" in can, done=True)
    typed = ANSWER.sub(b"", data)
    return replace(answers, typed=BROKEN.sub(b"", typed))


@dataclass(frozen=True, slots=True)
class Terminal:
    """What a terminal can."""

    kitty: bool = False
    """Kitty's graphics protocol."""
    sixel: int = 0
    """Colours of sixel; 0: it has none."""
    colours: Literal["true", "256", "none"] = "256"
    cell: tuple[int, int] = (0, 0)
    """Pixels of a cell, width and height; 0: not known."""
    multiplexer: Literal["", "tmux", "screen"] = ""


def from_environment(env: Mapping[str, str]) -> Terminal:
    """What the environment says, before anybody is asked."""
    term = env.get("TERM", "")
    multiplexer: Literal["", "tmux", "screen"] = ""
    if env.get("TMUX") or term.startswith("tmux"):
        multiplexer = "tmux"
    elif env.get("STY") or term.startswith("screen"):
        multiplexer = "screen"
    colours: Literal["true", "256", "none"] = "256"
    if env.get("NO_COLOR") or MONO.fullmatch(term):
        colours = "none"
    elif _true_colour(env, term):
        colours = "true"
    kitty = not multiplexer and (
        term in {"xterm-kitty", "xterm-ghostty"} or "KITTY_WINDOW_ID" in env
    )
    return Terminal(kitty=kitty, colours=colours, multiplexer=multiplexer)


def _true_colour(env: Mapping[str, str], term: str) -> bool:
    if env.get("COLORTERM", "").lower() in {"truecolor", "24bit"}:
        return True
    return term.endswith("-direct") or term in {"xterm-kitty", "xterm-ghostty"}


def worth_asking(env: Mapping[str, str]) -> bool:
    """Whether the terminal's answers could change anything.

    Not inside a multiplexer: it answers itself, for whichever terminal is attached
    now. Not where the person has chosen. The Linux console and `dumb` would show parts
    of the question.
    """
    terminal = from_environment(env)
    if terminal.multiplexer or env.get("TERM", "") in {"", "dumb", "linux"}:
        return False
    return env.get(OVERRIDE, "") not in {"off", "braille", "256"}


def learn(terminal: Terminal, answers: Answers) -> Terminal:
    """What is known after the terminal answered."""
    colours = terminal.colours
    if answers.true_colour and colours == "256":
        colours = "true"
    sixel = (answers.registers or ASSUMED_REGISTERS) if answers.sixel else 0
    return replace(
        terminal,
        kitty=answers.kitty if answers.done else terminal.kitty or answers.kitty,
        sixel=sixel,
        colours=colours,
        cell=answers.cell if answers.cell != (0, 0) else terminal.cell,
    )


@dataclass(frozen=True, slots=True)
class Choice:
    """What pictures are drawn with."""

    mode: Mode
    reason: str
    """Why not what was asked for, as a word for the screen to say: `multiplexer`,
    `unknown` (no such mode); empty: it is as asked for."""


def choose(
    terminal: Terminal, setting: str = "auto", env: Mapping[str, str] | None = None
) -> Choice:
    """What to draw with: what the person says, else the finest that the terminal can.

    Args:
        terminal: what it can.
        setting: one of `MODES`, or `auto`.
        env: may hold `TELEX_VIDEO`, which beats the setting.
    """
    said = (env or {}).get(OVERRIDE, "") or setting
    if said in {"kitty", "sixel"} and terminal.multiplexer:
        # Its panes are not where the outer terminal would draw.
        return Choice(_text(terminal), "multiplexer")
    for mode in MODES:
        if said == mode:
            return Choice(mode, "")
    best: Mode = _text(terminal)
    if best != "braille" and not terminal.multiplexer:
        best = "kitty" if terminal.kitty else "sixel" if terminal.sixel else best
    return Choice(best, "" if said == "auto" else "unknown")


def _text(terminal: Terminal) -> Mode:
    """The finest without graphics."""
    if terminal.colours == "true":
        return "blocks"
    return "256" if terminal.colours == "256" else "braille"
