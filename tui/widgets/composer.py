"""Where one writes: grows with the text, sends on Enter, keeps a paste whole.

Keys that every terminal sends: Enter is `\\r`, Ctrl+J is `\\n`. Shift+Enter and
Ctrl+Enter exist only where the terminal speaks the kitty protocol. Alt+Enter comes
as Escape and `\\r`, which Textual (8.2) takes for a plain Enter: the message would
be sent half written; `teach_keys` tells its parser better.
"""

from typing import Any, ClassVar

from textual import _ansi_sequences as sequences
from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.keys import Keys
from textual.widgets import TextArea

from client.model import MessageId
from protocol.limits import TEXT_MAX
from tui.messages import MessageAction, TextWritten
from tui.text import say

__all__ = ["Composer", "teach_keys"]

ROWS_MAX = 8
"""Rows that the composer grows to; more scrolls inside."""


def teach_keys() -> None:
    """Let Alt+Enter break the line, as Ctrl+J does, and Alt+1 to 9 be what they are.

    Textual reads Escape and a digit as the signs of a Mac's Option key; a terminal
    that means these sends them itself.
    """
    known: Any = sequences.ANSI_SEQUENCES_KEYS
    for sequence in ("\x1b\r", "\x1b\n"):
        known.setdefault(sequence, (Keys.ControlJ,))
    for digit in "123456789":
        known.pop(f"\x1b{digit}", None)


class Composer(TextArea):
    """The text that is being written."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "send", "key.send"),
        Binding("ctrl+j,shift+enter,alt+enter,ctrl+enter", "new_line", "key.newline"),
        Binding("up", "up_or_choose", "key.choose"),
        Binding("pageup", "scroll_history(-1)", "key.pageup"),
        Binding("pagedown", "scroll_history(1)", "key.pagedown"),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(
            id=id,
            soft_wrap=True,
            show_line_numbers=False,
            highlight_cursor_line=False,
            tab_behavior="focus",
            compact=True,
        )

    async def on_key(self, event: events.Key) -> None:
        """Take the keys that a plain text field would use otherwise."""
        if event.key == "enter":
            # TextArea inserts a newline here, before bindings are looked at.
            event.stop()
            event.prevent_default()
            self.action_send()
        elif event.key in ("ctrl+j", "shift+enter", "alt+enter", "ctrl+enter"):
            event.stop()
            event.prevent_default()
            self.action_new_line()
        elif event.key.startswith("alt+"):
            # TextArea would write the letter; it is a key of the chat (Alt+1).
            event.prevent_default()

    def action_send(self) -> None:
        """Send what stands here, if it is not empty."""
        if self.read_only or not self.text.strip():
            return
        over = len(self.text.encode("utf-8", "surrogatepass")) - TEXT_MAX
        if over > 0:
            self.notify(say("composer.long", over=over), severity="warning")
            return
        # Emptied here, not by who handles the message: what is typed until then
        # belongs to the next one.
        text = self.text.strip("\n")
        self.put("")
        self.post_message(TextWritten(text))

    def action_new_line(self) -> None:
        """Begin a new line."""
        if not self.read_only:
            self.insert("\n")
            self.scroll_cursor_visible()

    def action_up_or_choose(self) -> None:
        """Up a line; from an empty text to the messages above."""
        if self.text:
            self.action_cursor_up()
        else:
            self.post_message(MessageAction("choose", MessageId("")))

    def action_scroll_history(self, step: int) -> None:
        """Scroll the timeline without leaving the text."""
        self.post_message(MessageAction(f"page{step}", MessageId("")))

    def put(self, text: str) -> None:
        """Show another text (a draft), with the cursor at its end."""
        self.load_text(text)
        self.move_cursor(self.document.end)

    def tell_typing(self, text: str) -> None:
        """Who else types here, in the line above; empty: nobody."""
        self.border_title = Content(text) if text else ""

    def hint(self, text: str) -> None:
        """What stands here while nothing is written."""
        self.placeholder = text
