"""What does not work, whose device is at fault, and the repair; for a room or all."""

from collections.abc import Mapping
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static
from textual.widgets.option_list import Option

from client.model import Ailment
from protocol.log import LogId
from tui.backend import ChatClient
from tui.cells import one_line
from tui.feed import Batch
from tui.screens.panel import ListPanel, Panel
from tui.text import say

__all__ = ["DoctorScreen", "ExplainScreen"]

_MARKS = {"open": "✗", "repairing": "◌", "repaired": "✓"}
_COLOURS = {"open": "$error", "repairing": "$warning", "repaired": "$success"}


class DoctorScreen(ListPanel):
    """The list of ailments."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r,enter", "repair", "key.doctor.repair"),
        Binding("R", "repair_all", "key.doctor.all", key_display="Shift+R"),
        Binding("a", "scope", "key.doctor.scope"),
        Binding("e", "examine", "key.doctor.examine"),
    ]

    def __init__(
        self, client: ChatClient, room: LogId | None, titles: Mapping[LogId, str]
    ) -> None:
        super().__init__(client, say("doctor.title"), empty=say("doctor.healthy"))
        self._room = room
        self._only: LogId | None = None
        self._titles = titles
        self._ailments: dict[str, Ailment] = {}

    def above(self) -> ComposeResult:
        """Which rooms are looked at."""
        yield Static(id="doctor-scope", markup=False)

    async def options(self) -> list[Option]:
        """Examine now."""
        where = self._titles.get(self._only, "") if self._only else ""
        text = say("doctor.scope.room", room=where) if where else say("doctor.scope")
        self.query_one("#doctor-scope", Static).update(Content.styled(text, "$quiet"))
        found = await self.client.doctor.examine(self._only)
        order = ["open", "repairing", "repaired"]
        ailments = sorted(found, key=lambda one: order.index(one.state))
        self._ailments = {one.id: one for one in ailments}
        return [Option(self._lines(one), id=one.id) for one in ailments]

    def _lines(self, one: Ailment) -> Content:
        """What, whose, what helps."""
        room = one_line(self._titles.get(one.room, ""))
        head = f"{_MARKS[one.state]} {say(f'doctor.state.{one.state}')}"
        who = say("doctor.device", device=device_word(self.client, one.device))
        return Content.assemble(
            (head, f"bold {_COLOURS[one.state]}"),
            f"  {room} · {one.code}" if room else f"  {one.code}",
            self.indented(one.cause),
            (self.indented(who) if one.device else "", "$quiet"),
            (self.indented(f"→ {one.repair_text}"), "$accent"),
        )

    def changed(self, batch: Batch) -> None:
        """Something was repaired, or broke."""
        if batch.rooms or batch.messages:
            self.reload()

    def pointed(self) -> None:
        """What cannot be repaired from here has no key for it."""
        ailment = self._ailments.get(self.chosen)
        off = [] if any(map(repairable, self._ailments.values())) else ["repair_all"]
        if ailment is None or not repairable(ailment):
            off.append("repair")
        if self._room is None:
            off.append("scope")
        self.off(*off)

    def picked(self) -> None:
        """Enter repairs."""
        self.action_repair()

    def action_examine(self) -> None:
        """Look again."""
        self.reload()

    def action_scope(self) -> None:
        """This chat, or all."""
        if self._room is not None:
            self._only = self._room if self._only is None else None
            self.reload()

    @work(group="doctor", exclusive=True)
    async def action_repair(self) -> None:
        """Repair what is under the cursor."""
        ailment = self._ailments.get(self.chosen)
        if ailment is None or not repairable(ailment):
            return
        done = await self.trying(
            self.client.doctor.repair(ailment.id), say("doctor.busy")
        )
        self.reload()
        if done is not None:
            self.note(*outcome(done))

    @work(group="doctor", exclusive=True)
    async def action_repair_all(self) -> None:
        """Repair whatever can be."""

        async def perform() -> bool:
            await self.client.doctor.repair_all()
            return True

        if await self.trying(perform(), say("doctor.busy")):
            self.note(say("doctor.all.done"), "done")
        self.reload()


def device_word(client: ChatClient, device: str) -> str:
    """A device at fault: its address, or that it is this one."""
    return say("device.own") if device == client.device else one_line(device)


def repairable(ailment: Ailment) -> bool:
    """Whether there is something to do from here."""
    return ailment.state == "open" and ailment.repair not in ("none", "wait")


def outcome(ailment: Ailment) -> tuple[str, str]:
    """What a repair came to, and its colour."""
    kinds = {"open": "error", "repairing": "busy", "repaired": "done"}
    return say(f"doctor.outcome.{ailment.state}"), kinds[ailment.state]


class ExplainScreen(Panel):
    """Why one line cannot be read, and what helps."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r,enter", "repair", "key.doctor.repair"),
    ]

    def __init__(self, client: ChatClient, ailment: Ailment) -> None:
        super().__init__(client, say("explain.title"))
        self._ailment = ailment

    def body(self) -> ComposeResult:
        """Cause, device, repair."""
        with Vertical(classes="panel-text"):
            yield Static(id="explain", markup=False)

    def on_mount(self) -> None:
        """Draw it."""
        self._draw()

    def _draw(self) -> None:
        one = self._ailment
        device = device_word(self.client, one.device) or say("explain.nobody")
        parts: list[Content] = []
        for name, text in (
            ("cause", f"{one_line(one.cause)} ({one.code})"),
            ("device", device),
            ("repair", one_line(one.repair_text)),
            ("state", f"{_MARKS[one.state]} {say(f'doctor.state.{one.state}')}"),
        ):
            parts.append(
                Content.assemble((say(f"explain.{name}"), "$quiet"), f"\n  {text}")
            )
        self.query_one("#explain", Static).update(Content("\n").join(parts))
        self.off(*(() if repairable(one) else ("repair",)))

    def changed(self, batch: Batch) -> None:
        """Look whether it was repaired meanwhile."""
        if batch.messages or batch.rooms:
            self._again()

    @work(group="again", exclusive=True)
    async def _again(self) -> None:
        found = await self.client.doctor.examine(self._ailment.room)
        for one in found:
            if one.id == self._ailment.id:
                self._ailment = one
                self._draw()

    @work(group="doctor", exclusive=True)
    async def action_repair(self) -> None:
        """Run the repair."""
        if not repairable(self._ailment):
            return
        done = await self.trying(
            self.client.doctor.repair(self._ailment.id), say("doctor.busy")
        )
        if done is not None:
            self._ailment = done
            self._draw()
            self.note(*outcome(done))
