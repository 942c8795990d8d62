"""How long a key takes to the screen while a video call is drawn.

    python -m bench.calls.keys             half blocks, 80 x 48 cells, 15 a second
    python -m bench.calls.keys --mode sixel --rate 500

A Textual application with a moving picture and a line to type in runs on a pseudo
terminal. This process is the terminal: it types at random times, waits for the echo
(which is drawn after the letter itself, as what a letter brings about) and answers
what terminals are asked. `--rate` reads as slowly as a link of so many
kilobytes a second would. Prints a JSON array of {name, value, unit}.
"""

import argparse
import fcntl
import json
import os
import random
import re
import select
import struct
import subprocess
import sys
import termios
import time
from typing import Any

COLUMNS, ROWS = 84, 56
"""Of the terminal: the picture has 80 x 48 of its cells."""

CELL = (9, 18)

STYLE = """
Picture { width: 80; height: 48; }
Static { width: 80; height: 1; }
Input { dock: bottom; }
"""

START_SECONDS = 20.0
ECHO_SECONDS = 10.0
WARM_SECONDS = 2.0

ANSWERS = ((b"\x1b[6n", b"\x1b[1;1R"), (b"\x1b[?2026$p", b"\x1b[?2026;2$y"))


def main() -> None:
    """Measure, or (`--child`) be measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mode", default="blocks")
    parser.add_argument("--keys", type=int, default=150)
    parser.add_argument("--fps", type=float, default=15.0)
    parser.add_argument("--rate", type=float, default=0.0, help="kB/s; 0: no limit")
    parser.add_argument("--child", type=int, default=-1, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child >= 0:
        _child(args.mode, args.fps, args.child)
    else:
        print(json.dumps(measure(args.mode, args.keys, args.fps, args.rate), indent=2))


def measure(
    mode: str = "blocks", keys: int = 150, fps: float = 15.0, rate: float = 0.0
) -> list[dict[str, Any]]:
    """Type that many keys; figures as {name, value, unit}."""
    terminal = _Terminal(mode, fps, rate)
    try:
        terminal.run_until(b"K0.", START_SECONDS)
        terminal.run(WARM_SECONDS)
        terminal.key()  # begins the measured part
        terminal.run_until(b"K1.", ECHO_SECONDS)
        before, begun = terminal.received, time.monotonic()
        times = []
        chance = random.Random(5)
        for number in range(2, keys + 2):
            terminal.run(chance.uniform(0.02, 0.2))
            sent = time.monotonic()
            terminal.key()
            terminal.run_until(f"K{number}.".encode(), ECHO_SECONDS)
            times.append(1000 * (time.monotonic() - sent))
        seconds = time.monotonic() - begun
        volume = terminal.received - before
        report = terminal.finish()
    finally:
        terminal.close()
    times.sort()
    suffix = mode if fps else "without_video"
    return [
        _figure(f"key_to_screen_p50_{suffix}", times[len(times) // 2], "ms"),
        _figure(f"key_to_screen_p99_{suffix}", times[int(len(times) * 0.99)], "ms"),
        _figure(f"drawing_{suffix}", report["cpu"] / report["seconds"], "core"),
        _figure(f"pictures_{suffix}", report["drawn"] / report["seconds"], "1/s"),
        _figure(f"written_{suffix}", volume / 1000 / seconds, "kB/s"),
    ]


def _figure(name: str, value: float, unit: str) -> dict[str, Any]:
    return {"name": name, "value": round(value, 3), "unit": unit}


class _Terminal:
    """The other end of the pseudo terminal."""

    def __init__(self, mode: str, fps: float, rate: float) -> None:
        self._master, slave = os.openpty()
        size = (ROWS, COLUMNS, COLUMNS * CELL[0], ROWS * CELL[1])
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", *size))
        report, child = os.pipe()
        self._report = os.fdopen(report)
        # A size in the environment (test runners set one) would beat the real one,
        # and without colours nothing would be drawn in blocks.
        hidden = ("COLUMNS", "LINES", "NO_COLOR")
        around = {k: v for k, v in os.environ.items() if k not in hidden}
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "bench.calls.keys"),
                *("--mode", mode, "--fps", str(fps), "--child", str(child)),
            ],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            pass_fds=(child,),
            env={**around, "TERM": "xterm-256color", "COLORTERM": "truecolor"},
            start_new_session=True,
        )
        os.close(slave)
        os.close(child)
        self._rate = rate * 1000
        self._free = time.monotonic()
        self._seen = b""
        self._wanted, self._found = b"?", False
        self.received = 0

    def key(self) -> None:
        os.write(self._master, b"a")

    def run(self, seconds: float) -> None:
        """Be a terminal for that long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._step(left)

    def run_until(self, text: bytes, seconds: float) -> None:
        """Be a terminal until that was written."""
        end = time.monotonic() + seconds
        self._wanted, self._found = text, False
        while not self._found:
            left = end - time.monotonic()
            if left <= 0 or self._process.poll() is not None:
                raise RuntimeError(f"{text!r} was not written: {self._seen!r}")
            self._step(left)

    def _step(self, most: float) -> None:
        wait = self._free - time.monotonic()
        if wait > 0:
            time.sleep(min(wait, most))
            return
        if not select.select([self._master], [], [], most)[0]:
            return
        data = os.read(self._master, 4096 if self._rate else 65536)
        if self._rate:
            self._free = time.monotonic() + len(data) / self._rate
        self.received += len(data)
        tail, fresh = self._seen, self._seen + data
        self._seen = fresh[-64:]
        self._found = self._found or self._wanted in fresh
        for question, answer in ANSWERS:
            # A question that ends before the new part was answered already.
            for found in re.finditer(re.escape(question), fresh):
                if found.end() > len(tail):
                    os.write(self._master, answer)

    def finish(self) -> dict[str, float]:
        """Have the application leave; what it says of itself."""
        os.write(self._master, b"\x11")  # Ctrl+Q
        end = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < end:
            try:
                self._step(0.05)
            except OSError:
                break
        report: dict[str, float] = json.loads(self._report.readline())
        return report

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._master)
        self._report.close()


def _child(mode: str, fps: float, report: int) -> None:
    """The application that is measured."""
    from textual.app import App, ComposeResult
    from textual.screen import Screen
    from textual.widgets import Input, Static

    from media.port import Frame
    from tui.updates import PromptScreen
    from tui.widgets.picture import Picture

    class Call(App[None]):
        CSS = STYLE

        def get_default_screen(self) -> Screen[None]:
            return PromptScreen(id="_default")

        def compose(self) -> ComposeResult:
            yield Picture("no picture", setting=mode)
            yield Static("K0.", id="echo")
            yield Input()

        def on_mount(self) -> None:
            self.keys = 0
            self.begun = (time.monotonic(), time.process_time(), 0)
            self.frames: list[Frame] = []
            self.number = 0
            self.query_one(Input).focus()
            if fps:
                self.set_interval(1 / fps, self.show)

        def on_picture_wanted_changed(self, event: Picture.WantedChanged) -> None:
            size = (event.view.width, event.view.height)
            self.frames = [Frame("", *size, data) for data in pictures(*size)]

        def show(self) -> None:
            if self.frames:
                self.number += 1
                frame = self.frames[self.number % len(self.frames)]
                self.query_one(Picture).show(frame)

        def on_input_changed(self) -> None:
            self.keys += 1
            if self.keys == 1:
                drawn = self.query_one(Picture).drawn
                self.begun = (time.monotonic(), time.process_time(), drawn)
            self.query_one("#echo", Static).update(f"K{self.keys}.", layout=False)

        async def action_quit(self) -> None:
            when, cpu, drawn = self.begun
            said = {
                "seconds": time.monotonic() - when,
                "cpu": time.process_time() - cpu,
                "drawn": self.query_one(Picture).drawn - drawn,
            }
            os.write(report, json.dumps(said).encode() + b"\n")
            self.exit()

    Call().run()


def pictures(width: int, height: int, count: int = 8) -> list[bytes]:
    """RGB of a pattern that moves, each pixel with noise of its own."""
    import numpy as np

    if not width:
        return []
    chance = np.random.default_rng(5)
    y, x = np.mgrid[0:height, 0:width]
    found = []
    for number in range(count):
        shade = 120 + 90 * np.sin((x + 7 * number) / 40 + y / 60)
        noise = chance.normal(0, 6, (height, width, 3))
        rgb = (shade[:, :, None] * (1.0, 0.8, 0.6) + noise).clip(0, 255)
        found.append(rgb.astype(np.uint8).tobytes())
    return found


if __name__ == "__main__":
    main()
