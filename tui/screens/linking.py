"""This device is new, another one of the account is not: the code between them.

The new device shows a code, as a QR code and as sixteen letters; the other one takes
it and lets this one in. What is fetched afterwards is shown over the chat, and goes
on after a restart.
"""

import socket
from typing import ClassVar

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Button, Static

from protocol.address import parse_account
from tui.backend import LinkingPort
from tui.screens.entry import (
    PASSWORD_LEAST,
    AccountForm,
    Onboarding,
    check_new_password,
)
from tui.screens.form import Field, FormBox
from tui.text import say
from tui.widgets.code import CodeScreen, QrCode

__all__ = ["LinkScreen", "WaitScreen"]


WORDS_LEAST = 30
"""Cells that the words beside the picture need."""
FRAME_ROWS = 4
"""Rows of the form that are not the picture: border, title, buttons."""


class LinkScreen(AccountForm):
    """Which account, and what opens it here from now on."""

    def __init__(self) -> None:
        least = say("field.password.hint", least=PASSWORD_LEAST)
        super().__init__(
            FormBox(
                say("link.title"),
                Field("address", say("field.address"), say("field.address.hint")),
                Field("password", say("link.password"), least, password=True),
                Field(
                    "repeat",
                    say("field.repeat"),
                    say("field.repeat.hint"),
                    password=True,
                ),
                Field(
                    "name",
                    say("device.name"),
                    say("device.name.hint"),
                    value=socket.gethostname(),
                ),
                go=say("link.go"),
                back=say("back"),
                text=say("link.text"),
            )
        )

    def check(self, values: dict[str, str]) -> dict[str, str]:
        """Everything that can be known here."""
        errors = {"address": self.check_address(values["address"])}
        return errors | check_new_password(values)

    def doing(self, values: dict[str, str]) -> str:
        """The request is left at the node."""
        return say("link.busy", node=parse_account(values["address"].strip()).node)

    async def perform(self, values: dict[str, str]) -> None:
        """Make the request and show its code."""
        backend = await self.app.backend()
        linking = await backend.link(
            self.app.profile,
            values["address"].strip(),
            password=values["password"],
            device_name=values["name"].strip(),
        )
        self.app.switch_screen(WaitScreen(linking))


class WaitScreen(Onboarding):
    """The code, until another device took it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "key.close"),
        Binding("c", "copy", "key.copy"),
        Binding("q", "code", "key.verify.code"),
    ]

    def __init__(self, linking: LinkingPort) -> None:
        super().__init__()
        self._linking = linking
        self._spent = False

    def compose(self) -> ComposeResult:
        """The QR code on the left; the code and what to do with it on the right."""
        request = self._linking.request
        with Vertical(classes="form", id="wait"):
            yield Static(Content(say("wait.title")), classes="form-title")
            with Horizontal(classes="verify"):
                yield QrCode(request.uri, id="qr")
                with Vertical(id="wait-words"):
                    yield Static(Content(say("wait.code")), classes="quiet")
                    yield Static(Content.styled(request.code, "bold"), id="wait-code")
                    yield Static(Content(say("wait.how", account=request.account)))
                    yield Static(
                        Content(f"◌ {say('wait.waiting')}"), classes="form-note -busy"
                    )
            with Horizontal(classes="form-buttons"):
                yield Button(Content(say("wait.again")), id="again", compact=True)
                yield Button(Content(say("cancel")), id="back", compact=True)

    def on_resize(self, event: events.Resize) -> None:
        """Without room beside the words the picture has a key of its own."""
        code = self.query_one("#qr", QrCode)
        if self._spent:
            return
        columns, rows = code.encode(self._linking.request.uri)
        room = event.size.width >= columns + WORDS_LEAST
        code.display = room and event.size.height >= rows + FRAME_ROWS

    def action_code(self) -> None:
        """The picture alone."""
        if not self._spent:
            self.app.push_screen(CodeScreen(self._linking.request.uri))

    def on_mount(self) -> None:
        """Wait for the other device."""
        self.query_one("#again").display = False
        self.query_one("#back").focus(scroll_visible=False)
        self._wait()

    @work(group="form", exclusive=True)
    async def _wait(self) -> None:
        note = self.query_one(".form-note", Static)
        try:
            client = await self._linking.wait()
        except Exception as error:
            note.set_classes("form-note -error")
            note.update(Content(self.shown(error)))
            # The code is spent: a picture of it would only mislead.
            self._spent = True
            self.query_one("#qr").display = False
            self.query_one("#wait-code").display = False
            self.query_one("#again").display = True
            self.query_one("#again").focus()
            return
        note.update(Content(f"✓ {say('wait.approved')}"))
        await self.app.begin(client)

    def action_copy(self) -> None:
        """Put the code on the clipboard."""
        self.app.copy_to_clipboard(self._linking.request.code)
        self.notify(say("done.copied.hint"), timeout=3)

    @on(Button.Pressed, "#again")
    async def _again(self) -> None:
        await self._linking.close()
        self.app.switch_screen(LinkScreen())

    @on(Button.Pressed, "#back")
    @work(group="leave", exclusive=True)
    async def action_leave(self) -> None:
        """Give it up; nothing was changed at the account."""
        self.workers.cancel_group(self, "form")
        await self._linking.close()
        self.app.back()
