"""A leg: the connection to one other device, from its description to its end.

Who offers connects as soon as it has an answer. Who answers does so at `open`: until
the person has accepted, nothing is sent to the caller, who would learn their address
from the first packet. No sound or picture flows either way before `open`. Whoever
answers is the one whose key stands in the description, or the leg is refused. It does
not end because it is silent: that is for the engine to say.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from aiortc import RTCDataChannel, RTCSessionDescription

from media.audio.jitter import JitterBuffer, Stats
from media.port import (
    SILENT,
    Candidates,
    Event,
    Ice,
    LegState,
    MediaError,
    PeerSays,
    Quality,
    Trouble,
)
from media.rtc import channel, description
from media.rtc.ice import Gatherer
from media.rtc.peer import RED, Peer
from media.rtc.session import Session
from media.video.camera import PictureSource

if TYPE_CHECKING:
    import av

__all__ = ["Leg"]

log = logging.getLogger(__name__)

CONNECT = 20.0
"""Seconds for a leg to connect after both sides know of each other: STUN repeats its
checks up to 16 s, a lost handshake costs one."""

WATCH = 0.25
"""Seconds between two looks whether the other side is heard."""

SAYS_EVERY = 0.1
"""Seconds between two states of the other side that are told: the last one counts, and
it could send a thousand in a second, each of which is work for engine and screen."""

GOODBYE = 0.05
"""Seconds that a `bye` has to leave before the connection is closed."""

MAX_CANDIDATES = 64
"""Of the other side, in all: each is a place that we send checks to."""

REFUSED = (
    "The other side's key is not the one in its call: somebody may be between you."
    " Nothing was sent; call again, and verify each other if it happens again."
)
UNREACHABLE = (
    "The other side cannot be reached from this network: try another network, or ask"
    " your node's admin for a TURN server."
)
ENDED = "The connection was closed by the other side."
NARROW = "The way to the other side is too slow for pictures; sound goes on."


class Leg:
    """The connection to one other device.

    `offer`, then `accept`; or `answer`. Then `open` once the call was accepted, and
    `close`. What happens is told through `hear`, on the event loop's thread.
    """

    def __init__(
        self,
        name: str,
        ice: Ice,
        hear: Callable[[Event], None],
        pictures: PictureSource,
        show: "Callable[[av.VideoFrame], None]",
    ) -> None:
        """Prepare; MediaError `no_library` if Opus cannot be loaded.

        Args:
            name: `leg` in all events.
            ice: servers, and whether our addresses are hidden.
            hear: gets the events.
            pictures: what is sent while there is a camera (`tell`).
            show: gets the other side's pictures as they are due.
        """
        self.name = name
        self.buffer = JitterBuffer()
        self.on_rate: Callable[[int, float], None] = lambda bitrate, loss: None
        """Bits a second that the path takes for Opus, and the share it loses."""
        self.state = "new"
        self._hear = hear
        self._says = channel.State()
        self._heard: channel.State | None = None
        self._passed_on: channel.State | None = None
        self._passing: asyncio.TimerHandle | None = None
        self._narrow = False
        self._gatherer = Gatherer(ice, self._found)
        self._session = Session(
            self.buffer, pictures, show, self._rate_changed, self._narrowed
        )
        self._peer = Peer(self._gatherer.configure(), self._session)
        self._channel: RTCDataChannel | None = None
        self._candidates = 0
        self._kept: list[str] | None = None
        """The caller's candidates, until the call is accepted."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._opened = False
        self._closing = self._leaving = False
        self._deadline: float | None = None
        self._connected = 0.0
        self._before = Stats()
        self._quality = Quality(leg=name)

    # --- descriptions ---------------------------------------------------------------

    async def offer(self) -> str:
        """Describe our side (SDP); what servers find follows as `Candidates`."""
        self._prepare(("audio", "video", "application"))
        self._peer.set_red(RED)
        await self._describe()
        return description.clean(self._peer.localDescription.sdp)

    async def answer(self, sdp: str) -> str:
        """Take an offer and describe our side of it; `open` connects.

        Raises:
            MediaError: `bad_offer`: it cannot be used.
        """
        theirs = description.read(sdp, "bad_offer")
        self._kept = None if self._opened else []
        self._prepare(theirs.kinds)
        await self._take(theirs, "offer")
        await self._describe()
        self._connecting(theirs)
        return description.clean(self._peer.localDescription.sdp)

    async def accept(self, sdp: str) -> None:
        """Connect to whom this answer describes.

        Raises:
            MediaError: `bad_answer`: it cannot be used.
        """
        theirs = description.read(sdp, "bad_answer")
        await self._take(theirs, "answer")
        self._start_deadline()
        self._connecting(theirs)

    def _prepare(self, kinds: Sequence[str]) -> None:
        """Lines in the order of the bundle: aiortc makes the first its transport."""
        for kind in (*kinds, *({"audio", "video"} - set(kinds))):
            if kind == "application":
                self._channel = self._peer.add_channel()
                self._channel.on("open", self._repeat)
                self._channel.on("message", self._told)
            else:
                self._peer.add_line(kind)
        self._gatherer.attach(self._peer)
        self._session.attach(self._peer)
        self._peer.on("connectionstatechange", self._changed)

    async def _describe(self) -> None:
        try:
            await self._peer.setLocalDescription()
        except MediaError:
            raise
        except OSError as error:
            raise MediaError(
                "internal",
                "No network socket could be opened for the call"
                f" ({error.strerror}): see that there is a network, then call again.",
            ) from error

    async def _take(self, theirs: description.Description, kind: str) -> None:
        """Give aiortc a description; what it cannot use is the other side's fault."""
        self._peer.set_red(theirs.red)
        try:
            await self._peer.setRemoteDescription(
                RTCSessionDescription(sdp=theirs.text, type=kind)
            )
        except Exception as error:
            # It fails in many ways, none of which says more to a person.
            log.warning("a description was refused: %s", type(error).__name__)
            raise description.bad(f"bad_{kind}", "its lines") from error

    def _connecting(self, theirs: description.Description) -> None:
        self._emit("connecting")
        self.add_candidates(theirs.candidates)
        self._spawn(self._watch())

    def add_candidates(self, lines: Sequence[str]) -> None:
        """Take in ways to reach the other side; bad ones are passed over."""
        if self._kept is not None:
            self._kept += lines[: MAX_CANDIDATES - len(self._kept)]
            return
        for line in lines:
            candidate = description.read_candidate(line)
            if candidate is not None and self._candidates < MAX_CANDIDATES:
                self._candidates += 1
                self._spawn(self._peer.transport.ice.add_remote_candidate(candidate))

    def _found(self, lines: list[str]) -> None:
        if not self._closing:
            self._hear(Candidates(self.name, tuple(lines)))

    # --- media ----------------------------------------------------------------------

    def open(self) -> None:
        """Let sound and pictures flow both ways."""
        self._opened = self._session.open = True
        kept, self._kept = self._kept, None
        self.add_candidates(kept or ())
        self._start_deadline()
        self._session.replan()

    def send_audio(self, payload: bytes | None, timestamp: int) -> None:
        """Send 20 ms of sound, encoded; None: silence, nothing is sent (DTX).

        `timestamp`: in samples of 48,000 Hz, also counted on in silence.
        """
        self._session.send_audio(payload, timestamp)

    def tell(self, muted: bool, held: bool, camera: bool, screen: bool) -> None:
        """Say what our side does; the camera's pictures are sent while one is on."""
        if held and not self._session.held:
            self._session.pause()
        self._says = channel.State(muted, held, camera, screen)
        self._session.held = held
        self._session.camera = camera or screen
        self._session.replan()
        self._repeat()

    def _repeat(self) -> None:
        """Say it (again); pictures that are not sent are a camera that is off."""
        says = self._says
        if self._narrow:
            says = channel.State(says.muted, says.held)
        self._send(says)
        if self._leaving:
            self._send(channel.Bye())

    def _send(self, message: channel.Message) -> None:
        if self._channel is not None and self._channel.readyState == "open":
            with contextlib.suppress(ConnectionError, ValueError):
                self._channel.send(channel.write(message))

    def _told(self, data: object) -> None:
        match channel.read(data):
            case channel.State() as state:
                self._heard = state
                if self._passing is None:
                    self._pass_on()
            case channel.Bye():
                self._hear(PeerSays(self.name, bye=True))

    def _pass_on(self) -> None:
        """Tell what the other side does, if that is news."""
        self._passing = None
        says = self._heard
        if says is None or says == self._passed_on or self._closing:
            return
        self._passed_on = says
        self._hear(PeerSays(self.name, says.muted, says.held, says.camera, says.screen))
        loop = asyncio.get_running_loop()
        self._passing = loop.call_later(SAYS_EVERY, self._pass_on)

    def _rate_changed(self, bitrate: int, loss: float) -> None:
        self.on_rate(bitrate, loss)

    def _narrowed(self, narrow: bool) -> None:
        self._narrow = narrow
        self._repeat()
        code, text = ("narrow", NARROW) if narrow else ("", "")
        self._hear(Trouble("link", code, text))

    # --- states ---------------------------------------------------------------------

    def _emit(self, state: Any, detail: str = "") -> None:
        if state == self.state or self.state in ("refused", "failed", "closed"):
            return
        self.state = state
        self._hear(LegState(self.name, state, detail))

    def _start_deadline(self) -> None:
        if self._deadline is None and not self._connected:
            self._deadline = time.monotonic() + CONNECT

    def _changed(self) -> None:
        """aiortc's state is another one."""
        match self._peer.connectionState:
            case "connected":
                self._connected = self._peer.transport.heard = time.monotonic()
                self._session.start()
                self._spawn(self._measure())
                self._emit("connected")
            case "failed":
                if self._peer.transport.refused:
                    self._emit("refused", REFUSED)
                else:
                    self._emit("failed", UNREACHABLE)
                self._spawn(self._end())
            case "closed" if not self._closing:
                self._emit("closed", ENDED)
                self._spawn(self._end())

    async def _watch(self) -> None:
        """See whether it connects in time, and whether the other side is heard."""
        while not self._closing:
            await asyncio.sleep(WATCH)
            now = time.monotonic()
            if self._connected:
                silent = now - self._peer.transport.heard > SILENT
                self._emit("silent" if silent else "connected")
            elif self._deadline is not None and now > self._deadline:
                self._emit("failed", UNREACHABLE)
                self._spawn(self._end())
                return

    async def _measure(self) -> None:
        """Say each second how it goes."""
        while not self._closing:
            await asyncio.sleep(1.0)
            self._quality = self._look()
            self._hear(self._quality)

    def quality(self) -> Quality:
        """How it went in the last second."""
        return self._quality

    def _look(self) -> Quality:
        counts = self._session.second()
        stats, before = self.buffer.stats, self._before
        self._before = stats
        made_up = stats.concealed - before.concealed
        blocks = made_up + stats.played - before.played
        blocks += stats.recovered - before.recovered
        return Quality(
            leg=self.name,
            rtt=self._session.rtt * 1000,
            loss=counts.loss,
            jitter=stats.jitter_ms,
            delay=stats.delay_ms,
            sent=counts.sent,
            received=counts.received,
            audio="opus" if counts.sound else "",
            video=counts.video,
            path=self._gatherer.path,
            concealed=made_up / blocks if blocks > 0 else 0.0,
        )

    # --- the end --------------------------------------------------------------------

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a part of a leg has failed: %s", type(error).__name__)

    async def close(self, bye: bool = True) -> None:
        """End it; with a `bye`, so that the other side does not wait."""
        if bye and not self._closing and self._connected:
            self._leaving = True
            self._repeat()
            await asyncio.sleep(GOODBYE)
        self._emit("closed")
        await self._end()

    async def _end(self) -> None:
        """Give back sockets, threads and tasks."""
        if self._closing:
            return
        self._closing = True
        await self._session.close()
        await self._peer.close()
        ours = asyncio.current_task()
        for task in list(self._tasks):
            if task is not ours:
                task.cancel()
        self._peer.remove_all_listeners()
