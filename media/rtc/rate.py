"""How much may be sent: what the receiver sees of the queue, and of losses.

The receiver (`Arrivals`) compares when packets were sent and when they came. What all
packets of a fifth of a second were late beyond the fastest way of the last seconds is
a queue that we fill: then the estimate falls to a share of what came through. It goes
to the sender as REMB. The sender (`Budget`) takes the lower one of that and its own
cap by losses, gives sound what it needs, and pictures the rest, in coarse steps, for
each change of a bit rate costs the encoder a key frame. aiortc's estimator starts at
what the link cannot carry, never counts losses and knows nothing of sound.

Pure: the time (seconds, monotonic) comes in. Rates are bits a second of RTP packets
with 28 bytes each for UDP and IP.
"""

from dataclasses import dataclass

__all__ = [
    "COPIES_FROM",
    "OVERHEAD",
    "SEND_CLOCK",
    "SOUND_CLOCK",
    "SOUND_HEADERS",
    "STEPS",
    "Arrivals",
    "Budget",
    "Plan",
    "Step",
    "losing",
]

OVERHEAD = 28
"""Bytes of UDP and IPv4 on each packet."""

TICK = 0.2
"""Seconds over which the smallest delay counts: jitter is not a queue."""

STANDING = 0.06
"""Seconds of a queue that all packets wait in, from which on it is too much."""

EMPTY = 0.025
"""Seconds below which there is no queue, and more may come."""

BASE = 5.0
"""Seconds after which the fastest way begins to be forgotten: clocks drift, paths
change, and somebody else's queue is not ours to wait for."""

JUMP = 10.0
"""Seconds by which a sender's clock may be off before it is a new one."""

SEND_CLOCK = 64.0
SOUND_CLOCK = 2**32 / 48_000
"""Seconds after which `abs-send-time` and the timestamps of sound begin again."""

HIGHEST = 2_000_000
LOWEST = 40_000
BACK = 0.85
GROWTH = 1.08
"""As WebRTC's: back to 85 % of what came through, and 8 % more each second."""

HOLD = 0.4
"""Seconds after stepping back in which the queue may drain."""


class Clock:
    """The lateness of one stream's packets beyond its fastest."""

    def __init__(self, modulus: float) -> None:
        self.modulus = modulus
        self._raw: float | None = None
        self._sent = 0.0
        self._fastest = [0.0, 0.0]
        self._since = 0.0

    def late(self, sent: float, now: float) -> float:
        """Seconds, of a packet sent at `sent` (modulo) that came `now`."""
        if self._raw is None:
            return self._start(sent, now)
        half = self.modulus / 2
        self._sent += (sent - self._raw + half) % self.modulus - half
        self._raw = sent
        way = now - self._sent
        if abs(way - min(self._fastest)) > JUMP:
            return self._start(sent, now)
        if now - self._since > BASE:
            self._fastest = [self._fastest[1], way]
            self._since = now
        self._fastest[1] = min(self._fastest[1], way)
        return way - min(self._fastest)

    def _start(self, sent: float, now: float) -> float:
        self._raw = self._sent = sent
        self._fastest = [now - sent, now - sent]
        self._since = now
        return 0.0


class Arrivals:
    """What the path to us carries, from what arrives."""

    def __init__(self) -> None:
        self.estimate = HIGHEST
        self._clocks: dict[str, Clock] = {}
        self._least: float | None = None
        self._count = 0
        self._bytes = 0
        self._at: float | None = None
        self._rates: list[tuple[float, float]] = []
        self._held = 0.0

    def add(
        self, stream: str, sent: float, modulus: float, now: float, size: int
    ) -> None:
        """Count a packet of `size` bytes, sent by a clock that wraps at `modulus`."""
        clock = self._clocks.setdefault(stream, Clock(modulus))
        late = clock.late(sent, now)
        self._least = late if self._least is None else min(self._least, late)
        self._count += 1
        self._bytes += size + OVERHEAD

    def tick(self, now: float) -> bool:
        """Look at the packets since the last tick; whether the estimate fell."""
        if self._at is None:
            self._at = now
        passed = now - self._at
        if passed < TICK * 0.9:
            return False
        self._rates = [*self._rates[-4:], (passed, self._bytes * 8)]
        fell = self._look(now, passed)
        self._at, self._least, self._count, self._bytes = now, None, 0, 0
        return fell

    def _look(self, now: float, passed: float) -> bool:
        queue = self._least if self._count >= 3 else None
        if queue is not None and queue > STANDING:
            if now < self._held:
                return False
            recent = self._rates[-3:]
            through = sum(bits for _, bits in recent) / sum(t for t, _ in recent)
            target = max(LOWEST, int(through * BACK))
            fell = target < self.estimate
            self.estimate = min(self.estimate, target)
            self._held = now + HOLD
            return fell
        if queue is None or queue < EMPTY:
            grown = self.estimate * GROWTH ** min(passed, 1.0)
            self.estimate = int(min(HIGHEST, grown + 1))
        return False


@dataclass(frozen=True)
class Step:
    """A size and rate of pictures for a number of bits a second."""

    bitrate: int
    width: int
    height: int
    fps: int


STEPS = (
    Step(70_000, 240, 180, 8),
    Step(110_000, 320, 240, 10),
    Step(150_000, 320, 240, 15),
    Step(200_000, 320, 240, 15),
    Step(280_000, 320, 240, 15),
    Step(400_000, 320, 240, 15),
    Step(600_000, 480, 360, 15),
    Step(900_000, 640, 480, 15),
    Step(1_300_000, 640, 480, 20),
)

FIRST = 3
"""Index of the step to begin with."""

SOUND = ((70_000, 24_000), (120_000, 32_000), (600_000, 48_000), (HIGHEST, 64_000))
"""Up to which estimate how many bits a second are for Opus. FEC is worth more than
bits: 48,000 with it were measured better than 64,000 without."""

LOSSY, LOSSY_SOUND = 0.01, 64_000
"""Share lost from which Opus gets more where sound is alone and there is room for it:
the copies of FEC are better then (PESQ-WB 3.96 beside 3.71 with 5 % lost, 3.78 beside
3.33 with 10 %, medians of six)."""

RISE, FALL = 0.5, 0.1
"""How much a report of 0.4 s counts that tells of more, or of less, loss than thought:
two of its twenty packets begin copies. With 5 % lost they begin 1.5 s after losses do
(mean of 40; with 0.2 for both 3 s), and once they have begun they stay."""

SOUND_HEADERS = 50 * (12 + 16 + OVERHEAD) * 8
"""Bits a second of RTP, SRTP, UDP and IP around 50 packets of sound."""

COPIES_FROM = 200_000
"""The total from which on sound may be sent with copies."""

PICTURE_SHARE = 0.92
"""Of what pictures are given: the rest are headers and retransmissions."""

START = 290_000
"""The first cap: 200,000 for pictures. At 500,000 a link of 450,000 froze for 4 s."""

NARROW = 150_000
"""Below it pictures stop: what is left after sound is too little for them."""

WIDE = 190_000
"""From it on they are tried again."""

GRACE = 0.4
"""Seconds below `NARROW` until pictures stop: two reports say so."""

RETRY = (10.0, 120.0)
"""Seconds until they are tried again: at first, and at most; doubled each time."""

SETTLED = 30.0
"""Seconds of pictures after which the next retry is a first one."""

UP = 2.5
DOWN = 0.8
"""Seconds between two steps of pictures: each is a key frame."""

PATIENCE = (8.0, 64.0)
"""Seconds until a step that was too much is taken again: at first, and at most."""

MANY, FEW = 0.10, 0.02
"""Shares lost at which the cap falls, and below which it grows."""

USED = 0.6
"""Share of the cap that must be in use for it to grow beyond `START`: unused, it
proves nothing."""


@dataclass(frozen=True)
class Plan:
    """What to send from now on."""

    sound: int
    """Bits a second for Opus."""
    step: Step | None
    """None: no pictures."""
    narrow: bool
    """Whether pictures were stopped because the path is too narrow."""


def losing(thought: float, reported: float) -> float:
    """The share that gets lost: quick to believe in more, slow to believe in less."""
    step = RISE if reported > thought else FALL
    return thought + (reported - thought) * step


@dataclass
class Budget:
    """What we may send, and what for."""

    cap: float = START
    """By losses."""
    remb: int | None = None
    """By the receiver; None: it said nothing."""
    narrow: bool = False
    _step: Step | None = None
    _stepped: float = float("-inf")
    _sound: int = 48_000
    _since: float | None = None
    _begun: float = 0.0
    _stopped: float = float("-inf")
    _wait: float = RETRY[0]
    _too_much: float = float("inf")
    """Bits a second of the step that was left last for a smaller one."""
    _left: float = float("-inf")
    _patience: float = PATIENCE[0]

    @property
    def total(self) -> float:
        """Bits a second that the path is thought to carry."""
        return min(self.cap, self.remb or HIGHEST)

    def report(self, lost: float, passed: float, sent: float) -> None:
        """Take in a receiver's report: the share lost over `passed` seconds.

        `sent`: bits a second that we sent meanwhile.
        """
        passed = min(passed, 2.0)
        if lost > MANY:
            self.cap *= 1 - 0.5 * lost * min(passed, 1.0)
        elif lost < FEW and (sent > USED * self.cap or self.cap < START):
            self.cap *= GROWTH**passed
        self.cap = max(LOWEST, min(HIGHEST, self.cap))

    def plan(
        self, now: float, pictures: bool, copies: bool = False, lost: float = 0.0
    ) -> Plan:
        """Divide what there is.

        Args:
            now: Seconds.
            pictures: Whether there are any to send.
            copies: Whether sound is sent with copies, two of each packet (RFC 2198).
            lost: The share of sound that gets lost.
        """
        self._sound = self._choose_sound()
        sound = self._sound * (3 if copies else 1) + SOUND_HEADERS
        left = (self.total - sound) * PICTURE_SHARE
        self._watch_width(now, pictures)
        if not pictures or self.narrow:
            self._step = None
        else:
            self._choose_step(left, now)
        rate = self._sound
        alone = not (pictures or copies or self.narrow)
        if alone and lost >= LOSSY and self.total >= COPIES_FROM:
            rate = max(rate, LOSSY_SOUND)
        return Plan(rate, self._step, self.narrow)

    def _choose_sound(self) -> int:
        """The rate of Opus; it grows back only when there is 10 % to spare."""
        for limit, rate in SOUND:
            if rate == self._sound and self.total < limit * 1.1:
                return rate
            if self.total < limit:
                return rate
        return SOUND[-1][1]

    def _watch_width(self, now: float, pictures: bool) -> None:
        """Stop pictures, and try them again."""
        if self.narrow:
            if self.total >= WIDE and now - self._stopped >= self._wait:
                self.narrow = False
                self._wait = min(RETRY[1], 2 * self._wait)
                self._begun = now
                self._since = None
            return
        if not pictures:
            self._since = None
            self._begun = now
            return
        if now - self._begun > SETTLED:
            self._wait = RETRY[0]
        if self.total >= NARROW:
            self._since = None
            return
        self._since = now if self._since is None else self._since
        if now - self._since >= GRACE or self.total < NARROW / 2:
            self.narrow = True
            self._stopped = now

    def _choose_step(self, left: float, now: float) -> None:
        """The largest that fits, but not from one moment to the next."""
        fits = [step for step in STEPS if step.bitrate <= left] or [STEPS[0]]
        best = fits[-1]
        if self._step is None:  # after they were stopped, carefully
            first = STEPS[0] if self._wait > RETRY[0] else STEPS[FIRST]
            best = min(best, first, key=lambda step: step.bitrate)
        elif best.bitrate == self._step.bitrate:
            return
        elif best.bitrate < self._step.bitrate:
            if now - self._stepped < DOWN:
                return
            lasted = now - self._stepped > SETTLED
            self._patience = (
                PATIENCE[0] if lasted else min(PATIENCE[1], 2 * self._patience)
            )
            self._too_much, self._left = self._step.bitrate, now
        else:
            best = STEPS[STEPS.index(self._step) + 1]  # one at a time
            hold = self._patience if best.bitrate >= self._too_much else UP
            if now - max(self._stepped, self._left) < hold:
                return
        self._step = best
        self._stepped = now
