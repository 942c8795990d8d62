"""The studio: who hears what, how loud, and how clean."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from typing import ClassVar

import pytest

np = pytest.importorskip("numpy", reason="calls need numpy: pip install 'telex[calls]'")
pytest.importorskip("av", reason="libopus is looked for beside PyAV")

from media.audio import studio as module  # noqa: E402
from media.audio.jitter import JitterBuffer  # noqa: E402
from media.audio.level import rms  # noqa: E402
from media.audio.mixer import Mixer, mix  # noqa: E402
from media.audio.opus import BLOCK, RATE, Encoder, Pcm  # noqa: E402
from media.audio.tones import LOUDNESS, Tones  # noqa: E402
from media.audio.voice import Voice  # noqa: E402
from media.port import Levels, MediaError, Sound, Tone, Trouble  # noqa: E402
from tests.media.room import Room, Source, in_call, open_room  # noqa: E402
from tests.media.sound import blocks, likeness, talk  # noqa: E402


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    async with open_room() as room:
        yield room


async def test_all_legs_get_the_same_of_our_voice(room: Room) -> None:
    await in_call(room)
    room.add("carol")
    await room.pass_time(2.0)
    assert len(room.sent["bob"]) == 100
    assert [p for p, _ in room.sent["bob"]] == [p for p, _ in room.sent["carol"]]
    times = [at for _, at in room.sent["bob"]]
    assert [b - a for a, b in itertools.pairwise(times)] == [BLOCK] * 99
    assert likeness(room.system.sound[: 2 * RATE], room.decoded("bob")) > 0.85


async def test_the_speaker_plays_the_sum_of_all_legs(room: Room) -> None:
    one, other = talk(1.0, seed=2) // 4, talk(1.0, seed=3) // 4
    bob = await in_call(room, one)
    carol = room.add("carol", other)

    async def heard() -> Pcm:
        bob.rewind()
        carol.rewind()
        room.system.played.clear()
        await room.pass_time(1.02)
        played: Pcm = np.concatenate(room.system.played)
        return played

    both = await heard()
    assert likeness(one + other, both, 0.03) > 0.97
    room.studio.remove("carol")
    alone = await heard()
    assert likeness(one, alone, 0.03) > 0.97


async def test_muted_nothing_of_the_voice_is_sent(room: Room) -> None:
    await in_call(room)
    await room.pass_time(1.0)
    room.studio.set_muted(True)
    await room.pass_time(1.0)
    room.studio.set_muted(False)
    await room.pass_time(1.0)
    heard = blocks(room.decoded("bob"))
    assert rms(heard[40]) > 500
    # One block: the decoder lets what it had heard before die away.
    assert max(int(np.abs(block).max()) for block in heard[52:100]) <= 2
    assert rms(heard[110]) > 500
    sent = [payload for payload, _ in room.sent["bob"]]
    # What is sent is what a fresh encoder makes of nothing, to the bit.
    fresh = Encoder()
    assert sent[50:100] == [fresh.encode(np.zeros(BLOCK, np.int16)) for _ in range(50)]


def test_a_block_begun_while_muted_stays_silent() -> None:
    sent: list[bytes | None] = []
    voice = Voice(Encoder(), lambda payload, _: sent.append(payload))
    sound = talk(1.0)
    voice.muted = True
    voice.hear(sound[:700], 0.0)
    voice.muted = False
    voice.hear(sound[700:BLOCK], 0.0)
    assert sent == [Encoder().encode(np.zeros(BLOCK, np.int16))]
    voice.hear(sound[BLOCK : 2 * BLOCK], 0.0)
    assert len(sent[1] or b"") > 60


def test_timestamps_follow_the_clock_when_the_microphone_sleeps() -> None:
    times: list[int] = []
    voice = Voice(Encoder(), lambda _, timestamp: times.append(timestamp))
    block = talk(1.0)[:BLOCK]
    for now in (1.0, 1.02, 1.09, 1.09, 1.09, 1.1, 2.12, 2.14):
        voice.hear(block, now)
    # Unevenly is not asleep; a second is.
    assert times == [BLOCK * n for n in (0, 1, 2, 3, 4, 5, 56, 57)]


async def test_held_neither_sends_nor_plays(room: Room) -> None:
    source = await in_call(room, talk(1.0, seed=2))
    room.studio.set_held(True)
    await room.pass_time(0.1)
    room.sent["bob"].clear()
    room.system.played.clear()
    pulled = source.pulled
    await room.pass_time(0.5)
    assert [payload for payload, _ in room.sent["bob"]] == [None] * 25
    assert not np.concatenate(room.system.played).any()
    assert source.pulled == pulled + 25
    room.studio.set_held(False)
    await room.pass_time(0.1)
    assert room.sent["bob"][-1][0]
    assert np.concatenate(room.system.played).any()


async def test_levels_tell_how_loud_it_is(room: Room) -> None:
    await in_call(room, talk(1.0, seed=2))
    await room.pass_time(0.5)
    room.events.clear()
    await room.until(lambda: len(room.events) > 0)
    first = room.events[0]
    assert isinstance(first, Levels)
    assert 0.3 < first.microphone <= 1
    assert 0.3 < first.speaker <= 1
    room.studio.set_muted(True)
    await room.pass_time(0.1)
    await room.until(lambda: len(room.events) > 2)
    assert isinstance(room.events[-1], Levels)
    assert room.events[-1].microphone == 0


class Cleaner:
    """Stands for WebRTC's processing: a quarter as loud, and notes what is played."""

    made: ClassVar[list["Cleaner"]] = []

    def __init__(self, echo: bool, noise: bool, gain: bool, delay: float) -> None:
        self.switches, self.delay = (echo, noise, gain), delay
        self.played: list[Pcm] = []
        Cleaner.made.append(self)

    def near(self, block: Pcm) -> Pcm:
        return block // 4

    def far(self, block: Pcm) -> None:
        self.played.append(block.copy())

    def set_delay(self, delay: float) -> None:
        self.delay = delay


def test_what_cleans_the_sound_brings_nothing_into_the_next_call() -> None:
    """WebRTC's filters keep 12 ms; this one keeps a whole block."""
    kept: list[Pcm] = [np.zeros(BLOCK, np.int16)]
    encoded: list[Pcm] = []

    class Ears(Encoder):
        def encode(self, block: Pcm) -> bytes | None:
            encoded.append(block)
            return super().encode(block)

    def near(block: Pcm) -> Pcm:
        kept.append(block)
        return kept[-2]

    voice = Voice(Ears(), lambda payload, timestamp: None)
    voice.near = near
    for number, block in enumerate(blocks(talk(0.2))):
        voice.hear(block, 1 + 0.02 * number)
    assert rms(encoded[-1]) > 100
    voice.restart()
    encoded.clear()
    voice.hear(np.zeros(BLOCK, np.int16), 9.0)
    assert len(encoded) == 1
    assert not encoded[0].any()


async def test_the_echo_canceller_hears_exactly_what_is_played(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "Processing", Cleaner)
    Cleaner.made.clear()
    await room.studio.set_sound(Sound(gain=False))
    await in_call(room, talk(1.0, seed=2))
    await room.until(lambda: bool(Cleaner.made) and room.studio._mixer.far is not None)
    cleaner = Cleaner.made[0]
    assert cleaner.switches == (True, True, False)
    await room.pass_time(0.02)
    room.system.played.clear()
    room.sent["bob"].clear()
    cleaner.played.clear()
    room.studio.play("busy")
    await room.pass_time(1.0)
    played = np.concatenate(room.system.played)
    assert likeness(np.concatenate(cleaner.played), played, 0.05) > 0.97
    assert len(cleaner.played) == 50
    assert cleaner.delay == pytest.approx(0.04)
    assert rms(room.decoded("bob")) < 0.4 * rms(room.system.sound)


async def test_without_processing_the_call_goes_on_and_says_so_once(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> None:
        raise MediaError("no_library", "Echo cancellation needs livekit.")

    monkeypatch.setattr(module, "Processing", missing)
    await room.studio.set_sound(Sound())
    await in_call(room)
    await room.until(lambda: bool(room.troubles))
    room.studio.remove("bob")
    await in_call(room)
    await room.pass_time(0.5)
    assert rms(room.decoded("bob")) > 500
    text = "Echo cancellation needs livekit."
    assert room.troubles == [Trouble("processing", "no_library", text)]


async def test_a_listener_that_fails_does_not_silence_the_others(room: Room) -> None:
    def broken(payload: bytes | None, timestamp: int) -> None:
        raise RuntimeError("boom")

    room.studio.add("bad", Source(talk(0.1)), broken)  # type: ignore[arg-type]
    await in_call(room)
    await room.pass_time(0.2)
    assert len(room.sent["bob"]) == 10


async def test_the_worst_leg_decides_about_the_bitrate(room: Room) -> None:
    async def bytes_in_two_seconds() -> int:
        room.sent["bob"].clear()
        await room.pass_time(2.0)
        return sum(len(payload or b"") for payload, _ in room.sent["bob"])

    await in_call(room)
    room.add("carol")
    room.studio.tune(48_000, 0.05, leg="bob")
    good = await bytes_in_two_seconds()
    room.studio.tune(16_000, 0.0, leg="carol")
    assert await bytes_in_two_seconds() < 0.6 * good
    room.studio.remove("carol")
    assert await bytes_in_two_seconds() > 0.8 * good


async def test_a_call_with_a_real_buffer_is_heard_at_the_other_end(room: Room) -> None:
    """Two halves of one studio: what we say comes back to our speaker."""
    buffer, numbers = JitterBuffer(), itertools.count()

    def send(payload: bytes | None, timestamp: int) -> None:
        if payload:
            now = time.monotonic()
            buffer.put(next(numbers), timestamp, payload, now)

    room.studio.add("echo", buffer, send)
    await room.ready("microphone", "speaker")
    # Real time: the buffer goes by the clock.
    for _ in range(50):
        await asyncio.sleep(0.01)
        await room.pass_time(0.01)
    assert buffer.stats.played > 15
    assert rms(np.concatenate(room.system.played[-20:])) > 300


def test_a_sum_is_limited_softly() -> None:
    loud = np.full(BLOCK, 20_000, np.int16)
    assert np.array_equal(mix([loud]), loud)
    assert mix([]).shape == (BLOCK,)
    small = np.full(BLOCK, 5_000, np.int16)
    assert set(mix([small, small, small])) == {15_000}
    sums = [int(mix([loud] * count)[0]) for count in (1, 2, 3, 8)]
    assert sums == sorted(sums)
    assert sums[-1] <= 32_767
    assert int(mix([-loud] * 8)[0]) >= -32_768


@pytest.mark.parametrize(
    ("tone", "on", "round_s"),
    [("ring", 0.2, 4.0), ("ringback", 1.0, 5.0), ("busy", 0.48, 0.96)],
)
def test_tones_have_their_cadence(tone: Tone, on: float, round_s: float) -> None:
    tones = Tones(lambda: None)
    assert tones.block() is None
    tones.play(tone)
    taken = [tones.block() for _ in range(round(2 * round_s / 0.02))]
    sound = np.concatenate([block for block in taken if block is not None])
    assert len(sound) == 2 * round_s * RATE
    half = len(sound) // 2
    assert np.array_equal(sound[:half], sound[half:])
    assert np.abs(sound).max() <= LOUDNESS
    assert np.abs(np.diff(sound.astype(int))).max() < 500
    quiet = np.flatnonzero(np.convolve(np.abs(sound) > 0, np.ones(480), "valid") == 0)
    assert quiet[0] / RATE == pytest.approx(on, abs=0.02)
    tones.play("none")
    assert tones.block() is None


def test_a_failing_canceller_does_not_stop_the_speaker() -> None:
    def fail(_: Pcm) -> None:
        raise RuntimeError("boom")

    mixer = Mixer(Tones(lambda: None))
    mixer.far = fail
    assert len(mixer.fill(1000, 0.0)) == 1000
    assert mixer.far is None
