"""The chat beside a call, where the terminal is wide enough: its last messages, and
where one writes.

It has a life of its own: the chat below keeps its open room, its draft and its place.
"""

import asyncio
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import TextArea

from protocol.log import LogId
from tui.backend import ChatClient
from tui.feed import Batch
from tui.messages import MessageAction, TextWritten
from tui.screens.form import sentence
from tui.text import say
from tui.widgets.composer import Composer
from tui.widgets.timeline import Timeline

if TYPE_CHECKING:
    from tui.app import TelexApp

__all__ = ["CallTalk"]

LAST = 50
"""Messages that are shown; the others are in the chat."""


class CallTalk(Vertical):
    """The last messages of the call's room."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop_writing", show=False),
    ]

    app: "TelexApp"

    def __init__(self, client: ChatClient, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._client = client
        self.room: LogId | None = None
        """Whose messages are shown."""
        self._sending = asyncio.Lock()

    def compose(self) -> ComposeResult:
        """Messages, and the line for one more."""
        timeline = Timeline(id="call-timeline")
        timeline.can_focus = False
        timeline.node = self._client.account.partition("@")[2]
        yield timeline
        yield Composer(id="call-composer")

    def on_mount(self) -> None:
        """How to get there."""
        self.query_one(Composer).hint(say("call.talk.hint"))

    def show(self, room: LogId) -> None:
        """Show this room."""
        if room != self.room:
            self.room = room
            self._fetch(room)

    @work(group="talk", exclusive=True)
    async def _fetch(self, room: LogId) -> None:
        try:
            messages = await self._client.messages(room, limit=LAST)
        except Exception as error:
            self._complain(error)
            return
        timeline = self.query_one(Timeline)
        timeline.show(messages, asked=LAST, unread=0)
        timeline.history.has_older = False
        self.see()

    def take(self, batch: Batch) -> None:
        """Messages came, changed or went."""
        if self.room is None or not self.display:
            return
        timeline = self.query_one(Timeline)
        new = [one for one in batch.messages.values() if one.room == self.room]
        timeline.put(new)
        for gone in batch.removed:
            timeline.forget(gone)
        if new:
            self.see()

    @work(group="talk-seen", exclusive=True)
    async def see(self) -> None:
        """Tell the engine that what is shown was seen, if somebody is looking."""
        in_front = self.app.screen is self.screen and self.display
        if self.room is not None and self.app.app_focus and in_front:
            try:
                await self._client.mark_read(self.room)
            except Exception as error:
                self._complain(error)

    @on(TextArea.Changed)
    def _typed(self) -> None:
        if self.room is not None:
            written = bool(self.query_one(Composer).text.strip())
            self._client.presence.type(self.room, written)

    @on(TextWritten)
    @work(group="talk-send")
    async def _send(self, event: TextWritten) -> None:
        room = self.room
        if room is None:
            return
        async with self._sending:
            try:
                message = await self._client.send_text(room, event.text)
            except Exception as error:
                self._complain(error)
                composer = self.query_one(Composer)
                if not composer.text:
                    composer.put(event.text)
                return
        if room == self.room:
            self.query_one(Timeline).put([message])
            self.query_one(Timeline).action_newest()

    @on(MessageAction)
    def _message_action(self, event: MessageAction) -> None:
        """What one does with messages is done in the chat."""
        event.stop()
        if event.action in ("page-1", "page1"):
            step = int(event.action.removeprefix("page"))
            self.query_one(Timeline).action_page(step)

    def action_stop_writing(self) -> None:
        """Letters are keys of the call again."""
        self.screen.set_focus(None)

    def _complain(self, error: Exception) -> None:
        text = sentence(error, self.app.locations.log)
        self.notify(text, severity="warning", markup=False)
