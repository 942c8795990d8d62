"""Stops what a demo started when the demo itself is gone: even after SIGKILL.

It runs as a small process of its own with a pipe from the demo as its standard
input. The demo writes the process groups that it starts, one a line, and `done`
after it cleaned up by itself. If the pipe closes without that, the demo died: the
groups are stopped and its folder is removed.

    python demo_warden.py FOLDER

Only groups that lead a session of their own are touched, which is how the demo
starts them: an id that was given to another program in the meantime is not.
"""

import contextlib
import os
import shutil
import signal
import sys
import time

GRACE_SECONDS = 5.0
"""Between asking and killing: a node writes its last batch in well under one."""


def main(folder: str) -> None:
    """Wait for the end of the demo, then see that nothing is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups = []
    for line in sys.stdin:
        word = line.strip()
        if word == "done":
            return
        if word.isdigit():
            groups.append(int(word))
    stop(groups)
    shutil.rmtree(folder, ignore_errors=True)


def stop(groups: list[int]) -> None:
    """Ask each group to end, and kill what does not."""
    for group in groups:
        _send(group, signal.SIGTERM)
    end = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < end and any(_alive(group) for group in groups):
        time.sleep(0.05)
    for group in groups:
        _send(group, signal.SIGKILL)


def _alive(group: int) -> bool:
    # 0 would mean this process's own group; getsid(0) is 0 as well where the
    # leader of the session lives outside of a container's process namespace.
    if group <= 0:
        return False
    try:
        return os.getsid(group) == group
    except OSError:
        return False


def _send(group: int, number: signal.Signals) -> None:
    if _alive(group):
        with contextlib.suppress(OSError):
            os.killpg(group, number)


if __name__ == "__main__":
    main(sys.argv[1])
