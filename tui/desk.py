"""What is done with calls: answer, hang up, mute, camera, push to talk.

No widgets here: the chat and the call screen share one desk, so that a key means the
same wherever it is pressed. What goes wrong is raised, as the engine raised it.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

from client.calls.model import Call
from client.model import Room, Trust
from media.port import Device, Devices, Frame, Levels, MediaError, View
from protocol.errors import TelexError
from protocol.log import LogId
from tui.backend import CallPort, ChatClient
from tui.calling import CallBook, names, trust_of
from tui.text import say

if TYPE_CHECKING:
    from tui.app import TelexApp

__all__ = ["FILES", "Desk", "NoPicture", "PushToTalk"]

FIRST_SECONDS = 1.0
"""The microphone stays open this long after the first press: terminals tell no key's
release, only its repeats, and these begin after 0.25 to 0.7 s."""
AFTER_SECONDS = 0.4
"""After the last repeat; they come every 0.03 to 0.1 s."""


FILES = ("file:", "lavfi:")
"""Beginnings of what is sent as if a camera saw it: a file, a test picture."""


class NoPicture(TelexError):
    """There is no camera, or no screen that can be shared."""


class PushToTalk:
    """Whether the space bar is held, as far as a terminal lets one know."""

    def __init__(self) -> None:
        self.until = 0.0

    def press(self, now: float) -> None:
        """The key was pressed, or repeats; `now`: seconds of any clock."""
        first = now >= self.until
        self.until = max(self.until, now + (FIRST_SECONDS if first else AFTER_SECONDS))

    def left(self, now: float) -> float:
        """Seconds until it counts as released; 0 or less: it is."""
        return self.until - now

    def release(self) -> None:
        """It is not held any more."""
        self.until = 0.0


class Desk:
    """The calls of an account that is open."""

    def __init__(
        self, app: "TelexApp", client: ChatClient, rooms: Mapping[LogId, Room]
    ) -> None:
        """Make the desk.

        Args:
            app: for its settings.
            client: whose calls these are.
            rooms: as the chat keeps them.
        """
        self._app = app
        self._client = client
        self._rooms = rooms
        self.book = CallBook()
        self.node = client.account.partition("@")[2]
        self.calling = ""
        """Who is being called, until the engine has made the call."""
        self._taken: set[str] = set()
        """Calls that were answered here."""
        self._mute = asyncio.Lock()
        self._watcher: Callable[[Frame | Levels], None] | None = None
        self._screens: set[str] = set()
        """Ids of screens, as far as they were looked at."""

    @property
    def port(self) -> CallPort:
        """The engine's side."""
        return self._client.calls

    @property
    def push(self) -> bool:
        """Whether one is heard only while the space bar is held."""
        return self._app.settings.push_to_talk

    def who(self, call: Call) -> str:
        """The others, short."""
        titles = {str(room.id): room.title for room in self._rooms.values()}
        return names(call, titles, self.node)

    def account(self, call: Call) -> str:
        """The address of the other one; empty if nobody knows."""
        if call.legs:
            return call.legs[0].account
        room = self._rooms.get(call.room)
        return (room.title if room else "") if call.own else call.account

    def trust(self, call: Call) -> Trust:
        """What is known of their keys."""
        room = self._rooms.get(call.room)
        return trust_of(call, room.trust if room else Trust.UNVERIFIED)

    def quiet(self, call: Call) -> bool:
        """Whether a call is shown without bell, note and title."""
        room = self._rooms.get(call.room)
        muted = room is not None and room.muted
        return muted or self._client.presence.choice.state == "dnd"

    # --- seeing -----------------------------------------------------------------

    def watch(self, see: Callable[[Frame | Levels], None]) -> None:
        """Have a function told of pictures and levels, and no other any more."""
        self._watcher = see
        self.port.watch(see)

    async def look_away(self, see: Callable[[Frame | Levels], None]) -> None:
        """Tell it no longer; unless somebody else is told by now, send no pictures."""
        if self._watcher == see:
            self._watcher = None
            self.port.watch(None)
            await self.port.set_view(View())

    # --- doing ------------------------------------------------------------------

    async def start(self, room: Room, *, video: bool) -> Call | None:
        """Call the other one of a direct chat; None while another call is begun."""
        if self.calling:
            return None
        self.calling = room.title
        try:
            call = await self.port.start(room.id, video=video)
        finally:
            self.calling = ""
        if call.state != "ended":
            await self._begin_quiet(call)
            if video and not call.camera:
                await self.show(call, "camera")
        return call

    async def answer(self, call: Call, *, camera: bool) -> None:
        """Take a call; the camera is on only if that was asked for."""
        if call.id in self._taken:
            return  # the key was pressed twice
        self._taken.add(call.id)
        try:
            await self._begin_quiet(call)
            await self.port.answer(call.id)
        except Exception:
            self._taken.discard(call.id)
            raise
        if camera:
            await self.show(call, "camera")

    async def _begin_quiet(self, call: Call) -> None:
        """With push to talk a call begins muted."""
        if self.push and not call.muted:
            # What is missing the call itself says.
            with contextlib.suppress(MediaError):
                await self.mute(call, True)

    async def end(self, call: Call) -> None:
        """Decline what rings here, hang up anything else."""
        if call.state == "incoming":
            await self.port.decline(call.id)
        else:
            await self.port.hang_up(call.id)

    async def mute(self, call: Call, on: bool) -> None:
        """Say whether one is heard; several quick changes keep their order."""
        async with self._mute:
            await self.port.set_muted(call.id, on)

    async def hold(self, call: Call) -> None:
        """Hold a call, or go on with it."""
        await self.port.set_held(call.id, not call.held)

    async def show(self, call: Call, kind: Literal["camera", "screen"]) -> None:
        """Send a picture of this kind, or none if it is sent already.

        Raises:
            NoPicture: there is nothing of this kind.
        """
        devices = await self.port.devices()
        self._screens = _ids(devices, "screen")
        chosen = self.picture(devices, kind)
        shown = "screen" if self.sharing(call) else "camera" if call.camera else ""
        if shown == kind:
            await self.port.set_camera(call.id, "")
        elif chosen is None:
            raise NoPicture(say(f"call.none.{kind}"))
        else:
            await self.port.set_camera(call.id, chosen.id)

    def sharing(self, call: Call) -> bool:
        """Whether the picture that is sent is a screen."""
        return bool(call.camera) and call.camera in self._screens

    def picture(self, devices: Devices, kind: str) -> Device | None:
        """The camera or screen to take: the one chosen last, the default, the first."""
        found = [one for one in devices.found if one.kind == kind]
        wanted = self._app.settings.camera if kind == "camera" else ""
        if wanted.startswith(FILES):
            return Device("camera", wanted, wanted.partition(":")[2])
        for one in found:
            if wanted and one.id == wanted:
                return one
        return next((one for one in found if one.default), found[0] if found else None)


def _ids(devices: Devices, kind: str) -> set[str]:
    return {one.id for one in devices.found if one.kind == kind}
