"""A picture in an application of its own, and the terminal that shows it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pyte
import pytest
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.screen import ModalScreen
from textual.widgets import Label

from media.port import Frame, View
from tui.outlet import Outlet
from tui.widgets.picture import Picture

RED, BLUE, GREEN = (250, 10, 20), (20, 30, 240), (10, 230, 40)
SIZE = (40, 20)


def frame(
    upper: tuple[int, int, int] = RED,
    lower: tuple[int, int, int] = BLUE,
    width: int = 40,
    height: int = 32,
) -> Frame:
    """The upper half in one colour, the lower in another."""
    half = width * (height // 2)
    return Frame("", width, height, bytes(upper) * half + bytes(lower) * half)


class Box(App[None]):
    """A line, a picture of 40 x 16 cells, and three lines."""

    CSS = "Picture { height: 16; } Label { width: 100%; }"

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode
        self.asked: list[View] = []
        self.written: list[str] = []

    def compose(self) -> ComposeResult:
        yield Label("top")
        yield Picture("the camera is off", setting=self.mode)
        yield Label("below")

    def on_picture_wanted_changed(self, event: Picture.WantedChanged) -> None:
        self.asked.append(event.view)

    @property
    def picture(self) -> Picture:
        """The widget, on whichever screen it is."""
        return self.screen_stack[0].query_one(Picture)

    def shown(self) -> pyte.Screen:
        """The screen as a terminal shows it."""
        update: Any = self.screen._compositor.render_update(
            full=True, screen_stack=self._background_screens
        )
        screen = pyte.Screen(*self.size)
        pyte.Stream(screen).feed(update.render_segments(self.console))
        return screen


@asynccontextmanager
async def running(
    mode: str, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int] = SIZE
) -> AsyncIterator[tuple[Box, Pilot[None]]]:
    """The application, with what it writes past Textual in `written`."""
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "TELEX_VIDEO", "TMUX", "STY", "KITTY_WINDOW_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("tui.widgets.picture.cell_size", lambda: (10, 20))
    app = Box(mode)
    monkeypatch.setattr(Outlet, "write", lambda _, text: app.written.append(text))
    async with app.run_test(size=size, notifications=True) as pilot:
        await pilot.pause()
        yield app, pilot


def colours(screen: pyte.Screen, x: int, y: int) -> tuple[tuple[int, ...], ...]:
    """The upper and lower half of a cell."""
    cell = screen.buffer[y][x]
    assert cell.data == "▀", f"{cell.data!r} at {x}, {y}"
    return tuple(
        tuple(int(name[at : at + 2], 16) for at in (0, 2, 4))
        for name in (cell.fg, cell.bg)
    )


def text(screen: pyte.Screen) -> str:
    return "\n".join(screen.display)


async def until(pilot: Pilot[None], there: Callable[[], object]) -> None:
    for _ in range(500):
        if there():
            return
        await pilot.pause(0.01)
    raise AssertionError("it did not happen")


class Question(ModalScreen[None]):
    """A dialog in the middle."""

    CSS = "Question { align: center middle; } Label { width: 10; }"

    def compose(self) -> ComposeResult:
        yield Label("really?")
