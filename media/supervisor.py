"""The engine's side of sound and picture: `Media`, the `MediaPort`.

It starts the media process (`media.process`) at the first call that needs it, asks it,
and tells the engine what it says. Settings outlive a process; legs do not. This module
loads no library of sound or picture.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from media import ipc
from media.port import Devices, Event, Exited, Ice, MediaError, Sound, Tone, View
from media.process import Child

__all__ = ["Media"]

log = logging.getLogger(__name__)

IDLE = 120
"""Beats without a leg, tone or camera after which the process ends: it would hold
100 MB for nothing. It is started again in half a second."""


class Media:
    """Sound and picture in a process of their own; a `MediaPort`."""

    def __init__(self) -> None:
        self._hearers: list[Callable[[Event], None]] = []
        self._child: Child | None = None
        self._starting = asyncio.Lock()
        self._settings = _Settings()
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"Media({'running' if self._child else 'not running'})"

    @property
    def pid(self) -> int | None:
        """Of the process; None while there is none."""
        return self._child.process.pid if self._child else None

    def listen(self, hear: Callable[[Event], None]) -> None:
        """Have a function told of each event, on the event loop's thread."""
        self._hearers.append(hear)

    async def prepare(self) -> None:
        """Load what is needed, so that a call which rings now starts at once."""
        await self._ask(ipc.Prepare())

    async def offer(self, leg: str, ice: Ice) -> str:
        """Make a leg and describe our side of it."""
        return await self._describe(leg, ipc.Offer(leg, ice))

    async def answer(self, leg: str, ice: Ice, offer: str) -> str:
        """Make a leg for somebody's offer and describe our side of it."""
        return await self._describe(leg, ipc.Answer(leg, ice, offer))

    async def accept(self, leg: str, answer: str) -> None:
        """Connect a leg that was offered to whom the answer describes."""
        await self._ask_of(leg, ipc.Accept(leg, answer))

    async def add_candidates(self, leg: str, lines: Sequence[str]) -> None:
        """Take in more ways to reach the other side."""
        await self._ask_of(leg, ipc.AddCandidates(leg, tuple(lines)))

    async def open(self, leg: str) -> None:
        """Let sound and picture flow both ways."""
        await self._ask_of(leg, ipc.Open(leg))

    async def close(self, leg: str) -> None:
        """End a leg, with a `bye` to the other side."""
        if leg in self._settings.legs:
            self._settings.legs.discard(leg)
            await self._ask_running(ipc.Close(leg))

    async def set_muted(self, on: bool) -> None:
        """Send silence instead of the microphone."""
        self._settings.muted = on
        await self._ask_running(ipc.SetMuted(on))

    async def set_held(self, on: bool) -> None:
        """Neither send nor play anything, and tell the others."""
        self._settings.held = on
        await self._ask_running(ipc.SetHeld(on))

    async def set_sound(self, sound: Sound) -> None:
        """Use these devices from now on."""
        self._settings.sound = Sound(
            _absolute(sound.microphone),
            _absolute(sound.speaker),
            sound.echo,
            sound.noise,
            sound.gain,
        )
        await self._ask_running(ipc.SetSound(self._settings.sound))

    async def set_camera(self, device: str) -> None:
        """Send this camera, screen or file; empty: none."""
        device = self._settings.camera = _absolute(device)
        if not device:
            await self._ask_running(ipc.SetCamera(""))
            return
        try:
            await self._ask(ipc.SetCamera(device))
        except MediaError:
            if self._settings.camera == device:
                self._settings.camera = ""
            raise

    async def set_view(self, view: View) -> None:
        """Send `Frame`s of this size, or none."""
        self._settings.view = view
        await self._ask_running(ipc.SetView(view))

    async def play(self, tone: Tone) -> None:
        """Play a tone until another is asked for."""
        self._settings.tone = tone != "none"
        if tone == "none":
            await self._ask_running(ipc.Play(tone))
        else:
            await self._ask(ipc.Play(tone))

    async def devices(self) -> Devices:
        """What is plugged in now."""
        found = await self._ask(ipc.ListDevices())
        assert isinstance(found, Devices)
        return found

    async def stop(self) -> None:
        """End the process and all legs."""
        async with self._starting:
            child, self._child = self._child, None
            self._settings.ended()
            if child is not None:
                await child.stop()

    async def _describe(self, leg: str, command: ipc.Offer | ipc.Answer) -> str:
        child = await self._running()
        self._settings.legs.add(leg)
        try:
            text = await child.ask(command)
        except BaseException:
            # Also when nobody waits any more: the process may make it all the same.
            self._settings.legs.discard(leg)
            child.tell(ipc.Close(leg))
            raise
        assert isinstance(text, str)
        return text

    async def _ask(self, command: ipc.Command) -> str | Devices | None:
        """Ask the process, started if need be."""
        return await (await self._running()).ask(command)

    async def _ask_of(self, leg: str, command: ipc.Command) -> None:
        """About a leg: without the process there is none."""
        if self._child is None or leg not in self._settings.legs:
            raise MediaError(
                "unknown_leg", "This connection of the call has ended: call again."
            )
        await self._child.ask(command)

    async def _ask_running(self, command: ipc.Command) -> None:
        """Ask it only if it runs: it is told the settings when it starts."""
        async with self._starting:
            child = self._child
        if child is not None:
            await child.ask(command)

    async def _running(self) -> "Child":
        async with self._starting:
            if self._child is None:
                child = await Child.start(self._hear, self._exited, self._beat)
                for command in self._settings.commands():
                    child.tell(command)
                self._child = child
            return self._child

    def _hear(self, event: Event) -> None:
        for hear in self._hearers:
            try:
                hear(event)
            except Exception:
                log.exception("a listener to the media process failed")

    def _exited(self, child: "Child", detail: str) -> None:
        if child is self._child:
            self._child = None
            self._settings.ended()
            self._hear(Exited(detail))

    def _beat(self, child: "Child") -> None:
        """Once in a beat: a process that nobody needs ends."""
        if child is not self._child or not self._settings.is_idle(child.busy):
            return
        log.info("the media process ends: nobody needs it")
        self._child = None
        self._settings.ended()
        task = asyncio.create_task(child.stop())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Settings:
    """What holds over the end of a process; never the camera: it stays off."""

    def __init__(self) -> None:
        self.sound = Sound()
        self.view = View()
        self.muted = False
        self.held = False
        self.legs: set[str] = set()
        self.tone = False
        self.camera = ""
        self.idle = 0

    def ended(self) -> None:
        """The process ended."""
        self.legs.clear()
        self.tone = False
        self.camera = ""
        self.idle = 0

    def is_idle(self, busy: bool) -> bool:
        """Count a beat; whether there was nothing to do for `IDLE` of them."""
        needed = busy or self.legs or self.tone or self.camera
        self.idle = 0 if needed else self.idle + 1
        return self.idle > IDLE

    def commands(self) -> list[ipc.Command]:
        """What a new process has to be told."""
        return [
            ipc.SetMuted(self.muted),
            ipc.SetHeld(self.held),
            ipc.SetSound(self.sound),
            ipc.SetView(self.view),
        ]


def _absolute(device: str) -> str:
    """`file:PATH` with a whole path, as the process may be somewhere else."""
    scheme, colon, path = device.partition(":")
    if not path or scheme not in ("file", "file-loop"):
        return device
    return f"{scheme}{colon}{Path(path).expanduser().absolute()}"
