"""Microphones and speakers of a real PulseAudio, plugged, unplugged and killed."""

import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from media.audio import devices
from media.audio.devices import Samples, open_microphone, open_speaker
from media.audio.devices.base import PERIOD, RATE
from media.port import MediaError
from tests.media.needs import BACKENDS, require_backend
from tests.media.pulse import Pulse, pulse
from tests.media.waves import clearest, loudness, silence, tone, tone_share, write_wav

PATIENCE = 20.0


class Collected:
    """What a device said; each wait fails the test when it takes `PATIENCE`."""

    def __init__(self) -> None:
        self.samples: list[Samples] = []
        self.lost: list[MediaError] = []
        self._more = threading.Condition()

    def hear(self, samples: Samples) -> None:
        with self._more:
            self.samples.append(samples)
            self._more.notify_all()

    def lose(self, error: MediaError) -> None:
        with self._more:
            self.lost.append(error)
            self._more.notify_all()

    @property
    def sound(self) -> Samples:
        with self._more:
            return np.concatenate([np.zeros(0, np.int16), *self.samples])

    def wait(self, until: Callable[[], object]) -> None:
        with self._more:
            assert self._more.wait_for(until, PATIENCE), "nothing came of it"

    def wait_for_sound(self, seconds: float) -> Samples:
        """That many seconds from the first loud period on."""
        loud = -1
        seen = 0

        def enough() -> bool:
            nonlocal loud, seen
            while loud < 0 and seen < len(self.samples):
                if loudness(self.samples[seen]) > 200:
                    loud = seen
                seen += 1
            return loud >= 0 and len(self.samples) - loud >= seconds * RATE / PERIOD

        self.wait(enough)
        return np.concatenate(self.samples[loud:])


class Sine:
    """Fills a speaker with a tone that does not end."""

    def __init__(self, hertz: float) -> None:
        self._wave = tone(hertz, 1.0)
        self._at = 0
        self.asked = threading.Event()

    def __call__(self, count: int) -> Samples:
        where = np.arange(self._at, self._at + count) % self._wave.size
        self._at += count
        self.asked.set()
        return self._wave[where]


@pytest.fixture
def server(one_server: Pulse, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pulse]:
    monkeypatch.delenv("TELEX_AUDIO", raising=False)
    one_server.use(monkeypatch)
    monkeypatch.setenv("PULSE_SOURCE", "mic-alice")  # how PortAudio is told
    monkeypatch.setenv("PULSE_SINK", "spk-alice")
    yield one_server
    one_server.renew()


def no_keepers() -> bool:
    """Whether all threads of devices have ended."""
    keepers = [t for t in threading.enumerate() if t.name.startswith("telex-")]
    for one in keepers:
        one.join(PATIENCE)
    return not any(one.is_alive() for one in keepers)


def test_the_devices_have_their_names_and_the_default_is_marked(server: Pulse) -> None:
    server.plug_speaker("bob")
    server.plug_microphone("bob")
    backend, found = devices.find_devices()
    assert backend == "miniaudio"
    assert found.missing == ()
    listed = [(one.kind, one.id, one.name, one.default) for one in found.found]
    assert listed[:2] == [
        ("microphone", "mic-alice", "Microphone-of-alice", True),
        ("microphone", "mic-bob", "Microphone-of-bob", False),
    ]
    speakers = {one.id: one for one in found.found if one.kind == "speaker"}
    assert speakers["spk-alice"].default
    assert not speakers["spk-bob"].default
    assert not any(".monitor" in one.id for one in found.found)


def test_ids_are_the_same_after_plugging_in_in_another_order(server: Pulse) -> None:
    first = {one.id for one in devices.list_devices().found}
    server.kill()
    server.start()
    server.plug_microphone("zoe")
    server.plug_microphone("alice")
    server.plug_speaker("alice")
    assert first < {one.id for one in devices.list_devices().found}


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_said_into_a_microphone_is_heard(
    server: Pulse, tmp_path: Path, backend: str
) -> None:
    server.say("alice", write_wav(tmp_path / "a.wav", tone(440, 1.0)), loop=True)
    got = Collected()
    stream = open_microphone("", got.hear, got.lose, backend=require_backend(backend))
    heard = got.wait_for_sound(0.5)
    stream.close()
    assert {(one.dtype, one.shape) for one in got.samples} == {
        (np.dtype(np.int16), (PERIOD,))
    }
    assert tone_share(clearest(heard, 440), 440) > 0.95
    assert 0 < stream.latency < 0.5
    assert got.lost == []
    assert no_keepers()


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_fill_gives_is_played(server: Pulse, backend: str) -> None:
    got = Collected()
    stream = open_speaker("", Sine(660), got.lose, backend=require_backend(backend))
    with server.listen("alice") as ear:
        begin = ear.wait_for_sound().size / RATE
        heard = ear.wait(begin + 0.5)
    stream.close()
    piece = clearest(heard, 660)
    assert tone_share(piece, 660) > 0.95
    assert abs(loudness(piece) / loudness(tone(660, 0.1)) - 1) < 0.1
    assert got.lost == []
    assert no_keepers()


def test_the_chosen_device_is_the_one_that_is_used(server: Pulse) -> None:
    server.plug_speaker("bob")
    stream = open_speaker("spk-bob", Sine(660), lambda _: None)
    with server.listen("bob") as bob, server.listen("alice") as alice:
        bob.wait_for_sound()
        quiet = alice.wait(0.2)
    stream.close()
    assert loudness(quiet) == 0


def test_a_device_at_another_rate_gives_periods_of_ours(server: Pulse) -> None:
    words = ("module-null-sink", "sink_name=odd", "rate=44100", "norewinds=1")
    server.pactl("load-module", *words)
    asked: list[int] = []
    sine = Sine(440)
    got = Collected()

    def fill(count: int) -> Samples:
        asked.append(count)
        return sine(count)

    speaker = open_speaker("odd", fill, got.lose)
    microphone = open_microphone("odd.monitor", got.hear, got.lose)
    heard = got.wait_for_sound(0.5)
    microphone.close()
    speaker.close()
    assert set(asked) == {PERIOD} == {one.size for one in got.samples}
    assert tone_share(clearest(heard, 440), 440) > 0.95


def test_an_unplugged_microphone_is_lost_once_and_comes_back(server: Pulse) -> None:
    modules = server.plug_microphone("bob")
    got = Collected()
    stream = open_microphone("mic-bob", got.hear, got.lose)
    got.wait(lambda: len(got.samples) > 5)
    server.unplug(modules)
    got.wait(lambda: got.lost)
    stream.close()
    stream.close()
    assert no_keepers()
    assert [one.code for one in got.lost] == ["no_device"]
    assert "'mic-bob' went away" in str(got.lost[0])
    with pytest.raises(MediaError, match="'mic-bob' is not there"):
        open_microphone("mic-bob", got.hear, got.lose)
    server.plug_microphone("bob")
    again = Collected()
    stream = open_microphone("mic-bob", again.hear, again.lose)
    again.wait(lambda: again.samples)
    stream.close()


def test_an_unplugged_speaker_is_lost_and_the_microphone_goes_on(server: Pulse) -> None:
    modules = server.plug_speaker("bob")
    ears, mouth = Collected(), Collected()
    sine = Sine(440)
    microphone = open_microphone("", ears.hear, ears.lose)
    speaker = open_speaker("spk-bob", sine, mouth.lose)
    assert sine.asked.wait(PATIENCE)
    server.unplug(modules)
    mouth.wait(lambda: mouth.lost)
    speaker.close()
    heard = len(ears.samples)
    ears.wait(lambda: len(ears.samples) > heard + 5)
    microphone.close()
    assert "'spk-bob' went away" in str(mouth.lost[0])
    assert len(mouth.lost) == 1
    assert ears.lost == []


def test_the_default_microphone_is_followed_but_not_to_a_monitor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PulseAudio gives what the speakers play to who lost the last microphone."""
    with pulse(tmp_path / "p") as server:
        server.use(monkeypatch)
        server.plug_speaker("alice")
        first = server.plug_microphone("alice")
        second = server.plug_microphone("bob")
        server.pactl("set-default-source", "mic-alice")
        server.say("bob", write_wav(tmp_path / "b.wav", tone(300, 1.0)), loop=True)
        got = Collected()
        speaker = open_speaker("", Sine(660), lambda _: None, backend="miniaudio")
        microphone = open_microphone("", got.hear, got.lose, backend="miniaudio")
        got.wait(lambda: len(got.samples) > 5)
        server.unplug(first)
        got.wait_for_sound(0.2)  # of the other microphone
        assert got.lost == []
        server.unplug(second)
        got.wait(lambda: got.lost)
        microphone.close()
        speaker.close()
        assert [str(one) for one in got.lost] == [
            "The microphone went away: plug it in again, or choose another."
        ]
        with pytest.raises(MediaError, match="There is no microphone"):
            open_microphone("", got.hear, got.lose, backend="miniaudio")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_killed_server_loses_both_devices_once(server: Pulse, backend: str) -> None:
    ears, mouth = Collected(), Collected()
    sine = Sine(440)
    microphone = open_microphone(
        "", ears.hear, ears.lose, backend=require_backend(backend)
    )
    speaker = open_speaker("", sine, mouth.lose, backend=backend)
    ears.wait(lambda: len(ears.samples) > 5)
    assert sine.asked.wait(PATIENCE)
    server.kill()
    ears.wait(lambda: ears.lost)
    mouth.wait(lambda: mouth.lost)
    microphone.close()
    speaker.close()
    assert no_keepers()
    assert [one.code for one in ears.lost + mouth.lost] == ["no_device"] * 2
    assert "server" in str(ears.lost[0])
    with pytest.raises(MediaError) as raised:
        open_speaker("", sine, mouth.lose, backend=backend)
    assert raised.value.code == "no_device"
    server.start()
    server.plug_speaker("alice")
    sine.asked.clear()
    speaker = open_speaker("", sine, mouth.lose, backend=backend)
    assert sine.asked.wait(PATIENCE)
    speaker.close()


def test_a_server_that_hangs_holds_nobody_up(
    server: Pulse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("media.audio.devices.base.OPEN", 0.5)
    monkeypatch.setattr("media.audio.devices.base.CLOSE", 0.1)
    monkeypatch.setattr("media.audio.devices.mini.WHY", 0.2)
    ears = Collected()
    microphone = open_microphone("", ears.hear, ears.lose)
    ears.wait(lambda: len(ears.samples) > 5)
    server.pause()
    try:
        ears.wait(lambda: ears.lost)
        microphone.close()
        with pytest.raises(MediaError, match="does not answer") as raised:
            open_speaker("", silence, ears.lose, backend="miniaudio")
        assert raised.value.code == "no_device"
    finally:
        server.resume()
    assert "does not answer" in str(ears.lost[0])
    assert len(ears.lost) == 1
    assert no_keepers()


def test_streams_leave_nothing_behind(server: Pulse) -> None:
    def clients() -> int:
        return len(server.pactl("list", "short", "clients").splitlines())

    before = clients()
    for _ in range(10):
        got = Collected()
        microphone = open_microphone("", got.hear, got.lose)
        speaker = open_speaker("", silence, got.lose)
        got.wait(lambda got=got: got.samples)  # type: ignore[misc]
        microphone.close()
        speaker.close()
        heard = len(got.samples)
    assert no_keepers()
    assert clients() == before
    assert len(got.samples) == heard


@pytest.mark.parametrize("backend", [*BACKENDS, "null"])
def test_an_exception_in_hear_is_logged_and_said_once(
    server: Pulse, backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    got = Collected()

    def hear(_: Samples) -> None:
        raise KeyError("a fault of ours")

    with caplog.at_level(logging.ERROR):
        stream = open_microphone("", hear, got.lose, backend=require_backend(backend))
        got.wait(lambda: got.lost)
        stream.close()
    assert [one.code for one in got.lost] == ["internal"]
    assert "a fault of ours" in caplog.text
    assert no_keepers()


@pytest.mark.parametrize(
    ("backend", "samples"),
    [
        ("miniaudio", np.zeros(3, np.int16)),
        ("sounddevice", np.zeros(PERIOD)),
        ("null", np.zeros((PERIOD, 1), np.int16)),
    ],
)
def test_a_bad_fill_is_silence_and_said_once(
    server: Pulse, backend: str, samples: Samples
) -> None:
    got = Collected()
    stream = open_speaker(
        "", lambda _: samples, got.lose, backend=require_backend(backend)
    )
    got.wait(lambda: got.lost)
    stream.close()
    assert [one.code for one in got.lost] == ["internal"]


@pytest.mark.parametrize("backend", [*BACKENDS, "null"])
def test_close_may_be_called_from_the_devices_own_threads(
    server: Pulse, backend: str
) -> None:
    closed = threading.Event()
    streams: list[devices.Stream] = []
    opened = threading.Event()

    def hear(_: Samples) -> None:
        if opened.wait(PATIENCE) and not closed.is_set():
            streams[0].close()
            closed.set()

    stream = open_microphone("", hear, lambda _: None, backend=require_backend(backend))
    streams.append(stream)
    opened.set()
    assert closed.wait(PATIENCE)
    assert no_keepers()


OPEN_ONES = """
import threading
import numpy
from media.audio import devices
heard = threading.Event()
microphone = devices.open_microphone("", lambda _: heard.set(), print)
speaker = devices.open_speaker("", lambda count: numpy.zeros(count, numpy.int16), print)
heard.wait()
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_process_ends_though_devices_are_open(
    server: Pulse, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    monkeypatch.setenv("TELEX_AUDIO", require_backend(backend))
    ran = subprocess.run([sys.executable, "-c", OPEN_ONES], timeout=PATIENCE)
    assert ran.returncode == 0
