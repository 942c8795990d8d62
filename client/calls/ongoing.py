"""A call as one device lives through it."""

from dataclasses import dataclass, field
from enum import Enum, auto

from client.calls.links import Link
from client.calls.model import CallEnd
from protocol.log import LogId

__all__ = ["BUSY_WAIT", "LOST", "Ongoing", "Stage"]

BUSY_WAIT = 3_000
"""Milliseconds in which another device of a busy person may begin to ring."""

LOST = 30_000
"""Milliseconds without any way after which a call is over."""


class Stage(Enum):
    """How far this device is."""

    ASKING = auto()
    """We called, and nobody answered yet."""
    INCOMING = auto()
    """It rings."""
    ACCEPTED = auto()
    """Our person took it; the log does not say yet that we were the first."""
    INSIDE = auto()
    ENDED = auto()


@dataclass(slots=True)
class Ongoing:
    """A call that rings or runs; times are the machine's, in milliseconds."""

    id: str
    """As the log names it."""
    room: LogId
    caller: str
    """A device."""
    video: bool
    stage: Stage
    since: int
    """When it began here."""
    shown: str = ""
    """As the screens name it: the same from the beginning to the end."""
    own: bool = False
    """Whether our person called."""
    began: int = 0
    """Milliseconds since 1970, at the hub; 0: its invite is not in the log."""
    invited: tuple[str, ...] = ()
    offer: str = field(default="", repr=False)
    """The description in the invite."""
    until: int | None = None
    """When it stops ringing."""
    quiet: bool = False
    links: dict[str, Link] = field(default_factory=dict)
    """By device; under an empty name whoever answers."""
    said: bool = False
    """Whether our invite or our answer is on its way."""
    read: bool = False
    """Whether it stands in the log."""
    inside: bool = False
    """Whether the log says that this device is in it."""
    rung: bool = False
    """Whether a device of the others rings."""
    busy_since: int | None = None
    lost_since: int | None = None
    """Since when no way leads anywhere, once it was answered."""
    connected_at: int | None = None
    """When the first leg stood."""
    prepared: int = 0
    restarts: int = 0
    failures: int = 0
    muted: bool = False
    held: bool = False
    camera: str = ""
    end: CallEnd = ""
    detail: str = ""

    def __post_init__(self) -> None:
        self.shown = self.shown or self.id

    @property
    def asking(self) -> bool:
        """Whether we called, and nobody answered yet."""
        return self.stage is Stage.ASKING

    @property
    def incoming(self) -> bool:
        """Whether it rings here."""
        return self.stage is Stage.INCOMING

    def seconds(self, now: int) -> int:
        """How long this device was connected."""
        return 0 if self.connected_at is None else (now - self.connected_at) // 1000

    def times(self) -> list[int]:
        """When something about it is due."""
        times = [self.until]
        if self.busy_since is not None:
            times.append(self.busy_since + BUSY_WAIT)
        if self.lost_since is not None:
            times.append(self.lost_since + LOST)
        for link in self.links.values():
            times += (link.offer_at, link.byes_until)
        return [time for time in times if time is not None]
