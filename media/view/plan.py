"""How large a picture is drawn in an area of cells, and which pixels that takes.

Loads no numpy: a widget knows what it wants before there is any picture.
"""

from dataclasses import dataclass

from media.port import View
from media.view.probe import Mode

__all__ = ["Plan", "box", "place", "wanted"]

MANY_CELLS, MOST_CELLS = 4800, 9600
"""Cells of text above which there are 10 pictures in a second instead of 15, and the
most: beyond, the terminal itself takes too long to draw them."""

FPS, FEWER_FPS = 15, 10

COARSE_FPS = (FPS, FEWER_FPS, 8)
"""By level of coarseness (`Pace.level`)."""

KITTY_BOX = ((320, 240), (240, 180), (160, 120))
"""Pixels of kitty's pictures by level; the terminal scales them to their place."""

SIXEL_BOX = ((400, 300), (240, 180), (160, 120))
"""Pixels of sixel's pictures by level; these are as large on the screen. Encoding
takes 3 ms for 320 x 240, 12 ms for 480 x 360."""

COARSE_CELLS = (40, 24)
"""Cells of text at the coarsest level."""

SIXEL_BAND = 6

PER_CELL: dict[Mode, tuple[int, int]] = {
    "blocks": (1, 2),
    "256": (1, 2),
    "braille": (2, 4),
}
"""Pixels in a cell: columns and rows."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A picture in its area."""

    left: int
    """Cells, from the area's corner; as `top`, `columns` and `rows`."""
    top: int
    columns: int
    rows: int
    width: int
    """Pixels, as `height`."""
    height: int


def box(
    mode: Mode, area: tuple[int, int], cell: tuple[int, int], level: int
) -> tuple[int, int]:
    """The pixels that an area has room for.

    Args:
        mode: what is drawn with.
        area: cells, columns and rows.
        cell: pixels of a cell (kitty and sixel).
        level: how coarse, from 0.
    """
    columns, rows = area
    if mode == "off" or columns < 1 or rows < 1:
        return 0, 0
    if mode in PER_CELL:
        if level >= 2:
            columns, rows = min(columns, COARSE_CELLS[0]), min(rows, COARSE_CELLS[1])
        while columns * rows > MOST_CELLS:
            columns, rows = columns * 9 // 10, rows * 9 // 10
        wide, high = PER_CELL[mode]
        return columns * wide, rows * high
    most = (KITTY_BOX if mode == "kitty" else SIXEL_BOX)[level]
    if mode == "kitty":
        scale = min(1.0, most[0] / (columns * cell[0]), most[1] / (rows * cell[1]))
        width, height = columns * cell[0] * scale, rows * cell[1] * scale
        return max(1, round(width)), max(1, round(height))
    high = min(rows * cell[1], most[1]) // SIXEL_BAND * SIXEL_BAND
    return min(columns * cell[0], most[0]), high


def wanted(
    mode: Mode, area: tuple[int, int], cell: tuple[int, int], level: int
) -> View:
    """What the media process should send for that."""
    width, height = box(mode, area, cell, level)
    if not (width and height):
        return View()
    fps = COARSE_FPS[level]
    if mode in PER_CELL and area[0] * area[1] > MANY_CELLS:
        fps = min(fps, FEWER_FPS)
    return View(width, height, fps)


def place(
    mode: Mode,
    picture: tuple[int, int],
    area: tuple[int, int],
    cell: tuple[int, int],
    level: int,
) -> Plan | None:
    """Where a picture of that size lies in an area, in its middle, and how large.

    Returns:
        None: there is no room for any.
    """
    width, height = _fit(picture, box(mode, area, cell, level))
    if not (width and height):
        return None
    if mode in PER_CELL:
        wide, high = PER_CELL[mode]
        columns, rows = -(-width // wide), -(-height // high)
        width, height = columns * wide, rows * high
    elif mode == "kitty":
        shown = _fit(picture, (area[0] * cell[0], area[1] * cell[1]))
        columns, rows = (max(1, round(shown[side] / cell[side])) for side in (0, 1))
    else:
        columns, rows = -(-width // cell[0]), -(-height // cell[1])
    left, top = (area[0] - columns) // 2, (area[1] - rows) // 2
    return Plan(max(0, left), max(0, top), columns, rows, width, height)


def _fit(picture: tuple[int, int], most: tuple[int, int]) -> tuple[int, int]:
    """The largest size of the same proportions in a box; 0 if there is no room."""
    width, height = picture
    if not all((*picture, *most)):
        return 0, 0
    scale = min(most[0] / width, most[1] / height)
    return max(1, round(width * scale)), max(1, round(height * scale))
