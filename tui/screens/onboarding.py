"""The first minutes: welcome, register, log in, and the 24 words."""

import socket
from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Button, Static

from protocol.address import parse_account
from tui.backend import ChatClient
from tui.screens.entry import (
    PASSWORD_LEAST,
    AccountForm,
    Onboarding,
    check_new_password,
)
from tui.screens.form import Field, FormBox
from tui.screens.linking import LinkScreen
from tui.screens.quiz import QuizScreen
from tui.screens.recovering import RecoverScreen
from tui.text import say
from tui.widgets.phrase import PhraseField, phrase_errors

__all__ = [
    "LoginScreen",
    "PhraseScreen",
    "RegisterScreen",
    "UnlockScreen",
    "WelcomeScreen",
]


WAYS = ("register", "link", "login", "recover")
"""On the welcome screen, from the usual to the rare."""


class WelcomeScreen(Onboarding):
    """Nothing was set up here yet: register or log in?"""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,left", "app.focus_previous", show=False),
        Binding("down,right", "app.focus_next", show=False),
    ]

    def compose(self) -> ComposeResult:
        """The ways in: a new account, or one that exists."""
        with Vertical(classes="form", id="welcome"):
            yield Static("t e l e x", id="logo", markup=False)
            yield Static(Content(say("app.tagline")), id="tagline")
            yield Static(Content(say("welcome.text")), classes="form-text")
            for way in WAYS:
                yield Button(Content(say(f"welcome.{way}")), id=way)
                yield Static(Content(say(f"welcome.{way}.why")), classes="why")
            yield Button(Content(say("welcome.quit")), id="quit")

    def on_mount(self) -> None:
        """The first way has the focus."""
        self.query_one("#register", Button).focus()

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        match event.button.id:
            case "register":
                self.app.push_screen(RegisterScreen())
            case "link":
                self.app.push_screen(LinkScreen())
            case "recover":
                self.app.push_screen(RecoverScreen())
            case "login":
                self.app.push_screen(LoginScreen())
            case _:
                self.app.exit()


class RegisterScreen(AccountForm):
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
        return errors | check_new_password(values)

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


class LoginScreen(AccountForm):
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
                PhraseField(),
                go=say("login.go"),
                back=say("back"),
            )
        )

    def check(self, values: dict[str, str]) -> dict[str, str]:
        """Everything that can be known here."""
        errors = {"address": self.check_address(values["address"])}
        if not values["password"]:
            errors["password"] = say("error.password.empty")
        return errors | phrase_errors(values["phrase"])

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


class UnlockScreen(AccountForm):
    """The profile's password."""

    def __init__(
        self, profile: str, password: str = "", *, keyring: bool = False
    ) -> None:
        self._given = password
        self._keyring = keyring and not password
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
        """A password from the environment, or the keyring, is tried at once."""
        if self._given or self._keyring:
            self._given = ""
            self.call_after_refresh(self._start)

    def check(self, values: dict[str, str]) -> dict[str, str]:
        """There must be one."""
        if not values["password"] and not self._keyring:
            return {"password": say("error.password.empty")}
        return {}

    def doing(self, values: dict[str, str]) -> str:
        """Argon2id takes a moment on purpose."""
        return say("unlock.busy")

    async def perform(self, values: dict[str, str]) -> None:
        """Open the database and begin."""
        backend = await self.app.backend()
        # Once: if the keyring fails, the password is asked for.
        keyring, self._keyring = self._keyring, False
        password = None if keyring else values["password"]
        client = await backend.open(self.app.profile, password=password)
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
    def _go(self) -> None:
        self.app.switch_screen(QuizScreen(self._client, self._words))
