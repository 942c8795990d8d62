"""The jitter buffer: packets in as they come, 20 ms of sound out whenever asked.

A pull model, as WebRTC's NetEq: whoever plays asks for a block, and gets

    the packet whose turn it is;
    else what the next packet tells of it (in-band FEC, or redundancy, RFC 2198);
    else a concealment by the decoder, which fades after 100 ms;
    else, where the sender chose to be silent (DTX), its background noise.

Sound waits here for `target`: what 97 % of the packets of the last seconds were late
at most, and a guard. While packets get lost the guard grows by the time that the next
packet needs to come, for it repairs the lost one. Where sound waits longer or shorter
than that, pitch periods are left out or doubled (`stretch`). What never came does not
delay what follows; what comes late does, until it is made up for.

Time comes in: seconds of any monotonic clock, the same for `put` and `get`.
"""

import logging
import threading
from typing import Final, NamedTuple

import numpy as np

from media.audio.level import rms
from media.audio.opus import BLOCK, RATE, Decoder, Pcm, silent_payload
from media.audio.stretch import HISTORY, HUSH, SHORTEST, lengthen, shorten
from media.audio.timing import Arrivals, Pulls

__all__ = ["JitterBuffer", "Stats"]

log = logging.getLogger(__name__)

PACKETS: Final = 100
"""The most that wait: 2 s; it is reached only when nobody asks for sound."""
PAYLOAD: Final = 1500
"""Bytes of the largest payload taken: more does not come in one datagram."""
MISORDER: Final = 100
DROPOUT: Final = 3000
"""Packets by which a number may go back or ahead (RFC 3550, appendix A.1); beyond
that two in a row make a new start."""
STALE: Final = 1.0
"""Seconds of lateness that cannot be jitter: the stream's clock was set anew."""

GUARD: Final = 0.010
"""Seconds above the lateness measured: for the last 3 %."""
SLIP: Final = 0.005
"""Seconds by which sound may be early or late before anything is done."""
START: Final = 0.030
"""Seconds that the very first packet waits, as nothing is known yet."""
TARGETS: Final = (0.010, 0.400)
"""Seconds; G.114 has 400 ms as the most with which people can talk."""
LOSING: Final = 3.5
"""Seconds after a loss for which the next is expected."""
RARE: Final = 10.0
"""Seconds between two losses that need no repair: one block in ten seconds."""
JUMP: Final = 0.5
"""Seconds too late at which sound is left out at once, not bit by bit."""

SETTLED: Final = 10
"""Blocks (200 ms) at the start in which nothing is left out."""
REST: Final = 3
"""Blocks from one change of length to the next: a fifth faster or slower at most."""
HURRY: Final = 0.1
"""Seconds off the target at which there is no rest."""
PATIENCE: Final = 75
"""Blocks (1.5 s) in which a pause of the talk is waited for, to make up for less than
two blocks, or to wait for repairs: 12 s of speech made longer in the middle of words
lose 0.06 of PESQ with 5 % lost, which is more than the repairs that come later."""
PAUSE: Final = 0.03
"""RMS below which it is a pause (-30 dB), as a share of the loudest of late."""
FAR: Final = 5
"""Packets for whose copies is waited at most: 100 ms."""
LIKENESS: Final = (0.85, 0.30)
"""Correlation of two pitch periods that may be merged: at first, and when no better
place was found for long."""

FADE_AFTER: Final = 4800
FADE_FOR: Final = 2880
"""Samples (100 and 60 ms) of made-up sound that are heard whole, then fading."""
RAMP: Final = 240
"""Samples (5 ms) in which sound comes back after silence."""


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
    stretched: int = 0
    """Times that sound was made shorter or longer."""


class Packet(NamedTuple):
    seq: int
    payload: bytes
    samples: int
    copy: bool = False
    """Whether it came within a later one (RFC 2198)."""


class JitterBuffer:
    """Made by one leg; `put` and `get` may be in different threads."""

    def __init__(self, decoder: Decoder | None = None) -> None:
        """Raises `MediaError` (`no_library`)."""
        self._decoder = decoder or Decoder()
        self._lock = threading.Lock()
        self._pulls = Pulls()
        # Counts, in samples but for the last two.
        self._played = self._recovered = self._concealed = self._silent = 0
        self._late = self._stretched = 0
        self._delay = self._now = 0.0
        self._reach = 1
        self._begin()

    def _begin(self) -> None:
        """Know nothing of the stream."""
        self._packets: dict[int, Packet] = {}
        """By timestamp; it and `seq` are counted on past their wraparound."""
        self._arrivals = Arrivals()
        self._top: tuple[int, int] | None = None
        """The highest number that came, and the timestamp with it."""
        self._seen = 0
        """Bit n: the packet n before the highest one came."""
        self._odd: int | None = None
        """The number which would show that the last odd one was a new start."""
        self._next: int | None = None
        """Timestamp of what is decoded next; None: nothing was played yet."""
        self._seq = 0
        """Number of what was decoded last."""
        self._length = BLOCK
        """Samples of it."""
        self._paused = False
        """Whether the sender is silent."""
        self._waited = 0
        """Samples made up since there was nothing to play."""
        self._hidden = 0
        """Samples made up in a row."""
        self._pcm: Pcm = np.zeros(0, np.int16)
        """Decoded and not yet played."""
        self._plain = False
        """Whether that is as it was sent."""
        self._history: Pcm = np.zeros(HISTORY, np.int16)
        self._blocks = 0
        self._rest = 0
        self._wanted = 0
        self._loud = 0.0
        self._lost: float | None = None
        self._losing = 0.0
        self._decoder.reset()

    # In

    def put(self, seq: int, timestamp: int, payload: bytes, now: float) -> None:
        """Take in a packet; `now`: when it came, in seconds of a monotonic clock."""
        with self._lock:
            samples = self._decoder.samples(payload)
            if not samples or len(payload) > PAYLOAD:
                return
            if self._top is None:
                self._top = (seq & 0xFFFF, timestamp & 0xFFFF_FFFF)
            place = self._place(seq, timestamp)
            if place is None:
                if self._odd != seq & 0xFFFF:
                    self._odd = seq + 1 & 0xFFFF
                    return
                self._begin()
                place = self._top = (seq & 0xFFFF, timestamp & 0xFFFF_FFFF)
            self._odd = None
            self._take(place, Packet(place[0], payload, samples), now)

    def _place(self, seq: int, timestamp: int) -> tuple[int, int] | None:
        """Count on from the highest packet; None: this one has no place there."""
        assert self._top is not None
        step = _signed(seq - self._top[0], 16)
        ahead = _signed(timestamp - self._top[1], 32)
        if not -MISORDER <= step <= DROPOUT or (step > 0) - (step < 0) != (
            (ahead > 0) - (ahead < 0)
        ):
            return None
        return self._top[0] + step, self._top[1] + ahead

    def _take(self, place: tuple[int, int], packet: Packet, now: float) -> None:
        assert self._top is not None
        seq, at = place
        step = seq - self._top[0]
        if step > 0:
            self._top = place
            self._seen = (self._seen << step) & ((1 << MISORDER) - 1)
        if self._seen >> max(-step, 0) & 1:
            self._late += 1
            return
        self._seen |= 1 << max(-step, 0)
        late = now - at / RATE - self._arrivals.base
        if late > STALE and self._seen != 1:
            self._begin()
            self._top, self._seen = place, 1
        self._arrivals.note(at, now)
        self._keep(at, packet)

    def _keep(self, at: int, packet: Packet) -> None:
        if self._next is not None and at < self._next:
            self._late += 1
            return
        self._packets[at] = packet
        if len(self._packets) > PACKETS:
            del self._packets[min(self._packets)]
            if self._next is not None:
                self._skip(min(self._packets))

    def put_redundant(self, seq: int, timestamp: int, payload: bytes) -> None:
        """Take in the copy of an earlier packet that a later one carried (RFC 2198).

        After the `put` of the packet that carried it.
        """
        with self._lock:
            samples = self._decoder.samples(payload)
            place = self._place(seq, timestamp) if self._top else None
            if not samples or len(payload) > PAYLOAD or not place or not self._top:
                return
            back = self._top[0] - place[0]
            if (
                0 < back < MISORDER
                and place[1] not in self._packets
                and len(self._packets) < PACKETS
            ):
                self._reach = min(max(self._reach, back), FAR)
                if self._next is None or place[1] >= self._next:
                    self._packets[place[1]] = Packet(place[0], payload, samples, True)

    def reset(self) -> None:
        """Forget the stream, for another one (SSRC) begins; the counts go on."""
        with self._lock:
            self._begin()

    # Out

    def get(self, now: float) -> Pcm:
        """Give the next 960 samples: always, at once, and without an exception."""
        try:
            with self._lock:
                return self._block(now)
        except Exception:
            # A device's thread calls: with an exception the device would stop.
            log.exception("the jitter buffer failed")
            return np.zeros(BLOCK, np.int16)

    @property
    def stats(self) -> Stats:
        """What it has done so far."""
        with self._lock:
            return Stats(
                delay_ms=1000 * self._delay,
                target_ms=1000 * self._target(self._now),
                jitter_ms=1000 * self._arrivals.jitter,
                played=self._played // BLOCK,
                recovered=self._recovered // BLOCK,
                concealed=self._concealed // BLOCK,
                silent=self._silent // BLOCK,
                late=self._late,
                stretched=self._stretched,
            )

    def _block(self, now: float) -> Pcm:
        self._now = eager = self._pulls.note(now)
        if self._next is None and not self._start(eager):
            self._silent += BLOCK
            return np.zeros(BLOCK, np.int16)
        self._catch_up(eager)
        # When the next packet will be needed, and how long it could have been here.
        needed = eager + len(self._pcm) // BLOCK * BLOCK / RATE
        slack = self._slack(self._next or 0, needed)
        if len(self._pcm) < BLOCK:
            before = self._played
            while len(self._pcm) < BLOCK:
                self._pcm = np.concatenate((self._pcm, self._frame(eager)))
            self._plain = self._played - before >= BLOCK
        if self._plain:
            self._adapt(slack, eager)
        block, self._pcm = self._pcm[:BLOCK], self._pcm[BLOCK:]
        self._history = block[-HISTORY:]
        self._blocks += 1
        if not self._waited and not self._paused:
            heard = (self._next or 0) - len(self._pcm) - BLOCK
            self._delay = self._slack(heard, now)
        return block

    def _slack(self, at: int, now: float) -> float:
        """Seconds since a packet of this time could have been here."""
        return now - self._arrivals.base - at / RATE

    def _target(self, now: float) -> float:
        guard = GUARD
        if now < self._losing:
            guard = 2 * SLIP + self._reach * self._length / RATE
        low, high = TARGETS
        return min(max(self._arrivals.late + guard, low), high)

    def _start(self, now: float) -> bool:
        """Begin with the newest packet that has waited long enough."""
        target = max(self._target(now), START)
        ready = [at for at in self._packets if self._slack(at, now) >= target]
        if ready:
            self._skip(max(ready))
        return bool(ready)

    def _skip(self, at: int) -> None:
        """Go on at a packet, whatever was before it."""
        for earlier in [key for key in self._packets if key < at]:
            del self._packets[earlier]
        self._next, self._seq = at, self._packets[at].seq - 1
        self._waited = 0

    def _catch_up(self, now: float) -> None:
        """Leave out what has become too old, after a time when nobody asked."""
        assert self._next is not None
        late = self._target(now) + JUMP
        if self._packets and self._slack(min(self._packets), now) > late:
            fresh = [at for at in self._packets if self._slack(at, now) <= late - JUMP]
            self._skip(min(fresh, default=max(self._packets)))

    def _frame(self, now: float) -> Pcm:
        """Give what comes next, some milliseconds of it."""
        assert self._next is not None
        packet = self._packets.pop(self._next, None)
        if packet is not None:
            if packet.copy:
                self._note_loss(now)
            return self._play(packet)
        if not self._packets:
            return self._wait()
        at = min(self._packets)
        packet = self._packets[at]
        lost = packet.seq - self._seq - 1
        if self._paused or lost * packet.samples < at - self._next:
            return self._pause(at, packet, lost, now)
        self._note_loss(now)
        self._next += min(at - self._next, self._waited)
        self._waited = 0
        gap = at - self._next
        if gap < SHORTEST:
            self._next = at
            return self._frame(now)
        if gap == packet.samples:
            return self._recover(packet)
        gap = min(gap, BLOCK) // SHORTEST * SHORTEST
        self._next += gap
        return self._conceal(gap)

    def _play(self, packet: Packet) -> Pcm:
        assert self._next is not None
        sound = self._decoder.decode(packet.payload)
        if self._hidden > FADE_AFTER:
            sound = _fade_in(sound)
        self._next += packet.samples
        self._seq, self._length = packet.seq, packet.samples
        self._waited = self._hidden = 0
        self._paused = silent_payload(packet.payload)
        if self._paused:
            self._silent += len(sound)
        else:
            self._played += len(sound)
        return sound

    def _wait(self) -> Pcm:
        """Nothing is there: late or lost, which one is seen when the next comes."""
        if self._paused:
            self._silent += BLOCK
            return self._decoder.conceal(BLOCK)
        self._waited += BLOCK
        return self._conceal(BLOCK)

    def _pause(self, at: int, packet: Packet, lost: int, now: float) -> Pcm:
        """Between two talk spurts: begin the next one after the time it should wait.

        No other place is as good for getting the delay right.
        """
        assert self._next is not None
        self._paused = True
        # What was made up before this was known is no loss.
        self._concealed -= self._waited
        self._silent += self._waited
        self._waited = 0
        if self._slack(at, now) < self._target(now):
            self._silent += BLOCK
            return self._decoder.conceal(BLOCK)
        self._paused = False
        repairs = lost > 0 and self._decoder.repairs(packet.payload)
        if repairs and at - packet.samples >= self._next:
            # The first packet of the spurt is missing: the second knows of it.
            return self._recover(packet)
        self._next, self._seq = at, packet.seq - 1
        return self._frame(now)

    def _recover(self, packet: Packet) -> Pcm:
        """Repair the packet before this one."""
        at = min(self._packets)
        self._next, self._seq = at, packet.seq - 1
        if not self._decoder.repairs(packet.payload):
            return self._conceal(packet.samples)
        sound = self._decoder.recover(packet.payload)
        self._recovered += len(sound)
        self._hidden = 0
        return sound

    def _conceal(self, samples: int) -> Pcm:
        self._concealed += samples
        start, self._hidden = self._hidden, self._hidden + samples
        if start >= FADE_AFTER + FADE_FOR:
            return np.zeros(samples, np.int16)
        sound = self._decoder.conceal(samples)
        if self._hidden <= FADE_AFTER:
            return sound
        gain = 1 - (np.arange(start, start + samples) - FADE_AFTER) / FADE_FOR
        return (sound * np.clip(gain, 0, 1)).astype(np.int16)

    def _note_loss(self, now: float) -> None:
        if self._lost is not None and now - self._lost < RARE:
            self._losing = now + LOSING
        self._lost = now

    def _adapt(self, slack: float, now: float) -> None:
        """Make what is played next longer or shorter, where it has to be."""
        assert self._next is not None
        loudness = rms(self._pcm)
        self._loud = max(0.99 * self._loud, loudness)
        self._rest -= 1
        over = slack - self._target(now)
        more = self._packets.get(self._next)
        if (
            more is not None
            and over > more.samples / RATE + SLIP
            and len(self._pcm) < 2 * BLOCK
        ):
            del self._packets[self._next]
            self._pcm = np.concatenate((self._pcm, self._play(more)))
        spare = len(self._pcm) - BLOCK
        if over >= -SLIP and (spare < SHORTEST or self._blocks < SETTLED):
            self._wanted = 0
            return
        self._wanted += 1
        pause = loudness < max(PAUSE * self._loud, HUSH)
        # Packets come too late as it is; else no more is at stake than a repair.
        urgent = over < -SLIP and slack < self._arrivals.late + GUARD - SLIP
        patient = self._wanted < PATIENCE and -HURRY < over < 2 * BLOCK / RATE
        if (self._rest > 0 and abs(over) < HURRY) or (
            patient and not urgent and not pause
        ):
            return
        first, last = LIKENESS
        likeness = max(first - 0.01 * max(self._wanted - PATIENCE, 0), last)
        if pause:
            likeness = -1
        if over < -SLIP:
            changed = lengthen(self._history, self._pcm, likeness)
        else:
            changed = shorten(self._pcm, spare, likeness)
        if changed is not None:
            self._pcm = changed
            self._stretched += 1
            self._rest = REST


def _signed(difference: int, bits: int) -> int:
    """Take a difference of two counters that wrap around, in one of two ways."""
    half = 1 << bits - 1
    return (difference + half) % (2 * half) - half


def _fade_in(sound: Pcm) -> Pcm:
    faded = sound.copy()
    count = min(RAMP, len(sound))
    faded[:count] = faded[:count] * np.linspace(0, 1, count)
    return faded
