"""`telex-node` as a process: its commands, a second start, and kill -9."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from click.testing import CliRunner

from node.cli import main
from protocol.log import GENESIS, chain, read_entry
from protocol.wire import Page
from tests.helpers.people import Person
from tests.node.phone import Phone
from tests.node.server import free_port

pytestmark = pytest.mark.system

LIMITS = """
[limits]
events_per_second = 100000.0
events_burst = 100000
requests_per_second = 100000.0
requests_burst = 100000
"""


class Process:
    """A node's directory, and the processes started in it."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.name = f"localhost:{self.port}"
        self.config = directory / "telex-node.toml"
        self.running: subprocess.Popen[str] | None = None

    def command(self, *arguments: str, ok: bool = True) -> str:
        """Run a command in this process; what it printed."""
        done = CliRunner().invoke(main, ["--config", str(self.config), *arguments])
        assert done.exception is None or isinstance(done.exception, SystemExit)
        assert (done.exit_code == 0) == ok, done.output
        return done.stdout if ok else done.stderr

    def spawn(self, *arguments: str, ok: bool = True) -> str:
        """Run a command in a process of its own; what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "node.cli", "--config", self.config, *arguments],
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert (done.returncode == 0) == ok, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout if ok else done.stderr

    def init(self) -> None:
        """Make the node, with limits that do not slow a test."""
        self.command("init", "--name", self.name, "--host", "127.0.0.1")
        text = self.config.read_text()
        head, _, rest = text.partition("[limits]")
        self.config.write_text(head + LIMITS + rest[rest.index("[log]") :])

    def write_json_log(self) -> None:
        """Set the log to everything, as JSON."""
        text = self.config.read_text().replace('format = "text"', 'format = "json"')
        self.config.write_text(text.replace('level = "info"', 'level = "debug"'))

    def start(self) -> None:
        """Start `run` and wait until it is up."""
        self.running = subprocess.Popen(
            [sys.executable, "-m", "node.cli", "--config", self.config, "run"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.running.stdout is not None
        line = self.running.stdout.readline()
        assert " is up at " in line, line

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal and wait; exit status and log."""
        assert self.running is not None
        self.running.send_signal(number)
        _, log = self.running.communicate(timeout=20)
        status, self.running = self.running.returncode, None
        return status, log

    @asynccontextmanager
    async def phone(self, name: str) -> AsyncIterator[Phone]:
        """A device that talks to the process."""
        person = Person(f"{name}@{self.name}", now=int(time.time()))
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(connector=connector) as http:
            base = f"http://127.0.0.1:{self.port}"
            yield Phone(http, self.name, base, person, person.device())


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    found = Process(tmp_path)
    found.init()
    yield found
    if found.running is not None:
        found.running.kill()
        found.running.communicate()


def test_init_makes_everything_once(process: Process) -> None:
    directory = process.config.parent
    assert (directory / "data" / "node.key").stat().st_mode & 0o777 == 0o600
    assert (directory / "recovery.key").stat().st_mode & 0o777 == 0o600
    before = (directory / "data" / "node.key").read_bytes()
    error = process.command("init", "--name", process.name, ok=False)
    assert "is there already; nothing was changed" in error
    assert (directory / "data" / "node.key").read_bytes() == before
    assert "is fine" in process.command("check-config")
    assert "running:     no" in process.command("status")
    assert "no accounts yet" in process.command("user", "list")
    assert "met no other" in process.command("peer", "list")


def test_errors_are_one_sentence(process: Process) -> None:
    assert "no account" in process.command("user", "disable", "nobody", ok=False)
    good = process.config.read_text()
    process.config.write_text(good + "\ncolour = 1\n")
    for command in ("run", "status", "check-config", "invite"):
        error = process.command(command, ok=False)
        assert error.count("\n") == 1 and "log.colour" in error
    process.config.write_text(good.replace(process.name, "other.example"))
    assert "cannot change its name" in process.spawn("run", ok=False)
    process.config.unlink()
    assert "telex-node init" in process.command("run", ok=False)


async def test_a_life_on_the_command_line(process: Process) -> None:
    process.start()
    code = process.command("invite", "--uses", "2", "--expires", "1h").strip()
    async with process.phone("alice") as alice:
        await alice.register(code)
        room = await alice.create_room()
        assert "another telex-node runs" in process.spawn("run", ok=False).lower()
        status = process.command("status")
        assert "running:     yes" in status and "1 with 1 devices" in status
        assert "answers:     telex-node/" in status
        assert f"alice@{process.name}" in process.command("user", "list")
        process.command("user", "disable", "alice")
        assert "disabled" in process.command("user", "list")
        await until_shut_out(alice)
        process.command("user", "enable", f"alice@{process.name}")
        status_code, log = process.end()
        assert status_code == 0
        assert "Traceback" not in log and alice.account not in log
        # The same data again, and a log for programs.
        process.write_json_log()
        process.start()
        assert (await alice.submit(alice.message(room))).seq == 2
        status_code, log = process.end(signal.SIGINT)
    assert status_code == 0 and alice.account not in log
    lines = [json.loads(line) for line in log.splitlines()]
    assert any("listens on" in line["message"] for line in lines)
    assert any(line["level"] == "debug" for line in lines)
    assert {"time", "level", "logger", "message"} <= lines[0].keys()


async def test_nothing_acked_is_lost_by_kill_9(process: Process) -> None:
    process.start()
    code = process.command("invite").strip()
    async with process.phone("alice") as alice:
        await alice.register(code)
        room = await alice.create_room()
        sent: list[bytes] = []
        acked: dict[bytes, tuple[int | None, bytes | None]] = {}

        enough = asyncio.Event()

        async def write() -> None:
            while True:
                data = alice.message(room, os.urandom(20))
                sent.append(data)
                receipt = await alice.submit(data)
                acked[data] = (receipt.seq, receipt.hash)
                if len(acked) % 60 == 0:
                    enough.set()

        for _ in range(2):
            enough.clear()
            writers = [asyncio.create_task(write()) for _ in range(6)]
            async with asyncio.timeout(20):
                await enough.wait()
            process.end(signal.SIGKILL)
            await asyncio.gather(*writers, return_exceptions=True)
            process.start()
            await check_log(alice, room.id, acked)
        # What was not acked may be in the log or not; sent again it is, once.
        for data in sent:
            receipt = await alice.submit(data)
            assert acked.setdefault(data, (receipt.seq, receipt.hash)) == (
                receipt.seq,
                receipt.hash,
            )
        assert await check_log(alice, room.id, acked) == len(sent) + 1


async def until_shut_out(device: Phone) -> None:
    """Wait until the node refuses a device; it notices within a second."""
    for _ in range(100):
        if (await device.send("GET", "/telex/v1/rooms"))[0] == 403:
            return
        await asyncio.sleep(0.05)
    pytest.fail("the node did not notice")


async def check_log(
    alice: Phone, room: str, acked: dict[bytes, tuple[int | None, bytes | None]]
) -> int:
    """Read a room from the start, verify its chain and that all acks stand in it."""
    found, digest, after = {}, GENESIS, 0
    path = f"/telex/v1/logs/{room}/entries"
    while True:
        page = await alice.call("GET", path, None, Page, query=f"after={after}")
        assert page.previous == digest
        for data in page.entries:
            after += 1
            digest = chain(digest, data)
            entry = read_entry(data)
            assert entry.seq == after
            assert entry.submission not in found
            found[entry.submission] = (after, digest)
        if after == page.head:
            break
    assert all(found[data] == place for data, place in acked.items())
    return after
