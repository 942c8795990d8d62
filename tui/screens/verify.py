"""Is it really this person? Digits, emoji and a QR code to compare.

1. Ask the person over another way: a call, a letter, face to face.
2. Compare the digits (or scan the code), or compare seven emoji at the same time.
3. Say that they are the same.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Static
from textual.widgets.option_list import Option

from client.model import Fingerprint, KeyChange, MemberDevice, RoomMember, Trust
from tui.backend import ChatClient
from tui.badges import COLOURS, SIGNS, badge
from tui.cells import one_line
from tui.comparing import check_typed
from tui.feed import Batch
from tui.layout import person
from tui.screens.compare import CompareScreen
from tui.screens.dialogs import FormDialog
from tui.screens.form import Field
from tui.screens.panel import ListPanel, Panel
from tui.text import say
from tui.widgets.code import CodeScreen, QrCode

__all__ = ["KeyChangedScreen", "PeopleScreen", "VerifyScreen", "digit_rows"]

WORDS_LEAST = 40
"""Cells beside the code: four groups of digits, gaps and the frame."""
PANEL_WIDTH = 100
FRAME_ROWS = 5
"""Rows of the panel that are not the code: border, note, two rows of keys."""

GROUPS = 4
"""Groups of five digits in a row: three rows."""


def digit_rows(digits: str) -> list[str]:
    """The sixty digits in rows of four groups."""
    groups = digits.split()
    return [
        "  ".join(groups[start : start + GROUPS])
        for start in range(0, len(groups), GROUPS)
    ]


class VerifyScreen(Panel):
    """The keys of one person beside one's own."""

    WIDE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("e", "emoji", "key.verify.emoji"),
        Binding("v", "confirm", "key.verify.confirm"),
        Binding("t", "type", "key.verify.type"),
        Binding("c", "code", "key.verify.code"),
        Binding("w", "withdraw", "key.verify.withdraw"),
    ]

    def __init__(self, client: ChatClient, account: str, trust: Trust) -> None:
        super().__init__(client, say("verify.title", who=account))
        self._account = account
        self._trust = trust
        self._fingerprint: Fingerprint | None = None

    def body(self) -> ComposeResult:
        """The code on the left, words and digits on the right."""
        with Horizontal(classes="verify"):
            yield QrCode(id="qr")
            with Vertical(id="verify-words"):
                yield Static(id="verify-state", markup=False)
                yield Static(id="verify-digits", markup=False)
                yield Static(id="verify-devices", markup=False)
                yield Static(Content(say("verify.how")), classes="panel-why")

    def on_mount(self) -> None:
        """Ask for the fingerprint."""
        self._show_trust()
        self._read()

    @work(group="list", exclusive=True)
    async def _read(self) -> None:
        asking = self.client.verification.fingerprint(self._account)
        found = await self.trying(asking, say("panel.reading"))
        if found is None:
            return
        self._fingerprint = found
        rows = digit_rows(found.digits)
        self.query_one("#verify-digits", Static).update(
            Content.assemble(
                ("\n".join(rows), "bold"),
                "\n\n" + one_line(found.emoji) if found.emoji else "",
            )
        )
        self._fit(found)
        devices = await self.trying(self.client.verification.device_list(self._account))
        self._show_devices(devices or ())

    def _fit(self, found: Fingerprint) -> None:
        """The code beside the words, if both have room; else it has a key."""
        code = self.query_one("#qr", QrCode)
        columns, rows = code.encode(found.uri)
        width, height = self.app.size
        beside = columns + WORDS_LEAST <= min(width, PANEL_WIDTH)
        code.display = beside and rows + FRAME_ROWS <= height

    def on_resize(self) -> None:
        """There may be room for the code now, or none any more."""
        if self._fingerprint is not None:
            self._fit(self._fingerprint)

    def action_code(self) -> None:
        """The code alone, as large as it needs to be."""
        if self._fingerprint is not None:
            self.app.push_screen(CodeScreen(self._fingerprint.uri))

    def _show_devices(self, devices: Sequence[MemberDevice]) -> None:
        bad = sum(one.trust is not Trust.VERIFIED for one in devices)
        if not devices:
            text, style = "", "$quiet"
        elif bad and self._trust is Trust.VERIFIED:
            text, style = say("verify.devices.bad", count=bad), "$error"
        else:
            key = "verify.device" if len(devices) == 1 else "verify.devices"
            text, style = say(key, count=len(devices)), "$quiet"
        self.query_one("#verify-devices", Static).update(Content.styled(text, style))

    def _show_trust(self) -> None:
        trust = self._trust
        self.query_one("#verify-state", Static).update(
            Content.assemble(
                (badge(trust), f"bold {COLOURS[trust]}"),
                ("\n" + say(f"verify.state.{trust.value}"), "$quiet"),
            )
        )
        self.off("confirm" if trust is Trust.VERIFIED else "withdraw")

    def changed(self, batch: Batch) -> None:
        """A comparison ended well."""
        for sas in batch.comparisons.values():
            if sas.account == self._account and sas.stage == "done":
                self._now(Trust.VERIFIED)

    def _now(self, trust: Trust) -> None:
        self._trust = trust
        self._show_trust()
        if trust is Trust.VERIFIED:
            self.note(say("verify.done", who=self._account), "done")

    @work(group="verify", exclusive=True)
    async def action_confirm(self) -> None:
        """The digits are the same."""
        if self._trust is Trust.VERIFIED or self._fingerprint is None:
            return
        if not await self.sure("verify.confirm", who=self._account):
            return

        async def confirm() -> bool:
            await self.client.verification.confirm(self._account)
            return True

        if await self.trying(confirm()):
            self._now(Trust.VERIFIED)

    @work(group="verify", exclusive=True)
    async def action_withdraw(self) -> None:
        """It was a mistake."""
        if self._trust is not Trust.VERIFIED:
            return
        if not await self.sure("verify.withdraw", who=self._account):
            return

        async def withdraw() -> bool:
            await self.client.verification.withdraw(self._account)
            return True

        if await self.trying(withdraw()):
            self._now(Trust.UNVERIFIED)

    def action_type(self) -> None:
        """Compare what a camera read, or digits that were read out."""

        async def perform(values: dict[str, str]) -> None:
            port = self.client.verification
            await check_typed(port, self._account, values["text"])
            await self.client.verification.confirm(self._account)
            self._now(Trust.VERIFIED)

        self.app.push_screen(
            FormDialog(
                say("verify.type.title"),
                Field("text", say("verify.type"), say("verify.type.hint")),
                text=say("verify.type.text", who=self._account),
                go=say("verify.type.go"),
                busy=lambda values: say("verify.type.busy"),
                check=lambda values: {
                    "text": "" if values["text"].strip() else say("verify.type.empty")
                },
                perform=perform,
                log=self.app.locations.log,
            )
        )

    @work(group="verify", exclusive=True)
    async def action_emoji(self) -> None:
        """Compare emoji at the same time."""
        asking = self.client.verification.start_sas(self._account)
        started = await self.trying(asking, say("compare.asking", who=self._account))
        if started is not None:
            self.app.push_screen(CompareScreen(self.client, started, self._account))


class PeopleScreen(ListPanel):
    """Whom to verify, of a group."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("v", "verify", "key.verify.open"),
    ]

    def __init__(
        self, client: ChatClient, members: Sequence[RoomMember], node: str
    ) -> None:
        super().__init__(client, say("people.title"), empty=say("people.empty"))
        self._members = {m.account: m for m in members if not m.own}
        self._node = node

    async def options(self) -> list[Option]:
        """Who is not verified comes first."""
        order = [Trust.CHANGED, Trust.UNVERIFIED, Trust.VERIFIED]
        members = sorted(
            self._members.values(), key=lambda m: (order.index(m.trust), m.account)
        )
        return [Option(self._line(member), id=member.account) for member in members]

    def _line(self, member: RoomMember) -> Content:
        name, rest = person(member.account, self._node)
        return Content.assemble(
            (f"{SIGNS[member.trust]} ", COLOURS[member.trust]),
            (name, "bold"),
            (rest, "$quiet"),
            (f"  {say(f'trust.{member.trust.value}')}", COLOURS[member.trust]),
        )

    def picked(self) -> None:
        """Enter opens the person."""
        self.action_verify()

    def action_verify(self) -> None:
        """Open the person under the cursor."""
        if (member := self._members.get(self.chosen)) is not None:
            self.dismiss(member.account)


class KeyChangedScreen(Panel):
    """A person has another root key: what that means, and the two ways on."""

    WIDE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("k", "keep", "key.changed.keep"),
        Binding("a", "accept", "key.changed.accept"),
    ]

    def __init__(
        self, client: ChatClient, change: KeyChange, rooms: Sequence[str]
    ) -> None:
        super().__init__(client, say("changed.title", who=change.account))
        self._change = change
        self._rooms = rooms

    def body(self) -> ComposeResult:
        """What happened, what it may mean, both keys."""
        change = self._change
        where = ", ".join(self._rooms)
        with Vertical(classes="panel-text"):
            yield Static(
                Content.assemble(
                    (badge(Trust.CHANGED), f"bold {COLOURS[Trust.CHANGED]}"),
                    "\n" + say("changed.what", who=change.account),
                    ("\n" + say("changed.held", rooms=where) if where else ""),
                )
            )
            yield Static(Content(say("changed.why")), classes="panel-why -spaced")
            with Horizontal(id="changed-keys"):
                for name, mark in (("old", change.old), ("new", change.new)):
                    yield Static(
                        Content.assemble(
                            (say(f"changed.{name}"), "$quiet"),
                            "\n" + "\n".join(digit_rows(mark.digits)),
                        ),
                        classes="changed-key",
                    )
            yield Static(Content(say("changed.ask", who=change.account)))
            yield Static(
                Content.assemble(
                    ("K  ", "bold $accent"),
                    say("changed.keep.why", who=change.account),
                    ("\nA  ", "bold $accent"),
                    say("changed.accept.why", who=change.account),
                ),
                classes="panel-why -spaced",
            )

    @work(group="changed", exclusive=True)
    async def action_keep(self) -> None:
        """Stay with the old key: nothing is sent to the new one."""
        await self._do("keep", self.client.verification.keep_old_key)

    @work(group="changed", exclusive=True)
    async def action_accept(self) -> None:
        """Believe the new key, after asking."""
        if await self.sure("changed.accept", who=self._change.account):
            await self._do("accept", self.client.verification.accept_new_key)

    async def _do(self, what: str, doing: Callable[[str], Awaitable[None]]) -> None:
        account = self._change.account

        async def perform() -> bool:
            await doing(account)
            return True

        if await self.trying(perform(), say("changed.busy")):
            self.app.notify(say(f"changed.{what}.done", who=account), markup=False)
            self.dismiss(what)
