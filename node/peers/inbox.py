"""What peers push to us: copies of their rooms, and what they ask us to append.

Sizes, chain and checkpoint were checked by `federation`; here it is checked whose log
it is and whether it fits what this node has, in the same write that stores it. An
item that cannot be applied is refused, with a stored answer, and passed by: nothing
that a peer's user writes can stop the stream behind it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from sqlalchemy import Connection, func, select

from node.clock import Clock
from node.event import MembersChanged
from node.peers.log import PeerLogs, store_outcome
from node.rooms.carrying import find_outcome, find_outcomes
from node.rooms.hub import Hub, check_shape
from node.rooms.incoming import Incoming, read_incoming
from node.rooms.mailbox import put
from node.rooms.member import is_member, record_changes
from node.storage.chain import (
    INCOMING,
    ROOM,
    Log,
    create_log,
    find_entries,
    get_log,
    hash_at,
    move_head,
    store_copies,
)
from node.storage.store import Store, Transaction
from node.storage.tables import AccountRow, MemberRow, core
from protocol.address import AccountAddress, parse_account, parse_device
from protocol.codec import decode
from protocol.errors import (
    AddressError,
    BadRequest,
    LogForked,
    Malformed,
    NodeBusy,
    NodeFault,
    NotAllowed,
    Refused,
    StorageFailed,
    StorageFull,
    UnknownAccount,
    UnknownRoom,
)
from protocol.log import Entry, Kind, LogId, chain, event_id, mailbox_id, read_entry
from protocol.wire import Receipt, Stream, StreamAck, WelcomeMail

__all__ = ["PeerInbox"]

_member = core(MemberRow)
_account = core(AccountRow)

_TROUBLE = (NodeBusy, NodeFault, StorageFailed, StorageFull)
"""Our own troubles: the item stays unacked and comes again."""


@dataclass(frozen=True, slots=True)
class _Item:
    """One entry of a peer's outgoing log, read as far as it can be."""

    event_id: bytes
    incoming: Incoming | None
    problem: Refused | None


class PeerInbox(PeerLogs):
    """The port `federation.ports.LogStore`, both halves."""

    def __init__(self, store: Store, hub: Hub, node: str, clock: Clock) -> None:
        super().__init__(store, node, clock)
        self._hub = hub

    # --- copies of rooms --------------------------------------------------------

    async def receive_copy(self, peer: str, stream: Stream) -> StreamAck:
        """Store entries of a room that the peer is hub of.

        Raises:
            LogForked: they contradict what this node has.
            NotAllowed: the log is not this peer's to push here.
        """
        entries = [_read(data) for data in stream.entries]
        operation = partial(self._copy, peer, stream, entries)
        head = await self._store.write(
            operation, size=sum(map(len, stream.entries)) + 256
        )
        return StreamAck(stream.log, head)

    def _copy(
        self,
        peer: str,
        stream: Stream,
        entries: Sequence[Entry | None],
        transaction: Transaction,
    ) -> int:
        connection = transaction.connection
        log = get_log(connection, stream.log)
        if log is not None and (log.owner != peer or log.kind != ROOM):
            raise NotAllowed("This log belongs to another node.")
        if log is None:
            if not entries or not self._brings_in(connection, entries[0]):
                raise UnknownRoom("Nobody here is in this room.")
            log = create_log(
                connection,
                stream.log,
                ROOM,
                peer,
                now=int(self._clock()),
                head=stream.after,
                hash=stream.previous,
            )
        if stream.after > log.head:
            if not self._may_jump(connection, stream, entries):
                return log.head
            log = replace(log, head=stream.after, hash=stream.previous)
        _check_overlap(connection, log, stream)
        new = log.head - stream.after
        if new >= len(entries):
            return log.head
        self._store_copies(transaction, log, stream.entries[new:], entries[new:])
        return log.head + len(entries) - new

    def _store_copies(
        self,
        transaction: Transaction,
        log: Log,
        data: Sequence[bytes],
        entries: Sequence[Entry | None],
    ) -> None:
        rows, changed = [], False
        pairs = list(zip(data, entries, strict=True))
        events = [event_id(raw if e is None else e.submission) for raw, e in pairs]
        wanted = [(log.id, event) for event in events]
        seen = set(find_entries(transaction.connection, wanted))
        for place, (event, (raw, entry)) in enumerate(
            zip(events, pairs, strict=True), 1
        ):
            # A hub that appends one submission twice is wrong, but its chain is what
            # it is: the second one is kept under its own bytes' name.
            if event in seen:
                event = event_id(raw)
            seen.add(event)
            rows.append((raw, event, log.term if entry is None else entry.term))
            if entry is None or not (entry.added or entry.removed):
                continue
            changed = True
            record_changes(
                transaction,
                log.id,
                log.head + place,
                added=_local(entry.added, self._node),
                removed=_local(entry.removed, self._node),
                node=self._node,
                hub=False,
            )
        if changed:
            transaction.events.append(MembersChanged(log.id))
        store_copies(transaction, log, rows)

    def _brings_in(self, connection: Connection, entry: Entry | None) -> bool:
        """Whether an entry adds an account that there is here."""
        added = _local(entry.added, self._node) if entry is not None else []
        return any(_exists(connection, parse_account(text)) for text in added)

    def _may_jump(
        self, connection: Connection, stream: Stream, entries: Sequence[Entry | None]
    ) -> bool:
        """Whether nobody here is to read what lies between: all had left before."""
        since: int | None = connection.scalar(
            select(func.min(_member.c.since)).where(
                _member.c.room == stream.log, _member.c.until.is_(None)
            )
        )
        if since is not None:
            return since > stream.after
        return bool(entries) and self._brings_in(connection, entries[0])

    # --- what a peer asks us to append -------------------------------------------

    async def receive_outgoing(self, peer: str, stream: Stream) -> StreamAck:
        """Apply a peer's outgoing log, item by item, each of them once.

        Raises:
            LogForked: it contradicts what was applied before.
            Refused: this node's own trouble; nothing of it is acked.
        """
        known = await self._store.read(lambda c: get_log(c, stream.log))
        if known is not None and known.owner != peer:
            raise NotAllowed("This log belongs to another node.")
        head = 0 if known is None else known.head
        if stream.after > max(head, stream.floor):
            return StreamAck(stream.log, head)
        outcomes: list[Receipt] = []
        batch: list[_Item] = []
        for item in map(_read_item, stream.entries):
            if item.incoming is None or item.incoming.submission.kind != Kind.PROPOSAL:
                batch.append(item)
                continue
            # A proposal is checked in a thread: what stands before it comes first.
            outcomes += await self._apply(peer, batch)
            outcomes.append(await self._propose(peer, item))
            batch = []
        outcomes += await self._apply(peer, batch)
        last = await self._store.write(partial(self._advance, peer, stream))
        return StreamAck(stream.log, last, outcomes)

    def _advance(self, peer: str, stream: Stream, transaction: Transaction) -> int:
        """In the writer: remember how far the peer's log was applied."""
        connection = transaction.connection
        log = get_log(connection, stream.log)
        if log is None:
            log = create_log(
                connection,
                stream.log,
                INCOMING,
                peer,
                now=int(self._clock()),
                head=stream.after,
                hash=stream.previous,
            )
        digest = stream.previous
        if stream.after == log.head and digest != log.hash:
            raise LogForked()
        for seq, data in enumerate(stream.entries, stream.after + 1):
            digest = chain(digest, data)
            if seq == log.head and digest != log.hash:
                raise LogForked()
        last = stream.after + len(stream.entries)
        if last > log.head:
            move_head(transaction, replace(log, head=last, hash=digest))
        return max(last, log.head)

    async def _apply(self, peer: str, items: Sequence[_Item]) -> list[Receipt]:
        """Append items that need no thread, all in one write."""
        if not items:
            return []

        def write(transaction: Transaction) -> list[Receipt]:
            return self._apply_now(transaction, peer, items)

        size = sum(len(i.incoming.data) for i in items if i.incoming is not None)
        return await self._store.write(write, size=size + 256)

    def _apply_now(
        self, transaction: Transaction, peer: str, items: Sequence[_Item]
    ) -> list[Receipt]:
        """In the writer: what became of each; messages are appended together."""
        read = [item.incoming for item in items if item.incoming is not None]
        wanted = [(each.submission.log, each.event_id) for each in read]
        known = find_entries(transaction.connection, wanted) | find_outcomes(
            transaction.connection, wanted
        )
        receipts: list[Receipt | None] = []
        messages: list[tuple[int, Incoming]] = []
        for place, item in enumerate(items):
            receipt = known.get(item.event_id)
            if receipt is None:
                receipt = self._apply_one(transaction, peer, item)
            if receipt is None and item.incoming is not None:
                messages.append((place, item.incoming))
            receipts.append(receipt)
        outcomes = self._hub.append(transaction, [each for _, each in messages])
        for (place, incoming), outcome in zip(messages, outcomes, strict=True):
            if isinstance(outcome, _TROUBLE):
                raise outcome
            if isinstance(outcome, Refused):
                outcome = self._refuse(transaction, incoming, outcome)
            receipts[place] = outcome
        return [receipt for receipt in receipts if receipt is not None]

    def _apply_one(
        self, transaction: Transaction, peer: str, item: _Item
    ) -> Receipt | None:
        """What became of a Welcome, or of what cannot be appended; None: append it."""
        incoming = item.incoming
        if incoming is None:
            assert item.problem is not None
            return Receipt(item.event_id, "rejected", problem=item.problem.problem())
        try:
            if incoming.submission.kind == Kind.WELCOME:
                return self._take_welcome(transaction, peer, incoming)
            _check_sender(peer, incoming)
            if incoming.submission.kind == Kind.COMMIT:
                raise BadRequest("A commit is submitted with its bundle.")
            check_shape(incoming)
        except _TROUBLE:
            raise
        except Refused as error:
            return self._refuse(transaction, incoming, error)
        return None

    async def _propose(self, peer: str, item: _Item) -> Receipt:
        incoming = item.incoming
        assert incoming is not None
        name = incoming.submission.log
        known = await self._store.read(lambda c: find_outcome(c, name, item.event_id))
        if known is not None:
            return known
        try:
            _check_sender(peer, incoming)
            return await self._hub.submit(incoming, None)
        except _TROUBLE:
            raise
        except Refused as error:
            refused = error
        return await self._store.write(
            lambda transaction: self._refuse(transaction, incoming, refused)
        )

    def _refuse(
        self, transaction: Transaction, incoming: Incoming, error: Refused
    ) -> Receipt:
        receipt = Receipt(incoming.event_id, "rejected", problem=error.problem())
        submission = incoming.submission
        store_outcome(
            transaction, submission.log, submission.sender, receipt, self._clock()
        )
        return receipt

    def _take_welcome(
        self, transaction: Transaction, peer: str, incoming: Incoming
    ) -> Receipt:
        """Put a Welcome into a mailbox, and make ready for the room it is to.

        The mail may be here before the room's first entries: then the copy begins
        after the commit that it tells of, whose hash it names.
        """
        try:
            mail = decode(incoming.submission.body, WelcomeMail)
            account = parse_device(mail.device).account
        except (Malformed, AddressError) as error:
            raise BadRequest(str(error)) from error
        connection = transaction.connection
        if mail.hub != peer or incoming.submission.log != mailbox_id(str(account)):
            raise NotAllowed("A Welcome comes from the room's hub, to its device.")
        if account.node != self._node or not _exists(connection, account):
            raise UnknownAccount()
        self._make_ready(transaction, peer, mail, account)
        return put(transaction, account, incoming.data, self._clock())

    def _make_ready(
        self,
        transaction: Transaction,
        peer: str,
        mail: WelcomeMail,
        account: AccountAddress,
    ) -> None:
        connection = transaction.connection
        room = LogId(mail.room)
        log = get_log(connection, room)
        if log is None:
            if not 0 < mail.seq < 1 << 53 or len(mail.hash) != 32:
                raise BadRequest("A Welcome names an entry and its hash.")
            create_log(
                connection,
                room,
                ROOM,
                peer,
                now=int(self._clock()),
                head=mail.seq,
                hash=mail.hash,
            )
        elif log.owner != peer or log.kind != ROOM:
            raise NotAllowed("This room has another hub.")
        if not is_member(connection, room, str(account)) and (
            log is None or log.head < mail.seq
        ):
            record_changes(
                transaction,
                room,
                mail.seq,
                added=[str(account)],
                removed=[],
                node=self._node,
                hub=False,
            )
            transaction.events.append(MembersChanged(room))


def _read(data: bytes) -> Entry | None:
    """An entry; None where it cannot be understood, which stops nobody."""
    try:
        return read_entry(data)
    except Malformed:
        return None


def _read_item(data: bytes) -> _Item:
    entry = _read(data)
    if entry is None:
        problem = BadRequest("This is no entry.")
        return _Item(event_id(data), None, problem)
    try:
        incoming = read_incoming(entry.submission)
    except Refused as error:
        return _Item(event_id(entry.submission), None, error)
    return _Item(incoming.event_id, incoming, None)


def _check_sender(peer: str, incoming: Incoming) -> None:
    if incoming.sender.account.node != peer:
        raise NotAllowed("A node carries what its own accounts write.")


def _check_overlap(connection: Connection, log: Log, stream: Stream) -> None:
    """Hold what both sides have against each other.

    Raises:
        LogForked: one seq has two hashes.
    """
    digest = stream.previous
    known = hash_at(connection, log, stream.after)
    if known is not None and known != digest:
        raise LogForked()
    for seq, data in enumerate(stream.entries, stream.after + 1):
        if seq > log.head:
            return
        digest = chain(digest, data)
        known = hash_at(connection, log, seq)
        if known is not None and known != digest:
            raise LogForked()


def _local(accounts: Sequence[str], node: str) -> list[str]:
    """Those that are well-formed addresses of this node."""
    found = []
    for text in accounts:
        try:
            if parse_account(text).node == node:
                found.append(text)
        except AddressError:
            continue
    return found


def _exists(connection: Connection, account: AccountAddress) -> bool:
    query = select(_account.c.name).where(_account.c.name == account.local)
    return connection.execute(query).first() is not None
