"""What this node's devices write for rooms of other nodes: onto the way there.

In the writer, for many at once. What was answered before is answered again: from the
copy of the room, from the stored refusals, and from the log that is on its way.
"""

from collections.abc import Sequence

from sqlalchemy import Connection

from node.peers.outgoing import open_outgoing
from node.rooms.incoming import Incoming
from node.rooms.member import members_among
from node.storage.chain import Log, append_many, find_entries
from node.storage.lookup import look_up
from node.storage.store import Transaction
from node.storage.tables import OutcomeRow, core
from protocol.codec import decode
from protocol.errors import Refused, UnknownRoom
from protocol.log import LogId, outgoing_id
from protocol.wire import Receipt

__all__ = ["carry", "find_outcome", "find_outcomes", "look"]

_outcome = core(OutcomeRow)


def carry(
    transaction: Transaction,
    items: Sequence[tuple[Log, Incoming]],
    *,
    node: str,
    now: float,
) -> list[Receipt | Refused]:
    """Put submissions into the logs for the rooms' hubs.

    Args:
        transaction: of the writer.
        items: each with this node's copy of its room.
        node: this node's name.
        now: unix seconds.

    Returns:
        For each: pending, or what became of it before, or why not.
    """
    ways: dict[str, dict[bytes, bytes]] = {}
    outcomes: list[Receipt | Refused] = []
    before = look(transaction.connection, items, node=node)
    for (log, incoming), outcome in zip(items, before, strict=True):
        if outcome is None:
            # By event id: a repeat among these items goes once.
            ways.setdefault(log.owner, {})[incoming.event_id] = incoming.data
            outcome = Receipt(incoming.event_id, "pending")
        outcomes.append(outcome)
    for hub, submissions in ways.items():
        way = open_outgoing(transaction, node, hub, now)
        pairs = [(data, event_id) for event_id, data in submissions.items()]
        append_many(transaction, way, pairs, int(now * 1000))
    return outcomes


def look(
    connection: Connection, items: Sequence[tuple[Log, Incoming]], *, node: str
) -> list[Receipt | Refused | None]:
    """What became of submissions for rooms of other nodes; None: it is new, and may
    be sent."""
    wanted = [(log.id, incoming.event_id) for log, incoming in items]
    known = find_outcomes(connection, wanted) | find_entries(connection, wanted)
    waiting = find_entries(
        connection,
        [(outgoing_id(node, log.owner), each.event_id) for log, each in items],
    )
    inside = members_among(connection, {(log.id, each.account) for log, each in items})
    found: list[Receipt | Refused | None] = []
    for log, incoming in items:
        event_id = incoming.event_id
        if event_id in known:
            found.append(known[event_id])
        elif event_id in waiting:
            found.append(Receipt(event_id, "pending"))
        elif (log.id, incoming.account) in inside:
            found.append(None)
        else:
            found.append(UnknownRoom())
    return found


def find_outcome(connection: Connection, log: LogId, event_id: bytes) -> Receipt | None:
    """The stored refusal of a submission."""
    return find_outcomes(connection, [(log, event_id)]).get(event_id)


def find_outcomes(
    connection: Connection, wanted: Sequence[tuple[LogId, bytes]]
) -> dict[bytes, Receipt]:
    """The stored refusals of some of many submissions (log, event id)."""
    rows = look_up(
        connection,
        (_outcome.c.log, _outcome.c.event_id),
        wanted,
        (_outcome.c.event_id, _outcome.c.receipt),
    )
    return {event_id: decode(data, Receipt) for event_id, data in rows}
