"""What we send: sound as the studio encoded it, and pictures by our own encoder.

Sound is encoded once for all legs; here it gets a header and goes out in the same
moment. Pictures are encoded for the step that the path takes, in a thread, and their
packets are spread over time: a key frame at once overflows the queue of a slow link.
"""

import asyncio
import logging
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from aiortc.rtcrtpparameters import RTCRtpSendParameters

from media.audio.red import Redundancy
from media.rtc import rtp
from media.rtc.codec import CLOCK, Encoder
from media.rtc.peer import Outgoing
from media.rtc.rate import OVERHEAD, Step
from media.video.camera import PictureSource

if TYPE_CHECKING:
    import av

__all__ = ["AudioSender", "VideoSender"]

log = logging.getLogger(__name__)

SEND_TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"

HISTORY = 512
"""Packets kept to be sent again: 2 s of pictures, and less than 1 MB."""

AGAIN = 0.04
"""Seconds in which a packet is not sent again twice: the requests have crossed."""

AGAIN_SHARE = 0.5
"""Of the rate of pictures, for packets that are sent again: more would be a storm."""

AT_ONCE = 2
"""Packets of a picture that are not spread."""

BURST = 2.5
"""How much faster than its rate a picture may be sent."""

DEBT = 0.35
"""Seconds of bits that pictures may be ahead of their rate before one is left out."""

FAILED = 1.0
"""Seconds without pictures after one that could not be encoded: each is logged."""

KEY_EVERY = 0.3
"""Seconds between two key frames: requests that crossed one are answered by it."""


class Sender:
    """What both have in common: a source of packets with its counts."""

    def __init__(self, outgoing: Outgoing, rate: int) -> None:
        self.transport = outgoing.transport
        self.ssrc = outgoing._ssrc
        self.rate = rate
        """Of its timestamps, a second."""
        self.packets = 0
        self.octets = 0
        self.bits = 0
        """With all headers, as `rate` counts them."""
        self.payload_type: int | None = None
        self._seq = self.ssrc & 0x7FFF  # low, as SRTP counts its wraparounds
        # Clocks begin anywhere (RFC 3550, section 5.1): ours tell for how long this
        # machine and this process have been running, and calls of one from the other.
        self._origin = secrets.randbits(32)
        self._epoch = secrets.randbits(24)
        self._sent = 0.0
        self._timestamp = self._origin

    def timestamp(self, now: float) -> int:
        """Its clock at this moment, for a sender report."""
        passed = now - self._sent if self.packets else 0.0
        return (self._timestamp + int(passed * self.rate)) & 0xFFFFFFFF

    def _send_time(self) -> int:
        """Now, as `abs-send-time` has it."""
        return int(time.monotonic() * (1 << 18)) + self._epoch & 0xFFFFFF

    def send(self, data: bytes, payload: int) -> None:
        """Send a packet and count it."""
        sent = self.transport.send_media(data)
        if sent:
            self.packets += 1
            self.octets += payload
            self.bits += 8 * (sent + OVERHEAD)


class AudioSender(Sender):
    """Opus payloads to packets."""

    def __init__(self, outgoing: Outgoing) -> None:
        super().__init__(outgoing, 48_000)
        self._silent = True
        self._red: int | None = None
        self._copies: Redundancy | None = None

    def configure(self, parameters: RTCRtpSendParameters) -> None:
        """The other side takes sound, by these parameters."""
        self.payload_type = parameters.codecs[0].payloadType or 0
        for codec in parameters.codecs:
            if codec.name == "red":
                self._red = codec.payloadType
                self._copies = Redundancy(self.payload_type)

    def tune(self, loss: float) -> bool:
        """Send copies if the share lost is large; whether they are sent."""
        if self._copies is None:
            return False
        self._copies.tune(loss)
        return self._copies.on

    def put(self, payload: bytes | None, timestamp: int) -> None:
        """Send a block of 20 ms; None: silence, of which nothing is sent (DTX).

        The first one after silence carries the marker bit (RFC 3551, section 4.1).
        """
        if payload is None or self.payload_type is None:
            self._silent = True
            return
        self._timestamp = (self._origin + timestamp) & 0xFFFFFFFF
        self._sent = time.monotonic()
        kind = self.payload_type
        if self._copies is not None and self._red is not None:
            if self._copies.on:
                kind, payload = self._red, self._copies.wrap(payload, timestamp)
            else:
                self._copies.note(payload, timestamp)
        packet = rtp.pack(
            kind,
            self._silent,
            self._seq,
            self._timestamp,
            self.ssrc,
            payload,
        )
        self._silent = False
        self._seq = (self._seq + 1) & 0xFFFF
        self.send(packet, len(payload))


class VideoSender(Sender):
    """Pictures to packets, at the size and rate of `step`."""

    def __init__(self, outgoing: Outgoing, pictures: PictureSource) -> None:
        super().__init__(outgoing, CLOCK)
        self.codec = ""
        self._pictures = pictures
        self._step: Step | None = None
        self._encoder: Encoder | None = None
        self._pool = ThreadPoolExecutor(1, "encoder")
        self._time_id = 0
        self._rtx: int | None = None
        self._rtx_ssrc = outgoing._rtx_ssrc
        self._rtx_seq = self._rtx_ssrc & 0x7FFF
        self._history: dict[int, tuple[bool, int, bytes]] = {}
        self._again: dict[int, float] = {}
        self._again_left = 0.0
        self._again_at = 0.0
        self._key = True
        self._keyed = float("-inf")
        self._due = 0.0
        self._debt = 0.0
        self._debt_at = 0.0

    def configure(self, parameters: RTCRtpSendParameters) -> None:
        """The other side takes pictures, by these parameters."""
        codec = parameters.codecs[0]
        self.codec = codec.name
        self.payload_type = codec.payloadType
        for other in parameters.codecs:
            if other.name == "rtx" and other.parameters.get("apt") == self.payload_type:
                self._rtx = other.payloadType
        for extension in parameters.headerExtensions:
            if extension.uri == SEND_TIME and 0 < extension.id < 15:
                self._time_id = extension.id

    @property
    def step(self) -> Step | None:
        """What is sent now; None: nothing."""
        return self._step

    @step.setter
    def step(self, step: Step | None) -> None:
        if step == self._step:
            return
        if step is not None:
            self._pictures.want(step.width, step.height, step.fps)
            self._key = self._key or self._step is None
        self._step = step

    def need_key(self) -> None:
        """The other side cannot go on without a key frame."""
        self._key = True

    async def run(self) -> None:
        """Send pictures for as long as this runs."""
        loop = asyncio.get_running_loop()
        while True:
            frame = await self._pictures.next()
            step, now = self._step, time.monotonic()
            if step is None or self.payload_type is None or not self._is_due(step, now):
                continue
            if self._encoder is None:
                self._encoder = Encoder(self.codec)
            key = self._key and now - self._keyed >= KEY_EVERY
            if key:
                self._key = False
                self._keyed = now
            timestamp = int(now * CLOCK)
            try:
                payloads = await loop.run_in_executor(
                    self._pool, self._encode, frame, step, timestamp, key
                )
            except Exception:
                # One picture less, not all that follow: begin with a new encoder.
                log.exception("a picture could not be encoded")
                self._encoder, self._key = None, True
                await asyncio.sleep(FAILED)
                continue
            await self._send_picture(payloads, timestamp, step.bitrate)

    def _encode(
        self, frame: "av.VideoFrame", step: Step, timestamp: int, key: bool
    ) -> list[bytes]:
        assert self._encoder is not None
        return self._encoder.encode(frame, step, timestamp, key)

    def _is_due(self, step: Step, now: float) -> bool:
        """Whether it is time for a picture, and there are bits for it."""
        self._debt -= (now - self._debt_at) * step.bitrate
        self._debt = max(self._debt, 0.0)
        self._debt_at = now
        # A tenth early: who takes pictures has a clock of its own.
        if now < self._due - 0.1 / step.fps or self._debt > DEBT * step.bitrate:
            return False
        self._due = max(self._due + 1 / step.fps, now)
        return True

    async def _send_picture(
        self, payloads: list[bytes], timestamp: int, bitrate: int
    ) -> None:
        self._timestamp = (self._origin + timestamp) & 0xFFFFFFFF
        for index, payload in enumerate(payloads):
            if index >= AT_ONCE:
                await asyncio.sleep(len(payload) * 8 / (bitrate * BURST))
            last = index == len(payloads) - 1
            self._debt += 8 * len(payload)
            self._sent = time.monotonic()
            self._remember(last, payload)
            self.send(self._pack(self._seq, last, payload), len(payload))
            self._seq = (self._seq + 1) & 0xFFFF

    def _pack(self, seq: int, last: bool, payload: bytes) -> bytes:
        assert self.payload_type is not None
        return rtp.pack(
            self.payload_type,
            last,
            seq,
            self._timestamp,
            self.ssrc,
            payload,
            self._time_id,
            self._send_time(),
        )

    def _remember(self, last: bool, payload: bytes) -> None:
        self._history[self._seq] = (last, self._timestamp, payload)
        self._again.pop(self._seq, None)
        if len(self._history) > HISTORY:
            oldest = next(iter(self._history))
            del self._history[oldest]
            self._again.pop(oldest, None)

    def send_again(self, wanted: list[int], now: float, rtt: float) -> None:
        """Send packets again that the other side misses, within the rate for it."""
        if self._step is None:
            return
        rate = self._step.bitrate * AGAIN_SHARE
        self._again_left = min(
            rate, self._again_left + (now - self._again_at) * rate
        )  # one second of it at most
        self._again_at = now
        for seq in wanted[: rtp.MAX_NACKED]:
            kept = self._history.get(seq)
            if kept is None or now - self._again.get(seq, -1.0) < max(AGAIN, rtt / 2):
                continue
            if self._again_left < 8 * len(kept[2]):
                return
            self._again_left -= 8 * len(kept[2])
            self._again[seq] = now
            self._send_kept(seq, *kept)

    def _send_kept(self, seq: int, last: bool, timestamp: int, payload: bytes) -> None:
        """As a packet of its own stream where that was agreed on (RFC 4588)."""
        assert self.payload_type is not None
        sent = self._send_time()
        if self._rtx is None:
            data = rtp.pack(
                self.payload_type, last, seq, timestamp, self.ssrc, payload,
                self._time_id, sent,
            )  # fmt: skip
        else:
            data = rtp.pack(
                self._rtx, last, self._rtx_seq, timestamp, self._rtx_ssrc,
                seq.to_bytes(2, "big") + payload, self._time_id, sent,
            )  # fmt: skip
            self._rtx_seq = (self._rtx_seq + 1) & 0xFFFF
        bytes_sent = self.transport.send_media(data)
        self.bits += 8 * (bytes_sent + OVERHEAD)

    def close(self) -> None:
        """End the thread; what it does now is finished and thrown away."""
        self._pool.shutdown(wait=False, cancel_futures=True)
