"""The picture widget: what a terminal shows of it, alone and under other things."""

import subprocess
import sys

import pytest
from textual.command import CommandPalette

from bench.calls.keys import measure
from media.port import Frame, View
from media.view.pace import Pace
from tests.tui.picturing import (
    BLUE,
    GREEN,
    RED,
    Question,
    colours,
    frame,
    running,
    text,
    until,
)
from tui import outlet as outlets
from tui.outlet import Outlet, outlet
from tui.widgets.picture import Picture

# --- text ------------------------------------------------------------------------


async def test_without_a_picture_there_is_the_placeholder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running("blocks", monkeypatch) as (app, pilot):
        assert "the camera is off" in text(app.shown())
        app.picture.show(frame())
        await pilot.pause()
        assert "the camera is off" not in text(app.shown())
        app.picture.placeholder = "[/red] is off"
        app.picture.clear()
        await pilot.pause()
        assert "[/red] is off" in text(app.shown()), "a name is no markup"


async def test_every_cell_has_the_colours_of_the_frame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running("blocks", monkeypatch) as (app, pilot):
        app.picture.show(frame(RED, BLUE))
        await pilot.pause()
        screen = app.shown()
        assert {colours(screen, x, y) for x in range(40) for y in range(1, 9)} == {
            (RED, RED)
        }
        assert {colours(screen, x, y) for x in range(40) for y in range(9, 17)} == {
            (BLUE, BLUE)
        }
        assert screen.display[0].startswith("top")
        assert screen.display[17].startswith("below")


async def test_other_proportions_leave_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running("blocks", monkeypatch) as (app, pilot):
        app.picture.show(frame(width=20, height=32))
        await pilot.pause()
        screen = app.shown()
        assert colours(screen, 10, 1) == colours(screen, 29, 8) == (RED, RED)
        assert screen.buffer[5][9].data == screen.buffer[5][30].data == " "


async def test_256_colours_and_braille(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running("256", monkeypatch) as (app, pilot):
        app.picture.show(frame((255, 0, 0), (0, 0, 0)))
        await pilot.pause()
        assert colours(app.shown(), 5, 3)[0][0] > 200
        app.picture.set_setting("braille")
        await pilot.pause()
        assert app.picture.wanted == View(80, 64, 15)
        screen = app.shown()
        assert screen.buffer[2][5].data == "⣿" and screen.buffer[15][5].data == "⠀"


async def test_off_wants_and_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running("off", monkeypatch) as (app, pilot):
        app.picture.show(frame())
        await pilot.pause()
        assert app.picture.wanted.width == 0 and app.asked == []
        assert "the camera is off" in text(app.shown())


async def test_a_frame_with_too_few_bytes_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running("blocks", monkeypatch) as (app, pilot):
        for bad in (Frame("", 40, 32, b"x"), Frame("", 0, 0, b"")):
            app.picture.show(bad)
        await pilot.pause()
        assert "the camera is off" in text(app.shown())


async def test_what_it_wants_follows_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running("blocks", monkeypatch) as (app, pilot):
        assert app.asked == [View(40, 32, 15)] == [app.picture.wanted]
        await pilot.resize_terminal(30, 20)
        await until(pilot, lambda: app.asked[-1] == View(30, 32, 15))
        app.picture.display = False
        await until(pilot, lambda: app.asked[-1].width == 0)
        app.picture.display = True
        await until(pilot, lambda: app.asked[-1] == View(30, 32, 15))


async def test_a_smaller_place_shows_the_old_frame_scaled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running("blocks", monkeypatch) as (app, pilot):
        app.picture.show(frame())
        await pilot.resize_terminal(20, 20)
        await pilot.pause()
        screen = app.shown()
        assert colours(screen, 0, 6) == (RED, RED)
        assert colours(screen, 19, 12) == (BLUE, BLUE)


async def test_scrolled_half_out_it_shows_its_other_half(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running("blocks", monkeypatch, (40, 12)) as (app, pilot):
        app.picture.show(frame())
        await pilot.pause()
        app.screen.scroll_to(y=6, animate=False, immediate=True)
        await pilot.pause()
        screen = app.shown()
        assert colours(screen, 3, 1) == (RED, RED)
        assert colours(screen, 3, 5) == (BLUE, BLUE)
        assert "below" in text(screen)


async def test_a_toast_is_cut_out_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running("blocks", monkeypatch, (100, 20)) as (app, pilot):
        app.picture.styles.height = 19
        app.picture.show(frame(width=100, height=38))
        app.notify("somebody wrote")
        await until(pilot, lambda: "somebody wrote" in text(app.shown()))
        screen = app.shown()
        row = next(y for y, line in enumerate(screen.display) if "somebody" in line)
        start = screen.display[row].index("somebody")
        assert colours(screen, 0, row) == (BLUE, BLUE)
        assert screen.buffer[row][start].data == "s"
        assert screen.display[row].rstrip("▀ ").endswith("wrote")


async def test_behind_a_dialog_it_is_dimmed_and_stands_still(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running("blocks", monkeypatch) as (app, pilot):
        app.picture.show(frame())
        await pilot.pause()
        await app.push_screen(Question())
        await until(pilot, lambda: app.asked[-1].width == 0)
        app.picture.show(frame(GREEN, GREEN))
        await pilot.pause()
        screen = app.shown()
        assert "really?" in text(screen)
        (red, _, blue), _ = colours(screen, 1, 2)
        assert 40 < red < 250 and blue < 100
        app.pop_screen()
        await until(pilot, lambda: app.asked[-1].width == 40)
        await until(pilot, lambda: colours(app.shown(), 1, 2) == (GREEN, GREEN))


async def test_the_palette_over_it_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running("blocks", monkeypatch) as (app, pilot):
        app.picture.show(frame())
        await pilot.pause()
        app.push_screen(CommandPalette(placeholder="look for"))
        await until(pilot, lambda: "look for" in text(app.shown()))
        assert "▀" in text(app.shown())


async def test_the_mouse_over_it_breaks_nothing_and_marks_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running("blocks", monkeypatch) as (app, pilot):
        app.picture.show(frame())
        await pilot.pause()
        await pilot.mouse_down(Picture, offset=(3, 3))
        await pilot.hover(Picture, offset=(9, 5))
        await pilot.mouse_up(Picture, offset=(9, 5))
        assert not app.screen.get_selected_text()
        assert app.screen.get_style_at(3, 3).bgcolor is not None


async def test_another_theme_changes_bars_and_placeholder_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running("blocks", monkeypatch) as (app, pilot):
        app.picture.show(frame(width=20, height=32))
        await pilot.pause()
        before = app.shown().buffer[5][2].bg
        app.theme = "textual-light"
        await until(pilot, lambda: app.shown().buffer[5][2].bg != before)


# --- who draws when ------------------------------------------------------------------


async def test_only_the_newest_frame_waits_for_a_slow_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(outlets, "monotonic", lambda: now[0])
    async with running("blocks", monkeypatch) as (app, pilot):
        way = outlet(app)
        way.pace = Pace()
        app.picture.show(frame())  # the first fence is under way
        assert way.pace.asks and app.written == [outlets.FENCE]
        way._answered()
        await until(pilot, lambda: app.written.count(outlets.FENCE) == 2)
        assert app.picture.drawn == 1
        for upper in (BLUE, GREEN, RED, GREEN):
            app.picture.show(frame(upper))
        await pilot.pause(0.05)
        assert app.picture.drawn == 1 and app.picture.dropped == 3
        now[0] += 0.01
        way._answered()
        now[0] += 1
        await until(pilot, lambda: app.picture.drawn == 2)
        assert colours(app.shown(), 0, 1) == (GREEN, GREEN)


async def test_nothing_is_written_behind_a_writer_that_has_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running("sixel", monkeypatch) as (app, pilot):
        busy = True
        monkeypatch.setattr(Outlet, "idle", lambda _: not busy)
        app.picture.show(frame())
        await pilot.pause(0.05)
        assert app.written == []
        busy = False
        await until(pilot, lambda: any("\x1bP" in one for one in app.written))


async def test_pictures_side_by_side_take_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running("blocks", monkeypatch) as (app, pilot):
        other = Picture("another", setting="blocks")
        await app.mount(other)
        await pilot.pause()
        app.picture.show(frame(RED))
        other.show(frame(GREEN))
        await until(pilot, lambda: app.picture.drawn and other.drawn)


@pytest.mark.long
def test_keys_and_pictures_reach_a_terminal_on_a_slow_link(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bench.calls.keys.WARM_SECONDS", 0.2)
    figures = {one["name"]: one["value"] for one in measure(keys=3, rate=500)}
    assert figures["pictures_blocks"] > 0
    assert 0 < figures["key_to_screen_p99_blocks"] < 10_000


def test_the_screen_loads_no_numpy_before_there_is_a_picture() -> None:
    code = (
        "import sys, tui.widgets.picture, tui.terminal;"
        "print([m for m in ('numpy', 'av', 'aiortc') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
