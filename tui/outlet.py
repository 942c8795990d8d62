"""The way from pictures to the terminal, past or behind what Textual writes.

One for each application: all pictures share one link. It draws a picture only when
Textual's writer has nothing left to write and the terminal has answered the fence
behind the picture before (`media.view.pace`); until then a picture waits as its newest
frame, never as a queue of them.
"""

import asyncio
import contextlib
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary, WeakSet

from textual.events import CursorPosition
from textual.message import Message

from media.view.pace import Pace

if TYPE_CHECKING:
    from textual.app import App

__all__ = ["Outlet", "outlet"]

FENCE = "\x1b[6n"
"""Where is the cursor? (DSR.) Every terminal answers, and Textual understands the
answer: nothing of it reaches a widget as keys."""

AGAIN = 0.01
"""Seconds after which a writer that had work is looked at again."""

UNSEEN = 1.0
"""Seconds after which a drawing of which the screen never became is forgotten."""


class Drawer(Protocol):
    """A picture that waits for its turn."""

    def draw(self) -> bool:
        """Draw the newest frame now; False: there is nothing to draw any more."""

    def leave(self) -> None:
        """The terminal goes back to what it showed before: leave nothing on it."""


_outlets: "WeakKeyDictionary[App[Any], Outlet]" = WeakKeyDictionary()


def outlet(app: "App[Any]") -> "Outlet":
    """The one of that application."""
    if app not in _outlets:
        _outlets[app] = Outlet(app)
    return _outlets[app]


class Outlet:
    """Whose turn it is to draw."""

    def __init__(self, app: "App[Any]") -> None:
        # Textual has no public way to the terminal (8.2).
        self._driver: Any = app._driver
        self.pace = Pace(fences=not app.is_headless)
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[Drawer, None] = {}
        self._measured = False
        self._left = False
        self._drawers: WeakSet[Drawer] = WeakSet()
        self.dropped = 0
        """Frames that were overtaken by the next one."""
        self._drawing = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        if self.pace.asks and self._driver is not None:
            self._listen()

    def _listen(self) -> None:
        """Hear of the answers, in the driver's thread, and of the end."""
        driver, process = self._driver, self._driver.process_message

        def hear(message: Message) -> None:
            if isinstance(message, CursorPosition):
                # Nobody else asks, and Textual would pass each through its queues.
                with contextlib.suppress(RuntimeError):  # the loop is closed: the end
                    self._loop.call_soon_threadsafe(self._answered)
                return
            process(message)

        driver.process_message = hear
        stop = driver.stop_application_mode

        def leave() -> None:
            # Widgets go later than the terminal's other screen, with its pictures.
            for who in list(self._drawers):
                who.leave()
            self._left = True
            stop()

        driver.stop_application_mode = leave

    def write(self, text: str) -> None:
        """Write to the terminal, in order with what Textual writes."""
        if self._driver is not None and text:
            self._driver.write(text)

    def idle(self) -> bool:
        """Whether Textual's writer has given everything to the kernel, or begun to.

        Its queue is short and waiting for a place in it stops the whole application.
        """
        writer = getattr(self._driver, "_writer_thread", None)
        queue = getattr(writer, "_queue", None)
        return queue is None or queue.qsize() == 0

    def request(self, who: Drawer) -> None:
        """Have a picture drawn as soon as that delays nothing else."""
        if self._left:
            return
        if not self._measured:
            self._measured = True
            self._fence()  # how long the way takes without a picture
        self._drawers.add(who)
        self.dropped += who in self._waiting
        self._waiting[who] = None
        self._next()

    def resume(self) -> None:
        """The terminal is ours again; what was under way is lost."""
        self._left = False
        self._waiting.clear()
        self.pace.restart()

    def forget(self, who: Drawer) -> None:
        """That one has nothing to draw."""
        self._waiting.pop(who, None)

    def drawn(self) -> None:
        """What `Drawer.draw` began is written: ask whether it has arrived."""
        self._drawing = float("-inf")
        self._fence()
        if self._waiting:
            self._later(0.0)

    def _fence(self) -> None:
        if self.pace.asks:
            self.write(FENCE)
            self.pace.sent(monotonic())

    def _next(self) -> None:
        now = monotonic()
        while self._waiting and not self._left and now - self._drawing > UNSEEN:
            if not self.idle() or not self.pace.ready(now):
                self._later(self.pace.wait(now))
                return
            who = next(iter(self._waiting))
            del self._waiting[who]
            self._drawing = now
            if not who.draw():
                self._drawing = float("-inf")

    def _later(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(max(seconds, AGAIN), self._again)

    def _again(self) -> None:
        self._timer = None
        self._next()

    def _answered(self) -> None:
        if self.pace.answered(monotonic()):
            self._next()
