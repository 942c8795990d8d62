"""What an application sees of calls: frozen values, as in `client.model`."""

from dataclasses import dataclass
from typing import Literal

from client.model import Trust
from media.port import Quality
from protocol.log import LogId

__all__ = ["Call", "CallChanged", "CallEnd", "CallLeg", "CallState"]

CallState = Literal[
    "calling", "ringing", "incoming", "connecting", "running", "reconnecting", "ended"
]
"""`calling`: the others are asked; `ringing`: a device of theirs rings; `incoming`:
ours rings; `reconnecting`: it ran, and the way was lost."""

CallEnd = Literal[
    "",
    "hung_up",
    "declined",
    "busy",
    "unanswered",
    "cancelled",
    "elsewhere",
    "lost",
    "refused",
    "failed",
]
"""Why a call ended. `cancelled`: before it was answered, by who called; `elsewhere`:
another device of ours answered or declined; `lost`: the way, for too long; `refused`:
the other side's key was not its own; `failed`: something here is missing."""


@dataclass(frozen=True, slots=True)
class CallLeg:
    """Another device in a call."""

    device: str
    """Its full address."""
    account: str
    trust: Trust
    """Whether its person was verified."""
    connected: bool
    """Whether sound can flow now."""
    muted: bool = False
    held: bool = False
    camera: bool = False
    """Whether it sends a picture."""
    screen: bool = False
    """Whether that picture is its screen."""
    quality: Quality | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A call that rings, runs or has just ended."""

    id: str
    """32 hex digits."""
    room: LogId
    own: bool
    """Whether this account called."""
    account: str
    """Who called."""
    video: bool
    """Whether the caller asked for a picture."""
    state: CallState
    began: int
    """Milliseconds since 1970, at the hub, when it began to ring."""
    answered: int = 0
    """Milliseconds since 1970, of this device; 0: not yet."""
    legs: tuple[CallLeg, ...] = ()
    """The other devices that take part."""
    muted: bool = False
    held: bool = False
    camera: str = ""
    """What is sent as a picture (`media.port.Device.id`); empty: nothing."""
    end: CallEnd = ""
    detail: str = ""
    """One sentence: why it ended, or what is wrong with it."""
    trouble: tuple[str, ...] = ()
    """A sentence for each thing that is missing while it goes on: a microphone."""


@dataclass(frozen=True, slots=True)
class CallChanged:
    """A call began, went on or ended."""

    call: Call
