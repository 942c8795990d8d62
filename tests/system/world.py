"""A small world for stories: a private CA, nodes, people, terminals.

Everything is a real process on loopback with real TLS, started through the same
commands that an admin and a user type; what a test leaves running is killed.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trustme

from tests.system.proxy import RecordingProxy
from tests.system.terminal import Terminal

BIN = Path(sys.executable).parent
PASSWORD = "correct horse battery staple"
START_TIMEOUT = 30.0
"""Seconds for a node to answer: it makes keys and migrates on a busy machine."""


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Node:
    """A `telex-node run` process with its folder."""

    world: "World"
    name: str
    port: int
    folder: Path
    process: subprocess.Popen[bytes] | None = None
    proxy: RecordingProxy | None = None

    @property
    def config(self) -> Path:
        """Its config file."""
        return self.folder / "telex-node.toml"

    @property
    def data(self) -> Path:
        """Its data directory."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """What it printed."""
        return self.folder / "node.log"

    def command(self, *arguments: str) -> str:
        """Run a `telex-node` command on this node and give what it prints."""
        done = subprocess.run(
            [BIN / "telex-node", "--config", self.config, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self) -> "Node":
        """Start it and wait until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [BIN / "telex-node", "--config", self.config, "run"],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                time.sleep(0.1)
        raise AssertionError(f"{self.name} did not start:\n{self.log.read_text()}")

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)
        self.process = None

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(20)
        self.process = None
        return status

    def invite(self) -> str:
        """A fresh invite code."""
        return self.command("invite").strip().splitlines()[-1].split()[-1]


@dataclass
class Person:
    """An account with its profile folder."""

    world: "World"
    address: str
    profile: Path

    @property
    def env(self) -> dict[str, str]:
        """What `telex` needs to open the profile without asking."""
        return {
            "TELEX_PROFILE": str(self.profile),
            "TELEX_CA_FILE": str(self.world.ca_file),
            "TELEX_PASSWORD": PASSWORD,
            "LANG": "C.UTF-8",
        }

    def telex(self, *arguments: str, timeout: float = 60) -> str:
        """Run a `telex` command as this person and give what it prints."""
        done = subprocess.run(
            [BIN / "telex", *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, **self.env},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def terminal(self, *, columns: int = 100, rows: int = 30) -> Terminal:
        """Open the chat in a terminal of its own."""
        terminal = Terminal(
            [str(BIN / "telex")], env=self.env, columns=columns, rows=rows
        )
        self.world.terminals.append(terminal)
        return terminal


@dataclass
class World:
    """Nodes and people of one test, and the certificates they trust."""

    folder: Path
    ca: trustme.CA = field(default_factory=trustme.CA)
    nodes: list[Node] = field(default_factory=list)
    terminals: list[Terminal] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ca.cert_pem.write_to_path(str(self.ca_file))
        certificate = self.ca.issue_cert("localhost", "127.0.0.1")
        certificate.private_key_and_cert_chain_pem.write_to_path(str(self.certificate))

    @property
    def ca_file(self) -> Path:
        """The CA's certificate."""
        return self.folder / "ca.pem"

    @property
    def certificate(self) -> Path:
        """Key and certificate for localhost, in one file."""
        return self.folder / "localhost.pem"

    def node(self, *, recorded: bool = False) -> Node:
        """Make and start a node; `recorded` puts a proxy where its name points."""
        public = free_port()
        port = free_port() if recorded else public
        folder = self.folder / f"node-{len(self.nodes) + 1}"
        folder.mkdir()
        node = Node(self, f"localhost:{public}", port, folder)
        node.command(
            *("init", "--name", node.name, "--port", str(port)),
            *("--host", "127.0.0.1", "--ca-file", str(self.ca_file)),
            *("--cert", str(self.certificate), "--key", str(self.certificate)),
        )
        assert tomllib.loads(node.config.read_text())["name"] == node.name
        if recorded:
            node.proxy = RecordingProxy(
                public, port, self.certificate, self.ca_file
            ).start()
        self.nodes.append(node)
        return node.start()

    def person(self, name: str, node: Node) -> Person:
        """Register an account on a node."""
        person = Person(self, f"{name}@{node.name}", self.folder / f"profile-{name}")
        printed = person.telex(
            "register", person.address, "--invite", node.invite(), "--yes"
        )
        assert len(re.findall(r"\b[a-z]{3,8}\b", printed)) >= 24, printed
        return person

    def close(self) -> None:
        """End everything that is still running."""
        for terminal in self.terminals:
            terminal.close()
        for node in self.nodes:
            if node.process is not None:
                node.kill()
            if node.proxy is not None:
                node.proxy.stop()


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """A world in a folder, cleaned up at the end."""
    made = World(folder)
    try:
        yield made
    finally:
        made.close()
