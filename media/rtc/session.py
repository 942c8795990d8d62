"""The RTP session of a leg (RFC 3550): what comes in is sorted, reports go out.

One timer and one report serve sound and pictures together. Reports go out two and a
half times a second, also while nothing else does: a side that is alive is heard.
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from aiortc.rtcrtpparameters import RTCRtpReceiveParameters, RTCRtpSendParameters
from aiortc.rtp import (
    AnyRtcpPacket,
    RtcpPacket,
    RtcpPsfbPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSdesPacket,
    RtcpSenderInfo,
    RtcpSourceInfo,
    RtcpSrPacket,
    unpack_remb_fci,
)

from media.audio.opus import LOSS
from media.audio.red import parse as parse_red
from media.rtc.peer import Peer, Transport
from media.rtc.rate import (
    COPIES_FROM,
    SEND_CLOCK,
    SOUND_CLOCK,
    SOUND_HEADERS,
    Arrivals,
    Budget,
    Plan,
    losing,
)
from media.rtc.receiver import VideoReceiver
from media.rtc.reception import Reception
from media.rtc.rtp import Packet, parse, remb
from media.rtc.sender import SEND_TIME, AudioSender, Sender, VideoSender
from media.video.camera import PictureSource

if TYPE_CHECKING:
    import av

    from media.audio.jitter import JitterBuffer

__all__ = ["Counts", "Session"]

BEAT = 0.1
"""Seconds between two looks at what came and what goes."""

ASK = 0.02
"""Seconds between two looks at what is missing of pictures, while something is: it may
only have been overtaken."""

WATCHING = 1.0
"""Seconds after the last packet of pictures in which something of them is asked for."""

REPORT = 0.4
"""Seconds between two reports; `port.SILENT` counts on two a second."""

MAX_RTCP = 1_500
"""Bytes of RTCP that are read at once."""

MAX_RTT = 10.0
"""Seconds; what is beyond is a mistake of somebody's clock."""

REPORTED = 1.0
"""Seconds of reports that are looked at together: one has 20 packets."""

UNUSED = 1.2
"""Times what we send: a browser's estimate above that was not tried out."""

TUNE_EVERY = 2.0
"""Seconds between two changes of how sound is coded, unless the path got worse."""


class Counts(NamedTuple):
    """Of the last second, for `Quality`."""

    loss: float
    sent: int
    received: int
    sound: bool
    video: str


class Session:
    """A leg's packets, in and out; a `peer.Sink`."""

    def __init__(
        self,
        buffer: "JitterBuffer",
        pictures: PictureSource,
        show: "Callable[[av.VideoFrame], None]",
        tune: Callable[[int, float], None],
        narrow: Callable[[bool], None],
    ) -> None:
        """Nothing flows before `attach`, and none of it is media before `open`.

        Args:
            buffer: takes the other side's sound.
            pictures: what we send.
            show: takes the other side's pictures.
            tune: hears, when changed, bits a second for Opus, and the share that its
                FEC is to repair: none where copies do.
            narrow: hears that there are no bits for pictures, or are again.
        """
        self.open = False
        self.held = False
        self.camera = False
        """Whether there is something to see on our side."""
        self.rtt = 0.0
        """Seconds."""
        self._buffer = buffer
        self._tune = tune
        self._narrow = narrow
        self._pictures = pictures
        self._video_in = VideoReceiver(show, self._delay)
        self._kinds: dict[int, str] = {}
        self._audio_ssrc: int | None = None
        self._audio_in: Reception | None = None
        self._arrivals = Arrivals()
        self._budget = Budget()
        self._plan = Plan(48_000, None, False)
        self._time_id = 0
        self._opus = 0
        self._copying = False
        self._video_at = self._video_rate = 0.0
        self._video_bits = 0
        self._cname = secrets.token_hex(8).encode()
        self._epoch = secrets.randbits(31)
        self._reported = self._planned = self._tuned = self._heard_video = 0.0
        self._told = (48_000, LOSS)
        self._lost_sound = 0.0
        self._seen: dict[int, int] = {}
        self._reports: list[tuple[float, float]] = []
        self._report_since: float | None = None
        self._report_bits = 0
        self._second = (0, 0, 0)
        self._tasks: list[asyncio.Task[None]] = []
        self._asking: asyncio.TimerHandle | None = None
        self._transport: Transport
        self._audio: AudioSender
        self._video: VideoSender

    def attach(self, peer: Peer) -> None:
        """Take a connection that has both lines."""
        outgoing = peer.outgoing
        self._transport = peer.transport
        self._audio = AudioSender(outgoing["audio"])
        self._video = VideoSender(outgoing["video"], self._pictures)

    def start(self) -> None:
        """The connection stands."""
        if not self._tasks:
            self.second()
            self._tasks = [
                asyncio.create_task(self._run()),
                asyncio.create_task(self._video.run()),
            ]

    async def close(self) -> None:
        """End it, with its threads."""
        if self._asking is not None:
            self._asking.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._video_in.close()
        if hasattr(self, "_video"):
            self._video.close()

    @property
    def flowing(self) -> bool:
        """Whether media is sent and played."""
        return self.open and not self.held

    def send_audio(self, payload: bytes | None, timestamp: int) -> None:
        """Send a block of sound."""
        self._audio.put(payload if self.flowing else None, timestamp)

    def _delay(self) -> float:
        """Seconds that sound waits here, as far as pictures should as well."""
        return self._buffer.stats.delay_ms / 1000 if self._audio_in else 0.0

    # --- what was agreed on ---------------------------------------------------------

    def can_send(self, kind: str, parameters: RTCRtpSendParameters) -> None:
        """The other side takes this kind."""
        (self._audio if kind == "audio" else self._video).configure(parameters)

    def can_receive(self, kind: str, parameters: RTCRtpReceiveParameters) -> None:
        """The other side sends this kind."""
        if kind == "video":
            for payload_type in self._video_in.configure(parameters):
                self._kinds[payload_type] = "video"
            for extension in parameters.headerExtensions:
                if extension.uri == SEND_TIME and 0 < extension.id < 15:
                    self._time_id = extension.id
            return
        for codec in parameters.codecs:
            kind = "red" if codec.name == "red" else "audio"
            self._kinds[codec.payloadType or 0] = kind
        self._opus = parameters.codecs[0].payloadType or 0
        if parameters.encodings:
            self._audio_ssrc = parameters.encodings[0].ssrc

    # --- what comes in --------------------------------------------------------------

    def rtp(self, data: bytes, now: float) -> None:
        """Take in a packet of sound or pictures."""
        packet = parse(data, self._time_id)
        if packet is None:
            return
        kind = self._kinds.get(packet.payload_type)
        if kind in ("audio", "red"):
            self._take_audio(packet, now, len(data), kind == "red")
        elif kind == "video":
            self._heard_video = now
            if packet.sent is not None:
                sent = packet.sent / (1 << 18)
                self._arrivals.add("video", sent, SEND_CLOCK, now, len(data))
            self._video_in.take(packet, now, self.flowing)
            self._ask_later()

    def _take_audio(self, packet: Packet, now: float, size: int, red: bool) -> None:
        if self._audio_ssrc is None:
            self._audio_ssrc = packet.ssrc
        if packet.ssrc != self._audio_ssrc:
            return
        if self._audio_in is None:
            self._audio_in = Reception(packet.ssrc, 48_000)
        self._audio_in.add(packet.seq, packet.timestamp, now)
        sent = packet.timestamp / 48_000
        self._arrivals.add("audio", sent, SOUND_CLOCK, now, size)
        if not self.flowing:
            return
        if not red:
            self._buffer.put(packet.seq, packet.timestamp, packet.payload, now)
            return
        taken = parse_red(packet.payload, self._opus)
        if taken is not None:
            payload, copies = taken
            self._buffer.put(packet.seq, packet.timestamp, payload, now)
            for copy in copies:
                seq, timestamp = packet.seq - copy.back, packet.timestamp - copy.earlier
                self._buffer.put_redundant(
                    seq & 0xFFFF, timestamp & 0xFFFFFFFF, copy.payload
                )

    def rtcp(self, data: bytes, now: float) -> None:
        """Take in reports and requests."""
        if len(data) > MAX_RTCP:
            return
        for packet in RtcpPacket.parse(data):
            match packet:
                case RtcpSrPacket():
                    self._take_sender_report(packet, now)
                    self._take_reports(packet.reports, now)
                case RtcpRrPacket():
                    self._take_reports(packet.reports, now)
                case RtcpRtpfbPacket(fmt=1) if packet.media_ssrc == self._video.ssrc:
                    self._video.send_again(packet.lost, now, self.rtt)
                case RtcpPsfbPacket(fmt=1 | 4):
                    self._video.need_key()
                case RtcpPsfbPacket(fmt=15):
                    self._take_remb(packet.fci)

    def _take_sender_report(self, packet: RtcpSrPacket, now: float) -> None:
        for stream in (self._audio_in, self._video_in.reception):
            if stream is not None and stream.ssrc == packet.ssrc:
                ntp = packet.sender_info.ntp_timestamp
                stream.report_at = (ntp >> 16) & 0xFFFFFFFF
                stream.reported = now

    def _take_remb(self, fci: bytes) -> None:
        """What may come. Ours names both streams and is about all of them.

        A browser's names pictures, and is never more than half as much again as what
        came of them: then it says nothing but that we sent little.
        """
        bitrate, ssrcs = unpack_remb_fci(fci)
        if self._audio.ssrc in ssrcs:
            self._budget.remb = max(1, bitrate)
        elif self._video.ssrc in ssrcs:
            if bitrate > self._video_rate * UNUSED:
                self._budget.remb = None
            else:
                self._budget.remb = bitrate + self._plan.sound + SOUND_HEADERS
        self._planned = 0.0  # look at once: it may be much less

    def _take_reports(self, reports: list[RtcpReceiverInfo], now: float) -> None:
        """What the other side got of ours: round trip and losses."""
        lost = sent = 0.0
        for report in reports:
            if report.ssrc not in (self._audio.ssrc, self._video.ssrc):
                continue
            if report.lsr:
                away = (self._ntp() >> 16) - report.lsr - report.dlsr
                rtt = (away & 0xFFFFFFFF) / 65_536
                if rtt < MAX_RTT:
                    self.rtt += (rtt - self.rtt) * (0.2 if self.rtt else 1.0)
            since = self._seen.get(report.ssrc, report.highest_sequence)
            count = (report.highest_sequence - since) & 0xFFFFFFFF
            self._seen[report.ssrc] = report.highest_sequence
            if count > 10_000:
                continue
            sent += count
            lost += count * report.fraction_lost / 256
            if report.ssrc == self._audio.ssrc and count:
                self._lost_sound = losing(self._lost_sound, report.fraction_lost / 256)
        self._weigh(lost, sent, now)

    def _weigh(self, lost: float, sent: float, now: float) -> None:
        """Have the budget look at the reports of one second."""
        self._reports.append((lost, sent))
        bits = self._audio.bits + self._video.bits
        if self._report_since is None:
            self._report_since, self._report_bits = now, bits
        passed = now - self._report_since
        if passed < REPORTED:
            return
        total = sum(count for _, count in self._reports)
        share = sum(count for count, _ in self._reports) / total if total else 0.0
        self._budget.report(share, passed, (bits - self._report_bits) / passed)
        self._reports.clear()
        self._report_since, self._report_bits = now, bits

    # --- what goes out --------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            now = time.monotonic()
            fell = self._arrivals.tick(now)
            if fell or now - self._reported >= REPORT:
                self._reported = now
                self._report(now)
            if now - self._planned >= REPORT:
                self._planned = now
                self._apply(now)
            await asyncio.sleep(BEAT)

    def _ask_later(self) -> None:
        """Ask soon for what is missing of pictures, if something is."""
        if self._asking is None and self._tasks and self._video_in.lacks:
            loop = asyncio.get_running_loop()
            self._asking = loop.call_later(ASK, self._ask)

    def _ask(self) -> None:
        self._asking = None
        now = time.monotonic()
        if self.flowing:
            self._video_in.ask(self._transport, self._audio.ssrc, now, self.rtt)
        if now - self._heard_video < WATCHING:
            self._ask_later()

    def _report(self, now: float) -> None:
        """Send what we sent and got (RFC 3550, section 6.4), and what may come."""
        streams = [s for s in (self._audio_in, self._video_in.reception) if s]
        packets: list[AnyRtcpPacket] = [
            self._sender_report(self._audio, now, [s.report(now) for s in streams])
        ]
        if self._video.packets:
            packets.append(self._sender_report(self._video, now, []))
        name = RtcpSourceInfo(ssrc=self._audio.ssrc, items=[(1, self._cname)])
        packets.append(RtcpSdesPacket(chunks=[name]))
        data = b"".join(bytes(packet) for packet in packets)
        if streams:
            ssrcs = [stream.ssrc for stream in streams]
            data += remb(self._audio.ssrc, self._arrivals.estimate, ssrcs)
        self._transport.send_media(data)

    def _sender_report(
        self, sender: Sender, now: float, reports: list[RtcpReceiverInfo]
    ) -> RtcpSrPacket:
        return RtcpSrPacket(
            ssrc=sender.ssrc,
            sender_info=RtcpSenderInfo(
                ntp_timestamp=self._ntp(),
                rtp_timestamp=sender.timestamp(now),
                packet_count=sender.packets & 0xFFFFFFFF,
                octet_count=sender.octets & 0xFFFFFFFF,
            ),
            reports=reports,
        )

    def _ntp(self) -> int:
        """Now: 32 bits of seconds, 32 after the point; counted from anywhere.

        It need not be the time of day (RFC 3550, section 4): that can be set anew in a
        call, and how wrong it is tells one machine from others.
        """
        return int((time.monotonic() + self._epoch) * (1 << 32)) & (1 << 64) - 1

    def _apply(self, now: float) -> None:
        """Divide what the path carries between sound and pictures."""
        if now - self._video_at >= 1.0:
            bits, passed = self._video.bits, now - self._video_at
            self._video_rate = max(0.0, bits - self._video_bits) / passed
            self._video_at, self._video_bits = now, bits
        camera = self.camera and self.flowing and self._video.payload_type is not None
        # Copies are three times the bits: losses of a narrow path come from bits.
        wide = self._budget.total >= COPIES_FROM and not self._plan.narrow
        self._copying = self._audio.tune(self._lost_sound if wide else 0.0)
        plan = self._budget.plan(now, camera, self._copying, self._lost_sound)
        self._video.step = plan.step
        if plan.narrow != self._plan.narrow:
            self._narrow(plan.narrow)
        self._plan = plan
        repair = 0.0 if self._copying else max(LOSS, round(self._lost_sound, 2))
        told = (plan.sound, repair)
        worse = told[0] < self._told[0] or told[1] > self._told[1]
        if told != self._told and (worse or now - self._tuned >= TUNE_EVERY):
            self._told, self._tuned = told, now
            self._tune(*told)

    def replan(self) -> None:
        """Something was switched on or off: do not wait for the next look."""
        if self._tasks:
            self._apply(time.monotonic())

    def pause(self) -> None:
        """What was shown is over: begin with a key frame."""
        self._video_in.lose()

    def second(self) -> Counts:
        """What was counted since this was asked last."""
        lost = sent = 0
        heard = False
        for stream in (self._audio_in, self._video_in.reception):
            if stream is not None:
                gone, of = stream.loss()
                lost, sent = lost + gone, sent + of
                heard = heard or (stream is self._audio_in and of > 0)
        at = int(time.monotonic() * 1000)
        before = self._second
        self._second = (at, self._transport.sent, self._transport.received)
        passed = max(1, at - before[0])
        rates = [
            (count - last) * 8000 // passed if before[0] else 0
            for count, last in zip(self._second[1:], before[1:], strict=True)
        ]
        share = lost / sent if sent else 0.0
        return Counts(share, rates[0], rates[1], heard, self._video_in.second())
