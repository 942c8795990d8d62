"""Forms: fields with their errors beneath them, a line for what is going on.

Both onboarding and the dialogs are forms. Enter goes to the next field and, in the
last one, does what the first button does. While something is at work the fields are
locked and Esc still leaves.
"""

import logging
from collections.abc import Iterator
from typing import Any

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.css.query import NoMatches
from textual.dom import DOMNode
from textual.widgets import Button, Input, Static

from media.port import MediaError
from protocol.errors import TelexError
from tui.text import say

__all__ = ["Field", "FormBox", "sentence"]

LOG = logging.getLogger(__name__)


def sentence(error: Exception, log: object) -> str:
    """What to tell people about an error; the unexpected goes to the log."""
    if isinstance(error, TelexError | MediaError):
        return str(error)
    LOG.error("unexpected", exc_info=error)
    return say("error.unexpected", log=log)


class Field(Vertical):
    """A label, an input and the error that belongs to it."""

    def __init__(
        self,
        name: str,
        label: str,
        hint: str = "",
        *,
        password: bool = False,
        value: str = "",
    ) -> None:
        super().__init__(id=f"field-{name}", classes="field")
        self.key = name
        self._label = label
        self._input = Input(value, placeholder=hint, password=password, compact=True)
        self._error = Static("", classes="error", markup=False)

    def compose(self) -> ComposeResult:
        """The three lines."""
        yield Static(Content(self._label), classes="label")
        yield self._input
        yield self._error

    @property
    def value(self) -> str:
        """What was written."""
        return self._input.value

    @property
    def input(self) -> Input:
        """The input itself."""
        return self._input

    def complain(self, text: str) -> None:
        """Say what is wrong; an empty text takes it back."""
        self._error.update(Content(text))
        self.set_class(bool(text), "-wrong")

    def on_input_changed(self) -> None:
        """What was wrong is being mended."""
        self.complain("")


class FormBox(Vertical):
    """A titled box of fields and buttons."""

    def __init__(
        self,
        title: str,
        *fields: Field,
        go: str,
        back: str,
        text: str = "",
        dangerous: bool = False,
    ) -> None:
        super().__init__(classes="form")
        self._title = title
        self._text = text
        self.fields = fields
        self._go = go
        self._back = back
        self._dangerous = dangerous

    def compose(self) -> ComposeResult:
        """Title, text, fields, a line for progress and errors, buttons."""
        yield Static(Content(self._title), classes="form-title")
        if self._text:
            yield Static(Content(self._text), classes="form-text")
        yield from self.fields
        yield Static("", classes="form-note", markup=False)
        with Horizontal(classes="form-buttons"):
            kind = "error" if self._dangerous else "primary"
            yield Button(Content(self._go), id="go", variant=kind, compact=True)  # type: ignore[arg-type]
            yield Button(Content(self._back), id="back", compact=True)

    def on_mount(self) -> None:
        """Begin in the first field, or on the safe button of a question."""
        if self.fields:
            self.fields[0].input.focus()
        else:
            self.query_one("#back", Button).focus()

    def values(self) -> dict[str, str]:
        """What was written, by the fields' names."""
        return {field.key: field.value for field in self.fields}

    def busy(self, text: str) -> None:
        """Say what is being done, and lock the fields."""
        self._note(f"◌ {text}", "-busy")
        self._lock(True)

    def fail(self, text: str, field: str = "") -> None:
        """Unlock, and say what went wrong where it belongs."""
        self._lock(False)
        for one in self.fields:
            if one.key == field:
                self._note("", "")
                one.complain(text)
                one.input.focus()
                return
        self._note(text, "-error")
        if self.fields:
            self.fields[-1].input.focus()

    def complain(self, errors: dict[str, str]) -> bool:
        """Show the errors at their fields; returns whether there are any."""
        self._note("", "")
        first = None
        for field in self.fields:
            text = errors.get(field.key, "")
            field.complain(text)
            first = first or (field if text else None)
        if first is not None:
            first.input.focus()
        return first is not None

    def _note(self, text: str, kind: str) -> None:
        note = self.query_one(".form-note", Static)
        note.set_classes(f"form-note {kind}".strip())
        note.update(Content(text))

    def _lock(self, locked: bool) -> None:
        for field in self.fields:
            field.input.disabled = locked
        self.query_one("#go", Button).disabled = locked

    def next_field(self, current: Input) -> bool:
        """Go to the field after this one; false if it was the last."""
        for field, following in _pairs(self.fields):
            if field.input is current:
                if following is None:
                    return False
                following.input.focus()
                return True
        return False


def _pairs(fields: tuple[Field, ...]) -> Iterator[tuple[Field, Field | None]]:
    yield from zip(fields, [*fields[1:], None], strict=True)


def form_of(node: DOMNode) -> FormBox | None:
    """The form on a screen, if it is (still) there."""
    try:
        found: Any = node.query_one(FormBox)
    except NoMatches:
        return None
    return found if isinstance(found, FormBox) else None
