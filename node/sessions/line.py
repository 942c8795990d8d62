"""What a session writes to: the way to a device, whatever it is made of."""

from collections.abc import Sequence
from typing import Protocol

from protocol.codec import encode
from protocol.wire import Entries, FromNode

__all__ = ["Line", "SharedEntries"]


class SharedEntries:
    """A frame of entries that goes to many devices: packed once, for all of them."""

    __slots__ = ("_packed", "frame", "size")

    def __init__(self, frame: Entries) -> None:
        self.frame = frame
        self.size = sum(map(len, frame.entries))
        """Bytes of its entries: what counts against a window."""
        self._packed: bytes | None = None

    @property
    def last(self) -> int:
        """The seq of its last entry."""
        return self.frame.after + len(self.frame.entries)

    @property
    def packed(self) -> bytes:
        """The frame in MessagePack."""
        if self._packed is None:
            self._packed = encode(self.frame)
        return self._packed


class Line(Protocol):
    """The way to a device. It tells its session (`Session.touch`) when it is ready
    again, and whoever opened it when it is gone."""

    @property
    def ready(self) -> bool:
        """Whether it takes more than answers now: what went before is on its way."""

    def send(self, frames: Sequence[FromNode | SharedEntries]) -> None:
        """Send these; never waits."""

    def end(self) -> None:
        """Send nothing more, and close behind what was sent."""
