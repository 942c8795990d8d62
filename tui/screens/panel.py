"""Panels over the chat: a titled box, a list or a text, and a line of keys.

The line of keys comes from the panel's own bindings and can be clicked, so a panel
shows everything that can be done in it. Work that fails says so in one sentence and
leaves the panel as it was. The chat tells the panels above it what changed.
"""

from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from protocol.errors import TelexError
from tui.backend import ChatClient
from tui.cells import one_line, wrap
from tui.feed import Batch
from tui.keys import bindings_of, shown_key
from tui.screens.dialogs import Confirm
from tui.screens.form import sentence
from tui.text import say

if TYPE_CHECKING:
    from tui.app import TelexApp

__all__ = ["KeyLine", "ListPanel", "Panel", "PanelList"]

T = TypeVar("T")


class KeyLine(Static):
    """The keys of a panel, for the eye and for the mouse."""

    def __init__(self, bindings: Sequence[Binding]) -> None:
        super().__init__(classes="panel-keys", markup=False)
        self._offered = bindings
        self._off: frozenset[str] = frozenset()

    def on_mount(self) -> None:
        """Draw them."""
        self._draw()

    def off(self, *actions: str) -> None:
        """Leave out what cannot be done now."""
        if frozenset(actions) != self._off:
            self._off = frozenset(actions)
            self._draw()

    def _draw(self) -> None:
        parts: list[Content] = []
        for binding in self._offered:
            if binding.action in self._off:
                continue
            key = binding.key_display or shown_key(binding.key.split(",")[0])
            label = Content.assemble(
                (key, "bold $accent"),
                " ",
                say(binding.description).replace(" ", "\xa0"),
            )
            parts.append(label.stylize(f"@click=screen.{binding.action}"))
        self.update(Content("   ").join(parts))


class Panel(ModalScreen[Any]):
    """A box over the chat."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "leave", "key.close"),
        Binding("up,k", "scroll_body(-1)", show=False),
        Binding("down,j", "scroll_body(1)", show=False),
        Binding("pageup", "scroll_body(-8)", show=False),
        Binding("pagedown", "scroll_body(8)", show=False),
    ]
    WIDE: ClassVar[bool] = False
    """Whether it takes all the width there is."""

    app: "TelexApp"

    def __init__(self, client: ChatClient, title: str) -> None:
        super().__init__()
        self.client = client
        self._title = title
        self._keys = KeyLine([*bindings_of(type(self)), *bindings_of(Panel)])

    def body(self) -> ComposeResult:
        """What stands between the title and the keys."""
        yield from ()

    def compose(self) -> ComposeResult:
        """Title, body, a line for what goes on, keys."""
        box = Vertical(classes="panel")
        box.set_class(self.WIDE, "-full")
        box.border_title = Content(self._title)
        with box:
            with Vertical(classes="panel-body"):
                yield from self.body()
            with Vertical(classes="panel-foot"):
                yield Static("", classes="panel-note", markup=False)
                yield self._keys

    # --- saying -----------------------------------------------------------------

    def note(self, text: str, kind: str = "") -> None:
        """Say what is going on; `busy`, `error` or `done` colour it."""
        line = self.query_one(".panel-note", Static)
        line.set_classes(f"panel-note -{kind}" if kind else "panel-note")
        mark = {"busy": "◌ ", "error": "✗ ", "done": "✓ "}.get(kind, "")
        line.update(Content(f"{mark}{text}" if text else ""))

    def off(self, *actions: str) -> None:
        """Leave these keys out of the line of keys."""
        self._keys.off(*actions)

    async def trying(self, doing: Awaitable[T], busy: str = "") -> T | None:
        """The answer; or None, after the sentence that says what went wrong."""
        self.note(busy, "busy" if busy else "")
        try:
            answer = await doing
        except Exception as error:
            self.note(sentence(error, self.app.locations.log), "error")
            return None
        self.note("")
        return answer

    async def sure(self, what: str, **values: object) -> bool:
        """Ask before something that cannot be undone."""
        answer = await self.app.push_screen_wait(
            Confirm(
                say(f"{what}.title", **values),
                say(f"{what}.text", **values),
                say(f"{what}.go"),
            )
        )
        return bool(answer)

    # --- changes ----------------------------------------------------------------

    def changed(self, batch: Batch) -> None:
        """The engine told the chat that something changed."""

    def action_scroll_body(self, rows: int) -> None:
        """See the rest where the terminal is small."""
        self.query_one(".panel-body").scroll_relative(y=rows, animate=False)

    def action_leave(self) -> None:
        """Close the panel."""
        self.dismiss(None)


class PanelList(OptionList):
    """The list of a panel."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "cursor_down", show=False),
        Binding("k", "cursor_up", show=False),
    ]


class ListPanel(Panel):
    """A panel with one list; what is under the cursor is acted upon."""

    def __init__(self, client: ChatClient, title: str, *, empty: str) -> None:
        super().__init__(client, title)
        self._empty = empty

    def above(self) -> ComposeResult:
        """What stands over the list."""
        yield from ()

    def body(self) -> ComposeResult:
        """The list, or a word where there is nothing."""
        yield from self.above()
        yield Static(Content(f"◌ {say('panel.reading')}"), classes="panel-empty")
        yield PanelList(classes="panel-list", markup=False)

    def on_mount(self) -> None:
        """Read the list."""
        self.query_one(PanelList).display = False
        self.reload()

    @work(group="list", exclusive=True)
    async def reload(self) -> None:
        """Read the list again; the cursor stays at its thing."""
        try:
            options = await self.options()
        except Exception as error:
            if not isinstance(error, TelexError):
                self.query_one(".panel-empty", Static).update("")
            self.note(sentence(error, self.app.locations.log), "error")
            return
        self.show(options)

    async def options(self) -> list[Option]:
        """The lines of the list."""
        raise NotImplementedError

    def indented(self, text: str, indent: int = 2) -> str:
        """A line under a title, its parts below each other where it is long."""
        width = self.query_one(".panel-body").size.width or self.app.size.width - 6
        # One cell left and right in the list, and one for its scrollbar.
        lines = wrap(one_line(text), max(20, width - indent - 3))
        return "".join(f"\n{' ' * indent}{line}" for line in lines)

    def on_resize(self) -> None:
        """Lines break elsewhere now."""
        self.reload()

    def show(self, options: list[Option]) -> None:
        """Show these lines."""
        listing = self.query_one(PanelList)
        empty = self.query_one(".panel-empty", Static)
        before, at = self.chosen, listing.highlighted
        listing.set_options(options)
        listing.display = bool(options)
        empty.display = not options
        empty.update(Content(self._empty))
        if options:
            ids = [option.id for option in options]
            index = ids.index(before) if before in ids else min(at or 0, len(ids) - 1)
            listing.highlighted = index
            if self.focused is None or isinstance(self.focused, PanelList):
                listing.focus()
        self.pointed()

    @property
    def chosen(self) -> str:
        """The id of the line under the cursor; empty if there is none."""
        listing = self.query_one(PanelList)
        if listing.highlighted is None or not listing.option_count:
            return ""
        return listing.get_option_at_index(listing.highlighted).id or ""

    def on_option_list_option_highlighted(self) -> None:
        """The cursor moved."""
        self.pointed()

    def on_option_list_option_selected(self) -> None:
        """Enter, or a click."""
        self.picked()

    def pointed(self) -> None:
        """Something else is under the cursor."""

    def picked(self) -> None:
        """The line under the cursor was chosen."""
