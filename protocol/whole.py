"""Whole numbers of the wire.

MessagePack has them up to 2**64 - 1 and JSON without any end; what stores and counts
them has not. So each one that comes from outside is a `Whole`.
"""

from typing import Annotated, TypeAlias

import msgspec

__all__ = ["WHOLE_MAX", "Whole"]

WHOLE_MAX = (1 << 53) - 1
"""The largest: every JSON reader has it exactly (RFC 8259, section 6), and SQLite,
whose numbers end at 2**63, can add to it."""

Whole: TypeAlias = Annotated[int, msgspec.Meta(ge=-WHOLE_MAX, le=WHOLE_MAX)]
"""A field of a struct that others send; a decoder refuses what lies outside."""
