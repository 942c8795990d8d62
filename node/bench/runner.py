"""Runs workloads one after the other: scratch nodes, what is in them, the load."""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from node.bench.load import Outcome
from node.bench.meter import Figure
from node.bench.plan import BenchProblem, Job, Options, RoomPlan, rooms_of
from node.bench.rest import WARM
from node.bench.scratch import (
    Scratch,
    end,
    make_certificate,
    make_scratch,
    pin,
    undisturbed,
)
from node.bench.seed import Seeder
from node.descriptors import sessions_of

__all__ = ["WORKLOADS", "cores", "load_process", "raise_files", "run"]

WORKLOADS = ("dm", "fanout", "paced", "idle", "resume", "history", "federation")

_PARTS: dict[str, tuple[str, ...]] = {"idle": ("idle", "idle_tls")}
"""A workload that is measured in more than one way."""

_TLS = ("idle_tls", "federation")
"""Those that run on nodes with TLS; federation on two."""


def run(
    names: Sequence[str],
    options: Options,
    directory: Path | None,
    say: Callable[[str], None],
) -> Generator[tuple[str, list[Figure] | BenchProblem], None, None]:
    """Measure, and give back each workload's figures, or why it has none.

    Args:
        names: of `WORKLOADS`, in the order in which to run them.
        options: how large and how long.
        directory: where the scratch nodes' files go; None: /var/tmp, which is a
            disk where /tmp may be memory.
        say: told what happens now.

    Raises:
        BenchProblem: nothing can be measured here.
    """
    if not Path("/proc/self/stat").exists():
        raise BenchProblem("telex-node bench reads /proc, which only Linux has.")
    raise_files()
    parts = []
    for part in [part for name in names for part in _PARTS.get(name, (name,))]:
        try:
            _check_files(part, options)
        except BenchProblem as problem:
            yield part, problem
        else:
            parts.append(part)
    with _directory(directory) as home, _nodes(home, parts, options, say) as nodes:
        for part in parts:
            say(f"{part} ...")
            try:
                yield part, _measure(part, _chosen(part, nodes), options)
            except BenchProblem as problem:
                yield part, problem


@contextmanager
def _directory(parent: Path | None) -> Iterator[Path]:
    if parent is None and os.access("/var/tmp", os.W_OK):
        parent = Path("/var/tmp")
    try:
        home = Path(tempfile.mkdtemp(prefix="telex-bench-", dir=parent))
    except OSError as error:
        raise BenchProblem(
            f"Nothing can be written in {parent}: {error.strerror}; choose another "
            "place with --directory."
        ) from error
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def _nodes(
    home: Path, parts: Sequence[str], options: Options, say: Callable[[str], None]
) -> Iterator[list[Scratch]]:
    """The nodes that the parts need, seeded: a plain one, then those with TLS."""
    nodes = [make_scratch(home)]
    if any(part in _TLS for part in parts):
        tls = make_certificate(home / "tls")
        nodes += [make_scratch(home, tls=tls) for _ in range(2)]
    plans: dict[str, dict[str, RoomPlan]] = {node.name: {} for node in nodes}
    for part in (*parts, "before"):
        names = [node.name for node in _chosen(part, nodes)]
        for plan in rooms_of(part, names, options):
            for name in names:
                plans[name][plan.id] = plan
    for node in nodes:
        rooms = plans[node.name]
        if rooms:
            entries = sum(plan.head for plan in rooms.values())
            say(f"filling {node.name}: {len(rooms):,} rooms, {entries:,} entries ...")
            with Seeder(node.settings.database, node.name) as seeder:
                seeder.rooms(rooms.values())
    try:
        yield nodes
    finally:
        for node in nodes:
            node.stop()


def _chosen(part: str, nodes: list[Scratch]) -> list[Scratch]:
    if part == "federation":
        return nodes[1:]
    return [nodes[1 if part in _TLS else 0]]


def _measure(part: str, nodes: list[Scratch], options: Options) -> list[Figure]:
    """One workload on nodes that were just started, so none inherits another's heap.

    Raises:
        BenchProblem: why it has no figures.
    """
    first, second = cores()
    try:
        for node in nodes:
            node.start(first)
        job = Job(part, [node.place for node in nodes], options)
        return load_process("node.bench.load", msgspec.json.encode(job), second)
    finally:
        for node in nodes:
            node.stop()


def load_process(module: str, job: bytes, core: int | None) -> list[Figure]:
    """Do a job in a process of its own, on a core.

    Args:
        module: what it runs.
        job: its standard input.
        core: None: any.

    Raises:
        BenchProblem: why there are no figures.
    """
    process = None
    try:
        with undisturbed():
            process = subprocess.Popen(
                [sys.executable, "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
        pin(process.pid, core)
        answer, _ = process.communicate(job)
    finally:
        end(process, 0.5)
    if process.returncode != 0:
        raise BenchProblem(f"The load process ended with {process.returncode}.")
    outcome = msgspec.json.decode(answer, type=Outcome)
    if outcome.problem:
        raise BenchProblem(outcome.problem)
    return outcome.figures


def cores() -> tuple[int | None, int | None]:
    """A core for the nodes, and one for the load; None: any."""
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    cores = sorted(os.sched_getaffinity(0))
    return (cores[0], cores[1]) if len(cores) > 1 else (None, None)


def _check_files(part: str, options: Options) -> None:
    """Refuse more connections than a process may have files.

    Raises:
        BenchProblem: says how many it may have.
    """
    wanted = {"idle": options.connections, "idle_tls": options.tls_connections}
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if wanted.get(part, 0) + WARM > sessions_of(most):
        raise BenchProblem(
            f"{wanted[part]} connections need more than the {most} open files that a "
            "process may have; raise `ulimit -n`, or ask for fewer."
        )


def raise_files() -> None:
    """The nodes inherit how many files they may have open."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
