"""Text pictures that are written past the compositor: what of them, and what a real
terminal shows when something comes to lie over them."""

import random
import re
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from media.port import Frame
from media.view.changes import NEAR, runs, settle
from media.view.shape import Pixels
from tests.system.terminal import Terminal
from tests.tui.picturing import BLUE, GREEN, RED, frame, running, until
from tui.outlet import FENCE


def with_dot(base: Frame, x: int, y: int, colour: tuple[int, int, int]) -> Frame:
    """The same with one pixel of another colour."""
    data = bytearray(base.data)
    at = 3 * (y * base.width + x)
    data[at : at + 3] = bytes(colour)
    return Frame("", base.width, base.height, bytes(data))


def cells(written: list[str]) -> list[tuple[int, int, int]]:
    """(row, column, number of cells) of each piece, from 1."""
    found = []
    for piece in re.split(r"(?=\x1b\[\d+;\d+H)", "".join(written))[1:]:
        place = re.match(r"\x1b\[(\d+);(\d+)H", piece)
        assert place is not None
        found.append((int(place[1]), int(place[2]), piece.count("▀")))
    return found


@pytest.mark.parametrize("mode", ["blocks", "256"])
async def test_only_what_changed_is_written(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(mode, monkeypatch) as (app, pilot):
        base = frame()
        app.picture.show(base)
        await until(pilot, lambda: app.picture.drawn == 1)
        await pilot.pause()
        assert FENCE not in "".join(app.written) and not cells(app.written)
        # Once it stands, whole: the compositor may have written any part of it.
        app.picture.show(frame(GREEN))
        assert cells(app.written) == [(2 + row, 1, 40) for row in range(16)]
        app.written.clear()
        app.picture.show(with_dot(frame(GREEN), 7, 5, BLUE))
        assert cells(app.written) == [(4, 8, 1)]
        assert app.written[0].startswith("\x1b7") and app.written[0].endswith("\x1b8")
        app.written.clear()
        app.picture.show(with_dot(frame(GREEN), 7, 5, BLUE))
        assert app.written == []
        # What the compositor draws anew is not taken for known.
        app.picture.refresh()
        await pilot.pause()
        app.shown()
        app.picture.show(frame(GREEN))
        assert len(cells(app.written)) == 16


async def test_rows_of_dots_that_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running("braille", monkeypatch) as (app, pilot):
        base = frame((255, 255, 255), (0, 0, 0), 80, 64)
        app.picture.show(base)
        await until(pilot, lambda: app.picture.drawn == 1)
        await pilot.pause()
        app.picture.show(base)
        whole = "".join(app.written)
        assert re.findall(r"\x1b\[(\d+);1H", whole) == [str(2 + y) for y in range(16)]
        app.written.clear()
        app.picture.show(base)
        assert app.written == []
        app.picture.show(with_dot(base, 40, 60, (255, 255, 255)))
        changed = re.findall(r"\x1b\[(\d+);1H", "".join(app.written))
        assert "17" in changed and len(changed) < 16


async def test_a_picture_that_moved_is_not_written_where_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running("blocks", monkeypatch, (40, 30)) as (app, pilot):
        for colour in (RED, GREEN):
            app.picture.show(frame(colour, colour))
            await pilot.pause()
        assert cells(app.written)[0] == (2, 1, 40)
        app.screen.query("Label").first().styles.height = 5
        await pilot.pause()
        app.written.clear()
        for colour in (RED, GREEN):
            app.picture.show(frame(colour, colour))
            await pilot.pause()
        assert {row for row, _, _ in cells(app.written)} == set(range(6, 22))


def test_noise_is_not_written_and_nothing_stays_wrong() -> None:
    chance = np.random.default_rng(7)
    shown: Pixels = np.full((32, 20, 3), 100, np.uint8)
    for number in range(100):
        noisy = (100 + chance.integers(-NEAR // 2, NEAR // 2 + 1, shown.shape)).astype(
            np.uint8
        )
        row = number % 32
        settled = settle(noisy, shown, number)
        assert (settled[row] == noisy[row]).all()
        others = np.arange(32) != row
        assert (settled[others] == shown[others]).all()
        shown = settled
    bright: Pixels = np.full((32, 20, 3), 100 + NEAR, np.uint8)
    for number in range(32):
        shown = settle(bright, shown, number)
    assert (shown == bright).all()


def test_writing_the_runs_makes_the_picture() -> None:
    chance = random.Random(11)
    for _ in range(200):
        high, wide = 2 * chance.randint(1, 6), chance.randint(1, 9)
        before: Pixels = np.zeros((high, wide, 3), np.uint8)
        after = before.copy()
        for _ in range(chance.choice((0, 1, 5, 60))):
            place = (chance.randrange(high), chance.randrange(wide))
            after[(*place, chance.randrange(3))] = chance.randrange(256)
        written = before.copy()
        spans = runs(after, before)
        for row, first, last in spans:
            assert 0 <= first < last <= wide
            part = (slice(2 * row, 2 * row + 2), slice(first, last))
            assert (after[part] != before[part]).any(axis=(0, 2)).all()
            written[part] = after[part]
        assert (written == after).all()
        assert runs(after, None) == [(row, 0, wide) for row in range(high // 2)]


# --- a real terminal ------------------------------------------------------------------

COLUMNS, ROWS = 60, 20


@pytest.fixture(scope="module")
def terminal() -> Iterator[Terminal]:
    plain = ["env", "-u", "NO_COLOR", "-u", "TELEX_VIDEO"]
    command = [*plain, sys.executable, "-m", "tests.tui.picture_app"]
    env = {"COLORTERM": "truecolor"}
    with Terminal(command, env=env, columns=COLUMNS, rows=ROWS) as one:
        yield one


def block(terminal: Terminal, x: int, y: int) -> str:
    """The upper colour of a cell of a picture; nothing if it is none."""
    cell = terminal.cells[y][x]
    return str(cell.fg) if cell.data == "▀" else ""


def pictured(
    terminal: Terminal, colour: tuple[int, int, int], rows: range, width: int = COLUMNS
) -> bool:
    """Whether these rows are all of one colour but for the stripe."""
    wanted = bytes(colour).hex()
    for cells in terminal.cells[rows.start : rows.stop]:
        if any(cell.data != "▀" for cell in cells[:width]):
            return False
        others = [c for c in cells[:width] if (c.fg, c.bg) != (wanted, wanted)]
        if len(others) > 1:
            return False
    return True


def test_a_toast_over_it_stays_whole_and_leaves_nothing(terminal: Terminal) -> None:
    rows = range(1, ROWS - 1)
    terminal.wait(lambda _: pictured(terminal, RED, rows))
    terminal.write("g")
    terminal.wait(lambda _: pictured(terminal, GREEN, rows))
    terminal.write("t")
    terminal.wait("a note")
    note = next(y for y, line in enumerate(terminal.lines) if "a note" in line)
    terminal.write("b")
    terminal.wait(lambda _: pictured(terminal, BLUE, range(1, note - 2)))
    terminal.wait(lambda _: block(terminal, 0, note) == bytes(BLUE).hex())
    assert "a note" in terminal.lines[note]
    terminal.write("x")
    terminal.wait(lambda _: pictured(terminal, BLUE, rows))
    assert terminal.lines[0] == "top" and "drawn" in terminal.lines[-1]


@pytest.mark.parametrize("cover", ["d", "s"])
def test_a_dialog_or_another_screen_over_it(terminal: Terminal, cover: str) -> None:
    rows = range(1, ROWS - 1)
    terminal.write("r")
    terminal.wait(lambda _: pictured(terminal, RED, rows))
    terminal.write(cover)
    if cover == "d":
        terminal.wait("really?")
        # It is dimmed, and what comes in meanwhile does not shine through.
        assert block(terminal, 1, 1) not in ("", bytes(RED).hex())
    else:
        terminal.wait(lambda text: "▀" not in text)
    terminal.write("g")
    terminal.write("q")
    terminal.wait(lambda _: pictured(terminal, GREEN, rows))


def test_another_size_and_another_place(terminal: Terminal) -> None:
    terminal.write("r")
    terminal.wait(lambda _: pictured(terminal, RED, range(1, ROWS - 1)))
    terminal.resize(44, 16)
    terminal.wait(
        lambda text: (
            text.startswith("top\n")
            and "drawn" in terminal.lines[15]
            and pictured(terminal, RED, range(1, 15), 44)
        )
    )
    terminal.write("m")
    terminal.write("g")
    terminal.wait(
        lambda text: (
            text.startswith("top\n\n\n\n")
            and "drawn" in terminal.lines[15]
            and pictured(terminal, GREEN, range(4, 15), 44)
        )
    )
