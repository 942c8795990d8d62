"""A small world for stories: a private CA, nodes, people, terminals.

Everything is a real process on loopback with real TLS, started through the same
commands that an admin and a user type; what a test leaves running is killed.
"""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import trustme

from client import Client, Connection, Profile
from client.storage import keyfile
from client.storage.keyfile import Strength
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
    words: tuple[str, ...] = field(default=(), repr=False)
    """The 24 words of the account, where the test registered it."""

    @property
    def phrase(self) -> str:
        """The words as one types them."""
        return " ".join(self.words)

    @property
    def paper(self) -> str:
        """A file with the words, as `--phrase-file` takes it."""
        path = self.world.folder / f"{self.profile.name}.words"
        path.write_text(self.phrase)
        return str(path)

    @property
    def env(self) -> dict[str, str]:
        """What `telex` needs to open the profile without asking."""
        return {
            "TELEX_PROFILE": str(self.profile),
            "TELEX_CA_FILE": str(self.world.ca_file),
            "TELEX_PASSWORD": PASSWORD,
            "LANG": "C.UTF-8",
        }

    def run(
        self, *arguments: str, typed: str = "", timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a `telex` command as this person, whatever comes of it."""
        return subprocess.run(
            [BIN / "telex", *arguments],
            input=typed,
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, **self.env},
        )

    def telex(self, *arguments: str, typed: str = "", timeout: float = 60) -> str:
        """Run a `telex` command as this person and give what it prints."""
        done = self.run(*arguments, typed=typed, timeout=timeout)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def refused(self, *arguments: str, typed: str = "", timeout: float = 60) -> str:
        """Run a `telex` command that fails, and give its one sentence."""
        done = self.run(*arguments, typed=typed, timeout=timeout)
        assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr, done.stderr
        assert "did not expect" not in done.stderr, done.stderr
        return done.stderr.strip()

    def terminal(self, *arguments: str, columns: int = 100, rows: int = 30) -> Terminal:
        """Open the chat, or run a command, in a terminal of its own."""
        terminal = Terminal(
            [str(BIN / "telex"), *arguments], env=self.env, columns=columns, rows=rows
        )
        self.world.terminals.append(terminal)
        return terminal

    def close(self, terminal: Terminal) -> None:
        """Close one of this person's terminals, which lets go of the profile."""
        self.world.terminals.remove(terminal)
        terminal.close()

    def machine(self, name: str) -> "Person":
        """The same person at another machine, where nothing was set up yet."""
        folder = self.profile.with_name(f"{self.profile.name}-{name}")
        return Person(self.world, self.address, folder, self.words)


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

    def settled(self, name: str, node: Node, device: str = "desk") -> Person:
        """An account that exists already, where its registration is not the story.

        The same calls as `telex register`, with a password that is quick to check.
        """
        profile = self.folder / f"profile-{name}"
        address = f"{name}@{node.name}"

        async def register() -> list[str]:
            client, words = await Client.register(
                Profile(profile, self.ca_file),
                address,
                invite=node.invite(),
                password=PASSWORD,
                device_name=device,
            )
            async with client:
                await ready(client)
            return words

        with quick_password():
            words = asyncio.run(register())
        return Person(self, address, profile, tuple(words))

    def linked(self, person: Person, name: str) -> Person:
        """A second device of a person, where linking is not the story."""
        machine = person.machine(name)

        async def link() -> None:
            old = await Client.open(
                Profile(person.profile, self.ca_file), password=PASSWORD
            )
            linking = Client.link(
                Profile(machine.profile, self.ca_file),
                person.address,
                password=PASSWORD,
                device_name=name,
            )
            async with old, linking:
                await ready(old)
                code = linking.request.code
                await old.devices.approve(await old.devices.look(code))
                async with await linking.wait() as new:
                    await ready(new)
                    await seen(lambda: same_history(old, new))
                    await seen(lambda: named(new, name))

        with quick_password():
            asyncio.run(link())
        return machine

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
def quick_password() -> Iterator[None]:
    """Profiles that are made meanwhile open at once: what is slow is a number."""
    with mock.patch.object(keyfile, "STRENGTH", Strength(1, 8192)):
        yield


async def seen(look: Callable[[], Awaitable[object]]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(START_TIMEOUT):
        while not await look():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def ready(client: Client) -> None:
    """Wait until a client is online and has the room of its own devices."""

    async def is_ready() -> bool:
        room = await client._store.run(client.self_group.room)
        return client.connection is Connection.ONLINE and room is not None

    await seen(is_ready)


async def same_history(old: Client, new: Client) -> bool:
    """Whether the new device is in every chat of the old one, and has its texts."""
    active = {room.id for room in await new.rooms() if room.active}
    for room in await old.rooms():
        there = {m.id for m in await old.messages(room.id) if m.kind == "text"}
        here = {m.id for m in await new.messages(room.id)}
        if room.active and not (room.id in active and there <= here):
            return False
    return True


async def named(client: Client, name: str) -> bool:
    """Whether a device's name has come to this one."""
    return any(device.name == name for device in await client.devices.list())


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """A world in a folder, cleaned up at the end."""
    made = World(folder)
    try:
        yield made
    finally:
        made.close()
