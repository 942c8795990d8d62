"""No sound server, no library, no permission, no such device: a sentence for each."""

import subprocess
import sys
from pathlib import Path

import pytest

from media.audio import devices
from media.audio.devices import advice, alsa, open_microphone, open_speaker
from media.port import MediaError
from tests.media.needs import BACKENDS, require_backend
from tests.media.pulse import Pulse, pulse
from tests.media.waves import silence


@pytest.fixture
def server(one_server: Pulse, monkeypatch: pytest.MonkeyPatch) -> Pulse:
    monkeypatch.delenv("TELEX_AUDIO", raising=False)
    one_server.use(monkeypatch)
    return one_server


@pytest.fixture
def no_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with no sound server and no sound card."""
    monkeypatch.delenv("TELEX_AUDIO", raising=False)
    monkeypatch.delenv("PULSE_SERVER", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(alsa, "SOUND", tmp_path / "snd")


def test_a_monitor_is_no_microphone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody shall call with an echo of all that is played."""
    with pulse(tmp_path / "p") as server:
        server.use(monkeypatch)
        server.plug_speaker("alice")
        found = devices.list_devices("miniaudio")
        assert [one.kind for one in found.found] == ["speaker"]
        assert [text.partition(":")[0] for text in found.missing] == [
            "There is no microphone"
        ]
        with pytest.raises(MediaError, match="There is no microphone: plug one"):
            open_microphone("", print, print, backend="miniaudio")


@pytest.mark.usefixtures("no_sound")
@pytest.mark.parametrize("backend", ["", *BACKENDS])
def test_no_sound_at_all_is_a_sentence(backend: str) -> None:
    if backend:
        require_backend(backend)
    found = devices.list_devices(backend)
    assert found.found == ()
    assert "neither a sound server nor a sound card" in found.missing[0]
    with pytest.raises(MediaError, match="neither a sound server") as raised:
        open_microphone("", print, print, backend=backend)
    assert raised.value.code == "no_device"
    with pytest.raises(MediaError, match="neither a sound server") as raised:
        open_speaker("", silence, print, backend=backend)
    assert raised.value.code == "no_device"


@pytest.mark.usefixtures("no_sound")
@pytest.mark.parametrize("backend", ["", *BACKENDS])
def test_a_server_that_is_named_and_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, backend: str
) -> None:
    if backend:
        require_backend(backend)
    monkeypatch.setenv("PULSE_SERVER", f"unix:{tmp_path}/gone")
    (sentence,) = set(devices.list_devices(backend).missing)
    assert f"PULSE_SERVER names (unix:{tmp_path}/gone) does not answer" in sentence


@pytest.mark.usefixtures("no_sound")
def test_cards_that_may_not_be_used_are_a_matter_of_permission(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alsa.SOUND.mkdir()
    (alsa.SOUND / "pcmC0D0c").touch()
    monkeypatch.setattr("media.audio.devices.advice.os.access", lambda *_: False)
    with pytest.raises(MediaError, match="usermod -aG audio") as raised:
        open_microphone("", print, print, backend="miniaudio")
    assert raised.value.code == "no_permission"


HIDDEN = """
import ctypes.util, sys
found = ctypes.util.find_library
ctypes.util.find_library = lambda name: None if "portaudio" in name else found(name)
for name in sys.argv[1:]:
    sys.modules[name] = None
from media.audio import devices
from media.port import MediaError
name, found = devices.find_devices()
print(name)
print(*found.missing)
try:
    devices.open_microphone("", print, print).close()
except MediaError as error:
    print(error.code)
"""


def without(*modules: str) -> list[str]:
    """What a process finds whose system has no PortAudio, nor these modules."""
    ran = subprocess.run(
        [sys.executable, "-c", HIDDEN, *modules],
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout.splitlines()


@pytest.mark.usefixtures("no_sound")
def test_without_any_library_a_sentence_says_what_to_install() -> None:
    backend, missing, code = without("miniaudio")
    assert backend == ""
    assert "pip install 'telex[calls]'" in missing
    assert code == "no_library"


@pytest.mark.usefixtures("no_sound")
def test_forced_sounddevice_without_portaudio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELEX_AUDIO", "sounddevice")
    backend, missing, code = without()
    assert backend == ""
    assert missing == advice.no_portaudio()
    assert "apt install libportaudio2" in missing
    assert code == "no_library"


def test_without_miniaudio_sounddevice_is_used(
    server: Pulse, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_backend("sounddevice")
    monkeypatch.setitem(sys.modules, "media.audio.devices.mini", None)
    backend, found = devices.find_devices()
    assert backend == "sounddevice"
    assert {one.kind for one in found.found} == {"microphone", "speaker"}


@pytest.mark.parametrize(
    ("forced", "expected"),
    [("null", "null"), ("sounddevice", "sounddevice"), ("miniaudio", "miniaudio")],
)
def test_the_environment_forces_a_backend(
    server: Pulse, monkeypatch: pytest.MonkeyPatch, forced: str, expected: str
) -> None:
    require_backend(forced)
    monkeypatch.setenv("TELEX_AUDIO", forced)
    assert devices.find_devices()[0] == expected


def test_an_unknown_backend_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELEX_AUDIO", "oss5")
    assert "TELEX_AUDIO can be miniaudio, sounddevice, null" in str(
        devices.list_devices().missing
    )
    with pytest.raises(MediaError, match="oss5") as raised:
        open_speaker("", silence, print)
    assert raised.value.code == "no_library"


def test_a_missing_device_is_named(server: Pulse) -> None:
    with pytest.raises(MediaError, match="'mic-nobody' is not there") as raised:
        open_microphone("mic-nobody", print, print)
    assert raised.value.code == "no_device"
