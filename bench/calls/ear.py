"""Mouth to ear: from what goes into a microphone to what comes out of a speaker.

Two media processes with the devices of a private PulseAudio, null sinks; one person
says chirps of four kinds, two each second. The monitors of both sinks (what lies behind
the microphone, and what is the speaker) are recorded; each chirp is found in
both by its matched filter. Sound is treated as it comes (echo, noise, gain: all on).
"""

import asyncio
import os
import subprocess
import threading
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from bench.calls.pair import pair
from bench.calls.process import environment
from bench.calls.report import Result, middle, need_programs, share
from bench.calls.sound import RATE
from media.port import Sound

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tests.media.pulse import Pulse
    from tests.media.waves import Samples

    Wave = NDArray[np.float64]

__all__ = ["run"]

EVERY, LENGTH = 0.5, 0.08
"""Seconds from chirp to chirp, and of one."""

SWEEPS = ((500, 2500), (2500, 500), (900, 3400), (3400, 900))
"""Hertz from and to: the same one comes again after 2 s."""

WARM, TALKED = 3.0, 20.0
"""Seconds until the call has settled, and that are measured."""

LATEST = 0.6
"""Seconds after which a chirp counts as not heard."""

AROUND = 1.0
"""Seconds around a sample in which the reader was on time once."""

ALIKE = 0.5
"""Of a chirp and what was recorded, at least (0 to 1)."""

QUIET = 100
"""Loudness (RMS of 32,768) below which there is nothing."""

EDGE = 5.0
"""Seconds at the beginning and at the end that are compared, for the drift."""


def run(folder: Path, rounds: int) -> list[Result]:
    """`rounds` calls; who talks changes."""
    need_programs("pulseaudio", "pactl", "paplay", "parec", "pacat")
    from tests.media.pulse import pulse
    from tests.media.waves import write_wav

    with pulse(folder / "p", "alice", "bob") as server:
        said = write_wav(folder / "chirps.wav", _chirps(WARM + TALKED + 4))
        os.environ.pop("TELEX_AUDIO", None)
        with environment(server.env):
            calls = [
                asyncio.run(_call(server, said, number % 2 == 1))
                for number in range(rounds)
            ]
    return [
        middle("mouth_to_ear_p50", [median(_only(one)) for one in calls], "ms"),
        middle("mouth_to_ear_p95", [share(_only(one), 0.95) for one in calls], "ms"),
        middle("mouth_to_ear_drift", [_drift(one) for one in calls], "ms"),
        middle("mouth_to_ear_chirps_found", [_found(one) for one in calls], "%"),
    ]


Delays = list[tuple[float, float]]
"""Seconds since the call settled, and milliseconds from mouth to ear."""


def _only(delays: Delays) -> list[float]:
    return [delay for _, delay in delays]


def _drift(delays: Delays) -> float:
    first = [delay for at, delay in delays if at < EDGE]
    last = [delay for at, delay in delays if at > TALKED - EDGE]
    return median(last) - median(first) if first and last else 0.0


def _found(delays: Delays) -> float:
    return 100 * len(delays) / (TALKED / EVERY)


async def _call(server: "Pulse", said: Path, turned: bool) -> Delays:
    """One call in which one of them says all chirps."""
    talker, listener = ("bob", "alice") if turned else ("alice", "bob")
    async with pair() as two:
        for side, name in zip(two.sides, (talker, listener), strict=True):
            await side.media.set_sound(Sound(f"mic-{name}", f"spk-{name}"))
            server.keep_awake(name)
        mouth = Recorder(server, f"mic-{talker}-in.monitor")
        ear = Recorder(server, f"spk-{listener}.monitor")
        try:
            await two.call()
            server.say(talker, said)
            await asyncio.sleep(WARM)
            settled = time.monotonic()
            await asyncio.sleep(TALKED + LATEST)
            await two.hang_up()
        finally:
            mouth.close()
            ear.close()
    server.renew()
    found: Delays = []
    for chirp in _each():
        heard = ear.times(chirp)
        for at in mouth.times(chirp):
            late = [time_ - at for time_ in heard if 0 < time_ - at < LATEST]
            if late and 0 <= at - settled < TALKED:
                found.append((at - settled, 1000 * late[0]))
    return sorted(found)


def _each() -> "list[Wave]":
    """One chirp of each kind."""
    import numpy as np

    at = np.arange(round(LENGTH * RATE)) / RATE
    rise = np.minimum(1, np.minimum(at, LENGTH - at) * 200)
    return [
        np.sin(2 * np.pi * (start * at + (end - start) * at**2 / (2 * LENGTH))) * rise
        for start, end in SWEEPS
    ]


def _chirps(seconds: float) -> "Samples":
    """All kinds in turn."""
    import numpy as np

    sound = np.zeros(round(seconds * RATE))
    kinds = _each()
    for number in range(int(seconds / EVERY)):
        chirp = kinds[number % len(kinds)]
        begin = round(number * EVERY * RATE)
        sound[begin : begin + chirp.size] = chirp
    return (sound * 9000).astype(np.int16)


class Recorder:
    """Records a source, and knows when each sample came."""

    def __init__(self, server: "Pulse", source: str) -> None:
        self._process = subprocess.Popen(
            [
                *("parec", "--raw", "--format=s16le", f"--rate={RATE}", "--channels=1"),
                *("--latency-msec=10", f"--device={source}"),
            ],
            env=server.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._data = bytearray()
        self._stamps: list[tuple[float, float]] = []
        """When how many seconds of sound were there."""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        while data := os.read(self._process.stdout.fileno(), 4096):
            self._data += data
            self._stamps.append((time.monotonic(), len(self._data) / 2 / RATE))

    def close(self) -> None:
        """Stop recording."""
        self._process.kill()
        self._process.wait()
        self._thread.join(5)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def times(self, chirp: "Wave") -> list[float]:
        """When (`time.monotonic()`) a chirp began, each time."""
        import numpy as np

        whole = self._data[: len(self._data) // 2 * 2]
        sound = np.frombuffer(bytes(whole), "<i2").astype(float)
        size = 1 << (sound.size + chirp.size).bit_length()
        spectrum = np.fft.rfft(sound, size) * np.conj(np.fft.rfft(chirp, size))
        # Its envelope (positive frequencies alone): a codec turns the phase.
        analytic = np.fft.ifft(2 * spectrum, size)[: sound.size]
        power = np.concatenate(([0.0], np.cumsum(sound**2)))
        ends = np.minimum(np.arange(sound.size) + chirp.size, sound.size)
        energy = np.maximum(power[ends] - power[:-1], chirp.size * QUIET**2)
        alike = np.abs(analytic) / np.sqrt(energy * float(chirp @ chirp))
        found: list[float] = []
        while alike.size and alike[at := int(np.argmax(alike))] > ALIKE:
            found.append(self._when(at / RATE))
            alike[max(0, at - RATE) : at + RATE] = 0
        return sorted(found)

    def _when(self, seconds: float) -> float:
        """When the sound at that place came: readers are late at times, never early."""
        starts = [
            came - there
            for came, there in self._stamps
            if abs(there - seconds) < AROUND
        ]
        return min(starts) + seconds
