"""Pictures become bytes, and these bytes show the picture again."""

import base64
import re
import zlib
from itertools import product

import numpy as np
import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.view import blocks, braille, kitty, plan, sixel
from media.view.probe import Mode
from media.view.shape import Pixels, pixels, resize
from tests.helpers.fuzz import fuzzing


def gradient(width: int, height: int) -> Pixels:
    """Every pixel another colour, with all extremes."""
    y, x = np.mgrid[0:height, 0:width]
    red = x * 255 // max(1, width - 1)
    green = y * 255 // max(1, height - 1)
    blue = (red + green) * 3 % 256
    return np.stack([red, green, blue], -1).astype(np.uint8)


def screen(rows: list[str], columns: int) -> pyte.Screen:
    """What a terminal shows of these rows."""
    shown = pyte.Screen(columns, len(rows))
    stream = pyte.Stream(shown)
    for number, row in enumerate(rows, 1):
        stream.feed(f"\x1b[{number};1H{row}\x1b[0m")
    return shown


def colour(name: str) -> tuple[int, ...]:
    """Of a cell of pyte's: six digits."""
    return tuple(int(name[at : at + 2], 16) for at in (0, 2, 4))


def test_half_blocks_show_every_pixel_in_its_colour() -> None:
    picture = gradient(17, 12)
    rows = blocks.draw_true(picture)
    shown = screen(rows, 17)
    for y, x in product(range(6), range(17)):
        cell = shown.buffer[y][x]
        assert cell.data == "▀"
        assert colour(cell.fg) == tuple(picture[2 * y, x])
        assert colour(cell.bg) == tuple(picture[2 * y + 1, x])


def test_256_colours_come_as_near_as_they_can() -> None:
    picture = gradient(32, 32)
    shown = screen(blocks.draw_256(picture), 32)
    upper = np.array(
        [[colour(shown.buffer[y][x].fg) for x in range(32)] for y in range(16)]
    )
    far = np.abs(upper.astype(int) - picture[0::2].astype(int))
    assert far.mean() < 20  # half a step of the palette; the pattern averages out


@pytest.mark.parametrize("grey", [0, 95, 255])
def test_256_colours_are_right_on_average(grey: int) -> None:
    flat = np.full((8, 8, 3), grey, np.uint8)
    shown = screen(blocks.draw_256(flat), 8)
    cells = [shown.buffer[y][x] for y, x in product(range(4), range(8))]
    colours = np.array([[colour(cell.fg), colour(cell.bg)] for cell in cells])
    assert np.abs(colours.mean((0, 1)) - grey).max() <= 10


def test_rows_of_blocks_can_be_cut_at_every_cell() -> None:
    picture = gradient(5, 2)
    (row,) = blocks.draw_true(picture)
    for x in range(5):
        cell = row[x * blocks.STRIDE_TRUE : (x + 1) * blocks.STRIDE_TRUE]
        assert blocks.cell_true(cell) == (tuple(picture[0, x]), tuple(picture[1, x]))
    assert len(row) == 5 * blocks.STRIDE_TRUE
    (row,) = blocks.draw_256(picture)
    assert len(row) == 5 * blocks.STRIDE_256


def dots(rows: list[str]) -> np.ndarray:
    """The dots of braille characters, by Unicode's numbers of them."""
    numbers = {1: (0, 0), 2: (1, 0), 3: (2, 0), 4: (0, 1), 5: (1, 1), 6: (2, 1)}
    numbers |= {7: (3, 0), 8: (3, 1)}
    found = np.zeros((len(rows) * 4, len(rows[0]) * 2), bool)
    for y, row in enumerate(rows):
        for x, char in enumerate(row):
            for number, (down, right) in numbers.items():
                bit = (ord(char) - 0x2800) >> (number - 1) & 1
                found[4 * y + down, 2 * x + right] = bool(bit)
    return found


def test_braille_sets_a_dot_for_each_bright_pixel() -> None:
    picture = np.zeros((8, 12, 3), np.uint8)
    bright = np.random.default_rng(5).random((8, 12)) > 0.5
    picture[bright] = 255
    assert (dots(braille.draw(picture)) == bright).all()
    assert (dots(braille.draw(picture, dark_on_light=True)) == ~bright).all()


def test_braille_shows_grey_as_so_many_dots() -> None:
    ramp = np.repeat(np.arange(0, 256, 4).astype(np.uint8)[None, :], 32, 0)
    found = dots(braille.draw(np.repeat(ramp[:, :, None], 3, 2)))
    shares = [found[:, at : at + 16].mean() for at in (0, 16, 32, 48)]
    assert shares == sorted(shares) and shares[0] < 0.25 and shares[3] > 0.75


def assemble(text: str) -> tuple[dict[str, str], Pixels]:
    """What a terminal with kitty's protocol receives."""
    chunks = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", text)
    assert "".join(f"\x1b_G{a};{b}\x1b\\" for a, b in chunks) == text
    keys = [dict(pair.split("=") for pair in a.split(",")) for a, _ in chunks]
    assert [key["m"] for key in keys] == ["1"] * (len(chunks) - 1) + ["0"]
    assert all(set(key) == {"m", "q"} for key in keys[1:])
    assert all(len(b) <= 4096 for _, b in chunks)
    assert all(len(b) % 4 == 0 for _, b in chunks)
    data = zlib.decompress(base64.b64decode("".join(b for _, b in chunks)))
    shape = (int(keys[0]["v"]), int(keys[0]["s"]), 3)
    return keys[0], np.frombuffer(data, np.uint8).reshape(shape)


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (320, 240)])
def test_kitty_gets_the_whole_picture_in_chunks(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(5).integers(0, 256, (size[1], size[0], 3), np.uint8)
    keys, received = assemble(kitty.draw(picture, 7, columns=40, rows=15))
    assert (received == picture).all()
    assert (keys["a"], keys["f"], keys["o"], keys["t"]) == ("T", "24", "z", "d")
    assert (keys["i"], keys["c"], keys["r"], keys["C"]) == ("7", "40", "15", "1")
    assert keys["q"] == "2", "an answer would come as keys"
    assert int(keys["z"]) < -(1 << 30), "what has a background is in front of it"


def test_kitty_deletes_by_number_and_frees_the_memory() -> None:
    assert kitty.delete(7) == "\x1b_Ga=d,d=I,i=7,q=2\x1b\\"


def show_sixel(text: str, high: int, wide: int) -> np.ndarray:
    """An independent reader of sixel (DEC STD 070, as in VT330/340): per cent."""
    body = re.fullmatch(r'\x1bP0;1q"1;1;(\d+);(\d+)([^\x1b]*)\x1b\\', text)
    assert body and (int(body[1]), int(body[2])) == (wide, high)
    shown = np.full((-(-high // 6) * 6, wide, 3), -1)
    palette: dict[int, tuple[int, ...]] = {}
    x, band, colour = 0, 0, 0
    for token in re.finditer(
        r"#(\d+)(?:;2;(\d+);(\d+);(\d+))?|!(\d+)([?-~])|([?-~])|([$-])", body[3]
    ):
        number, *rgb, count, repeated, once, move = token.groups()
        if number is not None:
            colour = int(number)
            if rgb[0] is not None:
                palette[colour] = tuple(map(int, rgb))
        elif move:
            x, band = 0, band + (move == "-")
        else:
            bits, end = ord(repeated or once) - 63, x + int(count or 1)
            for row in range(6):
                if bits >> row & 1:
                    shown[6 * band + row, x:end] = palette[colour]
            x = end
    assert re.fullmatch(r"(#[\d;]+|!\d+[?-~]|[?-~]|[$-])*", body[3]), "nothing else"
    return shown[:high]


@pytest.mark.parametrize("size", [(1, 1), (6, 6), (5, 13), (64, 48), (333, 20)])
@pytest.mark.parametrize("registers", [256, 64, 16])
def test_sixel_paints_every_pixel_near_its_colour(
    size: tuple[int, int], registers: int
) -> None:
    picture = gradient(*size)
    shown = show_sixel(sixel.draw(picture, registers), size[1], size[0])
    assert (shown >= 0).all(), "no pixel is left out"
    steps = np.array(sixel.levels(registers)) - 1
    far = np.abs(shown / 100 - picture / 255.0)
    assert (far <= 1 / steps + 0.01).all(), "never further than one step"


def test_sixel_is_right_on_average_and_in_flat_parts() -> None:
    flat = np.full((24, 32, 3), (200, 90, 30), np.uint8)
    shown = show_sixel(sixel.draw(flat), 24, 32)
    assert np.abs(shown.mean((0, 1)) / 100 * 255 - (200, 90, 30)).max() < 3


def test_sixel_uses_no_more_colours_than_there_are() -> None:
    for registers in (8, 16, 64, 100, 256, 1024):
        red, green, blue = sixel.levels(registers)
        assert red * green * blue <= registers


def test_sixel_writes_runs_as_counts() -> None:
    flat = np.zeros((6, 300, 3), np.uint8)
    text = sixel.draw(flat)
    assert text.endswith("#000!300~\x1b\\")


@fuzzing
@given(st.data())
def test_any_picture_survives_every_renderer(data: st.DataObject) -> None:
    wide = data.draw(st.integers(1, 20)) * 2
    high = data.draw(st.integers(1, 8)) * 4
    raw = data.draw(st.binary(min_size=8, max_size=8))
    noise = np.random.default_rng(list(raw)).integers(
        raw[0] // 2, raw[0] // 2 + 1 + raw[1] // 2, (high, wide, 3), np.uint8
    )
    assert (show_sixel(sixel.draw(noise), high, wide) >= 0).all()
    assert (assemble(kitty.draw(noise, 1, 1, 1))[1] == noise).all()
    assert len(blocks.draw_true(noise)) == len(blocks.draw_256(noise)) == high // 2
    assert {len(row) for row in braille.draw(noise)} == {wide // 2}


@pytest.mark.parametrize(
    ("data", "width", "height"), [(b"", 0, 0), (b"123", 2, 1), (b"1234", 1, 1)]
)
def test_bytes_that_are_no_picture_are_refused(
    data: bytes, width: int, height: int
) -> None:
    with pytest.raises(ValueError, match="no picture"):
        pixels(data, width, height)


def test_resizing_keeps_corners() -> None:
    picture = gradient(40, 30)
    for size in ((80, 60), (13, 7), (1, 1), (40, 30)):
        scaled = resize(picture, *size)
        assert scaled.shape == (size[1], size[0], 3)
    assert (resize(picture, 80, 60)[::59, ::79] == picture[::29, ::39]).all()


# --- how large ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "area", "size"),
    [
        ("blocks", (80, 48), (80, 96)),
        ("256", (40, 24), (40, 48)),
        ("braille", (80, 48), (160, 192)),
        ("kitty", (20, 10), (180, 180)),
        ("kitty", (80, 48), (200, 240)),
        ("sixel", (20, 10), (180, 180)),
        ("sixel", (80, 48), (400, 300)),
        ("off", (80, 48), (0, 0)),
        ("blocks", (0, 48), (0, 0)),
    ],
)
def test_it_asks_for_the_pixels_that_it_can_show(
    mode: Mode, area: tuple[int, int], size: tuple[int, int]
) -> None:
    view = plan.wanted(mode, area, (9, 18), 0)
    assert (view.width, view.height) == size


def test_very_large_terminals_get_fewer_and_bounded_pictures() -> None:
    view = plan.wanted("blocks", (500, 200), (9, 18), 0)
    assert view.fps < 15
    assert view.width * view.height // 2 <= plan.MOST_CELLS


def test_coarser_levels_want_less() -> None:
    for mode in ("blocks", "kitty", "sixel"):
        views = [plan.wanted(mode, (80, 48), (9, 18), level) for level in range(3)]
        rates = [view.width * view.height * view.fps for view in views]
        assert rates == sorted(rates, reverse=True) and rates[2] < rates[0]


@fuzzing
@given(
    st.sampled_from(["kitty", "sixel", "blocks", "256", "braille", "off"]),
    st.tuples(st.integers(1, 2000), st.integers(1, 2000)),
    st.tuples(st.integers(0, 300), st.integers(0, 120)),
    st.tuples(st.integers(2, 40), st.integers(2, 60)),
    st.integers(0, 2),
)
def test_a_picture_never_leaves_its_area(
    mode: Mode,
    picture: tuple[int, int],
    area: tuple[int, int],
    cell: tuple[int, int],
    level: int,
) -> None:
    it = plan.place(mode, picture, area, cell, level)
    if it is None:
        assert mode == "off" or not all(area) or (mode == "sixel" and cell[1] < 6)
        return
    assert it.width > 0 and it.height > 0
    assert it.left >= 0 and it.left + it.columns <= area[0]
    assert it.top >= 0 and it.top + it.rows <= area[1]
    if mode == "sixel":
        assert it.height <= area[1] * cell[1] // 6 * 6, "it would scroll the screen"
