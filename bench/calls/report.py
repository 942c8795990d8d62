"""What parts report: figures, what they are doing, and why they cannot be measured."""

import importlib.util
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from statistics import median

__all__ = [
    "Result",
    "Skip",
    "middle",
    "need_library",
    "need_linux",
    "need_programs",
    "progress",
    "result",
    "share",
]

Result = dict[str, object]
"""`name`, `value` and `unit`."""

PACKAGES = {"pactl": "pulseaudio-utils", "paplay": "pulseaudio-utils"}


class Skip(Exception):
    """This part cannot be measured here; the text says why."""


def result(name: str, value: float, unit: str) -> Result:
    """One entry of the array, with four digits that count."""
    return {"name": name, "value": float(f"{value:.4g}"), "unit": unit}


def middle(name: str, values: Iterable[float], unit: str) -> Result:
    """The median of what several calls gave."""
    found = sorted(values)
    if not found:
        raise RuntimeError(f"{name}: no call gave a figure")
    progress(f"{name}: {', '.join(f'{value:.4g}' for value in found)} {unit}")
    return result(name, median(found), unit)


def share(values: list[float], part: float) -> float:
    """The value below which this part (0 to 1) of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def progress(text: str) -> None:
    """To stderr: stdout is for the array alone."""
    print(text, file=sys.stderr, flush=True)


def need_programs(*names: str) -> None:
    """Skip where a program is missing."""
    for name in names:
        if shutil.which(name) is None:
            raise Skip(f"{name} is not there: apt install {PACKAGES.get(name, name)}")


def need_library(module: str, how: str) -> None:
    """Skip where a Python library is missing."""
    if importlib.util.find_spec(module) is None:
        raise Skip(f"the library {module!r} is not there: {how}")


def need_linux() -> None:
    """Skip where processes cannot be looked at by their id."""
    if not Path("/proc/self/stat").exists():
        raise Skip("CPU and memory of processes are read from /proc")
