"""A program in a terminal of its own: type into it, read its screen.

The program runs on a pseudo-terminal; pyte interprets what it draws, so a test
sees the cells that a person would see.
"""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

import pyte

KEYS = {
    "enter": b"\r",
    "escape": b"\x1b",
    "tab": b"\t",
    "up": b"\x1b[A",
    "down": b"\x1b[B",
    "f1": b"\x1bOP",
    "ctrl+q": b"\x11",
    "ctrl+c": b"\x03",
    "ctrl+g": b"\x07",
    "ctrl+n": b"\x0e",
    "f3": b"\x1bOR",
    "alt+1": b"\x1b1",
    "alt+2": b"\x1b2",
    "f6": b"\x1b[17~",
    "ctrl+p": b"\x10",
    "ctrl+o": b"\x0f",
    "f7": b"\x1b[18~",
}


class ScreenTimeout(AssertionError):
    """What was waited for did not appear; the message shows the screen."""


class Terminal:
    """A process on a pseudo-terminal of `columns` x `rows` cells."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        columns: int = 100,
        rows: int = 30,
    ) -> None:
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        self._tail = b""
        self._master, slave = pty.openpty()
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, size)
        # A size in the environment (test runners set one) would beat the real one.
        around = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
        merged = {**around, "TERM": "xterm-256color", **(env or {})}
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=merged,
            start_new_session=True,
            # A terminal's own: it is ignored where the tests run under nohup.
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
        )
        os.close(slave)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:
                return
            if not data:
                return
            self._take(data)

    def _take(self, data: bytes) -> None:
        """The program wrote; called by the thread that reads."""
        with self._lock:
            self._tail = (self._tail + data)[-2000:]
            self._stream.feed(data)

    @property
    def lines(self) -> list[str]:
        """The screen's rows; a blank that does not break looks like any other."""
        with self._lock:
            rows = [line.replace("\xa0", " ") for line in self._screen.display]
        return [row.rstrip() for row in rows]

    @property
    def cells(self) -> list[list[pyte.screens.Char]]:
        """The screen's cells with their colours, row by row."""
        with self._lock:
            rows = self._screen.buffer
            return [
                [rows[y][x] for x in range(self._screen.columns)]
                for y in range(self._screen.lines)
            ]

    @property
    def text(self) -> str:
        """The screen as one text."""
        return "\n".join(self.lines)

    def write(self, text: str) -> None:
        """Type these characters."""
        os.write(self._master, text.encode())

    def resize(self, columns: int, rows: int) -> None:
        """Give the window another size."""
        with self._lock:
            self._screen.resize(rows, columns)
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)
        # It is not the terminal that controls the program: nobody else says it.
        self.process.send_signal(signal.SIGWINCH)

    def press(self, *keys: str) -> None:
        """Press keys by name (`enter`, `ctrl+q`) with a breath between them."""
        for key in keys:
            os.write(self._master, KEYS[key])
            time.sleep(0.05)

    def wait(
        self, what: str | Callable[[str], bool], timeout: float = 20.0
    ) -> "Terminal":
        """Wait until a text stands on the screen, or a predicate holds for it.

        Raises:
            ScreenTimeout: it did not happen in `timeout` seconds.
        """
        holds = what if callable(what) else (lambda text: str(what) in text)
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if holds(self.text):
                return self
            if self.process.poll() is not None:
                time.sleep(0.2)
                if holds(self.text):
                    return self
                break
            time.sleep(0.05)
        raise ScreenTimeout(
            f"waited {timeout} s for {what!r}; "
            f"exit status {self.process.poll()}; the screen:\n{self.text}\n"
            f"the last bytes were {self._tail!r}"
        )

    def ended(self, timeout: float = 30.0) -> int:
        """Wait for the process to end by itself, and give its exit status."""
        status = self.process.wait(timeout)
        self._reader.join(2)
        return status

    def hang_up(self) -> int:
        """The window is closed: SIGHUP; the exit status."""
        self.process.send_signal(signal.SIGHUP)
        return self.process.wait(10)

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        self.process.kill()
        self.process.wait(10)

    def close(self) -> None:
        """End the process and whatever it started."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(10)
        os.close(self._master)
        self._reader.join(2)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
