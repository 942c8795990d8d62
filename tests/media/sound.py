"""Sound for tests: something like talk, and how alike and how late two sounds are."""

from functools import cache

import numpy as np

from media.audio.opus import BLOCK, RATE, Pcm

__all__ = ["blocks", "delay_between", "likeness", "talk"]


@cache
def talk(seconds: float, seed: int = 1) -> Pcm:
    """Voiced sound whose pitch, vowel and loudness wander: no two parts are alike."""
    random = np.random.default_rng(seed)
    count = round(seconds * RATE)
    points = max(count // 2400, 1) + 2

    def wander(low: float, high: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        marks = random.uniform(low, high, points)
        return np.interp(np.arange(count) / 2400, np.arange(points), marks)

    phase = np.cumsum(2 * np.pi * wander(90, 220) / RATE)
    vowel = wander(3, 14)
    wave = np.zeros(count)
    for harmonic in range(1, 20):
        near = np.exp(-(((harmonic - vowel) / 3) ** 2)) + 0.3 / harmonic
        wave += near * np.sin(harmonic * phase)
    wave *= wander(0.3, 1.0)
    sound = np.asarray(wave / np.abs(wave).max() * 12_000, np.int16)
    sound.flags.writeable = False
    return sound


def blocks(sound: Pcm) -> list[Pcm]:
    """Cut into whole blocks of 20 ms."""
    return [sound[at : at + BLOCK] for at in range(0, len(sound) - BLOCK + 1, BLOCK)]


def _matches(
    sent: Pcm, heard: Pcm, most: int
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Correlation (-1 to 1) with each lag of 0 to `most` samples."""
    size = min(len(sent), len(heard))
    a = sent[:size].astype(np.float64)
    b = heard[:size].astype(np.float64)
    length = 1 << (2 * size).bit_length()
    products = np.fft.irfft(
        np.fft.rfft(b, length) * np.conj(np.fft.rfft(a, length)), length
    )
    scale = np.sqrt((a @ a) * (b @ b)) or 1.0
    return np.asarray(products[: most + 1] / scale)


def likeness(sent: Pcm, heard: Pcm, most: float = 0.5) -> float:
    """The best correlation at any delay up to `most` seconds."""
    return float(_matches(sent, heard, round(most * RATE)).max())


def delay_between(sent: Pcm, heard: Pcm, most: float = 0.5) -> float:
    """Seconds by which `heard` comes after `sent`."""
    return int(np.argmax(_matches(sent, heard, round(most * RATE)))) / RATE
