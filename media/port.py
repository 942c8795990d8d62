"""What the engine says to the media process and hears from it: values, and the port.

A *leg* is the connection to one other device; a call has as many as there are others
in it. Descriptions (SDP) and policy stay with whoever calls these: media connects what
it is told to, to the DTLS fingerprint that stands in the description and to no other.

Everything here is a frozen Struct that travels as MessagePack over a socket pair
(`media.ipc`); this module loads nothing else.
"""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import msgspec

__all__ = [
    "Candidates",
    "Device",
    "Devices",
    "Event",
    "Exited",
    "Frame",
    "Ice",
    "IceServer",
    "LegState",
    "Levels",
    "MediaError",
    "MediaPort",
    "PeerSays",
    "Quality",
    "Sound",
    "Tone",
    "Trouble",
    "View",
]


class MediaError(Exception):
    """Something that sound or picture needs is not there; the text is a sentence."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        """A stable word: `no_library`, `no_device`, `no_permission`, `bad_offer`,
        `bad_answer`, `no_relay`, `process_lost`, `unknown_leg`, `internal`."""


class Value(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """A value that travels between the two processes."""


class IceServer(Value, frozen=True):
    """A STUN or TURN server (RFC 7064, 7065); with short-lived credentials."""

    urls: tuple[str, ...]
    username: str = ""
    credential: str = ""

    def __repr__(self) -> str:
        return f"IceServer({self.urls!r})"


class Ice(Value, frozen=True):
    """How a leg may be reached."""

    servers: tuple[IceServer, ...] = ()
    relay_only: bool = False
    """Whether only relayed candidates are named and used: it hides our addresses."""


class Sound(Value, frozen=True):
    """Which sound devices, and what is done to the microphone's sound."""

    microphone: str = ""
    """`Device.id`; empty: the system's default."""
    speaker: str = ""
    echo: bool = True
    """Echo cancellation."""
    noise: bool = True
    """Noise suppression."""
    gain: bool = True
    """Automatic gain control."""


class View(Value, frozen=True):
    """What pictures the screen wants: pixels of RGB, and how many in a second."""

    width: int = 0
    """0: none."""
    height: int = 0
    fps: int = 15


class Device(Value, frozen=True):
    """A microphone, speaker, camera or screen."""

    kind: Literal["microphone", "speaker", "camera", "screen"]
    id: str
    """Stable while it is plugged in; `Sound` and `set_camera` take it."""
    name: str
    default: bool = False


class Devices(Value, frozen=True):
    """What there is, and one sentence for each kind of which there is none, why."""

    found: tuple[Device, ...] = ()
    missing: tuple[str, ...] = ()


class Quality(Value, frozen=True):
    """How a leg is doing, over the last second."""

    leg: str
    rtt: float = 0.0
    """Milliseconds there and back; 0: not known yet."""
    loss: float = 0.0
    """Share (0 to 1) of what was sent to us and did not arrive."""
    jitter: float = 0.0
    """Milliseconds, as `delay`."""
    delay: float = 0.0
    """In which sound waits here for what is late."""
    sent: int = 0
    """Bits a second, as `received`."""
    received: int = 0
    audio: str = ""
    """`opus`; empty while there is none."""
    video: str = ""
    """`VP8 320x240@15`, as it arrives."""
    path: Literal["", "direct", "relayed"] = ""
    concealed: float = 0.0
    """Share (0 to 1) of the sound of this second that had to be made up."""


class LegState(Value, frozen=True):
    """What became of a leg."""

    leg: str
    state: Literal["connecting", "connected", "silent", "refused", "failed", "closed"]
    """`silent`: nothing was heard for `SILENT` seconds, it may come back; `refused`:
    the other side's key is not the one of its description; `failed`: no way there."""
    detail: str = ""
    """One sentence, where there is something to say."""


class Candidates(Value, frozen=True):
    """More ways to reach us on a leg, found after its description was given.

    STUN and TURN servers answer when they like; nobody waits for them.
    """

    leg: str
    lines: tuple[str, ...]
    """`candidate:...` (RFC 8839, section 5.1)."""

    def __repr__(self) -> str:
        return f"Candidates({self.leg!r}, {len(self.lines)})"


class PeerSays(Value, frozen=True):
    """What the other side does, told over the leg itself."""

    leg: str
    muted: bool = False
    held: bool = False
    camera: bool = False
    screen: bool = False
    bye: bool = False
    """It hung up."""


class Levels(Value, frozen=True):
    """How loud it is, 0 to 1, five times a second: the loudest since the last time."""

    microphone: float
    speaker: float


class Trouble(Value, frozen=True):
    """A device is missing or went away, or (with an empty text) is there again.

    The call goes on without it.
    """

    kind: Literal["microphone", "speaker", "camera", "screen", "processing", "link"]
    """`link`: the way is too narrow for video."""
    code: str
    """As of `MediaError`, or `narrow` (of a link); empty: all is well again."""
    text: str
    """One sentence: what is missing and how to get it."""


class Frame(Value, frozen=True):
    """A picture for the screen: `width * height * 3` bytes of RGB."""

    leg: str
    """Empty: our own camera."""
    width: int
    height: int
    data: bytes

    def __repr__(self) -> str:
        return f"Frame({self.leg!r}, {self.width}x{self.height})"


class Exited(Value, frozen=True):
    """The media process ended by itself; the legs are gone."""

    detail: str


Event = LegState | Candidates | PeerSays | Quality | Levels | Trouble | Frame | Exited

Tone = Literal["none", "ring", "ringback", "busy", "ended"]

SILENT = 2.5
"""Seconds without any packet after which a leg is `silent`: a peer that is alive
sends at least two in each second."""


class MediaPort(Protocol):
    """Sound and picture, as the engine uses them; `media.supervisor.Media` is it.

    The process starts with the first call of any of these. Each raises `MediaError`.
    Nothing is heard or sent on a leg before `open`.
    """

    def listen(self, hear: Callable[[Event], None]) -> None:
        """Have a function told of each event, on the event loop's thread."""

    async def prepare(self) -> None:
        """Load what is needed, so that a call which rings now starts at once."""

    async def offer(self, leg: str, ice: Ice) -> str:
        """Make a leg and describe our side of it: SDP, with the candidates of now.

        Those that servers find follow as `Candidates`.
        """

    async def answer(self, leg: str, ice: Ice, offer: str) -> str:
        """Make a leg for somebody's offer and describe our side of it.

        Nothing is sent to whoever offers before `open`: their first packet from us
        would tell them where we are.
        """

    async def accept(self, leg: str, answer: str) -> None:
        """Connect a leg that was offered to whom the answer describes."""

    async def add_candidates(self, leg: str, lines: Sequence[str]) -> None:
        """Take in more ways to reach the other side; bad ones are passed over."""

    async def open(self, leg: str) -> None:
        """Let sound and picture flow both ways: the call was accepted.

        A leg that answers connects now.
        """

    async def close(self, leg: str) -> None:
        """End a leg, with a `bye` to the other side; unknown ones are no error."""

    async def set_muted(self, on: bool) -> None:
        """Send silence instead of the microphone."""

    async def set_held(self, on: bool) -> None:
        """Neither send nor play anything, and tell the others."""

    async def set_sound(self, sound: Sound) -> None:
        """Use these devices from now on, also in the middle of a call."""

    async def set_camera(self, device: str) -> None:
        """Send this camera, screen (`Device.id`) or file (`file:PATH`); empty: none."""

    async def set_view(self, view: View) -> None:
        """Send `Frame`s of this size, or none."""

    async def play(self, tone: Tone) -> None:
        """Play a tone until another is asked for."""

    async def devices(self) -> Devices:
        """What is plugged in now."""

    async def stop(self) -> None:
        """End the process and all legs; the next call of anything starts it again."""
