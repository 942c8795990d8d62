"""What the chat does about calls: the line at the top, the bell, the title, the keys.

Keys come from the application (`F9`, `Shift+F9`, `F10`), so that a call can be taken
while a dialog is open, and what was being written there stays.
"""

import time
from collections.abc import Awaitable

from textual import on, work

from client.calls.model import Call
from client.model import Room
from tui.backend import ChatClient
from tui.calling import end_text, state_text
from tui.desk import Desk
from tui.feed import Batch
from tui.messages import MessageAction
from tui.screens.call import CallScreen
from tui.screens.care import Care
from tui.screens.sound import SoundScreen
from tui.text import say
from tui.widgets.call_bar import CallBar

__all__ = ["Calling"]

RING_SECONDS = 4
"""Between bells while a call rings: as often as a telephone."""
TICK_SECONDS = 1.0


def now_ms() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)


class Calling(Care):
    """The part of the chat screen that knows of calls."""

    def __init__(self, client: ChatClient) -> None:
        super().__init__(client)
        self._ticks = 0
        self._desk: Desk | None = None

    @property
    def desk(self) -> Desk:
        """The calls of this account."""
        if self._desk is None:
            self._desk = Desk(self.app, self.client, self.rooms)
        return self._desk

    def begin_calls(self) -> None:
        """Show what rings or runs already; then once a second."""
        for call in self.client.calls.calls:
            self.desk.book.put(call, time.monotonic())
        self._ticking = self.set_interval(TICK_SECONDS, self._tick_calls, pause=True)
        self._draw_calls()

    def take_calls(self, batch: Batch) -> None:
        """A call began, went on or ended."""
        book = self.desk.book
        for call in batch.calls.values():
            before = book.put(call, time.monotonic())
            if call.state == "incoming" and before is None:
                self._ticks = 0
                self._alert(call)
            elif call.end == "busy" and not call.own:
                self._tell_busy(call)
            elif call.state == "ended" and before is not None:
                self._note_end(call)
        for screen in self.app.screen_stack:
            if isinstance(screen, CallScreen):
                screen.take(batch)
        if batch.calls or (batch.rooms and book.shown is not None):
            self._draw_calls()

    def _draw_calls(self) -> None:
        book = self.desk.book
        self.query_one(CallBar).show(self.desk, now_ms())
        for screen in self.app.screen_stack:
            if isinstance(screen, CallScreen):
                screen.changed()
        self._title()
        if book.shown is None:
            self._ticking.pause()
        else:
            self._ticking.resume()

    def _tick_calls(self) -> None:
        book = self.desk.book
        book.forget_ended(time.monotonic())
        self._ticks += 1
        ring = book.incoming
        if ring is not None and self._ticks % RING_SECONDS == 0:
            self._alert(ring)
        self._draw_calls()

    def _title(self) -> None:
        book, desk = self.desk.book, self.desk
        ring, call = book.incoming, book.active
        if ring is not None and not desk.quiet(ring):
            sign = "☎" if self._ticks % 2 == 0 else "☏"
            self.app.call_title(say("title.ringing", sign=sign, who=desk.who(ring)))
        elif call is not None:
            self.app.call_title(say("title.call", who=desk.who(call)))
        else:
            self.app.call_title("")

    def _alert(self, call: Call) -> None:
        """The bell; and a note over whatever hides the line at the top."""
        if self.desk.quiet(call):
            return
        self.app.bell()
        if not isinstance(self.app.screen, CallScreen | Calling):
            self.notify(
                say("call.note"),
                title=f"☎ {self.desk.who(call)} {state_text(call, 0)}",
                timeout=RING_SECONDS,
                markup=False,
            )

    def _note_end(self, call: Call) -> None:
        """A note over whatever hides how a call ended, F10 pressed there or not."""
        covered = not isinstance(self.app.screen, CallScreen | Calling)
        if covered and (call.own or call.answered or not self.desk.quiet(call)):
            self.notify(end_text(call, self.desk.who(call)), markup=False)

    def _tell_busy(self, call: Call) -> None:
        """Somebody called during another call; it is a missed call in their chat."""
        if not self.desk.quiet(call):
            self.notify(f"☎ {end_text(call, self.desk.who(call))}", markup=False)

    # --- keys ---------------------------------------------------------------------

    def call_key(self) -> None:
        """F9: answer, show the call, or call the open chat."""
        book = self.desk.book
        if book.incoming is not None:
            self._take(book.incoming, camera=False)
        elif book.active is not None or isinstance(self.app.screen, CallScreen):
            self.toggle_call()
        elif book.just_rang(time.monotonic()):
            self.notify(say("call.gone"))
        elif self.app.screen is self:
            self.start_call(video=False)

    def call_video_key(self) -> None:
        """Shift+F9: the same with a picture."""
        book = self.desk.book
        if book.incoming is not None:
            self._take(book.incoming, camera=True)
        elif book.active is not None:
            self._work(self.desk.show(book.active, "camera"))
        elif book.just_rang(time.monotonic()):
            self.notify(say("call.gone"))
        elif self.app.screen is self:
            self.start_call(video=True)

    def call_end_key(self) -> None:
        """F10: decline what rings, else hang up, else hide why the last one ended."""
        book = self.desk.book
        call = book.incoming or book.active
        if call is not None:
            self._work(self.desk.end(call))
        elif book.ended is not None:
            book.ended = None
            self._draw_calls()
            if isinstance(self.app.screen, CallScreen):
                self.app.screen.action_leave()

    def _take(self, call: Call, *, camera: bool) -> None:
        """Answer, if that can have been meant: the microphone opens."""
        chat = self.room if self.app.screen is self else None
        room = None if chat is None else chat.id
        if not self.desk.book.meant(room, time.monotonic()):
            self.notify(say("call.fresh", who=self.desk.who(call)), markup=False)
        else:
            self._answer(call, camera=camera)

    def start_call(self, *, video: bool) -> None:
        """Call the other one of the open chat."""
        room = self.room
        if room is None:
            self.notify(say("only.room"))
        elif not room.active:
            self.notify(say("only.active"))
        elif not room.direct:
            self.notify(say("call.only.direct"), timeout=8)
        else:
            self._start(room, video)

    @on(MessageAction)
    def _call_back(self, event: MessageAction) -> None:
        """A click below a missed call."""
        if event.action == "call" and self.desk.book.shown is None:
            self.start_call(video=False)

    def open_call(self) -> None:
        """Call by the menu or the palette."""
        self.call_key()

    def open_video_call(self) -> None:
        """The same with a picture."""
        self.call_video_key()

    def open_sound(self) -> None:
        """Microphone, speaker, camera and what belongs to them."""
        self.app.push_screen(SoundScreen(self.client))

    def toggle_call(self) -> None:
        """Show the call, or go back to the chat."""
        stack = self.app.screen_stack
        if isinstance(self.app.screen, CallScreen):
            self.app.screen.action_leave()
        elif any(isinstance(screen, CallScreen) for screen in stack):
            self.app.pop_screen()
        else:
            self.app.push_screen(CallScreen(self.desk, self.client))

    # --- work ---------------------------------------------------------------------

    @work(group="call")
    async def _start(self, room: Room, video: bool) -> None:
        self._draw_calls_soon()
        call = await self._try(self.desk.start(room, video=video))
        self._draw_calls()
        if call is not None and self.app.screen is self:
            # It may be over already, before any event: where no sound can be had.
            self.desk.book.begin(call, time.monotonic())
            self._draw_calls()
            self.toggle_call()

    def _draw_calls_soon(self) -> None:
        self.call_later(self._draw_calls)

    @work(group="call")
    async def _answer(self, call: Call, *, camera: bool) -> None:
        if not any(isinstance(one, CallScreen) for one in self.app.screen_stack):
            self.toggle_call()
        await self._try(self.desk.answer(call, camera=camera))

    @work(group="call")
    async def _work(self, doing: Awaitable[None]) -> None:
        await self._try(doing)
