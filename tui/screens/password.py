"""What opens Telex on this device: its password, and the system's keyring if wanted."""

from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Static
from textual.widgets.option_list import Option

from tui.backend import ChatClient
from tui.screens.dialogs import FormDialog
from tui.screens.entry import PASSWORD_LEAST, check_new_password
from tui.screens.form import Field
from tui.screens.panel import ListPanel
from tui.text import say

__all__ = ["PasswordScreen"]


class PasswordScreen(ListPanel):
    """Change the password; let the keyring open the profile, or no more."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "pick", "key.open"),
    ]

    def __init__(self, client: ChatClient) -> None:
        super().__init__(client, say("password.title"), empty="")

    def above(self) -> ComposeResult:
        """What this is."""
        yield Static(Content(say("password.text")), classes="panel-why")

    async def options(self) -> list[Option]:
        """Two lines."""
        on = self.app.profile.by_keyring()
        return [
            Option(Content.styled(say("password.change"), "bold"), id="change"),
            Option(
                Content.assemble(
                    ("[x] " if on else "[ ] ", "bold $success" if on else "$quiet"),
                    (say("protect.keyring"), "bold"),
                    (self.indented(say("protect.keyring.why"), 4), "$quiet"),
                ),
                id="keyring",
            ),
        ]

    def picked(self) -> None:
        """Enter, or a click."""
        self.action_pick()

    def action_pick(self) -> None:
        """Do what is under the cursor."""
        if self.chosen == "change":
            self._change()
        elif self.chosen == "keyring":
            self._keyring(not self.app.profile.by_keyring())

    def _change(self) -> None:
        def check(values: dict[str, str]) -> dict[str, str]:
            return _check_old(values) | check_new_password(values)

        async def perform(values: dict[str, str]) -> None:
            await self.client.change_password(values["old"], values["password"])
            self.note(say("password.done"), "done")

        least = say("field.password.hint", least=PASSWORD_LEAST)
        again = say("field.repeat.hint")
        self.app.push_screen(
            FormDialog(
                say("password.change"),
                Field("old", say("password.old"), password=True),
                Field("password", say("password.new"), least, password=True),
                Field("repeat", say("field.repeat"), again, password=True),
                go=say("password.go"),
                busy=lambda values: say("password.busy"),
                check=check,
                perform=perform,
                log=self.app.locations.log,
            )
        )

    @work(group="keyring", exclusive=True)
    async def _keyring(self, on: bool) -> None:
        async def perform() -> bool:
            await self.client.use_keyring(on)
            return True

        if await self.trying(perform(), say("keyring.busy")):
            self.note(say("keyring.is.on" if on else "keyring.is.off"), "done")
        self.reload()


def _check_old(values: dict[str, str]) -> dict[str, str]:
    return {} if values["old"] else {"old": say("error.password.empty")}
