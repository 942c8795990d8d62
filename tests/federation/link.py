"""A simulated line between a sender and an inbox: no socket, a schedule of faults.

Everything but HTTP is real: the sender, the checkpoint's signature, the encoding, the
inbox, the stores. Each call takes the next fault of the schedule; after its end the
line is perfect. Time is virtual.
"""

import asyncio
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import TypeVar

from federation.inbox import Inbox
from federation.pinning import PeerBook
from federation.ports import PeerRecord
from federation.puller import Puller
from federation.sender import Sender
from federation.signer import NodeSigner
from federation.transport import Call
from protocol.codec import decode, encode
from protocol.errors import Malformed, PeerUnreachable, TooMany
from protocol.log import LogId, outgoing_id
from protocol.node_identity import begin_node_log
from protocol.wire import Empty, Hello, Page, Push, PushAck
from tests.federation.clock import FakeClock
from tests.federation.memory import MemoryStore
from tests.federation.nodes import keypair

__all__ = ["Fault", "Link"]

T = TypeVar("T")
HUB, FOLLOWER = "hub.example", "follower.example"


class Fault(StrEnum):
    """What can befall one call."""

    NONE = "none"
    LOSE_REQUEST = "lose request"
    LOSE_ANSWER = "lose answer"
    TWICE = "twice"
    SLOW = "slow"
    GARBLE = "garble"
    BUSY = "busy"
    CRASH_SENDER = "crash sender"
    CRASH_RECEIVER = "crash receiver"
    RESTORE_BACKUP = "restore backup"


class Link:
    """The two ends, the line between them, and a clock."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.clock = FakeClock()
        self.hub = MemoryStore(HUB)
        self.follower = MemoryStore(FOLLOWER)
        self.faults: Iterator[Fault] = iter(faults)
        self.book = PeerBook(self.hub, self.clock, lambda: 1.0)
        self.signer = NodeSigner(HUB, keypair("hub"))
        key_log = begin_node_log(HUB, keypair("hub"), keypair("r").public, 1)
        self.follower.peers[HUB] = PeerRecord(HUB, keys=(key_log,), trusted="ok")
        self.calls = 0
        self._crash = asyncio.Event()
        self._puller = Puller(self._get_page)
        self.inbox = self._new_inbox()
        self.sender = Sender(self, self.hub, lambda: 1.0)

    def _new_inbox(self) -> Inbox:
        book = PeerBook(self.follower, self.clock)
        return Inbox(FOLLOWER, book, self.follower, self.clock, self._want)

    def _want(self, peer: str, log: LogId, have: int, upto: int) -> None:
        self._puller.want(peer, log, have, upto, self.inbox.take)

    async def _get_page(self, peer: str, log: LogId, after: int, limit: int) -> Page:
        raise PeerUnreachable("This line carries pushes alone.")

    async def call(self, peer: str, call: Call, answer: type[T]) -> T:
        """`Caller.call`: what the sender believes to be a peer."""
        assert peer == FOLLOWER
        self.calls += 1
        process = self.inbox
        fault = next(self.faults, Fault.NONE)
        await asyncio.sleep(0)
        body = encode(call.body)
        match fault:
            case Fault.LOSE_REQUEST:
                raise PeerUnreachable()
            case Fault.BUSY:
                raise TooMany(retry_after=30)
            case Fault.SLOW:
                await self.clock.sleep(40)
            case Fault.CRASH_RECEIVER:
                await self._restart_receiver()
            case Fault.RESTORE_BACKUP:
                self._lose_half()
                await self._restart_receiver()
            case Fault.GARBLE:
                body = body[:-1] + bytes([body[-1] ^ 1])
            case Fault.TWICE:
                await self._deliver(call, body)
        try:
            data = await self._deliver(call, body)
        except Malformed as error:
            raise PeerUnreachable() from error
        if fault is Fault.LOSE_ANSWER or process is not self.inbox:
            raise PeerUnreachable()
        if fault is Fault.CRASH_SENDER:
            self._crash.set()
            await asyncio.Event().wait()
        return decode(data, answer)

    async def _deliver(self, call: Call, body: bytes) -> bytes:
        if call.path.endswith("/hello"):
            decode(body, Hello)
            return encode(Empty())
        acks: PushAck = await self.inbox.receive(HUB, decode(body, Push))
        return encode(acks)

    async def _restart_receiver(self) -> None:
        """Its connections die, and it says hello when it is back."""
        self.inbox = self._new_inbox()
        cursors = await self.follower.received_cursors(HUB)
        await self.hub.hello(FOLLOWER, Hello(cursors))
        self.sender.recall(FOLLOWER)
        raise PeerUnreachable()

    def _lose_half(self) -> None:
        """The follower's copies of rooms go back to an older state."""
        for log, copy in self.follower.copies.items():
            if log != outgoing_id(HUB, FOLLOWER):
                keep = len(copy.entries) // 2
                del copy.entries[keep:], copy.hashes[keep + 1 :]

    async def run(self, done: float) -> None:
        """Run both ends for so many virtual seconds after the last append."""
        end = self.clock.time() + done
        task = asyncio.create_task(self.sender.run())
        try:
            while self.clock.time() < end and not self.settled():
                for _ in range(60):
                    await asyncio.sleep(0)
                assert not task.done(), task
                if self._crash.is_set():
                    task = await self._restart(task)
                self.clock.advance(min(self.clock.next_sleeper() or 1.0, 3600.0))
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _restart(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        self._crash.clear()
        self.sender = Sender(self, self.hub, lambda: 1.0)
        return asyncio.create_task(self.sender.run())

    def settled(self) -> bool:
        """Whether the follower has everything and the hub knows."""
        return all(
            self.hub.logs[log].head == cursor
            and log in self.follower.copies
            and self.follower.copies[log].head == cursor
            for (_, log), cursor in self.hub.cursors.items()
        )
