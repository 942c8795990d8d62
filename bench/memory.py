"""Joins a room by Welcome in a process of its own, and prints what memory that took.

Reads from standard input what `Guest.encode` gave; prints two numbers: the resident
bytes before, and the most while joining, the interpreter and the libraries included.
"""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path

from bench.room import Guest


def peak() -> int:
    """Give the most resident bytes of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():  # `getrusage` counts what the parent had, too
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return int(found[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def main() -> None:
    """Join and print."""
    guest = Guest.decode(sys.stdin.buffer.read())
    before = peak()
    group = guest.join()
    print(before, peak(), len(group.members()))


if __name__ == "__main__":
    main()
