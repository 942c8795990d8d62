"""The jitter buffer: packets in as they come, 20 ms of sound out whenever asked."""

from typing import NamedTuple

from media.audio.opus import Decoder, Pcm

__all__ = ["JitterBuffer", "Stats"]


class Stats(NamedTuple):
    """What a buffer has done so far; counts are of blocks (20 ms)."""

    delay_ms: float = 0.0
    """Which sound waits here, beyond the fastest way a packet took."""
    target_ms: float = 0.0
    """Which it ought to wait."""
    jitter_ms: float = 0.0
    """Interarrival jitter (RFC 3550, section 6.4.1)."""
    played: int = 0
    recovered: int = 0
    """Lost, and repaired by in-band FEC."""
    concealed: int = 0
    """Lost or late, and made up."""
    silent: int = 0
    """Nothing was sent (DTX), or nothing has come yet."""
    late: int = 0
    """Packets that came after their time, or twice."""


class JitterBuffer:
    """Made by one leg; `put` and `get` may be in different threads."""

    stats: Stats

    def __init__(self, decoder: Decoder | None = None) -> None:
        """Raises `MediaError` (`no_library`)."""
        raise NotImplementedError

    def put(self, seq: int, timestamp: int, payload: bytes, now: float) -> None:
        """Take in a packet; `now`: when it came, in seconds of a monotonic clock."""
        raise NotImplementedError

    def put_redundant(self, seq: int, timestamp: int, payload: bytes) -> None:
        """Take in the copy of an earlier packet that a later one carried (RFC 2198).

        Before the `put` of the packet that carried it.
        """
        raise NotImplementedError

    def get(self, now: float) -> Pcm:
        """Give the next 960 samples: always, at once, and without an exception."""
        raise NotImplementedError

    def reset(self) -> None:
        """Forget the stream, for another one (SSRC) begins; the counts go on."""
        raise NotImplementedError
