"""The field for the 24 words: completes them and says which one is misspelt.

Words are completed from the list of BIP 39 once they begin like one word only, or
like the first of several; → or End takes the completion. Checking the words' sum is
the engine's.
"""

import difflib
from collections.abc import Sequence
from functools import cache

from textual.binding import Binding
from textual.content import Content
from textual.suggester import Suggester
from textual.widgets import Input

from tui.screens.form import Field
from tui.text import say

__all__ = ["WORDS", "PhraseField", "phrase_errors", "word_list"]

WORDS = 24
LEAST = 2
"""Letters before a word is completed."""


@cache
def word_list() -> Sequence[str]:
    """The 2048 words, in order."""
    from mnemonic import Mnemonic

    words: list[str] = Mnemonic("english").wordlist
    return tuple(words)


def misspelt(words: Sequence[str]) -> tuple[int, str, str] | None:
    """The first word that is not in the list: its number, itself, what it may be."""
    book = word_list()
    known = frozenset(book)
    for number, word in enumerate(words, 1):
        if word not in known:
            close = difflib.get_close_matches(word, book, 1, 0.6)
            return number, word, close[0] if close else ""
    return None


def phrase_errors(text: str) -> dict[str, str]:
    """What is wrong with a whole phrase, for a form."""
    words = text.lower().split()
    if len(words) != WORDS:
        return {"phrase": say("error.phrase.count", count=len(words))}
    return {"phrase": feedback(text, whole=True)[0]}


def feedback(text: str, *, whole: bool = False) -> tuple[str, bool]:
    """A sentence on what was written so far, and whether all is well.

    The word that is still being written is not judged, unless `whole`.
    """
    words = text.lower().split()
    writing = bool(words) and not whole and not text.endswith(" ")
    wrong = misspelt(words[:-1] if writing else words)
    if wrong is not None:
        number, _word, close = wrong
        key = "phrase.wrong.close" if close else "phrase.wrong"
        return say(key, number=number, close=close), False
    if whole:
        return "", True
    if len(words) > WORDS:
        return say("error.phrase.count", count=len(words)), False
    return say("phrase.count", count=len(words)), True


class _Completion(Suggester):
    """The first word of the list that goes on like what is being written."""

    async def get_suggestion(self, value: str) -> str | None:
        """The whole line with its last word completed."""
        head, _, last = value.rpartition(" ")
        if len(last) < LEAST:
            return None
        for word in word_list():
            if word.startswith(last) and word != last:
                return f"{head} {word}" if head else word
        return None


class _PhraseInput(Input):
    """A line of words; Tab takes what is suggested, or goes on."""

    BINDINGS = [Binding("tab", "complete", show=False)]  # noqa: RUF012

    def action_complete(self) -> None:
        """Take the completion and begin the next word; after a blank, go on."""
        before = self.value
        self.action_cursor_right()
        words = self.value.split()
        writing = bool(words) and not self.value.endswith(" ")
        if len(words) < WORDS and (self.value != before or writing):
            self.insert_text_at_cursor(" ")
        elif self.value == before:
            self.screen.focus_next()


class PhraseField(Field):
    """The 24 words with what is wrong beneath."""

    def __init__(self, name: str = "phrase") -> None:
        super().__init__(name, say("field.phrase"))
        self._input = _PhraseInput(
            placeholder=say("phrase.hint"), compact=True, suggester=_Completion()
        )

    def on_input_changed(self, event: Input.Changed) -> None:  # type: ignore[override]
        """Say how many words there are, and which one is wrong."""
        event.prevent_default()
        text = self.value
        sentence, well = feedback(text) if text.strip() else ("", True)
        self._error.update(Content(sentence))
        self._error.set_class(well, "-well")
        self.set_class(bool(sentence), "-wrong")

    def complain(self, text: str) -> None:
        """Say what is wrong; an empty text takes it back."""
        self._error.remove_class("-well")
        super().complain(text)
