"""The devices of one's own account: names, revoking, letting a new one in."""

from datetime import date, timedelta
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static
from textual.widgets.option_list import Option

from client.model import Device, LinkOffer
from tui.backend import ChatClient
from tui.cells import one_line
from tui.feed import Batch
from tui.layout import clock, day_title
from tui.screens.dialogs import FormDialog
from tui.screens.form import Field
from tui.screens.panel import ListPanel, Panel
from tui.text import say
from tui.widgets.phrase import PhraseField, phrase_errors
from tui.widgets.tick import Tick
from tui.widgets.top_line import link_text, newest_here

__all__ = ["ApproveScreen", "DevicesScreen", "device_title"]

CODE_LETTERS = 16
"""Of a link code, without its dashes."""


def device_title(device: Device) -> str:
    """Its name, or the beginning of its address where it has none."""
    return one_line(device.name) or say("device.unnamed", id=short_id(device.id))


def short_id(device: str) -> str:
    """The part of a device's address that tells it from its siblings."""
    return device.rpartition("/")[2][:8]


class DevicesScreen(ListPanel):
    """All of them, this one first."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l", "link", "key.device.link"),
        Binding("n", "rename", "key.device.rename"),
        Binding("x,delete", "revoke", "key.device.revoke"),
    ]

    def __init__(self, client: ChatClient) -> None:
        super().__init__(client, say("devices.title"), empty=say("devices.empty"))
        self._devices: dict[str, Device] = {}

    async def options(self) -> list[Option]:
        """Two lines for each device; the revoked ones at the end."""
        devices = await self.client.devices.list()
        devices = sorted(devices, key=lambda d: (d.revoked, not d.own, d.created))
        self._devices = {device.id: device for device in devices}
        return [self._option(device) for device in devices]

    def _option(self, device: Device) -> Option:
        name = "strike $quiet" if device.revoked else "bold"
        words = []
        if device.own:
            words.append(say("device.own"))
        if device.revoked:
            words.append(say("device.revoked"))
        if device.manager:
            words.append(say("device.manager"))
        facts = [
            short_id(device.id),
            say("device.since", day=_day(device.created * 1000)),
        ]
        if not device.revoked and not device.own:
            seen = say("device.seen", day=_day(device.last_seen))
            facts.append(seen if device.last_seen else say("device.seen.never"))
        if not device.revoked:
            facts.append(say("device.until", day=_day(device.expires * 1000)))
        text = Content.assemble(
            (device_title(device), name),
            ("  " + " · ".join(words) if words else "", "$accent"),
            (self.indented(" · ".join(facts)), "$quiet"),
        )
        return Option(text, id=device.id)

    def changed(self, batch: Batch) -> None:
        """A device came, went or got another name."""
        if batch.devices:
            self.reload()
        if batch.link is not None:
            here = newest_here(self._devices.values())
            self.note(link_text(batch.link, here=here))

    def pointed(self) -> None:
        """What was revoked stays as it is."""
        device = self._devices.get(self.chosen)
        gone = device is None or device.revoked
        self.off(*(("rename", "revoke") if gone else ()))

    def picked(self) -> None:
        """Enter gives it a name."""
        self.action_rename()

    def action_rename(self) -> None:
        """Another name for the device under the cursor."""
        device = self._devices.get(self.chosen)
        if device is None or device.revoked:
            return

        async def perform(values: dict[str, str]) -> None:
            await self.client.devices.rename(device.id, values["name"].strip())
            self.reload()

        self.app.push_screen(
            FormDialog(
                say("device.rename.title"),
                Field("name", say("device.name"), value=device.name),
                text=say("device.rename.text"),
                go=say("rename.go"),
                busy=lambda values: say("rename.busy"),
                check=lambda values: {
                    "name": "" if values["name"].strip() else say("device.name.empty")
                },
                perform=perform,
                log=self.app.locations.log,
            )
        )

    def action_revoke(self) -> None:
        """Shut the device under the cursor out, for good."""
        device = self._devices.get(self.chosen)
        if device is None or device.revoked:
            return
        if device.own:
            self.note(say("device.revoke.own"), "error")
            return
        manager = any(one.own and one.manager for one in self._devices.values())
        needed = device.manager or not manager

        async def perform(values: dict[str, str]) -> None:
            phrase = values.get("phrase")
            words = " ".join(phrase.lower().split()) if phrase else None
            await self.client.devices.revoke(device.id, phrase=words)
            self.reload()
            self.note(say("device.revoked.done", name=device_title(device)), "done")

        text = say("device.revoke.text", name=device_title(device))
        if needed:
            why = "manager" if device.manager else "here"
            text += " " + say(f"device.revoke.phrase.{why}")
        self.app.push_screen(
            FormDialog(
                say("device.revoke.title", name=device_title(device)),
                *([PhraseField()] if needed else []),
                text=text,
                go=say("device.revoke.go"),
                busy=lambda values: say("device.revoke.busy"),
                check=lambda v: phrase_errors(v["phrase"]) if needed else {},
                perform=perform,
                log=self.app.locations.log,
                dangerous=True,
            )
        )

    def action_link(self) -> None:
        """Let a new device in: its code first, then what it is."""

        async def perform(values: dict[str, str]) -> LinkOffer:
            return await self.client.devices.look(values["code"].strip())

        def found(offer: object) -> None:
            if isinstance(offer, LinkOffer):
                self.app.push_screen(ApproveScreen(self.client, offer))

        self.app.push_screen(
            FormDialog(
                say("approve.code.title"),
                Field("code", say("approve.code"), "XXXX-XXXX-XXXX-XXXX"),
                text=say("approve.code.text", account=self.client.account),
                go=say("approve.code.go"),
                busy=lambda values: say("approve.code.busy"),
                check=lambda values: {"code": check_code(values["code"])},
                perform=perform,
                log=self.app.locations.log,
            ),
            found,
        )


def check_code(text: str) -> str:
    """What is wrong with a link code at first sight, or nothing."""
    code = text.rpartition(":")[2]
    letters = [char for char in code if char.isalnum()]
    if not letters:
        return say("approve.code.empty")
    if len(letters) != CODE_LETTERS:
        return say("approve.code.short", count=len(letters), need=CODE_LETTERS)
    return ""


def _day(time: int) -> str:
    """Today and yesterday in words, other days as a date; `time` in milliseconds."""
    day, today = clock(time).date(), date.today()
    near = today - timedelta(days=1) <= day <= today
    return day_title(day, today) if near else day.isoformat()


class ApproveScreen(Panel):
    """What is about to be let in, with what it will get."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "approve", "key.approve"),
    ]

    def __init__(self, client: ChatClient, offer: LinkOffer) -> None:
        super().__init__(client, say("approve.title"))
        self._offer = offer
        self._sent = False

    def body(self) -> ComposeResult:
        """Its name and address, two switches, the way on."""
        offer = self._offer
        name = one_line(offer.name) or say("device.nameless")
        with Vertical(classes="panel-text"):
            yield Static(
                Content.assemble(
                    (name, "bold"),
                    ("\n" + say("approve.account", account=offer.account), "$quiet"),
                    ("\n" + say("approve.id", id=short_id(offer.device)), "$quiet"),
                )
            )
            yield Static(Content(say("approve.text")), classes="panel-why")
            yield Tick(say("approve.history"), True, id="tick-history")
            yield Static(
                Content(say("approve.history.why")), classes="panel-why -under"
            )
            yield Tick(say("approve.manager"), False, id="tick-manager")
            yield Static(
                Content(say("approve.manager.why")), classes="panel-why -under"
            )

    def on_mount(self) -> None:
        """The switches can be reached at once."""
        self.query_one("#tick-history", Tick).focus()

    @work(group="approve", exclusive=True)
    async def action_approve(self) -> None:
        """Let it in."""
        if self._sent:
            return
        self._sent = True
        history = self.query_one("#tick-history", Tick).value
        manager = self.query_one("#tick-manager", Tick).value

        async def approve() -> bool:
            await self.client.devices.approve(
                self._offer, manager=manager, history=history
            )
            return True

        if await self.trying(approve(), say("approve.busy")):
            self.off("approve")
            self.note(say("approve.done"), "done")
        else:
            self._sent = False

    def changed(self, batch: Batch) -> None:
        """How far the new device is."""
        if batch.link is None or not self._sent:
            return
        self.note(link_text(batch.link, here=False))
