"""What the machine wants done: each is one step, which `calls` or `stage` takes."""

from dataclasses import dataclass

from client.content.calling import CallEnd, Signal
from client.quiet import Quiet
from media.port import Tone
from protocol.log import LogId

__all__ = [
    "Accept",
    "Add",
    "Answer",
    "Close",
    "Leave",
    "Offer",
    "Open",
    "Play",
    "Restore",
    "Say",
    "Show",
    "Want",
]


@dataclass(frozen=True, slots=True, repr=False)
class Say(Quiet):
    """Write a content into a room's log, behind what was said before."""

    room: LogId
    call: str
    body: Signal


@dataclass(frozen=True, slots=True, repr=False)
class Leave(Quiet):
    """Say no more of a call: take back what has not left, and say that it ended.

    If nobody can have heard that this device is in it, nothing is said.
    """

    room: LogId
    call: str
    body: CallEnd | None
    """None: nobody was invited, or another invite takes the place of ours."""


@dataclass(frozen=True, slots=True)
class Offer:
    """Make a leg and describe it."""

    leg: str


@dataclass(frozen=True, slots=True, repr=False)
class Answer(Quiet):
    """Make a leg for a description, and describe our side."""

    leg: str
    sdp: str


@dataclass(frozen=True, slots=True, repr=False)
class Accept(Quiet):
    """Connect a leg that we offered."""

    leg: str
    sdp: str


@dataclass(frozen=True, slots=True, repr=False)
class Add(Quiet):
    """More ways to the other side of a leg."""

    leg: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Open:
    """Let sound and picture flow on a leg."""

    leg: str


@dataclass(frozen=True, slots=True)
class Close:
    """End a leg."""

    leg: str


@dataclass(frozen=True, slots=True)
class Play:
    """Play a tone, until another is wanted."""

    tone: Tone


@dataclass(frozen=True, slots=True)
class Restore:
    """The media process is a new one: mute, hold and camera are to be set again."""


@dataclass(frozen=True, slots=True)
class Show:
    """A call changed: tell the screens."""

    call: str


Want = (
    Say | Leave | Offer | Answer | Accept | Add | Open | Close | Play | Restore | Show
)
