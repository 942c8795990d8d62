"""The timeline of the open room: draws the rows in view, and those alone.

The widget keeps a `History` (a bounded window over the room's log) and the rows of
its messages; Textual asks for one line of cells at a time. When something changes
only the messages concerned are laid out again, and what is in view stays where it
is: at the newest message for somebody who follows, at the same line for somebody
who reads above.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip

from client.model import Message, MessageId, State
from tui.history import PAGE, History, Page
from tui.layout import Block, Context, Row, Span, lay_out
from tui.messages import (
    EndReached,
    MessageAction,
    MessageChosen,
    NewerWanted,
    OlderWanted,
)
from tui.text import say
from tui.theme import person_colour

__all__ = ["Timeline"]

MARGIN_ROWS = 60
"""Ask for the next page this many rows before the edge comes into view."""

_PARTS = (
    *("text", "quiet", "time", "day", "day-line", "unread", "unread-line", "notice"),
    *("own", "other", "chosen", "own-bar", "own-name", "quote", "quote-bar", "empty"),
    *("failed", "action", "state-pending", "state-sent", "state-delivered"),
    *("state-read", "state-failed"),
)


class Timeline(ScrollView, can_focus=True):
    """The messages of one room."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"timeline--{name}" for name in _PARTS}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "choose(-1)", "key.up"),
        Binding("down,j", "choose(1)", "key.down"),
        Binding("pageup", "page(-1)", "key.pageup"),
        Binding("pagedown", "page(1)", "key.pagedown"),
        Binding("home", "oldest", "key.oldest"),
        Binding("end", "newest", "key.newest"),
        Binding("r,enter", "act('reply')", "key.reply"),
        Binding("c", "act('copy')", "key.copy"),
        Binding("s", "act('retry')", "key.retry"),
        Binding("d,delete", "act('delete')", "key.delete"),
        Binding("e", "act('explain')", "key.explain"),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.history = History()
        self.chosen: MessageId | None = None
        self.node = ""
        self.ailing: frozenset[MessageId] = frozenset()
        """Lines that the doctor can explain and repair."""
        self._unread: tuple[MessageId, int] | None = None
        self._blocks: list[Block] = []
        self._made: dict[MessageId, tuple[Block, Message | None, Context]] = {}
        self._starts: list[int] = [0]
        self._following = True
        self._asked = False
        self._loaded = False
        self._begin_at_unread = False

    @property
    def allow_select(self) -> bool:
        """Text can be marked with the mouse."""
        return True

    @property
    def following(self) -> bool:
        """Whether the newest message is in view."""
        drawn = self._loaded and not self._begin_at_unread
        return drawn and self._following and self.history.at_end

    # --- what is shown -------------------------------------------------------

    def show(self, messages: Sequence[Message], *, asked: int, unread: int) -> None:
        """Show a room from its newest page; with the line above what is new."""
        self.history.reset(messages, asked)
        self._loaded = True
        self._made.clear()
        self._unread = self.history.first_unread(unread)
        self.choose(None)
        self._following = True
        self._asked = False
        self._begin_at_unread = self._unread is not None
        self._update()
        self.post_message(EndReached(self.following))

    def clear(self) -> None:
        """Show nothing: another room is being loaded."""
        self.history.reset([], PAGE)
        self.history.has_older = False
        self._loaded = False
        self._unread = None
        self._begin_at_unread = False
        self.choose(None)
        self._update()

    def add_older(self, messages: Sequence[Message], page: Page) -> None:
        """Take the page before the window."""
        self._asked = False
        if self.history.put_older(messages, page.limit) or not self.history.has_older:
            self._update()

    def add_newer(self, messages: Sequence[Message]) -> None:
        """Take the page after the window."""
        self._asked = False
        self.history.put_newer(messages)
        self._update()

    def put(self, messages: Iterable[Message]) -> None:
        """Take messages that are new or changed."""
        changed = False
        for message in messages:
            changed |= self.history.put(message)
        if self._following and self.history.at_end:
            self.history.drop_head()
        if changed:
            self._update()

    def forget(self, message: MessageId) -> None:
        """Take a message out that was discarded."""
        if self.chosen == message:
            self.choose(None)
        if self.history.remove(message):
            self._update()

    def mark_ailing(self, messages: frozenset[MessageId]) -> None:
        """Offer an explanation under these lines, and under no others."""
        if messages != self.ailing:
            self.ailing = messages
            self._update()

    def update_day(self) -> None:
        """Midnight may have passed: `Today` is another day."""
        self._update()

    def forget_unread(self) -> None:
        """Take the line above the new messages away."""
        if self._unread is not None:
            self._unread = None
            self._update()

    def message(self, wanted: MessageId) -> Message | None:
        """A message of the window."""
        index = self.history.index(wanted)
        return None if index is None else self.history.messages[index]

    # --- rows ------------------------------------------------------------------

    @property
    def _height(self) -> int:
        return self.scrollable_content_region.height

    @property
    def _total(self) -> int:
        return self._starts[-1]

    def _update(self) -> None:
        """Lay out what changed and keep what is in view in its place."""
        anchor = self._anchor()
        if not self._lay_out():
            # Not on the screen yet; the first resize comes back here.
            return
        if self._begin_at_unread:
            self._begin_at_unread = False
            anchor = self._unread_anchor() or anchor
            self.post_message(EndReached(self.following))
        self.virtual_size = Size(self.size.width, self._total)
        if self._following and self.history.at_end:
            self._scroll(self._total)
        elif anchor is not None:
            index = self.history.index(anchor[0])
            if index is not None:
                self._scroll(self._starts[index] + anchor[1])
        self.refresh()
        self._check_edges()

    def _unread_anchor(self) -> tuple[MessageId, int] | None:
        """Where somebody who was away long begins: at the first new message."""
        if self._unread is None:
            return None
        index = self.history.index(self._unread[0])
        if index is None or self._total - self._starts[index] <= self._height:
            return None
        self._following = False
        return self._unread[0], 0

    def _anchor(self) -> tuple[MessageId, int] | None:
        if not self._blocks:
            return None
        y = self.scroll_offset.y
        index = min(bisect_right(self._starts, y) - 1, len(self._blocks) - 1)
        return self._blocks[index].message.id, y - self._starts[index]

    def _lay_out(self) -> bool:
        width = self.scrollable_content_region.width
        if width <= 0:
            return False
        plain = Context(width, date.today(), self.node)
        made: dict[MessageId, tuple[Block, Message | None, Context]] = {}
        blocks: list[Block] = []
        starts = [0]
        previous: Message | None = None
        for message in self.history.messages:
            context = plain
            if self._unread is not None and message.id == self._unread[0]:
                context = Context(width, plain.today, self.node, self._unread[1])
            if message.id in self.ailing:
                context = replace(context, ailing=True)
            old = self._made.get(message.id)
            if (
                old is not None
                and old[0].message is message
                and old[1] is previous
                and old[2] == context
            ):
                block = old[0]
            else:
                block = lay_out(message, previous, context)
            made[message.id] = (block, previous, context)
            blocks.append(block)
            starts.append(starts[-1] + len(block.rows))
            previous = message
        self._made, self._blocks, self._starts = made, blocks, starts
        return True

    def _scroll(self, y: int) -> None:
        self.scroll_to(y=y, animate=False, force=True, immediate=True)

    def _row(self, y: int) -> tuple[Block, Row, bool] | None:
        """The row at a line of the whole, and whether it is the message's own."""
        y -= max(0, self._height - self._total)
        if y < 0 or y >= self._total:
            return None
        index = bisect_right(self._starts, y) - 1
        # A message without rows (an empty text) shares its start with the next.
        block = self._blocks[index]
        number = y - self._starts[index]
        return block, block.rows[number], number >= block.body

    # --- drawing -----------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """One line of cells."""
        line = self.scroll_offset.y + y
        width = self.size.width
        base = self.rich_style
        found = self._row(line)
        if found is None:
            return self._blank(y, width, base)
        block, row, own_row = found
        chosen = own_row and block.message.id == self.chosen
        segments = []
        start = 0
        span = None
        if (selection := self.text_selection) is not None:
            span = selection.get_span(line)
        for piece in row.spans:
            style = self._style(piece, row, chosen, base)
            segments += self._marked(piece.text, start, style, span)
            start += len(piece.text)
        strip = Strip(segments).adjust_cell_length(width, base)
        return strip.apply_offsets(0, line)

    def _blank(self, y: int, width: int, base: Style) -> Strip:
        """Air above the messages, or a word where there are none."""
        if self._loaded and not self._blocks and y == self._height // 2:
            text = say("timeline.empty")
            style = base + self.get_component_rich_style("timeline--empty")
            return Strip([Segment(text, style)]).text_align(width, "center")
        return Strip.blank(width, base)

    def _style(self, span: Span, row: Row, chosen: bool, base: Style) -> Style:
        style = base
        if span.style != "margin":
            if chosen:
                style += self._part("chosen")
            elif row.fill:
                style += self._part(row.fill)
        if span.style.startswith("person:"):
            account = span.style.removeprefix("person:")
            if account.endswith(":name"):
                account = account.removesuffix(":name")
                style += Style(bold=True)
            dark = self.app.current_theme.dark
            style += Style(color=person_colour(account, dark=dark))
        elif span.style != "margin":
            style += self._part(span.style)
        if span.action:
            style += Style(meta={"telex": span.action})
        return style

    def _part(self, name: str) -> Style:
        return self.get_component_rich_style(f"timeline--{name}", partial=True)

    def _marked(
        self, text: str, start: int, style: Style, span: tuple[int, int] | None
    ) -> list[Segment]:
        """The text as segments, the part that the mouse marked in its colour."""
        if span is None:
            return [Segment(text, style)]
        first = max(0, span[0] - start)
        last = len(text) if span[1] == -1 else max(0, span[1] - start)
        marked = style + self.screen.get_component_rich_style("screen--selection")
        parts = (
            Segment(text[:first], style),
            Segment(text[first:last], marked),
            Segment(text[max(first, last) :], style),
        )
        return [part for part in parts if part.text]

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """What the mouse marked: words only, without bars, times and signs."""
        shift = max(0, self._height - self._total)
        lines = []
        for y in range(self._total):
            span = selection.get_span(y + shift)
            if span is not None and (found := self._row(y + shift)) is not None:
                lines.append(found[1].words(*span))
        return "\n".join(lines), "\n"

    def selection_updated(self, selection: Selection | None) -> None:
        """Draw again with the marked part."""
        self.refresh()

    # --- moving --------------------------------------------------------------------

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Notice whether the reader follows, and load what comes next."""
        super().watch_scroll_y(old_value, new_value)
        was = self.following
        self._following = round(new_value) >= self.max_scroll_y - 1
        if was != self.following:
            self.post_message(EndReached(self.following))
        self._check_edges()

    def _check_edges(self) -> None:
        if self._asked or not self._loaded:
            return
        y = self.scroll_offset.y
        if self.history.has_older and y < MARGIN_ROWS:
            self._asked = True
            self.post_message(OlderWanted())
        elif not self.history.at_end and y + self._height > self._total - MARGIN_ROWS:
            self._asked = True
            self.post_message(NewerWanted())

    def on_resize(self, event: events.Resize) -> None:
        """Lay everything out for the new width."""
        self._update()

    def notify_style_update(self) -> None:
        """The theme changed."""
        super().notify_style_update()
        self.refresh()

    def choose(self, message: MessageId | None) -> None:
        """Choose a message, and bring it into view."""
        if message == self.chosen:
            return
        self.chosen = message
        self.refresh()
        self.post_message(MessageChosen(self.message(message) if message else None))
        if message is not None:
            self._bring(message)

    def _bring(self, message: MessageId) -> None:
        index = self.history.index(message)
        if index is None or index >= len(self._blocks):
            return
        top = self._starts[index]
        bottom = self._starts[index + 1]
        y = self.scroll_offset.y
        if top < y:
            self._scroll(top)
        elif bottom > y + self._height:
            self._scroll(min(top, bottom - self._height))

    def jump(self, message: MessageId) -> bool:
        """Choose a message if it is in the window."""
        if self.history.index(message) is None:
            return False
        self.choose(message)
        return True

    def action_choose(self, step: int) -> None:
        """Choose the message above or below."""
        texts = [m for m in self.history.messages if self._can_choose(m)]
        if not texts:
            return
        ids = [message.id for message in texts]
        if self.chosen not in ids:
            self.choose(ids[-1])
            return
        index = ids.index(self.chosen) + step
        if 0 <= index < len(ids):
            self.choose(ids[index])
        elif index < 0:
            self._scroll(0)
        else:
            self.action_newest()

    def _can_choose(self, message: Message) -> bool:
        """What people wrote, and what could not be read."""
        return message.kind == "text" or message.id in self.ailing

    def action_page(self, step: int) -> None:
        """Scroll by a screen, less one row to find one's place."""
        rows = max(1, self._height - 1)
        self.scroll_relative(y=step * rows, animate=False, force=True, immediate=True)

    def action_oldest(self) -> None:
        """Go to the top of what is loaded."""
        self._scroll(0)

    def action_newest(self) -> None:
        """Go to the newest message; the screen loads it if it is not here."""
        self.choose(None)
        if self.history.at_end:
            self._scroll(self._total)
        else:
            self.post_message(MessageAction("newest", MessageId("")))

    def action_act(self, action: str) -> None:
        """Do something with the chosen message."""
        message = self.message(self.chosen) if self.chosen else None
        if message is None:
            message = self.history.last_text() if action == "reply" else None
        if message is None:
            return
        failed = message.state is State.FAILED
        if action == "delete" and failed:
            action = "discard"
        if action in ("retry", "discard") and not failed:
            return
        if action == "explain" and message.id not in self.ailing:
            return
        self.post_message(MessageAction(action, message.id))

    def on_click(self, event: events.Click) -> None:
        """Choose the message under the mouse, or do what the word says."""
        action = event.style.meta.get("telex") if event.style else None
        if isinstance(action, str):
            event.stop()
            kind, _, message = action.partition(":")
            self.post_message(MessageAction(kind, MessageId(message)))
            return
        found = self._row(self.scroll_offset.y + event.y)
        if found is None or not found[2] or not self._can_choose(found[0].message):
            self.choose(None)
        elif self.text_selection is None:
            self.choose(found[0].message.id)
