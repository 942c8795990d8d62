"""Braille: 2 x 4 dots in a cell, in one colour, for terminals that have no more."""

from functools import cache

import numpy as np
import numpy.typing as npt

from media.view.shape import Pixels

__all__ = ["draw"]

BITS = ((0, 3), (1, 4), (2, 5), (6, 7))
"""Bit of each dot, by row and column (Unicode, block Braille Patterns)."""

SPREAD = 40
"""A picture with less between dark and bright (of 255) is not stretched further: it
would be noise."""


@cache
def _thresholds() -> npt.NDArray[np.float32]:
    """Bayer's 8 x 8 pattern, 0 to 1."""
    pattern = np.zeros((1, 1), np.int64)
    while len(pattern) < 8:
        pattern = np.block(
            [
                [4 * pattern, 4 * pattern + 2],
                [4 * pattern + 3, 4 * pattern + 1],
            ]
        )
    return ((pattern + 0.5) / 64).astype(np.float32)


def draw(picture: Pixels, dark_on_light: bool = False) -> list[str]:
    """Rows of braille characters.

    The picture is stretched to its own darkest and brightest parts first, and grey
    becomes an ordered pattern of dots.

    Args:
        picture: a multiple of four rows, of two columns.
        dark_on_light: dots stand for what is dark.
    """
    high, wide = picture.shape[:2]
    luma = picture @ np.array([0.299, 0.587, 0.114], np.float32)
    low, top = np.percentile(luma[::3, ::3], (3, 97))
    grey = (luma - low) / max(SPREAD, top - low)
    tile = np.tile(_thresholds(), (high // 8 + 1, wide // 8 + 1))[:high, :wide]
    dots = (grey <= tile) if dark_on_light else (grey > tile)
    cells = np.full((high // 4, wide // 2), 0x2800, np.uint16)
    for row, bits in enumerate(BITS):
        for column, bit in enumerate(bits):
            cells |= dots[row::4, column::2].astype(np.uint16) << np.uint16(bit)
    return [row.tobytes().decode("utf-16-le") for row in cells.astype("<u2")]
