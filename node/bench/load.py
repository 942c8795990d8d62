"""The load process: `python -m node.bench.load`, a job in, figures out, both JSON.

A process of its own, so that what it costs is not counted as the node's.
"""

import asyncio
import resource
import sys
from collections.abc import Awaitable, Callable

import msgspec

from node.bench.meter import Figure
from node.bench.pace import federation, paced
from node.bench.plan import Job
from node.bench.rest import history, idle, resume
from node.bench.talk import dm, fanout
from protocol.errors import TelexError

__all__ = ["Outcome", "main"]


class Outcome(msgspec.Struct):
    """What became of a job: figures, or why there are none."""

    figures: list[Figure] = []
    problem: str = ""


WORK: dict[str, Callable[[Job], Awaitable[list[Figure]]]] = {
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
    _raise_files()
    try:
        outcome = Outcome(_run(job))
    except TelexError as error:
        outcome = Outcome(problem=str(error))
    except (OSError, asyncio.InvalidStateError) as error:
        outcome = Outcome(problem=f"The load process failed: {error}.")
    sys.stdout.buffer.write(msgspec.json.encode(outcome))


def _run(job: Job) -> list[Figure]:
    factory: Callable[[], asyncio.AbstractEventLoop] | None
    try:
        import uvloop

        factory = uvloop.new_event_loop
    except ImportError:  # slower, but the same
        factory = None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.get_loop().set_exception_handler(lambda _loop, _context: None)
        return runner.run(_work(job))


async def _work(job: Job) -> list[Figure]:
    return await WORK[job.workload](job)


def _raise_files() -> None:
    """As many open files as this process may have: each connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    main()
