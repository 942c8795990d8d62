"""The recovery phrase: 24 words that are the account (BIP-39, English).

Shown once, stored nowhere. Who has them has the account; who has lost them and every
device has lost it.
"""

from client.errors import WrongPhrase

__all__ = ["read_phrase"]


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
