"""The keys of a call, in as many words as there is room for."""

from collections.abc import Sequence

from textual import events
from textual.content import Content
from textual.widgets import Static

from client.calls.model import Call
from client.model import Trust
from tui.cells import cell_len
from tui.desk import Desk
from tui.text import say

__all__ = ["CallKeys", "offered"]

GAP = 3
ROWS = ((11, 1), (16, 2))
"""Below so many rows of the terminal the keys take so many; the picture needs some."""
MOST_ROWS = 3


class CallKeys(Static):
    """Keys for the eye and for the mouse; those that come last may find no room."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self._keys: Sequence[tuple[str, str, str]] = ()

    def show(self, keys: Sequence[tuple[str, str, str]]) -> None:
        """Show these (key, word, action)."""
        if list(keys) != list(self._keys):
            self._keys = keys
            self._draw()

    def on_resize(self, event: events.Resize) -> None:
        """The width changed."""
        self._draw()

    def _draw(self) -> None:
        width = self.size.width or self.app.size.width - 2
        height = self.app.size.height
        most = next((rows for below, rows in ROWS if height < below), MOST_ROWS)
        rows: list[list[Content]] = [[]]
        used = 0
        for key, word, action in self._keys:
            need = cell_len(key) + 1 + cell_len(word)
            if rows[-1] and used + GAP + need > width:
                if len(rows) == most:
                    continue
                rows.append([])
                used = 0
            used += need + (GAP if rows[-1] else 0)
            label = Content.assemble((key, "bold $accent"), " ", word)
            rows[-1].append(label.stylize(f"@click={action}"))
        gap = Content(" " * GAP)
        self.update(Content("\n").join(gap.join(row) for row in rows))


def offered(call: Call, desk: Desk, *, wide: bool) -> list[tuple[str, str, str]]:
    """What can be done now: (key, word, action), the most needed first.

    Args:
        call: the one that is shown.
        desk: for what is set.
        wide: whether the chat stands beside it.
    """
    if call.state == "incoming":
        return [
            ("F9", say("call.key.answer"), "app.call"),
            ("Shift+F9", say("call.key.answer.video"), "app.call_video"),
            ("F10", say("call.key.decline"), "app.call_end"),
            ("Esc", say("call.key.chat"), "screen.leave"),
        ]
    if call.state == "ended":
        return [("Esc", say("call.key.chat"), "screen.leave")]
    sharing = desk.sharing(call)
    camera = call.camera and not sharing
    keys = [
        ("F10", say("call.key.end"), "app.call_end"),
        ("Esc", say("call.key.chat"), "screen.leave"),
        ("M", say(f"call.key.mute.{'off' if call.muted else 'on'}"), "screen.mute"),
        ("C", say(f"call.key.camera.{_on(camera)}"), "screen.camera"),
        ("H", say(f"call.key.hold.{_on(call.held)}"), "screen.hold"),
        ("S", say(f"call.key.share.{_on(sharing)}"), "screen.share"),
        ("D", say("call.key.devices"), "screen.devices"),
        ("P", say(f"call.key.push.{_on(desk.push)}"), "screen.push"),
    ]
    if desk.push:
        keys.insert(2, ("Space", say("call.key.talk"), "screen.talk"))
    if wide:
        keys.append(("Tab", say("call.key.write"), "screen.write"))
    if desk.trust(call) is not Trust.VERIFIED:
        keys.append(("F7", say("call.key.verify"), "screen.verify"))
    return keys


def _on(value: object) -> str:
    return "off" if value else "on"
