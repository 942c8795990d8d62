"""`telex audio` in a process of its own, with a real PulseAudio or without sound."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.media.needs import require_backend
from tests.media.pulse import Pulse, pulse
from tests.media.waves import tone, tone_share, write_wav
from tui.commands.audio import meter

RATE = 48_000
TELEX = [sys.executable, "-m", "tui.cli", "audio"]
RAW = ["--no-echo", "--no-noise", "--no-gain"]


@pytest.fixture(scope="module")
def one_server(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Pulse]:  # skips where PulseAudio is missing
    with pulse(tmp_path_factory.mktemp("p"), "alice") as running:
        yield running


@pytest.fixture
def server(one_server: Pulse) -> Iterator[Pulse]:
    yield one_server
    one_server.renew()


def clean(env: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name != "TELEX_AUDIO"}


def telex(env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TELEX, *words], env=clean(env), capture_output=True, text=True, timeout=60
    )


def soundless(folder: Path) -> dict[str, str]:
    """The environment of a machine without a sound server."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("PULSE_")}
    return env | {"XDG_RUNTIME_DIR": str(folder), "HOME": str(folder)}


def test_devices_lists_what_is_there(server: Pulse) -> None:
    ran = telex(server.env, "devices")
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert lines[0].split() == ["KIND", "NAME", "ID"]
    assert lines[1].split() == ["*", "microphone", "Microphone-of-alice", "mic-alice"]
    assert lines[2].split() == ["*", "speaker", "Speaker-of-alice", "spk-alice"]
    assert "Sound by miniaudio." in ran.stdout
    assert ran.stderr == ""


def test_what_is_missing_is_said_beside_what_is_there(tmp_path: Path) -> None:
    with pulse(tmp_path / "p") as server:
        server.plug_speaker("alice")
        ran = telex(server.env, "devices")
    assert ran.returncode == 0
    assert "spk-alice" in ran.stdout
    assert ran.stderr.startswith("telex: There is no microphone: plug one")


@pytest.mark.skipif(bool(list(Path("/dev").glob("snd/pcm*"))), reason="has sound cards")
@pytest.mark.parametrize("command", [["devices"], ["test", "--seconds", "0.5", *RAW]])
def test_no_sound_is_one_sentence_and_an_exit_code(
    tmp_path: Path, command: list[str]
) -> None:
    ran = telex(soundless(tmp_path), *command)
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert ran.stderr.count("telex: There is neither a sound server") == 1
    assert len(ran.stderr.splitlines()) == 1


def test_a_voice_is_recorded_and_played_back(server: Pulse, tmp_path: Path) -> None:
    server.say("alice", write_wav(tmp_path / "a.wav", tone(300, 1.0)), loop=True)
    with server.listen_to("mic-alice") as microphone:
        microphone.wait_for_sound()
    with server.listen("alice") as ear:
        ran = telex(server.env, "test", "--seconds", "0.6", *RAW)
        heard = ear.samples
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[:3] == [
        "You should hear two notes now.",
        "Speak now, for 0.6 s.",
        "This is what I heard.",
    ]
    assert "I heard you; the loudest was at -1" in ran.stdout
    pieces = heard[: heard.size // 4800 * 4800].reshape(-1, 4800)
    played = {
        hertz: sum(tone_share(piece, hertz) > 0.8 for piece in pieces)
        for hertz in (523.25, 659.25, 300.0)
    }
    assert min(played.values()) >= 1, played


def test_a_silent_microphone_is_said_to_be_silent(server: Pulse) -> None:
    words = ("--backend", require_backend("sounddevice"), "--seconds", "0.5", *RAW)
    ran = telex(server.env, "test", *words)
    assert ran.returncode == 1
    assert "I heard nothing from the microphone: is it muted" in ran.stdout
    assert "This is what I heard" not in ran.stdout


def test_an_unknown_device_is_named_and_the_other_is_tried(server: Pulse) -> None:
    ran = telex(server.env, "test", "--speaker", "spk-x", "--seconds", "0.5", *RAW)
    assert ran.returncode == 1
    assert "telex: The speaker 'spk-x' is not there" in ran.stderr
    assert "Speak now" in ran.stdout


def test_a_microphone_unplugged_in_mid_test_is_a_sentence(
    server: Pulse, tmp_path: Path
) -> None:
    modules = server.plug_microphone("bob")
    process = subprocess.Popen(
        [*TELEX, "test", "--microphone", "mic-bob", "--seconds", "60", *RAW],
        env=clean(server.env) | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert any("Speak now" in line for line in process.stdout)
        server.unplug(modules)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 1
    assert "telex: The microphone 'mic-bob' went away: plug it in again" in errors


def test_the_meter_moves_on_a_terminal(server: Pulse) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    process = subprocess.Popen(
        [*TELEX, "test", "--seconds", "0.5", *RAW],
        env=clean(server.env) | {"PYTHONUTF8": "1"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen = b""
    try:
        while data := os.read(ours, 4096):
            seen += data
    except OSError:
        pass  # Linux says so when the other side has closed
    finally:
        os.close(ours)
        assert process.wait(60) == 1  # nobody spoke
    shown = seen.decode()
    frames = [frame for frame in shown.split("\r") if frame.startswith("  ")]
    assert len(frames) == 12
    assert all("█" in frame or "░" in frame for frame in frames)
    assert all(len(frame) < 60 for frame in frames)
    assert shown.rindex("\x1b[K") > shown.rindex(" dB  ")


def test_the_null_backend_needs_no_sound(tmp_path: Path) -> None:
    ran = telex(soundless(tmp_path), "devices", "--backend", "null")
    assert ran.returncode == 0
    assert "null:" in ran.stdout


def test_without_the_extra_it_says_what_to_install() -> None:
    program = (
        "import sys\n"
        "sys.modules['numpy'] = None\n"
        "sys.argv = ['telex', 'audio', sys.argv[1]]\n"
        "import tui.cli\n"
        "tui.cli.main()\n"
    )
    for command in ("devices", "test"):
        ran = subprocess.run(
            [sys.executable, "-c", program, command], capture_output=True, text=True
        )
        assert ran.returncode == 1
        assert "pip install 'telex[calls]'" in ran.stderr
        assert "Traceback" not in ran.stderr


def test_help_loads_no_sound() -> None:
    program = (
        "import sys, tui.cli\n"
        "try:\n"
        "    tui.cli.cli.main(['audio', 'test', '--help'], standalone_mode=False)\n"
        "finally:\n"
        "    heavy = {'numpy', 'media', 'miniaudio', 'sounddevice', 'livekit', 'av'}\n"
        "    print('HEAVY', sorted(heavy & set(sys.modules)))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "--microphone ID" in ran.stdout
    assert "HEAVY []" in ran.stdout


@pytest.mark.parametrize(
    ("level", "full"), [(-96.0, 0), (-60.0, 0), (-30.0, 10), (0.0, 20), (3.0, 20)]
)
def test_the_meter_is_full_at_full_scale(level: float, full: int) -> None:
    assert meter(level, 20) == "█" * full + "░" * (20 - full)
