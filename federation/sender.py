"""Pushing: one task for each peer that reads our logs from its cursor and pushes.

Nothing is queued here. A wake only says "look again"; what is to be sent is read
from the log, from the peer's cursor, when there is room for it. So an outage of any
length costs no memory, a crash loses nothing, and a lost wake is found by the sweep.

    rest ──wake or sweep, backoff over──> drain ──nothing left──> rest
      ^                                     │
      └──────────── failure: backoff ───────┘

Draining keeps two requests under way, with different logs in each: never two for one
log, or the second would arrive before the first and look like a gap.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeVar

from federation import retry
from federation.hold import Holds
from federation.inbox import PUSH_ENTRIES
from federation.pinning import PeerBook
from federation.ports import Clock, LogStore, PendingStream
from federation.refusal import failure_of
from federation.signer import NodeSigner
from federation.transport import PUSH_TIMEOUT, Call
from federation.waiting import wait_for
from protocol.errors import Refused
from protocol.limits import BATCH_BYTES, BATCH_ENTRIES
from protocol.log import LogId, outgoing_id
from protocol.wire import Empty, Hello, Push, PushAck

__all__ = ["SWEEP", "Caller", "Sender"]

_log = logging.getLogger(__name__)

SWEEP: Final = 20.0
"""Seconds between two looks for peers with something pending: what a lost wake
costs at most, for one indexed query."""

WINDOW: Final = 2
"""Pushes under way to one peer: the line is busy while the peer writes to disk."""

PACE: Final = 80.0
PACE_BURST: Final = 200.0
"""Pushes a second to one peer, and at once: below what its gate lets through, with
room for our other requests. Beyond it more goes with each push, 13 ms later; to be
refused would cost a second of backoff."""

PROBE_FIRST: Final = 1.0
PROBE_MAX: Final = 60.0
"""Seconds between empty pushes to a peer that gave no credit, doubling."""

NUDGE: Final = 60.0
"""Seconds between two early attempts because the peer's requests reach us: it is up,
but the way to it may still be cut."""

HELLO_SPREAD: Final = 0.25
HELLO_SPREAD_MAX: Final = 300.0
"""Seconds for each peer, and in all, over which the hellos of a start are spread."""

HELLOS: Final = 8
"""Hellos under way at one time."""

OUR_FAULT: Final = 5.0
"""Seconds to wait after a fault of our own (the database is locked, a bug)."""

PUSH_PATH: Final = "/telex/fed/v1/push"
HELLO_PATH: Final = "/telex/fed/v1/hello"

T = TypeVar("T")

_ABOUT_CONTENT: Final = frozenset(
    {"bad_request", "too_large", "unsupported_media", "bad_checkpoint"}
)
"""Refusals of a whole push that one log in it may have caused."""


class Caller(Protocol):
    """What the sender needs of `Transport`: to ask a peer, and who remembers it."""

    @property
    def signer(self) -> NodeSigner:
        """Signs checkpoints."""

    @property
    def book(self) -> PeerBook:
        """Remembers backoffs."""

    @property
    def clock(self) -> Clock:
        """Measures every wait."""

    async def call(self, peer: str, call: Call, answer: type[T]) -> T:
        """Ask a peer; raises `Refused`."""


class Sender:
    """Pushes to all peers: `run` it, and `wake` it when a log has grown."""

    def __init__(
        self,
        transport: Caller,
        store: LogStore,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.transport = transport
        self.store = store
        self.jitter = jitter
        self._workers: dict[str, _Worker] = {}
        self._group: asyncio.TaskGroup | None = None

    @property
    def clock(self) -> Clock:
        """The clock of every wait here."""
        return self.transport.clock

    async def run(self) -> None:
        """Greet all known peers, then push until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                for worker in self._workers.values():
                    group.create_task(worker.run())
                group.create_task(self._greet())
                await self._sweep()
            finally:
                # A wake that comes while we stop starts nothing, and is no error.
                self._group = None

    def wake(self, peer: str) -> None:
        """There may be something for this peer."""
        self._worker(peer).wake()

    def recall(self, peer: str) -> None:
        """The peer said hello, its backoff is reset: begin at once."""
        self._worker(peer).recall()

    def nudge(self, peer: str) -> None:
        """A request of the peer verified: if we wait for it, try it now and then."""
        worker = self._workers.get(peer)
        if worker is not None:
            worker.nudge()

    def reconsider(self, peer: str) -> None:
        """A call to the peer succeeded, its backoff is reset: stop waiting for it."""
        worker = self._workers.get(peer)
        if worker is not None:
            worker.reconsider()

    def reconsider_all(self) -> None:
        """Somebody else may have reset backoffs: read them again."""
        for worker in self._workers.values():
            worker.reconsider()

    def _worker(self, peer: str) -> "_Worker":
        worker = self._workers.get(peer)
        if worker is None:
            worker = self._workers[peer] = _Worker(self, peer)
            if self._group is not None:
                self._group.create_task(worker.run())
        return worker

    async def _sweep(self) -> None:
        while True:
            try:
                for peer in await self.store.peers_with_pending():
                    self.wake(peer)
            except Exception:
                _log.exception("could not look for peers with something pending")
            await self.clock.sleep(SWEEP)

    async def _greet(self) -> None:
        try:
            peers = await self.transport.book.known()
        except Exception:
            _log.exception("could not read the known peers")
            return
        spread = min(HELLO_SPREAD_MAX, HELLO_SPREAD * len(peers))
        slots = asyncio.Semaphore(HELLOS)
        async with asyncio.TaskGroup() as group:
            for record in peers:
                wait = spread * self.jitter()
                group.create_task(self._hello(record.name, wait, slots))

    async def _hello(self, peer: str, wait: float, slots: asyncio.Semaphore) -> None:
        await self.clock.sleep(wait)
        async with slots:
            try:
                cursors = await self.store.received_cursors(peer)
                call = Call("POST", HELLO_PATH, body=Hello(cursors))
                await self.transport.call(peer, call, Empty)
                await self.transport.book.succeeded(peer)
            except Refused as error:
                _log.info("no hello to %s: %s", peer, error)
                return
            except Exception:
                _log.exception("no hello to %s", peer)
                return
        self.recall(peer)


class _Worker:
    """Pushes to one peer."""

    def __init__(self, sender: Sender, peer: str) -> None:
        self._sender = sender
        self._transport = sender.transport
        self._book: PeerBook = sender.transport.book
        self._store = sender.store
        self._clock = sender.clock
        self._peer = peer
        self._outgoing = outgoing_id(sender.transport.signer.name, peer)
        self._woken = asyncio.Event()
        self._recalled = asyncio.Event()
        self._early = False
        self._nudged_at = float("-inf")
        self._holds = Holds()
        self._credit = BATCH_ENTRIES
        self._turns = PACE_BURST
        self._turns_at = float("-inf")
        self._alone = False
        """Push one log at a time, to find out which one the peer cannot take."""

    def wake(self) -> None:
        self._woken.set()

    def recall(self) -> None:
        self._holds.clear()
        self._woken.set()
        self._recalled.set()

    def reconsider(self) -> None:
        self._recalled.set()

    def nudge(self) -> None:
        now = self._clock.time()
        if abs(now - self._nudged_at) >= NUDGE:
            self._nudged_at = now
            self._early = True
            self._recalled.set()

    async def run(self) -> None:
        """Rest and drain in turns, until cancelled."""
        while True:
            try:
                await self._rest()
                try:
                    await self._drain()
                except Refused as error:
                    await self._failed(error)
            except Exception:
                _log.exception("pushing to %s failed on our side", self._peer)
                await self._clock.sleep(OUR_FAULT)
                self._woken.set()

    # --- rest ----------------------------------------------------------------

    async def _rest(self) -> None:
        """Wait for a reason to push, and for the end of the backoff."""
        now = self._clock.time()
        await wait_for(self._clock, self._woken, self._holds.next_end(now))
        self._woken.clear()
        while True:
            self._recalled.clear()
            wait = await self._backoff()
            if wait <= 0 or self._early:
                self._early = False
                return
            await wait_for(self._clock, self._recalled, wait)

    async def _backoff(self) -> float:
        record = await self._book.get(self._peer)
        if not record.fails:
            return 0.0
        now = self._clock.time()
        # Never longer than any ladder: the clock may have been set back.
        return min(record.next_try - now, retry.LONGEST)

    async def _failed(self, error: Refused) -> None:
        record = await self._book.failed(
            self._peer, str(error), failure_of(error), error.retry_after
        )
        self._credit = BATCH_ENTRIES
        self._woken.set()
        level = logging.WARNING if record.fails == 1 else logging.DEBUG
        _log.log(level, "cannot push to %s: %s", self._peer, error)

    # --- drain ---------------------------------------------------------------

    async def _drain(self) -> None:
        """Push until the store has nothing left for this peer.

        Raises:
            Refused: the peer cannot be reached or refuses us.
        """
        flying: dict[asyncio.Task[None], frozenset[LogId]] = {}
        failure: BaseException | None = None
        probe = PROBE_FIRST
        try:
            while True:
                if failure is None:
                    await self._launch(flying)
                if not flying:
                    if failure is not None:
                        raise failure
                    if self._credit > 0:
                        self._alone = False
                        return
                    await self._clock.sleep(probe)
                    probe = min(PROBE_MAX, 2 * probe)
                    await self._push([])
                    continue
                done, _ = await asyncio.wait(
                    flying, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    del flying[task]
                    error = task.exception()
                    failure = failure or error
        finally:
            for task in flying:
                task.cancel()
            await asyncio.gather(*flying, return_exceptions=True)

    async def _wait_turn(self) -> None:
        """Wait until one more push is in pace; before it is filled, not after."""
        now = self._clock.time()
        gained = max(0.0, now - self._turns_at) * PACE
        self._turns = min(PACE_BURST, self._turns + gained)
        self._turns_at = now
        if self._turns < 1:
            await self._clock.sleep((1 - self._turns) / PACE)

    async def _launch(self, flying: dict[asyncio.Task[None], frozenset[LogId]]) -> None:
        """Start pushes while there is room, credit and something to send."""
        while len(flying) < WINDOW and self._credit > 0:
            await self._wait_turn()
            busy = self._holds.active(self._clock.time()).union(*flying.values())
            streams = await self._store.pending_streams(
                self._peer,
                min(self._credit, PUSH_ENTRIES),
                BATCH_BYTES,
                exclude=frozenset(busy),
            )
            streams = [stream for stream in streams if stream.log not in busy]
            if self._alone:
                streams = streams[:1]
            if not streams:
                return
            self._turns -= 1
            task = asyncio.create_task(self._push(streams))
            flying[task] = frozenset(stream.log for stream in streams)

    async def _push(self, streams: Sequence[PendingStream]) -> None:
        now = self._clock.time()
        signer = self._transport.signer
        push = Push([signer.stream(stream, now) for stream in streams])
        call = Call("POST", PUSH_PATH, body=push, timeout=PUSH_TIMEOUT)
        try:
            answer = await self._transport.call(self._peer, call, PushAck)
        except Refused as error:
            if error.code not in _ABOUT_CONTENT or not streams:
                raise
            self._isolate(streams, error)
            return
        await self._book.succeeded(self._peer)
        self._credit = min(max(0, answer.credit), PUSH_ENTRIES)
        await self._take(streams, answer)

    def _isolate(self, streams: Sequence[PendingStream], error: Refused) -> None:
        """One of these logs made the peer refuse all: find it, and hold it alone."""
        if len(streams) > 1:
            self._alone = True
            return
        _log.warning("%s refuses a log: %s", self._peer, error)
        self._holds.refused(streams[0].log, self._clock.time(), self._sender.jitter())

    async def _take(self, streams: Sequence[PendingStream], answer: PushAck) -> None:
        """Store what the peer acked, and hold what it did not get further with."""
        now = self._clock.time()
        jitter = self._sender.jitter
        unanswered = {stream.log: stream for stream in streams}
        acks = []
        for ack in answer.acks:
            stream = unanswered.pop(ack.log, None)
            if stream is None:
                continue
            if ack.problem is not None or not 0 <= ack.seq <= stream.head:
                code = ack.problem.code if ack.problem else "impossible ack"
                _log.warning("%s does not take a log (%s)", self._peer, ascii(code))
                self._holds.refused(ack.log, now, jitter())
                continue
            if ack.log == self._outgoing:
                # Beyond what was pushed there are items whose outcomes we lack.
                ack.seq = min(ack.seq, stream.after + len(stream.entries))
            self._holds.acked(ack.log, stream.after, ack.seq, now, jitter())
            acks.append(ack)
        for stream in unanswered.values():
            self._holds.acked(stream.log, stream.after, stream.after, now, jitter())
        if acks:
            await self._store.record_acks(self._peer, acks)
