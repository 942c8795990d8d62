"""Pictures as they arrive: assembled, decoded in a thread, and shown.

The counts of everything that waits are bounded; a decoder that falls behind begins
again with a key frame.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import av
from aiortc.rtcrtpparameters import RTCRtpCodecParameters, RTCRtpReceiveParameters

from media.rtc import rtp
from media.rtc.assembler import Assembler, Picture
from media.rtc.codec import Decoder, TooLarge, read_part
from media.rtc.reception import Reception

if TYPE_CHECKING:
    from media.rtc.peer import Transport

__all__ = ["VideoReceiver"]

log = logging.getLogger(__name__)

MAX_WAITING = 15
"""Pictures that wait for the decoder: one second."""

MAX_UNSHOWN = 30
"""Pictures that wait for their sound: 3 MB each, at the most, of a peer that sends
hundreds a second. What is above is not shown."""

MAX_DELAY = 0.3
"""Seconds by which a picture waits for the sound that belongs to it, at most."""


class VideoReceiver:
    """The other side's pictures."""

    def __init__(
        self, show: Callable[[av.VideoFrame], None], delay: Callable[[], float]
    ) -> None:
        """Hear of it.

        Args:
            show: gets each picture, on the event loop's thread.
            delay: how many seconds sound waits on this side.
        """
        self.reception: Reception | None = None
        self.size = ""
        """`VP8 320x240@15`; empty while there is none."""
        self._show = show
        self._delay = delay
        self._assembler = Assembler()
        self._codecs: dict[int, RTCRtpCodecParameters] = {}
        self._ssrc: int | None = None
        self._rtx_ssrc: int | None = None
        self._decoder: tuple[int, Decoder] | None = None
        self._pool = ThreadPoolExecutor(1, "decoder")
        self._waiting: deque[tuple[int, Picture]] = deque()
        self._decoding = False
        self._shown = 0
        self._unshown = 0
        self._format = ""
        self._closed = False

    def configure(self, parameters: RTCRtpReceiveParameters) -> list[int]:
        """What the other side sends; the payload types of it."""
        self._codecs = {
            codec.payloadType: codec
            for codec in parameters.codecs
            if codec.payloadType is not None
        }
        for encoding in parameters.encodings[:1]:
            self._ssrc = encoding.ssrc
            self._rtx_ssrc = encoding.rtx.ssrc if encoding.rtx else None
        return list(self._codecs)

    @property
    def ssrc(self) -> int | None:
        """Of the pictures; None while it is not known."""
        return self._ssrc

    def take(self, packet: rtp.Packet, now: float, wanted: bool) -> None:
        """Take in a packet; `wanted`: whether pictures are shown at all."""
        codec = self._codecs[packet.payload_type]
        if codec.name == "rtx":
            original = self._unwrap_rtx(packet, codec)
            if original is None:
                return
            packet, codec = original, self._codecs[original.payload_type]
            number = self._number(packet.seq)
        else:
            if self._ssrc is None:
                self._ssrc = packet.ssrc
            if packet.ssrc != self._ssrc:
                return
            if self.reception is None:
                self.reception = Reception(packet.ssrc, 90_000)
            number = self.reception.add(packet.seq, packet.timestamp, now)
        part = read_part(codec.name, packet) if wanted and number is not None else None
        if part is None or number is None:
            return
        pictures = self._assembler.put(number, part, now)
        self._waiting.extend((packet.payload_type, picture) for picture in pictures)
        if len(self._waiting) > MAX_WAITING:
            self._waiting.clear()
            self._assembler.lose()
        self._decode_next()

    def _number(self, seq: int) -> int | None:
        """The number of a packet that was sent again."""
        if self.reception is None or self.reception.highest < 0:
            return None
        return rtp.unwrap(self.reception.highest, seq)

    def _unwrap_rtx(
        self, packet: rtp.Packet, codec: RTCRtpCodecParameters
    ) -> rtp.Packet | None:
        """The packet that this one repeats (RFC 4588, section 4)."""
        original = codec.parameters.get("apt")
        if self._rtx_ssrc is None:
            self._rtx_ssrc = packet.ssrc
        if (
            packet.ssrc != self._rtx_ssrc
            or len(packet.payload) < 2
            or not isinstance(original, int)
            or original not in self._codecs
            or self._codecs[original].name == "rtx"
        ):
            return None
        return rtp.Packet(
            original,
            packet.marker,
            int.from_bytes(packet.payload[:2], "big"),
            packet.timestamp,
            self._ssrc or 0,
            packet.payload[2:],
        )

    @property
    def lacks(self) -> bool:
        """Whether there may be something to ask for."""
        return self._assembler.lacks

    def ask(self, transport: "Transport", ours: int, now: float, rtt: float) -> None:
        """Ask for what is missing, in the name of SSRC `ours`."""
        if self._ssrc is None:
            return
        missing, key = self._assembler.requests(now, rtt)
        if missing:
            transport.send_media(rtp.nack(ours, self._ssrc, missing))
        if key:
            transport.send_media(rtp.pli(ours, self._ssrc))

    def second(self) -> str:
        """Called each second: what was seen in it, as `Quality.video`."""
        self.size = f"{self._format}@{self._shown}" if self._shown else ""
        self._shown = 0
        return self.size

    def lose(self) -> None:
        """Show nothing more until there is a key frame."""
        self._waiting.clear()
        self._assembler.lose()

    def _decode_next(self) -> None:
        """One picture at a time: they build on each other."""
        if self._decoding or not self._waiting or self._closed:
            return
        self._decoding = True
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._pool, self._decode, *self._waiting.popleft())
        work.add_done_callback(self._decoded)

    def _decode(self, payload_type: int, picture: Picture) -> av.VideoFrame | None:
        if self._decoder is None or self._decoder[0] != payload_type:
            self._decoder = payload_type, Decoder(self._codecs[payload_type])
        return self._decoder[1].decode(picture)

    def _decoded(self, work: "asyncio.Future[av.VideoFrame | None]") -> None:
        self._decoding = False
        if self._closed or work.cancelled():
            return
        error = work.exception()
        if error is not None:
            if not isinstance(error, av.FFmpegError | TooLarge):
                log.error("a picture could not be decoded", exc_info=error)
            self._decoder = None
            self.lose()
            return
        frame = work.result()
        if frame is not None:
            name = self._decoder and self._codecs[self._decoder[0]].name
            self._format = f"{name} {frame.width}x{frame.height}"
            self._shown += 1
            self._show_later(frame)
        self._decode_next()

    def _show_later(self, frame: av.VideoFrame) -> None:
        """Lips move with the sound, which waits in its buffer."""
        delay = min(self._delay(), MAX_DELAY)
        if delay < 0.005:
            self._show_now(frame)
        elif self._unshown < MAX_UNSHOWN:
            self._unshown += 1
            asyncio.get_running_loop().call_later(delay, self._show_waited, frame)

    def _show_waited(self, frame: av.VideoFrame) -> None:
        self._unshown -= 1
        self._show_now(frame)

    def _show_now(self, frame: av.VideoFrame) -> None:
        if not self._closed:
            self._show(frame)

    def close(self) -> None:
        """End the thread."""
        self._closed = True
        self._waiting.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)
