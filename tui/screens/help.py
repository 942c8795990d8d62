"""The help screen: made from the bindings themselves, so it cannot be out of date."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.dom import DOMNode
from textual.screen import ModalScreen
from textual.widgets import Static

from client.model import State, Trust
from tui import being
from tui.badges import COLOURS, SIGNS, word
from tui.cells import cell_len, pad
from tui.keys import bindings_of, shown_key
from tui.layout import GLYPHS
from tui.text import say

__all__ = ["HelpScreen"]

STATE_COLOURS = {
    State.PENDING: "$quiet",
    State.SENT: "$quiet",
    State.DELIVERED: "$foreground",
    State.READ: "$primary",
    State.FAILED: "$error",
}


class HelpScreen(ModalScreen[None]):
    """Keys and signs."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,f1", "app.pop_screen", "key.close"),
    ]

    def compose(self) -> ComposeResult:
        """Every section in one text that scrolls."""
        with VerticalScroll(id="help", can_focus=True) as box:
            box.border_title = say("help.title")
            box.border_subtitle = say("help.close")
            yield Static(self._text(), id="help-text")

    def on_mount(self) -> None:
        """Arrow keys scroll at once."""
        self.query_one("#help").focus()

    def _text(self) -> Content:
        from tui.app import TelexApp
        from tui.screens.call import CallScreen
        from tui.screens.chat import ChatScreen
        from tui.widgets.composer import Composer
        from tui.widgets.member_panel import MemberList
        from tui.widgets.room_list import RoomList
        from tui.widgets.timeline import Timeline

        sections: list[tuple[str, tuple[type[DOMNode], ...]]] = [
            ("help.everywhere", (ChatScreen, TelexApp)),
            ("help.composer", (Composer,)),
            ("help.timeline", (Timeline,)),
            ("help.call", (CallScreen,)),
            ("help.chats", (RoomList,)),
            ("help.members", (MemberList,)),
        ]
        parts: list[Content] = []
        for title, kinds in sections:
            parts.append(Content.assemble((say(title), "bold $primary")))
            seen: set[str] = set()
            for kind in kinds:
                for binding in bindings_of(kind):
                    if binding.action in seen:
                        continue
                    seen.add(binding.action)
                    parts.append(_line(_keys(binding), binding.description))
            if title == "help.call":
                parts.append(Content.assemble((say("help.push"), "$quiet")))
            parts.append(Content(""))
        parts.append(Content.assemble((say("help.legend"), "bold $primary")))
        for state, colour in STATE_COLOURS.items():
            parts.append(_legend(state, colour))
        parts += [Content(""), Content.assemble((say("help.trust"), "bold $primary"))]
        parts += [_badge(trust) for trust in SIGNS]
        parts += [Content(""), Content.assemble((say("help.being"), "bold $primary"))]
        parts += [_being(state) for state in being.SIGNS]
        parts += [Content(""), Content.assemble((say("help.more"), "$quiet"))]
        return Content("\n").join(parts)


def _keys(binding: Binding) -> str:
    return binding.key_display or shown_key(binding.key)


def _line(keys: str, description: str) -> Content:
    return Content.assemble((f"  {pad(keys, 22)} ", "$accent"), say(description))


def _legend(state: State, colour: str) -> Content:
    name = state.name.lower()
    glyph = GLYPHS[state]
    word = say(f"state.{name}")
    space = " " * max(1, 18 - cell_len(word))
    return Content.assemble(
        ("  " + pad(glyph, 4), colour),
        (word + space, "bold"),
        say(f"state.{name}.why"),
    )


def _being(state: str) -> Content:
    return Content.assemble(
        ("  " + pad(being.SIGNS[state], 4), being.COLOURS[state]),
        (pad(say(f"being.{state}"), 18), "bold"),
        say(f"being.{state}.why"),
    )


def _badge(trust: Trust) -> Content:
    return Content.assemble(
        ("  " + pad(SIGNS[trust], 4), COLOURS[trust]),
        (pad(word(trust), 18), "bold"),
        say(f"trust.{trust.value}.why"),
    )
