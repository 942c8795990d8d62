"""What the screens before the chat share: a form that ends with an open account."""

from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Button, Input

from client.errors import (
    BadText,
    KeyringFailed,
    NodeUnreachable,
    NodeUntrusted,
    WrongPassword,
    WrongPhrase,
)
from protocol.address import parse_account
from protocol.errors import (
    AccountDisabled,
    AccountTaken,
    AddressError,
    BadAddress,
    BadInvite,
    BadLogin,
    UnknownAccount,
)
from tui.screens.form import FormBox, sentence
from tui.text import say

if TYPE_CHECKING:
    from tui.app import TelexApp

__all__ = ["PASSWORD_LEAST", "AccountForm", "Onboarding", "check_new_password"]

PASSWORD_LEAST = 8
"""Characters, as `client.enrol` asks for (a test compares them; importing it here
would load all of the engine): Argon2id makes each guess cost a second of somebody's
machine, so eight that are not in a word list hold; shorter ones are given away."""

_FIELD_OF: tuple[tuple[type[Exception], str], ...] = (
    (AddressError, "address"),
    (BadAddress, "address"),
    (AccountTaken, "address"),
    (UnknownAccount, "address"),
    (AccountDisabled, "address"),
    (NodeUnreachable, "address"),
    (NodeUntrusted, "address"),
    (BadInvite, "invite"),
    (BadText, "password"),
    (WrongPassword, "password"),
    (KeyringFailed, "password"),
    (BadLogin, "password"),
    (WrongPhrase, "phrase"),
)


def _field_of(error: Exception) -> str:
    for kind, field in _FIELD_OF:
        if isinstance(error, kind):
            return field
    return ""


class Onboarding(Screen[None]):
    """What the screens before the chat share."""

    app: "TelexApp"

    def shown(self, error: Exception) -> str:
        """An error as a sentence."""
        return sentence(error, self.app.locations.log)


class AccountForm(Onboarding):
    """A form whose work ends with an open account."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "key.close"),
        Binding("up", "app.focus_previous", show=False),
        Binding("down", "app.focus_next", show=False),
    ]

    def __init__(self, form: FormBox) -> None:
        super().__init__()
        self._form = form

    def compose(self) -> ComposeResult:
        """The form alone."""
        yield self._form

    def check(self, values: dict[str, str]) -> dict[str, str]:
        """Errors by field, found without asking anybody."""
        raise NotImplementedError

    def doing(self, values: dict[str, str]) -> str:
        """What is being done, in words."""
        raise NotImplementedError

    async def perform(self, values: dict[str, str]) -> None:
        """Do it and go on to the next screen."""
        raise NotImplementedError

    def check_address(self, text: str) -> str:
        """What is wrong with the address."""
        if not text.strip():
            return say("error.address.empty")
        try:
            parse_account(text.strip())
        except AddressError as error:
            return str(error)
        return ""

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        if not self._form.next_field(event.input):
            self._start()

    @on(Button.Pressed, "#go")
    def _go(self) -> None:
        self._start()

    @on(Button.Pressed, "#back")
    def action_leave(self) -> None:
        """Back; what is under way is given up."""
        self.workers.cancel_group(self, "form")
        self.app.back()

    def _start(self) -> None:
        values = self._form.values()
        if not self._form.complain(self.check(values)):
            self._form.busy(self.doing(values))
            self._work(values)

    @work(group="form", exclusive=True)
    async def _work(self, values: dict[str, str]) -> None:
        try:
            await self.perform(values)
        except Exception as error:
            self._form.fail(self.shown(error), _field_of(error))


def check_new_password(values: dict[str, str]) -> dict[str, str]:
    """What is wrong with a password that is chosen and repeated."""
    if len(values["password"]) < PASSWORD_LEAST:
        return {"password": say("error.password.short", least=PASSWORD_LEAST)}
    if values["password"] != values["repeat"]:
        return {"repeat": say("error.password.differ")}
    return {}
