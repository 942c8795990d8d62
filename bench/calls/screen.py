"""Drawing: one picture, and how long a key takes to the screen meanwhile.

`frame_80x48` is CPU time from the pixels that the media process sends (80 x 96 RGB) to
the text of 80 x 48 cells in half blocks of 24 bit, the median of many noisy pictures.
The rest is `bench.calls.keys`: a Textual application with such pictures, 15 a second,
in a pseudo terminal, typed into at random times.
"""

import time
from pathlib import Path
from statistics import median

from bench.calls import keys
from bench.calls.report import Result, middle, result

__all__ = ["run"]

COLUMNS, ROWS = 80, 48
PICTURES = 300
KEYS = 100


def run(folder: Path, rounds: int) -> list[Result]:
    """Draw, then type in one run of the application for each round."""
    found: dict[str, tuple[list[float], str]] = {}
    for _ in range(rounds):
        for one in keys.measure(keys=KEYS):
            values, _ = found.setdefault(one["name"], ([], one["unit"]))
            values.append(one["value"])
    return [
        result("frame_80x48", _draw(), "ms"),
        *(middle(name, values, unit) for name, (values, unit) in found.items()),
    ]


def _draw() -> float:
    """Milliseconds of CPU for a picture."""
    from media.view.blocks import draw_true
    from media.view.shape import pixels

    pictures = keys.pictures(COLUMNS, 2 * ROWS, 16)
    times = []
    for number in range(PICTURES):
        data = pictures[number % len(pictures)]
        begun = time.process_time()
        draw_true(pixels(data, COLUMNS, 2 * ROWS))
        times.append(1000 * (time.process_time() - begun))
    return median(times)
