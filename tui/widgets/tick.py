"""A switch that reads the same without colours: `[x]` or `[ ]`."""

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Static

__all__ = ["Tick"]


class Tick(Static, can_focus=True):
    """Something that is on or off; Space, Enter or a click changes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space,enter", "toggle_tick", show=False),
        Binding("up", "app.focus_previous", show=False),
        Binding("down", "app.focus_next", show=False),
    ]

    def __init__(self, label: str, value: bool, *, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self._label = label
        self._on = value
        self._draw()

    @property
    def value(self) -> bool:
        """Whether it is on."""
        return self._on

    @value.setter
    def value(self, on: bool) -> None:
        self._on = on
        self._draw()

    def _draw(self) -> None:
        mark = ("[x] ", "bold $success") if self._on else ("[ ] ", "$quiet")
        self.update(Content.assemble(mark, self._label))

    def action_toggle_tick(self) -> None:
        """The other way."""
        self.value = not self._on

    def on_click(self) -> None:
        """The same by the mouse."""
        self.action_toggle_tick()
