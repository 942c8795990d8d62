"""A timer that ticks as a thread uses the processor, and never while it waits.

POSIX timers can run on a thread's own clock and, on Linux, send their signal to one
thread (timer_create(2), SIGEV_THREAD_ID). The thread that watches waits for that
signal, so watching somebody who is idle costs nothing.
"""

import ctypes
import signal
import threading

__all__ = ["CpuTimer"]

_SIGEV_THREAD_ID = 4
_SIGEVENT_BYTES = 64


class _Sigevent(ctypes.Structure):
    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("thread", ctypes.c_int),
        (
            "rest",
            ctypes.c_byte * (_SIGEVENT_BYTES - 12 - ctypes.sizeof(ctypes.c_void_p)),
        ),
    )


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class CpuTimer:
    """Ticks for the thread that makes it; no other may wait for it or close it."""

    def __init__(self, clock: int, interval: float) -> None:
        """Start ticking.

        Args:
            clock: of the thread to follow (`time.pthread_getcpuclockid`).
            interval: seconds of its processor time, less than one.

        Raises:
            OSError: this system has no such timers.
        """
        self._signal = signal.SIGRTMIN
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._timer = ctypes.c_void_p()
        # The signal is this thread's alone, and here it only ends a wait.
        signal.pthread_sigmask(signal.SIG_BLOCK, {self._signal})
        event = _Sigevent(
            None, self._signal, _SIGEV_THREAD_ID, threading.get_native_id()
        )
        self._check(
            "timer_create",
            ctypes.c_int(clock),
            ctypes.byref(event),
            ctypes.byref(self._timer),
        )
        step = _Timespec(0, int(interval * 1e9))
        self._check(
            "timer_settime",
            self._timer,
            ctypes.c_int(0),
            ctypes.byref(_Itimerspec(step, step)),
            None,
        )

    def wait(self, timeout: float) -> None:
        """Wait for the next tick, or until `timeout` seconds of the clock passed."""
        signal.sigtimedwait({self._signal}, timeout)

    def close(self) -> None:
        """Tick no more."""
        self._libc.timer_delete(self._timer)

    def _check(self, name: str, *arguments: object) -> None:
        function = getattr(self._libc, name, None)
        if function is None:
            raise OSError(f"there is no {name} here")
        if function(*arguments) != 0:
            raise OSError(ctypes.get_errno(), f"{name} failed")
