"""What the media process does when it is asked: legs, sound, camera and screen.

One `Desk` for the process. Commands about one leg, or one device, are done in the order
in which they come; those about different ones do not wait for each other, and the
failure of one is its own.
"""

import asyncio
import contextlib
import ctypes
import gc
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import TYPE_CHECKING

from media import ipc
from media.port import Devices, Event, Frame, Ice, MediaError, Sound, Tone, View

if TYPE_CHECKING:
    from media.rtc.leg import Leg
    from media.video.camera import Feed

__all__ = ["Desk"]

log = logging.getLogger(__name__)

LEGS = 64
"""At a time: more is an engine that forgets to close them."""

BYE = 1.0
"""Seconds for a leg to say goodbye and let go."""

LINGER = 10.0
"""Seconds after the last leg's end until the camera is turned off, if nobody did: a
call that finds a new way makes a new leg soon after."""

NO_LIBRARY = (
    "Calls need libraries that are not installed: pip install 'telex[calls]',"
    " then call again."
)


class _Seat:
    """A leg, and what it has of the camera."""

    def __init__(self, leg: "Leg", feed: "Feed") -> None:
        self.leg = leg
        self.feed = feed
        self.open = False


class _Parts:
    """What is there once the libraries are loaded."""

    def __init__(self, desk: "Desk", has_room: Callable[[str], bool]) -> None:
        from media.audio.studio import Studio
        from media.rtc.leg import Leg
        from media.video.camera import Camera
        from media.video.screen import Screen

        self.new_leg = Leg
        self.screen = Screen(has_room, desk.show)
        self.studio = Studio(desk.tell)
        self.camera = Camera(desk.tell, partial(self.screen.show, ""), desk.tell_legs)


class Desk:
    """All that runs in the process."""

    def __init__(
        self,
        tell: Callable[[Event], None],
        show: Callable[[Frame], None],
        has_room: Callable[[str], bool],
    ) -> None:
        """`tell` and `show` send to the engine; `has_room`: see `ipc.Pipe`."""
        self.tell = tell
        self.show = show
        self._has_room = has_room
        self._loading: asyncio.Task[_Parts] | None = None
        self._parts: _Parts | None = None
        self._legs: dict[str, _Seat] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._waiting: defaultdict[str, int] = defaultdict(int)
        self._sound = Sound()
        self._view = View()
        self._device = ""
        """The camera that was asked for last."""
        self._muted = False
        self._held = False
        self._resting: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def do(self, command: ipc.Command) -> str | Devices | None:
        """Do it; MediaError with a sentence if that fails."""
        match command:
            case ipc.Prepare():
                await (await self._load()).studio.prepare()
                _freeze()
            case ipc.Offer(leg, ice):
                return await self._offer(leg, ice)
            case ipc.Answer(leg, ice, offer):
                return await self._answer(leg, ice, offer)
            case ipc.Accept(leg, answer):
                async with self._alone(f"leg {leg}"):
                    await self._seat(leg).leg.accept(answer)
            case ipc.AddCandidates(leg, lines):
                async with self._alone(f"leg {leg}"):
                    self._seat(leg).leg.add_candidates(lines)
            case ipc.Open(leg):
                async with self._alone(f"leg {leg}"):
                    await self._open(leg)
            case ipc.Close(leg):
                async with self._alone(f"leg {leg}"):
                    await self._close(leg)
            case ipc.ListDevices():
                return await asyncio.to_thread(_list_devices)
            case ipc.Ping() | ipc.Stop():
                pass
            case _:
                await self._set(command)
        return None

    async def close(self) -> None:
        """End all legs, let go of all devices."""
        async with asyncio.TaskGroup() as group:
            for name in list(self._legs):
                group.create_task(self._close(name))
        if self._resting is not None:
            self._resting.cancel()
        if self._parts is not None:
            await self._parts.studio.close()
            await self._parts.camera.close()

    async def _set(self, command: ipc.Command) -> None:
        """Settings: kept until the libraries are loaded."""
        self._note(command)
        async with self._alone(type(command).__name__):
            match command:
                case ipc.SetMuted(on):
                    self._muted = on
                    if self._parts is not None:
                        self._parts.studio.set_muted(on)
                    self.tell_legs()
                case ipc.SetHeld(on):
                    self._held = on
                    if self._parts is not None:
                        self._parts.studio.set_held(on)
                        self.tell_legs()
                        await self._parts.camera.pause(on)
                case ipc.SetSound(sound):
                    if self._parts is not None and sound == self._sound:
                        await self._parts.studio.set_sound(sound)
                case ipc.SetView(view):
                    self._view = view
                    if self._parts is not None:
                        self._parts.screen.set_view(view)
                case ipc.SetCamera(device) if device == self._device:
                    if device or self._parts is not None:
                        await (await self._load()).camera.set_device(device)
                case ipc.Play(tone):
                    await self._play(tone)

    def _note(self, command: ipc.Command) -> None:
        """A device takes seconds at times: what was asked for last counts."""
        match command:
            case ipc.SetSound(sound):
                self._sound = sound
            case ipc.SetCamera(device):
                self._device = device
                if not device and self._parts is not None:
                    self._parts.camera.hush()  # off is off now

    async def _play(self, tone: Tone) -> None:
        if tone != "none" or self._parts is not None:
            (await self._load()).studio.play(tone)

    async def _offer(self, name: str, ice: Ice) -> str:
        async with self._alone(f"leg {name}"):
            seat = await self._take_seat(name, ice)
            try:
                return await seat.leg.offer()
            except BaseException:
                await self._close(name, bye=False)
                raise

    async def _answer(self, name: str, ice: Ice, offer: str) -> str:
        async with self._alone(f"leg {name}"):
            seat = await self._take_seat(name, ice)
            try:
                return await seat.leg.answer(offer)
            except BaseException:
                await self._close(name, bye=False)
                raise

    async def _take_seat(self, name: str, ice: Ice) -> _Seat:
        parts = await self._load()
        await self._close(name)
        if len(self._legs) >= LEGS:
            raise MediaError(
                "internal",
                "Too many connections are open: hang up, then call again.",
            )
        if self._resting is not None:
            self._resting.cancel()
        feed = parts.camera.feed()
        leg = parts.new_leg(
            name, ice, self.tell, feed, partial(parts.screen.show, name)
        )
        leg.on_rate = partial(parts.studio.tune, leg=name)
        self._legs[name] = seat = _Seat(leg, feed)
        self._tell_leg(seat)
        return seat

    def _seat(self, name: str) -> _Seat:
        if name not in self._legs:
            raise MediaError(
                "unknown_leg", "This connection of the call has ended: call again."
            )
        return self._legs[name]

    async def _open(self, name: str) -> None:
        seat = self._seat(name)
        if not seat.open:
            parts = await self._load()
            seat.open = True
            seat.leg.open()
            parts.studio.add(name, seat.leg.buffer, seat.leg.send_audio)

    async def _close(self, name: str, bye: bool = True) -> None:
        seat = self._legs.pop(name, None)
        if seat is None or self._parts is None:
            return
        self._parts.studio.remove(name)
        try:
            async with asyncio.timeout(BYE):
                await seat.leg.close(bye)
        except Exception:
            # However it ended: what follows lets go of its pictures and the camera.
            log.exception("a leg did not end well")
        seat.feed.close()
        self._parts.screen.forget(name)
        if not self._legs:
            loop = asyncio.get_running_loop()
            self._resting = loop.call_later(LINGER, self._rest)
            loop.call_soon(_release)

    def _rest(self) -> None:
        """Nobody is there any more: the camera must not stay on."""
        if self._parts is not None and not self._legs:
            task = asyncio.create_task(self._parts.camera.set_device(""))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def tell_legs(self) -> None:
        """Tell the others what we do."""
        for seat in list(self._legs.values()):
            self._tell_leg(seat)

    def _tell_leg(self, seat: _Seat) -> None:
        on = self._parts.camera.on if self._parts is not None else ""
        seat.leg.tell(self._muted, self._held, on == "camera", on == "screen")

    @contextlib.asynccontextmanager
    async def _alone(self, what: str) -> AsyncIterator[None]:
        """One after the other, first come first served; nothing stays behind."""
        self._waiting[what] += 1
        try:
            async with self._locks[what]:
                yield
        finally:
            self._waiting[what] -= 1
            if not self._waiting[what]:
                del self._waiting[what], self._locks[what]

    async def _load(self) -> _Parts:
        """Load the libraries, once; a second try if they were not there."""
        if self._parts is not None:
            return self._parts
        if self._loading is None:
            self._loading = asyncio.create_task(self._load_parts())
        loading = self._loading
        try:
            return await asyncio.shield(loading)
        except Exception:
            # Raised again: all that is done here is to allow a second try.
            if self._loading is loading:
                self._loading = None
            raise

    async def _load_parts(self) -> _Parts:
        # In a thread: the loop answers meanwhile, and sockets are read.
        try:
            await asyncio.to_thread(_import)
        except ImportError as error:
            log.warning("a library is missing: %s", error)
            raise MediaError("no_library", NO_LIBRARY) from error
        parts = _Parts(self, self._has_room)
        parts.screen.set_view(self._view)
        parts.studio.set_muted(self._muted)
        parts.studio.set_held(self._held)
        await parts.camera.pause(self._held)
        await parts.studio.set_sound(self._sound)
        self._parts = parts
        return parts


def _import() -> None:
    """Everything that a call needs, so that nothing is loaded in the middle of one."""
    import av.video.reformatter

    import media.audio.devices
    import media.audio.studio
    import media.rtc.leg
    import media.video.camera
    import media.video.screen  # noqa: F401

    av.logging.set_level(None)
    _freeze()


def _freeze() -> None:
    """What is loaded stays: the collector need not look at it during a call."""
    gc.collect()
    gc.freeze()


def _release() -> None:
    """Give memory back after a call: 30 in a row are flat so, and cost 70 MB else."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _list_devices() -> Devices:
    from media.video.devices import list_pictures

    try:
        from media.audio.devices import list_devices

        sound = list_devices()
    except ImportError:
        sound = Devices(missing=(NO_LIBRARY,))
    pictures = list_pictures()
    return Devices(sound.found + pictures.found, sound.missing + pictures.missing)
