"""What peers push to us: checked, handed to the ports, answered stream by stream.

Whatever is wrong with one stream is that stream's problem in the answer; the others
go on. An answer is never delayed for work that can wait: after some seconds the rest
of a push is left unacked, and comes again. (A receiver slower than its sender's
timeout once gave Matrix a meltdown of hours.)

A gap (the sender is ahead of what we have) is answered with the seq that we have, and
the sender goes back. If it comes again with the same gap, we pull what is missing.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Final
from weakref import WeakValueDictionary

from federation.checkpoint import check_stream
from federation.pinning import PeerBook
from federation.ports import Clock, LogStore
from protocol.errors import (
    BadRequest,
    IdentityError,
    Malformed,
    NodeFault,
    PeerUntrusted,
    Refused,
)
from protocol.limits import BATCH_BYTES
from protocol.log import LogId, outgoing_id
from protocol.wire import Push, PushAck, Stream, StreamAck

__all__ = ["PUSH_ENTRIES", "Inbox"]

_log = logging.getLogger(__name__)

STREAMS_MAX: Final = 200
"""Streams in one push: quiet rooms with an entry or two each fill it."""

PUSH_ENTRIES: Final = 1000
"""Entries in one push over all its streams: five full ones, for which the byte limit
is nearly always reached first."""

APPLYING_MAX: Final = 10_000
"""Entries being applied at one time, of all peers: some seconds of a writer's work.
Beyond it a push is answered without acks and with no credit."""

APPLY_TIME: Final = 20.0
"""Seconds after which the rest of a push is left for the next one: a third of what
the sender waits."""

GAPS_MAX: Final = 1000
"""Gaps remembered; a forgotten one is met again as if for the first time."""

Want = Callable[[str, LogId, int, int], None]
"""Asks for a pull: peer, log, the seq we have, the seq to reach."""


class Inbox:
    """Takes pushes in."""

    def __init__(
        self, name: str, book: PeerBook, store: LogStore, clock: Clock, want: Want
    ) -> None:
        self._name = name
        self._book = book
        self._store = store
        self._clock = clock
        self._want = want
        self._applying = 0
        self._locks: WeakValueDictionary[LogId, asyncio.Lock] = WeakValueDictionary()
        self._gaps: OrderedDict[tuple[str, LogId], int] = OrderedDict()

    async def receive(self, peer: str, push: Push) -> PushAck:
        """Take in a push of an authenticated peer.

        Raises:
            BadRequest: the push as a whole makes no sense; nothing was done.
        """
        count = _check_push(push)
        if self._applying + count > APPLYING_MAX:
            return PushAck([], 0)
        self._applying += count
        acks: list[StreamAck] = []
        deadline = self._clock.time() + APPLY_TIME
        try:
            for stream in push.streams:
                if acks and self._clock.time() > deadline:
                    break
                acks.append(await self.take(peer, stream))
        finally:
            self._applying -= count
        return PushAck(acks, self.credit())

    def credit(self) -> int:
        """Entries that the next push may hold."""
        return min(PUSH_ENTRIES, APPLYING_MAX - self._applying)

    async def take(self, peer: str, stream: Stream) -> StreamAck:
        """Check and apply one stream; whatever fails is in the ack."""
        try:
            return await self._take(peer, stream)
        except Refused as error:
            _log.warning("refused a stream of %s: %s", peer, error)
            return StreamAck(stream.log, 0, problem=error.problem())
        except Malformed as error:
            # The ports meet bytes of the peer too; what they cannot read is its.
            _log.warning("refused a stream of %s: %s", peer, error)
            return StreamAck(stream.log, 0, problem=BadRequest(str(error)).problem())
        except Exception:
            _log.exception("could not apply a stream of %s", peer)
            return StreamAck(stream.log, 0, problem=NodeFault().problem())

    async def _take(self, peer: str, stream: Stream) -> StreamAck:
        record = await self._book.get(peer)
        if record.trusted != "ok":
            raise PeerUntrusted()
        try:
            owner = self._book.identity(record)
        except IdentityError as error:
            raise PeerUntrusted() from error
        check_stream(stream, owner)
        async with self._lock(stream.log):
            if stream.log == outgoing_id(peer, self._name):
                ack = await self._store.receive_outgoing(peer, stream)
                # The sender's cursor passes an item only with its outcome.
                ack.seq = min(ack.seq, stream.after + len(stream.entries))
            else:
                ack = await self._store.receive_copy(peer, stream)
        self._look_for_gap(peer, stream, ack)
        return ack

    def _lock(self, log: LogId) -> asyncio.Lock:
        lock = self._locks.get(log)
        if lock is None:
            lock = self._locks[log] = asyncio.Lock()
        return lock

    def _look_for_gap(self, peer: str, stream: Stream, ack: StreamAck) -> None:
        key = (peer, stream.log)
        before = self._gaps.pop(key, None)
        if ack.problem is not None or ack.seq >= stream.after:
            return
        if before == ack.seq:
            self._want(peer, stream.log, ack.seq, stream.after)
            return
        self._gaps[key] = ack.seq
        if len(self._gaps) > GAPS_MAX:
            self._gaps.popitem(last=False)


def _check_push(push: Push) -> int:
    """How many entries a push holds, if it is inside the limits."""
    if len(push.streams) > STREAMS_MAX:
        raise BadRequest(f"A push has at most {STREAMS_MAX} streams.")
    if len({stream.log for stream in push.streams}) != len(push.streams):
        raise BadRequest("A push holds a log twice.")
    count = sum(len(stream.entries) for stream in push.streams)
    if count > PUSH_ENTRIES:
        raise BadRequest(f"A push has at most {PUSH_ENTRIES} entries.")
    size = sum(len(e) for stream in push.streams for e in stream.entries)
    if count > 1 and size > BATCH_BYTES:
        raise BadRequest(f"A push has at most {BATCH_BYTES} bytes of entries.")
    return count
