"""What the demo is made of: certificates, ports, processes and nodes."""

import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from protocol.errors import TelexError

__all__ = [
    "DemoError",
    "Node",
    "Processes",
    "free_ports",
    "make_certificates",
    "require_trustme",
]

READY_SECONDS = 30
"""For a node to answer: it loads in one or two, on a busy small machine in ten."""
COMMAND_SECONDS = 30
STOP_SECONDS = 5
LOG_LINES = 8


class DemoError(TelexError):
    """A part of the demo does not work; says which, and the end of its log."""


def require_trustme() -> None:
    """See that certificates can be made, before anything is started.

    Raises:
        DemoError: the library is missing.
    """
    if importlib.util.find_spec("trustme") is None:
        raise DemoError(
            "The demo makes its own certificates and needs the Python package "
            "trustme for that: run `make demo` in a checkout, or `pip install trustme`."
        )


def make_certificates(folder: Path) -> None:
    """A throw-away authority and one certificate for localhost, in PEM files."""
    import trustme

    authority = trustme.CA(organization_name="Telex demo")
    certificate = authority.issue_cert("localhost", "127.0.0.1", "::1")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    chain = folder / "cert.pem"
    for number, blob in enumerate(certificate.cert_chain_pems):
        blob.write_to_path(str(chain), append=number > 0)
    key = folder / "key.pem"
    key.touch(mode=0o600)
    certificate.private_key_pem.write_to_path(str(key))


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nobody listens on (a moment ago)."""
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(count):
            one = stack.enter_context(socket.socket())
            one.bind(("127.0.0.1", 0))
            ports.append(int(one.getsockname()[1]))
        return ports


@dataclass
class _Running:
    name: str
    process: asyncio.subprocess.Process
    log: Path


class Processes:
    """The processes of a demo; each leads a session, so that it ends whole."""

    def __init__(self, folder: Path, warden: asyncio.subprocess.Process) -> None:
        self._folder = folder
        self._warden = warden
        self._running: list[_Running] = []

    @classmethod
    async def begin(cls, folder: Path) -> "Processes":
        """Start the warden first: it must see everything that follows."""
        script = Path(__file__).with_name("demo_warden.py")
        warden = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(script), str(folder)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        return cls(folder, warden)

    async def spawn(
        self, name: str, command: Sequence[str], environ: Mapping[str, str]
    ) -> asyncio.subprocess.Process:
        """Start a process that writes to a log in the folder."""
        log = self._folder / f"{name}.log"
        with log.open("ab") as file:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env={**os.environ, **environ, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
        await self._tell(str(process.pid))
        self._running.append(_Running(name, process, log))
        return process

    async def stop(self) -> None:
        """End every process: ask, wait, kill; the last one started goes first."""
        for running in reversed(self._running):
            # The id of a process that ended may be somebody else's by now.
            if running.process.returncode is None:
                _signal(running.process.pid, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                for running in self._running:
                    await running.process.wait()
        for running in self._running:
            if running.process.returncode is None:
                _signal(running.process.pid, signal.SIGKILL)
                await running.process.wait()

    async def dismiss(self) -> None:
        """Tell the warden that nothing is left to do."""
        await self._tell("done")
        if self._warden.stdin is not None:
            self._warden.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self._warden.wait()

    async def _tell(self, word: str) -> None:
        if self._warden.stdin is not None:
            with contextlib.suppress(OSError):
                self._warden.stdin.write(f"{word}\n".encode())
                await self._warden.stdin.drain()

    def ended(self) -> str:
        """Which processes ended by themselves, with the last lines of their logs."""
        return "\n".join(
            f"{running.name} ended with exit code {running.process.returncode}:\n"
            + last_lines(running.log)
            for running in self._running
            if running.process.returncode is not None
        )


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(OSError):
        os.killpg(group, number)


def last_lines(log: Path) -> str:
    """The end of a log, indented."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(f"  {line[:200]}" for line in lines[-LOG_LINES:])


class Node:
    """One `telex-node`, in a folder of its own."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self._config = folder / "config.toml"

    async def start(self, processes: Processes, ca: Path) -> None:
        """Make it, start it and wait until it answers.

        Raises:
            DemoError: it does not come up.
        """
        self.folder.mkdir()
        await self._ask(
            *("init", "--name", self.name, "--host", "127.0.0.1"),
            *("--cert", str(ca.with_name("cert.pem"))),
            *("--key", str(ca.with_name("key.pem"))),
            *("--ca-file", str(ca)),
        )
        log = self.folder.name
        process = await processes.spawn(log, self._command("run"), {})
        try:
            async with asyncio.timeout(READY_SECONDS):
                while not await self._answers():
                    if process.returncode is not None:
                        break
                    await asyncio.sleep(0.1)
                else:
                    return
        except TimeoutError:
            pass
        raise DemoError(
            f"The node {self.name} did not start:\n"
            + last_lines(self.folder.with_name(f"{log}.log"))
        )

    async def _answers(self) -> bool:
        port = int(self.name.rpartition(":")[2])
        try:
            _reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True

    async def invite(self) -> str:
        """An invite code of this node.

        Raises:
            DemoError: the node gave none.
        """
        words = (await self._ask("invite")).split()
        if not words:
            raise DemoError(f"The node {self.name} gave no invite.")
        return words[-1]

    async def _ask(self, *words: str) -> str:
        """Run one command of the node; returns what it printed."""
        process = await asyncio.create_subprocess_exec(
            *self._command(*words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(COMMAND_SECONDS):
                out, err = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise DemoError(
                f"telex-node {words[0]} did not end within {COMMAND_SECONDS} seconds."
            ) from None
        except asyncio.CancelledError:
            process.kill()
            raise
        if process.returncode != 0:
            text = err.decode(errors="replace").strip()[-500:]
            raise DemoError(f"telex-node {words[0]} failed: {text}")
        return out.decode(errors="replace")

    def _command(self, *words: str) -> list[str]:
        return [node_program(), "--config", str(self._config), *words]


def node_program() -> str:
    """Where `telex-node` is: beside this Python, or on the path.

    Raises:
        DemoError: it is not installed.
    """
    beside = Path(sys.executable).with_name("telex-node")
    found = str(beside) if beside.exists() else shutil.which("telex-node")
    if found is None:
        raise DemoError(
            "The program telex-node is not installed here: install Telex with its "
            "node part, for example by `pip install telex[node]`."
        )
    return found
