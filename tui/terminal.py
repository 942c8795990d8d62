"""What the terminal around us can, asked before Textual takes over its input.

    question = ask()          # at once: the question goes out, echo is off
    ...                       # load everything else: the answer comes meanwhile
    terminal = question.hear()
    ...
    question.type_again(app)  # what was typed meanwhile

The answer costs no time of its own: it comes while Textual is being imported, also
over a secure shell. Where the environment decides, nothing is asked.
"""

import array
import contextlib
import fcntl
import os
import select
import sys
import termios
import time
from typing import TYPE_CHECKING, Any

from media.view.probe import (
    QUERY,
    Answers,
    Choice,
    Terminal,
    choose,
    from_environment,
    learn,
    parse,
    worth_asking,
)

if TYPE_CHECKING:
    from textual.app import App

__all__ = ["Question", "ask", "cell_size", "current", "video_choice"]

LIMIT = 0.25
"""Seconds after the question in which `hear` waits for the answer."""

FAR_LIMIT = 1.0
"""The same over a secure shell: an answer that comes later would be taken for keys."""

MOST = 65536
"""Bytes that are read: whatever is pasted meanwhile, it has an end."""

FALLBACK_CELL = (6, 12)
"""Pixels of a cell where nobody says: small, so that a picture never reaches beyond
its place."""

_known: list[Terminal] = []


def current() -> Terminal:
    """What is known of the terminal; only the environment, if nobody has asked."""
    return _known[-1] if _known else from_environment(os.environ)


def video_choice(setting: str = "auto") -> Choice:
    """What pictures are drawn with here.

    Args:
        setting: `auto`, `kitty`, `sixel`, `blocks`, `256`, `braille` or `off`; the
            environment's TELEX_VIDEO beats it.
    """
    return choose(current(), setting, os.environ)


def cell_size() -> tuple[int, int]:
    """Pixels of a cell, width and height: as of now, a font may change its size."""
    size = array.array("H", [0, 0, 0, 0])
    sink = sys.__stdout__
    if sink is not None:
        with contextlib.suppress(OSError, ValueError):
            fcntl.ioctl(sink.fileno(), termios.TIOCGWINSZ, size)
    rows, columns, wide, high = size
    if rows and columns and wide >= 2 * columns and high >= 2 * rows:
        return wide // columns, high // rows
    known = current().cell
    return known if known != (0, 0) else FALLBACK_CELL


def ask() -> "Question":
    """Send the question, if there is a terminal whose answer could change something.

    From here until `Question.hear` the terminal does not echo.
    """
    try:
        source, sink = sys.__stdin__, sys.__stdout__
        if source is None or sink is None or not (source.isatty() and sink.isatty()):
            return Question(-1, None)
        if not worth_asking(os.environ):
            return Question(-1, None)
        return _send(source.fileno(), sink.fileno())
    except (OSError, ValueError, termios.error):
        return Question(-1, None)  # no terminal after all


def _send(source: int, sink: int) -> "Question":
    before = termios.tcgetattr(source)
    quiet = termios.tcgetattr(source)
    # Ctrl+C still works: ISIG stays.
    quiet[3] &= ~(termios.ECHO | termios.ICANON)
    quiet[0] &= ~termios.ICRNL  # Enter stays what Textual knows as Enter
    quiet[6][termios.VMIN], quiet[6][termios.VTIME] = 1, 0
    termios.tcsetattr(source, termios.TCSANOW, quiet)
    try:
        # Clear the line: what a terminal does not understand it may print.
        os.write(sink, (QUERY + "\r\x1b[K").encode())
    except OSError:
        termios.tcsetattr(source, termios.TCSANOW, before)
        raise
    return Question(source, before)


class Question:
    """A question that is under way."""

    def __init__(self, source: int, before: Any) -> None:
        """Args: source: the terminal's input, or -1; before: its mode."""
        self._source = source
        self._before = before
        self._sent = time.monotonic()
        self.answers = Answers()

    def hear(self) -> Terminal:
        """Wait for the answer, a moment at most, and remember it for `current`.

        A terminal that keeps 24 bit colours is named so to Textual too (COLORTERM).
        """
        terminal = from_environment(os.environ)
        if self._source >= 0:
            try:
                self.answers = self._read()
            finally:
                with contextlib.suppress(termios.error):
                    termios.tcsetattr(self._source, termios.TCSANOW, self._before)
                self._source = -1
            terminal = learn(terminal, self.answers)
            if self.answers.true_colour:
                # Textual looks there for its own colours; SSH does not pass it on.
                os.environ.setdefault("COLORTERM", "truecolor")
        _known[:] = [terminal]
        return terminal

    def _read(self) -> Answers:
        far = "SSH_TTY" in os.environ or "SSH_CONNECTION" in os.environ
        end = self._sent + (FAR_LIMIT if far else LIMIT)
        data = b""
        answers = Answers()
        while not answers.done and len(data) < MOST:
            # What is there already is read also when it is late.
            left = max(0.0, end - time.monotonic())
            if not select.select([self._source], [], [], left)[0]:
                break
            try:
                more = os.read(self._source, 4096)
            except OSError:
                break
            if not more:
                break
            data += more
            answers = parse(data)
        return answers

    def type_again(self, app: "App[Any]") -> None:
        """Give what was typed meanwhile to the application, as if typed now.

        A terminal's input takes nothing back (Linux has closed TIOCSTI), so the keys
        go the way that Textual's own reader sends them.
        """
        typed, self.answers = self.answers.typed, Answers()
        driver = app._driver  # Textual has no public way to send it input (8.2).
        if not typed or driver is None:
            return
        from textual._xterm_parser import XTermParser

        parser = XTermParser()
        for text in (typed.decode("utf-8", "replace"), ""):
            for event in parser.feed(text):
                driver.process_message(event)
