"""Meters: CPU and memory of processes from /proc, and counts over a window of time."""

import asyncio
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from node.bench.plan import BenchProblem

__all__ = [
    "Figure",
    "Window",
    "cpu_seconds",
    "per_cpu",
    "quantile",
    "resident",
    "watch",
]

_TICKS = os.sysconf("SC_CLK_TCK")


class Figure(msgspec.Struct, frozen=True):
    """One thing that was measured."""

    name: str
    value: float
    unit: str
    cores: float
    """Cores that the node kept busy: its CPU seconds by the clock's."""
    server_cpu_seconds: float
    """Of all threads of all nodes, in the time that was measured."""
    load_cores: float = 0.0
    """The same of the load process: near 1, it was the limit and not the node."""


@dataclass(frozen=True, slots=True)
class Window:
    """What happened between two moments."""

    count: int
    seconds: float
    cpu: float
    load_cpu: float

    @property
    def rate(self) -> float:
        """Counted things a second."""
        return self.count / self.seconds

    def figure(self, name: str, value: float, unit: str) -> Figure:
        """A figure of this time."""
        return Figure(
            name,
            float(f"{value:.5g}"),
            unit,
            round(self.cpu / self.seconds, 2),
            round(self.cpu, 2),
            round(self.load_cpu / self.seconds, 2),
        )


def per_cpu(window: Window, name: str) -> list[Figure]:
    """A rate, and the same for each CPU second of the node."""
    busy = window.count / window.cpu if window.cpu else 0.0
    return [
        window.figure(name, window.rate, "1/s"),
        window.figure(f"{name}_per_cpu_second", busy, "1/CPU s"),
    ]


async def watch(
    pids: Sequence[int],
    seconds: float,
    count: Callable[[], int],
    failed: "asyncio.Future[str]",
    *,
    warm: float | None = None,
) -> Window:
    """Let things run for a while and count.

    Args:
        pids: the nodes' processes.
        seconds: how long.
        count: what was done so far.
        failed: set when nothing more can be expected.
        warm: seconds that go by before; a tenth of `seconds` if not given.

    Raises:
        BenchProblem: `failed` was set; says with what.
    """
    await _wait(seconds / 10 if warm is None else warm, failed)
    meter = Meter(pids, count)
    await _wait(seconds, failed)
    return meter.read()


class Meter:
    """Reads what was used and done since it was made."""

    def __init__(self, pids: Sequence[int], count: Callable[[], int]) -> None:
        self._pids = pids
        self._count = count
        self._start = self._now()

    def read(self) -> Window:
        """The time since this meter was made."""
        now, start = self._now(), self._start
        return Window(
            int(now[0] - start[0]),
            now[1] - start[1],
            now[2] - start[2],
            now[3] - start[3],
        )

    def _now(self) -> tuple[float, float, float, float]:
        return (
            self._count(),
            time.perf_counter(),
            sum(map(cpu_seconds, self._pids)),
            time.process_time(),
        )


async def _wait(seconds: float, failed: "asyncio.Future[str]") -> None:
    done, _ = await asyncio.wait([failed], timeout=seconds)
    if done:
        raise BenchProblem(f"The work broke off: {failed.result()}")


def cpu_seconds(pid: int) -> float:
    """CPU seconds of all threads of a process so far (proc(5): utime, stime)."""
    text = _proc(pid, "stat")
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident(pid: int) -> int:
    """Resident bytes of a process."""
    found = re.search(r"VmRSS:\s+(\d+) kB", _proc(pid, "status"))
    if found is None:
        raise BenchProblem("The scratch node has ended.")
    return int(found[1]) * 1024


def _proc(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError as error:
        raise BenchProblem("The scratch node has ended.") from error


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which a share of sorted values lies (nearest rank)."""
    if not values:
        raise BenchProblem("Nothing was delivered in the time that was measured.")
    return values[min(len(values) - 1, int(share * len(values)))]
