"""To whom this account may be shown: the people of its rooms, but for some.

Only members know who is in a room, so the device says it to its node; the node shows
this account to nobody else. The people of small rooms come first, should there be too
many. Rooms above `TYPING_MEMBERS` are meetings of strangers and do not count.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from client.storage.store import Tx
from client.storage.timeline import Purpose, Status
from protocol.log import LogId
from protocol.presence import SHOW_MAX, TYPING_MEMBERS

__all__ = ["Audience", "find_audience"]

_MEMBERS = """
SELECT p.room, p.account FROM presence p JOIN room r ON r.id = p.room
 WHERE r.status = ? AND r.purpose = ? AND r.members <= ? AND p.inside
   AND NOT EXISTS (SELECT 1 FROM presence q WHERE q.room = p.room
                   AND q.account = p.account AND q.seq > p.seq)
 ORDER BY r.members, r.activity DESC, p.account
"""


@dataclass(frozen=True, slots=True)
class Audience:
    """Who is in the rooms of this account."""

    rooms: dict[LogId, frozenset[str]] = field(default_factory=dict)
    """The others, by room."""
    show: tuple[str, ...] = ()
    """Those to whom this account shows itself."""
    people: frozenset[str] = frozenset()
    """All of the others."""


def find_audience(tx: Tx, account: str, hidden_from: Collection[str]) -> Audience:
    """Who is in the rooms of an account, and who may see whether it is there.

    Args:
        account: our own.
        hidden_from: people to whom it never shows itself.
    """
    rooms: dict[LogId, set[str]] = {}
    people: dict[str, None] = {}
    rows = tx.all(_MEMBERS, Status.ACTIVE, Purpose.TALK, TYPING_MEMBERS)
    for room, member in rows:
        if member != account:
            rooms.setdefault(LogId(room), set()).add(member)
            people[member] = None
    show = [one for one in people if one not in hidden_from][:SHOW_MAX]
    return Audience(
        {room: frozenset(members) for room, members in rooms.items()},
        tuple(sorted(show)),  # the same people are the same list
        frozenset(people),
    )
