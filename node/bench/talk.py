"""Devices that talk: `dm` and `fanout`, as much as the node takes.

Closed loop: each sender has so many messages under way, and one is over when it was
acked as committed (it is on disk) and has come out at the other side. Both are seen
by its seq: entries of a log come in order, so a reader that is at `seq` has it.
"""

import asyncio
import os
from collections import deque

import msgspec

from node.bench.line import Line, connect, frame, header, trust
from node.bench.meter import Figure, per_cpu, watch
from node.bench.plan import (
    Job,
    Place,
    RoomPlan,
    Terminal,
    ciphertext,
    private_message,
    rooms_of,
)
from protocol.codec import encode
from protocol.log import Kind, LogId, make_submission
from protocol.wire import (
    AckFrame,
    Entries,
    FromNode,
    ProblemFrame,
    Ready,
    ResultFrame,
    SubmitFrame,
)

__all__ = ["Template", "Tongue", "dm", "fanout", "open_all"]

ACK_EVERY = 0.01
"""Seconds between two acks of a device: it writes what came to its disk, then acks."""

_frames: msgspec.msgpack.Decoder[FromNode] = msgspec.msgpack.Decoder(FromNode)

_ID = 0xF1E2D3C4
_TXN = b"the txn's place."


class Template:
    """Submit frames of one device in one room, ready but for three fields."""

    def __init__(self, room: LogId, terminal: Terminal) -> None:
        sealed = ciphertext(0)
        data = make_submission(
            room, terminal.address, _TXN, Kind.MESSAGE, private_message(room, sealed)
        )
        payload = encode(SubmitFrame(_ID, data))
        head, payload = payload.split(_ID.to_bytes(4, "big"))
        middle, payload = payload.split(_TXN)
        body, tail = payload.rsplit(sealed, 1)
        size = len(head) + 4 + len(middle) + 16 + len(body) + len(sealed) + len(tail)
        self._parts = header(size) + head, middle, body, tail
        self._salt = os.urandom(8)

    def make(self, number: int) -> bytes:
        """The frame of a message; its number is its id, and ends its txn."""
        head, middle, body, tail = self._parts
        return b"".join(
            (
                head,
                # Always five bytes of MessagePack, as in the frame it was cut from.
                (0x80000000 + number).to_bytes(4, "big"),
                middle,
                self._salt,
                number.to_bytes(8, "big"),
                body,
                ciphertext(number * 31),
                tail,
            )
        )


class Tongue(Line):
    """A device in one room: sends, reads in order and acks, all coalesced."""

    def __init__(
        self,
        terminal: Terminal,
        place: Place,
        room: RoomPlan,
        failed: "asyncio.Future[str]",
    ) -> None:
        super().__init__(terminal, place)
        self.room = room.id
        self.received = room.head
        self.ready = asyncio.get_running_loop().create_future()
        self.failed = failed
        self._template = Template(room.id, terminal)
        self._next = 0
        self._owed = 0
        self._acked = self.received
        self._ack_timer = False
        self.ended.add_done_callback(lambda end: self.fail(end.result()))

    @property
    def next_number(self) -> int:
        """What the next message to be owed will be called."""
        return self._next + self._owed

    def owe(self, count: int) -> None:
        """Send so many messages with the next write."""
        self._owed += count

    def flush(self) -> None:
        """Write what is owed, in one go."""
        if self._owed:
            first, self._next = self._next, self._next + self._owed
            self._owed = 0
            make = self._template.make
            self.write(b"".join([make(n) for n in range(first, self._next)]))

    def fail(self, reason: str) -> None:
        """End the measurement."""
        if not self.failed.done():
            self.failed.set_result(f"{self.terminal.address}: {reason}")

    # --- what comes -------------------------------------------------------------

    def came(self, entries: list[bytes]) -> None:
        """The next entries of the room; `received` counts them already."""

    def committed(self, number: int, seq: int) -> None:
        """A message of ours is on disk."""

    def frame(self, payload: bytes) -> None:
        """Sort the frames."""
        try:
            found = _frames.decode(payload)
        except msgspec.ValidationError:
            return  # of a kind that is of no interest here
        match found:
            case Entries() if found.log == self.room:
                if found.after != self.received:
                    self.fail(f"entry {found.after} came after {self.received}.")
                self.received = found.after + len(found.entries)
                self.came(found.entries)
            case ResultFrame():
                receipt = found.receipt
                if receipt is None or receipt.state == "rejected":
                    self.fail(f"a message was refused: {found.problem}")
                else:
                    self.committed(found.id - 0x80000000, receipt.seq or 0)
            case Ready():
                if not self.ready.done():
                    self.ready.set_result(None)
            case ProblemFrame():
                self.fail(found.problem.title)

    def drained(self) -> None:
        """Answer what came together."""
        self.flush()
        if self.received > self._acked and not self._ack_timer:
            self._ack_timer = True
            asyncio.get_running_loop().call_later(ACK_EVERY, self._ack)

    def _ack(self) -> None:
        self._ack_timer = False
        self._acked = self.received
        self.write(frame(encode(AckFrame({self.room: self.received}))))


class _Talker(Tongue):
    """Half of a direct chat."""

    def __init__(
        self,
        terminal: Terminal,
        place: Place,
        room: RoomPlan,
        failed: "asyncio.Future[str]",
    ) -> None:
        super().__init__(terminal, place, room, failed)
        self.other = self
        self.done = 0
        self._mine: deque[int] = deque()

    def committed(self, number: int, seq: int) -> None:
        """Perhaps the other has it already."""
        self._mine.append(seq)
        self.seen(self.other.received)

    def came(self, entries: list[bytes]) -> None:
        """The other's messages among them have arrived."""
        self.other.seen(self.received)
        self.other.flush()

    def seen(self, upto: int) -> None:
        """The other side has everything up to a seq."""
        mine = self._mine
        while mine and mine[0] <= upto:
            mine.popleft()
            self.done += 1
            self.owe(1)


class _Member(Tongue):
    """A member of a large room; `hall` counts for all of them."""

    def __init__(
        self,
        terminal: Terminal,
        place: Place,
        room: RoomPlan,
        failed: "asyncio.Future[str]",
        hall: "_Hall",
    ) -> None:
        super().__init__(terminal, place, room, failed)
        self._hall = hall

    def committed(self, number: int, seq: int) -> None:
        """Wait until everybody has it."""
        self._hall.say(self, seq)

    def came(self, entries: list[bytes]) -> None:
        """Count deliveries."""
        self._hall.hear(self.received, len(entries))


class _Hall:
    """Which messages have reached every member."""

    def __init__(self, members: int) -> None:
        self._members = members
        self._heard: dict[int, int] = {}
        self._by: dict[int, _Member] = {}
        self.deliveries = 0

    def say(self, member: _Member, seq: int) -> None:
        """A message of a member is on disk."""
        self._by[seq] = member
        self._over(seq)

    def hear(self, last: int, count: int) -> None:
        """A member got the `count` entries up to `last`."""
        self.deliveries += count
        heard, members = self._heard, self._members
        for seq in range(last - count + 1, last + 1):
            so_far = heard.get(seq, 0) + 1
            heard[seq] = so_far
            if so_far == members:
                self._over(seq)

    def _over(self, seq: int) -> None:
        if self._heard.get(seq) == self._members and seq in self._by:
            del self._heard[seq]
            member = self._by.pop(seq)
            member.owe(1)
            member.flush()


async def open_all(lines: list[Tongue]) -> None:
    """Connect devices one after the other and wait until each session stands."""
    contexts = {line.place.name: trust(line.place) for line in lines}
    for number, line in enumerate(lines):
        await connect(line, number, contexts[line.place.name])
        await line.ready


async def dm(job: Job) -> list[Figure]:
    """Direct chats, both sides writing all the time."""
    place, options = job.places[0], job.options
    failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    talkers: list[_Talker] = []
    for room in rooms_of("dm", [place.name], options):
        two = [_Talker(each, place, room, failed) for each in room.members]
        two[0].other, two[1].other = two[1], two[0]
        talkers += two
    await open_all(list(talkers))
    for each in talkers:
        each.owe(options.in_flight)
        each.flush()
    window = await watch(
        [place.pid], options.seconds, lambda: sum(t.done for t in talkers), failed
    )
    return per_cpu(window, "dm")


async def fanout(job: Job) -> list[Figure]:
    """A room where a few write and all read."""
    place, options = job.places[0], job.options
    failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    (room,) = rooms_of("fanout", [place.name], options)
    hall = _Hall(len(room.members))
    members = [_Member(each, place, room, failed, hall) for each in room.members]
    await open_all(list(members))
    for each in members[: options.senders]:
        each.owe(options.in_flight)
        each.flush()

    def count() -> int:
        # Each message reaches its own sender too, which is no delivery.
        return hall.deliveries * (len(members) - 1) // len(members)

    window = await watch([place.pid], options.seconds, count, failed)
    return per_cpu(window, "fanout")
