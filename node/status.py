"""`telex-node status`: how a node is, in plain sentences, for people and programs."""

import os
import shutil
import time
from pathlib import Path

import click
import msgspec
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import DBAPIError

from federation.ports import PeerRecord
from node.admin import AdminProblem, certificate_end, database
from node.calls.check import check_calls
from node.config import ConfigProblem, Settings
from node.descriptors import advice
from node.keys import fingerprint, load_keys
from node.local import NodeState, NoStatus, ask
from node.lock import Running, ended_badly, read_running
from node.peers.log import count_pending
from node.peers.store import list_peers
from node.probe import NoAnswer, probe
from node.storage.health import diagnose, reason
from node.storage.schema import DatabaseProblem
from node.storage.tables import AccountRow, DeviceRow, EntryRow, LogRow, VaultRow, core
from protocol.codec import encode_json

__all__ = ["Counts", "Status", "print_status", "read_status"]

WAL_MAX = 256 * 1024 * 1024
"""Bytes of a write-ahead log that is not folded in as it should be: it is at 64 MiB
after a burst."""

FREE_MIN, FREE_PART = 256 * 1024 * 1024, 0.05
"""Bytes that should be free, a day of a busy node; on a small disk, this part of it."""

REFUSED = 60.0
"""Seconds for which it is told that somebody was refused for lack of room."""

CERTIFICATE_MIN = 3 * 86400
"""Seconds before its end in which a certificate should have been renewed: those
that renew by themselves do so weeks before."""


class Counts(msgspec.Struct):
    """What the database holds."""

    accounts: int
    devices: int
    rooms: int
    entries: int
    peers: int
    vault_bytes: int
    """Of sealed backups, in files beside the database."""
    held: dict[str, int]
    """Entries that wait for other nodes, by the node's name."""
    failing: list[str]
    """Nodes that do not answer."""
    changed: list[str]
    """Nodes whose keys changed without a signature."""


class Status(msgspec.Struct):
    """A node, as far as it can be seen from beside it."""

    name: str
    fingerprint: str
    """Of the node's key log, for admins of other nodes who ask for it."""
    healthy: bool
    problems: list[str]
    """What is wrong, a sentence each."""
    notes: list[str]
    """What will be wrong some day; the node is healthy all the same."""
    running: Running | None
    answers: str
    state: NodeState | None
    counts: Counts | None
    database_bytes: int
    free_bytes: int
    certificate_end: int | None
    """Unix seconds; None without TLS."""


def read_status(settings: Settings) -> Status:
    """Look at the database, and ask the running node.

    Raises:
        KeyProblem: there is no node here.
    """
    problems: list[str] = []
    running = read_running(settings.data_dir)
    answers, state = "", None
    if running is not None:
        answers, state = _ask(settings, running, problems)
    elif ended_badly(settings.data_dir):
        problems.append(
            "The node ended without shutting down: it was killed or crashed; start it "
            "again, nothing that it acked is lost."
        )
    if state is not None:
        _judge(state, problems)
    counts = _look(settings, problems)
    if counts is not None:
        problems += [
            f"The keys of {name} changed without a signature of the old ones, so "
            "nothing goes there: see `telex-node peer accept`."
            for name in counts.changed
        ]
    disk = shutil.disk_usage(settings.data_dir)
    free = disk.free
    if free < min(FREE_MIN, FREE_PART * disk.total):
        problems.append(
            f"Only {free / 1e6:.1f} MB are free on the disk of {settings.data_dir}: "
            "make room."
        )
    end = _certificate_end(settings, problems)
    _ask_calls(settings, problems)
    return Status(
        name=settings.name,
        fingerprint=fingerprint(load_keys(settings.data_dir, settings.name).identity),
        healthy=not problems,
        problems=problems,
        notes=_notes(settings, state),
        running=running,
        answers=answers,
        state=state,
        counts=counts,
        database_bytes=_size(settings.database),
        free_bytes=free,
        certificate_end=end,
    )


def _ask(
    settings: Settings, running: Running, problems: list[str]
) -> tuple[str, NodeState | None]:
    """What the running node answers, to others and on its own socket."""
    state, answers = None, "no"
    try:
        state = ask(settings.data_dir)
        document = probe(running.url, settings)
        answers = f"{document.software} at {running.url}, as {document.base_url}"
    except (NoStatus, NoAnswer) as error:
        problems.append(str(error))
    return answers, state


def _ask_calls(settings: Settings, problems: list[str]) -> None:
    """Whether calls find the servers that they are told of."""
    try:
        problems += [problem for _, problem in check_calls(settings) if problem]
    except ConfigProblem as error:
        problems.append(str(error))


def _judge(state: NodeState, problems: list[str]) -> None:
    """What is wrong with a node by its own words."""
    if not state.storage.ok:
        since = _moment(state.storage.since)
        problems.append(
            f"{state.storage.sentence()} (Since {since}: {state.storage.reason}.)"
        )
    if state.waiting > state.waiting_max // 2:
        problems.append(
            f"{state.waiting} writes wait, of {state.waiting_max} at most: the disk is "
            "too slow for what comes in."
        )
    if state.wal_bytes > WAL_MAX:
        problems.append(
            f"The write-ahead log has {state.wal_bytes / 1e6:.0f} MB, because some "
            "program reads the database for very long: end it."
        )

    door = state.door
    if door.refused_at and state.time - door.refused_at < REFUSED:
        problems.append(
            f"Somebody was refused, for {door.connections} of {door.most} connections "
            f"and {state.files} of {state.files_max} files are open: it goes on by "
            "itself when there are fewer, or let the node have more files (in a "
            "systemd unit LimitNOFILE=)."
        )


def _notes(settings: Settings, state: NodeState | None) -> list[str]:
    """What to do before it is needed."""
    if state is None or not state.files_max:
        return []
    too_low = advice(state.files_max, settings.limits.connections)
    return [too_low] if too_low else []


def _look(settings: Settings, problems: list[str]) -> Counts | None:
    """What the database holds; None if it cannot be read."""
    try:
        with database(settings) as connection:
            return _count(connection)
    except DBAPIError as error:
        health = diagnose(error, settings.database)
        what = health.sentence() if health is not None else "It cannot be read."
        problems.append(f"{what} ({reason(error)}.)")
    except DatabaseProblem as error:
        problems.append(str(error))
    return None


def _count(connection: Connection) -> Counts:
    def number(table: type, *conditions: object) -> int:
        query = select(func.count()).select_from(core(table))
        return connection.scalar(query.where(*conditions)) or 0  # type: ignore[arg-type]

    known: list[PeerRecord] = list_peers(connection)
    vault = core(VaultRow)
    return Counts(
        accounts=number(AccountRow),
        devices=number(DeviceRow, ~core(DeviceRow).c.revoked),
        rooms=number(LogRow, core(LogRow).c.kind == "room"),
        entries=number(EntryRow),
        peers=len(known),
        vault_bytes=connection.scalar(select(func.sum(vault.c.size))) or 0,
        held=count_pending(connection),
        failing=[record.name for record in known if record.fails],
        changed=[record.name for record in known if record.trusted == "changed"],
    )


def _certificate_end(settings: Settings, problems: list[str]) -> int | None:
    cert = settings.tls.cert_file
    if cert is None:
        return None
    try:
        end = certificate_end(cert)
    except AdminProblem as error:
        problems.append(str(error))
        return None
    left = end - int(time.time())
    if left < CERTIFICATE_MIN:
        word = "expired" if left < 0 else "expires"
        problems.append(
            f"The certificate {word} on {_date(end)}; replace it and restart the node."
        )
    return end


def _size(path: Path) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


# --- for people -------------------------------------------------------------------


def print_status(status: Status, as_json: bool) -> None:
    """Print it: lines for people, or one JSON object."""
    if as_json:
        click.echo(encode_json(status))
        return
    lines = [("node", status.name), ("fingerprint", status.fingerprint)]
    if status.running is None:
        lines.append(("running", "no"))
    else:
        up = _span(int(time.time()) - status.running.started)
        lines.append(("running", f"yes, for {up} (process {status.running.pid})"))
        lines.append(("answers", status.answers))
    if status.state is not None:
        lines += _state_lines(status.state)
    if status.counts is not None:
        lines += _count_lines(status.counts)
    lines += [
        (
            "database",
            f"{status.database_bytes / 1e6:.1f} MB, "
            f"{status.free_bytes / 1e6:.0f} MB free on its disk",
        ),
        ("certificate", _certificate(status.certificate_end)),
    ]
    for label, text in lines:
        click.echo(f"{label + ':':13}{text}")
    for note in status.notes:
        click.echo(f"{'note:':13}{note}")
    for problem in status.problems:
        # Part of it may be another's words; none of it drives a terminal.
        click.echo(f"{'PROBLEM:':13}{''.join(filter(str.isprintable, problem))}")


def _state_lines(state: NodeState) -> list[tuple[str, str]]:
    stalls = state.stalls
    loop = "never held up"
    if stalls.count or stalls.blocked:
        loop = (
            f"held up {stalls.count + stalls.blocked} times, by "
            f"{stalls.longest_ms:.0f} ms of work at most; last at {stalls.last}"
        )
    return [
        ("storage", "writes" if state.storage.ok else state.storage.state),
        ("sessions", f"{state.sessions}"),
        ("connections", _connections(state)),
        ("queue", f"{state.waiting} writes, {state.waiting_bytes / 1e6:.1f} MB"),
        ("journal", f"{state.wal_bytes / 1e6:.1f} MB"),
        ("event loop", loop),
    ]


def _connections(state: NodeState) -> str:
    door = state.door
    text = (
        f"{door.connections} of {door.most}, {state.files} of {state.files_max} files"
    )
    if refused := door.refused + door.crowded:
        text += f"; {refused} refused, {door.crowded} of them for their network's sake"
    return text


def _count_lines(counts: Counts) -> list[tuple[str, str]]:
    peers = f"{counts.peers}"
    if counts.held:
        peers += f"; {sum(counts.held.values())} entries wait for {_list(counts.held)}"
    if counts.failing:
        peers += f"; no answer from {_list(counts.failing)}"
    return [
        ("accounts", f"{counts.accounts} with {counts.devices} devices"),
        ("rooms", f"{counts.rooms}"),
        ("entries", f"{counts.entries}"),
        ("peers", peers),
        ("backups", f"{counts.vault_bytes / 1e6:.1f} MB"),
    ]


def _list(names: dict[str, int] | list[str]) -> str:
    some = list(names)[:3]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(some) + more


def _certificate(end: int | None) -> str:
    if end is None:
        return "none (plain HTTP, for behind a proxy)"
    left = end - int(time.time())
    if left < 0:
        return f"expired on {_date(end)}"
    return f"until {_date(end)} ({left // 86400} days)"


def _date(seconds: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def _span(seconds: int) -> str:
    days, rest = divmod(max(0, seconds), 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
