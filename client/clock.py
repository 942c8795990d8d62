"""Time at this device, and how far its clock is from the node's.

Signatures carry a time that the node checks within minutes; a laptop's clock can be
wrong by hours. The node says its time in every session and in the refusal of a
request, so the difference is learned and signatures are made in the node's time.
"""

import time

__all__ = ["Clock"]


class Clock:
    """Unix time, with the offset to the node's clock."""

    def __init__(self) -> None:
        self.offset = 0
        """Seconds by which the node's clock is ahead of ours."""

    def now(self) -> int:
        """Seconds since 1970, as the node counts them."""
        return int(time.time()) + self.offset

    def now_ms(self) -> int:
        """Milliseconds since 1970, as the node counts them."""
        return int(time.time() * 1000) + self.offset * 1000

    def learn(self, node_time: int) -> None:
        """The node said that it is this time there."""
        self.offset = node_time - int(time.time())
