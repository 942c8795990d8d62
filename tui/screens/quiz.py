"""After the 24 words: three of them asked back, then what protects the account."""

import asyncio
from collections.abc import Sequence
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Button, Input, Static

from tui.backend import ChatClient
from tui.screens.entry import Onboarding
from tui.screens.form import Field, FormBox
from tui.text import say
from tui.widgets.tick import Tick

__all__ = ["ProtectScreen", "QuizScreen"]


class QuizScreen(Onboarding):
    """Three of the words, by their position: who has them on paper knows them."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "key.close"),
        Binding("up", "app.focus_previous", show=False),
        Binding("down", "app.focus_next", show=False),
    ]

    def __init__(self, client: ChatClient, words: Sequence[str]) -> None:
        from client.enrol import quiz

        super().__init__()
        self._client = client
        self._words = list(words)
        self._asked = {f"word-{number}": number for number in quiz(self._words)}
        self._form = FormBox(
            say("quiz.title"),
            *(
                Field(name, say("quiz.word", number=number))
                for name, number in self._asked.items()
            ),
            go=say("quiz.go"),
            back=say("quiz.back"),
            text=say("quiz.text"),
        )

    def compose(self) -> ComposeResult:
        """The form alone."""
        yield self._form

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        if not self._form.next_field(event.input):
            self._check()

    @on(Button.Pressed, "#go")
    def _check(self) -> None:
        from client.enrol import check_quiz

        values = self._form.values()
        answers = {number: values[name] for name, number in self._asked.items()}
        errors = {
            f"word-{number}": say("quiz.wrong", number=number)
            for number in check_quiz(self._words, answers)
        }
        if not self._form.complain(errors):
            self._words.clear()
            self.app.switch_screen(ProtectScreen(self._client))

    @on(Button.Pressed, "#back")
    def action_back(self) -> None:
        """Show the words again."""
        from tui.screens.onboarding import PhraseScreen

        self.app.switch_screen(PhraseScreen(self._client, self._words))


class ProtectScreen(Onboarding):
    """What protects the account from now on: a backup, and how it is opened here."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "app.focus_previous", show=False),
        Binding("down", "app.focus_next", show=False),
    ]

    def __init__(self, client: ChatClient) -> None:
        super().__init__()
        self._client = client

    def compose(self) -> ComposeResult:
        """Two switches and the way on."""
        with Vertical(classes="form", id="protect"):
            yield Static(Content(say("protect.title")), classes="form-title")
            yield Tick(say("protect.backup"), True, id="backup")
            yield Static(Content(say("protect.backup.why")), classes="form-text")
            yield Tick(say("protect.keyring"), False, id="keyring")
            yield Static(
                Content(say("protect.keyring.why")),
                id="keyring-why",
                classes="form-text",
            )
            yield Static("", classes="form-note", markup=False)
            with Horizontal(classes="form-buttons"):
                yield Button(
                    Content(say("protect.go")), id="go", variant="primary", compact=True
                )

    def on_mount(self) -> None:
        """Enter goes on with what is best for most."""
        for part in self.query("#keyring, #keyring-why"):
            part.display = False
        self._offer_keyring()
        self.query_one("#go", Button).focus()

    @work(group="keyring")
    async def _offer_keyring(self) -> None:
        """Only where there is one."""
        from client.storage import system_keyring

        if await asyncio.to_thread(system_keyring.available):
            for part in self.query("#keyring, #keyring-why"):
                part.display = True

    @on(Button.Pressed, "#go")
    @work(group="form", exclusive=True)
    async def _go(self) -> None:
        note = self.query_one(".form-note", Static)
        try:
            if self.query_one("#keyring", Tick).value:
                await self._client.use_keyring(True)
            backup = self._client.backup
            on = (await backup.status()).enabled
            if self.query_one("#backup", Tick).value != on:
                await (backup.disable() if on else backup.enable())
        except Exception as error:
            note.set_classes("form-note -error")
            note.update(Content(self.shown(error)))
            # The next press goes on: what failed here can be had from the menu.
            self.query_one("#backup", Tick).value = False
            self.query_one("#keyring", Tick).value = False
            return
        await self.app.begin(self._client)
