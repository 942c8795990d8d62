"""Sound and picture without any: two of these connect through what they describe.

Each description names a token; `accept` with the answer to an offer connects the two
legs, if the air is clear. Tests cut and heal ways, break and crash it, and look at
what is open, muted or played.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

from media.port import (
    Candidates,
    Device,
    Devices,
    Event,
    Exited,
    Ice,
    LegState,
    MediaError,
    PeerSays,
    Sound,
    Tone,
    View,
)

__all__ = ["Air", "FakeMedia", "Leg"]

MARK = "a=fingerprint:sha-256 planted-sdp"
"""Stands in each description: nobody but the two sides ever sees it."""

State = Literal["new", "connected", "silent", "closed"]


@dataclass
class Leg:
    """One side of a leg."""

    name: str
    token: str
    media: FakeMedia
    ice: Ice
    to: str = ""
    """The token of the other side, once it is known."""
    open: bool = False
    state: State = "new"
    candidates: list[str] = field(default_factory=list)


@dataclass
class Air:
    """What lies between: all legs of a test, by token."""

    legs: dict[str, Leg] = field(default_factory=dict)
    clear: bool = True
    """Whether new legs connect."""
    liar: bool = False
    """Whether whoever answers has another key than it described."""
    numbers: count[int] = field(default_factory=lambda: count(1))

    def meet(self, one: Leg) -> None:
        """Connect two legs that know each other."""
        other = self.legs.get(one.to)
        if other is None or other.to != one.token:
            return
        if self.liar:
            other.media.tell(LegState(other.name, "refused", "The key is another."))
        elif self.clear and one.state == other.state == "new":
            for leg in (one, other):
                leg.state = "connected"
                leg.media.tell(LegState(leg.name, "connected"))

    def cut(self) -> None:
        """Nothing gets through any more, on no leg."""
        self.clear = False
        self._turn("connected", "silent")

    def heal(self, *, old: bool = False) -> None:
        """New legs connect again; `old`: the old ones come back too."""
        self.clear = True
        if old:
            self._turn("silent", "connected")
        for leg in list(self.legs.values()):
            self.meet(leg)

    def _turn(
        self,
        before: Literal["connected", "silent"],
        after: Literal["connected", "silent"],
    ) -> None:
        for leg in self.legs.values():
            if leg.state == before:
                leg.state = after
                leg.media.tell(LegState(leg.name, after))


class FakeMedia:
    """A `MediaPort` in memory."""

    def __init__(self, air: Air) -> None:
        self.air = air
        self.legs: dict[str, Leg] = {}
        self.tones: list[Tone] = []
        self.broken: MediaError | None = None
        """Raised by whatever is asked for."""
        self.slow: asyncio.Event | None = None
        """Descriptions wait for it."""
        self.muted = self.held = False
        self.camera = ""
        self.opening: asyncio.Event | None = None
        """A camera that opens waits for it, and what is asked of cameras after it."""
        self._cameras = asyncio.Lock()
        self.sound = Sound()
        self.view = View()
        self.stops = 0
        self._hear: list[Callable[[Event], None]] = []

    @property
    def connected(self) -> list[Leg]:
        """Its legs on which sound can flow."""
        return [leg for leg in self.legs.values() if leg.state == "connected"]

    def tell(self, event: Event) -> None:
        """Have an event told, a moment later."""
        loop = asyncio.get_running_loop()
        for hear in self._hear:
            loop.call_soon(hear, event)

    def crash(self) -> None:
        """The process is gone."""
        for leg in self.legs.values():
            self.air.legs.pop(leg.token, None)
            other = self.air.legs.get(leg.to)
            if leg.state == "connected" and other is not None:
                other.state = "silent"
                other.media.tell(LegState(other.name, "silent"))
        self.legs.clear()
        self.tell(Exited("Sound and picture ended by themselves."))

    def find(self, line: str) -> None:
        """A server answered: another way to reach each leg."""
        for leg in self.legs.values():
            self.tell(Candidates(leg.name, (line,)))

    # --- as the engine uses it ------------------------------------------------------

    def listen(self, hear: Callable[[Event], None]) -> None:
        self._hear.append(hear)

    async def prepare(self) -> None:
        self._check()

    async def offer(self, leg: str, ice: Ice) -> str:
        made = await self._make(leg, ice)
        return f"offer {made.token}\r\n{MARK}\r\n"

    async def answer(self, leg: str, ice: Ice, offer: str) -> str:
        made = await self._make(leg, ice)
        made.to = _token(offer)
        self.air.meet(made)
        return f"answer {made.token}\r\n{MARK}\r\n"

    async def accept(self, leg: str, answer: str) -> None:
        self._check()
        made = self._leg(leg)
        made.to = _token(answer)
        self.air.meet(made)

    async def add_candidates(self, leg: str, lines: Sequence[str]) -> None:
        self._check()
        self._leg(leg).candidates += lines

    async def open(self, leg: str) -> None:
        self._check()
        self._leg(leg).open = True

    async def close(self, leg: str) -> None:
        made = self.legs.pop(leg, None)
        if made is None:
            return
        self.air.legs.pop(made.token, None)
        other = self.air.legs.get(made.to)
        if made.state == "connected" and other is not None:
            other.state = "closed"
            other.media.tell(PeerSays(other.name, bye=True))

    async def set_muted(self, on: bool) -> None:
        self._check()
        self.muted = on
        self._say()

    async def set_held(self, on: bool) -> None:
        self._check()
        self.held = on
        self._say()

    async def set_sound(self, sound: Sound) -> None:
        self._check()
        self.sound = sound

    async def set_camera(self, device: str) -> None:
        self._check()
        if device == "broken":
            raise MediaError("no_permission", "This camera cannot be opened.")
        async with self._cameras:
            if device and self.opening is not None:
                await self.opening.wait()
            self.camera = device
            self._say()

    async def set_view(self, view: View) -> None:
        self.view = view

    async def play(self, tone: Tone) -> None:
        self._check()
        self.tones.append(tone)

    async def devices(self) -> Devices:
        self._check()
        return Devices((Device("camera", "cam", "A camera", True),))

    async def stop(self) -> None:
        self.stops += 1
        for leg in list(self.legs):
            await self.close(leg)

    # --- how --------------------------------------------------------------------------

    def _check(self) -> None:
        if self.broken is not None:
            raise self.broken

    def _leg(self, name: str) -> Leg:
        if name not in self.legs:
            raise MediaError("unknown_leg", "There is no such leg.")
        return self.legs[name]

    async def _make(self, name: str, ice: Ice) -> Leg:
        self._check()
        if self.slow is not None:
            await self.slow.wait()
        token = str(next(self.air.numbers))
        made = self.legs[name] = self.air.legs[token] = Leg(name, token, self, ice)
        return made

    def _say(self) -> None:
        for leg in self.connected:
            other = self.air.legs.get(leg.to)
            if other is not None:
                camera = bool(self.camera)
                said = PeerSays(other.name, self.muted, self.held, camera)
                other.media.tell(said)


def _token(sdp: str) -> str:
    if MARK not in sdp:
        raise MediaError("bad_offer", "This is no description of a call.")
    return sdp.split()[1]
