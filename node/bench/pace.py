"""Messages with a time of their own: `paced` and `federation`.

Each message's number stands in its txn, so whoever gets it knows when it was to be
sent. In an open loop it is sent at that time whatever became of those before it, and
its latency counts from there: a node that stalls is not asked less meanwhile, and the
wait shows (no coordinated omission).
"""

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Protocol

from node.bench.meter import Figure, Meter, Window, per_cpu, quantile, watch
from node.bench.plan import BenchProblem, Job, Place, RoomPlan, Terminal, rooms_of
from node.bench.talk import Tongue, open_all
from protocol.log import read_entry, read_submission

__all__ = ["Metronome", "Sender", "federation", "paced", "settle"]

ARRIVE = 30.0
"""Seconds that the last messages have to arrive in."""

BETWEEN_NODES = 100.0
"""Messages a second of the latency between nodes: far below what they can carry."""


class _Writer(Tongue):
    """Half of a direct chat that knows each message by its number."""

    def __init__(
        self,
        terminal: Terminal,
        place: Place,
        room: RoomPlan,
        failed: "asyncio.Future[str]",
    ) -> None:
        super().__init__(terminal, place, room, failed)
        self.other = self
        self.closed_loop = False
        self.done = 0
        self.due: dict[int, float] = {}
        """Of what is under way: when it was to be sent."""
        self.arrived: list[tuple[float, float]] = []
        """When each was to be sent, and seconds until it came out."""

    def send_at(self, due: float) -> None:
        """Send a message now that was due then."""
        self.due[self.next_number] = due
        self.owe(1)
        self.flush()

    def came(self, entries: list[bytes]) -> None:
        """Tell the other which of its messages have arrived."""
        now, other = time.perf_counter(), self.other
        for entry in entries:
            submission = read_submission(read_entry(entry).submission)
            if submission.sender == other.terminal.address:
                other.over(int.from_bytes(submission.txn[8:], "big"), now)

    def over(self, number: int, now: float) -> None:
        """A message has come out at the other side."""
        due = self.due.pop(number, None)
        if due is None:
            self.fail(f"message {number} arrived twice, or was never sent.")
            return
        self.done += 1
        self.arrived.append((due, now - due))
        if self.closed_loop:
            self.send_at(now)


class Sender(Protocol):
    """Who sends when told, and knows what of it is under way."""

    due: dict[int, float]

    def send_at(self, due: float) -> None:
        """Send a message now that was due then."""


class Metronome(threading.Thread):
    """Calls back at even intervals, to a tenth of a millisecond.

    A loop's own timers are only good to a millisecond, which is what is measured.
    """

    def __init__(self, writers: Sequence[Sender], rate: float, seconds: float) -> None:
        super().__init__(daemon=True)
        self._loop = asyncio.get_running_loop()
        self._writers = writers
        self._rate = rate
        self._count = max(1, int(rate * seconds))
        self._sent = 0
        self.start_time = time.perf_counter() + 0.01
        self._over: asyncio.Future[str] = self._loop.create_future()

    def run(self) -> None:
        """Wake the loop whenever a message is due."""
        for number in range(self._count):
            wait = self._due(number) - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
            try:
                self._loop.call_soon_threadsafe(self._fire)
            except RuntimeError:  # the loop is closed: the work broke off
                return

    async def end(self, failed: "asyncio.Future[str]") -> None:
        """Wait until the last message was sent, or nothing more can be expected."""
        await asyncio.wait([failed, self._over], return_when=asyncio.FIRST_COMPLETED)

    def _due(self, number: int) -> float:
        return self.start_time + number / self._rate

    def _fire(self) -> None:
        now = time.perf_counter()
        while self._sent < self._count and self._due(self._sent) <= now:
            writer = self._writers[self._sent % len(self._writers)]
            writer.send_at(self._due(self._sent))
            self._sent += 1
        if self._sent == self._count:
            self._over.set_result("")


async def paced(job: Job) -> list[Figure]:
    """Messages at an even rate, over all chats in turns."""
    writers, failed = await _writers(job)
    options = job.options
    window, delays = await _pace(job, writers, options.rate, options.seconds, failed)
    return [
        window.figure("paced_rate", len(delays) / options.seconds, "1/s"),
        window.figure("paced_p50", 1000 * quantile(delays, 0.5), "ms"),
        window.figure("paced_p99", 1000 * quantile(delays, 0.99), "ms"),
        window.figure("paced_p999", 1000 * quantile(delays, 0.999), "ms"),
    ]


async def federation(job: Job) -> list[Figure]:
    """Chats between two nodes: first few messages, then as many as go through."""
    writers, failed = await _writers(job)
    options = job.options
    # The nodes meet: each fetches the other's keys once.
    await _pace(job, writers, len(writers), 1, failed)
    quiet, delays = await _pace(job, writers, BETWEEN_NODES, options.seconds, failed)
    for each in writers:
        each.closed_loop = True
        for _ in range(options.in_flight):
            each.send_at(time.perf_counter())
    pids = [place.pid for place in job.places]
    busy = await watch(
        pids, options.seconds, lambda: sum(w.done for w in writers), failed
    )
    return [
        *per_cpu(busy, "federation"),
        quiet.figure("federation_p50", 1000 * quantile(delays, 0.5), "ms"),
        quiet.figure("federation_p99", 1000 * quantile(delays, 0.99), "ms"),
    ]


async def _writers(job: Job) -> tuple[list[_Writer], "asyncio.Future[str]"]:
    """Connected pairs, each half at its own node."""
    failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    places = {place.name: place for place in job.places}
    writers: list[_Writer] = []
    for room in rooms_of(job.workload, list(places), job.options):
        two = [_Writer(each, places[each.node], room, failed) for each in room.members]
        two[0].other, two[1].other = two[1], two[0]
        writers += two
    await open_all(list(writers))
    return writers, failed


async def _pace(
    job: Job,
    writers: Sequence[_Writer],
    rate: float,
    seconds: float,
    failed: "asyncio.Future[str]",
) -> tuple[Window, list[float]]:
    """Send at a rate, wait until all has arrived, and give back sorted latencies.

    A tenth of the time goes by before what counts.
    """
    before = seconds / 10
    metronome = Metronome(writers, rate, before + seconds)
    for each in writers:
        each.arrived.clear()
    metronome.start()
    await asyncio.wait([failed], timeout=before)
    meter = Meter(
        [place.pid for place in job.places], lambda: sum(w.done for w in writers)
    )
    await metronome.end(failed)
    window = meter.read()
    await settle(writers, failed)
    counted = metronome.start_time + before
    return window, sorted(
        delay for each in writers for due, delay in each.arrived if due >= counted
    )


async def settle(writers: Sequence[Sender], failed: "asyncio.Future[str]") -> None:
    """Wait until everything has arrived.

    Raises:
        BenchProblem: it has not, or the work broke off.
    """
    end = time.perf_counter() + ARRIVE
    while any(each.due for each in writers) and not failed.done():
        if time.perf_counter() > end:
            left = sum(len(each.due) for each in writers)
            raise BenchProblem(f"{left} messages did not arrive in {ARRIVE:g} seconds.")
        await asyncio.wait([failed], timeout=0.01)
    if failed.done():
        raise BenchProblem(f"The work broke off: {failed.result()}")
