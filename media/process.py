"""One media process, from its start to its end, as the engine sees it.

It is a new interpreter in a session of its own (Ctrl+C in the terminal is not for it)
and without the terminal: what it or its libraries print goes to our log. It ends by
itself when the socket to us does. What it is asked travels over that socket alone: its
arguments and environment hold nothing secret.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import IO, Any

import media
from media import ipc
from media.port import Devices, Event, Frame, MediaError

__all__ = ["Child"]

log = logging.getLogger(__name__)

BEAT = 1.0
"""Seconds between two questions whether the process lives."""

MISSED = 5
"""Questions without any word of it after which it hangs, and is killed. Counted, not
timed: when it was us who slept, nothing was missed."""

STARTING = 10
"""Beats more for a process that starts: on a cold disk that takes seconds."""

ANSWER = 20.0
"""Seconds for an answer: loading from a cold disk is the longest."""

STOPPING = 2.0
"""Seconds for a process to end that was told to."""

LINES = 500
"""Lines that one process may write to our log, of `LINE` characters."""

LINE = 500

ENVIRONMENT = (
    "ALSA_CONFIG_PATH",
    "DBUS_SESSION_BUS_ADDRESS",
    "DISPLAY",
    "HOME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "LD_LIBRARY_PATH",
    "LOGNAME",
    "PATH",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "SYSTEMROOT",
    "TELEX_AUDIO",
    "TELEX_DEBUG",
    "TMPDIR",
    "USER",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "XDG_CONFIG_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_SESSION_TYPE",
)
"""What the process may know of our environment: how to find sound and screen."""

ENVIRONMENT_PREFIXES = ("PULSE_", "PIPEWIRE_", "JACK_")


class Child:
    """One process, from its start to its end."""

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        hear: Callable[[Event], None],
        exited: Callable[["Child", str], None],
        beat: Callable[["Child"], None],
    ) -> None:
        self.process = process
        self._hear = hear
        self._exited = exited
        self._beat = beat
        self._pipe = ipc.Pipe(ipc.from_child, self._heard, self._lost)
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[str | Devices | None]] = {}
        self._unanswered = -STARTING
        self._stopping = False
        self._hung = False
        self._ended = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def start(
        cls,
        hear: Callable[[Event], None],
        exited: Callable[["Child", str], None],
        beat: Callable[["Child"], None],
    ) -> "Child":
        """Start a process; MediaError if the system does not let us."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = _spawn(theirs.fileno())
            self = cls(process, hear, exited, beat)
            loop = asyncio.get_running_loop()
            await loop.create_unix_connection(lambda: self._pipe, sock=ours)
        except OSError as error:
            ours.close()
            raise MediaError(
                "process_lost",
                f"Sound and picture could not be started ({error.strerror}):"
                " close other programs, then call again.",
            ) from error
        self._run(self._watch())
        return self

    @property
    def busy(self) -> bool:
        """Whether somebody waits for an answer."""
        return bool(self._asked)

    async def ask(self, command: ipc.Command) -> str | Devices | None:
        """Its answer; MediaError if it has none."""
        if self._ended.is_set():
            raise _gone()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[str | Devices | None] = loop.create_future()
        number = self.tell(command)
        self._asked[number] = answer
        try:
            async with asyncio.timeout(ANSWER):
                return await answer
        except TimeoutError:
            raise MediaError(
                "internal",
                "Sound and picture do not answer: end the call, then call again.",
            ) from None
        finally:
            self._asked.pop(number, None)

    def tell(self, command: ipc.Command) -> int:
        """Ask without waiting."""
        number = next(self._numbers)
        self._pipe.send(ipc.Request(number, command))
        return number

    async def stop(self) -> None:
        """End it: by its own will, or by ours after `STOPPING` seconds."""
        self._stopping = True
        self.tell(ipc.Stop())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOPPING):
                await self._ended.wait()
        self._pipe.abort()
        await self._reap()

    def _heard(self, message: ipc.FromChild) -> None:
        self._unanswered = 0
        match message:
            case ipc.Done(number, value):
                answer = self._asked.pop(number, None)
                if answer is not None and not answer.done():
                    answer.set_result(value)
            case ipc.Failed(number, code, text):
                answer = self._asked.pop(number, None)
                if answer is not None and not answer.done():
                    answer.set_exception(MediaError(code, text))
            case _:
                if not self._stopping:
                    self._hear(message)
                if isinstance(message, Frame):
                    self._pipe.send(ipc.Seen(message.leg))

    def _lost(self) -> None:
        """The socket ended, and so did the process, or it will."""
        self._ended.set()
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(_gone())
        self._asked.clear()
        if not self._stopping:
            self._run(self._reap())
            reason = "did not answer any more" if self._hung else "ended unexpectedly"
            self._exited(
                self,
                f"Sound and picture stopped: their process {reason}."
                " Call again to start it anew; the log says more.",
            )

    async def _watch(self) -> None:
        while not self._ended.is_set():
            await asyncio.sleep(BEAT)
            if self._unanswered >= MISSED:
                log.error("the media process hangs; it is killed")
                self._hung = True
                self.process.kill()
                self._pipe.abort()
                return
            self._unanswered += 1
            self.tell(ipc.Ping())
            self._beat(self)

    async def _reap(self) -> None:
        """See the process end, by force if need be."""
        try:
            code = await asyncio.to_thread(self.process.wait, STOPPING)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = await asyncio.to_thread(self.process.wait)
        if code and not self._stopping:
            log.error("the media process ended with %s", _name(code))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _gone() -> MediaError:
    return MediaError(
        "process_lost",
        "Sound and picture stopped: their process ended. Call again to start it anew.",
    )


def _name(code: int) -> str:
    """What an exit code says."""
    if code >= 0:
        return f"code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _environment() -> dict[str, str]:
    env = {
        name: value
        for name, value in os.environ.items()
        if name in ENVIRONMENT or name.startswith(ENVIRONMENT_PREFIXES)
    }
    env["PYTHONPATH"] = str(Path(media.__file__).parent.parent)
    return env


def _spawn(fd: int) -> "subprocess.Popen[bytes]":
    # -P: no module is taken from the folder that we happen to be in.
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "media.child", str(fd)],
        pass_fds=[fd],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=_environment(),
        start_new_session=True,
    )
    assert process.stdout is not None
    threading.Thread(
        target=_log_lines,
        args=(process.stdout,),
        name="log of the media process",
        daemon=True,
    ).start()
    return process


def _log_lines(lines: IO[bytes]) -> None:
    """What a process prints, to our log; read to its end, so that it never waits."""
    with lines:
        count = 0
        while line := lines.readline(LINE):
            count += 1
            if count <= LINES:
                log.warning("%s", line.decode(errors="replace").rstrip())
