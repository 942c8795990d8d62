"""When a screen draws what changed.

Textual's own timer ticks at fixed times: what changes right after one update waits for
17 to 33 ms. Typing is that case: the letter is drawn at once, and what it brings about
(a hint, a counter, who writes) is the next update. Here the next one follows a 60th of
a second after the last at the latest, and after a pause at once.
"""

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any

from textual.screen import Screen, ScreenResultType

if TYPE_CHECKING:
    # As Textual has it; there is no public way to another (8.2).
    from textual.timer import Timer

__all__ = ["PromptScreen", "Updates"]

PERIOD = 1 / 60
"""Seconds between updates at the least."""


class Updates:
    """Stands in for `Screen._update_timer`."""

    def __init__(self, screen: Screen[Any]) -> None:
        self._screen = screen
        self._loop = asyncio.get_running_loop()
        self._last = float("-inf")
        self._next: asyncio.TimerHandle | None = None

    def resume(self) -> None:
        """Something changed."""
        if self._next is None:
            wait = max(0.0, self._last + PERIOD - monotonic())
            self._next = self._loop.call_later(wait, self._update)

    def pause(self) -> None:
        """All is drawn."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _update(self) -> None:
        self._next = None
        self._last = monotonic()
        screen = self._screen
        if not screen.is_running or screen.app._exit:
            return
        with screen._context():
            try:
                screen._on_timer_update()
            except Exception as error:
                screen.app._handle_exception(error)


class PromptScreen(Screen[ScreenResultType]):
    """A screen that is typed into while much goes on."""

    _updates: Updates | None = None

    @property
    def _update_timer(self) -> "Timer":
        if self._updates is None:
            self._updates = Updates(self)
        return self._updates  # type: ignore[return-value]
