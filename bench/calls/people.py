"""Alice and Bob on two real nodes, with clients that have real media processes.

Whatever they say to a node goes through a proxy that can delay it, as does what the
nodes say to each other; what the media processes send each other can go through a
relay that does the same.
"""

import asyncio
import contextlib
import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from client import Call, CallChanged, Client, Profile
from media.port import Candidates, Event, Ice
from media.supervisor import Media
from protocol.log import LogId
from tests.media.relay import Path as Network
from tests.media.relay import Relay, Side
from tests.system.world import (
    PASSWORD,
    Node,
    Person,
    World,
    free_port,
    ready,
    seen,
    world,
)

__all__ = ["Delay", "Street", "Talker", "Way", "street"]

PATIENCE = 30.0


class Delay:
    """Passes TCP on to `target`, `seconds` late each way; TLS stays as it is."""

    def __init__(self, port: int, target: int) -> None:
        self.seconds = 0.0
        self._port, self._target = port, target
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            onward, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        for source, sink in ((reader, back), (onward, writer)):
            task = self._loop.create_task(self._copy(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _copy(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> None:
        """Each piece is written when it is due; later ones are read meanwhile."""
        last = 0.0
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                last = max(last, self._loop.time() + self.seconds)
                if self.seconds:
                    self._loop.call_at(last, sink.write, data)
                else:
                    sink.write(data)
        self._loop.call_at(max(last, self._loop.time()), sink.close)

    def stop(self) -> None:
        """Drop what is open."""

        def stop() -> None:
            self._server.close()
            for task in self._tasks:
                task.cancel()
            self._loop.call_soon(self._loop.stop)

        self._loop.call_soon_threadsafe(stop)
        self._thread.join(5)


class Way:
    """The network between the media processes: direct, or through relays."""

    def __init__(self) -> None:
        self.network: Network | None = None
        """None: they find their way alone."""
        self._relays: list[Relay] = []

    def describe(self, side: Side, sdp: str) -> str:
        """A description as the other side is to see it; an offer begins a relay."""
        if self.network is None:
            return sdp
        if side == "a":
            self._relays.append(Relay(self.network))
        return self._relays[-1].rewrite(side, sdp)

    def close(self) -> None:
        """End all relays."""
        for relay in self._relays:
            relay.close()
        self._relays.clear()


class WayMedia(Media):
    """A real media process whose descriptions lead along a `Way`."""

    def __init__(self, way: Way) -> None:
        super().__init__()
        self._way = way

    async def offer(self, leg: str, ice: Ice) -> str:
        return self._way.describe("a", await super().offer(leg, ice))

    async def answer(self, leg: str, ice: Ice, offer: str) -> str:
        return self._way.describe("b", await super().answer(leg, ice, offer))

    def listen(self, hear: Callable[[Event], None]) -> None:
        """Without candidates that would lead around a relay."""

        def heard(event: Event) -> None:
            if self._way.network is None or not isinstance(event, Candidates):
                hear(event)

        super().listen(heard)


@dataclass
class Talker:
    """A client that runs, and what its calls went through."""

    client: Client
    states: list[tuple[float, Call]] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def watch(self) -> None:
        """Note each change of a call, until cancelled."""
        async for event in self.client.events():
            if isinstance(event, CallChanged):
                self.states.append((time.monotonic(), event.call))
                self._changed.set()

    async def sees(self, state: str, since: float) -> tuple[float, Call]:
        """When a call came into a state, and the call."""
        async with asyncio.timeout(PATIENCE):
            for number in itertools.count():
                while number >= len(self.states):
                    self._changed.clear()
                    await self._changed.wait()
                at, call = self.states[number]
                if at >= since and call.state == state:
                    return at, call
        raise AssertionError("not reached")

    async def until(self, true: Callable[[], object]) -> None:
        """Wait until something holds; looked at after each change of a call."""
        async with asyncio.timeout(PATIENCE):
            while not true():
                self._changed.clear()
                await self._changed.wait()


@dataclass
class Street:
    """Two nodes, and who lives there."""

    place: World
    delays: Sequence[Delay]
    alice: Person
    bob: Person
    room: LogId
    way: Way

    def set_delay(self, seconds: float) -> None:
        """Delay each way, of what goes to a node and between the media processes."""
        for delay in self.delays:
            delay.seconds = seconds
        self.way.network = Network(delay=seconds) if seconds else None

    @asynccontextmanager
    async def open(self, *people: Person) -> AsyncIterator[list[Talker]]:
        """Headless clients of these, online."""
        async with AsyncExitStack() as stack:
            talkers: list[Talker] = []
            for person in people:
                profile = Profile(person.profile, self.place.ca_file)
                client = await Client.open(profile, password=PASSWORD)
                client.calls.make_media = lambda: WayMedia(self.way)
                talker = Talker(client)
                await stack.enter_async_context(client)
                watching = asyncio.create_task(talker.watch())
                stack.callback(watching.cancel)
                await ready(client)
                talkers.append(talker)
            yield talkers


def _node(place: World) -> tuple[Node, Delay]:
    """A node behind a proxy at its public name."""
    public, port = free_port(), free_port()
    folder = place.folder / f"node-{len(place.nodes) + 1}"
    folder.mkdir()
    node = Node(place, f"localhost:{public}", port, folder)
    node.command(
        *("init", "--name", node.name, "--port", str(port)),
        *("--host", "127.0.0.1", "--ca-file", str(place.ca_file)),
        *("--cert", str(place.certificate), "--key", str(place.certificate)),
    )
    place.nodes.append(node)
    delay = Delay(public, port)
    node.start()
    return node, delay


async def _meet(place: World, alice: Person, bob: Person) -> LogId:
    """Have Alice begin a chat with Bob."""
    async with AsyncExitStack() as stack:
        clients = []
        for person in (alice, bob):
            profile = Profile(person.profile, place.ca_file)
            client = await Client.open(profile, password=PASSWORD)
            clients.append(await stack.enter_async_context(client))
            await ready(client)
        room = (await clients[0].start_direct(bob.address)).id

        async def has_come() -> bool:
            return room in {one.id for one in await clients[1].rooms()}

        await seen(has_come)
        return room


@contextmanager
def street(folder: Path) -> Iterator[Street]:
    """Set it all up, and take it down."""
    with world(folder) as place:
        way, delays = Way(), []
        try:
            people = []
            for name in ("alice", "bob"):
                node, delay = _node(place)
                delays.append(delay)
                people.append(place.settled(name, node))
            alice, bob = people
            room = asyncio.run(_meet(place, alice, bob))
            yield Street(place, delays, alice, bob, room, way)
        finally:
            way.close()
            for delay in delays:
                delay.stop()
