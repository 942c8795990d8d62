"""The jitter buffer: what arrives how, and what is heard when.

Time is an argument, so a minute takes as long as it takes to compute. The decoder is
the real one: what counts is the sound.
"""

import ctypes
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

np = pytest.importorskip("numpy", reason="calls need numpy: pip install 'telex[calls]'")
pytest.importorskip("av", reason="libopus is looked for beside PyAV")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from media.audio import jitter  # noqa: E402
from media.audio.jitter import PATIENCE, JitterBuffer, Stats  # noqa: E402
from media.audio.level import rms  # noqa: E402
from media.audio.opus import BLOCK, RATE, Encoder, Pcm, silent_payload  # noqa: E402
from media.audio.stretch import HISTORY, lengthen, shorten  # noqa: E402
from tests.helpers.fuzz import fuzzing  # noqa: E402
from tests.media.sound import blocks, delay_between, likeness, talk  # noqa: E402

TICK = BLOCK / RATE
PATH = 0.05
"""Seconds that the path takes, at its fastest."""
PHASE = 0.013
"""Seconds from the full block at the sender to the next pull, but for the path."""


@dataclass(frozen=True)
class Sent:
    at: float
    seq: int
    timestamp: int
    payload: bytes


@dataclass
class Heard:
    buffer: JitterBuffer
    sound: Pcm
    stats: list[Stats] = field(default_factory=list)

    def delays(self, start: float, end: float) -> list[float]:
        """Milliseconds that sound waited, between two seconds of the call."""
        return [s.delay_ms for s in self.stats[round(start / TICK) : round(end / TICK)]]


def encoded(sound: Pcm, seq: int = 0, timestamp: int = 0) -> list[Sent]:
    """What a sender sends: nothing in silence (DTX)."""
    encoder = Encoder()
    sent: list[Sent] = []
    for number, block in enumerate(blocks(sound)):
        payload = encoder.encode(block)
        if payload is not None:
            at = (timestamp + number * BLOCK) & 0xFFFF_FFFF
            place = (seq + len(sent)) & 0xFFFF
            sent.append(Sent((number + 1) * TICK, place, at, payload))
    return sent


def call(
    sent: Sequence[Sent],
    seconds: float,
    lost: Callable[[Sent], bool] = lambda _: False,
    late: Callable[[Sent], float] = lambda _: 0.0,
    drift: float = 0.0,
    twice: bool = False,
    copies: int = 0,
    buffer: JitterBuffer | None = None,
) -> Heard:
    """Let packets travel and somebody listen; `late` in seconds, `drift` a share."""
    buffer = buffer or JitterBuffer()
    arrivals: list[tuple[float, Sent, Sequence[Sent]]] = []
    for number, packet in enumerate(sent):
        if not lost(packet):
            at = packet.at * (1 + drift) + PATH + late(packet)
            arrivals.append((at, packet, sent[max(number - copies, 0) : number]))
            if twice:
                arrivals.append((at + 0.003, packet, ()))
    arrivals.sort(key=lambda arrival: arrival[0])
    heard = Heard(buffer, np.zeros(0, np.int16))
    sound: list[Pcm] = []
    for number in range(round(seconds / TICK)):
        now = PATH + PHASE + number * TICK
        while arrivals and arrivals[0][0] <= now:
            at, packet, before = arrivals.pop(0)
            buffer.put(packet.seq, packet.timestamp, packet.payload, at)
            for copy in before:
                buffer.put_redundant(copy.seq, copy.timestamp, copy.payload)
        sound.append(buffer.get(now))
        heard.stats.append(buffer.stats)
    heard.sound = np.concatenate(sound)
    return heard


def at_random(share: float, burst: int = 1, seed: int = 7) -> Callable[[Sent], bool]:
    """Lose a share of packets, in bursts of this length on average."""
    chance, bad = random.Random(seed), False

    def lost(_: Sent) -> bool:
        nonlocal bad
        if bad and burst > 1:
            bad = chance.random() >= 1 / burst
        else:
            bad = chance.random() < share / burst / (1 - share)
        return bad

    return lost


def half_normal(deviation: float, seed: int = 7) -> Callable[[Sent], float]:
    chance = random.Random(seed)
    return lambda _: abs(chance.gauss(0, deviation))


TALK = talk(10.0)
SPOKEN = encoded(TALK)
"""Without any pause."""
PAUSE = (talk(0.3, 2) * 0.01).astype(np.int16)
WORDS = encoded(np.concatenate([TALK[: 7 * RATE // 10], PAUSE] * 10))
"""With a pause after each 0.7 s."""


@pytest.fixture(scope="module")
def clean() -> Heard:
    return call(SPOKEN, 10.0)


def pieces_alike(sent: Pcm, heard: Pcm) -> float:
    """How alike half seconds of both are, on average: between them time may stretch."""
    half = RATE // 2
    found = [
        likeness(sent[at : at + half], heard[at : at + 2 * half], 0.5)
        for at in range(half, len(sent) - 2 * half, half)
    ]
    return float(np.mean(found))


def test_clean_all_is_played_and_hardly_waits(clean: Heard) -> None:
    stats = clean.buffer.stats
    assert stats.concealed == stats.recovered == stats.late == 0
    assert stats.played > 0.98 * len(SPOKEN)
    assert max(clean.delays(1, 10)) < 40
    assert likeness(TALK, clean.sound) > 0.85


def test_the_delay_told_is_the_one_that_is_heard(clean: Heard) -> None:
    # From a full block at the sender, which its own 20 ms precede, to the speaker.
    last = slice(9 * RATE, 10 * RATE)
    lag = delay_between(TALK[last], clean.sound[last]) - 0.0065
    # The first pull is a block's duration and `PHASE` before that block's arrival.
    told = clean.buffer.stats.delay_ms / 1000 + TICK - PHASE
    assert lag == pytest.approx(told, abs=0.004)


def test_a_chirp_comes_out_whole() -> None:
    time = np.arange(RATE // 2) / RATE
    chirp = (8000 * np.sin(2 * np.pi * (300 * time + 2000 * time**2))).astype(np.int16)
    sound = np.concatenate((TALK[: 4 * RATE], chirp, TALK[: RATE // 2]))
    heard = call(encoded(sound), 5.0).sound
    assert likeness(chirp, heard[4 * RATE :], 0.2) > 0.75


@pytest.mark.parametrize(
    ("share", "made_up", "alike"),
    [(0.01, 0.01, 0.8), (0.05, 0.02, 0.7), (0.1, 0.04, 0.6)],
)
def test_lost_packets_are_recovered(share: float, made_up: float, alike: float) -> None:
    heard = call(SPOKEN, 10.0, lost=at_random(share))
    stats = heard.buffer.stats
    assert stats.recovered > 0.5 * share * len(SPOKEN)
    assert stats.concealed < made_up * len(SPOKEN)
    assert max(heard.delays(1, 10)) < 80
    assert pieces_alike(TALK, heard.sound) > alike


def losing(sent: Sequence[Sent]) -> Heard:
    """Packets that come late are lost as well from 1.3 s on: repairs need more time."""
    return call(
        sent,
        10.0,
        lost=lambda packet: packet.seq > 60 and packet.seq % 10 == 3,
        late=half_normal(0.01),
        copies=2,
    )


def test_time_for_repairs_is_made_between_words() -> None:
    """Longer vowels in the middle of words are heard, longer pauses are not."""
    heard = losing(WORDS)
    counts = [0, *(stats.stretched for stats in heard.stats)]
    longer = [n for n, (a, b) in enumerate(pairwise(counts)) if b > a]
    assert longer
    loud = [rms(heard.sound[number * BLOCK :][:BLOCK]) for number in longer]
    assert max(loud) < 0.1 * rms(TALK)
    assert heard.buffer.stats.concealed < 3


def test_without_a_pause_time_for_repairs_is_made_at_last() -> None:
    heard = losing(SPOKEN)
    needed = [s.target_ms > s.delay_ms + 5 > 25 for s in heard.stats].index(True)
    longer = [s.stretched > 0 for s in heard.stats].index(True)
    assert needed + PATIENCE - 2 <= longer < needed + 2 * PATIENCE
    assert heard.buffer.stats.delay_ms > heard.stats[longer - 1].delay_ms + 15


def test_bursts_are_made_up_without_adding_delay() -> None:
    heard = call(SPOKEN, 10.0, lost=at_random(0.1, burst=3))
    stats = heard.buffer.stats
    assert stats.played + stats.recovered + stats.concealed > 0.97 * len(SPOKEN)
    assert max(heard.delays(1, 10)) < 100
    assert pieces_alike(TALK, heard.sound) > 0.5


def test_copies_repair_bursts() -> None:
    plain = call(WORDS, 10.0, lost=at_random(0.1, burst=3)).buffer.stats
    copied = call(WORDS, 10.0, lost=at_random(0.1, burst=3), copies=2).buffer.stats
    assert copied.concealed < 0.75 * plain.concealed
    single = call(SPOKEN, 10.0, lost=at_random(0.1), copies=2).buffer.stats
    assert single.concealed + single.recovered < 0.01 * len(SPOKEN)


def test_the_delay_is_back_five_seconds_after_loss_ends() -> None:
    lost = at_random(0.1)
    sound = talk(12.0)
    sent = encoded(sound)
    quiet = call(sent, 12.0).buffer.stats
    heard = call(sent, 12.0, lost=lambda p: p.at < 5 and lost(p))
    assert max(heard.delays(10, 12)) < quiet.delay_ms + 20
    assert heard.buffer.stats.played > 0.9 * len(sent)


def test_jitter_is_waited_for_and_forgotten() -> None:
    late = half_normal(0.02)
    heard = call(
        talked := encoded(talk(15.0)), 15.0, late=lambda p: late(p) * (p.at < 8)
    )
    at_the_end = heard.buffer.stats
    assert at_the_end.concealed + at_the_end.recovered < 0.01 * len(talked)
    assert 40 < np.mean(heard.delays(3, 8)) < 110
    assert heard.stats[350].jitter_ms > 5
    assert max(heard.delays(13.5, 15)) < 40


def test_reordered_packets_are_put_in_order() -> None:
    heard = call(SPOKEN, 10.0, late=lambda p: 0.025 * (p.seq % 4 == 0))
    assert heard.buffer.stats.concealed + heard.buffer.stats.recovered < 5
    assert pieces_alike(TALK, heard.sound) > 0.8


def test_duplicates_change_nothing(clean: Heard) -> None:
    heard = call(SPOKEN, 10.0, twice=True)
    assert heard.buffer.stats.late == len(SPOKEN) - 1  # the last is not heard
    assert np.array_equal(heard.sound, clean.sound)


@pytest.mark.parametrize("drift", [0.0002, -0.0002, 0.002])
def test_clocks_that_drift_apart_cost_neither_sound_nor_delay(drift: float) -> None:
    sent = encoded(np.tile(TALK, 3))
    heard = call(sent, 30.0, drift=drift)
    stats = heard.buffer.stats
    assert stats.concealed + stats.recovered <= 2
    assert stats.late == 0
    assert max(heard.delays(2, 30)) < 60


def test_counters_wrap_around(clean: Heard) -> None:
    sent = encoded(TALK, seq=0xFFF0, timestamp=0xFFFF_FFFF - 100 * BLOCK)
    heard = call(sent, 10.0)
    assert np.array_equal(heard.sound, clean.sound)
    assert heard.buffer.stats.played == clean.buffer.stats.played


def silence(seconds: float) -> Pcm:
    nothing: Pcm = np.zeros(round(seconds * RATE), np.int16)
    return nothing


def test_silence_of_the_sender_is_no_loss() -> None:
    sound = np.concatenate((TALK[: 2 * RATE], silence(3), TALK[2 * RATE : 4 * RATE]))
    sent = encoded(sound)
    assert len(sent) < 290
    heard = call(sent, 7.0)
    stats = heard.buffer.stats
    assert stats.concealed == stats.recovered == stats.late == 0
    assert stats.silent > 60
    assert max(rms(b) for b in blocks(heard.sound)[120:240]) < 20
    assert max(heard.delays(5.5, 7)) < 40
    assert likeness(sound[5 * RATE :], heard.sound[5 * RATE :]) > 0.8


def test_silence_whose_marks_were_lost_is_no_loss_either() -> None:
    sound = np.concatenate((TALK[: 2 * RATE], silence(3), TALK[2 * RATE : 4 * RATE]))
    heard = call(encoded(sound), 7.0, lost=lambda p: silent_payload(p.payload))
    assert heard.buffer.stats.concealed <= 4
    assert max(heard.delays(5.5, 7)) < 40


def test_what_is_never_sent_fades_away() -> None:
    heard = call(SPOKEN, 4.0, lost=lambda p: p.at > 2)
    loud = [rms(block) for block in blocks(heard.sound)]
    end = next(n for n, s in enumerate(heard.stats) if s.concealed)
    assert loud[end] > 0.3 * loud[end - 1]
    assert max(loud[end + 9 :]) == 0


def test_after_an_outage_sound_goes_on_without_its_delay() -> None:
    heard = call(SPOKEN, 10.0, lost=lambda p: 3 < p.at < 6)
    assert max(heard.delays(7, 10)) < 40
    assert heard.buffer.stats.played > 0.65 * len(SPOKEN)
    # The same when the path had kept it all and hands it over at once.
    heard = call(SPOKEN, 10.0, late=lambda p: max(4 - p.at, 0) * (p.at > 2))
    assert max(heard.delays(9.8, 10)) < 60
    assert heard.buffer.stats.played > 0.75 * len(SPOKEN)


def test_a_longer_way_is_soon_the_usual_one() -> None:
    heard = call(SPOKEN, 10.0, late=lambda p: 0.6 * (p.at > 3))
    assert heard.buffer.stats.played > 0.9 * len(SPOKEN)
    # Measured anew: as long as before, beyond the fastest packet.
    assert max(heard.delays(6, 10)) < 60
    assert heard.stats[-1].concealed == heard.stats[300].concealed


def test_a_new_stream_begins_without_a_word_to_say_so() -> None:
    first = call(SPOKEN[:250], 5.0)
    again = [
        Sent(p.at + 5, p.seq + 30_000 & 0xFFFF, p.timestamp + 123_456_789, p.payload)
        for p in SPOKEN[:250]
    ]
    buffer = first.buffer
    played = buffer.stats.played
    for packet in again:
        buffer.put(packet.seq, packet.timestamp, packet.payload, packet.at + PATH)
        buffer.get(packet.at + PATH + PHASE)
    assert buffer.stats.played > played + 240


def test_one_odd_packet_does_not_disturb(clean: Heard) -> None:
    odd = Sent(3.0, 40_000, 99, SPOKEN[0].payload)
    heard = call([*SPOKEN, odd], 10.0)
    assert np.array_equal(heard.sound, clean.sound)


def test_memory_is_bounded_when_nobody_listens() -> None:
    buffer = JitterBuffer()
    for packet in SPOKEN:
        buffer.put(packet.seq, packet.timestamp, packet.payload, packet.at)
    assert len(buffer._packets) <= jitter.PACKETS
    # And who listens then hears what is new.
    for number in range(5):
        buffer.get(10.0 + number * TICK)
    assert buffer.stats.delay_ms < 100


def test_copies_do_not_fill_the_memory() -> None:
    buffer = JitterBuffer()
    first = SPOKEN[0]
    buffer.put(50, 10_000_000, first.payload, 0.0)
    for number in range(1000):
        buffer.put_redundant(49, number * BLOCK, first.payload)
    assert len(buffer._packets) <= jitter.PACKETS


def test_pulls_in_pairs_are_prepared_for() -> None:
    buffer, made_up = JitterBuffer(), 0
    packets = list(SPOKEN)
    for number in range(240):
        now = PHASE + number * 2 * TICK
        while packets and packets[0].at <= now:
            packet = packets.pop(0)
            buffer.put(packet.seq, packet.timestamp, packet.payload, packet.at)
        buffer.get(now)
        buffer.get(now)
        if number == 50:
            made_up = buffer.stats.concealed
    assert buffer.stats.concealed == made_up
    assert buffer.stats.delay_ms < 80


@pytest.mark.parametrize("samples", [480, 1920, 2880])
def test_packets_of_other_lengths_are_played(samples: int) -> None:
    """10, 40 and 60 ms: other programs may send so."""
    encoder = Encoder()
    sent: list[Sent] = []
    out = ctypes.create_string_buffer(1275)
    for at in range(0, len(TALK) - samples + 1, samples):
        part = TALK[at : at + samples].copy()
        size = encoder._lib.opus_encode(
            encoder._state, part.ctypes.data, samples, out, 1275
        )
        sent.append(Sent((at + samples) / RATE, len(sent), at, out.raw[:size]))
    heard = call(sent, 10.0)
    assert heard.buffer.stats.concealed == 0
    assert heard.buffer.stats.played >= 490
    assert max(heard.delays(1, 10)) < 40 + samples / 48
    assert pieces_alike(TALK, heard.sound) > 0.7
    lossy = call(sent, 10.0, lost=at_random(0.05)).buffer.stats
    assert lossy.recovered > 0
    assert lossy.stretched < 40


def test_nothing_is_left_out_in_the_first_moments() -> None:
    # The first packet was slow: sound waits too long, and goes on waiting for now.
    heard = call(SPOKEN, 0.28, late=lambda p: 0.08 * (p.seq == 0))
    assert heard.buffer.stats.stretched == 0


def test_a_failing_decoder_costs_a_block_and_no_more() -> None:
    heard = call(SPOKEN[:100], 1.0)

    def fail(payload: bytes) -> Pcm:
        raise RuntimeError("boom")

    heard.buffer._decoder.decode = fail  # type: ignore[method-assign]
    assert len(heard.buffer.get(PATH + PHASE + 1.0)) == BLOCK


def test_shortened_and_lengthened_sound_keeps_its_pitch() -> None:
    wave = (9000 * np.sin(2 * np.pi * 125 * np.arange(4 * BLOCK) / RATE)).astype("i2")
    period = RATE // 125
    shorter = shorten(wave, 720, 0.9)
    assert shorter is not None
    assert len(wave) - len(shorter) in (period, period // 2 * 2)
    assert np.abs(np.diff(shorter.astype(int))).max() < 200
    longer = lengthen(wave[:HISTORY], wave[HISTORY:], 0.9)
    assert longer is not None
    assert len(longer) - len(wave[HISTORY:]) == period
    assert np.abs(np.diff(longer.astype(int))).max() < 200


def test_noise_is_no_good_place() -> None:
    noise = np.random.default_rng(1).integers(-9000, 9000, 4 * BLOCK).astype("i2")
    assert shorten(noise, 720, 0.85) is None
    assert lengthen(noise[:HISTORY], noise[HISTORY:], 0.85) is None
    assert shorten(np.zeros(2 * BLOCK, np.int16), 720, 0.85) is not None


PUTS = st.tuples(
    st.integers(-(2**33), 2**33),
    st.integers(-(2**33), 2**33),
    st.one_of(st.binary(max_size=40), st.sampled_from([p.payload for p in SPOKEN[:4]])),
    st.integers(0, 3),
)


@fuzzing
@given(puts=st.lists(PUTS, max_size=30), near=st.booleans())
def test_fuzz_whatever_is_put_in_sound_comes_out(
    puts: list[tuple[int, int, bytes, int]], near: bool
) -> None:
    buffer, now = JitterBuffer(), 0.0
    for number, (seq, timestamp, payload, wait) in enumerate(puts):
        if near:
            seq, timestamp = number + seq % 5, number * 960 + timestamp % 4800
        if wait == 3:
            buffer.put_redundant(seq, timestamp, payload)
        else:
            buffer.put(seq, timestamp, payload, now)
        for _ in range(wait):
            block = buffer.get(now)
            assert block.dtype == np.int16
            assert block.shape == (BLOCK,)
            now += TICK
    assert len(buffer._packets) <= jitter.PACKETS
    assert len(buffer._pcm) <= 4 * 5760
