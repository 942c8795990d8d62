"""The recovery phrase: 24 words that are the account (BIP-39, English).

Shown once, stored nowhere. Who has them has the account; who has lost them and every
device has lost it.
"""

import secrets
from collections.abc import Mapping, Sequence

from client.errors import WrongPhrase

__all__ = ["QUIZ", "check_quiz", "new_phrase", "quiz", "read_phrase"]

QUIZ = 3
"""Words that are asked back: who has not written them down has to go back."""


def new_phrase() -> tuple[bytes, list[str]]:
    """32 random bytes, and the 24 words that stand for them."""
    from mnemonic import Mnemonic

    entropy = secrets.token_bytes(32)
    words: list[str] = Mnemonic("english").to_mnemonic(entropy).split()
    return entropy, words


def quiz(words: Sequence[str]) -> list[int]:
    """Which words to ask back after the phrase was shown.

    Args:
        words: the 24 words.

    Returns:
        Three positions in ascending order, counted from 1.
    """
    places = range(1, len(words) + 1)
    return sorted(secrets.SystemRandom().sample(places, min(QUIZ, len(words))))


def check_quiz(words: Sequence[str], answers: Mapping[int, str]) -> list[int]:
    """Check what somebody typed in answer to `quiz`; case and blanks do not count.

    Args:
        words: the 24 words.
        answers: what was typed, by position (from 1).

    Returns:
        The positions that are wrong; empty if all are right.
    """
    return [
        place
        for place, answer in sorted(answers.items())
        if not 1 <= place <= len(words) or answer.strip().lower() != words[place - 1]
    ]


def read_phrase(phrase: str) -> bytes:
    """The 32 bytes that 24 words stand for.

    Raises:
        WrongPhrase: a word is not in the list, or the words do not fit together.
    """
    from mnemonic import Mnemonic

    book = Mnemonic("english")
    words = phrase.lower().split()
    if len(words) != 24:
        raise WrongPhrase(f"A recovery phrase has 24 words; this one has {len(words)}.")
    unknown = [n for n, word in enumerate(words, 1) if word not in book.wordlist]
    if unknown:
        raise WrongPhrase(
            f"Word {unknown[0]} of the recovery phrase is not in the list; check its "
            "spelling."
        )
    if not book.check(" ".join(words)):
        raise WrongPhrase(
            "These 24 words do not fit together: one is wrong, or their order is."
        )
    return bytes(book.to_entropy(words))
