"""A QR code as a widget: black on white, whatever the theme."""

from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.qr import qr_rows
from tui.text import say

__all__ = ["CodeScreen", "QrCode"]


class QrCode(Static):
    """What a camera reads from the screen."""

    DEFAULT_CSS = """
    QrCode { width: auto; height: auto; color: black; background: white; }
    """

    def __init__(self, text: str = "", *, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self.encode(text)

    def encode(self, text: str, *, border: int = 2) -> tuple[int, int]:
        """Show another text, or nothing; returns the columns and rows it takes."""
        rows = qr_rows(text, border=border) if text else []
        self.display = bool(rows)
        self.update(Content("\n".join(rows)))
        return len(rows[0]) if rows else 0, len(rows)


class CodeScreen(ModalScreen[None]):
    """The code alone on the screen, for terminals that have no room beside words."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,c,enter,space", "app.pop_screen", "key.close"),
    ]

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        """The code, and a sentence where it does not fit."""
        yield QrCode(id="code-alone")
        yield Static("", id="code-small", markup=False)

    def on_resize(self, event: events.Resize) -> None:
        """Show it with the widest border that fits."""
        code = self.query_one("#code-alone", QrCode)
        columns = rows = 0
        for border in (4, 2, 1):
            columns, rows = code.encode(self._text, border=border)
            if rows <= event.size.height and columns <= event.size.width:
                break
        else:
            code.display = False
        small = self.query_one("#code-small", Static)
        small.display = not code.display
        small.update(Content(say("code.small", columns=columns, rows=rows)))

    def on_click(self) -> None:
        """A click closes it."""
        self.app.pop_screen()
