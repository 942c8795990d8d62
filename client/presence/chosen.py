"""What a person can choose about being seen; values alone, cheap to import."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Choice", "Chosen", "Switch"]

Chosen = Literal["online", "away", "dnd", "invisible"]
"""`online`: and away by itself, when nobody has touched a key for long."""

Switch = Literal["share", "typing", "receipts"]


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen, with the defaults of who never chose."""

    state: Chosen = "online"
    share: bool = True
    """Whether others may see this account as there, and when it was last."""
    typing: bool = True
    """Whether others may see it typing."""
    receipts: bool = True
    """Whether others may see what it has read."""
    hidden_from: frozenset[str] = frozenset()
    """People who see none of it."""
