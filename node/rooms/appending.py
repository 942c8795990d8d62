"""The hot path: messages for rooms of this node, appended hundreds at a time.

What the writer needs of a room (its head, its epoch, who may write) it remembers from
one transaction to the next in `Transaction.known`, so a message costs one row and no
question. That the log does not hold the message already, the row's key says: only
when it refuses a batch is each message of it looked up.
"""

from collections.abc import Callable, Iterable, Sequence
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
    find_entries,
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

_WAITING = Refused()
"""Stands where the answer of another node's room will be."""

KNOWN_MAX = 20_000
"""Rooms that the writer remembers, in some 20 MB; the one that was not written in for
longest goes."""

Reply = Callable[[Receipt | Refused], None]
"""Is told what became of a submission."""

Elsewhere = Callable[
    [Transaction, Sequence[tuple[Log, Incoming]]], Sequence[Receipt | Refused]
]
"""In the writer: takes what is for rooms of other nodes, each with the room's copy."""


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
        return self.append(transaction, [item.incoming for item in items])

    def append(
        self, transaction: Transaction, items: Sequence[Incoming]
    ) -> list[Receipt | Refused]:
        """The same, for whoever has a transaction already."""
        try:
            with transaction.attempt():
                return self._append(transaction, items, {})
        except IntegrityError:
            # A device sent something again: rarely, so it is looked for only now.
            wanted = [(item.submission.log, item.event_id) for item in items]
            known = find_entries(transaction.connection, wanted)
        return self._append(transaction, items, known, repeats=True)

    def done(
        self, items: Sequence[Pending], outcomes: Sequence[Receipt | Refused]
    ) -> None:
        """Tell the devices."""
        for item, outcome in zip(items, outcomes, strict=True):
            item.reply(outcome)

    def _append(
        self,
        transaction: Transaction,
        items: Sequence[Incoming],
        known: dict[bytes, Receipt],
        *,
        repeats: bool = False,
    ) -> list[Receipt | Refused]:
        transaction.relied = True
        now_ms = int(self._clock() * 1000)
        rows: list[NewEntry] = []
        outcomes: list[Receipt | Refused] = []
        grown: dict[LogId, _Room] = {}
        elsewhere: list[tuple[int, Log, Incoming]] = []
        for incoming in items:
            if repeats and incoming.event_id in known:
                outcomes.append(known[incoming.event_id])
                continue
            try:
                room = self._room(transaction, incoming)
                if not isinstance(room, _Room):
                    elsewhere.append((len(outcomes), room, incoming))
                    outcomes.append(_WAITING)
                    continue
                _check(transaction, room, incoming)
            except Refused as refused:
                # What was taken is taken, whatever has become of the sender since.
                log, event = incoming.submission.log, incoming.event_id
                before = find_entry(transaction.connection, log, event)
                outcomes.append(before or refused)
                continue
            seq = room.head + 1
            data = encode(Entry(seq, room.term, now_ms, incoming.data))
            digest = chain(room.hash, data)
            rows.append(
                (room.number, seq, incoming.event_id[:16], room.hash, digest, data)
            )
            receipt = Receipt(incoming.event_id, "committed", seq, digest)
            outcomes.append(receipt)
            if repeats:
                known[incoming.event_id] = receipt
            room.head, room.hash = seq, digest
            room.fresh.append(data)
            grown[room.log] = room
        insert_entries(transaction, rows)
        move_heads(transaction, [(r.head, r.hash, r.log) for r in grown.values()])
        for room in grown.values():
            after = room.head - len(room.fresh)
            transaction.events.append(EntriesAppended(room.log, after, room.fresh))
            room.fresh = []
        _forget_oldest(transaction.known, grown)
        if elsewhere:
            carried = self._elsewhere(transaction, [each[1:] for each in elsewhere])
            for (place, _, _), outcome in zip(elsewhere, carried, strict=True):
                outcomes[place] = outcome
        return outcomes

    def _room(self, transaction: Transaction, incoming: Incoming) -> "_Room | Log":
        """The room; its log if it is another node's.

        Raises:
            UnknownRoom: there is none.
        """
        name = incoming.submission.log
        known: _Room | Log | None = transaction.known.get(name)
        if known is None:
            known = transaction.known[name] = self._look(transaction, name)
        return known

    def _look(self, transaction: Transaction, name: LogId) -> "_Room | Log":
        log = get_log(transaction.connection, name)
        if log is None or log.kind != ROOM:
            raise UnknownRoom()
        if log.owner != self._node:
            return log
        epoch = get_epoch(transaction.connection, name)
        if epoch is None:
            raise UnknownRoom()
        return _Room(name, log_number(name), log.term, log.head, log.hash, epoch)


def _forget_oldest(known: dict[LogId, object], used: Iterable[LogId]) -> None:
    """Once a batch is made, as those in it have moved on."""
    for name in used:
        known[name] = known.pop(name)
    while len(known) > KNOWN_MAX:
        del known[next(iter(known))]


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
