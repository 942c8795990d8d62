"""`telex-node bench` runs, and prints what it says it does. No time is judged."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner

from node.bench.command import main, table
from node.bench.line import frame
from node.bench.meter import Figure
from node.bench.plan import Options, Terminal, private_message, rooms_of
from node.bench.runner import WORKLOADS
from node.bench.seed import Seeder
from node.bench.talk import Template
from node.rooms.incoming import read_incoming
from node.storage.chain import get_log, list_entries
from node.storage.engine import open_engine
from node.storage.schema import migrate
from protocol.codec import decode
from protocol.log import chain, read_entry
from protocol.wire import SubmitFrame

TINY = (
    *("--seconds", "0.2", "--pairs", "2", "--in-flight", "2", "--members", "3"),
    *("--senders", "1", "--rate", "50", "--connections", "4", "--tls-connections"),
    *("4", "--resumed", "60", "--history", "500", "--entries", "100", "--rooms", "9"),
)
UNITS = {
    "dm": "1/s",
    "dm_per_cpu_second": "1/CPU s",
    "fanout": "1/s",
    "fanout_per_cpu_second": "1/CPU s",
    "paced_rate": "1/s",
    "paced_p50": "ms",
    "paced_p99": "ms",
    "paced_p999": "ms",
    "idle_connection": "bytes",
    "idle_connects": "1/s",
    "idle_connection_tls": "bytes",
    "idle_connects_tls": "1/s",
    "resume_ready": "ms",
    "resume_1": "ms",
    "resume_50": "ms",
    "history_backward": "entries/s",
    "history_forward": "entries/s",
    "federation": "1/s",
    "federation_per_cpu_second": "1/CPU s",
    "federation_p50": "ms",
    "federation_p99": "ms",
}


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "node.cli", "bench", *arguments],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def check_shape(figure: dict[str, object]) -> None:
    """Every figure has what programs rely on."""
    wanted = {"name", "value", "unit", "cores", "server_cpu_seconds"}
    assert set(figure) == wanted
    for name in wanted - {"name", "unit"}:
        number = figure[name]
        assert isinstance(number, int | float) and number >= 0, figure


@pytest.mark.long
@pytest.mark.system
def test_every_workload_gives_its_figures_and_leaves_nothing(tmp_path: Path) -> None:
    done = bench("--json", "--directory", str(tmp_path), *TINY)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert {each["name"]: each["unit"] for each in figures} == UNITS
    for each in figures:
        check_shape(each)
        if not each["name"].startswith("idle_connection"):
            assert each["value"] > 0, each
    assert list(tmp_path.iterdir()) == []


@pytest.mark.system
def test_a_workload_that_fails_says_why_and_the_others_go_on(tmp_path: Path) -> None:
    done = bench(
        *("--json", "--directory", str(tmp_path), *TINY),
        *("--connections", "50000000", "--tls-connections", "50000000"),
        *("idle", "paced"),
    )
    assert done.returncode == 1
    assert "telex-node: idle: 50000000 connections need more" in done.stderr
    figures = {each["name"]: each for each in json.loads(done.stdout)}
    names = {"paced_rate", "paced_p50", "paced_p99", "paced_p999"}
    assert names <= set(figures)
    for name in names:
        check_shape(figures[name])
        assert figures[name]["unit"] == UNITS[name]
    assert figures["paced_rate"]["value"] == pytest.approx(50, rel=0.2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.system
@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)]
)
def test_whoever_stops_it_finds_nothing_left(
    tmp_path: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-m", "node.cli", "bench", "--seconds", "600"]
    with subprocess.Popen(
        [*command, "--pairs", "1", "--directory", str(tmp_path), "dm"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell has what it starts in the background ignore Ctrl-C, us as well.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if line.startswith("dm"):
                break
        assert list(tmp_path.iterdir()) != []
        running.send_signal(number)
        _, said = running.communicate(timeout=60)
    assert running.returncode == 1
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []
    assert not processes_in(tmp_path)


def processes_in(directory: Path) -> list[str]:
    """Command lines of processes that name a directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended meanwhile
            text = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(directory) in text:
                found.append(text)
    return found


def test_a_table_is_for_people() -> None:
    figures = [
        Figure("dm", 25_000.0, "1/s", 1.0, 10.0, 0.4),
        Figure("paced_p50", 1.234, "ms", 0.25, 2.5, 0.1),
    ]
    heads, *rows = (line.split() for line in table(figures))
    assert heads[:3] == ["what", "value", "unit"]
    assert rows == [
        ["dm", "25,000", "1/s", "10.00", "1.00", "0.40"],
        ["paced_p50", "1.234", "ms", "2.50", "0.25", "0.10"],
    ]


def test_a_wrong_name_and_wrong_numbers_are_said() -> None:
    done = bench("--json", "dmm")
    assert done.returncode == 2
    assert "'dmm' is not one of" in done.stderr
    assert all(name in done.stderr for name in WORKLOADS)
    assert done.stdout == ""
    runner = CliRunner()
    said = runner.invoke(main, ["--entries", "100"])
    assert said.exit_code == 2 and "--entries needs --rooms" in said.output
    said = runner.invoke(main, ["--members", "2", "--senders", "3", "fanout"])
    assert said.exit_code == 2 and "--senders cannot be more" in said.output


def test_what_is_seeded_is_a_chain_that_a_node_can_read(tmp_path: Path) -> None:
    options = Options(entries=40, rooms=7)
    plans = list(rooms_of("before", ["localhost:1"], options))
    assert sum(plan.head for plan in plans) == 40
    database = tmp_path / "node.db"
    migrate(database)
    with Seeder(database, "localhost:1") as seeder:
        seeder.rooms(plans)
    engine = open_engine(database, read_only=True)
    with engine.connect() as connection:
        for plan in plans:
            log = get_log(connection, plan.id)
            assert log is not None and log.head == plan.head
            run = list_entries(
                connection, log, 0, upto=log.head, limit=100, max_bytes=1 << 20
            )
            digest = bytes(32)
            for seq, data in enumerate(run.entries, 1):
                assert read_entry(data).seq == seq
                digest = chain(digest, data)
            assert digest == log.hash
    engine.dispose()


def test_a_template_makes_submissions_that_a_node_takes() -> None:
    (room,) = rooms_of("fanout", ["localhost:1"], Options(members=2))
    template = Template(room.id, Terminal("fan-0", "localhost:1"))
    seen = set()
    for number in (0, 1, 70_000):
        sent = template.make(number)
        # Two bytes of header, two of length, a key of zeros.
        read = decode(sent[8:], SubmitFrame)
        assert frame(sent[8:]) == sent
        assert read.id == 0x80000000 + number
        incoming = read_incoming(read.submission)
        assert incoming.epoch == 1
        assert int.from_bytes(incoming.submission.txn[8:]) == number
        seen.add(incoming.event_id)
    assert len(seen) == 3
    assert len(private_message(room.id, bytes(256))) < 400
