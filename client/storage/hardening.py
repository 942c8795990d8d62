"""Keeps keys out of core dumps, and other processes out of this one's memory.

Cheap, and tolerant of systems that do not have it: it is a help, never a promise. It
does not keep keys out of swap (use an encrypted one), nor root out of anything.
"""

import contextlib
import ctypes
import sys

__all__ = ["harden"]

PR_SET_DUMPABLE = 4
"""prctl(2): without it no core dump, and no ptrace by others of the same user."""


def harden() -> None:
    """Turn core dumps of this process off; on Linux make it undumpable too."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
