"""What the interface says, in English and Chinese.

Three tables for each language (`text_en`, `text_en_trust` and `text_en_call`, the same
for `zh`); a test keeps their keys and their placeholders equal. `use` chooses the
language once at the start, `say` looks a sentence up. Key bindings carry a key of the
table as their description, so the help screen, the hints and the command palette speak
the same words.
"""

import os
from collections.abc import Mapping

from tui import (
    text_en,
    text_en_call,
    text_en_trust,
    text_zh,
    text_zh_call,
    text_zh_trust,
)

__all__ = ["LANGUAGES", "choose_language", "language", "say", "use"]

LANGUAGES: Mapping[str, Mapping[str, str]] = {
    "en": text_en.TEXT | text_en_trust.TEXT | text_en_call.TEXT,
    "zh": text_zh.TEXT | text_zh_trust.TEXT | text_zh_call.TEXT,
}

_current = "en"


def choose_language(setting: str, environ: Mapping[str, str] = os.environ) -> str:
    """`en` or `zh`: what the setting says, or else what the environment says."""
    if setting in LANGUAGES:
        return setting
    for variable in ("LC_ALL", "LC_MESSAGES", "LANG"):
        value = environ.get(variable, "")
        if value:
            return "zh" if value.lower().startswith("zh") else "en"
    return "en"


def use(name: str) -> None:
    """Speak this language from now on."""
    global _current
    if name not in LANGUAGES:
        raise ValueError(f"no such language: {name!r}")
    _current = name


def language() -> str:
    """The language in use."""
    return _current


def say(key: str, **values: object) -> str:
    """The sentence of that key, with its placeholders filled in."""
    return LANGUAGES[_current][key].format(**values)
