"""The terminal is asked before the screen starts, and nothing that is typed is lost."""

import json
import os
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

import pytest

from tui import terminal

PROGRAM = """
import json, os, sys
from tui.terminal import ask, cell_size, video_choice
question = ask()
from textual.app import App
from textual.widgets import Input

class Line(App):
    def compose(self):
        yield Input()
    def on_mount(self):
        self.query_one(Input).focus()
        question.type_again(self)
    def on_input_submitted(self, event):
        self.exit(event.value)

known = question.hear()
typed = Line().run()
said = [known.kitty, known.sixel, known.cell, cell_size(), video_choice().mode, typed]
said.insert(0, os.environ.get("COLORTERM", ""))
os.write(int(sys.argv[1]), json.dumps(said).encode())
"""

SECONDS = 30.0


class Terminal:
    """A program on a pseudo terminal, and what it wrote."""

    def __init__(self, **env: str) -> None:
        self.master, self.slave = os.openpty()
        read, write = os.pipe()
        self.report = os.fdopen(read)
        self.before = termios.tcgetattr(self.slave)
        drop = {"COLORTERM", "TMUX", "STY", "TELEX_VIDEO", "NO_COLOR", "SSH_TTY"}
        kept = {key: value for key, value in os.environ.items() if key not in drop}
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(write)],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            pass_fds=(write,),
            env={**kept, **env},
            start_new_session=True,
        )
        os.close(write)
        self.output = b""

    def until(self, text: bytes) -> None:
        """Read until that was written."""
        end = time.monotonic() + SECONDS
        while text not in self.output:
            assert time.monotonic() < end, self.output[-500:]
            if select.select([self.master], [], [], 0.2)[0]:
                self.output += os.read(self.master, 65536)

    def type(self, data: bytes) -> None:
        os.write(self.master, data)

    def said(self) -> list[object]:
        """What the program reports at its end."""
        end = time.monotonic() + SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < end, self.output[-500:]
            if select.select([self.master], [], [], 0.1)[0]:
                self.output += os.read(self.master, 65536)
        report: list[object] = json.loads(self.report.read())
        return report

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.report.close()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def started() -> Iterator[list[Terminal]]:
    """Terminals that are closed at the end."""
    all_: list[Terminal] = []
    yield all_
    for one in all_:
        one.close()


def test_keys_typed_before_the_answer_reach_the_application(
    started: list[Terminal],
) -> None:
    it = Terminal(TERM="xterm-256color")
    started.append(it)
    it.until(b"\x1b[c")
    it.type(
        b"he\x1b_Gi=31;OK\x1b\\ll\x1b[6;18;9t\x1bP1$r0;48:2::1:2:3m\x1b\\\x1b[?62;4co w"
    )
    it.until(b"\x1b[?25l")  # keys are read as they come, Enter too
    it.until(b"hello w")
    it.type(b"orld\r")
    said = ["truecolor", True, 256, [9, 18], [9, 18], "kitty", "hello world"]
    assert it.said() == said
    assert it.before == termios.tcgetattr(it.slave), "the terminal is as it was"


@pytest.mark.long
def test_a_terminal_that_says_nothing_stops_nobody(started: list[Terminal]) -> None:
    it = Terminal(TERM="xterm-256color")
    started.append(it)
    it.until(b"\x1b[c")
    it.until(b"\x1b[?25l")
    it.type(b"x\r")
    assert it.said() == ["", False, 0, [0, 0], [6, 12], "256", "x"]


@pytest.mark.parametrize("env", [{"TMUX": "/tmp/x,1,0"}, {"TELEX_VIDEO": "braille"}])
def test_it_is_not_asked_what_does_not_matter(
    started: list[Terminal], env: dict[str, str]
) -> None:
    it = Terminal(TERM="tmux-256color" if "TMUX" in env else "xterm", **env)
    started.append(it)
    it.until(b"\x1b[?25l")
    assert b"\x1b_G" not in it.output
    it.type(b"x\r")
    assert it.said()[-1] == "x"


def test_without_a_terminal_nothing_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "__stdin__", None)
    assert terminal.ask().hear() == terminal.current()
