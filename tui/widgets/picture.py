"""A moving picture in the screen: kitty graphics, sixel, half blocks or braille.

Text (blocks and braille) goes through Textual's compositor as rows that are ready for
the terminal (`tui.cellstrip`), so whatever lies in front is cut out of it. Graphics
stand on blank cells and are written past the compositor after it; while something lies
in front of them, text is drawn instead.

It has no border and no padding: put it into a container for these.
"""

import asyncio
import importlib
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rich.color import Color as RichColor
from rich.segment import Segment
from rich.style import Style
from textual.content import Content
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from media.port import Frame, View
from media.view import plan
from media.view.probe import ASSUMED_REGISTERS, Mode, choose
from tui.cellstrip import HOLE, CellStrip, no_colours
from tui.outlet import Outlet, outlet
from tui.terminal import cell_size, current, video_choice

if TYPE_CHECKING:
    from textual.screen import Screen

    from media.view.shape import Pixels

__all__ = ["Picture"]

LIBRARIES = ("blocks", "braille", "kitty", "shape", "sixel")

SAVE, RESTORE = "\x1b7", "\x1b8"
"""DECSC and DECRC: the cursor and its colours."""

BLANK = Style(bgcolor=RichColor.default())
"""Cells that let a picture of kitty's shine through (`kitty.BEHIND`)."""


class Picture(Widget):
    """The newest frame of somebody's camera, or a quiet text."""

    ALLOW_SELECT = False
    DEFAULT_CSS: ClassVar[str] = """
    Picture {
        width: 1fr;
        height: 1fr;
        content-align: center middle;
        text-align: center;
        color: $text-muted;
    }
    """

    class WantedChanged(Message):
        """Another size, or another number of frames a second, is wanted."""

        def __init__(self, picture: "Picture", view: View) -> None:
            super().__init__()
            self.picture = picture
            self.view = view

        @property
        def control(self) -> "Picture":
            """The picture."""
            return self.picture

        def can_replace(self, message: Message) -> bool:
            """Only the last one counts."""
            return (
                isinstance(message, Picture.WantedChanged)
                and message.picture is self.picture
            )

    def __init__(
        self,
        placeholder: str = "",
        *,
        setting: str = "auto",
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        """Make the widget.

        Args:
            placeholder: the text while there is no picture.
            setting: what to draw with, as of `tui.terminal.video_choice`.
            name: as of `Widget`, as `id` and `classes`.
        """
        super().__init__(name=name, id=id, classes=classes)
        self._placeholder = placeholder
        self._setting = setting
        self._mode: Mode = "off"
        self._frame: Frame | None = None
        self._rows: tuple[object, list[Strip]] = (None, [])
        self._sixel: tuple[object, str] = (None, "")
        self._blanked: object = None
        """The region and plan for which there are blank cells under graphics."""
        self._placed: object = None
        """The frame and region of the graphics on the terminal."""
        self._image = 0
        self._asked = View()
        self.drawn = 0
        """Frames that went to the terminal."""
        self._outlet: Outlet | None = None
        self._libraries: asyncio.Task[None] | None = None

    # --- what others use -------------------------------------------------------------

    @property
    def mode(self) -> Mode:
        """What is drawn with."""
        return self._mode

    @property
    def wanted(self) -> View:
        """What is of use here now; of no width while it is not to be seen."""
        if not (self.is_attached and self.display and self._stands):
            return View()
        area = (self.size.width, self.size.height)
        return plan.wanted(self._mode, area, cell_size(), self._level)

    @property
    def dropped(self) -> int:
        """Frames that no terminal was quick enough for, of all pictures."""
        return self._outlet.dropped if self._outlet else 0

    @property
    def placeholder(self) -> str:
        """The text while there is no picture."""
        return self._placeholder

    @placeholder.setter
    def placeholder(self, text: str) -> None:
        self._placeholder = text
        self.refresh()

    def show(self, frame: Frame) -> None:
        """Show a frame as soon as the terminal can take it; only the newest waits.

        A frame with the wrong number of bytes is passed over.
        """
        if len(frame.data) != frame.width * frame.height * 3 or not frame.data:
            return
        first = self._frame is None
        self._frame = frame
        if self._mode == "off" or not self._stands or self._outlet is None:
            return  # behind a dialog the last picture stays
        if first:
            self.refresh()
        self._outlet.request(self)

    def clear(self) -> None:
        """Back to the placeholder."""
        self._frame = None
        self._rows, self._sixel = (None, []), (None, "")
        self._wipe()
        self.refresh()

    def set_setting(self, setting: str) -> None:
        """Draw with something else from now on."""
        self._setting = setting
        if self.is_attached:
            self._wipe()
            self._mode = video_choice(setting).mode
            self.refresh()
            self._tell()

    # --- life ------------------------------------------------------------------------

    def on_mount(self) -> None:
        """Find the terminal; load numpy beside what goes on."""
        self._mode = video_choice(self._setting).mode
        self._outlet = outlet(self.app)
        self.app.screen_change_signal.subscribe(self, self._screen_changed)
        self.app.app_suspend_signal.subscribe(self, self._suspended)
        self.app.app_resume_signal.subscribe(self, self._resumed)
        self.watch(self.app, "theme", self._restyle, init=False)
        self._libraries = asyncio.create_task(asyncio.to_thread(_load))

    def on_unmount(self) -> None:
        """Leave nothing on the terminal."""
        self._wipe()
        if self._outlet is not None:
            self._outlet.forget(self)

    def on_resize(self) -> None:
        """Ask for pictures of that size."""
        self._tell()

    def on_show(self) -> None:
        """Ask for pictures again."""
        self._tell()

    def on_hide(self) -> None:
        """Ask for none."""
        self._wipe()
        self._tell()

    def _screen_changed(self, screen: "Screen[Any]") -> None:
        if screen is not self.screen:
            self._wipe()
        self._tell()

    def _suspended(self, _: object) -> None:
        self._wipe()

    def _resumed(self, _: object) -> None:
        if self._outlet is not None:
            self._outlet.resume()
        self.refresh()

    def _restyle(self) -> None:
        self._rows = (None, [])
        self.refresh()

    def _tell(self) -> None:
        view = self.wanted
        if view != self._asked:
            self._asked = view
            self.post_message(self.WantedChanged(self, view))

    # --- drawing ---------------------------------------------------------------------

    @property
    def _stands(self) -> bool:
        """Whether its screen is the one in front."""
        return self.is_attached and self.screen is self.app.screen

    @property
    def _level(self) -> int:
        return self._outlet.pace.level if self._outlet is not None else 0

    @property
    def _graphics(self) -> bool:
        return self._mode in ("kitty", "sixel")

    def render(self) -> Content:
        """The placeholder; names in it are no markup."""
        return Content(self._placeholder)

    def draw(self) -> bool:
        """Draw the newest frame; the outlet calls it when the terminal is ready."""
        outlet_ = self._outlet
        if outlet_ is None or self._frame is None or not self._stands:
            return False
        self._tell()  # the link may have become slower or faster
        if self._graphics and (region := self._stage()) is not None:
            if self._blanked != (region, self._plan(self._mode, self._level)):
                self.refresh()  # first the cells under it; that asks again
                return False
            self._paint(region)
            self.drawn += 1
            outlet_.drawn()
            return True
        self._wipe()
        self.drawn += 1
        self.refresh()
        return self.call_after_refresh(outlet_.drawn)

    def render_lines(self, crop: Region) -> list[Strip]:
        """Rows for the compositor."""
        frame = self._frame
        if frame is None or self._mode == "off" or not self.size:
            return super().render_lines(crop)
        if self._graphics and (region := self._stage()) is not None:
            # A crop of one row is somebody asking what is under the mouse.
            rows = self._under(region, whole=crop.size == self.size)
        else:
            if self._blanked is not None:
                self.call_later(self._wipe)
            rows = self._text()
        if crop.size == self.size:
            return rows
        return [strip.crop(crop.x, crop.right) for strip in rows[crop.y : crop.bottom]]

    def _ask(self) -> None:
        if self._outlet is not None:
            self._outlet.request(self)

    def _stage(self) -> Region | None:
        """Where it stands on the terminal; None if anything hides a part of it."""
        if not self._stands or self.app.is_inline:
            return None
        # Textual has no public way to ask what lies in front (8.2); front comes first.
        for widget, (region, clip) in self.screen._compositor.visible_widgets.items():
            seen = region.intersection(clip)
            if widget is self:
                return region if seen == region and region.size == self.size else None
            if seen.overlaps(self.region):
                return None
        return None

    def _plan(self, mode: Mode, level: int) -> plan.Plan | None:
        assert self._frame is not None
        size = (self._frame.width, self._frame.height)
        area = (self.size.width, self.size.height)
        return plan.place(mode, size, area, cell_size(), level)

    def _pixels(self, width: int, height: int) -> "Pixels":
        from media.view.shape import pixels, resize

        assert self._frame is not None
        frame = self._frame
        return resize(pixels(frame.data, frame.width, frame.height), width, height)

    # --- as text ---------------------------------------------------------------------

    def _text_mode(self) -> Mode:
        mode = self._mode
        if self._graphics:
            mode = choose(current(), "auto").mode
            if mode in ("kitty", "sixel"):
                mode = "blocks" if current().colours == "true" else "256"
        return "256" if mode == "blocks" and self._level else mode

    def _text(self) -> list[Strip]:
        """All rows, with bars where the picture has other proportions."""
        mode, level = self._text_mode(), self._level
        ground = self.visual_style.rich_style
        key = (self._frame, self.size, mode, level, ground)
        if self._rows[0] == key:
            return self._rows[1]
        it = self._plan(mode, level)
        bars = [Strip.blank(self.size.width, ground)] * self.size.height
        if it is not None:
            rows = self._picture_rows(mode, it, ground)
            bars[it.top : it.top + it.rows] = rows
        self._rows = (key, bars)
        return bars

    def _picture_rows(
        self, mode: Mode, it: plan.Plan, ground: Style
    ) -> Sequence[Strip]:
        from media.view import blocks, braille

        picture = self._pixels(it.width, it.height)
        left, right = it.left, self.size.width - it.left - it.columns
        if mode == "braille":
            behind = self.background_colors[1]
            pen = behind.get_contrast_text(1.0).rich_color
            style = ground + Style(color=pen)
            rows = braille.draw(picture, dark_on_light=behind.brightness > 0.5)
            return [
                Strip([Segment(" " * left + row + " " * right, style)], self.size.width)
                for row in rows
            ]
        if mode == "blocks":
            stride, read = blocks.STRIDE_TRUE, blocks.cell_true
            rows = blocks.draw_true(picture)
        else:
            stride, read = blocks.STRIDE_256, blocks.cell_256
            rows = blocks.draw_256(picture)
        return [CellStrip(row, stride, (left, right), ground, read) for row in rows]

    # --- as graphics -----------------------------------------------------------------

    def _under(self, region: Region, whole: bool) -> list[Strip]:
        """The cells on which graphics stand; asks for the graphics if they are due."""
        it = self._plan(self._mode, self._level)
        fresh = self._blanked != (region, it)
        if whole and fresh:
            self._blanked, self._placed = (region, it), None
        if whole and self._placed != (self._frame, region):
            self.call_later(self._ask)  # after these cells are written
        width, height = self.size
        ground = self.visual_style.rich_style
        bars = [Strip.blank(width, ground)] * height
        if it is None or (fresh and self._mode == "sixel"):
            return bars
        left, right = it.left, width - it.left - it.columns
        if self._mode == "sixel":  # text would erase it
            cells = HOLE * it.columns
            row: Strip = CellStrip(cells, len(HOLE), (left, right), ground, no_colours)
        else:
            parts = ((left, ground), (it.columns, BLANK), (right, ground))
            row = Strip([Segment(" " * count, style) for count, style in parts], width)
        bars[it.top : it.top + it.rows] = [row] * it.rows
        return bars

    def _paint(self, region: Region) -> None:
        """Write the graphics over the cells."""
        it = self._plan(self._mode, self._level)
        if it is None or self._outlet is None:
            return
        x, y = region.x + it.left + 1, region.y + it.top + 1
        if self._mode == "kitty":
            data = self._kitty(it)
        else:
            key = (self._frame, it)
            if self._sixel[0] != key:
                self._sixel = (key, self._sixel_data(it))
            data = self._sixel[1]
        self._placed = (self._frame, region)
        self._outlet.write(f"{SAVE}\x1b[{y};{x}H{data}{RESTORE}")

    def _kitty(self, it: plan.Plan) -> str:
        from media.view import kitty

        before, self._image = self._image, 1 + secrets.randbelow(0x7FFF_FFFE)
        picture = self._pixels(it.width, it.height)
        data = kitty.draw(picture, self._image, it.columns, it.rows)
        return data + (kitty.delete(before) if before else "")

    def _sixel_data(self, it: plan.Plan) -> str:
        from media.view import sixel

        registers = current().sixel or ASSUMED_REGISTERS
        return sixel.draw(self._pixels(it.width, it.height), registers)

    def leave(self) -> None:
        """Take graphics away; the outlet calls it when the terminal is given back."""
        self._wipe()

    def _wipe(self) -> None:
        """Take kitty's picture away; sixel's goes when cells are written over it."""
        image, self._image = self._image, 0
        self._placed = self._blanked = None
        if image and self._outlet is not None:
            from media.view import kitty

            self._outlet.write(kitty.delete(image))


def _load() -> None:
    """What drawing needs; without it there are no calls and no pictures."""
    for name in LIBRARIES:
        try:
            importlib.import_module(f"media.view.{name}")
        except ImportError:
            return
