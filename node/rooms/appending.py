"""The hot path: messages for rooms of this node, appended hundreds at a time.

What the writer needs of a room (its head, its epoch, who may write) it remembers from
one transaction to the next in `Transaction.known`, so a message costs one row and no
question. That the log does not hold the message already, the row's key says: only
when it refuses a batch is each message of it looked up.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sqlalchemy.exc import IntegrityError

from node.clock import Clock
from node.event import EntriesAppended
from node.rooms.incoming import Incoming
from node.rooms.member import is_member
from node.rooms.room import get_epoch, stands_in_roster
from node.storage.chain import (
    ROOM,
    Log,
    NewEntry,
    find_entry,
    get_log,
    insert_entries,
    log_number,
    move_heads,
)
from node.storage.store import Transaction
from protocol.codec import encode
from protocol.errors import Refused, StaleEpoch, UnknownRoom
from protocol.log import Entry, Kind, LogId, chain
from protocol.wire import Receipt

__all__ = ["EPOCHS_BEHIND", "Appending", "Elsewhere", "Pending", "Reply"]

EPOCHS_BEHIND = 2
"""A message may be two epochs old: its sender encrypted it while commits were on
their way. Members keep the keys of as many."""

KNOWN_MAX = 4096
"""Rooms that the writer remembers: the busy ones, in some megabytes."""

Reply = Callable[[Receipt | Refused], None]
"""Is told what became of a submission."""

Elsewhere = Callable[[Log, Incoming, Transaction], Receipt]
"""Takes what is for a room of another node."""


@dataclass(slots=True)
class Pending:
    """A message on its way into a log, and who waits for the answer."""

    incoming: Incoming
    reply: Reply


@dataclass(slots=True)
class _Room:
    """What the writer remembers of a room."""

    log: LogId
    number: int
    term: int
    head: int
    hash: bytes
    epoch: int
    devices: set[str] = field(default_factory=set)
    """Those of which is known that they stand in the roster."""
    fresh: list[bytes] = field(default_factory=list)
    """Entries of the batch that is being made."""


class Appending:
    """`storage.store.Batched`: appends what is no handshake."""

    def __init__(self, node: str, clock: Clock, elsewhere: Elsewhere) -> None:
        self._node = node
        self._clock = clock
        self._elsewhere = elsewhere

    def write(
        self, transaction: Transaction, items: Sequence[Pending]
    ) -> list[Receipt | Refused]:
        """In the writer: append all that may be; a receipt or a refusal for each."""
        try:
            return self._append(transaction, items, look=False)
        except IntegrityError:
            # A device sent something again: rarely, so it is looked for only now.
            transaction.undo()
        return self._append(transaction, items, look=True)

    def done(
        self, items: Sequence[Pending], outcomes: Sequence[Receipt | Refused]
    ) -> None:
        """Tell the devices."""
        for item, outcome in zip(items, outcomes, strict=True):
            item.reply(outcome)

    def _append(
        self,
        transaction: Transaction,
        items: Sequence[Pending],
        *,
        look: bool,
    ) -> list[Receipt | Refused]:
        now_ms = int(self._clock() * 1000)
        rows: list[NewEntry] = []
        outcomes: list[Receipt | Refused] = []
        grown: dict[LogId, _Room] = {}
        seen: dict[bytes, Receipt] = {}
        for item in items:
            incoming = item.incoming
            if look and (known := _find(transaction, incoming, seen)) is not None:
                outcomes.append(known)
                continue
            try:
                room = self._room(transaction, incoming)
                if not isinstance(room, _Room):
                    outcomes.append(self._elsewhere(room, incoming, transaction))
                    continue
                _check(transaction, room, incoming)
            except Refused as refused:
                outcomes.append(refused)
                continue
            seq = room.head + 1
            data = encode(Entry(seq, room.term, now_ms, incoming.data))
            digest = chain(room.hash, data)
            rows.append(
                (room.number, seq, incoming.event_id[:16], room.hash, digest, data)
            )
            receipt = Receipt(incoming.event_id, "committed", seq, digest)
            outcomes.append(receipt)
            if look:
                seen[incoming.event_id] = receipt
            room.head, room.hash = seq, digest
            room.fresh.append(data)
            grown[room.log] = room
        insert_entries(transaction, rows)
        move_heads(transaction, [(r.head, r.hash, r.log) for r in grown.values()])
        for room in grown.values():
            after = room.head - len(room.fresh)
            transaction.events.append(EntriesAppended(room.log, after, room.fresh))
            room.fresh = []
        return outcomes

    def _room(self, transaction: Transaction, incoming: Incoming) -> "_Room | Log":
        """The room; its log if it is another node's.

        Raises:
            UnknownRoom: there is none.
        """
        name = incoming.submission.log
        known: _Room | None = transaction.known.get(name)
        if known is not None:
            return known
        log = get_log(transaction.connection, name)
        if log is None or log.kind != ROOM:
            raise UnknownRoom()
        if log.owner != self._node:
            return log
        epoch = get_epoch(transaction.connection, name)
        if epoch is None:
            raise UnknownRoom()
        while len(transaction.known) >= KNOWN_MAX:
            del transaction.known[next(iter(transaction.known))]
        known = _Room(name, log_number(name), log.term, log.head, log.hash, epoch)
        transaction.known[name] = known
        return known


def _check(transaction: Transaction, room: _Room, incoming: Incoming) -> None:
    """Whether the sender may write this.

    Raises:
        UnknownRoom, StaleEpoch.
    """
    sender = incoming.submission.sender
    if incoming.submission.kind == Kind.JOIN_REQUEST:
        if not is_member(transaction.connection, room.log, incoming.account):
            raise UnknownRoom()
        return
    if sender not in room.devices:
        if not stands_in_roster(transaction.connection, room.log, sender):
            raise UnknownRoom()
        room.devices.add(sender)
    epoch = incoming.epoch
    if epoch is not None and not room.epoch - EPOCHS_BEHIND <= epoch <= room.epoch:
        raise StaleEpoch(epoch=room.epoch)


def _find(
    transaction: Transaction, incoming: Incoming, seen: dict[bytes, Receipt]
) -> Receipt | None:
    """The receipt of what the log holds already, or what stood before in this batch."""
    known = seen.get(incoming.event_id)
    if known is not None:
        return known
    log = incoming.submission.log
    return find_entry(transaction.connection, log, incoming.event_id)
