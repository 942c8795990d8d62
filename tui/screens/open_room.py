"""The open room: its pages, what is written in it, what is done with a message.

The part of the chat screen between the timeline, the composer and the client:
workers ask the client, and an answer that comes when another room is open already
is dropped.
"""

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import replace
from typing import TypeVar

from textual import on, work
from textual.timer import Timer
from textual.widgets import TextArea

from client.model import Message, MessageId, Room
from protocol.errors import TelexError
from protocol.log import LogId
from tui.backend import ChatClient
from tui.history import PAGE, WINDOW
from tui.messages import (
    MessageAction,
    MessageChosen,
    NewerWanted,
    OlderWanted,
    TextWritten,
)
from tui.screens.form import sentence
from tui.screens.room_actions import RoomActions
from tui.text import say
from tui.widgets.bars import ActionBar, ReplyBar
from tui.widgets.composer import Composer
from tui.widgets.member_panel import MemberPanel
from tui.widgets.room_list import RoomList
from tui.widgets.timeline import Timeline

__all__ = ["OpenRoom"]

LOG = logging.getLogger(__name__)

T = TypeVar("T")

SEEK_PAGES = 20
"""Pages that are read backwards in search of a quoted message."""

DRAFT_SECONDS = 1.0
"""After the last key until a draft is stored, and told to one's other devices."""


class OpenRoom(RoomActions):
    """What the chat screen does with the room that is open."""

    timeline: Timeline
    composer: Composer
    rooms_list: RoomList

    def __init__(self, client: ChatClient) -> None:
        super().__init__(client)
        self._draft = ""
        """What the client was told last of the open room's draft."""
        self._draft_time = 0
        """When that was, as the client counts it."""
        self._reply: Message | None = None
        self._loading = False
        self._early: dict[MessageId, Message] = {}
        """What arrived while the room's first page was being read."""
        self._sending = asyncio.Lock()
        self._members_wanted: bool | None = None
        self._draft_timer: Timer | None = None
        self._unstored: dict[LogId, str] = {}
        """Drafts that the client was not told yet."""

    def _arrange(self) -> None:
        """Show the columns that belong to the open room."""
        raise NotImplementedError

    def _show_jump(self) -> None:
        """Say whether there is more below."""
        raise NotImplementedError

    def _see(self) -> None:
        """Tell the client what was seen."""
        raise NotImplementedError

    # --- opening and paging ---

    def open_room(self, room: LogId) -> None:
        """Show a room and go to its composer."""
        if self.room_id != room:
            self._keep_draft()
            if self.room_id is not None:
                self.client.presence.type(self.room_id, False)
            self.room_id = room
            self.members_shown = ()
            self._set_reply(None)
            self._members_wanted = None
            self.timeline.clear()
            self.load_room(room)
        self.rooms_list.mark_open(room)
        self.add_class("-talking")
        self._arrange()
        self.composer.focus()

    def load_room(self, room: LogId) -> None:
        """Fetch the newest page of the open room."""
        self._loading = True
        self._early.clear()
        known = self.rooms.get(room)
        self._draft = known.draft if known is not None else ""
        self._draft_time = known.draft_time if known is not None else 0
        self.composer.put(self._draft)
        self._fetch(room)
        self.load_members(room)

    @work(group="room", exclusive=True)
    async def _fetch(self, room: LogId) -> None:
        unread = self.rooms[room].unread if room in self.rooms else 0
        limit = min(max(PAGE, unread + 20), WINDOW)
        messages = await self._try(self.client.messages(room, limit=limit))
        if messages is None or room != self.room_id:
            return
        self.timeline.show(messages, asked=limit, unread=unread)
        self._loading = False
        self.timeline.put(self._early.values())
        self._early.clear()
        self._show_jump()
        self._see()
        self.examine_room(room)

    @work(group="examine", exclusive=True)
    async def examine_room(self, room: LogId) -> None:
        """Ask the doctor which lines of the open room can be repaired."""
        try:
            found = await self.client.doctor.examine(room)
        except Exception:
            # Nobody asked: the lines stand there without an explanation.
            LOG.exception("the room could not be examined")
            return
        if room == self.room_id:
            ailing = frozenset(one.message for one in found if one.message)
            self.timeline.mark_ailing(ailing)

    @work(group="members", exclusive=True)
    async def load_members(self, room: LogId) -> None:
        """Fetch who is in a room."""
        members = await self._try(self.client.members(room))
        if members is not None and room == self.room_id:
            self.members_shown = members
            self.show_members()

    def show_members(self) -> None:
        """Draw who is in the open room."""
        if (shown := self.room) is not None:
            self.query_one(MemberPanel).show(
                self.members_shown,
                node=self.node,
                direct=shown.direct,
                active=shown.active,
            )

    @on(OlderWanted)
    @work(group="page", exclusive=True)
    async def _older(self) -> None:
        await self._read_older()

    async def _read_older(self) -> bool:
        room, page = self.room_id, self.timeline.history.older()
        if room is None:
            return False
        messages = await self._try(
            self.client.messages(room, before=page.before, limit=page.limit)
        )
        if messages is None or room != self.room_id:
            return False
        self.timeline.add_older(messages, page)
        return self.timeline.history.has_older

    @on(NewerWanted)
    @work(group="page", exclusive=True)
    async def _newer(self) -> None:
        room, history = self.room_id, self.timeline.history
        if room is None or history.at_end:
            return
        page = history.newer()
        messages = await self._try(
            self.client.messages(room, before=page.before, limit=page.limit)
        )
        if messages is not None and room == self.room_id and not history.at_end:
            self.timeline.add_newer(messages)

    # --- writing ---

    def _keep_draft(self, again: bool = False) -> None:
        """Tell the client what was written and not sent, if it is news.

        Args:
            again: also if it was told already: the client may take it for done.
        """
        room, text = self.room_id, self.composer.text
        text = text if text.strip() else ""
        if room is None or (text == self._draft and not (again and text)):
            return
        self._draft = text
        if (known := self.rooms.get(room)) is not None:
            self.rooms[room] = replace(known, draft=text)
        self._unstored[room] = text
        self._store_draft(room)

    @work(group="draft")
    async def _store_draft(self, room: LogId) -> None:
        async with self._sending:
            await self._store(room)

    async def _store(self, room: LogId) -> None:
        text = self._unstored.get(room)
        if text is None:
            return
        try:
            time = await self.client.set_draft(room, text)
            if room == self.room_id:
                self._draft_time = max(time, self._draft_time)
        except Exception:
            # Nobody asked for it, so nobody is told: the text stands there.
            LOG.exception("a draft was not stored")
        if self._unstored.get(room) == text:
            del self._unstored[room]

    async def on_unmount(self) -> None:
        """Keep what was typed last: the window is closed, and the timer with it.

        Workers are ended by now, maybe one that was about to store a draft.
        """
        self._keep_draft()
        for room in list(self._unstored):
            await self._store(room)

    @on(TextArea.Changed)
    def _draft_changed(self) -> None:
        if self.room_id is not None:
            text = self.composer.text.strip()
            if not text or text != self._draft.strip():
                self.client.presence.type(self.room_id, bool(text))
        if self._draft_timer is not None:
            self._draft_timer.stop()
        self._draft_timer = self.set_timer(DRAFT_SECONDS, self._keep_draft)

    def take_draft(self, room: Room) -> None:
        """Another device of this account wrote on, or sent it.

        The room may have been read before the client was told what stands here now:
        then it has an older draft, and that must not take away what is being typed.
        """
        if room.id != self.room_id or room.id in self._unstored:
            return
        if room.draft_time <= self._draft_time:
            return
        self._draft_time = room.draft_time
        if room.draft != self._draft:
            untouched = self.composer.text in (self._draft, "")
            self._draft = room.draft
            if untouched:
                self.composer.put(room.draft)

    @on(TextWritten)
    def _written(self, event: TextWritten) -> None:
        if self.room_id is None:
            return
        reply = self._reply.id if self._reply else None
        self._set_reply(None)
        self.timeline.forget_unread()
        self._send(self.room_id, event.text, reply)
        # After it: what stands here now is the next message, begun already.
        self._keep_draft(again=True)

    @work(group="send")
    async def _send(self, room: LogId, text: str, reply: MessageId | None) -> None:
        # One after the other: two quick messages must not overtake each other.
        async with self._sending:
            try:
                message = await self.client.send_text(room, text, reply_to=reply)
            except Exception as error:
                self._complain(error)
                if room == self.room_id and not self.composer.text:
                    self.composer.put(text)
                else:
                    await self._try(self.client.set_draft(room, text))
                return
        if room == self.room_id and not self._loading:
            if not self.timeline.history.at_end:
                self._fetch(room)
            else:
                self.timeline.put([message])
                self.timeline.action_newest()

    def _set_reply(self, message: Message | None) -> None:
        self._reply = message
        bar = self.query_one(ReplyBar)
        bar.display = message is not None
        if message is not None:
            bar.show(message, self.node)

    # --- messages ---

    @on(MessageChosen)
    def _message_chosen(self, event: MessageChosen) -> None:
        bar = self.query_one(ActionBar)
        bar.display = event.message is not None
        if event.message is not None:
            bar.show(event.message)
            self.timeline.focus()

    @on(MessageAction)
    def _message_action(self, event: MessageAction) -> None:
        message = self.timeline.message(event.id)
        match event.action:
            case "reply" if message is not None:
                self._reply_to(message)
            case "copy" if message is not None:
                self.app.copy_to_clipboard(message.text)
                self.notify(say("done.copied.hint"), timeout=3)
            case "retry":
                self._retry(event.id)
            case "discard":
                self._discard(event.id)
            case "jump":
                self._seek(event.id)
            case "unreply":
                self._set_reply(None)
            case "newest":
                self.action_newest()
            case "choose":
                self.timeline.focus()
                self.timeline.action_choose(-1)
            case "page-1" | "page1":
                self.timeline.action_page(int(event.action.removeprefix("page")))

    def _reply_to(self, message: Message) -> None:
        if self.room is None or not self.room.active or message.kind == "notice":
            return
        self.timeline.choose(None)
        self._set_reply(message)
        self.composer.focus()

    @work(group="message")
    async def _retry(self, message: MessageId) -> None:
        await self._try(self.client.retry(message))

    @work(group="message")
    async def _discard(self, message: MessageId) -> None:
        if await self.confirm("discard"):
            await self._try(self.client.discard(message))

    @work(group="page", exclusive=True)
    async def _seek(self, message: MessageId) -> None:
        for _ in range(SEEK_PAGES):
            if self.timeline.jump(message):
                return
            if not await self._read_older():
                break
        if not self.timeline.jump(message):
            self.notify(say("timeline.gone"))

    async def _try(self, doing: Awaitable[T]) -> T | None:
        """The answer, or None after saying what went wrong."""
        try:
            return await doing
        except Exception as error:
            self._complain(error)
            return None

    def _complain(self, error: Exception) -> None:
        known = isinstance(error, TelexError)
        text = sentence(error, self.app.locations.log)
        self.notify(text, severity="warning" if known else "error", markup=False)

    def action_newest(self) -> None:
        """Go to the newest message."""
        if self.timeline.history.at_end:
            self.timeline.action_newest()
        elif self.room_id is not None:
            self.timeline.choose(None)
            self._fetch(self.room_id)

    def action_oldest(self) -> None:
        """Go to the top of what is loaded."""
        self.timeline.action_oldest()

    def action_reply(self) -> None:
        """Answer the chosen or the last message."""
        self.timeline.action_act("reply")
