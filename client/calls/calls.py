"""What applications do with calls: `client.calls`."""

import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from client.account.me import set_meta
from client.calls.may import check_room
from client.calls.model import Call
from client.calls.ongoing import Ongoing
from client.calls.works import RELAY_ONLY, SOUND, Works
from client.errors import CallRefused
from media.port import Devices, Frame, Levels, MediaError, Sound, View
from protocol.codec import encode
from protocol.log import LogId

__all__ = ["Calls"]

T = TypeVar("T", bool, str)

OVER = "This call is over already."


class Calls(Works):
    """The calls that ring and run at this device."""

    # --- for applications ---------------------------------------------------------

    @property
    def calls(self) -> Sequence[Call]:
        """Those that ring or run; `CallChanged` says what becomes of them."""
        return [self._shown(call) for call in self._machine.calls.values()]

    @property
    def sound(self) -> Sound:
        """The sound devices of this machine that are used, and how."""
        return self._sound

    @property
    def relay_only(self) -> bool:
        """Whether the other side learns no address of this machine."""
        return self._relay_only

    async def start(self, room: LogId, *, video: bool = False) -> Call:
        """Call the other one in a direct chat; answers, if they call just now.

        The call may be over already (`Call.end`): where no sound can be had.

        Raises:
            UnknownRoom, RoomInactive, CallRefused: nobody can be called there now.
            KeyChanged: their keys changed, and it is not decided what counts.
        """
        account = await self._store.run(lambda tx: check_room(tx, room))
        for call in self._machine.calls.values():
            if call.incoming and call.room == room:
                await self.answer(call.shown)
                return self._shown(call)
        self._check_free("call")
        self._servers.want()
        self._hurry()
        id = secrets.token_hex(16)
        self._do(self._machine.start(id, room, [account], video, self._now()))
        return self._shown(self._get(id))

    async def answer(self, call: str) -> None:
        """Take a call that rings.

        Raises:
            CallRefused: it is over, or this device is in another one.
            RoomInactive, KeyChanged: nothing can be said there now, and why.
        """
        found = self._get(call)
        await self._store.run(lambda tx: check_room(tx, found.room))
        if found.incoming:
            self._check_free("answer")
        self._get(call)
        self._do(self._machine.accept(found.id, self._now()))

    async def decline(self, call: str) -> None:
        """Do not take a call that rings, on none of our devices.

        Raises:
            CallRefused: it is over.
        """
        found = self._get(call)
        self._do(self._machine.decline(found.id, self._now()))
        await self._settled()

    async def hang_up(self, call: str) -> None:
        """End a call, or stop calling; one that is over already is no error."""
        found = self._find(call)
        if found is not None and not found.end:
            self._do(self._machine.hang_up(found.id, self._now()))
            await self._settled()

    async def set_muted(self, call: str, on: bool) -> None:
        """Send silence instead of the microphone, or no more.

        Raises:
            CallRefused, MediaError.
        """
        found = self._switchable(call)
        await self._switch(found, "muted", on, self._stage.media.set_muted)

    async def set_held(self, call: str, on: bool) -> None:
        """Neither send nor play anything, or again; the others are told.

        Raises:
            CallRefused, MediaError.
        """
        found = self._switchable(call, taken=True)
        await self._switch(found, "held", on, self._stage.media.set_held)

    async def set_camera(self, call: str, device: str) -> None:
        """Send this camera or screen (`media.port.Device.id`); empty: none.

        Raises:
            CallRefused, MediaError.
        """
        found = self._switchable(call, taken=True)
        await self._switch(found, "camera", device, self._stage.media.set_camera)

    async def set_sound(self, sound: Sound) -> None:
        """Use these sound devices from now on, at this machine.

        Raises:
            MediaError: they are kept, and cannot be used now.
        """
        self._sound = sound
        await self._store.run(lambda tx: set_meta(tx, SOUND, encode(sound)))
        if self._stage.used:
            await self._stage.media.set_sound(sound)

    async def set_relay_only(self, on: bool) -> None:
        """Tell nobody the addresses of this machine in calls that begin from now on."""
        self._relay_only = on
        await self._store.run(lambda tx: set_meta(tx, RELAY_ONLY, b"1" if on else b""))

    async def devices(self) -> Devices:
        """The sound devices, cameras and screens that are plugged in now.

        Raises:
            MediaError: they cannot be listed.
        """
        return await self._stage.media.devices()

    async def set_view(self, view: View) -> None:
        """How large the pictures are that `watch` is shown; width 0: none.

        Raises:
            MediaError.
        """
        self._view = view
        if self._stage.used:
            await self._stage.media.set_view(view)

    def watch(self, see: Callable[[Frame | Levels], None] | None) -> None:
        """Have a function shown pictures (`Frame.leg` is a device) and levels."""
        self._see = see

    def _check_free(self, what: str) -> None:
        if self._machine.occupied:
            raise CallRefused(f"You are in a call already: end it first, then {what}.")

    def _switchable(self, id: str, *, taken: bool = False) -> Ongoing:
        """A call whose switches are those of the media process."""
        found = self._get(id)
        if found.incoming:
            self._check_free("answer")
            if taken:
                raise CallRefused("This call is not answered yet: answer it first.")
        return found

    async def _switch(
        self, call: Ongoing, name: str, value: T, switch: Callable[[T], Awaitable[None]]
    ) -> None:
        # Noted first: what is wanted when the media process is told again is this.
        before = getattr(call, name)
        setattr(call, name, value)
        try:
            await switch(value)
        except MediaError:
            if not call.end:
                setattr(call, name, before)
            raise
        self._tell(call)

    def _get(self, id: str) -> Ongoing:
        found = self._find(id)
        if found is None or found.end:
            raise CallRefused(found.detail if found and found.detail else OVER)
        return found
