"""Outgoing logs: what this node writes to another, kept until the other has it."""

from node.rooms.member import peer_reader, set_cursor
from node.storage.chain import (
    OUTGOING,
    Log,
    append,
    create_log,
    find_entry,
    get_log,
)
from node.storage.store import Transaction
from protocol.log import event_id as event_id_of
from protocol.log import outgoing_id

__all__ = ["open_outgoing", "send"]


def send(
    transaction: Transaction,
    submission: bytes,
    *,
    origin: str,
    destination: str,
    now: float,
) -> None:
    """Put a submission into the log for another node; a repeat changes nothing."""
    event_id = event_id_of(submission)
    log = open_outgoing(transaction, origin, destination, now)
    if find_entry(transaction.connection, log.id, event_id) is None:
        append(transaction, log, submission, event_id, int(now * 1000))


def open_outgoing(
    transaction: Transaction, origin: str, destination: str, now: float
) -> Log:
    """The log for another node; made with the first that is written for it."""
    connection = transaction.connection
    name = outgoing_id(origin, destination)
    log = get_log(connection, name)
    if log is None:
        log = create_log(
            connection, name, OUTGOING, origin, party=destination, now=int(now)
        )
        set_cursor(connection, peer_reader(destination), name, 0)
    return log
