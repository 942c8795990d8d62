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

__all__ = ["carry", "find_outcomes"]

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
    connection = transaction.connection
    wanted = [(log.id, incoming.event_id) for log, incoming in items]
    known = find_outcomes(connection, wanted) | find_entries(connection, wanted)
    waiting = find_entries(
        connection,
        [(outgoing_id(node, log.owner), each.event_id) for log, each in items],
    )
    inside = members_among(connection, {(log.id, each.account) for log, each in items})
    ways: dict[str, list[tuple[bytes, bytes]]] = {}
    outcomes: list[Receipt | Refused] = []
    for log, incoming in items:
        event_id = incoming.event_id
        if event_id in known:
            outcomes.append(known[event_id])
            continue
        if event_id not in waiting:
            if (log.id, incoming.account) not in inside:
                outcomes.append(UnknownRoom())
                continue
            ways.setdefault(log.owner, []).append((incoming.data, event_id))
        # Also for a repeat of it in these items.
        known[event_id] = Receipt(event_id, "pending")
        outcomes.append(known[event_id])
    for hub, submissions in ways.items():
        way = open_outgoing(transaction, node, hub, now)
        append_many(transaction, way, submissions, int(now * 1000))
    return outcomes


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
