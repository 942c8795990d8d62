"""Echo, noise and gain: what is taken away, what is left, and what off means."""

import subprocess
import sys
import threading

import numpy as np
import pytest
from numpy.typing import NDArray

from media.audio.processing import FRAME, Processing
from media.port import MediaError

Samples = NDArray[np.int16]
RATE = 48_000
BLOCK = 2 * FRAME


def voice(seconds: float, seed: int, peak: float = 12000.0) -> NDArray[np.float64]:
    """Something like speech: voiced syllables with pauses, different for each seed."""
    chance = np.random.default_rng(seed)
    size = int(seconds * RATE)
    sound = np.zeros(size)
    at = 0
    while at < size:
        length = int(chance.uniform(0.12, 0.3) * RATE)
        time = np.arange(length) / RATE
        pitch = chance.uniform(110, 190) * (1 + 0.03 * np.sin(2 * np.pi * 5 * time))
        phase = 2 * np.pi * np.cumsum(pitch) / RATE
        formants = chance.uniform((300, 900, 2200), (800, 1900, 3200))
        tones = [
            np.sin(harmonic * phase)
            * sum(np.exp(-(((harmonic * 150 - f) / 250) ** 2)) for f in formants)
            for harmonic in range(1, 30)
        ]
        syllable = np.sum(tones, axis=0) + chance.normal(0, 0.05, length)
        syllable *= np.sin(np.pi * np.arange(length) / length) ** 0.5
        end = min(size, at + length)
        sound[at:end] += syllable[: end - at]
        at += length + int(chance.uniform(0.02, 0.15) * RATE)
    return np.asarray(sound / abs(sound).max() * peak)


def whole(sound: NDArray[np.float64]) -> Samples:
    return np.clip(sound, -32768, 32767).astype(np.int16)


def db(sound: Samples) -> float:
    return float(10 * np.log10(np.mean(sound.astype(float) ** 2) + 1e-3))


def room(far: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a microphone hears of a speaker: 60 ms later, 150 ms long, 9 dB quieter."""
    chance = np.random.default_rng(7)
    tail = np.exp(-np.arange(int(0.15 * RATE)) / (0.03 * RATE))
    answer = chance.normal(0, 1, tail.size) * tail
    echo = np.convolve(far, answer / np.sqrt(np.sum(answer**2)))[: far.size]
    late = int(0.06 * RATE)
    return np.concatenate((np.zeros(late), echo[:-late])) * 10 ** (-9 / 20)


def through(chain: Processing, near: Samples, far: Samples | None = None) -> Samples:
    out = []
    for at in range(0, near.size - BLOCK + 1, BLOCK):
        if far is not None:
            chain.far(far[at : at + BLOCK])
        out.append(chain.near(near[at : at + BLOCK]))
    return np.concatenate(out)


@pytest.mark.parametrize("delay", [0.0, 0.06])
def test_the_echo_of_a_room_is_gone_after_two_seconds(delay: float) -> None:
    far = voice(5, seed=1)
    near = whole(room(far))
    heard = through(Processing(True, False, False, delay), near, whole(far))
    assert db(near[2 * RATE : heard.size]) - db(heard[2 * RATE :]) >= 20


def test_our_voice_stays_when_the_other_one_is_silent() -> None:
    near = whole(voice(4, seed=2))
    silence = np.zeros_like(near)
    heard = through(Processing(True, False, False, 0.0), near, silence)
    assert abs(db(heard[RATE:]) - db(near[RATE:])) < 3


def test_noise_is_eight_decibels_lower_and_the_voice_is_not() -> None:
    chance = np.random.default_rng(3)
    noise = chance.normal(0, 500, 6 * RATE)
    speech = np.concatenate((np.zeros(3 * RATE), voice(3, seed=4)))
    chain = Processing(False, True, False, 0.0)
    heard = through(chain, whole(noise + speech))
    pause = slice(2 * RATE, 3 * RATE)
    assert db(whole(noise)[pause]) - db(heard[pause]) >= 8
    talk = slice(4 * RATE, heard.size)
    assert abs(db(whole(speech)[talk]) - db(heard[talk])) < 3


def test_a_quiet_voice_is_lifted() -> None:
    quiet = whole(voice(8, seed=5, peak=600))
    heard = through(Processing(False, False, True, 0.0), quiet)
    assert db(heard[5 * RATE :]) - db(quiet[5 * RATE : heard.size]) >= 6


def test_with_everything_off_the_samples_are_the_same() -> None:
    near = np.random.default_rng(6).integers(-32768, 32767, RATE, np.int16)
    chain = Processing(False, False, False, 0.0)
    assert np.array_equal(through(chain, near, near), near)


def test_off_loads_no_library() -> None:
    program = (
        "import sys\n"
        "from media.audio.processing import Processing\n"
        "Processing(False, False, False, 0.0)\n"
        "print('livekit' in sys.modules)\n"
        "Processing(False, True, False, 0.0)\n"
        "print('livekit' in sys.modules)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == ["False", "True"]


def test_without_the_library_a_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "livekit.rtc.apm", None)
    with pytest.raises(MediaError, match=r"pip install 'telex\[calls\]'") as raised:
        Processing(True, True, True, 0.0)
    assert raised.value.code == "no_library"
    Processing(False, False, False, 0.0)


@pytest.mark.parametrize("size", [1, 479, 481, 960 - 1])
def test_half_frames_are_a_mistake_of_ours(size: int) -> None:
    chain = Processing(False, False, False, 0.0)
    with pytest.raises(ValueError, match="10 ms"):
        chain.near(np.zeros(size, np.int16))
    with pytest.raises(ValueError, match="10 ms"):
        chain.far(np.zeros(size, np.int16))


def test_a_failure_in_mid_call_lets_the_voice_through(
    caplog: pytest.LogCaptureFixture,
) -> None:
    from livekit.rtc._proto.ffi_pb2 import FfiRequest

    chain = Processing(False, True, False, 0.0)
    request = FfiRequest.FromString(chain._near._request)
    request.apm_process_stream.apm_handle += 1_000_000
    chain._near._request = request.SerializeToString()
    near = whole(voice(0.1, seed=8))
    assert np.array_equal(through(chain, near), near[: near.size // BLOCK * BLOCK])
    assert chain._failed
    assert caplog.text.count("audio processing stopped") == 1


def test_what_is_done_is_what_the_library_s_own_method_does() -> None:
    from livekit.rtc import AudioFrame
    from livekit.rtc.apm import AudioProcessingModule

    chain = Processing(False, True, True, 0.0)
    apm = AudioProcessingModule(
        noise_suppression=True, high_pass_filter=True, auto_gain_control=True
    )
    for part in whole(voice(0.3, seed=3)).reshape(-1, FRAME):
        frame = AudioFrame(bytearray(part.tobytes()), RATE, 1, FRAME)
        apm.process_stream(frame)
        assert np.array_equal(chain.near(part), np.frombuffer(frame.data, np.int16))


def test_both_devices_threads_may_use_it_at_once() -> None:
    chain = Processing(True, True, True, 0.02)
    sound = whole(voice(3, seed=9))

    def speaker() -> None:
        for block in sound.reshape(-1, BLOCK):
            chain.far(block)

    threads = [
        threading.Thread(target=through, args=(chain, sound)),
        threading.Thread(target=speaker),
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join(20)
    assert not any(one.is_alive() for one in threads)
    assert not chain._failed
