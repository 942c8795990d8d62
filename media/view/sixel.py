"""DEC sixel: bands of six rows, each colour of a band drawn over the others.

The palette is a fixed cube, with an ordered pattern between its levels: it costs
nothing to find and does not flicker from one picture to the next.
"""

from functools import cache

import numpy as np
import numpy.typing as npt

from media.view.shape import Pixels

__all__ = ["BAND", "draw", "levels"]

BAND = 6
"""Rows of pixels that one character draws."""

REPEAT = 3
"""Longer runs are written as a count."""


def levels(registers: int) -> tuple[int, int, int]:
    """How many levels of red, green and blue a terminal with that many colours gets."""
    for cube in ((6, 6, 6), (4, 5, 4), (4, 4, 4), (3, 4, 3), (2, 4, 2)):
        if cube[0] * cube[1] * cube[2] <= registers:
            return cube
    return 2, 2, 2


@cache
def _palette(cube: tuple[int, int, int]) -> str:
    """The definitions of all colours: `#number;2;red;green;blue` in per cent."""
    red, green, blue = cube
    return "".join(
        f"#{(r * green + g) * blue + b};2;"
        f"{round(100 * r / (red - 1))};{round(100 * g / (green - 1))};"
        f"{round(100 * b / (blue - 1))}"
        for r in range(red)
        for g in range(green)
        for b in range(blue)
    )


@cache
def _steps(count: int) -> npt.NDArray[np.uint8]:
    """For each of 16 places of the pattern and each value: the level to take."""
    pattern = (np.arange(16)[:, None] + 0.5) / 16
    level = np.arange(256)[None, :] * (count - 1) / 255
    return np.floor(level + pattern).clip(0, count - 1).astype(np.uint8)


@cache
def _pattern(high: int, wide: int) -> npt.NDArray[np.intp]:
    """Bayer's 4 x 4 pattern for that many pixels, times 256 (to index `_steps`)."""
    tile = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]])
    return np.tile(tile * 256, (high // 4 + 1, wide // 4 + 1))[:high, :wide]


def _numbers(picture: Pixels, cube: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """The colour of each pixel, by its number in the palette."""
    pattern = _pattern(*picture.shape[:2])
    red, green, blue = (
        _steps(count).ravel()[pattern + picture[:, :, channel]]
        for channel, count in enumerate(cube)
    )
    numbers: npt.NDArray[np.uint8] = (red * np.uint8(cube[1]) + green) * np.uint8(
        cube[2]
    ) + blue
    return numbers


def draw(picture: Pixels, registers: int = 256) -> str:
    """A picture at the cursor, in its own size.

    Args:
        picture: if its height is not a multiple of `BAND`, the rest of the last band
            stays as it was.
        registers: colours that the terminal has.
    """
    high, wide = picture.shape[:2]
    cube = levels(registers)
    numbers = _numbers(picture, cube)
    body = _encode(numbers, cube[0] * cube[1] * cube[2])
    # 0;1: square pixels, and what is not drawn stays.
    return f'\x1bP0;1q"1;1;{wide};{high}{_palette(cube)}{body}\x1b\\'


def _encode(numbers: npt.NDArray[np.uint8], colours: int) -> str:
    """Bands of runs, from the number of each pixel's colour."""
    high, wide = numbers.shape
    bands = -(-high // BAND)
    # What each colour draws in each band: a byte for each column.
    planes = np.zeros((bands, colours, wide), np.uint8)
    flat = planes.reshape(-1)
    column = np.arange(wide)
    for row in range(BAND):
        these = numbers[row::BAND].astype(np.intp)
        start = np.arange(len(these))[:, None] * (colours * wide)
        # No two pixels of one row are the same place.
        flat[start + these * wide + column] |= np.uint8(1 << row)
    places = np.flatnonzero(flat.view(bool))
    return _runs(places, flat[places], wide, colours)


def _runs(
    places: npt.NDArray[np.intp],
    values: npt.NDArray[np.uint8],
    wide: int,
    colours: int,
) -> str:
    """The text of runs: what they skip, what they repeat, where a line begins."""
    line = places // wide
    fresh = np.empty(len(places), bool)
    fresh[0] = True
    fresh[1:] = (np.diff(places) != 1) | (values[1:] != values[:-1])
    fresh[1:] |= line[1:] != line[:-1]
    first = np.flatnonzero(fresh)
    count = np.diff(first, append=len(places))
    place, line = places[first], line[first]
    newline = np.empty(len(first), bool)
    newline[0] = True
    newline[1:] = line[1:] != line[:-1]
    end = np.empty_like(place)
    end[1:] = place[:-1] + count[:-1]
    skipped = np.where(newline, place - line * wide, place - end)
    text = np.zeros((len(first), 15), np.uint8)
    _starts(text[:, :5], newline, line, colours)
    _repeat(text[:, 5:10], skipped, np.full(len(first), ord("?"), np.uint8))
    _repeat(text[:, 10:15], count, values[first] + np.uint8(63))
    flat = text.reshape(-1)
    return str(flat[flat != 0].tobytes(), "ascii")


def _starts(
    text: npt.NDArray[np.uint8],
    newline: npt.NDArray[np.bool_],
    line: npt.NDArray[np.intp],
    colours: int,
) -> None:
    """Write `$#123` (back to the left, colour) or `-#123` (next band, colour)."""
    at = np.flatnonzero(newline)
    band, colour = np.divmod(line[at], colours)
    ends = np.diff(band, prepend=band[0])
    text[at, 0] = np.where(ends > 0, ord("-"), ord("$"))
    text[at[0], 0] = 0
    text[at, 1] = ord("#")
    for place, unit in ((2, 100), (3, 10), (4, 1)):
        text[at, place] = ord("0") + colour // unit % 10


def _repeat(
    text: npt.NDArray[np.uint8],
    count: npt.NDArray[np.intp],
    what: npt.NDArray[np.uint8],
) -> None:
    """Write a character that often: up to `REPEAT` times itself, else `!123` and it."""
    for place in range(REPEAT):
        text[:, place] = np.where(count > place, what, 0)
    at = np.flatnonzero(count > REPEAT)
    many = count[at]
    text[at, 0] = ord("!")
    for place, unit in ((1, 100), (2, 10), (3, 1)):
        text[at, place] = ord("0") + many // unit % 10
    text[at, 4] = what[at]
