"""Media processes for tests: one, or two that call each other."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import pytest

from media.port import Candidates, Event, Frame, Ice, LegState
from media.supervisor import Media

if TYPE_CHECKING:
    from tests.media.pulse import Pulse

E = TypeVar("E", bound=Event)


class Ear:
    """What a Media told, in order; pictures: only how many, and the newest."""

    def __init__(self, media: Media) -> None:
        self.media = media
        self.events: list[Event] = []
        self.frames: dict[str, Frame] = {}
        self.frames_of: dict[str, int] = {}
        self.more: list[Callable[[Event], None]] = []
        self._changed = asyncio.Event()
        media.listen(self._hear)

    def _hear(self, event: Event) -> None:
        if isinstance(event, Frame):
            self.frames[event.leg] = event
            self.frames_of[event.leg] = self.frames_of.get(event.leg, 0) + 1
        else:
            self.events.append(event)
        self._changed.set()
        for hear in self.more:
            hear(event)

    async def until(self, true: Callable[[], bool], seconds: float = 20.0) -> None:
        """Wait until something holds; looked at after each event."""
        async with asyncio.timeout(seconds):
            while not true():
                self._changed.clear()
                await self._changed.wait()

    async def first(
        self,
        kind: type[E],
        true: Callable[[E], bool] = lambda event: True,
        seconds: float = 20.0,
    ) -> E:
        """The first event of a kind for which this holds."""

        def found() -> list[E]:
            return [e for e in self.events if isinstance(e, kind) and true(e)]

        await self.until(lambda: bool(found()), seconds)
        return found()[0]

    def forget(self) -> None:
        """Begin anew, for the next test."""
        self.events.clear()
        self.frames.clear()
        self.frames_of.clear()

    def of(self, kind: type[E]) -> list[E]:
        """All of a kind."""
        return [event for event in self.events if isinstance(event, kind)]


class Pair:
    """Two media processes, and the signalling between them."""

    def __init__(self) -> None:
        self.a = Ear(Media())
        self.b = Ear(Media())
        self._tasks: set[asyncio.Task[None]] = set()
        self._trickle(self.a, self.b)
        self._trickle(self.b, self.a)

    def _trickle(self, one: Ear, other: Ear) -> None:
        def hear(event: Event) -> None:
            if isinstance(event, Candidates):
                self._run(other, event.leg, event.lines)

        one.more.append(hear)

    def _run(self, other: Ear, leg: str, lines: Sequence[str]) -> None:
        task = asyncio.create_task(other.media.add_candidates(leg, lines))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def call(self, leg: str = "leg", ice: Ice | None = None) -> None:
        """a calls b, who accepts at once; returns when both are connected."""
        ice = ice or Ice()
        offer = await self.a.media.offer(leg, ice)
        answer = await self.b.media.answer(leg, ice, offer)
        await self.a.media.accept(leg, answer)
        await asyncio.gather(self.a.media.open(leg), self.b.media.open(leg))
        for ear in (self.a, self.b):
            await ear.first(LegState, lambda e: e.leg == leg and e.state == "connected")

    async def hang_up(self, leg: str = "leg") -> None:
        """Both end it."""
        await asyncio.gather(self.a.media.close(leg), self.b.media.close(leg))

    async def stop(self) -> None:
        """End both processes."""
        await asyncio.gather(self.a.media.stop(), self.b.media.stop())


@pytest.fixture
async def ear(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Ear]:
    """One Media, which has no sound devices."""
    monkeypatch.setenv("TELEX_AUDIO", "null")
    ear = Ear(Media())
    yield ear
    await ear.media.stop()


@pytest.fixture
async def pair(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    """Two of them."""
    monkeypatch.setenv("TELEX_AUDIO", "null")
    pair = Pair()
    yield pair
    await pair.stop()


@pytest.fixture(scope="module")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Pulse]":
    """A sound server for a file's tests, which skip where PulseAudio is missing."""
    from tests.media.pulse import pulse  # it needs numpy, others' tests do not

    with pulse(tmp_path_factory.mktemp("p"), "alice") as running:
        yield running
