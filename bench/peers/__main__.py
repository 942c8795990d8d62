"""Runs the work against each server and prints the figures side by side.

python -m bench.peers [--seconds N] [--json] [prosody] [ejabberd] [telex]
"""

import argparse
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from bench.peers.load import WORK, PeerJob
from bench.peers.server import SERVERS, Server, install
from node.bench.command import as_json
from node.bench.meter import Figure
from node.bench.plan import BenchProblem, Options
from node.bench.runner import WORKLOADS, cores, load_process, raise_files, run

__all__ = ["main"]

TELEX = "telex"
NAMES = (*SERVERS, TELEX)
ROW = "{:28} {:10} {:>14} {:>14} {:>14}"


def main() -> None:
    """Read the arguments, run, print."""
    parser = argparse.ArgumentParser(prog="bench.peers", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(NAMES)}; all if none")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument(
        "--rate",
        type=float,
        default=100.0,
        help="of paced, messages a second: what the slowest of them carries",
    )
    parser.add_argument(
        "--work", nargs="+", choices=tuple(WORK), default=tuple(WORK), help="what to do"
    )
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    if wrong := [name for name in chosen.names if name not in NAMES]:
        parser.error(f"{wrong[0]!a} is not one of {', '.join(NAMES)}.")
    options = Options(
        seconds=chosen.seconds, connections=chosen.connections, rate=chosen.rate
    )
    found: dict[str, dict[str, Figure]] = {}
    failed = False
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        names = tuple(chosen.names) or NAMES
        if any(name in SERVERS for name in names):
            install()
        for name, figures, problem in measure(names, chosen.work, options):
            found.setdefault(name, {}).update({each.name: each for each in figures})
            if problem:
                print(f"bench.peers: {name}: {problem}", file=sys.stderr)
                failed = True
    except BenchProblem as problem:
        print(f"bench.peers: {problem}", file=sys.stderr)
        failed = True
    except KeyboardInterrupt:
        print("bench.peers: stopped.", file=sys.stderr)
        failed = True
    print(as_json(named(found)) if chosen.json else "\n".join(table(found)))
    sys.exit(1 if failed else 0)


def measure(
    names: Iterable[str], work: Sequence[str], options: Options
) -> Iterator[tuple[str, list[Figure], str]]:
    """Each server's workloads: its name, their figures, what went wrong."""
    raise_files()
    for name in names:
        if name in SERVERS:
            yield from _measure_server(SERVERS[name], work, options)
            continue
        parts = [part for part in work if part in WORKLOADS]
        for part, outcome in run(parts, options, None, _say):
            if isinstance(outcome, BenchProblem):
                yield name, [], f"{part}: {outcome}"
            else:
                yield name, outcome, ""


def _measure_server(
    server: Server, work: Sequence[str], options: Options
) -> Iterator[tuple[str, list[Figure], str]]:
    first, second = cores()
    for workload in work:
        _say(f"{server.name}: {workload} ...")
        with tempfile.TemporaryDirectory(
            prefix="telex-bench-", dir="/var/tmp", ignore_cleanup_errors=True
        ) as directory:
            try:
                server.start(Path(directory) / server.name, first)
                job = PeerJob(
                    workload, server.port, server.pid, server.registers, options
                )
                encoded = msgspec.json.encode(job)
                yield server.name, load_process("bench.peers.load", encoded, second), ""
            except BenchProblem as problem:
                yield server.name, [], f"{workload}: {problem}"
            finally:
                server.stop()


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def table(found: dict[str, dict[str, Figure]]) -> list[str]:
    """The figures for people: a row for each thing, a column for each server."""
    lines = [ROW.format("what", "unit", *NAMES)]
    units = {name: each.unit for of in found.values() for name, each in of.items()}
    for name, unit in units.items():
        cells = []
        for server in NAMES:
            each = found.get(server, {}).get(name)
            cells.append("-" if each is None else _short(each.value))
        lines.append(ROW.format(name, unit, *cells))
    return lines


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def named(found: dict[str, dict[str, Figure]]) -> list[Figure]:
    """All figures, each with its server's name before its own."""
    return [
        msgspec.structs.replace(each, name=f"{server}_{each.name}")
        for server, figures in found.items()
        for each in figures.values()
    ]


if __name__ == "__main__":
    main()
