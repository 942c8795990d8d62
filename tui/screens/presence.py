"""How others see us: the state that we choose, and what they may see at all."""

from typing import cast, get_args

from textual import work
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static
from textual.widgets.option_list import Option

from client.presence.chosen import Chosen, Switch
from tui.backend import ChatClient
from tui.being import COLOURS, SIGNS
from tui.cells import one_line
from tui.feed import Batch
from tui.screens.panel import ListPanel
from tui.text import say

__all__ = ["STATE_SIGNS", "PresenceScreen"]

STATE_SIGNS = {
    "online": "online",
    "away": "away",
    "dnd": "dnd",
    "invisible": "offline",
}
"""What others see of each choice."""


class PresenceScreen(ListPanel):
    """States to choose from, then the switches."""

    def __init__(self, client: ChatClient, who: str = "") -> None:
        """`who`: the other one of the open chat, from whom one may hide."""
        super().__init__(client, say("presence.title"), empty="")
        self._who = who

    def above(self) -> ComposeResult:
        """Who sees it."""
        yield Static(Content(say("presence.text")), classes="panel-why")

    async def options(self) -> list[Option]:
        """The states, then the switches."""
        choice = self.client.presence.choice
        lines = []
        for state in get_args(Chosen):
            on = state == choice.state
            seen = STATE_SIGNS[state]
            lines.append(
                Option(
                    Content.assemble(
                        ("(•) " if on else "( ) ", "bold $primary" if on else "$quiet"),
                        (f"{SIGNS[seen]} ", COLOURS[seen]),
                        (say(f"presence.{state}"), "bold" if on else ""),
                        (self.indented(say(f"presence.{state}.why"), 6), "$quiet"),
                    ),
                    id=f"state-{state}",
                )
            )
        for switch in get_args(Switch):
            lines.append(self._switch(switch, bool(getattr(choice, switch))))
        if self._who:
            lines.append(self._switch("hide", self._who in choice.hidden_from))
        return lines

    def _switch(self, name: str, on: bool) -> Option:
        who = one_line(self._who)
        return Option(
            Content.assemble(
                ("[x] " if on else "[ ] ", "bold $primary" if on else "$quiet"),
                (say(f"presence.{name}", who=who), "bold" if on else ""),
                (self.indented(say(f"presence.{name}.why", who=who), 4), "$quiet"),
            ),
            id=name,
        )

    def changed(self, batch: Batch) -> None:
        """We chose, here or on another device."""
        if batch.own:
            self.reload()

    @work(group="presence", exclusive=True)
    async def picked(self) -> None:  # type: ignore[override]
        """Choose what is under the cursor."""
        chosen, presence = self.chosen, self.client.presence

        async def perform() -> bool:
            if chosen.startswith("state-"):
                state = cast(Chosen, chosen.removeprefix("state-"))
                await presence.set_state(state)
            elif chosen == "hide":
                on = self._who not in presence.choice.hidden_from
                await presence.hide_from(self._who, on)
            else:
                on = not getattr(presence.choice, chosen)
                await presence.set_switch(cast(Switch, chosen), on)
            return True

        if await self.trying(perform()):
            self.note(say("roomset.done.own"), "done")
