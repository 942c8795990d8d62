"""Pixels as numpy has them."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Pixels", "pixels", "resize"]

Pixels: TypeAlias = npt.NDArray[np.uint8]
"""`uint8[height, width, 3]`: red, green, blue."""


def pixels(data: bytes, width: int, height: int) -> Pixels:
    """A picture from `width * height * 3` bytes, without a copy.

    Raises:
        ValueError: there are more or fewer bytes, or no pixel.
    """
    if width < 1 or height < 1 or len(data) != width * height * 3:
        raise ValueError(f"{len(data)} bytes are no picture of {width}x{height}")
    return np.frombuffer(data, np.uint8).reshape(height, width, 3)


def resize(picture: Pixels, width: int, height: int) -> Pixels:
    """That picture in another size, by the nearest pixel.

    The media process scales well; this is for the frames that come while it does not
    know the new size yet.
    """
    high, wide = picture.shape[:2]
    if (wide, high) == (width, height):
        return picture
    rows = (np.arange(height) * 2 + 1) * high // (2 * height)
    columns = (np.arange(width) * 2 + 1) * wide // (2 * width)
    scaled: Pixels = picture[rows[:, None], columns[None, :]]
    return scaled
