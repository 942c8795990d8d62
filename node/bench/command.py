"""What an admin types after `telex-node bench`, and what is printed."""

import signal
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import click
import msgspec

from node.bench.meter import Figure
from node.bench.plan import BenchProblem, Options
from node.bench.runner import WORKLOADS, run

__all__ = ["as_json", "main", "table"]

_DEFAULT = Options()


def _number(name: str, text: str, low: int = 1) -> click.Option:
    return click.Option(
        [f"--{name}"],
        type=click.IntRange(low),
        default=getattr(_DEFAULT, name.replace("-", "_")),
        show_default=True,
        help=text,
    )


def _float(name: str, text: str) -> click.Option:
    return click.Option(
        [f"--{name}"],
        type=click.FloatRange(0.1),
        default=getattr(_DEFAULT, name),
        show_default=True,
        help=text,
    )


def _bench(
    names: tuple[str, ...], json: bool, directory: Path | None, **values: float
) -> None:
    options = Options(**values)  # type: ignore[arg-type]
    if options.entries and not options.rooms:
        raise click.UsageError("--entries needs --rooms, in which they are.")
    if options.senders > options.members:
        raise click.UsageError("--senders cannot be more than --members.")
    figures: list[Figure] = []
    failed = False
    chosen = tuple(dict.fromkeys(names)) or WORKLOADS
    # Like Ctrl-C, so that the nodes are stopped and their files removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with closing(run(chosen, options, directory, _say)) as parts:
        for part, outcome in parts:
            if isinstance(outcome, BenchProblem):
                click.echo(f"telex-node: {part}: {outcome}", err=True)
                failed = True
            else:
                figures += outcome
    if json:
        click.echo(as_json(figures))
    else:
        click.echo("\n".join(table(figures)))
    if failed:
        sys.exit(1)


def _say(text: str) -> None:
    click.echo(text, err=True)


_ROW = "{:26} {:>12} {:10} {:>12} {:>7} {:>11}"


def as_json(figures: Sequence[Figure]) -> str:
    """One array of {name, value, unit, cores, server_cpu_seconds}."""
    kept = ("name", "value", "unit", "cores", "server_cpu_seconds")
    rows = [{key: getattr(each, key) for key in kept} for each in figures]
    return msgspec.json.format(msgspec.json.encode(rows), indent=2).decode()


def table(figures: list[Figure]) -> list[str]:
    """The figures as lines for people."""
    lines = [_ROW.format("what", "value", "unit", "node CPU s", "cores", "load cores")]
    for each in figures:
        value = f"{each.value:,.0f}" if each.value >= 1000 else f"{each.value:.4g}"
        busy = (each.server_cpu_seconds, each.cores, each.load_cores)
        numbers = (f"{number:.2f}" for number in busy)
        lines.append(_ROW.format(each.name, value, each.unit, *numbers))
    return lines


main = click.Command(
    "bench",
    callback=_bench,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Measure what a node does on this machine: "
        + ", ".join(WORKLOADS)
        + " (all of them, if none is named). Starts scratch nodes of its own on "
        "loopback and throws them away; your node and its data are not touched, "
        "but a node that runs here meanwhile will be slow."
    ),
    params=[
        click.Argument(["names"], nargs=-1, type=click.Choice(WORKLOADS)),
        click.Option(
            ["--json"], is_flag=True, help="Print one JSON array instead of a table."
        ),
        click.Option(
            ["--directory"],
            type=click.Path(path_type=Path, file_okay=False, exists=True),
            help="Where the scratch nodes' files go: on the disk to be measured. "
            "[default: /var/tmp]",
        ),
        _float("seconds", "How long each rate is measured."),
        _number("pairs", "dm, paced, federation: chats of two."),
        _number("in-flight", "dm, fanout, federation: messages of a sender under way."),
        _number("members", "fanout: members of the room.", 2),
        _number("senders", "fanout: how many of them write."),
        _float("rate", "paced: messages a second, of all pairs together."),
        _number("connections", "idle: connections without TLS."),
        _number("tls-connections", "idle: connections with TLS."),
        _number("resumed", "resume: rooms of the device that comes back.", 50),
        _number("history", "history: messages in the room that is read."),
        _number("entries", "Entries in the database before; needs --rooms.", 0),
        _number("rooms", "Rooms in the database before.", 0),
    ],
)
"""`telex-node bench`."""
