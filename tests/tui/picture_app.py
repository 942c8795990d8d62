"""A moving picture in a real terminal; keys put things over it (`test_picture_put`)."""

from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Label

from media.port import Frame, View
from tests.tui.picturing import BLUE, GREEN, RED, Question
from tui.updates import PromptScreen
from tui.widgets.picture import Picture

STRIPE = (250, 250, 0)


class Asked(Question):
    """Bindings of the application do not reach through a dialog."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("g", "app.colour('g')"),
        Binding("q", "app.close"),
    ]


class Moving(App[None]):
    """One colour, across which a stripe of one pixel moves."""

    CSS = "Picture { height: 1fr; } #top { height: 1; } Label { width: 100%; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "colour('r')"),
        Binding("g", "colour('g')"),
        Binding("b", "colour('b')"),
        Binding("t", "note"),
        Binding("x", "clear"),
        Binding("d", "dialog"),
        Binding("s", "other"),
        Binding("q", "close"),
        Binding("m", "move"),
    ]

    def get_default_screen(self) -> Screen[None]:
        return PromptScreen(id="_default")

    def compose(self) -> ComposeResult:
        yield Label("top", id="top")
        yield Picture("nothing", setting="blocks")
        yield Label("drawn 0", id="drawn")

    def on_mount(self) -> None:
        self.view = View()
        self.colour = RED
        self.count = 0
        self.set_interval(1 / 30, self.go_on)

    def on_picture_wanted_changed(self, event: Picture.WantedChanged) -> None:
        self.view = event.view

    def go_on(self) -> None:
        width, height = self.view.width, self.view.height
        if not width:
            return
        self.count += 1
        row = bytearray(bytes(self.colour) * width)
        at = 3 * (self.count % width)
        row[at : at + 3] = bytes(STRIPE)
        picture = self.screen_stack[0].query_one(Picture)
        picture.show(Frame("", width, height, bytes(row) * height))

    def action_colour(self, name: str) -> None:
        self.colour = {"r": RED, "g": GREEN, "b": BLUE}[name]

    def action_note(self) -> None:
        self.notify("a note", timeout=60)

    def action_clear(self) -> None:
        self.clear_notifications()

    def action_dialog(self) -> None:
        self.push_screen(Asked())

    def action_other(self) -> None:
        self.push_screen(Screen(id="other"))

    def action_close(self) -> None:
        self.pop_screen()

    def action_move(self) -> None:
        label = self.screen_stack[0].query_one("#top", Label)
        label.styles.height = 4


if __name__ == "__main__":
    Moving().run()
