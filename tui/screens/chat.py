"""The chat: rooms on the left, the open room, its members on the right.

This screen owns which room is open, the drafts and the reply; widgets tell it what
people want (`tui.messages`), it asks the client in workers and hands the answers
back. What changes rooms and their members is in `screens.room_actions`.
"""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import ClassVar, TypeVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Static

from client.model import Connection, Message, MessageId, Room
from protocol.errors import TelexError
from protocol.log import LogId
from tui.backend import ChatClient
from tui.cells import one_line
from tui.feed import FLUSH_SECONDS, Batch, Feed
from tui.history import PAGE, WINDOW
from tui.layout import person
from tui.messages import (
    EndReached,
    MessageAction,
    MessageChosen,
    NewerWanted,
    OlderWanted,
    RoomChosen,
    TextWritten,
)
from tui.screens.form import sentence
from tui.screens.room_actions import RoomActions
from tui.text import say
from tui.widgets.bars import ActionBar, JumpBar, ReplyBar, RoomHeader, StatusBar
from tui.widgets.composer import Composer
from tui.widgets.member_panel import MemberList, MemberPanel
from tui.widgets.room_list import RoomList, room_title
from tui.widgets.timeline import Timeline

__all__ = ["ChatScreen"]

T = TypeVar("T")

MINUTE = 60
"""Seconds between looks at the clock: `Today` ends at midnight."""
SEEK_PAGES = 20
"""Pages that are read backwards in search of a quoted message."""
BURST = 200
"""Events taken before the screen gets a turn."""


class ChatScreen(RoomActions):
    """The main screen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+n", "new_direct", "key.new"),
        Binding("ctrl+g", "new_group", "key.group"),
        Binding("f2,ctrl+l", "rooms", "key.rooms"),
        Binding("f3,ctrl+t", "members", "key.members"),
        Binding("f4", "rename", "key.rename"),
        Binding("f5", "add_members", "key.add"),
        Binding("f8", "leave", "key.leave"),
        Binding("ctrl+r", "reply", "key.reply"),
        Binding("alt+up,ctrl+up", "step(-1)", "key.previous"),
        Binding("alt+down,ctrl+down", "step(1)", "key.next"),
        Binding("alt+a,f6", "next_unread", "key.unread", priority=True),
        Binding("alt+1", "nth(1)", "key.nth", key_display="Alt+1 … Alt+9"),
        *(Binding(f"alt+{n}", f"nth({n})", show=False) for n in range(2, 10)),
        Binding("ctrl+end", "newest", "key.newest"),
        Binding("ctrl+home", "oldest", "key.oldest"),
        Binding("tab", "app.focus_next", "key.focus"),
        Binding("escape", "escape", "key.escape"),
    ]

    def __init__(
        self, client: ChatClient, first_room: str = "", greeting: str = ""
    ) -> None:
        super().__init__(client)
        self._first_room = first_room
        self._greeting = greeting
        self._drafts: dict[LogId, str] = {}
        self._reply: Message | None = None
        self._feed = Feed()
        self._loading = False
        self._early: dict[MessageId, Message] = {}
        self._below = 0
        self._sending = asyncio.Lock()
        self._members_wanted: bool | None = None

    def compose(self) -> ComposeResult:
        """Three columns over one line."""
        with Horizontal(id="body"):
            with Vertical(id="side"):
                yield Static(Content(say("rooms.title")), id="side-title")
                yield RoomList(id="rooms")
            with Vertical(id="talk"):
                yield RoomHeader(id="header", markup=False)
                yield Static(Content(say("rooms.none")), id="nothing")
                with Vertical(id="history"):
                    yield Timeline(id="timeline")
                    yield JumpBar(id="jump", markup=False)
                yield ReplyBar(id="reply", markup=False)
                yield ActionBar(id="actions", markup=False)
                yield Composer(id="composer")
            yield MemberPanel(id="members")
        yield StatusBar(id="status")

    def on_mount(self) -> None:
        """Show what is on this device, then listen."""
        self.rooms_list = self.query_one(RoomList)
        self.timeline = self.query_one(Timeline)
        self.composer = self.query_one(Composer)
        self.rooms_list.node = self.timeline.node = self.node
        self.rooms_list.drafts = self._drafts
        self.rooms_list.focus()
        self._arrange()
        self._show_status()
        self._listen()
        self._begin()
        self.set_interval(MINUTE, self._tick)

    # --- events from the engine ----------------------------------------------------

    @work(group="events", exclusive=True)
    async def _listen(self) -> None:
        count = 0
        async for event in self.client.events():
            if self._feed.add(event):
                self.set_timer(FLUSH_SECONDS, self._flush)
            count += 1
            if count % BURST == 0:
                await asyncio.sleep(0)

    @work(group="begin", exclusive=True)
    async def _begin(self) -> None:
        rooms = await self.client.rooms()
        for room in rooms:
            self.rooms[room.id] = room
        self._show_rooms()
        self._show_status()
        first: Room | None = None
        if self._first_room:
            first = await self._try(self.client.start_direct(self._first_room))
            if first is not None:
                self.rooms.setdefault(first.id, first)
        elif rooms and not rooms[0].unread and not self.narrow:
            first = rooms[0]
        if first is not None and self.room_id is None:
            self.open_room(first.id)
            if self._greeting:
                self._send(first.id, self._greeting, None)

    def _flush(self) -> None:
        """Draw what changed."""
        batch = self._feed.take()
        if batch.rooms:
            self._take_rooms(batch)
        shown = [m for m in batch.messages.values() if m.room == self.room_id]
        if self._loading:
            self._early.update((message.id, message) for message in shown)
        elif shown:
            self._take_messages(shown)
        for gone in batch.removed:
            self.timeline.forget(gone)
        if batch.connection is not None or batch.rooms:
            self._show_status()
        for alarm in batch.alarms:
            self.notify(
                one_line(alarm.text),
                title=say("toast.alarm"),
                severity="error",
                timeout=60,
                markup=False,
            )
        self._see()

    def _take_rooms(self, batch: Batch) -> None:
        for room in batch.rooms.values():
            before = self.rooms.get(room.id)
            self.rooms[room.id] = room
            if room.unread > (before.unread if before else 0):
                self._announce(room)
            if room.id == self.room_id:
                self._show_header()
                if before is None or before.members != room.members:
                    self.load_members(room.id)
        self._show_rooms()

    def _take_messages(self, messages: list[Message]) -> None:
        following = self.timeline.following
        self.timeline.put(messages)
        if not following:
            newest = self.timeline.history.messages
            known = newest[-1].position if newest else 0
            fresh = [m for m in messages if not m.own and m.position >= known]
            self._below += len(fresh)
            self._show_jump()
        if any(message.kind == "notice" for message in messages) and self.room_id:
            self.load_members(self.room_id)

    def _announce(self, room: Room) -> None:
        """A message came in: a note in the corner and the bell."""
        last = room.last
        looking = room.id == self.room_id and self.app.app_focus
        if looking or last is None or last.own:
            return
        self.app.ring()
        if not self.app.settings.toasts or room.id == self.room_id:
            return
        who = person(last.sender, self.node)[0]
        title = say("toast.direct", who=who)
        if not room.direct:
            title = say("toast.message", who=who, room=self.title_of(room))
        self.notify(one_line(last.text)[:200], title=title, markup=False, timeout=5)

    def _see(self) -> None:
        """Tell the engine that what is in view was seen, if somebody is looking."""
        room = self.room
        if (
            room is not None
            and room.unread
            and not self._loading
            and self.timeline.following
            and self.app.app_focus
            and self.is_current
        ):
            self._mark_read(room.id)

    @work(group="read", exclusive=True)
    async def _mark_read(self, room: LogId) -> None:
        await self._try(self.client.mark_read(room))

    def on_app_focus(self) -> None:
        """Somebody came back to the terminal."""
        self._see()

    def on_screen_resume(self) -> None:
        """A dialog was closed."""
        self._see()

    # --- drawing -----------------------------------------------------------------

    def _show_rooms(self) -> None:
        rooms = sorted(self.rooms.values(), key=lambda room: -room.order)
        self.rooms_list.show(rooms)
        unread = sum(room.unread for room in rooms)
        self.app.terminal_title(unread)

    def _show_status(self) -> None:
        unread = sum(room.unread for room in self.rooms.values())
        self.query_one(StatusBar).show(
            self.client.connection,
            self.client.connection_detail,
            self.client.account,
            unread,
        )
        self._show_hint()

    def _show_header(self) -> None:
        self.query_one(RoomHeader).show(self.room, self.node)
        self._show_hint()

    def _show_hint(self) -> None:
        room = self.room
        self.composer.read_only = room is None or not room.active
        if room is None:
            hint = say("composer.choose")
        elif not room.active:
            hint = one_line(room.note) or say("composer.left")
        elif self.client.connection is Connection.OFFLINE:
            hint = say("composer.offline")
        else:
            hint = say("composer.hint")
        self.composer.hint(hint)

    def _show_jump(self) -> None:
        bar = self.query_one(JumpBar)
        away = self.room_id is not None and not self.timeline.following
        bar.display = away and not self._loading
        if away:
            bar.show(self._below)
        else:
            self._below = 0

    def _tick(self) -> None:
        self.timeline.update_day()
        self.rooms_list.refresh()

    def on_resize(self) -> None:
        """Another width may show other columns."""
        self.call_after_refresh(self._arrange)

    def _arrange(self) -> None:
        """Which columns are shown, by the width and by what was asked for."""
        room = self.room
        wanted = self._members_wanted
        if wanted is None:
            group = room is not None and not room.direct
            wanted = self.wide and group and self.app.settings.members
        self.set_class(wanted and room is not None, "-members")
        self.set_class(room is not None, "-open")
        if room is None:
            self.remove_class("-talking")
        self._show_header()

    # --- opening a room ------------------------------------------------------------

    def open_room(self, room: LogId) -> None:
        """Show a room and go to its composer."""
        if self.room_id != room:
            self._keep_draft()
            self.room_id = room
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
        self.composer.put(self._drafts.pop(room, ""))
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

    @work(group="members", exclusive=True)
    async def load_members(self, room: LogId) -> None:
        """Fetch who is in a room."""
        members = await self._try(self.client.members(room))
        if members is not None and room == self.room_id and (shown := self.room):
            self.members_shown = members
            self.query_one(MemberPanel).show(
                members, node=self.node, direct=shown.direct, active=shown.active
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

    # --- writing -------------------------------------------------------------------

    def _keep_draft(self) -> None:
        if self.room_id is not None:
            if self.composer.text.strip():
                self._drafts[self.room_id] = self.composer.text
            else:
                self._drafts.pop(self.room_id, None)

    @on(TextWritten)
    def _written(self, event: TextWritten) -> None:
        if self.room_id is None:
            return
        reply = self._reply.id if self._reply else None
        self.composer.put("")
        self._set_reply(None)
        self.timeline.forget_unread()
        self._send(self.room_id, event.text, reply)

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
                    self._drafts[room] = text
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

    # --- what widgets ask for ------------------------------------------------------

    @on(RoomChosen)
    def _room_chosen(self, event: RoomChosen) -> None:
        self.open_room(event.room)

    @on(EndReached)
    def _end_reached(self, event: EndReached) -> None:
        self._show_jump()
        if event.visible:
            self._see()

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

    # --- keys ------------------------------------------------------------------------

    def action_rooms(self) -> None:
        """Show or hide the list of rooms."""
        if self.narrow:
            self.toggle_class("-talking")
            visible = not self.has_class("-talking")
        else:
            self.toggle_class("-norooms")
            visible = not self.has_class("-norooms")
        (self.rooms_list if visible else self.composer).focus()

    def action_members(self) -> None:
        """Show or hide the members."""
        if self.room is None:
            self.notify(say("only.room"))
            return
        self._members_wanted = not self.has_class("-members")
        if self.wide:
            self.app.change(members=self._members_wanted)
        self._arrange()
        (self.query_one(MemberList) if self._members_wanted else self.composer).focus()

    def action_step(self, step: int) -> None:
        """Open the room above or below."""
        if (room := self.rooms_list.neighbour(step)) is not None:
            self.open_room(room.id)

    def action_nth(self, number: int) -> None:
        """Open the first, second ... room of the list."""
        if number <= len(self.rooms_list.rooms):
            self.open_room(self.rooms_list.rooms[number - 1].id)

    def action_next_unread(self) -> None:
        """Open the next room with something new, below first, then from the top."""
        rooms = self.rooms_list.rooms
        at = next((i for i, r in enumerate(rooms) if r.id == self.room_id), -1)
        for room in [*rooms[at + 1 :], *rooms[: max(at, 0)]]:
            if room.unread:
                self.open_room(room.id)
                return

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

    def action_escape(self) -> None:
        """One step back, towards writing."""
        if self._reply is not None:
            self._set_reply(None)
        elif self.timeline.chosen is not None:
            self.timeline.choose(None)
        elif self.has_class("-members") and self._members_wanted and not self.wide:
            self._members_wanted = False
            self._arrange()
        elif self.narrow and self.focused is self.composer:
            self.action_rooms()
            return
        if self.room_id is not None:
            self.composer.focus()

    def room_titles(self) -> Iterable[tuple[LogId, str]]:
        """Every room with its full title, for the palette."""
        for room in self.rooms_list.rooms:
            yield room.id, "".join(room_title(room, self.node))

    def copy_account(self) -> None:
        """Put one's own address on the clipboard."""
        self.app.copy_to_clipboard(self.client.account)
        self.notify(say("done.copied.hint"), timeout=3)
