"""Seven emoji that two people compare at the same time, on both their screens.

The stages come from the engine: one asks, the other one accepts, both see seven
emoji, both say whether they are the same.
"""

from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Static

from client.model import Sas
from tui.backend import ChatClient
from tui.cells import cell_len, one_line
from tui.feed import Batch
from tui.screens.panel import Panel
from tui.text import say

__all__ = ["CompareScreen"]

OVER = ("done", "refused", "failed")


class CompareScreen(Panel):
    """One comparison, from the question to its end."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "agree", "key.compare.agree"),
        Binding("y", "accept", "key.compare.accept"),
        Binding("r", "refuse", "key.compare.refuse"),
    ]

    def __init__(
        self, client: ChatClient, id: str, account: str, sas: Sas | None = None
    ) -> None:
        super().__init__(client, say("compare.title", who=account))
        self._sas_id = id
        self._account = account
        self._sas = sas or Sas(id, account, "waiting", [], "", "")

    def body(self) -> ComposeResult:
        """A sentence, and the emoji when they are there."""
        with Vertical(classes="panel-text"):
            yield Static(id="compare-text", markup=False)
            with Horizontal(id="compare-first", classes="compare-row"):
                for number in range(4):
                    yield Static(id=f"emoji-{number}", classes="emoji", markup=False)
            with Horizontal(id="compare-second", classes="compare-row"):
                for number in range(4, 7):
                    yield Static(id=f"emoji-{number}", classes="emoji", markup=False)
            yield Static(id="compare-digits", markup=False)
            yield Static(id="compare-why", classes="panel-why", markup=False)

    def on_mount(self) -> None:
        """Draw what is known."""
        self._draw()

    @property
    def stage(self) -> str:
        """Where the comparison stands."""
        return self._sas.stage

    def changed(self, batch: Batch) -> None:
        """It went on."""
        sas = batch.comparisons.get(self._sas_id)
        if sas is not None:
            self._sas = sas
            self._draw()

    def _draw(self) -> None:
        sas = self._sas
        text = say(f"compare.{sas.stage}", who=self._account)
        if sas.detail and sas.stage in ("refused", "failed"):
            text = f"{text} {one_line(sas.detail)}"
        self.query_one("#compare-text", Static).update(Content.styled(text, "bold"))
        comparing = bool(sas.emoji) and sas.stage in ("compare", "agreed")
        for row in self.query(".compare-row"):
            row.display = comparing
        for number in range(7):
            # An empty place keeps its room, so that the others stay in line.
            pair = sas.emoji[number] if number < len(sas.emoji) else ("", "")
            self.query_one(f"#emoji-{number}", Static).update(_emoji(*pair))
        digits = self.query_one("#compare-digits", Static)
        digits.display = comparing and bool(sas.digits)
        digits.update(Content(say("compare.digits", digits=one_line(sas.digits))))
        why = f"compare.{sas.stage}.why"
        self.query_one("#compare-why", Static).update(
            Content(say(why, who=self._account))
        )
        allowed = {
            "asked": ("accept", "refuse"),
            "waiting": ("refuse",),
            "compare": ("agree", "refuse"),
            "agreed": ("refuse",),
        }.get(sas.stage, ())
        self.off(*({"accept", "agree", "refuse"} - set(allowed)))
        self.note("")

    @work(group="compare", exclusive=True)
    async def action_accept(self) -> None:
        """Yes, compare now."""
        if self.stage == "asked":
            await self.trying(self.client.verification.accept(self._sas_id))

    @work(group="compare", exclusive=True)
    async def action_agree(self) -> None:
        """They are the same."""
        if self.stage == "compare":
            await self.trying(self.client.verification.agree(self._sas_id))

    @work(group="compare", exclusive=True)
    async def action_refuse(self) -> None:
        """They differ, or not now."""
        if self.stage not in OVER:
            await self.trying(self.client.verification.refuse(self._sas_id))


def _emoji(symbol: str, name: str) -> Content:
    """A symbol over its name, which terminals without emoji show all the same."""
    if not symbol:
        return Content("")
    space = "" if cell_len(symbol) >= 2 else " "
    return Content.assemble((symbol + space, "bold"), ("\n" + one_line(name), "$quiet"))
