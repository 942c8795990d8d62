"""What `telex-node verify` does and prints."""

import sys
import time
from pathlib import Path

import click

from node.lock import read_running
from node.storage.verify import Report, verify
from protocol.codec import encode_json

__all__ = ["print_report", "verify_node"]

REDRAW = 0.2
"""Seconds between two lines of progress on a terminal."""


def verify_node(path: Path, *, quick: bool) -> Report:
    """Verify a database, with its progress on a terminal.

    Args:
        path: of a node, or a copy.
        quick: compare sizes of files and do not hash them.

    Raises:
        DatabaseProblem: it cannot be opened.
    """
    line = _Line()
    try:
        return verify(
            path,
            progress=line.show,
            quick=quick,
            # A running node writes, and its write-ahead log must not wait for us.
            indexes=read_running(path.parent) is None,
        )
    finally:
        line.clear()


def print_report(report: Report, as_json: bool) -> None:
    """Print what was found, a sentence on each line, or one JSON object."""
    if as_json:
        click.echo(encode_json(report))
        return
    for finding in report.findings:
        click.echo(f"{finding.code}: {_plain(finding.text)}")
    if report.more:
        click.echo(f"... and {report.more} findings more.")
    click.echo(
        f"{report.entries} entries of {report.logs} logs, {report.accounts} accounts "
        f"and {report.files} files ({report.bytes / 1e6:.1f} MB) were checked in "
        f"{report.seconds:.1f} s ({report.entries_per_second} entries/s)."
    )
    count = len(report.findings) + report.more
    click.echo(f"{count} things are wrong." if count else "All is in order.")


def _plain(text: str) -> str:
    """What may be a stranger's words; none of it drives a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


class _Line:
    """One line on standard error that says how far we are; only on a terminal."""

    def __init__(self) -> None:
        self._on = sys.stderr.isatty()
        self._next = 0.0

    def show(self, what: str, done: int, total: int) -> None:
        """Say it, if it is time."""
        now = time.monotonic()
        if self._on and now >= self._next:
            self._next = now + REDRAW
            part = f" of {total}" if total >= done else ""
            click.echo(f"\r\x1b[K{what}: {done}{part}", nl=False, err=True)

    def clear(self) -> None:
        """Take it away."""
        if self._on:
            click.echo("\r\x1b[K", nl=False, err=True)
