"""Small questions over the chat: who, what name, are you sure.

A dialog does its own work: it stays open, says what is going on, and shows what
went wrong at the field, until it worked or somebody leaves.
"""

from collections.abc import Awaitable, Callable
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Button, Input

from client.text import NAME_MAX
from protocol.address import parse_account
from protocol.errors import AddressError
from tui.screens.form import Field, FormBox, sentence
from tui.text import say

__all__ = [
    "Check",
    "Confirm",
    "FormDialog",
    "Perform",
    "accounts_in",
    "check_account",
    "check_accounts",
    "check_name",
]

Check = Callable[[dict[str, str]], dict[str, str]]
"""Values to errors, by the fields' names."""
Perform = Callable[[dict[str, str]], Awaitable[object]]
"""Does the work; raises `TelexError` with a sentence."""


class FormDialog(ModalScreen[object]):
    """A form over the chat; the result is what its work returned, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "key.close"),
    ]

    def __init__(
        self,
        title: str,
        *fields: Field,
        go: str,
        busy: Callable[[dict[str, str]], str],
        check: Check,
        perform: Perform,
        text: str = "",
        log: object = "",
        dangerous: bool = False,
    ) -> None:
        super().__init__()
        self._form = FormBox(
            title, *fields, go=go, back=say("cancel"), text=text, dangerous=dangerous
        )
        self._busy = busy
        self._check = check
        self._perform = perform
        self._log = log

    def compose(self) -> ComposeResult:
        """The form alone."""
        yield self._form

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        if not self._form.next_field(event.input):
            self._start()

    @on(Button.Pressed, "#go")
    def _go(self) -> None:
        self._start()

    @on(Button.Pressed, "#back")
    def _back(self) -> None:
        self.action_leave()

    def action_leave(self) -> None:
        """Close without a result; work under way is left alone."""
        self.workers.cancel_group(self, "form")
        self.dismiss(None)

    def _start(self) -> None:
        values = self._form.values()
        if not self._form.complain(self._check(values)):
            self._form.busy(self._busy(values))
            self._work(values)

    @work(group="form", exclusive=True)
    async def _work(self, values: dict[str, str]) -> None:
        try:
            result = await self._perform(values)
        except Exception as error:
            fields = self._form.fields
            field = fields[-1].key if isinstance(error, AddressError) else ""
            self._form.fail(sentence(error, self._log), field)
            return
        self.dismiss(result if result is not None else True)


class Confirm(ModalScreen[bool]):
    """Are you sure? The safe answer has the focus."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,n", "answer(False)", "key.close"),
        Binding("left,up", "app.focus_previous", show=False),
        Binding("right,down", "app.focus_next", show=False),
    ]

    def __init__(self, title: str, text: str, go: str) -> None:
        super().__init__()
        self._form = FormBox(
            title, text=text, go=go, back=say("cancel"), dangerous=True
        )

    def compose(self) -> ComposeResult:
        """The question."""
        yield self._form

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        event.stop()
        self.dismiss(event.button.id == "go")

    def action_answer(self, answer: bool) -> None:
        """Answer by a key."""
        self.dismiss(answer)


def accounts_in(text: str) -> list[str]:
    """The addresses in a line, once each."""
    words = text.replace(",", " ").replace(";", " ").split()
    return list(dict.fromkeys(words))


def check_account(text: str, own: str) -> str:
    """What is wrong with an address, or nothing."""
    text = text.strip()
    if not text:
        return say("error.address.empty")
    try:
        parse_account(text)
    except AddressError as error:
        return str(error)
    return say("error.self") if text == own else ""


def check_accounts(text: str, own: str) -> str:
    """What is wrong with a list of addresses, or nothing."""
    accounts = accounts_in(text)
    if not accounts:
        return say("error.members.empty")
    for account in accounts:
        wrong = check_account(account, own)
        if wrong:
            return wrong
    return ""


def check_name(text: str) -> str:
    """What is wrong with a room's name, or nothing."""
    if not text.strip():
        return say("error.name.empty")
    if len(text.strip().encode()) > NAME_MAX:
        return say("error.name.long", most=NAME_MAX)
    return ""
