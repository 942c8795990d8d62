"""A moving picture in the screen: kitty graphics, sixel, half blocks or braille.

Text (blocks and braille) goes through Textual's compositor as rows that are ready for
the terminal (`tui.cellstrip`) while something lies in front, which is cut out of it;
else past it (`tui.textpicture`). Graphics stand on blank cells and are written past the
compositor after it; while something lies in front of them, text is drawn instead.

It has no border and no padding: put it into a container for these.
"""

import asyncio
import importlib
import secrets
from functools import partial
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
    from tui.textpicture import Look, TextPicture

__all__ = ["Picture"]

LIBRARIES = ("blocks", "braille", "changes", "kitty", "shape", "sixel")

SAVE, RESTORE = "\x1b7", "\x1b8"
"""DECSC and DECRC: the cursor and its colours."""

SYNC_START, SYNC_END = "\x1b[?2026h", "\x1b[?2026l"
"""Between them a terminal that knows these shows nothing half done."""

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
        self._text_picture: TextPicture | None = None
        self._stood: object = None
        """Where and how the compositor drew text last, bars included."""
        self._sixel: tuple[object, str] = (None, "")
        self._blanked: object = None
        """The region and plan for which there are blank cells under graphics."""
        self._placed: object = None
        """The frame and region of the graphics on the terminal."""
        self._image = 0
        self._asked = View()
        self._asked_level = 0
        self._home: Screen[Any] | None = None
        """Its screen while mounted: Textual walks the tree each time it is asked."""
        self._staged: tuple[object, Region | None] = (None, None)
        """What is on the screen, as Textual has it, and `_stage` for that."""
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
        if not (self._stands and self.display):
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
        if text != self._placeholder:
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
        self._sixel = (None, "")
        self._forget_text()
        self._wipe()
        self.refresh()

    def set_setting(self, setting: str) -> None:
        """Draw with something else from now on."""
        self._setting = setting
        if self.is_attached:
            self._wipe()
            self._forget_text()
            self._mode = video_choice(setting).mode
            self.refresh()
            self._tell()

    # --- life ------------------------------------------------------------------------

    def on_mount(self) -> None:
        """Find the terminal; load numpy beside what goes on."""
        self._home = self.screen
        self._mode = video_choice(self._setting).mode
        self._outlet = outlet(self.app)
        self.app.screen_change_signal.subscribe(self, self._screen_changed)
        self.app.app_suspend_signal.subscribe(self, self._suspended)
        self.app.app_resume_signal.subscribe(self, self._resumed)
        self.watch(self.app, "theme", self._restyle, init=False)
        self._libraries = asyncio.create_task(asyncio.to_thread(_load))

    def on_unmount(self) -> None:
        """Leave nothing on the terminal."""
        self._home = None
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
        self._stood = None
        if screen is not self.screen:
            self._wipe()
        self._tell()

    def _suspended(self, _: object) -> None:
        self._stood = None
        self._wipe()

    def _resumed(self, _: object) -> None:
        if self._outlet is not None:
            self._outlet.resume()
        self.refresh()

    def _restyle(self) -> None:
        self._forget_text()
        self.refresh()

    def _tell(self) -> None:
        self._asked_level = self._level
        view = self.wanted
        if view != self._asked:
            self._asked = view
            self.post_message(self.WantedChanged(self, view))

    # --- drawing ---------------------------------------------------------------------

    @property
    def _stands(self) -> bool:
        """Whether its screen is the one in front."""
        home = self._home
        return home is not None and home is home.app.screen

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
        if self._level != self._asked_level:  # the link became slower or faster
            self._tell()
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
        stands = None if self._graphics else self._stage()
        look = self._look() if stands is not None else None
        if stands is not None and look is not None and self._stood == (stands, look):
            return self._put(stands, look)
        self._stood = (stands, look)
        self._text.lose()
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
            rows = self._text_rows()
        if crop.size == self.size:
            return rows
        return [strip.crop(crop.x, crop.right) for strip in rows[crop.y : crop.bottom]]

    def _ask(self) -> None:
        if self._outlet is not None:
            self._outlet.request(self)

    def _stage(self) -> Region | None:
        """Where it stands on the terminal; None if anything hides a part of it."""
        home = self._home
        if home is None or not self._stands or self.app.is_inline:
            return None
        # Textual has no public way to ask what lies in front (8.2).
        there = home._compositor.visible_widgets
        if there is not self._staged[0]:
            self._staged = (there, self._find(there))
        return self._staged[1]

    def _find(self, there: dict[Widget, tuple[Region, Region]]) -> Region | None:
        for widget, (region, clip) in there.items():  # front comes first
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
        cell = cell_size() if mode in ("kitty", "sixel") else (1, 2)
        return plan.place(mode, size, area, cell, level)

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

    def _look(self) -> "Look | None":
        """How text is drawn now; None: there is no room for any."""
        from tui.textpicture import Look

        mode = self._text_mode()
        it = self._plan(mode, self._level)
        if it is None:
            return None
        size = (self.size.width, self.size.height)
        ground = self.visual_style.rich_style
        behind = self.background_colors[1] if mode == "braille" else None
        return Look(mode, it, size, ground, behind)

    @property
    def _text(self) -> "TextPicture":
        from tui.textpicture import TextPicture

        if self._text_picture is None:
            self._text_picture = TextPicture()
        return self._text_picture

    def _forget_text(self) -> None:
        self._stood = None
        if self._text_picture is not None:
            self._text_picture.forget()

    def _text_rows(self) -> list[Strip]:
        """All rows, with bars where the picture has other proportions."""
        assert self._frame is not None
        look = self._look()
        if look is None:
            ground = self.visual_style.rich_style
            return [Strip.blank(self.size.width, ground)] * self.size.height
        return self._text.strips(self._frame, look)

    def _put(self, region: Region, look: "Look") -> bool:
        """Write what changed to where the compositor drew the picture."""
        assert self._outlet is not None and self._frame is not None
        corner = (region.x, region.y)
        text = self._text.changes(self._frame, look, corner, self.app.console)
        if not text:
            return False
        begin, end = (SYNC_START, SYNC_END) if self.app._sync_available else ("", "")
        self._outlet.write(f"{begin}{SAVE}{text}{RESTORE}{end}")
        self._outlet.drawn()
        return True

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
            holes = partial(str, HOLE * it.columns)
            row: Strip = CellStrip(
                holes, it.columns, len(HOLE), (left, right), ground, no_colours
            )
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
