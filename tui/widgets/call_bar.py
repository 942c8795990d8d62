"""The line at the top of every room while a call rings or runs.

It stands at the top, where everything urgent of this program stands, and not above
the composer: there it would move the lines that somebody reads or writes. Its keys
are no letters, so that words being typed never answer or decline a call.
"""

from collections.abc import Sequence

from textual import events
from textual.content import Content
from textual.widgets import Static

from client.calls.model import Call
from tui.badges import COLOURS, SIGNS
from tui.calling import end_text, grade, marks, state_text
from tui.cells import wrap
from tui.desk import Desk
from tui.text import say
from tui.widgets.steady import redraw

__all__ = ["CallBar"]

Keys = Sequence[tuple[str, str, str]]
"""(key, word, action of the application)"""

ANSWER: Keys = (
    ("F9", "call.key.answer", "call"),
    ("Shift+F9", "call.key.answer.video", "call_video"),
    ("F10", "call.key.decline", "call_end"),
)
RUNNING: Keys = (
    ("F9", "call.key.screen", "call"),
    ("F10", "call.key.end", "call_end"),
)

GRADES = {"good": "$success", "fair": "$warning", "bad": "$error"}


class CallBar(Static):
    """Who, how it stands and what can be done; hidden when there is no call."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self._desk: Desk | None = None
        self._now = 0
        self._up = False
        self.display = False

    def show(self, desk: Desk, now: int) -> None:
        """Show how the calls stand; `now`: milliseconds since 1970."""
        self._desk, self._now = desk, now
        self._up = not self._up
        self._draw()

    def on_resize(self, event: events.Resize) -> None:
        """The width changed."""
        self._draw()

    def _draw(self) -> None:
        desk = self._desk
        if desk is None:
            return
        book = desk.book
        lines: list[Content] = []
        if (call := book.active) is not None:
            lines += self._line(self._standing(call, desk), RUNNING)
        elif desk.calling:
            who = desk.calling.partition("@")[0]
            lines += self._line(Content(say("call.starting", who=who)), ())
        if (ring := book.incoming) is not None:
            lines += self._line(self._ringing(ring, desk), ANSWER)
        if not lines and book.ended is not None:
            text = end_text(book.ended, desk.who(book.ended))
            lines += [Content(line) for line in wrap(f"☎ {text}", self._width)[:2]]
        loud = ring is not None and not desk.quiet(ring)
        self.set_class(loud, "-ringing")
        self.display = bool(lines)
        redraw(self, Content("\n").join(lines))

    @property
    def _width(self) -> int:
        return max(1, self.size.width or self.app.size.width - 2)

    def _standing(self, call: Call, desk: Desk) -> Content:
        trust = desk.trust(call)
        parts: list[tuple[str, str] | str] = [
            ("☎ ", "bold $success"),
            (desk.who(call), "bold"),
            (f" {SIGNS[trust]}", COLOURS[trust]),
            f" · {state_text(call, self._now)}",
        ]
        for word, colour in marks(call, push=desk.push, screen=desk.sharing(call)):
            parts += [" · ", (word, colour)]
        legs = [] if call.held else [leg for leg in call.legs if not leg.held]
        known = [leg.quality for leg in legs if leg.quality is not None]
        if known and call.state == "running":
            worst = max((grade(one) for one in known), key=list(GRADES).index)
            parts += [" · ", (say(f"call.quality.{worst}"), GRADES[worst])]
        return Content.assemble(*parts)

    def _ringing(self, call: Call, desk: Desk) -> Content:
        # The receiver goes up and down: seen from the corner of an eye, and where
        # colours are off.
        sign = "☏" if self._up else "☎"
        trust = desk.trust(call)
        who = f"{desk.who(call)} {SIGNS[trust]}"
        return Content(f"{sign} {who} {state_text(call, self._now)}").stylize("bold")

    def _line(self, text: Content, keys: Keys) -> list[Content]:
        """The text with its keys on the right, on two lines where one is too short."""
        # A click beside the words must not answer: it shows who it is.
        text = text.stylize("@click=app.call_show")
        pieces = [self._piece(*key) for key in keys]
        words = Content("  ").join(pieces)
        gap = self._width - text.cell_length - words.cell_length
        if gap >= (2 if keys else 0):
            return [text + Content(" " * gap) + words]
        first = text.truncate(self._width, ellipsis=True)
        if not keys:
            return [first]
        while len(pieces) > 1 and words.cell_length > self._width:
            # The camera can be switched on afterwards; answer and decline stay.
            pieces.pop(1 if len(pieces) > 2 else 0)
            words = Content("  ").join(pieces)
        if keys is RUNNING:
            # One line is enough while nothing is asked.
            words = pieces[-1]
            room = max(4, self._width - words.cell_length - 1)
            first = text.truncate(room, ellipsis=True)
            gap = max(1, self._width - first.cell_length - words.cell_length)
            return [first + Content(" " * gap) + words]
        return [first, words]

    def _piece(self, key: str, word: str, action: str) -> Content:
        label = Content.assemble((key, "bold underline"), " ", say(word))
        return label.stylize(f"@click=app.{action}")
