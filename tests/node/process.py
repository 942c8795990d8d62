"""`telex-node` as a process: its directory, its commands, and devices that call it."""

import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from click.testing import CliRunner

from node.cli import main
from protocol.log import GENESIS, chain, read_entry
from protocol.wire import Page
from tests.helpers.people import Person
from tests.node.phone import Phone
from tests.node.server import free_port

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

    def outcome(self, *arguments: str) -> tuple[int, str]:
        """Run a command in this process; its exit status and what it printed."""
        done = CliRunner().invoke(main, ["--config", str(self.config), *arguments])
        assert done.exception is None or isinstance(done.exception, SystemExit)
        return done.exit_code, done.stdout

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
