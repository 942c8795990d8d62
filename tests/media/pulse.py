"""A private sound server with virtual microphones and speakers, for tests and bench.

PulseAudio runs without hardware, without D-Bus and as root. Each *party* (a person in
a call) has

    a microphone    the source `mic-NAME`; what is played into the sink `mic-NAME-in`
                    comes out of it (`Pulse.say`)
    a speaker       the sink `spk-NAME`; what it plays can be heard at its monitor
                    (`Pulse.listen`)

Everything lies in a temporary folder, and all processes are ended by their id.

    with pulse(tmp_path, "alice", "bob") as server:
        run([..., "--microphone", "mic-alice"], env=server.env)
        server.say("alice", speech(tmp_path, "Hello Bob"))
        with server.listen("bob") as ear:
            ear.wait(2.0)
        heard = ear.samples

`server.env` is the environment of programs that shall use it: PULSE_SERVER, HOME (with
an `.asoundrc`, for PortAudio) and XDG_RUNTIME_DIR. Tests that open devices in their
own process take `server.use(monkeypatch)`.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

import numpy as np
import pytest

from tests.media.needs import require
from tests.media.waves import RATE, Samples, loudness

__all__ = ["Ear", "Pulse", "pulse"]

START = 10.0
"""Seconds in which the server has to answer."""
ASK = 10.0
"""Seconds for each `pactl`."""


class Pulse:
    """A running server; made by `pulse`."""

    def __init__(self, folder: Path, parties: Sequence[str]) -> None:
        self.folder = folder
        self.parties = parties
        self.env = _environment(folder)
        self._process: subprocess.Popen[bytes] | None = None
        self._players: list[subprocess.Popen[bytes]] = []
        self._modules: set[int] | None = None
        """Those of the parties' devices; None: they are not plugged in."""

    @property
    def pid(self) -> int:
        """Of the server."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it with no device at all and wait until it answers."""
        with (self.folder / "pulseaudio.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "pulseaudio",
                    *("-n", "-F", str(_script(self.folder)), "--daemonize=no"),
                    *("--exit-idle-time=-1", "--disable-shm=yes", "--use-pid-file=no"),
                    *("--realtime=no", "--high-priority=no", "--log-target=stderr"),
                ],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            asked = subprocess.run(
                ["pactl", "info"], env=self.env, capture_output=True, timeout=ASK
            )
            if asked.returncode == 0:
                return
            time.sleep(0.02)  # until its socket is there; nothing else tells
        said = (self.folder / "pulseaudio.log").read_text()
        self.kill()
        raise RuntimeError(f"PulseAudio did not start: {said[-2000:]}")

    def plug(self) -> None:
        """Plug in the parties' devices; the first party's are the default."""
        for party in self.parties:
            self.plug_speaker(party)
            self.plug_microphone(party)
        if self.parties:
            self.pactl("set-default-sink", f"spk-{self.parties[0]}")
            self.pactl("set-default-source", f"mic-{self.parties[0]}")
        self._modules = self._loaded()

    def renew(self) -> None:
        """Make it as it was in the beginning: for a server that tests share.

        Players are ended, added devices unplugged; when the server or a device is gone
        it is started anew.
        """
        self._end_players()
        alive = self._process is not None and self._process.poll() is None
        now = self._loaded() if alive and self._modules is not None else set()
        if self._modules is None or not now >= self._modules:
            self.kill()
            self.start()
            self.plug()
            return
        for one in sorted(now - self._modules, reverse=True):
            self.pactl("unload-module", str(one))

    def _loaded(self) -> set[int]:
        lines = self.pactl("list", "short", "modules").splitlines()
        return {int(line.split("\t")[0]) for line in lines}

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have this process's sound libraries use it."""
        for name in ("PULSE_SERVER", "HOME", "XDG_RUNTIME_DIR"):
            monkeypatch.setenv(name, self.env[name])

    def pactl(self, *words: str) -> str:
        """What `pactl` says; raises with its complaint."""
        ran = subprocess.run(
            ["pactl", *words], env=self.env, capture_output=True, text=True, timeout=ASK
        )
        if ran.returncode:
            raise RuntimeError(f"pactl {' '.join(words)}: {ran.stderr}")
        return ran.stdout

    def plug_speaker(self, party: str) -> list[int]:
        """Plug in the sink `spk-PARTY`; the modules, for `unplug`."""
        return [
            self._load(
                "module-null-sink",
                f"sink_name=spk-{party}",
                "rate=48000",
                "norewinds=1",
                f"sink_properties=device.description=Speaker-of-{party}",
            )
        ]

    def plug_microphone(self, party: str) -> list[int]:
        """Plug in the source `mic-PARTY`; the modules, for `unplug`."""
        sink = self._load(
            "module-null-sink",
            f"sink_name=mic-{party}-in",
            "rate=48000",
            "norewinds=1",
            "channels=1",
            "channel_map=mono",
            f"sink_properties=device.description=Inside-of-{party}",
        )
        source = self._load(
            "module-remap-source",
            f"source_name=mic-{party}",
            f"master=mic-{party}-in.monitor",
            f"source_properties=device.description=Microphone-of-{party}",
        )
        return [source, sink]

    def _load(self, *words: str) -> int:
        return int(self.pactl("load-module", *words))

    def unplug(self, modules: list[int]) -> None:
        """Unload what `plug_speaker` or `plug_microphone` loaded."""
        for one in modules:
            self.pactl("unload-module", str(one))

    def say(self, party: str, file: Path, *, loop: bool = False) -> None:
        """Start playing a WAV file into a party's microphone; does not wait."""
        self._play(f"mic-{party}-in", file, loop=loop)

    def _play(self, sink: str, file: Path, *, loop: bool) -> None:
        command = ["paplay", "--latency-msec=20", f"--device={sink}", str(file)]
        if loop:
            command = ["sh", "-c", 'while "$@"; do :; done', "sh", *command]
        self._players.append(
            subprocess.Popen(
                command,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        )

    def keep_awake(self, party: str) -> None:
        """Play silence into a party's microphone and speaker until the end.

        A null sink starts when somebody plays into it, and gives its first samples up
        to 2 s late; one that is awake does not.
        """
        for sink in (f"mic-{party}-in", f"spk-{party}"):
            self._players.append(
                subprocess.Popen(
                    [
                        *("pacat", "--playback", "--raw", "--latency-msec=20"),
                        *("--rate=48000", "--channels=1", f"--device={sink}"),
                        "/dev/zero",
                    ],
                    env=self.env,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            )

    def listen(self, party: str) -> "Ear":
        """Record what a party's speaker plays: a context manager."""
        return Ear(f"spk-{party}.monitor", self.env)

    def listen_to(self, source: str) -> "Ear":
        """Record any source, for example `mic-alice`."""
        return Ear(source, self.env)

    def pause(self) -> None:
        """Let the server hang (SIGSTOP), until `resume` or `kill`."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause`."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Kill the server, as a crash would; `start` may follow."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self._modules = None

    def stop(self) -> None:
        """End the server and everything that was started for it."""
        self._end_players()
        self.kill()

    def _end_players(self) -> None:
        for player in self._players:
            if player.poll() is None:
                os.killpg(player.pid, signal.SIGKILL)
            player.wait()
        self._players.clear()


class Ear:
    """Records a source while it is entered."""

    def __init__(self, source: str, env: dict[str, str]) -> None:
        self._source = source
        self._env = env
        self._data = bytearray()
        self._more = threading.Condition()
        self.began = 0.0
        """`time.monotonic()` when the first samples came."""

    def __enter__(self) -> "Ear":
        self._process = subprocess.Popen(
            [
                *("parec", "--raw", "--format=s16le", "--rate=48000", "--channels=1"),
                *("--latency-msec=10", f"--device={self._source}"),
            ],
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def _read(self) -> None:
        assert self._process.stdout is not None
        while data := os.read(self._process.stdout.fileno(), 4096):
            with self._more:
                self.began = self.began or time.monotonic()
                self._data += data
                self._more.notify_all()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join(5)
        assert self._process.stdout is not None
        self._process.stdout.close()

    @property
    def samples(self) -> Samples:
        """What was heard until now."""
        with self._more:
            return np.frombuffer(
                bytes(self._data[: len(self._data) // 2 * 2]), "<i2"
            ).astype(np.int16)

    def wait(self, seconds: float, timeout: float = 20.0) -> Samples:
        """Wait until that much (and not just silence) was recorded; all of it."""
        with self._more:
            if not self._more.wait_for(
                lambda: len(self._data) >= seconds * RATE * 2, timeout
            ):
                raise AssertionError(f"{self._source} gave nothing for {timeout} s")
        return self.samples

    def wait_for_sound(self, floor: float = 200.0, timeout: float = 20.0) -> Samples:
        """Wait until a tenth of a second was louder (RMS) than `floor`; all of it."""
        deadline = time.monotonic() + timeout
        seen = 0
        while True:
            sound = self.samples
            while seen + RATE // 10 <= sound.size:
                if loudness(sound[seen : seen + RATE // 10]) > floor:
                    return sound
                seen += RATE // 10
            left = deadline - time.monotonic()
            with self._more:
                if left <= 0 or not self._more.wait(left):
                    raise AssertionError(f"nothing was heard from {self._source}")


@contextmanager
def pulse(folder: Path, *parties: str) -> Iterator[Pulse]:
    """A server with a microphone and a speaker for each party, the first's default.

    Skips the test where PulseAudio is missing.

    Args:
        folder: An empty one, for the server's files; its path must be short (a
            socket lies in it), as pytest's `tmp_path` is.
        parties: Names; without any the server has no device.
    """
    require("pulseaudio", "pactl", "paplay", "parec")
    folder.mkdir(parents=True, exist_ok=True)
    server = Pulse(folder, parties)
    with ExitStack() as stack:
        stack.callback(server.stop)
        server.start()
        server.plug()
        yield server


def _environment(folder: Path) -> dict[str, str]:
    runtime = folder / "rt"
    home = folder / "home"
    for one in (runtime, home):
        one.mkdir(mode=0o700, exist_ok=True)
    (home / ".asoundrc").write_text(
        "pcm.!default { type pulse }\nctl.!default { type pulse }\n"
    )
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PULSE_", "PIPEWIRE_", "DBUS_"))
    }
    return env | {
        "XDG_RUNTIME_DIR": str(runtime),
        "HOME": str(home),
        "PULSE_SERVER": f"unix:{runtime}/pulse/native",
        "PULSE_RUNTIME_PATH": str(runtime / "pulse"),
        "PULSE_STATE_PATH": str(home),
    }


def _script(folder: Path) -> Path:
    script = folder / "start.pa"
    script.write_text("load-module module-native-protocol-unix auth-anonymous=1\n")
    return script
