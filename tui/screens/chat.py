"""The chat: rooms on the left, the open room, its members on the right.

Five classes, each on the one before: `RoomActions` changes rooms and their members,
`OpenRoom` reads and writes in the open one, `Care` leads to devices, keys, backup and
repair, `Calling` shows calls, and this one listens to the client, draws what is around
the room, and knows the keys.
"""

import asyncio
from collections.abc import Iterable
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Static

from client.model import Connection, Message, Room
from protocol.log import LogId
from tui.backend import ChatClient
from tui.being import typing_text
from tui.cells import one_line
from tui.feed import FLUSH_SECONDS, Batch, Feed
from tui.layout import person
from tui.messages import (
    EndReached,
    RoomChosen,
)
from tui.screens.call import CallScreen
from tui.screens.calling import Calling
from tui.text import say
from tui.widgets.bars import ActionBar, JumpBar, ReplyBar, RoomHeader, StatusBar
from tui.widgets.call_bar import CallBar
from tui.widgets.composer import Composer
from tui.widgets.member_panel import MemberList, MemberPanel
from tui.widgets.room_list import RoomList, room_title
from tui.widgets.timeline import Timeline
from tui.widgets.top_line import TopLine

__all__ = ["ChatScreen"]

MINUTE = 60
"""Seconds between looks at the clock: `Today` ends at midnight."""
BURST = 200
"""Events taken before the screen gets a turn."""


class ChatScreen(Calling):
    """The main screen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+n", "new_direct", "key.new"),
        Binding("ctrl+g", "new_group", "key.group"),
        Binding("f2,ctrl+l", "rooms", "key.rooms"),
        Binding("f3,ctrl+t", "members", "key.members"),
        Binding("f4", "rename", "key.rename"),
        Binding("f5", "add_members", "key.add"),
        Binding("f7", "verify", "key.verify", priority=True),
        Binding("f8", "leave", "key.leave"),
        Binding("ctrl+o", "menu", "key.menu"),
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
        self._feed = Feed()
        self._below = 0

    def compose(self) -> ComposeResult:
        """Three columns between two lines."""
        yield CallBar(id="call")
        yield TopLine(id="top")
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
        self.top = self.query_one(TopLine)
        self.rooms_list = self.query_one(RoomList)
        self.timeline = self.query_one(Timeline)
        self.composer = self.query_one(Composer)
        self.rooms_list.node = self.timeline.node = self.node
        self.rooms_list.presence = self.client.presence
        self.query_one(MemberPanel).presence = self.client.presence
        self.rooms_list.focus()
        self._arrange()
        self._show_status()
        self._listen()
        self._begin()
        self.look_around()
        self.begin_calls()
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
        if batch.connection is not None or batch.rooms or batch.own:
            self._show_status()
        self._show_people(batch)
        for alarm in batch.alarms:
            self.notify(
                one_line(alarm.text),
                title=say("toast.alarm"),
                severity="error",
                timeout=60,
                markup=False,
            )
        self.take_care(batch)
        self.take_calls(batch)
        self._see()

    def _show_people(self, batch: Batch) -> None:
        """Who is there, and who types."""
        if batch.people or batch.typing:
            self.rooms_list.refresh()
        if batch.people and self.room is not None:
            self._show_header()
            self.show_members()
        if self.room_id in batch.typing:
            self._show_typing()

    def _take_rooms(self, batch: Batch) -> None:
        for room in batch.rooms.values():
            before = self.rooms.get(room.id)
            self.rooms[room.id] = room
            if room.unread > (before.unread if before else 0):
                self._announce(room)
            if room.id == self.room_id:
                self._show_header()
                if before is None or _people(before) != _people(room):
                    self.load_members(room.id)
                self.take_draft(room)
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
            self.examine_room(self.room_id)

    def _announce(self, room: Room) -> None:
        """A message came in: a note in the corner and the bell."""
        last = room.last
        top = self.app.screen
        opened = room.id == self.room_id
        if isinstance(top, CallScreen):
            opened = top.shows(room.id)
        looking = opened and self.app.app_focus
        if looking or room.muted or last is None or last.own or last.kind != "text":
            return
        if self.client.presence.choice.state == "dnd":
            return
        self.app.ring()
        if not self.app.settings.toasts or opened:
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
            and self.app.screen is self  # a panel hides who knows what
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
            self.client.presence.mode,
        )
        self._show_hint()

    def _show_header(self) -> None:
        room = self.room
        being = self.client.presence.of(room.title) if room and room.direct else None
        self.query_one(RoomHeader).show(room, self.node, being)
        self._show_typing()
        self._show_hint()

    def _show_typing(self) -> None:
        room = self.room_id
        typists = self.client.presence.typists(room) if room is not None else ()
        width = max(0, self.composer.size.width - 4)
        self.composer.tell_typing(typing_text(typists, self.node, width))

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
        self._show_header()  # "5 min ago"

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

    # --- what widgets ask for ------------------------------------------------------

    @on(RoomChosen)
    def _room_chosen(self, event: RoomChosen) -> None:
        self.open_room(event.room)

    @on(EndReached)
    def _end_reached(self, event: EndReached) -> None:
        self._show_jump()
        if event.visible:
            self._see()

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


def _people(room: Room) -> tuple[object, ...]:
    """What the list of members depends on."""
    return room.members, room.trust, room.refuse_unverified
