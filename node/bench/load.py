"""The load process: `python -m node.bench.load`, a job in, figures out, both JSON.

A process of its own, so that what it costs is not counted as the node's.
"""

import asyncio
import gc
import resource
import sys
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from node.bench.meter import Figure
from node.bench.pace import federation, paced
from node.bench.plan import Job
from node.bench.rest import history, idle, resume
from node.bench.talk import dm, fanout
from protocol.errors import TelexError

__all__ = ["Outcome", "main", "run_job"]


class Outcome(msgspec.Struct):
    """What became of a job: figures, or why there are none."""

    figures: list[Figure] = []
    problem: str = ""


WORK: dict[str, Callable[[Job], Coroutine[Any, Any, list[Figure]]]] = {
    "dm": dm,
    "fanout": fanout,
    "paced": paced,
    "idle": idle,
    "idle_tls": idle,
    "resume": resume,
    "history": history,
    "federation": federation,
}
"""By workload; `idle_tls` is `idle` at another place."""


def main() -> None:
    """Do the job that stands on standard input."""
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    outcome = run_job(lambda: WORK[job.workload](job))
    sys.stdout.buffer.write(msgspec.json.encode(outcome))


def run_job(work: Callable[[], Coroutine[Any, Any, list[Figure]]]) -> Outcome:
    """Run some work on the fastest loop there is; says what became of it."""
    _raise_files()
    # Whatever holds this process up would be counted as the node's.
    gc.disable()
    sys.setswitchinterval(0.0005)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.get_loop().set_exception_handler(_note)
            return Outcome(runner.run(work()))
    except (TelexError, OSError, ExceptionGroup) as error:
        cause: BaseException = error
        while isinstance(cause, BaseExceptionGroup):  # of connections made at once
            cause = cause.exceptions[0]
        if isinstance(cause, TelexError):
            return Outcome(problem=str(cause))
        return Outcome(problem=f"The load process failed: {cause}.")


def _note(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Show what failed in a callback; connections that end are told elsewhere."""
    error = context.get("exception")
    if error is not None and not isinstance(error, TelexError | ConnectionError):
        traceback.print_exception(error)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # slower, but the same
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _raise_files() -> None:
    """As many open files as this process may have: each connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    main()
