"""The list of rooms: two rows each, drawn only where they are in view."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from client.model import Room, State, Trust
from protocol.log import LogId
from tui.backend import PresencePort
from tui.badges import SIGNS, word
from tui.being import SIGNS as SIGNS_OF_BEING
from tui.being import typing_text
from tui.cells import cell_len, fit, one_line, pad
from tui.layout import GLYPHS, clock, person
from tui.messages import RoomChosen
from tui.text import say

__all__ = ["RoomList", "room_title"]

ROWS = 2
_PARTS = (
    *("title", "quiet", "unread", "badge", "open", "cursor", "mark", "empty", "draft"),
    "typing",
    *("left", "failed", "trust-verified", "trust-unverified", "trust-changed"),
    *(f"being-{state}" for state in SIGNS_OF_BEING),
)
UNREAD_MAX = 999
"""A larger number is drawn as 999+, which still fits."""


def room_title(room: Room, node: str) -> tuple[str, str]:
    """A room's title and, of somebody from another node, the rest of the address."""
    if room.direct:
        return person(room.title, node)
    return one_line(room.title) or say("room.untitled"), ""


class RoomList(ScrollView, can_focus=True):
    """All rooms, the newest first."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"rooms--{name}" for name in _PARTS}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "key.up"),
        Binding("down,j", "move(1)", "key.down"),
        Binding("home", "move(-100000)", "key.top"),
        Binding("end", "move(100000)", "key.bottom"),
        Binding("enter,right", "open", "key.open"),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.rooms: list[Room] = []
        self.opened: LogId | None = None
        self.node = ""
        self.presence: PresencePort | None = None
        self._cursor: LogId | None = None
        self._loaded = False

    def show(self, rooms: Sequence[Room]) -> None:
        """Show these rooms, in this order."""
        self.rooms = list(rooms)
        self._loaded = True
        self._begin_somewhere()
        self.virtual_size = Size(self.size.width, len(rooms) * ROWS)
        self.refresh()

    def mark_open(self, room: LogId | None) -> None:
        """Show which room is open."""
        self.opened = self._cursor = room
        self._bring()
        self.refresh()

    def neighbour(self, step: int) -> Room | None:
        """The room above or below the open one."""
        index = self._index(self.opened)
        if index is None:
            return self.rooms[0] if self.rooms else None
        index += step
        return self.rooms[index] if 0 <= index < len(self.rooms) else None

    def _begin_somewhere(self) -> None:
        """Where there is a focus, there is a cursor."""
        if self.has_focus and self._index(self._cursor) is None and self.rooms:
            self._cursor = self.rooms[0].id

    def _index(self, wanted: LogId | None) -> int | None:
        for index, room in enumerate(self.rooms):
            if room.id == wanted:
                return index
        return None

    def _bring(self) -> None:
        index = self._index(self._cursor)
        if index is None:
            return
        y, height = self.scroll_offset.y, self.scrollable_content_region.height
        if index * ROWS < y:
            self.scroll_to(y=index * ROWS, animate=False, immediate=True)
        elif (index + 1) * ROWS > y + height:
            self.scroll_to(y=(index + 1) * ROWS - height, animate=False, immediate=True)

    # --- drawing ---------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """One line of cells."""
        width = self.size.width
        line = self.scroll_offset.y + y
        index = line // ROWS
        if index < len(self.rooms):
            return self._draw(self.rooms[index], line % ROWS, width)
        if not self.rooms and self._loaded:
            lines = ["", say("rooms.empty"), "", *say("rooms.empty.hint").split("\n")]
            if line < len(lines):
                style = self.rich_style + self._part("empty")
                text = fit(f"  {lines[line]}", width)
                return Strip([Segment(text, style)])
        return Strip.blank(width, self.rich_style)

    def _draw(self, room: Room, line: int, width: int) -> Strip:
        base = self.rich_style
        if room.id == self.opened:
            base += self._part("open")
        if room.id == self._cursor and self.has_focus:
            base += self._part("cursor")
        mark = "▌" if room.id == self.opened else " "
        segments = [Segment(mark, base + self._part("mark")), Segment(" ", base)]
        inner = max(0, width - 3)
        draw = self._top if line == 0 else self._bottom
        segments += draw(room, inner, base)
        return Strip(segments).adjust_cell_length(width, base)

    def _top(self, room: Room, width: int, base: Style) -> list[Segment]:
        """Its title and the time of its last message."""
        at = _when(room)
        space = width - cell_len(at) - 1
        name, rest = room_title(room, self.node)
        title = self._part("left" if not room.active else "title")
        if room.unread:
            title += self._part("unread")
        sign = f"{SIGNS[room.trust]} " if room.active else "  "
        being = self._being(room)
        space -= cell_len(sign) + (2 if being else 0)
        name = fit(name, min(cell_len(name), max(0, space)))
        rest = fit(rest, min(cell_len(rest), max(0, space - cell_len(name))))
        if cell_len(rest) < 4:
            rest = ""
        mark = f" {word(room.trust)}"
        left = space - cell_len(name) - cell_len(rest)
        mark = mark if cell_len(mark) <= left and room.active else ""
        gap = " " * (1 + left - cell_len(mark))
        quiet = base + self._part("quiet")
        trust = base + self._part(f"trust-{room.trust.value}")
        dot = f" {SIGNS_OF_BEING[being]}" if being else ""
        return [
            Segment(sign, trust),
            Segment(name, base + title),
            Segment(rest, quiet),
            Segment(dot, base + self._part(f"being-{being}") if being else base),
            Segment(mark, trust),
            Segment(gap, base),
            Segment(at, quiet),
        ]

    def _being(self, room: Room) -> str:
        """Whether the other one of a direct chat is there; empty if unknown."""
        if self.presence is None or not (room.direct and room.active):
            return ""
        state = self.presence.of(room.title).state
        return "" if state == "unknown" else state

    def _bottom(self, room: Room, width: int, base: Style) -> list[Segment]:
        """Its last message and how many are unread."""
        badge = ""
        if room.unread:
            over = room.unread > UNREAD_MAX
            badge = f" {UNREAD_MAX}+ " if over else f" {room.unread} "
        space = width - cell_len(badge) - (1 if badge else 0)
        text, style = self._last(room)
        typists = self.presence.typists(room.id) if self.presence is not None else ()
        if typing := typing_text(typists, self.node, space):
            text, style = typing, "typing"
        segments = [Segment(fit(text, space), base + self._part(style))]
        if badge:
            segments.append(Segment(" ", base))
            segments.append(Segment(badge, base + self._part("badge")))
        return segments

    def _last(self, room: Room) -> tuple[str, str]:
        if room.active and room.trust is Trust.CHANGED:
            return say("rooms.changed"), "failed"
        if room.draft and room.id != self.opened:
            return say("rooms.draft", text=one_line(room.draft)), "draft"
        if not room.active:
            return say("rooms.left"), "quiet"
        if room.note:
            return one_line(room.note), "quiet"
        last = room.last
        if last is None:
            return "", "quiet"
        text = one_line(last.text)
        if last.kind == "notice":
            return text, "quiet"
        if last.own:
            glyph = GLYPHS[last.state]
            style = "failed" if last.state is State.FAILED else "quiet"
            return f"{glyph} {text}", style
        if not room.direct:
            who = person(last.sender, self.node)[0]
            return say("rooms.said", who=who, text=text), "quiet"
        return text, "quiet"

    def _part(self, name: str) -> Style:
        return self.get_component_rich_style(f"rooms--{name}", partial=True)

    # --- moving ----------------------------------------------------------------

    def action_move(self, step: int) -> None:
        """Move the cursor."""
        if not self.rooms:
            return
        index = self._index(self._cursor)
        index = 0 if index is None else index + step
        self._cursor = self.rooms[max(0, min(index, len(self.rooms) - 1))].id
        self._bring()
        self.refresh()

    def action_open(self) -> None:
        """Open the room under the cursor."""
        if self._cursor is not None:
            self.post_message(RoomChosen(self._cursor))

    def on_click(self, event: events.Click) -> None:
        """Open the room under the mouse."""
        index = (self.scroll_offset.y + event.y) // ROWS
        if 0 <= index < len(self.rooms):
            self._cursor = self.rooms[index].id
            self.post_message(RoomChosen(self._cursor))

    def on_focus(self) -> None:
        """Show the cursor."""
        self._begin_somewhere()
        self.refresh()

    def on_blur(self) -> None:
        """Hide the cursor; it begins at the open room next time."""
        self._cursor = self.opened
        self.refresh()

    def on_resize(self, event: events.Resize) -> None:
        """The width changed."""
        self.virtual_size = Size(self.size.width, len(self.rooms) * ROWS)


def _when(room: Room) -> str:
    """The time of the last message: a clock today, a date before."""
    if room.last is None:
        return ""
    at = clock(room.last.time)
    today = date.today()
    if at.date() == today:
        return f"{at:%H:%M}"
    if at.date() == today - timedelta(days=1):
        return say("room.yesterday")
    if at.year == today.year:
        return f"{at:%m-%d}"
    return pad(f"{at:%Y}", 4)
