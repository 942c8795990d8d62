"""A row of a picture on its way through Textual's compositor.

Textual makes a style object for each change of colour: at thousands of cells that is
70 ms a picture. Here a row is text that is ready for the terminal, each cell the same
number of characters, so that cutting it (for a dialog in front) is slicing a string.
Only what mixes a row's colours with others (a dialog that dims what lies behind) makes
segments of it, coarser than the picture. Textual asks for rows of which it writes
nothing, so their text is made only when it is looked at.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import TypeAlias

from rich.color import Color
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

__all__ = ["HOLE", "CellStrip", "Colours", "no_colours"]

Colours: TypeAlias = tuple[tuple[int, int, int], tuple[int, int, int]]
"""Of a cell: the upper half's, the lower half's."""

COARSE = 0xF0
"""Bits of a channel that segments keep: fewer styles, longer runs."""

BLOCK = "▀"

HOLE = "\x1b[C"
"""A step to the right."""


@lru_cache(maxsize=4096)
def _style(upper: tuple[int, int, int], lower: tuple[int, int, int]) -> Style:
    return Style(color=Color.from_rgb(*upper), bgcolor=Color.from_rgb(*lower))


class CellStrip(Strip):
    """Blank cells, cells of a picture, blank cells."""

    __slots__ = ["_bars", "_columns", "_ground", "_made", "_read", "_stride", "_text"]

    def __init__(
        self,
        text: Callable[[], str],
        columns: int,
        stride: int,
        bars: tuple[int, int],
        ground: Style,
        read: Callable[[str], Colours],
    ) -> None:
        """Make a row.

        Args:
            text: makes the cells' text for the terminal; `HOLE`s leave on it what is
                there.
            columns: cells in it.
            stride: characters of it in each cell.
            bars: blank cells to the left and right.
            ground: their colour.
            read: the colours of a cell's text.
        """
        self._made: list[Segment] | None = None
        self._text = text
        self._columns = columns
        self._stride = stride
        self._bars = bars
        self._ground = ground
        self._read = read
        super().__init__((), bars[0] + columns + bars[1])

    @property
    def _segments(self) -> list[Segment]:
        if self._made is None:
            self._made = self._make()
        return self._made

    @_segments.setter
    def _segments(self, value: list[Segment]) -> None:
        """What the base class begins with; ours are made when somebody asks."""

    def _make(self) -> list[Segment]:
        left, right = self._bars
        made = [Segment(" " * left, self._ground)] if left else []
        style, count = Style.null(), 0
        cells = self._text()
        for at in range(0, len(cells), self._stride):
            upper, lower = self._read(cells[at : at + self._stride])
            here = _style(_coarse(upper), _coarse(lower))
            if here is not style and count:
                made.append(Segment(BLOCK * count, style))
                count = 0
            style, count = here, count + 1
        if count:
            made.append(Segment(BLOCK * count, style))
        if right:
            made.append(Segment(" " * right, self._ground))
        return made

    def _slice(self, start: int, end: int) -> "CellStrip":
        left, stride = self._bars[0], self._stride
        count = self._columns
        first = min(max(start - left, 0), count)
        last = min(max(end - left, first), count)
        bars = (
            max(0, min(left, end) - start),
            max(0, end - max(start, left + count)),
        )
        text = self._text

        def cut() -> str:
            return text()[first * stride : last * stride]

        return CellStrip(cut, last - first, stride, bars, self._ground, self._read)

    def divide(self, cuts: Iterable[int]) -> Sequence[Strip]:
        """Cut at cells, for what lies in front."""
        length = self.cell_length
        ends = [cut for cut in cuts if cut <= length]
        if ends == [length]:
            return [self]
        starts = [0, *ends[:-1]]
        return [self._slice(*pair) for pair in zip(starts, ends, strict=True)]

    def crop(self, start: int, end: int | None = None) -> Strip:
        """The cells from one to before another."""
        start = max(0, start)
        end = self.cell_length if end is None else min(self.cell_length, end)
        if start == 0 and end == self.cell_length:
            return self
        return self._slice(start, end) if end > start else Strip([], 0)

    def render(self, console: Console) -> str:
        """The text for the terminal."""
        before, after = (self._blank(bar, console) for bar in self._bars)
        return f"{before}{self._text()}\x1b[0m{after}"

    def _blank(self, count: int, console: Console) -> str:
        system = console._color_system
        if not count or system is None:
            return " " * count
        return Strip.render_style(self._ground, " " * count, system)


def no_colours(_: str) -> Colours:
    """Of a hole nobody knows any."""
    return (0, 0, 0), (0, 0, 0)


def _coarse(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    red, green, blue = colour
    return red & COARSE, green & COARSE, blue & COARSE
