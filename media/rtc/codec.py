"""Pictures to packets and back: VP8 (RFC 7741), and H.264 for who has no VP8.

Bit rates of a running libvpx or x264 cannot be changed through PyAV: a change means a
new encoder and a key frame, so changes are few and coarse (`rate.STEPS`).
"""

import secrets
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
from aiortc.codecs import get_decoder
from aiortc.codecs.h264 import H264Encoder, h264_depayload
from aiortc.jitterbuffer import JitterFrame
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from av.video.frame import PictureType

from media.rtc.assembler import Part, Picture
from media.rtc.rate import Step
from media.rtc.rtp import Packet
from media.video.camera import fitted

__all__ = ["Decoder", "Encoder", "read_part"]

PAYLOAD = 1_160
"""Bytes of a picture in one packet: with all headers below 1,280, what every path
carries (RFC 8200, section 5)."""

CLOCK = 90_000

MAX_PIXELS = 1920 * 1200
"""Of a picture that is decoded; VP8 could have 268 million."""

KEY_SHARE = 450
"""Per cent of an average picture's bits that a key frame may have: 7 kB at 200,000
bits a second, which a slow link takes in 300 ms."""


class TooLarge(ValueError):
    """A picture that nobody asked for."""


def read_part(codec: str, packet: Packet) -> Part | None:
    """A packet's share of a picture; None if it has none."""
    if codec == "VP8":
        start, data = read_vp8(packet.payload)
        key = start and len(data) > 0 and not data[0] & 1
    else:
        try:
            data = h264_depayload(packet.payload)
        except (ValueError, IndexError):
            return None
        begins = data[:4] == b"\0\0\0\1" and len(data) > 4
        # Its parameters come first, in a packet of their own or with the picture; a
        # picture alone would begin a key frame that no decoder can read.
        key = begins and data[4] & 31 == 7
    if not data:
        return None
    return Part(packet.timestamp, packet.marker, key, data)


def read_vp8(payload: bytes) -> tuple[bool, bytes]:
    """Whether a picture begins here, and its bytes (RFC 7741, section 4.2)."""
    if not payload:
        return False, b""
    first, at = payload[0], 1
    if first & 0x80:
        extended = payload[1] if len(payload) > 1 else 0
        at = 2
        if extended & 0x80:
            at += 2 if len(payload) > 2 and payload[2] & 0x80 else 1
        at += bool(extended & 0x40) + bool(extended & 0x30)
    return first & 0x17 == 0x10, payload[at:]


class Encoder:
    """Pictures to the payloads of packets, in the thread that calls it."""

    def __init__(self, codec: str) -> None:
        self.codec = codec
        self._context: av.VideoCodecContext | None = None
        self._h264 = H264Encoder() if codec == "H264" else None
        self._bitrate = 0
        self._picture = secrets.randbelow(1 << 15)

    def encode(
        self, frame: av.VideoFrame, step: Step, timestamp: int, key: bool
    ) -> list[bytes]:
        """Scale a picture into the step's size and encode it; [] if it was skipped."""
        width, height = fitted(frame.width, frame.height, step.width, step.height)
        frame = frame.reformat(width, height, "yuv420p")
        frame.pts = timestamp
        frame.time_base = Fraction(1, CLOCK)
        frame.pict_type = PictureType.I if key else PictureType.NONE
        if self._h264 is not None:
            self._h264.target_bitrate = step.bitrate
            return self._h264.encode(frame, key)[0]
        context = self._context
        if (
            context is None
            or (context.width, context.height) != (width, height)
            or self._bitrate != step.bitrate
        ):
            context = self._context = make_vp8(width, height, step)
            self._bitrate = step.bitrate
        return self._split(b"".join(bytes(p) for p in context.encode(frame)))

    def _split(self, data: bytes) -> list[bytes]:
        """Payloads of nearly equal size, each with a descriptor."""
        if not data:
            return []
        self._picture = (self._picture + 1) & 0x7FFF
        number = (0x8000 | self._picture).to_bytes(2, "big")
        count = -(-len(data) // PAYLOAD)
        size = -(-len(data) // count)
        return [
            (b"\x80\x80" if at else b"\x90\x80") + number + data[at : at + size]
            for at in range(0, len(data), size)
        ]


def vp8_pixels(data: bytes) -> int:
    """How many a key frame has (RFC 6386, section 9.1); 0: it is another frame."""
    if len(data) < 10 or data[0] & 1:
        return 0
    width = int.from_bytes(data[6:8], "little") & 0x3FFF
    return width * (int.from_bytes(data[8:10], "little") & 0x3FFF)


def make_vp8(width: int, height: int, step: Step) -> av.VideoCodecContext:
    """A libvpx for a constant rate and no delay."""
    context = av.CodecContext.create("libvpx", "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height = width, height
    context.pix_fmt = "yuv420p"
    context.time_base = Fraction(1, CLOCK)
    context.framerate = Fraction(step.fps, 1)
    context.bit_rate = step.bitrate
    context.gop_size = 3_000  # key frames only when asked for
    context.qmin, context.qmax = 4, 58
    context.thread_count = 1
    context.options = {
        "deadline": "realtime",
        "cpu-used": "-6",
        "lag-in-frames": "0",
        "error-resilient": "0",
        "minrate": str(step.bitrate),
        "maxrate": str(step.bitrate),
        "bufsize": str(step.bitrate),  # one second
        "undershoot-pct": "100",
        "overshoot-pct": "15",
        "max-intra-rate": str(KEY_SHARE),
        "static-thresh": "1",
        "noise-sensitivity": "2",
    }
    return context


class Decoder:
    """Encoded pictures to pictures, in the thread that calls it."""

    def __init__(self, codec: RTCRtpCodecParameters) -> None:
        self._name = codec.name
        decoder: Any = get_decoder(codec)
        decoder.codec.options = {"max_pixels": str(MAX_PIXELS)}
        self._decode: Callable[[JitterFrame], list[av.VideoFrame]] = decoder.decode

    def decode(self, picture: Picture) -> av.VideoFrame | None:
        """The picture; None if there is none yet.

        Raises:
            av.FFmpegError, TooLarge: It cannot be shown; only a key frame helps.
        """
        # libvpx takes the memory before FFmpeg compares, and it does not care whether
        # the packets said that this is a key frame.
        if self._name == "VP8" and vp8_pixels(picture.data) > MAX_PIXELS:
            raise TooLarge
        frames = self._decode(JitterFrame(picture.data, picture.timestamp))
        if not frames:
            return None
        if frames[-1].width * frames[-1].height > MAX_PIXELS:
            raise TooLarge
        return frames[-1]
