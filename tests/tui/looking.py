"""What a person sees and does: the screen as lines of text, and waiting for it."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from rich.cells import set_cell_size, split_text
from textual import events
from textual.pilot import Pilot

from tests.tui.fake_client import FakeBackend, FakeClient
from tui.app import TelexApp
from tui.config import Settings
from tui.locations import profile_locations
from tui.screens.chat import ChatScreen

SECONDS = 5.0
"""For something to appear; it takes some hundredths unless the machine is busy."""


class Sight:
    """An application in a terminal of a given size."""

    def __init__(self, app: TelexApp, pilot: Pilot[None]) -> None:
        self.app = app
        self.pilot = pilot

    @property
    def lines(self) -> list[str]:
        """The rows of cells on the screen."""
        strips = self.app.screen._compositor.render_strips()
        return [strip.text for strip in strips]

    @property
    def text(self) -> str:
        """The whole screen."""
        return "\n".join(line.rstrip() for line in self.lines)

    @property
    def words(self) -> str:
        """The screen with its white space as single spaces, for wrapped sentences."""
        return words(self.text)

    def part(self, selector: str) -> list[str]:
        """The rows of one widget."""
        region = self.app.screen.query_one(selector).region
        rows = self.lines[region.y : region.bottom]
        return [cut(row, region.x, region.right) for row in rows]

    @property
    def chat(self) -> ChatScreen:
        """The chat, which must be on top."""
        assert isinstance(self.app.screen, ChatScreen), self.text
        return self.app.screen

    async def until(self, there: Callable[[], object]) -> None:
        """Wait until that is so."""
        end = time.monotonic() + SECONDS
        while not there():
            assert time.monotonic() < end, f"not within {SECONDS} s:\n{self.text}"
            await self.pilot.pause(0.01)

    async def sees(self, *texts: str) -> None:
        """Wait until all of that is on the screen."""
        for text in texts:
            await self.until(partial(self._shows, text))

    def _shows(self, text: str) -> bool:
        screen = self.text
        return text in screen or text in words(screen)

    async def misses(self, text: str) -> None:
        """Wait until that is not on the screen any more."""
        await self.until(lambda: text not in self.text)

    async def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        await self.pilot.press(*keys)

    async def type(self, text: str) -> None:
        """Put a text into the focused field: a short one letter by letter.

        A long one is pasted: the pilot waits 50 ms after each key.
        """
        if len(text) > 4:
            self.app.post_message(events.Paste(text))
            await self.pilot.pause()
        elif text:
            names = {" ": "space", "\n": "ctrl+j"}
            await self.pilot.press(*(names.get(char, char) for char in text))

    async def rest(self) -> None:
        """Let everything that is under way settle."""
        await self.pilot.pause(0.12)

    def row(self, text: str) -> str:
        """The first row that holds this text."""
        for line in self.lines:
            if text in line:
                return line
        raise AssertionError(f"{text!r} is not on the screen:\n{self.text}")


def words(screen: str) -> str:
    """A screen with its white space and lines as single spaces."""
    return re.sub(r"[\s│▎▊▕▏|─╭╮╰╯]+", " ", screen)


def cut(row: str, left: int, right: int) -> str:
    """The cells of a row between two columns."""
    return set_cell_size(split_text(row, left)[1], right - left)


@asynccontextmanager
async def looking(
    folder: Path,
    *,
    client: FakeClient | None = None,
    backend: FakeBackend | None = None,
    size: tuple[int, int] = (100, 30),
    settings: Settings | None = None,
    first_room: str = "",
) -> AsyncIterator[Sight]:
    """Run the application: with a client in the chat, with a backend before it."""
    app = TelexApp(
        profile_locations(folder),
        settings or Settings(language="en"),
        opened=client,
        first_room=first_room,
        load=lambda: backend or FakeBackend(client),
    )
    async with app.run_test(size=size, notifications=True) as pilot:
        sight = Sight(app, pilot)
        if client is not None:
            await sight.until(lambda: isinstance(app.screen, ChatScreen))
            await sight.rest()
        try:
            yield sight
        finally:
            # As a person does; the harness alone would take widgets away under the
            # timers that draw them.
            app.exit()
    async with asyncio.timeout(SECONDS):
        await app.shut()
