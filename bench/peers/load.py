"""The load on a server of XMPP, in a process of its own: a job in, figures out.

The same work as `node.bench.talk`, `pace` and `rest`: a message is over when it has
come out at the other side. Both servers archive a message before they pass it on.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec

from bench.peers.xmpp import ROOMS, Client
from node.bench.load import run_job
from node.bench.meter import Figure, Meter, per_cpu, quantile, resident, watch
from node.bench.pace import Metronome, settle
from node.bench.plan import BODY, Options
from node.bench.rest import CONNECTING, WARM

__all__ = ["PeerJob", "main"]

TEXT = "Xylophones" * (BODY // 10) + "telex!"
"""As long as Telex's message bodies."""

SOURCES = 5000

NO_STORE = "<no-store xmlns='urn:xmpp:hints'/>"
"""XEP-0334: not to be archived."""


class PeerJob(msgspec.Struct, frozen=True):
    """What the load process is told on its standard input."""

    workload: str
    port: int
    pid: int
    registers: bool
    options: Options


class _Writer(Client):
    """Half of a direct chat."""

    def __init__(self, name: str, failed: "asyncio.Future[str]", hint: str) -> None:
        super().__init__(name)
        self.other = self
        self.closed_loop = False
        self.done = 0
        self.due: dict[int, float] = {}
        self.arrived: list[tuple[float, float]] = []
        self._failed = failed
        self._hint = hint
        self._next = 0
        self.ended.add_done_callback(lambda end: fail(failed, end.result()))

    def send_at(self, due: float) -> None:
        """Send a message now that was due then."""
        number, self._next = self._next, self._next + 1
        self.due[number] = due
        self.write(
            f"<message to='{self.other.address}' type='chat' id='m{number}'>"
            f"<body>{TEXT}</body>{self._hint}</message>"
        )

    def stanza(self, name: str, attributes: dict[str, str]) -> None:
        """Tell the other that its message has come."""
        if name != "message":
            return
        if attributes.get("type") == "error":
            fail(self._failed, "a message was refused")
        elif attributes.get("id", "").startswith("m"):
            self.other.over(int(attributes["id"][1:]))

    def over(self, number: int) -> None:
        """A message has come out at the other side."""
        now = time.perf_counter()
        due = self.due.pop(number)
        self.done += 1
        self.arrived.append((due, now - due))
        if self.closed_loop:
            self.send_at(now)


class _Member(Client):
    """A member of a room."""

    def __init__(self, name: str, hall: "_Hall") -> None:
        super().__init__(name)
        self._hall = hall
        self._next = 0
        self.ended.add_done_callback(lambda end: fail(hall.failed, end.result()))

    def say(self) -> None:
        """Write a message into the room."""
        number, self._next = self._next, self._next + 1
        self.write(
            f"<message to='hall@{ROOMS}' type='groupchat' "
            f"id='m{number}-{self.name}'><body>{TEXT}</body></message>"
        )

    def stanza(self, name: str, attributes: dict[str, str]) -> None:
        """Count a delivery."""
        if name != "message":
            return
        if attributes.get("type") == "error":
            fail(self._hall.failed, "a message was refused")
        elif attributes.get("id", "").startswith("m"):
            self._hall.hear(attributes["id"])


class _Hall:
    """Which messages have reached every member."""

    def __init__(self, failed: "asyncio.Future[str]") -> None:
        self.failed = failed
        self.members: dict[str, _Member] = {}
        self._heard: dict[str, int] = {}
        self.deliveries = 0

    def hear(self, message: str) -> None:
        """A member got a message; the last one to get it has the sender go on."""
        self.deliveries += 1
        count = self._heard.get(message, 0) + 1
        if count < len(self.members):
            self._heard[message] = count
            return
        self._heard.pop(message, None)
        self.members[message.partition("-")[2]].say()


async def dm(job: PeerJob) -> list[Figure]:
    """Direct chats, both sides writing all the time."""
    return await _talk(job, "dm", "")


async def dm_not_stored(job: PeerJob) -> list[Figure]:
    """The same, and nothing is archived."""
    return await _talk(job, "dm_not_stored", NO_STORE)


async def _talk(job: PeerJob, name: str, hint: str) -> list[Figure]:
    writers, failed = await _writers(job, hint)
    for each in writers:
        each.closed_loop = True
        for _ in range(job.options.in_flight):
            each.send_at(time.perf_counter())
    seconds = job.options.seconds
    window = await watch(
        [job.pid],
        seconds,
        lambda: sum(w.done for w in writers),
        failed,
        # At some hundred messages a second the first come out after seconds.
        warm=seconds / 2,
    )
    return per_cpu(window, name)


async def paced(job: PeerJob) -> list[Figure]:
    """Messages at an even rate, over all chats in turns."""
    writers, failed = await _writers(job, "")
    options = job.options
    before = options.seconds / 10
    metronome = Metronome(writers, options.rate, before + options.seconds)
    metronome.start()
    await asyncio.wait([failed], timeout=before)
    meter = Meter([job.pid], lambda: sum(w.done for w in writers))
    await metronome.end(failed)
    window = meter.read()
    await settle(writers, failed)
    counted = metronome.start_time + before
    delays = sorted(d for w in writers for due, d in w.arrived if due >= counted)
    return [
        window.figure("paced_rate", len(delays) / options.seconds, "1/s"),
        window.figure("paced_p50", 1000 * quantile(delays, 0.5), "ms"),
        window.figure("paced_p99", 1000 * quantile(delays, 0.99), "ms"),
        window.figure("paced_p999", 1000 * quantile(delays, 0.999), "ms"),
    ]


async def fanout(job: PeerJob) -> list[Figure]:
    """A room where a few write and all read."""
    options = job.options
    failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    hall = _Hall(failed)
    members = [_Member(f"fan{n}", hall) for n in range(options.members)]
    await _register(job, [each.name for each in members])
    for each in members:
        await each.log_in(job.port)
        await each.join("hall")
        hall.members[each.name] = each
    for each in members[: options.senders]:
        for _ in range(options.in_flight):
            each.say()

    def count() -> int:
        return hall.deliveries * (len(members) - 1) // len(members)

    window = await watch([job.pid], options.seconds, count, failed)
    return per_cpu(window, "fanout")


async def idle(job: PeerJob) -> list[Figure]:
    """Memory for a connection on which nothing happens."""
    wanted = job.options.connections
    clients = [Client(f"idle{n}") for n in range(wanted + WARM)]
    await _register(job, [each.name for each in clients])
    await _log_in_all(job.port, clients[:WARM], 0)
    await asyncio.sleep(1)
    before = resident(job.pid)
    meter = Meter([job.pid], lambda: 0)
    await _log_in_all(job.port, clients[WARM:], WARM)
    made = meter.read()
    failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    seconds = min(job.options.seconds, 10.0)
    quiet = await watch([job.pid], seconds, lambda: 0, failed)
    each = (resident(job.pid) - before) / wanted
    return [
        quiet.figure("idle_connection", each, "bytes"),
        made.figure("idle_connects", wanted / made.seconds, "1/s"),
    ]


async def _log_in_all(port: int, clients: Sequence[Client], first: int) -> None:
    room = asyncio.Semaphore(CONNECTING)

    async def one(client: Client, number: int) -> None:
        async with room:
            await client.log_in(port, f"127.0.0.{1 + number // SOURCES}")

    async with asyncio.TaskGroup() as tasks:
        for number, client in enumerate(clients, first):
            tasks.create_task(one(client, number))


async def _writers(
    job: PeerJob, hint: str
) -> tuple[list[_Writer], "asyncio.Future[str]"]:
    failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    writers: list[_Writer] = []
    for n in range(job.options.pairs):
        two = [_Writer(f"{job.workload}{n}{side}", failed, hint) for side in "ab"]
        two[0].other, two[1].other = two[1], two[0]
        writers += two
    await _register(job, [each.name for each in writers])
    for each in writers:
        await each.log_in(job.port)
    return writers, failed


async def _register(job: PeerJob, names: list[str]) -> None:
    if job.registers:
        await Client("").register(job.port, names)


def fail(failed: "asyncio.Future[str]", reason: str) -> None:
    """End the measurement."""
    if not failed.done():
        failed.set_result(reason)


WORK: dict[str, Callable[[PeerJob], Coroutine[Any, Any, list[Figure]]]] = {
    "dm": dm,
    "dm_not_stored": dm_not_stored,
    "fanout": fanout,
    "paced": paced,
    "idle": idle,
}


def main() -> None:
    """Do the job that stands on standard input."""
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=PeerJob)
    outcome = run_job(lambda: WORK[job.workload](job))
    sys.stdout.buffer.write(msgspec.json.encode(outcome))


if __name__ == "__main__":
    main()
