"""A moving picture as text: rows for Textual's compositor, or straight to the terminal.

Through the compositor each row is cut and put together again at the edges of all that
shares a line with it: four times the work. So where nothing lies in front, only the
first frame in a place goes that way, and of the next ones what changed is written to
where it stands.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.strip import Strip

from media.port import Frame
from media.view.plan import Plan
from media.view.probe import Mode
from media.view.shape import Pixels, pixels, resize
from tui.cellstrip import CellStrip

__all__ = ["Look", "TextPicture", "scaled"]


@dataclass(frozen=True, slots=True)
class Look:
    """How frames are drawn."""

    mode: Mode
    """`blocks`, `256` or `braille`."""
    plan: Plan
    size: tuple[int, int]
    """Of the whole area in cells; the plan lies in its middle, bars around it."""
    ground: Style
    """Of the bars."""
    behind: Color | None
    """The background of braille, which has no colours of its own."""

    @property
    def bars(self) -> tuple[int, int]:
        """Blank cells to the left and right."""
        return self.plan.left, self.size[0] - self.plan.left - self.plan.columns

    @property
    def pen(self) -> Style:
        """For dots."""
        assert self.behind is not None
        colour = self.behind.get_contrast_text(1.0).rich_color
        return self.ground + Style(color=colour)


def scaled(frame: Frame, plan: Plan) -> Pixels:
    """A frame as large as planned."""
    picture = pixels(frame.data, frame.width, frame.height)
    return resize(picture, plan.width, plan.height)


class TextPicture:
    """One place on the screen, and what the terminal shows there."""

    def __init__(self) -> None:
        self._strips: tuple[Frame | None, Look | None, list[Strip]] = (None, None, [])
        self._shown: Pixels | None = None
        """The pixels that are on the terminal; None: nobody knows."""
        self._dots: list[str] = []
        """The same as rows of braille; none: nobody knows."""
        self._count = 0

    def forget(self) -> None:
        """What was drawn is of no use any more."""
        self._strips = (None, None, [])
        self.lose()

    def strips(self, frame: Frame, look: Look) -> list[Strip]:
        """All rows of the area, for the compositor."""
        seen, before, rows = self._strips
        if seen is not frame or before != look:
            rows = [Strip.blank(look.size[0], look.ground)] * look.size[1]
            plan = look.plan
            rows[plan.top : plan.top + plan.rows] = self._rows(frame, look)
            self._strips = (frame, look, rows)
        return rows

    def changes(
        self, frame: Frame, look: Look, corner: tuple[int, int], console: Console
    ) -> str:
        """What makes the terminal show this frame instead of the last one.

        Args:
            frame: the new one.
            look: as of the last frame, which was drawn whole.
            corner: column and row of the area on the terminal, from 0.
            console: for its number of colours.
        """
        x, y = corner[0] + look.plan.left + 1, corner[1] + look.plan.top + 1
        picture = scaled(frame, look.plan)
        if look.mode == "braille":
            return self._changed_dots(picture, look, (x, y), console)
        return self._changed_cells(picture, look, (x, y))

    def _changed_cells(self, picture: Pixels, look: Look, at: tuple[int, int]) -> str:
        from media.view import blocks, changes

        shown = self._shown
        if shown is not None:
            self._count += 1
            picture = changes.settle(picture, shown, self._count)
        runs = changes.runs(picture, shown)
        self._shown = picture
        if not runs:
            return ""
        (left, top), true = at, look.mode == "blocks"
        rows = (blocks.draw_true if true else blocks.draw_256)(picture)
        size = blocks.STRIDE_TRUE if true else blocks.STRIDE_256
        return "".join(
            f"\x1b[{top + row};{left + first}H{rows[row][first * size : last * size]}"
            for row, first, last in runs
        )

    def _changed_dots(
        self, picture: Pixels, look: Look, at: tuple[int, int], console: Console
    ) -> str:
        before, self._dots = self._dots, _dots(picture, look)
        left, top = at
        return "".join(
            f"\x1b[{y};{left}H{Strip([Segment(row, look.pen)]).render(console)}"
            for y, row in enumerate(self._dots, top)
            if not before or row != before[y - top]
        )

    def _rows(self, frame: Frame, look: Look) -> list[Strip]:
        """The rows of the picture itself; of blocks they are made when looked at."""
        from media.view import blocks

        if look.mode == "braille":
            self.lose()
            (left, right), width = look.bars, look.size[0]
            rows = _dots(scaled(frame, look.plan), look)
            return [
                Strip([Segment(" " * left + row + " " * right, look.pen)], width)
                for row in rows
            ]
        if look.mode == "blocks":
            stride, read, draw = blocks.STRIDE_TRUE, blocks.cell_true, blocks.draw_true
        else:
            stride, read, draw = blocks.STRIDE_256, blocks.cell_256, blocks.draw_256
        cells = _Cells(lambda: draw(scaled(frame, look.plan)), self.lose)
        return [
            CellStrip(
                partial(cells.row, number),
                look.plan.columns,
                stride,
                look.bars,
                look.ground,
                read,
            )
            for number in range(look.plan.rows)
        ]

    def lose(self) -> None:
        """Somebody else writes here: some rows, or all."""
        self._shown, self._dots = None, []


class _Cells:
    """Text of a frame's rows, once somebody wants it."""

    def __init__(self, draw: Callable[[], list[str]], used: Callable[[], None]) -> None:
        self._draw = draw
        self._used = used
        self._rows: list[str] = []

    def row(self, number: int) -> str:
        self._used()
        if not self._rows:
            self._rows = self._draw()
        return self._rows[number]


def _dots(picture: Pixels, look: Look) -> list[str]:
    from media.view import braille

    assert look.behind is not None
    return list(braille.draw(picture, dark_on_light=look.behind.brightness > 0.5))
