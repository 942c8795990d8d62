"""Two real media processes in a call; what they say to each other is carried here.

There are no nodes and no engine between them, so this is for what the media processes
do alone. What `Media` tells is kept with the time at which it came.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from media.port import Candidates, Event, Frame, Ice, LegState, Quality, Sound
from media.supervisor import Media
from tests.media.relay import Relay

__all__ = ["LEG", "Pair", "Side", "pair", "plain"]

LEG = "leg"
PATIENCE = 30.0
"""Seconds until a call that does not come about is an error of the measurement."""

E = TypeVar("E", bound=Event)


@dataclass(frozen=True)
class Told:
    """An event, and when it came (`time.monotonic()`)."""

    at: float
    event: Event


class Side:
    """A media process, and what it told."""

    def __init__(self) -> None:
        self.media = Media()
        self.told: list[Told] = []
        self.frames: list[float] = []
        """When pictures of the other side came."""
        self.forward: Callable[[Candidates], None] = lambda event: None
        self._changed = asyncio.Event()
        self.media.listen(self._hear)

    @property
    def pid(self) -> int:
        """Of the media process, which runs."""
        pid = self.media.pid
        assert pid is not None
        return pid

    def _hear(self, event: Event) -> None:
        now = time.monotonic()
        match event:
            case Frame():
                if event.leg:
                    self.frames.append(now)
            case Candidates():
                self.forward(event)
            case _:
                self.told.append(Told(now, event))
        self._changed.set()

    async def until(self, true: Callable[[], object]) -> None:
        """Wait until something holds; looked at after each event."""
        async with asyncio.timeout(PATIENCE):
            while not true():
                self._changed.clear()
                await self._changed.wait()

    def of(self, kind: type[E], since: float = 0.0) -> list[tuple[float, E]]:
        """When which events of a kind came."""
        return [
            (told.at, told.event)
            for told in self.told
            if isinstance(told.event, kind) and told.at >= since
        ]

    async def first(
        self, kind: type[E], true: Callable[[E], bool], since: float = 0.0
    ) -> float:
        """When the first event of a kind came for which this holds."""

        def found() -> list[float]:
            return [at for at, event in self.of(kind, since) if true(event)]

        await self.until(found)
        return found()[0]

    def concealed(self, since: float) -> float:
        """The share (0 to 1) of the sound since then that had to be made up."""
        shares = [quality.concealed for _, quality in self.of(Quality, since)]
        return sum(shares) / len(shares) if shares else 0.0

    async def state(self, state: str, since: float = 0.0) -> float:
        """When the leg came into a state."""
        return await self.first(LegState, lambda e: e.state == state, since)


class Pair:
    """Both sides."""

    def __init__(self) -> None:
        self.a, self.b = Side(), Side()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.a, self.b

    async def call(self, relay: Relay | None = None, ice: Ice | None = None) -> float:
        """Let a call b, who accepts at once; seconds until both are connected."""
        ice, begun = ice or Ice(), time.monotonic()
        self._forward(direct=relay is None)
        offer = await self.a.media.offer(LEG, ice)
        if relay is not None:
            offer = relay.rewrite("a", offer)
        answer = await self.b.media.answer(LEG, ice, offer)
        if relay is not None:
            answer = relay.rewrite("b", answer)
        await self.a.media.accept(LEG, answer)
        await asyncio.gather(self.a.media.open(LEG), self.b.media.open(LEG))
        ends = [await side.state("connected", begun) for side in self.sides]
        return max(ends) - begun

    def _forward(self, direct: bool) -> None:
        """Candidates that come later would lead around a relay."""

        def to(side: Side) -> Callable[[Candidates], None]:
            def forward(event: Candidates) -> None:
                if direct:
                    adding = side.media.add_candidates(event.leg, event.lines)
                    task = asyncio.create_task(adding)
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)

            return forward

        self.a.forward, self.b.forward = to(self.b), to(self.a)

    async def hang_up(self) -> None:
        """Both end it."""
        await asyncio.gather(self.a.media.close(LEG), self.b.media.close(LEG))

    async def stop(self) -> None:
        """End both processes."""
        await asyncio.gather(self.a.media.stop(), self.b.media.stop())


@asynccontextmanager
async def pair() -> AsyncIterator[Pair]:
    """Two processes, which are started and have loaded all that they need."""
    made = Pair()
    try:
        await asyncio.gather(made.a.media.prepare(), made.b.media.prepare())
        yield made
    finally:
        await made.stop()


def plain(microphone: str, speaker: str) -> Sound:
    """Nothing is done to the sound, so that it can be compared."""
    return Sound(microphone, speaker, echo=False, noise=False, gain=False)
