"""GREASE: values that mean nothing, sent so that others keep ignoring the unknown.

RFC 9420 section 13.5. They are chosen from the randomness that is passed in, stand in
capabilities and lists of extensions only, and are never looked for on receipt.
"""

from __future__ import annotations

from collections.abc import Sequence

from e2ee.codepoint import GREASE
from e2ee.crypto import Rng
from e2ee.extension import Extension

COUNT = 2
"""Values in one list: enough to be met, few enough for 4,000 leaves."""

_VALUES = tuple(sorted(GREASE))


def grease_values(rng: Rng, count: int = COUNT) -> tuple[int, ...]:
    """Choose different values."""
    left = list(_VALUES)
    return tuple(left.pop(byte % len(left)) for byte in rng(count))


def grease_extension(rng: Rng, known: Sequence[int] = _VALUES) -> Extension:
    """Make an extension of a type among `known`, with up to 15 random bytes."""
    kind, size = rng(2)
    return Extension(known[kind % len(known)], rng(size % 16))
