"""The picture widget with graphics: sixel and kitty."""

import re
from typing import Any

import pytest
from textual.screen import Screen

from media.port import View
from tests.tui.picturing import (
    GREEN,
    RED,
    Question,
    colours,
    frame,
    running,
    text,
    until,
)
from tui.outlet import outlet


async def test_sixel_is_written_where_the_picture_is_after_its_cells(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running("sixel", monkeypatch) as (app, pilot):
        assert app.picture.wanted == View(400, 300, 15)
        app.picture.show(frame(width=400, height=300))
        await until(pilot, lambda: app.written)
        # 400 x 300 of 400 x 320 pixels: at the top left of its 16 rows.
        assert app.written[0].startswith('\x1b7\x1b[2;1H\x1bP0;1q"1;1;400;300#')
        assert app.written[0].endswith("\x1b\\\x1b8")
        assert "the camera is off" not in text(app.shown())


async def test_cells_under_sixel_are_stepped_over_once_it_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running("sixel", monkeypatch) as (app, pilot):
        app.picture.show(frame(width=400, height=300))
        await until(pilot, lambda: app.picture.drawn)
        await pilot.pause()
        update: Any = app.screen._compositor.render_update(full=True)
        raw = update.render_segments(app.console)
        assert raw.count("\x1b[C") == 40 * 15, "a blank would erase pixels"
        assert "below" in raw


@pytest.mark.parametrize("mode", ["sixel", "kitty"])
async def test_under_a_toast_graphics_become_text_and_come_back(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(mode, monkeypatch) as (app, pilot):
        app.picture.show(frame(width=400, height=320))
        await until(pilot, lambda: app.picture.drawn)
        app.written.clear()
        app.notify("a note", timeout=60)
        await until(pilot, lambda: "a note" in text(app.shown()))
        await until(pilot, lambda: "▀" in text(app.shown()))
        assert colours(app.shown(), 1, 2) == (RED, RED)
        await until(pilot, lambda: app.picture._blanked is None)
        assert "".join(app.written).count("a=d,d=I") == (mode == "kitty")
        app.picture.show(frame(GREEN, GREEN, 400, 320))
        await until(pilot, lambda: colours(app.shown(), 1, 2) == (GREEN, GREEN))
        app.clear_notifications()
        start = "\x1bP" if mode == "sixel" else "a=T"
        await until(pilot, lambda: start in "".join(app.written))
        await until(pilot, lambda: "▀" not in text(app.shown()))


async def test_kitty_places_the_new_picture_before_the_old_one_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running("kitty", monkeypatch) as (app, pilot):
        app.picture.show(frame(width=375, height=300))
        await until(pilot, lambda: app.picture.drawn == 1)
        first = app.written[-1]
        assert first.startswith("\x1b7\x1b[2;1H\x1b_Ga=T") and "c=40,r=16" in first
        assert "a=d" not in first
        image = first.split("i=")[1].split(",")[0]
        app.picture.show(frame(GREEN, width=375, height=300))
        await until(pilot, lambda: app.picture.drawn == 2)
        second = app.written[-1]
        assert f"i={image}," not in second.split("a=d")[0]
        assert second.index("a=T") < second.index(f"a=d,d=I,i={image},")


def placed(written: list[str]) -> set[str]:
    """Kitty's pictures that are on the terminal."""
    there: set[str] = set()
    for part in "".join(written).split("\x1b_G")[1:]:
        keys = dict(pair.split("=") for pair in re.split("[;\x1b]", part)[0].split(","))
        if keys.get("a") == "T":
            there.add(keys["i"])
        elif keys.get("a") == "d":
            there.discard(keys["i"])
    return there


@pytest.mark.parametrize(
    "leave", ["screen", "dialog", "hide", "remove", "suspend", "clear", "off"]
)
async def test_kitty_leaves_nothing_behind(
    leave: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running("kitty", monkeypatch) as (app, pilot):
        picture = app.picture
        picture.show(frame(width=375, height=300))
        await until(pilot, lambda: len(placed(app.written)) == 1)
        if leave == "screen":
            await app.push_screen(Screen())
        elif leave == "dialog":
            await app.push_screen(Question())
        elif leave == "hide":
            picture.display = False
        elif leave == "remove":
            await picture.remove()
        elif leave == "suspend":
            app.app_suspend_signal.publish(app)
        elif leave == "clear":
            picture.clear()
        else:
            picture.set_setting("off")
        await until(pilot, lambda: not placed(app.written))
        if leave in ("screen", "dialog"):
            app.pop_screen()
            await until(pilot, lambda: len(placed(app.written)) == 1)


async def test_kitty_leaves_nothing_behind_at_exit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running("kitty", monkeypatch) as (app, pilot):
        app.picture.show(frame(width=375, height=300))
        await until(pilot, lambda: len(placed(app.written)) == 1)
        app.exit()
    assert not placed(app.written)


async def test_graphics_go_before_the_terminal_is_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running("kitty", monkeypatch) as (app, pilot):
        left: list[set[str]] = []
        driver: Any = app._driver
        monkeypatch.setattr(
            driver, "stop_application_mode", lambda: left.append(placed(app.written))
        )
        way = outlet(app)
        way._listen()
        app.picture.show(frame(width=375, height=300))
        await until(pilot, lambda: len(placed(app.written)) == 1)
        driver.stop_application_mode()
        assert left == [set()]
        app.picture.show(frame(GREEN, width=375, height=300))
        await pilot.pause()
        assert not placed(app.written), "nothing is drawn on what is not ours"
        app.app_resume_signal.publish(app)
        app.picture.show(frame(width=375, height=300))
        await until(pilot, lambda: len(placed(app.written)) == 1)
