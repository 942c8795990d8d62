"""Opus: what comes out, silence that is not sent, and payloads that are hostile."""

import itertools

import pytest

np = pytest.importorskip("numpy", reason="calls need numpy: pip install 'telex[calls]'")
pytest.importorskip("av", reason="libopus is looked for beside PyAV")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from media.audio import opus  # noqa: E402
from media.audio.level import Meter, rms  # noqa: E402
from media.audio.opus import BLOCK, RATE, Decoder, Encoder, Pcm  # noqa: E402
from media.port import MediaError  # noqa: E402
from tests.helpers.fuzz import fuzzing  # noqa: E402
from tests.media.sound import blocks, likeness, talk  # noqa: E402

SILENCE = np.zeros(BLOCK, np.int16)


def test_speech_comes_through() -> None:
    sound = talk(2.0)
    encoder, decoder = Encoder(), Decoder()
    payloads = [encoder.encode(block) for block in blocks(sound)]
    assert all(payloads)
    heard = np.concatenate([decoder.decode(p) for p in payloads if p])
    assert len(heard) == len(sound)
    assert likeness(sound, heard) > 0.9
    size = sum(len(p) for p in payloads if p) * 8 / 2
    assert 24_000 < size < 56_000


def test_silence_is_marked_and_then_not_sent() -> None:
    encoder = Encoder()
    sent = [encoder.encode(SILENCE) for _ in range(250)]
    assert None not in sent[: opus.HANGOVER]
    later = sent[100:]
    assert later.count(None) > 0.8 * len(later)
    marks = [
        len(list(run))
        for silent, run in itertools.groupby(
            (p for p in sent if p is not None), key=opus.silent_payload
        )
        if silent
    ]
    assert set(marks[:-1]) == {opus.MARKS}
    # Background noise is renewed at least every 400 ms.
    runs = [len(list(r)) for none, r in itertools.groupby(later, bool) if not none]
    assert max(runs) <= 20


@pytest.mark.parametrize("told", [None, opus.LOSS])
def test_a_lost_packet_is_recovered_from_the_next(told: float | None) -> None:
    """Also on a path that has lost nothing so far."""
    sound = talk(1.0)
    encoder, decoder = Encoder(), Decoder()
    if told is not None:
        encoder.tune(48_000, told)
    payloads = [encoder.encode(block) or b"" for block in blocks(sound)]
    heard: list[Pcm] = []
    for number, payload in enumerate(payloads[:-1]):
        if number % 5 == 4:
            assert decoder.repairs(payloads[number + 1])
            heard.append(decoder.recover(payloads[number + 1]))
        else:
            heard.append(decoder.decode(payload))
    assert likeness(sound, np.concatenate(heard)) > 0.8


def test_where_nothing_is_to_be_repaired_the_bits_go_to_the_sound() -> None:
    encoder, decoder = Encoder(), Decoder()
    encoder.tune(48_000, 0.0)
    payloads = [encoder.encode(block) or b"" for block in blocks(talk(1.0))]
    assert not any(decoder.repairs(payload) for payload in payloads)
    encoder.tune(48_000, opus.LOSS)
    payloads = [encoder.encode(block) or b"" for block in blocks(talk(1.0))]
    assert sum(decoder.repairs(payload) for payload in payloads) > 40


def test_concealment_goes_on_and_dies_away() -> None:
    encoder, decoder = Encoder(), Decoder()
    for block in blocks(talk(0.5)):
        last = decoder.decode(encoder.encode(block) or b"")
    made_up = [rms(decoder.conceal()) for _ in range(50)]
    assert made_up[0] > 0.3 * rms(last)
    assert made_up[-1] < 0.05 * rms(last)


def test_after_a_reset_nothing_of_the_voice_is_left() -> None:
    encoder, decoder, fresh = Encoder(), Decoder(), Encoder()
    for block in blocks(talk(1.0)):
        decoder.decode(encoder.encode(block) or b"")
    encoder.reset()
    payloads = [encoder.encode(SILENCE) for _ in range(70)]
    assert payloads == [fresh.encode(SILENCE) for _ in range(70)]


def test_tuning_takes_effect_while_it_runs() -> None:
    sound = blocks(talk(2.0))
    encoder = Encoder()
    before = sum(len(encoder.encode(block) or b"") for block in sound)
    encoder.tune(16_000, 0.0)
    after = sum(len(encoder.encode(block) or b"") for block in sound)
    assert after < 0.6 * before
    encoder.tune(10**9, 7.0)
    encoder.tune(-5, -1.0)
    assert encoder.encode(sound[0])


def test_a_block_of_another_shape_is_refused() -> None:
    encoder = Encoder()
    for wrong in (SILENCE[:-1], SILENCE.astype(np.float32), np.zeros((1, BLOCK), "i2")):
        with pytest.raises(ValueError, match="960"):
            encoder.encode(wrong)


def test_without_the_library_a_sentence_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(opus, "_places", lambda: ["/nowhere/libopus.so"])
    opus.load.cache_clear()
    try:
        with pytest.raises(MediaError, match="pip install") as caught:
            Encoder()
        assert caught.value.code == "no_library"
    finally:
        opus.load.cache_clear()


@fuzzing
@given(payloads=st.lists(st.binary(max_size=1500), max_size=8))
def test_fuzz_any_payload_becomes_sound(payloads: list[bytes]) -> None:
    decoder = Decoder()
    for payload in payloads:
        decoder.repairs(payload)
        for sound in (decoder.decode(payload), decoder.recover(payload)):
            assert sound.dtype == np.int16
            assert 0 < len(sound) <= opus.LONGEST
    assert len(decoder.conceal()) == BLOCK


@fuzzing
@given(flips=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6))
def test_fuzz_damaged_payloads_do_not_stop_the_decoder(
    flips: list[tuple[int, int]],
) -> None:
    decoder = Decoder()
    for payload in GOOD:
        damaged = bytearray(payload)
        for place, value in flips:
            damaged[place % len(damaged)] = value
        assert len(decoder.decode(bytes(damaged))) > 0
        assert len(decoder.decode(payload)) == BLOCK


def test_the_meter_tells_loudness_between_0_and_1() -> None:
    meter = Meter()
    assert meter.read() == 0
    meter.note(np.full(BLOCK, 32767, np.int16))
    meter.note(SILENCE)
    assert meter.read() == pytest.approx(1, abs=0.01)
    assert meter.read() == 0
    meter.note((np.sin(np.arange(RATE) / 9) * 1000).astype(np.int16))
    assert 0.4 < meter.read() < 0.6


def _good() -> list[bytes]:
    encoder = Encoder()
    return [encoder.encode(block) or b"" for block in blocks(talk(0.1))]


GOOD = _good()
