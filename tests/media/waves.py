"""Sounds as samples and WAV files: tones, speech, and what is heard in them."""

import subprocess
import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.media.needs import require

__all__ = [
    "RATE",
    "Samples",
    "clearest",
    "loudness",
    "read_wav",
    "silence",
    "speech",
    "tone",
    "tone_share",
    "write_wav",
]

RATE = 48_000

Samples = NDArray[np.int16]
"""Mono, `RATE` a second."""


def speech(folder: Path, text: str, *, seed: str = "en", speed: int = 160) -> Path:
    """A WAV file (48 kHz, mono) of a voice that says it; needs espeak-ng and sox.

    Args:
        folder: Where the file is made.
        text: What is said.
        seed: The voice, as espeak-ng names it.
        speed: Words a minute.
    """
    require("espeak-ng", "sox")
    raw = folder / "speech-raw.wav"
    done = folder / "speech.wav"
    voice = ["espeak-ng", "-v", seed, "-s", str(speed), "-w", str(raw), text]
    subprocess.run(voice, check=True, timeout=30)
    convert = ["sox", str(raw), "-r", "48000", "-c", "1", "-b", "16", str(done)]
    subprocess.run([*convert, "vol", "0.7"], check=True, timeout=30)
    raw.unlink()
    return done


def silence(count: int) -> Samples:
    """So many samples of nothing."""
    return np.zeros(count, np.int16)


def tone(hertz: float, seconds: float, peak: float = 0.3) -> Samples:
    """A sine; `peak` is a share of full scale."""
    at = np.arange(int(seconds * RATE)) / RATE
    return (np.sin(2 * np.pi * hertz * at) * peak * 32767).astype(np.int16)


def tone_share(samples: Samples, hertz: float) -> float:
    """Which share (0 to 1) of the energy lies within 20 Hz of a frequency."""
    if not samples.size:
        return 0.0
    power = np.abs(np.fft.rfft(samples * np.hanning(samples.size))) ** 2
    where = np.fft.rfftfreq(samples.size, 1 / RATE)
    return float(power[abs(where - hertz) < 20].sum() / max(power.sum(), 1e-9))


def clearest(samples: Samples, hertz: float, seconds: float = 0.1) -> Samples:
    """The piece of that length with the largest `tone_share`.

    On a busy machine a virtual device misses some periods; what is in between tells
    whether the sound is right.
    """
    size = int(seconds * RATE)
    pieces = [
        samples[at : at + size] for at in range(0, samples.size - size, size // 2)
    ]
    return max(pieces, key=lambda piece: tone_share(piece, hertz))


def loudness(samples: Samples) -> float:
    """RMS, of 32767."""
    return float(np.sqrt(np.mean(samples.astype(float) ** 2))) if samples.size else 0.0


def write_wav(path: Path, samples: Samples, rate: int = RATE) -> Path:
    """Write mono samples, or an array of (n, channels); the path."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return path


def read_wav(path: Path) -> Samples:
    """The samples of a mono WAV file."""
    with wave.open(str(path), "rb") as file:
        data = file.readframes(file.getnframes())
    return np.frombuffer(data, "<i2").astype(np.int16)
