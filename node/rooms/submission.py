"""What devices of this node write: appended here, carried to a hub, or forwarded.

The same bytes may be submitted any number of times and answer what became of them:
`committed` if the room's log has them, `rejected` if its hub refused them, `pending`
if they are on this node's disk on their way there.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from sqlalchemy import Connection

from node.accounts.device import Device
from node.clock import Clock
from node.limit import Buckets
from node.rooms.appending import Appending, Pending, Reply
from node.rooms.carrying import carry
from node.rooms.carrying import look as look_at
from node.rooms.hub import Hub, check_shape
from node.rooms.incoming import Incoming, read_incoming
from node.storage.chain import ROOM, Log, get_log
from node.storage.store import Store, Transaction
from protocol.errors import (
    BadRequest,
    NotAllowed,
    PeerRefused,
    Refused,
    UnknownRoom,
)
from protocol.log import Kind, LogId
from protocol.wire import Receipt, Submit

__all__ = ["ForwardSubmit", "Submissions"]

ForwardSubmit = Callable[[str, LogId, Submit], Awaitable[Receipt]]
"""Asks a room's hub to append now."""

_HANDSHAKES = frozenset({Kind.CREATE, Kind.COMMIT, Kind.PROPOSAL})
"""What is worked out in a thread before it is written."""


class Submissions:
    """Takes in what this node's devices write."""

    def __init__(
        self,
        store: Store,
        hub: Hub,
        node: str,
        clock: Clock,
        forward: ForwardSubmit,
        limit: Buckets,
    ) -> None:
        """`limit` counts submissions by device."""
        self._store = store
        self._hub = hub
        self._node = node
        self._clock = clock
        self._forward = forward
        self._limit = limit
        self._appending = Appending(node, clock, self._carry)

    def read(self, device: Device, submission: bytes) -> Incoming:
        """Count and read what a device submits.

        Raises:
            Refused: there were too many, or it is not well formed or not its own.
        """
        self._limit.take(device.address, self._clock())
        incoming = read_incoming(submission)
        if incoming.submission.sender != device.address:
            raise NotAllowed("A device writes in its own name alone.")
        return incoming

    def put(self, incoming: Incoming, reply: Reply) -> bool:
        """Queue what is no handshake; False, and nothing was done, if it is one.

        Messages are appended in the order in which they are put here.

        Args:
            incoming: as `read`.
            reply: is told on the event loop what became of it.

        Raises:
            Refused: why not; nothing was stored, and nobody is told.
        """
        if incoming.submission.kind in _HANDSHAKES:
            return False
        check_shape(incoming)
        pending = Pending(incoming, reply)
        self._store.put(self._appending, pending, len(incoming.data))
        return True

    async def submit(
        self, device: Device, submit: Submit, log: LogId | None = None
    ) -> Receipt:
        """Append, carry or forward; answer what became of it.

        Args:
            device: who signed the request or opened the session.
            submit: with a bundle if it is a commit.
            log: the log in the request's path, if there is one.

        Raises:
            Refused: why not; nothing was stored.
        """
        incoming = self.read(device, submit.submission)
        if log is not None and log != incoming.submission.log:
            raise BadRequest("The submission is for another log than the request.")
        done: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        if self.put(incoming, partial(_resolve, done)):
            return await done
        return await self.shake(incoming, submit)

    async def shake(self, incoming: Incoming, submit: Submit) -> Receipt:
        """Do what `put` does not take: a handshake, or a new room.

        Raises:
            Refused: why not; nothing was stored.
        """
        if incoming.submission.kind == Kind.CREATE:
            return await self._hub.create(incoming)
        return await self._handshake(incoming, submit)

    def _carry(
        self, transaction: Transaction, items: Sequence[tuple[Log, Incoming]]
    ) -> list[Receipt | Refused]:
        """In the writer: put these on their way to the rooms' hubs."""
        return carry(transaction, items, node=self._node, now=self._clock())

    async def _handshake(self, incoming: Incoming, submit: Submit) -> Receipt:
        def look(connection: Connection) -> tuple[str, Receipt | None]:
            log = get_log(connection, incoming.submission.log)
            if log is None or log.kind != ROOM:
                raise UnknownRoom()
            if log.owner == self._node:
                return log.owner, None
            (known,) = look_at(connection, [(log, incoming)], node=self._node)
            if isinstance(known, Refused):
                raise known
            return log.owner, known

        owner, known = await self._store.read(look)
        if owner == self._node:
            return await self._hub.submit(incoming, submit.bundle)
        if known is not None:
            return known
        if incoming.submission.kind == Kind.PROPOSAL:
            operation = partial(self._propose, incoming)
            return await self._store.write(operation, size=len(incoming.data))
        receipt = await self._forward(owner, incoming.submission.log, submit)
        if receipt.event_id != incoming.event_id:
            raise PeerRefused("Its answer is about another submission.")
        return receipt

    def _propose(self, incoming: Incoming, transaction: Transaction) -> Receipt:
        log = get_log(transaction.connection, incoming.submission.log)
        if log is None or log.kind != ROOM or log.owner == self._node:
            raise UnknownRoom()
        (outcome,) = self._carry(transaction, [(log, incoming)])
        if isinstance(outcome, Refused):
            raise outcome
        return outcome


def _resolve(done: asyncio.Future[Receipt], outcome: Receipt | Refused) -> None:
    if done.done():  # who asked has gone
        return
    if isinstance(outcome, Refused):
        done.set_exception(outcome)
    else:
        done.set_result(outcome)
