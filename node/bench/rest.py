"""Devices that do not write: `idle`, `resume` and `history`."""

import asyncio
import random
import ssl
import time
from collections.abc import Callable, Sequence
from statistics import median

import msgspec

from node.bench.line import Line, Tap, connect, frame, signed_get, trust
from node.bench.meter import Figure, Meter, resident, watch
from node.bench.plan import BenchProblem, Job, Place, RoomPlan, Terminal, rooms_of
from node.bench.talk import Template
from protocol.codec import decode, encode
from protocol.limits import BATCH_ENTRIES
from protocol.log import LogId
from protocol.wire import AckFrame, Entries, FromNode, Page, Ready, ResultFrame

__all__ = ["CONNECTING", "WARM", "history", "idle", "resume"]

CONNECTING = 32
"""Connections that are being made at one time."""

WARM = 100
"""Connections that come before those that are counted: by then the node has loaded
all its code, and made its threads and pools."""

ROUNDS = 10
"""Times that the device comes back; the figure is the median."""

NEWS = (1, 50)
"""Rooms in which something was said meanwhile."""

PATIENCE = 30.0
"""Seconds to wait for what must come."""

READERS = 4
"""Connections that read history at one time."""

_frames: msgspec.msgpack.Decoder[FromNode] = msgspec.msgpack.Decoder(FromNode)


# --- idle ---------------------------------------------------------------------


async def idle(job: Job) -> list[Figure]:
    """Memory that the node keeps for a connection on which nothing happens."""
    place, options = job.places[0], job.options
    tls = trust(place)
    wanted = options.connections if tls is None else options.tls_connections
    rooms = rooms_of("idle" if tls is None else "idle_tls", [place.name], options)
    everybody = [each for room in rooms for each in room.members][: wanted + WARM]
    lines = [Line(each, place) for each in everybody]
    await _connect_all(lines[:WARM], 0, tls)
    await asyncio.sleep(1)
    before = resident(place.pid)
    meter = Meter([place.pid], lambda: 0)
    await _connect_all(lines[WARM:], WARM, tls)
    made = meter.read()
    failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    quiet = await watch([place.pid], min(options.seconds, 10.0), lambda: 0, failed)
    lost = sum(line.ended.done() for line in lines)
    if lost:
        raise BenchProblem(f"{lost} of the idle connections were lost.")
    each = (resident(place.pid) - before) / wanted
    suffix = "" if tls is None else "_tls"
    return [
        quiet.figure(f"idle_connection{suffix}", each, "bytes"),
        made.figure(f"idle_connects{suffix}", wanted / made.seconds, "1/s"),
    ]


async def _connect_all(
    lines: Sequence[Line], first: int, tls: ssl.SSLContext | None
) -> None:
    room = asyncio.Semaphore(CONNECTING)

    async def one(line: Line, number: int) -> None:
        async with room:
            await connect(line, number, tls)

    async with asyncio.TaskGroup() as tasks:
        for number, line in enumerate(lines, first):
            tasks.create_task(one(line, number))


# --- resume -------------------------------------------------------------------


class _Reader(Line):
    """A device in many rooms: notes when `ready` and each room's news came."""

    def __init__(self, terminal: Terminal, place: Place) -> None:
        super().__init__(terminal, place)
        self.ready_at = 0.0
        self.heads: dict[LogId, int] = {}
        self.results: dict[int, int] = {}
        self.progress = asyncio.Event()
        self.problem = ""

    def frame(self, payload: bytes) -> None:
        """Note what came."""
        try:
            found = _frames.decode(payload)
        except msgspec.ValidationError:
            return  # of a kind that is of no interest here
        match found:
            case Ready():
                self.ready_at = time.perf_counter()
            case Entries():
                self.heads[found.log] = found.after + len(found.entries)
            case ResultFrame():
                receipt = found.receipt
                if receipt is None or receipt.seq is None:
                    self.problem = f"A message was refused: {found.problem}"
                else:
                    self.results[found.id - 0x80000000] = receipt.seq
        self.progress.set()

    async def has(self, wanted: dict[LogId, int]) -> None:
        """Wait until these rooms are read up to these entries."""
        await self._until(
            lambda: (
                bool(self.ready_at)
                and all(self.heads.get(log, 0) >= seq for log, seq in wanted.items())
            )
        )

    async def answered(self, numbers: Sequence[int]) -> list[int]:
        """Wait for the seqs of messages."""
        await self._until(lambda: all(number in self.results for number in numbers))
        return [self.results[number] for number in numbers]

    async def _until(self, enough: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                while not enough():
                    if self.problem or self.ended.done():
                        raise BenchProblem(self.problem or self.ended.result())
                    self.progress.clear()
                    await self.progress.wait()
        except TimeoutError as error:
            raise BenchProblem(
                f"What was awaited did not come in {PATIENCE:g} seconds."
            ) from error

    def finish(self) -> None:
        """Send what is written, then end the connection."""
        if self._transport is not None:
            self._transport.close()

    def ack(self, cursors: dict[LogId, int]) -> None:
        """Say what is on disk."""
        self.write(frame(encode(AckFrame(cursors))))


async def resume(job: Job) -> list[Figure]:
    """A device that is in many rooms comes back to news in a few of them."""
    place = job.places[0]
    rooms = list(rooms_of("resume", [place.name], job.options))
    writer = _Writer(rooms, place)
    await connect(writer)
    figures = []
    for count in NEWS:
        meter = Meter([place.pid], lambda: 0)
        ready, whole = [], []
        for _ in range(ROUNDS):
            news = await writer.say(random.sample(rooms, count))
            first, last = await _come_back(rooms[0].members[0], place, news)
            ready.append(first)
            whole.append(last)
        window = meter.read()
        if count == NEWS[0]:
            figures.append(window.figure("resume_ready", median(ready), "ms"))
        figures.append(window.figure(f"resume_{count}", median(whole), "ms"))
    return figures


class _Writer(_Reader):
    """The other one in all the rooms, who is there all the time."""

    def __init__(self, rooms: Sequence[RoomPlan], place: Place) -> None:
        terminal = rooms[0].members[1]
        super().__init__(terminal, place)
        self._templates = {room.id: Template(room.id, terminal) for room in rooms}
        self._next = 0

    async def say(self, rooms: Sequence[RoomPlan]) -> dict[LogId, int]:
        """Write once into each of these rooms; gives back where it stands there."""
        numbers = range(self._next, self._next + len(rooms))
        self._next += len(rooms)
        frames = zip(rooms, numbers, strict=True)
        self.write(b"".join(self._templates[r.id].make(n) for r, n in frames))
        seqs = await self.answered(numbers)
        news = {room.id: seq for room, seq in zip(rooms, seqs, strict=True)}
        await self.has(news)
        self.ack(news)
        return news


async def _come_back(
    terminal: Terminal, place: Place, news: dict[LogId, int]
) -> tuple[float, float]:
    """Milliseconds from connecting to `ready`, and until all news is there."""
    reader = _Reader(terminal, place)
    start = time.perf_counter()
    await connect(reader)
    await reader.has(news)
    end = time.perf_counter()
    reader.ack(news)
    reader.finish()
    await reader.ended
    return 1000 * (reader.ready_at - start), 1000 * (end - start)


# --- history ------------------------------------------------------------------


async def history(job: Job) -> list[Figure]:
    """Pages of a long room, towards its beginning and towards its end."""
    place, options = job.places[0], job.options
    (room,) = rooms_of("history", [place.name], options)
    figures = []
    for direction in ("backward", "forward"):
        readers = [
            _Pages(room, place, direction, number / READERS)
            for number in range(READERS)
        ]
        failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        tasks = [asyncio.create_task(reader.run(failed)) for reader in readers]

        def count(readers: Sequence[_Pages] = readers) -> int:
            return sum(reader.entries for reader in readers)

        try:
            window = await watch([place.pid], options.seconds / 2, count, failed)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        name = f"history_{direction}"
        figures.append(window.figure(name, window.rate, "entries/s"))
    return figures


class _Pages:
    """Reads page after page, round and round."""

    def __init__(
        self, room: RoomPlan, place: Place, direction: str, part: float
    ) -> None:
        self._room = room
        self._place = place
        self._direction = direction
        self._at = int(part * room.head)
        self.entries = 0

    async def run(self, failed: "asyncio.Future[str]") -> None:
        """Read until cancelled."""
        tap = Tap()
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: tap, "127.0.0.1", self._place.port
            )
            while True:
                self._turn(await self._page(tap))
        except (BenchProblem, OSError) as error:
            if not failed.done():
                failed.set_result(str(error))
        finally:
            tap.close()

    async def _page(self, tap: Tap) -> Page:
        back = self._direction == "backward"
        query = f"before={self._at + 1}" if back else f"after={self._at}"
        request = signed_get(
            self._room.members[0],
            self._place,
            f"/telex/v1/logs/{self._room.id}/entries",
            f"{query}&limit={BATCH_ENTRIES}",
        )
        return decode(await tap.ask(request), Page)

    def _turn(self, page: Page) -> None:
        self.entries += len(page.entries)
        last = page.after + len(page.entries)
        if self._direction == "backward":
            self._at = page.after or self._room.head
        else:
            self._at = last if last < self._room.head else 0
