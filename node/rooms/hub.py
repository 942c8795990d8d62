"""The hub: gives each room one order, and takes in only what every member can follow.

Messages are checked and appended inside one write. A handshake is checked first, in
a thread, against the state that was read; a lock for each room lets one be checked
at a time, and the write compares the room's version, so that what was checked is
what is changed. Entry, group, roster, tree, members and Welcomes are one transaction.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar
from weakref import WeakValueDictionary

from sqlalchemy import Connection

from e2ee.public_group import E2eeError, PublicGroup, key_package_info
from node.clock import Clock
from node.rooms.appending import Appending
from node.rooms.group import Change, commit, found, open_group, propose
from node.rooms.incoming import Incoming
from node.rooms.mailbox import deliver_welcome
from node.rooms.member import is_member
from node.rooms.room import (
    RoomState,
    change_room,
    check_local_newcomers,
    check_local_sender,
    count_created,
    get_room,
    insert_room,
    stands_in_roster,
)
from node.storage.chain import ROOM, Log, append, create_log, find_entry, get_log
from node.storage.store import Store, Transaction
from protocol.credential import credential_device
from protocol.errors import (
    BadRequest,
    IdentityError,
    LogForked,
    NotAllowed,
    Refused,
    StaleEpoch,
    TooMany,
    UnknownRoom,
)
from protocol.log import Kind, LogId
from protocol.policy import RoomValidator
from protocol.wire import Bundle, Receipt

__all__ = ["Hub", "check_shape"]

T = TypeVar("T")

GROUPS_KEPT = 64
"""Groups kept decoded; one of a thousand devices takes some megabytes."""

THREADS = 2
"""Threads that check handshakes: one for large rooms, one for all others' luck."""


class Hub:
    """Appends to the rooms that were created on this node."""

    def __init__(
        self, store: Store, node: str, clock: Clock, rooms_per_account: int
    ) -> None:
        self._store = store
        self._node = node
        self._clock = clock
        self._rooms_per_account = rooms_per_account
        self._appending = Appending(node, clock, _not_ours)
        self._validator = RoomValidator(lambda: int(clock()))
        self._threads = ThreadPoolExecutor(THREADS, "telex-mls")
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._groups: OrderedDict[LogId, tuple[int, PublicGroup]] = OrderedDict()

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    # --- rooms -----------------------------------------------------------------

    async def create(self, incoming: Incoming) -> Receipt:
        """Found a room; the sender's account is one of this node.

        Raises:
            Refused: why not.
        """
        room, now = incoming.submission.log, self._clock()
        known = await self._store.read(lambda c: find_entry(c, room, incoming.event_id))
        if known is not None:
            return known
        change = await self._compute(
            partial(found, incoming, int(now), self._validator)
        )

        def write(transaction: Transaction) -> Receipt:
            connection = transaction.connection
            if get_log(connection, room) is not None:
                known = find_entry(connection, room, incoming.event_id)
                if known is None:
                    raise LogForked("There is another room with this id.")
                return known
            if count_created(connection, incoming.account) >= self._rooms_per_account:
                raise TooMany("This account has created as many rooms as it may.")
            check_local_newcomers(connection, change, node=self._node, now=int(now))
            log = create_log(connection, room, ROOM, self._node, now=int(now))
            receipt = append(
                transaction,
                log,
                incoming.data,
                incoming.event_id,
                int(now * 1000),
                added=change.added,
            )
            insert_room(
                transaction,
                room,
                incoming.account,
                change,
                node=self._node,
                now=int(now),
            )
            return receipt

        return await self._store.write(write, size=len(incoming.data))

    async def submit(self, incoming: Incoming, bundle: Bundle | None) -> Receipt:
        """Append to a room of this node, or answer what became of it before.

        Raises:
            Refused: why not; nothing was appended.
        """
        match incoming.submission.kind:
            case Kind.COMMIT | Kind.PROPOSAL:
                return await self._handshake(incoming, bundle)
            case _:
                check_shape(incoming)
        operation = partial(self._append, incoming)
        return await self._store.write(operation, size=len(incoming.data))

    def append(
        self, transaction: Transaction, items: Sequence[Incoming]
    ) -> list[Receipt | Refused]:
        """In the writer: append what is no handshake; a receipt or refusal for each."""
        return self._appending.append(transaction, items)

    def _append(self, incoming: Incoming, transaction: Transaction) -> Receipt:
        (outcome,) = self.append(transaction, [incoming])
        if isinstance(outcome, Refused):
            raise outcome
        return outcome

    # --- handshakes ------------------------------------------------------------

    async def _handshake(self, incoming: Incoming, bundle: Bundle | None) -> Receipt:
        room = incoming.submission.log
        lock = self._locks.setdefault(room, asyncio.Lock())
        async with lock:
            found = await self._store.read(lambda c: _look(c, incoming))
            if isinstance(found, Receipt):
                return found
            if incoming.submission.kind == Kind.PROPOSAL:
                bundle = None
            elif bundle is None:
                raise BadRequest("A commit comes with its bundle.")
            group = await self._group(room, found)
            if incoming.epoch != group.epoch:
                raise StaleEpoch(epoch=group.epoch)
            now = self._clock()
            change = await self._compute(
                partial(commit, group, incoming, bundle, int(now))
                if bundle is not None
                else partial(propose, group, incoming)
            )
            welcomes = bundle.welcomes if bundle is not None else []
            size = len(incoming.data) + sum(len(w.welcome) for w in welcomes)
            operation = partial(
                self._append_handshake, incoming, bundle, change, found.version, now
            )
            receipt = await self._store.write(operation, size=size)
            self._keep(room, found.version + 1, change.group)
            return receipt

    def _append_handshake(
        self,
        incoming: Incoming,
        bundle: Bundle | None,
        change: Change,
        version: int,
        now: float,
        transaction: Transaction,
    ) -> Receipt:
        """In the writer: append what was checked, if the room is still the same."""
        connection, room = transaction.connection, incoming.submission.log
        log, state = get_log(connection, room), get_room(connection, room)
        if log is None or state is None:
            raise UnknownRoom()
        if state.version != version:
            raise StaleEpoch(epoch=state.epoch)
        check_local_sender(connection, incoming.sender, node=self._node)
        check_local_newcomers(connection, change, node=self._node, now=int(now))
        receipt = append(
            transaction,
            log,
            incoming.data,
            incoming.event_id,
            int(now * 1000),
            added=change.added,
            removed=change.removed,
        )
        assert receipt.seq is not None
        change_room(
            transaction, room, receipt.seq, change, node=self._node, now=int(now)
        )
        for welcome in bundle.welcomes if bundle is not None else ():
            deliver_welcome(
                transaction,
                welcome,
                node=self._node,
                sender=incoming.submission.sender,
                room=room,
                commit=receipt,
                tree_hash=change.group.tree_hash,
                now=now,
            )
        return receipt

    async def tree(self, room: LogId, tree_hash: bytes) -> bytes | None:
        """The ratchet tree of a room as it is now, if that is its hash."""
        state = await self._store.read(lambda c: get_room(c, room))
        if state is None:
            return None
        group = await self._group(room, state)
        if group.tree_hash != tree_hash:
            return None
        return await self._compute(partial(PublicGroup.ratchet_tree, group))

    async def _group(self, room: LogId, state: RoomState) -> PublicGroup:
        kept = self._groups.get(room)
        if kept is not None and kept[0] == state.version:
            return kept[1]
        group = await self._compute(partial(open_group, state.group, self._validator))
        self._keep(room, state.version, group)
        return group

    def _keep(self, room: LogId, version: int, group: PublicGroup) -> None:
        self._groups[room] = (version, group)
        self._groups.move_to_end(room)
        if len(self._groups) > GROUPS_KEPT:
            self._groups.popitem(last=False)

    async def _compute(self, work: "partial[T]") -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, work)


def _not_ours(
    _: Transaction, items: Sequence[tuple[Log, Incoming]]
) -> list[Receipt | Refused]:
    return [UnknownRoom() for _ in items]


def _look(connection: Connection, incoming: Incoming) -> Receipt | RoomState:
    """The receipt of a repeat, or the room that a handshake is for."""
    room = incoming.submission.log
    known = find_entry(connection, room, incoming.event_id)
    if known is not None:
        return known
    state = get_room(connection, room)
    if state is None or not _may_shake(connection, incoming):
        raise UnknownRoom()
    return state


def _may_shake(connection: Connection, incoming: Incoming) -> bool:
    """Whether a handshake is worth checking: what it says decides the rest.

    A commit may be the sender's way in (RFC 9420 section 12.4.3.2), so its account
    counts; whose device may come in like this is the policy's to say.
    """
    room, sender = incoming.submission.log, incoming.submission.sender
    if incoming.submission.kind == Kind.COMMIT:
        return is_member(connection, room, incoming.account)
    return stands_in_roster(connection, room, sender)


def check_shape(incoming: Incoming) -> None:
    """Check what can be checked without the room of what is no handshake.

    Raises:
        BadRequest, NotAllowed.
    """
    match incoming.submission.kind:
        case Kind.CREATE:
            raise NotAllowed("A room is created on its creator's own node.")
        case Kind.WELCOME:
            raise NotAllowed("Welcomes go into mailboxes.")
        case Kind.JOIN_REQUEST:
            _check_join_request(incoming)


def _check_join_request(incoming: Incoming) -> None:
    try:
        info = key_package_info(incoming.submission.body)
        device = credential_device(info.identity)
    except (E2eeError, IdentityError) as error:
        raise BadRequest(f"A join request holds a key package: {error}.") from error
    if device != incoming.submission.sender:
        raise NotAllowed("A device asks for itself alone.")
