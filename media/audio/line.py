"""A sound device, or a clock in its place.

While the device is being opened, is missing or was unplugged, a clock does its work at
its pace, so that neither side of the call stands still: buffers are emptied, silence
is sent. The device is looked for again and again.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final, Literal

from media.audio.devices import Lost, Stream
from media.audio.opus import BLOCK, RATE
from media.port import Event, MediaError, Trouble

__all__ = ["RETRY", "Line"]

log = logging.getLogger(__name__)

RETRY: Final = 2.0
"""Seconds between two attempts to open a device that is missing."""
TICK: Final = BLOCK / RATE
BEHIND: Final = 0.2
"""Seconds that the clock makes up for when it was kept from running; not more."""

Open = Callable[[str, Callable[[], bool], Lost], Stream]
"""Opens a device: its id, whether it is the one in use (asked in its callback, which
does nothing until then), and whom to tell when it is gone. May block."""


class Line:
    """One direction of sound. All of it belongs to the event loop's thread."""

    def __init__(
        self,
        kind: Literal["microphone", "speaker"],
        open_device: Open,
        tick: Callable[[], None],
        hear: Callable[[Event], None],
        opened: Callable[[], None],
        retry: float = RETRY,
        grace: float = 0.0,
    ) -> None:
        """`tick` does a block's work without a device; `opened`: `latency` is new.

        `grace`: seconds without a device until the clock begins.
        """
        self._kind: Literal["microphone", "speaker"] = kind
        self._open_device = open_device
        self._tick = tick
        self._hear = hear
        self._opened = opened
        self._retry = retry
        self._grace = grace
        self._waiting: asyncio.TimerHandle | None = None
        self._token: object = None
        self._tasks: list[asyncio.Task[None]] = []
        self._absent = asyncio.Event()
        self._troubled = ""
        self.latency = 0.0
        """Seconds that the device takes, as well as it knows."""

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped."""
        return bool(self._tasks)

    def start(self, device: str) -> None:
        """Open a device, or wait for it."""
        assert not self._tasks
        self._miss()
        self._tasks = [
            asyncio.create_task(self._keep(device)),
            asyncio.create_task(self._clock()),
        ]

    async def switch(self, device: str) -> None:
        """Take another device; the clock bridges the gap."""
        if self._tasks:
            await _end(self._tasks[0])
            self._tasks[0] = asyncio.create_task(self._keep(device))

    async def stop(self) -> None:
        """Close the device."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        for task in tasks:
            await _end(task)
        self._found()
        self._tell("", "")

    def _miss(self) -> None:
        """There is no device: the clock begins soon."""
        self._found()
        loop = asyncio.get_running_loop()
        self._waiting = loop.call_later(self._grace, self._absent.set)

    def _found(self) -> None:
        """There is one: the clock stops."""
        if self._waiting is not None:
            self._waiting.cancel()
        self._absent.clear()

    async def _keep(self, device: str) -> None:
        """Keep a device open."""
        loop = asyncio.get_running_loop()
        while True:
            gone: asyncio.Future[MediaError] = loop.create_future()
            token = object()
            try:
                stream = await self._open(device, token, gone)
            except MediaError as error:
                self._tell(error.code, str(error))
                await asyncio.sleep(self._retry)
                continue
            since = loop.time()
            self._token = token
            self._found()
            self.latency = stream.latency
            self._tell("", "")
            self._opened()
            try:
                why = await gone
            finally:
                self._token = None
                self._miss()
                closing = loop.run_in_executor(None, stream.close)
                closing.add_done_callback(_look)
                await asyncio.shield(closing)
            self._tell(why.code, str(why))
            # At once for the first time: the system may have another default by now.
            if loop.time() - since < self._retry:
                await asyncio.sleep(self._retry)

    async def _open(
        self, device: str, token: object, gone: asyncio.Future[MediaError]
    ) -> Stream:
        loop = asyncio.get_running_loop()

        def settle(error: MediaError) -> None:
            if not gone.done():
                gone.set_result(error)

        def lost(error: MediaError) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(settle, error)

        opening = loop.run_in_executor(
            None, self._open_device, device, lambda: self._token is token, lost
        )
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_late)
            raise
        except MediaError:
            raise
        except Exception as error:
            # A fault of a backend: without the device, the call goes on.
            log.exception("opening the %s", self._kind)
            text = f"The {self._kind} cannot be used ({type(error).__name__})."
            raise MediaError("internal", text) from error

    async def _clock(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._absent.wait()
            due = loop.time()
            while self._absent.is_set():
                self._tick()
                due = max(due + TICK, loop.time() - BEHIND)
                await asyncio.sleep(due - loop.time())

    def _tell(self, code: str, text: str) -> None:
        """Say what is wrong, once."""
        if text != self._troubled:
            self._troubled = text
            self._hear(Trouble(self._kind, code, text))


def _close_late(opening: asyncio.Future[Stream]) -> None:
    """Close a device that was opened when nobody wanted it any more."""
    if not opening.cancelled() and opening.exception() is None:
        opening.get_loop().run_in_executor(None, opening.result().close)


def _look(closing: asyncio.Future[None]) -> None:
    if not closing.cancelled() and (error := closing.exception()) is not None:
        log.error("closing a device: %r", error)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a sound device failed", exc_info=error)
