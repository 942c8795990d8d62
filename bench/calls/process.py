"""What a process used, by its id, from outside (proc(5))."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Use", "children", "cpu_seconds", "environment", "resident"]

TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Of all its threads, also those that ended, in user and system mode."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def resident(pid: int) -> float:
    """Megabytes (10^6) of resident memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"process {pid} has ended")


def children(pid: int) -> list[int]:
    """The processes that it started and that still run."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found


class Use:
    """The cores that a process used since this was made: CPU seconds a second."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._cpu, self._began = cpu_seconds(pid), time.monotonic()

    def cores(self) -> float:
        seconds = time.monotonic() - self._began
        return (cpu_seconds(self._pid) - self._cpu) / seconds


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Have what is started meanwhile see these variables."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
