"""What happened in the database, as told to the rest of the node after the commit.

Events are hints: whoever misses one finds the same by reading the log from its
cursor. They carry the entries' bytes only to spare that read to those who are up to
date.
"""

from dataclasses import dataclass

from protocol.log import LogId
from protocol.wire import Receipt

__all__ = [
    "AccountChanged",
    "EntriesAppended",
    "Event",
    "MembersChanged",
    "OutcomeStored",
    "ReadingStarted",
]


@dataclass(frozen=True, slots=True)
class EntriesAppended:
    """A log has grown; `destination` is set for an outgoing log."""

    log: LogId
    after: int
    """The seq before the first of them."""
    entries: list[bytes]
    destination: str = ""


@dataclass(frozen=True, slots=True)
class MembersChanged:
    """Somebody came into a room, or went: who may read what has changed."""

    log: LogId


@dataclass(frozen=True, slots=True)
class ReadingStarted:
    """A device acked a log: this is its cursor now."""

    device: str
    log: LogId
    seq: int


@dataclass(frozen=True, slots=True)
class OutcomeStored:
    """The hub of a room refused what a device of ours had submitted."""

    device: str
    log: LogId
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class AccountChanged:
    """An account's devices or its standing changed."""

    account: str
    revoked: tuple[str, ...] = ()
    """Devices that were ended by it."""


Event = (
    EntriesAppended | MembersChanged | ReadingStarted | OutcomeStored | AccountChanged
)
