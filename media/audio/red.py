"""Redundancy (RFC 2198): each packet carries copies of the ones before it.

In-band FEC repairs a packet from the one that follows it, so it is of no use when two
are lost in a row. Two copies repair bursts of up to two, at three times the bits: it is
for paths that lose a lot and are wide enough.

Measured with synthetic speech at 48 kbit/s (PESQ-WB, mean of three runs): 10 % lost
one by one 3.4 -> 3.9, in bursts of three on average 2.1 -> 2.6; sound waits 20 ms more.
"""

from collections import deque
from typing import Final, NamedTuple

__all__ = ["Copy", "Redundancy", "parse"]

DISTANCE: Final = 2
"""How many earlier packets each one carries."""
FARTHEST: Final = (1 << 14) - 1
"""Samples that a copy may lie back: its field has 14 bits (341 ms)."""
LARGEST: Final = (1 << 10) - 1
"""Bytes of a copy: its field has 10 bits."""
MOST: Final = 8
"""Copies that are looked at in one packet; nobody sends more."""
MTU: Final = 1100
"""Bytes of a packet with copies: no more than fits a path beside SRTP and TURN."""
ON: Final = 0.04
OFF: Final = 0.02
"""Loss at which copies begin, and at which they end: with 0.06 and 0.03, PESQ of whole
calls was 0.15 less with 5 % lost and 0.3 less with 10 %."""


class Copy(NamedTuple):
    """A packet that a later one carried."""

    back: int
    """How many packets before."""
    earlier: int
    """How many samples before."""
    payload: bytes


class Redundancy:
    """The sending side. Tell it `loss`, and wrap each payload that is sent."""

    def __init__(self, payload_type: int) -> None:
        """`payload_type`: that of what is carried, not of RED itself."""
        self._type = payload_type & 0x7F
        self._sent: deque[tuple[int, bytes]] = deque(maxlen=DISTANCE)
        self._on = False

    @property
    def on(self) -> bool:
        """Whether copies are sent now."""
        return self._on

    def tune(self, loss: float) -> None:
        """Say what share (0 to 1) of our packets gets lost."""
        self._on = loss >= (OFF if self._on else ON)

    def note(self, payload: bytes, timestamp: int) -> None:
        """Keep what is sent without copies: those that follow may carry it."""
        self._sent.append((timestamp, payload))

    def wrap(self, payload: bytes, timestamp: int) -> bytes:
        """Put copies of the packets sent before in front of a payload."""
        heads, bodies, room = b"", b"", MTU - len(payload)
        for at, sent in self._sent if self._on else ():
            earlier = (timestamp - at) & 0xFFFF_FFFF
            if 0 < earlier <= FARTHEST and len(sent) <= min(LARGEST, room):
                head = 0x80 << 24 | self._type << 24 | earlier << 10 | len(sent)
                heads += head.to_bytes(4, "big")
                bodies += sent
                room -= len(sent) + 4
            else:
                # The receiver counts packets from the newest: none may be left out.
                heads = bodies = b""
        self._sent.append((timestamp, payload))
        return heads + bytes([self._type]) + bodies + payload


def parse(packet: bytes, payload_type: int) -> tuple[bytes, list[Copy]] | None:
    """Take a packet apart: its own payload, and copies, the oldest first.

    Args:
        packet: The payload of an RTP packet of type RED.
        payload_type: That of what is carried: others are passed over.

    Returns:
        None, when it is malformed or its own payload is of another type.
    """
    blocks: list[tuple[int, int, int]] = []
    at = 0
    while at < len(packet) and packet[at] & 0x80:
        head = int.from_bytes(packet[at : at + 4], "big")
        at += 4
        blocks.append((head >> 24 & 0x7F, head >> 10 & FARTHEST, head & LARGEST))
        if len(blocks) > MOST:
            return None
    if at >= len(packet) or packet[at] != payload_type:
        return None
    at += 1
    copies: list[Copy] = []
    for number, (kind, earlier, size) in enumerate(blocks):
        body = packet[at : at + size]
        at += size
        if kind == payload_type and body and earlier:
            copies.append(Copy(len(blocks) - number, earlier, body))
    if at >= len(packet):
        return None
    return packet[at:], copies
