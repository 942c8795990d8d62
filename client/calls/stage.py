"""What the machine wants of sound and picture, done in order for each leg.

Legs do not wait for each other, nor for a tone that a broken speaker cannot play; what
is wanted of one leg is done one after the other. Nothing here fails the signalling: an
error is told to the machine, or only written down.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from client.calls.values import Accept, Add, Answer, Close, Offer, Open, Play
from media.port import Ice, MediaError, MediaPort

__all__ = ["Stage", "Step"]

Step = Offer | Answer | Accept | Add | Open | Close | Play

logger = logging.getLogger(__name__)


class Stage:
    """Takes steps with a media process, which is made when it is first needed."""

    def __init__(
        self,
        make: Callable[[], MediaPort],
        ice: Callable[[], Awaitable[Ice]],
        described: Callable[[str, str], None],
        failed: Callable[[str, MediaError], None],
    ) -> None:
        """`described` and `failed`: told of a leg, and its description or why none."""
        self._make = make
        self._ice = ice
        self._described = described
        self._failed = failed
        self._media: MediaPort | None = None
        self._lanes: dict[str, asyncio.Task[None]] = {}
        self._gone: set[str] = set()
        """Legs that are to be closed: what they still wait for is not done."""

    @property
    def media(self) -> MediaPort:
        """The media process."""
        if self._media is None:
            self._media = self._make()
        return self._media

    @property
    def used(self) -> bool:
        """Whether there is one already."""
        return self._media is not None

    def take(self, step: Step) -> None:
        """Take a step, behind those that its leg still waits for."""
        if isinstance(step, Play):
            self.later("tone", self._play(step))
        else:
            if isinstance(step, Close):
                self._gone.add(step.leg)
            self.later(step.leg, self._leg(step))

    def later(self, lane: str, work: Coroutine[Any, Any, object]) -> None:
        """Do something behind what was asked for in the same lane."""
        before = self._lanes.get(lane)
        task = asyncio.create_task(_after(before, work), name=f"media {lane}")
        self._lanes[lane] = task
        task.add_done_callback(lambda done: self._forget(lane, done))

    async def close(self) -> None:
        """Finish what is under way and end the process."""
        for task in list(self._lanes.values()):
            await asyncio.wait([task], timeout=1.0)
            task.cancel()
        media, self._media = self._media, None
        if media is not None:
            try:
                await media.stop()
            except MediaError as error:
                logger.info("the media process did not end well: %s", error.code)

    def _forget(self, lane: str, task: asyncio.Task[None]) -> None:
        if self._lanes.get(lane) is task:
            del self._lanes[lane]
        if not task.cancelled() and task.exception() is not None:
            kind = type(task.exception()).__name__
            logger.error("a step of a call failed: %s", kind)

    async def _play(self, step: Play) -> None:
        try:
            await self.media.play(step.tone)
        except MediaError as error:
            logger.info("no tone could be played: %s", error.code)

    async def _leg(self, step: Offer | Answer | Accept | Add | Open | Close) -> None:
        if step.leg in self._gone and not isinstance(step, Close):
            return  # above all no microphone opens after the person hung up
        try:
            match step:
                case Offer(leg):
                    self._described(leg, await self.media.offer(leg, await self._ice()))
                case Answer(leg, sdp):
                    ice = await self._ice()
                    self._described(leg, await self.media.answer(leg, ice, sdp))
                case Accept(leg, sdp):
                    await self.media.accept(leg, sdp)
                case Add(leg, lines):
                    await self.media.add_candidates(leg, lines)
                case Open(leg):
                    await self.media.open(leg)
                case Close(leg):
                    await self.media.close(leg)
        except MediaError as error:
            logger.info("a leg of a call: %s", error.code)
            if isinstance(step, Offer | Answer | Accept):
                self._failed(step.leg, error)
        except Exception as error:
            logger.error("a leg of a call failed: %s", type(error).__name__)
            text = "Something in Telex failed; the log of this device names it."
            self._failed(step.leg, MediaError("internal", text))
        finally:
            if isinstance(step, Close):
                self._gone.discard(step.leg)


async def _after(
    before: asyncio.Task[None] | None, work: Coroutine[Any, Any, object]
) -> None:
    if before is not None:
        await asyncio.wait([before])
    await work
