"""Key bindings as people read them: `ctrl+pageup` is Ctrl+PgUp."""

from collections.abc import Iterator

from textual.binding import Binding
from textual.dom import DOMNode

__all__ = ["bindings_of", "shown_key"]

_NAMES = {
    "up": "↑",
    "down": "↓",
    "left": "←",
    "right": "→",
    "pageup": "PgUp",
    "pagedown": "PgDn",
    "question_mark": "?",
    "escape": "Esc",
    "delete": "Del",
    "enter": "Enter",
    "home": "Home",
    "end": "End",
    "tab": "Tab",
    "ctrl": "Ctrl",
    "alt": "Alt",
    "shift": "Shift",
}


def shown_key(keys: str) -> str:
    """The keys of a binding, at most two of them: more would only confuse."""
    shown = []
    for key in keys.split(",")[:2]:
        parts = key.strip().split("+")
        shown.append(
            "+".join(_NAMES.get(part, part[:1].upper() + part[1:]) for part in parts)
        )
    return " / ".join(shown)


def bindings_of(kind: type[DOMNode]) -> Iterator[Binding]:
    """The bindings that a class itself declares, with a description in our tables."""
    for binding in kind.__dict__.get("BINDINGS", ()):
        if isinstance(binding, Binding) and binding.description.startswith("key."):
            yield binding
