"""What of a picture is another than what a terminal shows of the one before.

Most of a picture of somebody who talks stands still but for the camera's noise. What is
not sent costs neither this program, the link nor the terminal anything.
"""

import numpy as np

from media.view.shape import Pixels

__all__ = ["NEAR", "runs", "settle"]

NEAR = 4
"""Steps of a channel, of 255, that nobody sees: such pixels stay what they are."""

EXACT = 32
"""Of so many pictures, one by one, each row has one in which every step counts: what
came near and stays there becomes right within two seconds."""


def settle(picture: Pixels, shown: Pixels, number: int) -> Pixels:
    """A picture in which what is nearly as shown is as shown.

    Args:
        picture: the new one.
        shown: what the terminal shows, of the same size.
        number: of the picture; each another.
    """
    apart = np.where(picture > shown, picture - shown, shown - picture)
    settled: Pixels = np.where(apart > NEAR, picture, shown)
    rows = slice(number % EXACT, None, EXACT)
    settled[rows] = picture[rows]
    return settled


def runs(picture: Pixels, shown: Pixels | None) -> list[tuple[int, int, int]]:
    """Cells of half blocks that have to be written: (row, first, behind the last).

    Args:
        picture: an even number of rows.
        shown: what the terminal shows, of the same size; None: nobody knows.
    """
    high, wide = picture.shape[:2]
    if shown is None:
        return [(row, 0, wide) for row in range(high // 2)]
    apart = picture != shown
    pixels = apart[:, :, 0] | apart[:, :, 1] | apart[:, :, 2]
    cells = np.zeros((high // 2, wide + 2), bool)  # with a border on either side
    np.logical_or(pixels[0::2], pixels[1::2], out=cells[:, 1:-1])
    edges = np.flatnonzero(cells[:, 1:] != cells[:, :-1])
    rows, columns = np.divmod(edges, wide + 1)
    return list(
        zip(
            rows[0::2].tolist(),
            columns[0::2].tolist(),
            columns[1::2].tolist(),
            strict=True,
        )
    )
