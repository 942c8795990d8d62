"""Calls as a test tells them; and what the screen asked for."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from client.calls.model import Call, CallChanged, CallEnd, CallLeg, CallState
from client.event import Event
from client.model import Trust
from media.port import Device, Devices, Frame, Levels, Quality, Sound, View
from protocol.log import LogId

DEVICES = Devices(
    (
        Device("microphone", "mic-1", "Headset"),
        Device("microphone", "mic-2", "Webcam microphone", True),
        Device("speaker", "out-1", "Headset", True),
        Device("camera", "cam-1", "Webcam"),
        Device("camera", "cam-2", "Microscope"),
        Device("screen", ":0", "Screen :0", True),
    )
)


class FakeCalls:
    """The port of the same name, in memory."""

    def __init__(self, tell: Callable[[Event], None], asked: list[str]) -> None:
        self._tell = tell
        self._asked = asked
        self._calls: dict[str, Call] = {}
        self._count = 0
        self.sound = Sound()
        self.relay_only = False
        self.view = View()
        self.see: Callable[[Frame | Levels], None] | None = None
        self.found: Devices | Exception = DEVICES
        self.refuse: Exception | None = None
        """Why the next thing cannot be done."""
        self.fails = ""
        """Why calls that are made here are over at once."""
        self.hold: asyncio.Event | None = None
        """Wait for this before a call is made: media is being loaded."""
        self.now = 1_795_435_200_000

    # --- what others and the network do --------------------------------------------

    def ring(self, room: LogId, account: str, *, video: bool = False) -> Call:
        """Somebody calls."""
        return self._put(self._make(room, account, "incoming", own=False, video=video))

    def refuse_busy(self, room: LogId, account: str) -> None:
        """Somebody calls, and this device is in another call."""
        call = self._make(room, account, "ended", own=False, video=False)
        self._tell(CallChanged(replace(call, end="busy")))

    def change(self, call: Call | str, **values: object) -> Call:
        """A call goes on."""
        id = call if isinstance(call, str) else call.id
        return self._put(replace(self._calls[id], **values))  # type: ignore[arg-type]

    def connect(
        self,
        call: Call | str,
        account: str,
        *,
        trust: Trust = Trust.UNVERIFIED,
        answered: int = 0,
        **leg: object,
    ) -> Call:
        """The other one is there."""
        one = CallLeg(f"{account}/bb", account, trust, True, **leg)  # type: ignore[arg-type]
        return self.change(
            call, state="running", legs=(one,), answered=answered or self.now
        )

    def end(self, call: Call | str, why: CallEnd, detail: str = "") -> None:
        """A call is over."""
        ended = self.change(call, state="ended", end=why, detail=detail)
        self._calls.pop(ended.id, None)

    def hear(self, value: Frame | Levels) -> None:
        """A picture, or levels."""
        if self.see is not None:
            self.see(value)

    # --- the port --------------------------------------------------------------------

    @property
    def calls(self) -> list[Call]:
        return list(self._calls.values())

    async def start(self, room: LogId, *, video: bool = False) -> Call:
        self._note(f"start {video}")
        if self.hold is not None:
            await self.hold.wait()
        self._check()
        call = self._make(room, "", "calling", own=True, video=video)
        if self.fails:
            call = replace(call, state="ended", end="failed", detail=self.fails)
            self._tell(CallChanged(call))
            return call
        return self._put(call)

    async def answer(self, call: str) -> None:
        self._do(call, "answer")
        self.change(call, state="connecting")

    async def decline(self, call: str) -> None:
        self._do(call, "decline")
        self.end(call, "declined")

    async def hang_up(self, call: str) -> None:
        self._do(call, "hang_up")
        one = self._calls[call]
        self.end(call, "hung_up" if one.answered else "cancelled")

    async def set_muted(self, call: str, on: bool) -> None:
        self._do(call, f"mute {on}")
        self.change(call, muted=on)

    async def set_held(self, call: str, on: bool) -> None:
        self._do(call, f"hold {on}")
        self.change(call, held=on)

    async def set_camera(self, call: str, device: str) -> None:
        self._do(call, f"camera {device or 'off'}")
        self.change(call, camera=device)

    async def set_sound(self, sound: Sound) -> None:
        self._check()
        self._note("sound")
        self.sound = sound

    async def set_relay_only(self, on: bool) -> None:
        self._check()
        self.relay_only = on

    async def devices(self) -> Devices:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    async def set_view(self, view: View) -> None:
        self.view = view

    def watch(self, see: Callable[[Frame | Levels], None] | None) -> None:
        self.see = see

    # --- inside -------------------------------------------------------------------

    def _make(
        self, room: LogId, account: str, state: CallState, *, own: bool, video: bool
    ) -> Call:
        self._count += 1
        id = f"{self._count:032x}"
        return Call(id, room, own, account, video, state, self.now)

    def _put(self, call: Call) -> Call:
        self._calls[call.id] = call
        self._tell(CallChanged(call))
        return call

    def _do(self, call: str, what: str) -> None:
        self._check()
        self._note(f"{what} {int(call, 16)}")
        assert call in self._calls, "the screen speaks of a call that is over"

    def _note(self, what: str) -> None:
        self._asked.append(what)

    def _check(self) -> None:
        if self.refuse is not None:
            error, self.refuse = self.refuse, None
            raise error


GOOD = Quality(
    "leg",
    rtt=42.0,
    loss=0.004,
    jitter=8.0,
    delay=60.0,
    sent=48_200,
    received=52_400,
    audio="opus",
    video="VP8 320x240@15",
    path="direct",
)
