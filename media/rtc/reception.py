"""What came of one stream, and how much did not (RFC 3550, appendix A.1 and A.8)."""

from aiortc.rtp import RtcpReceiverInfo, clamp_packets_lost

from media.rtc import rtp

__all__ = ["Reception"]

RESTART = 3_000
"""Numbers by which a stream may jump before it counts as begun anew."""


class Reception:
    """The counts of one SSRC."""

    def __init__(self, ssrc: int, rate: int) -> None:
        self.ssrc = ssrc
        self.rate = rate
        """Of its timestamps, a second."""
        self.received = 0
        self.highest = -1
        """Its highest number, counted on past 65,535."""
        self.report_at = 0
        """Middle 32 bits of the NTP time in its last sender report; 0: none."""
        self.reported = 0.0
        """When that came."""
        self._first = 0
        self._jitter = 0.0
        self._transit: float | None = None
        self._prior = (0, 0)
        self._second = (0, 0)

    def add(self, seq: int, timestamp: int, now: float) -> int:
        """Count a packet; its number, counted on past 65,535."""
        if self.highest < 0:
            self._first = self.highest = seq + 0x10000
        number = rtp.unwrap(self.highest, seq)
        if abs(number - self.highest) > RESTART:
            self._first = self.highest = number = seq + 0x10000
            self.received = 0
            self._prior = self._second = (0, 0)
        self.highest = max(self.highest, number)
        self.received += 1
        transit = now * self.rate - timestamp
        if self._transit is not None:
            difference = abs(transit - self._transit)
            if difference < self.rate:  # not a clock that was set anew
                self._jitter += (difference - self._jitter) / 16
        self._transit = transit
        return number

    @property
    def expected(self) -> int:
        """Packets that were sent, as far as we can know."""
        return self.highest - self._first + 1

    @property
    def jitter(self) -> float:
        """Seconds."""
        return self._jitter / self.rate

    def report(self, now: float) -> RtcpReceiverInfo:
        """A report block (RFC 3550, section 6.4.1); begins the next interval."""
        lost, of = self._since(self._prior)
        self._prior = (self.expected, self.received)
        age = int((now - self.reported) * 65_536) if self.report_at else 0
        return RtcpReceiverInfo(
            ssrc=self.ssrc,
            fraction_lost=min(255, lost * 256 // of) if of else 0,
            packets_lost=clamp_packets_lost(self.expected - self.received),
            highest_sequence=self.highest & 0xFFFFFFFF,
            jitter=min(int(self._jitter), 0xFFFFFFFF),
            lsr=self.report_at,
            dlsr=min(age, 0xFFFFFFFF),
        )

    def loss(self) -> tuple[int, int]:
        """Packets lost and sent since this was asked last."""
        result = self._since(self._second)
        self._second = (self.expected, self.received)
        return result

    def _since(self, prior: tuple[int, int]) -> tuple[int, int]:
        sent = max(0, self.expected - prior[0])
        return max(0, sent - (self.received - prior[1])), sent
