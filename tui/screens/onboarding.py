"""The first minutes: welcome, register, log in, and the 24 words."""

import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Button, Input, Static

from client.errors import (
    BadText,
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
from tui.backend import ChatClient
from tui.screens.form import Field, FormBox, sentence
from tui.text import say

if TYPE_CHECKING:
    from tui.app import TelexApp

__all__ = [
    "PASSWORD_LEAST",
    "WORDS",
    "LoginScreen",
    "PhraseScreen",
    "RegisterScreen",
    "UnlockScreen",
    "WelcomeScreen",
]

PASSWORD_LEAST = 8
"""Characters, as `client.enrol` asks for (a test compares them; importing it here
would load all of the engine): Argon2id makes each guess cost a second of somebody's
machine, so eight that are not in a word list hold; shorter ones are given away."""

WORDS = 24

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


class WelcomeScreen(Onboarding):
    """Nothing was set up here yet: register or log in?"""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,left", "app.focus_previous", show=False),
        Binding("down,right", "app.focus_next", show=False),
    ]

    def compose(self) -> ComposeResult:
        """Two ways in."""
        with Vertical(classes="form", id="welcome"):
            yield Static("t e l e x", id="logo", markup=False)
            yield Static(Content(say("app.tagline")), id="tagline")
            yield Static(Content(say("welcome.text")), classes="form-text")
            yield Button(Content(say("welcome.register")), id="register")
            yield Static(Content(say("welcome.register.why")), classes="why")
            yield Button(Content(say("welcome.login")), id="login")
            yield Static(Content(say("welcome.login.why")), classes="why")
            yield Button(Content(say("welcome.quit")), id="quit")

    def on_mount(self) -> None:
        """The first way has the focus."""
        self.query_one("#register", Button).focus()

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "register":
            self.app.push_screen(RegisterScreen())
        elif event.button.id == "login":
            self.app.push_screen(LoginScreen())
        else:
            self.app.exit()


class _AccountForm(Onboarding):
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


class RegisterScreen(_AccountForm):
    """A new account, by an invite."""

    def __init__(self) -> None:
        least = say("field.password.hint", least=PASSWORD_LEAST)
        super().__init__(
            FormBox(
                say("register.title"),
                Field("address", say("field.address"), say("field.address.hint")),
                Field("invite", say("field.invite"), say("field.invite.hint")),
                Field("password", say("field.password"), least, password=True),
                Field(
                    "repeat",
                    say("field.repeat"),
                    say("field.repeat.hint"),
                    password=True,
                ),
                go=say("register.go"),
                back=say("back"),
            )
        )

    def check(self, values: dict[str, str]) -> dict[str, str]:
        """Everything that can be known here."""
        errors = {"address": self.check_address(values["address"])}
        if not values["invite"].strip():
            errors["invite"] = say("error.invite.empty")
        if len(values["password"]) < PASSWORD_LEAST:
            errors["password"] = say("error.password.short", least=PASSWORD_LEAST)
        elif values["password"] != values["repeat"]:
            errors["repeat"] = say("error.password.differ")
        return errors

    def doing(self, values: dict[str, str]) -> str:
        """Keys are made here, then the node is asked."""
        node = parse_account(values["address"].strip()).node
        return say("register.busy", node=node)

    async def perform(self, values: dict[str, str]) -> None:
        """Register, then show the words."""
        backend = await self.app.backend()
        client, words = await backend.register(
            self.app.profile,
            values["address"].strip(),
            invite=values["invite"].strip(),
            password=values["password"],
            device_name=socket.gethostname(),
        )
        self.app.client = client
        self.app.switch_screen(PhraseScreen(client, words))


class LoginScreen(_AccountForm):
    """An account that exists, on this device too."""

    def __init__(self) -> None:
        super().__init__(
            FormBox(
                say("login.title"),
                Field("address", say("field.address"), say("field.address.hint")),
                Field(
                    "password",
                    say("field.password"),
                    say("field.password.login"),
                    password=True,
                ),
                Field("phrase", say("field.phrase"), say("field.phrase.hint")),
                go=say("login.go"),
                back=say("back"),
            )
        )

    def check(self, values: dict[str, str]) -> dict[str, str]:
        """Everything that can be known here."""
        errors = {"address": self.check_address(values["address"])}
        if not values["password"]:
            errors["password"] = say("error.password.empty")
        count = len(values["phrase"].split())
        if count != WORDS:
            errors["phrase"] = say("error.phrase.count", count=count)
        return errors

    def doing(self, values: dict[str, str]) -> str:
        """The node is asked."""
        return say("login.busy", node=parse_account(values["address"].strip()).node)

    async def perform(self, values: dict[str, str]) -> None:
        """Log in and begin."""
        backend = await self.app.backend()
        client = await backend.login(
            self.app.profile,
            values["address"].strip(),
            password=values["password"],
            phrase=" ".join(values["phrase"].lower().split()),
        )
        await self.app.begin(client)


class UnlockScreen(_AccountForm):
    """The profile's password."""

    def __init__(self, profile: str, password: str = "") -> None:
        self._given = password
        super().__init__(
            FormBox(
                say("unlock.title"),
                Field("password", say("field.password"), password=True, value=password),
                go=say("unlock.go"),
                back=say("yes.quit"),
                text=say("unlock.text", profile=profile),
            )
        )

    def on_mount(self) -> None:
        """A password from the environment is tried at once."""
        if self._given:
            self._given = ""
            self.call_after_refresh(self._start)

    def check(self, values: dict[str, str]) -> dict[str, str]:
        """There must be one."""
        if not values["password"]:
            return {"password": say("error.password.empty")}
        return {}

    def doing(self, values: dict[str, str]) -> str:
        """Argon2id takes a moment on purpose."""
        return say("unlock.busy")

    async def perform(self, values: dict[str, str]) -> None:
        """Open the database and begin."""
        backend = await self.app.backend()
        client = await backend.open(self.app.profile, password=values["password"])
        await self.app.begin(client)


class PhraseScreen(Onboarding):
    """The 24 words, shown this once."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "again", "key.close"),
    ]

    def __init__(self, client: ChatClient, words: Sequence[str]) -> None:
        super().__init__()
        self._client = client
        self._words = list(words)

    def compose(self) -> ComposeResult:
        """The words in columns, numbered, and one button."""
        with Vertical(classes="form", id="phrase"):
            yield Static(Content(say("phrase.title")), classes="form-title")
            yield Static(Content(say("phrase.why")), classes="form-text")
            with Horizontal(id="words"):
                rows = 8
                for start in range(0, len(self._words), rows):
                    lines = [
                        Content.assemble((f"{number:2} ", "$quiet"), (word, "bold"))
                        for number, word in enumerate(
                            self._words[start : start + rows], start + 1
                        )
                    ]
                    yield Static(Content("\n").join(lines), classes="word-column")
            with Horizontal(classes="form-buttons"):
                yield Button(
                    Content(say("phrase.confirm")),
                    id="go",
                    variant="primary",
                    compact=True,
                )

    def action_again(self) -> None:
        """Esc does not lose the words."""
        self.app.notify(say("phrase.again"))

    @on(Button.Pressed, "#go")
    async def _go(self) -> None:
        self._words.clear()
        await self.app.begin(self._client)
