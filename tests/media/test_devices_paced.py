"""Sound without devices: silence, files, and files that are none."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.audio.devices import Samples, open_microphone, open_speaker
from media.audio.devices.base import PERIOD, RATE
from media.audio.devices.paced import read_sound
from media.port import MediaError
from tests.helpers.fuzz import fuzzing
from tests.media.waves import loudness, read_wav, tone, tone_share, write_wav

PATIENCE = 20.0


def hear(id: str, periods: int) -> Samples:
    """The first periods that a microphone gives."""
    heard: list[Samples] = []
    enough = threading.Event()

    def take(samples: Samples) -> None:
        heard.append(samples)
        if len(heard) >= periods:
            enough.set()

    stream = open_microphone(id, take, lambda _: None)
    assert enough.wait(PATIENCE)
    stream.close()
    assert {one.size for one in heard} == {PERIOD}
    return np.concatenate(heard[:periods])


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_a_file_of_any_rate_and_layout_is_mono_at_48_kilohertz(
    tmp_path: Path, rate: int, channels: int
) -> None:
    at = np.arange(rate // 2) / rate
    wave = (np.sin(2 * np.pi * 440 * at) * 9000).astype(np.int16)
    sound = np.repeat(wave[:, np.newaxis], channels, axis=1)
    path = write_wav(tmp_path / "a.wav", sound, rate)
    heard = np.concatenate(list(read_sound(path)))
    assert abs(heard.size - RATE // 2) < RATE // 200
    assert tone_share(heard[RATE // 10 : RATE // 3], 440) > 0.95


def test_a_file_is_played_once_and_then_there_is_silence(tmp_path: Path) -> None:
    sound = tone(440, 0.095)
    path = write_wav(tmp_path / "a.wav", sound)
    heard = hear(f"file:{path}", 20)
    assert np.array_equal(heard[: sound.size], sound)
    assert not heard[sound.size :].any()


def test_a_looped_file_goes_on_without_a_gap(tmp_path: Path) -> None:
    sound = tone(440, 0.095)
    path = write_wav(tmp_path / "a.wav", sound)
    heard = hear(f"file-loop:{path}", 30)
    assert np.array_equal(heard, np.resize(sound, heard.size))


def test_an_empty_looped_file_is_silence(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", np.zeros(0, np.int16))
    assert not hear(f"file-loop:{path}", 5).any()


def test_null_is_silent_and_plays_to_nobody() -> None:
    assert not hear("null:", 5).any()
    asked = threading.Semaphore(0)

    def fill(count: int) -> Samples:
        asked.release()
        return np.zeros(count, np.int16)

    stream = open_speaker("null:", fill, lambda _: None)
    assert all(asked.acquire(timeout=PATIENCE) for _ in range(5))
    stream.close()


def test_a_speaker_writes_what_is_played(tmp_path: Path) -> None:
    sound = tone(660, 0.5)
    at = 0
    end = threading.Event()

    def fill(count: int) -> Samples:
        nonlocal at
        part = sound[at : at + count]
        at += count
        if at >= sound.size:
            end.set()
        return np.concatenate((part, np.zeros(count - part.size, np.int16)))

    stream = open_speaker(f"file:{tmp_path}/out.wav", fill, lambda _: None)
    assert end.wait(PATIENCE)
    stream.close()
    written = read_wav(tmp_path / "out.wav")
    assert np.array_equal(written[: sound.size], sound)
    assert loudness(written[sound.size :]) == 0


@pytest.mark.parametrize("id", ["file:", "file:/nowhere/a.wav", "file-loop:/etc"])
def test_a_file_that_cannot_be_read_is_named(id: str) -> None:
    with pytest.raises(MediaError, match="cannot be the microphone") as raised:
        open_microphone(id, lambda _: None, lambda _: None)
    assert raised.value.code == "no_device"


def test_a_file_without_sound_is_no_microphone(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(os.urandom(5000))
    with pytest.raises(MediaError, match="cannot be the microphone"):
        open_microphone(f"file:{path}", lambda _: None, lambda _: None)


def test_a_folder_that_is_not_there_is_no_speaker() -> None:
    with pytest.raises(MediaError, match="cannot be the speaker: No such file"):
        open_speaker("file:/nowhere/a.wav", lambda n: np.zeros(n, np.int16), print)


@pytest.mark.parametrize("rate", [1, 3_999, 768_001, 50_000_000])
def test_a_file_of_an_absurd_rate_is_refused(tmp_path: Path, rate: int) -> None:
    path = write_wav(tmp_path / "a.wav", tone(440, 0.1), rate=rate)
    with pytest.raises(MediaError, match="its rate is odd"):
        list(read_sound(path))


@fuzzing
@given(st.binary(max_size=400), st.integers(0, 200), st.binary(max_size=20))
def test_damaged_files_give_sound_or_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes, where: int, patch: bytes
) -> None:
    path = tmp_path_factory.mktemp("junk") / "a.wav"
    good = write_wav(path, tone(440, 0.02)).read_bytes()
    for data in (junk, good[:where] + patch + good[where + len(patch) :], good + junk):
        path.write_bytes(data)
        try:
            for piece in read_sound(path):
                assert piece.dtype == np.int16
                assert piece.ndim == 1
        except MediaError as error:
            assert "a.wav" in str(error)
