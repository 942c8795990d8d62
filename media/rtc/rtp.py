"""RTP and RTCP packets (RFC 3550, 4585, 4588): what is sent often, written by hand.

aiortc's classes cost 60 microseconds a packet; an audio call has a hundred packets a
second. Rare ones (reports) are built and parsed with them.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Packet", "nack", "newer", "pack", "parse", "pli", "unwrap"]

HEADER = struct.Struct("!BBHLL")
ONE_BYTE = 0xBEDE
"""Profile of extensions with headers of one byte (RFC 8285, section 4.2)."""

MAX_NACKED = 64
"""Packets asked for in one message; more than that is a key frame's work."""


@dataclass(slots=True)
class Packet:
    """An RTP packet as it came."""

    payload_type: int
    marker: bool
    seq: int
    timestamp: int
    ssrc: int
    payload: bytes
    sent: int | None = None
    """`abs-send-time`: 24 bits of seconds, 18 of them after the point."""


def parse(data: bytes, time_id: int = 0) -> Packet | None:
    """Read a packet, with the extension of that id as its time; None if it is bad."""
    if len(data) < 12 or data[0] >> 6 != 2:
        return None
    first, second, seq, timestamp, ssrc = HEADER.unpack_from(data)
    at = 12 + 4 * (first & 15)
    end = len(data)
    sent = None
    if first & 0x10:
        if at + 4 > end:
            return None
        profile, words = struct.unpack_from("!HH", data, at)
        at += 4
        if at + 4 * words > end:
            return None
        if profile == ONE_BYTE and time_id:
            sent = send_time(data[at : at + 4 * words], time_id)
        at += 4 * words
    if first & 0x20 and end > at:
        end -= data[-1]
    if at > end:
        return None
    return Packet(second & 127, second > 127, seq, timestamp, ssrc, data[at:end], sent)


def send_time(extensions: bytes, wanted: int) -> int | None:
    """Find the extension of an id among those with headers of one byte."""
    at = 0
    while at < len(extensions):
        byte = extensions[at]
        if not byte:
            at += 1
            continue
        length = (byte & 15) + 1
        if byte >> 4 == wanted:
            value = extensions[at + 1 : at + 1 + length]
            return int.from_bytes(value, "big") if len(value) == 3 else None
        at += 1 + length
    return None


def pack(
    payload_type: int,
    marker: bool,
    seq: int,
    timestamp: int,
    ssrc: int,
    payload: bytes,
    time_id: int = 0,
    sent: int = 0,
) -> bytes:
    """Write a packet; with the time of sending, if there is an id for it (1 to 14)."""
    head = HEADER.pack(
        0x90 if time_id else 0x80,
        payload_type | (0x80 if marker else 0),
        seq & 0xFFFF,
        timestamp & 0xFFFFFFFF,
        ssrc,
    )
    if not time_id:
        return head + payload
    words = struct.pack(
        "!HHL", ONE_BYTE, 1, (time_id << 28) | (2 << 24) | (sent & 0xFFFFFF)
    )
    return head + words + payload


def unwrap(last: int, seq: int) -> int:
    """The number nearest to `last` whose lower 16 bits are `seq`."""
    return last + (((seq - last) + 0x8000) & 0xFFFF) - 0x8000


def newer(a: int, b: int) -> bool:
    """Whether 32-bit timestamp `a` is after `b`."""
    return 0 < ((a - b) & 0xFFFFFFFF) < 0x80000000


def feedback(kind: int, fmt: int, ssrc: int, media: int, body: bytes = b"") -> bytes:
    """A feedback message (RFC 4585, section 6.1)."""
    return (
        struct.pack("!BBHLL", 0x80 | fmt, kind, 2 + len(body) // 4, ssrc, media) + body
    )


def pli(ssrc: int, media: int) -> bytes:
    """Ask for a key frame."""
    return feedback(206, 1, ssrc, media)


def nack(ssrc: int, media: int, missing: Iterable[int]) -> bytes:
    """Ask for packets again; `missing` ascending, not cut to 16 bits."""
    pairs: list[tuple[int, int]] = []
    for seq in list(missing)[:MAX_NACKED]:
        if pairs and 0 < seq - pairs[-1][0] <= 16:
            first, bits = pairs[-1]
            pairs[-1] = first, bits | 1 << (seq - first - 1)
        else:
            pairs.append((seq, 0))
    body = b"".join(struct.pack("!HH", seq & 0xFFFF, bits) for seq, bits in pairs)
    return feedback(205, 1, ssrc, media, body)


def remb(ssrc: int, bitrate: int, media: Sequence[int]) -> bytes:
    """Say how many bits a second may come (draft-alvestrand-rmcat-remb-03)."""
    exponent = max(0, bitrate.bit_length() - 18)
    body = b"REMB" + struct.pack(
        f"!L{len(media)}L",
        len(media) << 24 | exponent << 18 | bitrate >> exponent,
        *media,
    )
    return feedback(206, 15, ssrc, 0, body)
