"""The watchdog: says what holds up the event loop, while it does.

A thread looks at the loop's thread a few times in each threshold: is it inside a
callback, which one, and how much processor time has it used? One callback that uses
more than the threshold is a *stall*, logged once with the stack it stands at.
Processor time counts and not the clock, so a busy machine or a writer that wants the
interpreter is no stall. A callback that is found standing at one instruction without
working (a file, a name server, a lock) is *blocked*, which has a bound of its own.

Which callback it is: the outermost frame above the loop's own. A coroutine keeps its
frame from step to step, so with the first look at one a beat is queued on the loop;
once that came, whatever runs is a later step.

It looks as often as the loop's thread works (`node.cpu_timer`), so on an idle node
it costs next to nothing. A call into C that keeps the interpreter to itself hides
from it, and is told when it returns, if it took `HIDDEN` times the threshold. Stacks
are files, lines and functions: no values.
"""

import asyncio
import inspect
import logging
import os
import selectors
import sys
import threading
import time
from asyncio import base_events, events
from dataclasses import dataclass
from types import CodeType, FrameType

import msgspec

from node.cpu_timer import CpuTimer

__all__ = ["THRESHOLD", "Stalls", "Watchdog"]

log = logging.getLogger(__name__)

THRESHOLD = 0.02
"""Seconds of processor time of one callback: what a person begins to feel when a few
of them come together."""

BLOCKED = 0.1
"""Seconds at one instruction without work: longer than any wait for the interpreter
while others compute."""

TICK = 0.01
"""Seconds of the loop's work between looks. A stall is seen for certain from the
threshold and one tick on; half of this would cost twice as much, some hundredths of a
processor under full load."""

IDLE = 1.0
"""Seconds between looks at a loop that does not work: it may be blocked."""

CLOSE = 0.02
"""Seconds between looks at a callback that does not work."""

HIDDEN = 5
"""Thresholds that the loop's thread worked while we waited for the interpreter:
with less, other threads may have had it in between, and nothing was held up."""

REFRESH = 32
"""Looks between those at our own waiting for a processor."""

QUIET = 10.0
"""Seconds between two lines in the log; those in between are counted."""

DEPTH = 12
"""Frames of a stack that are told, the innermost first."""

_STEPS = inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
"""Functions whose frames live on from one callback to another."""

_LOOP_CODES = {
    base_events.BaseEventLoop._run_once.__code__,  # type: ignore[attr-defined]
    events.Handle._run.__code__,
    selectors.DefaultSelector.select.__code__,
}
"""Frames of asyncio's own loop between `run_forever` and a callback."""


class Stalls(msgspec.Struct):
    """What was seen since the start."""

    count: int = 0
    """Callbacks that used more than the threshold."""
    longest_ms: float = 0.0
    """Of processor time."""
    blocked: int = 0
    """Callbacks that waited where nothing may wait."""
    last: str = ""
    """Where the last of either stood."""


@dataclass(slots=True)
class _Callback:
    """A callback that is being looked at."""

    frame: FrameType
    """Its outermost; held so that no other takes its place in memory."""
    cpu: float
    """Processor time of the loop's thread when it was seen first."""
    still: tuple[FrameType, int]
    """Its innermost frame and the instruction that this stands at,"""
    still_since: float | None = None
    """since when by the clock, less what the thread worked or waited to run."""
    over: bool = False
    """Whether the loop came round since."""
    stalled: bool = False
    blocked: bool = False

    def beat(self) -> None:
        """Called by the loop."""
        self.over = True


class Watchdog:
    """Watches one event loop; `start` it there and `stop` it at the end."""

    def __init__(self, threshold: float = THRESHOLD) -> None:
        """`threshold` in seconds; 0 watches nothing."""
        self._threshold = threshold
        self._running = self._looking = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._clock = 0
        self._base: CodeType | None = None
        self._delays: list[int] = []
        self._callback: _Callback | None = None
        self._cpu = self._late = 0.0
        self._looks = 0
        self._next_line = 0.0
        self._untold = 0
        self.stalls = Stalls()

    @property
    def running(self) -> bool:
        """Whether it looks."""
        return self._looking

    def start(self) -> None:
        """Watch the running loop, whose thread this is."""
        if not self._threshold or not hasattr(time, "pthread_getcpuclockid"):
            return
        self._running = True
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._clock = time.pthread_getcpuclockid(self._thread)
        self._loop.call_soon(self._begin, threading.get_native_id())

    def stop(self) -> None:
        """Watch no more; the thread ends within one look."""
        self._running = False

    def _begin(self, native: int) -> None:
        """In a callback of the loop: learn which frame is the loop's own."""
        frame = sys._getframe().f_back
        while frame is not None and frame.f_code in _LOOP_CODES:
            frame = frame.f_back
        self._base = frame.f_code if frame is not None else None
        threading.Thread(
            target=self._run, args=(native,), name="telex-watchdog", daemon=True
        ).start()

    def _run(self, native: int) -> None:
        try:
            timer = CpuTimer(self._clock, TICK)
        except OSError as error:
            log.info("the event loop is not watched: %s", error)
            return
        self._delays = [_open_delay(native), _open_delay(threading.get_native_id())]
        self._cpu = time.clock_gettime(self._clock)
        self._late = _read_delay(self._delays[1])
        pause, self._looking = IDLE, True
        try:
            while self._running:
                timer.wait(pause)
                pause = self._look()
        except (RuntimeError, OSError):  # the loop is closed, or its thread is gone
            log.debug("the event loop ended before its watchdog")
        finally:
            self._callback, self._looking = None, False
            timer.close()
            for descriptor in self._delays:
                if descriptor >= 0:
                    os.close(descriptor)

    def _look(self) -> float:
        """Look once; seconds until the next look, if the loop does not work."""
        inner = sys._current_frames().get(self._thread)
        outer = self._outermost(inner)
        known = self._callback
        if known is not None and (known.over or known.frame is not outer):
            known = self._callback = None
        cpu = time.clock_gettime(self._clock)
        used, self._cpu = cpu - self._cpu, cpu
        self._looks += 1
        if self._looks % REFRESH == 0:
            self._late = _read_delay(self._delays[1])
        if outer is None or inner is None:
            return IDLE
        still = (inner, inner.f_lasti)
        if known is None:
            self._callback = self._begin_callback(outer, still, cpu, used)
        elif known.still != still:
            known.still, known.still_since = still, None
            self._judge(known, cpu - known.cpu, 0.0)
        else:
            # A clock that stands while the thread works or waits for a processor.
            rest = time.monotonic() - cpu - _read_delay(self._delays[0])
            if known.still_since is None:
                known.still_since = rest
            self._judge(known, cpu - known.cpu, rest - known.still_since)
        return CLOSE

    def _begin_callback(
        self, outer: FrameType, still: tuple[FrameType, int], cpu: float, used: float
    ) -> _Callback:
        known = _Callback(outer, cpu, still)
        if outer.f_code.co_flags & _STEPS:
            assert self._loop is not None
            self._loop.call_soon_threadsafe(known.beat)
        if used > HIDDEN * self._threshold:
            # We wanted to look and could not: C code had the interpreter, unless we
            # had no processor ourselves.
            used -= _read_delay(self._delays[1]) - self._late
            if used > HIDDEN * self._threshold:
                known.cpu -= used
                self._judge(known, used, 0.0)
        return known

    def _judge(self, known: _Callback, spent: float, idle: float) -> None:
        if spent > self._threshold:
            self.stalls.longest_ms = max(self.stalls.longest_ms, round(spent * 1000, 1))
            if not known.stalled:
                known.stalled = True
                self.stalls.count += 1
                self._tell(known, f"has worked for {spent * 1000:.0f} ms")
        if idle > BLOCKED and not known.blocked:
            known.blocked = True
            self.stalls.blocked += 1
            self._tell(known, f"has waited for {idle * 1000:.0f} ms")

    def _tell(self, known: _Callback, what: str) -> None:
        self.stalls.last = _stack(known.still[0], self._base)
        now = time.monotonic()
        if now < self._next_line:
            self._untold += 1
            return
        more = f" ({self._untold} more since the last line)" if self._untold else ""
        self._next_line, self._untold = now + QUIET, 0
        log.warning(
            "the event loop is held up%s: a callback %s at %s",
            more,
            what,
            self.stalls.last,
        )

    def _outermost(self, frame: FrameType | None) -> FrameType | None:
        """The outermost frame of the callback that runs; None: the loop waits."""
        found = None
        while frame is not None and frame.f_code is not self._base:
            if frame.f_code not in _LOOP_CODES:
                found = frame
            frame = frame.f_back
        return found if frame is not None else None


def _stack(frame: FrameType | None, base: CodeType | None) -> str:
    """Function and place of each frame, the innermost first."""
    places: list[str] = []
    while frame is not None and frame.f_code is not base and len(places) < DEPTH:
        code = frame.f_code
        if code not in _LOOP_CODES:
            file = "/".join(code.co_filename.split("/")[-3:])
            places.append(f"{code.co_qualname} ({file}:{frame.f_lineno})")
        frame = frame.f_back
    return " < ".join(places)


def _open_delay(native: int) -> int:
    """The kernel's account of a thread's time; -1 where there is none."""
    try:
        return os.open(f"/proc/self/task/{native}/schedstat", os.O_RDONLY)
    except OSError:
        return -1


def _read_delay(descriptor: int) -> float:
    """Seconds that a thread was ready to run and had no processor."""
    if descriptor < 0:
        return 0.0
    try:
        return int(os.pread(descriptor, 64, 0).split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0
