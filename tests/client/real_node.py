"""Real nodes for the client's tests: `telex-node` processes with TLS on loopback."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from client import Profile

if TYPE_CHECKING:
    import trustme

__all__ = ["RealNode", "free_port"]

START_TIMEOUT = 20.0
"""Seconds in which a node is up: importing everything on a busy machine."""

_MAIN = "from node.cli import main; main()"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class RealNode:
    """A node in a folder; `start` and `kill` it as often as you like."""

    directory: Path
    ca: Path
    name: str
    process: subprocess.Popen[str] | None = None

    @classmethod
    def create(cls, directory: Path, authority: trustme.CA) -> RealNode:
        """Make its config, certificate and data directory."""
        directory.mkdir(parents=True)
        port = free_port()
        ca, cert = directory / "ca.pem", directory / "cert.pem"
        authority.cert_pem.write_to_path(ca)
        issued = authority.issue_cert("localhost", "127.0.0.1")
        issued.private_key_and_cert_chain_pem.write_to_path(cert)
        node = cls(directory, ca, f"localhost:{port}")
        node._command(
            "init",
            f"--name={node.name}",
            f"--cert={cert}",
            f"--key={cert}",
            "--host=127.0.0.1",
            f"--ca-file={ca}",
            "--registration=open",
        )
        return node

    def start(self) -> None:
        """Run it, and wait until it listens."""
        self.process = subprocess.Popen(
            self._line("run"),
            stdout=subprocess.PIPE,
            stderr=(self.directory / "log").open("a"),
            text=True,
        )
        assert self.process.stdout is not None
        ready = self.process.stdout.readline()
        assert "is up" in ready, (self.directory / "log").read_text()

    def kill(self) -> None:
        """SIGKILL: no chance to write anything."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it as an admin does."""
        self._end(signal.SIGTERM)

    def profile(self, folder: Path) -> Profile:
        """Where a client of this node lives."""
        return Profile(folder, ca_file=self.ca)

    def _end(self, how: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(how)
            process.wait(START_TIMEOUT)
            if process.stdout is not None:
                process.stdout.close()

    def _command(self, *arguments: str) -> None:
        subprocess.run(
            self._line(*arguments), check=True, capture_output=True, timeout=60
        )

    def _line(self, *arguments: str) -> list[str]:
        config = self.directory / "telex-node.toml"
        return [sys.executable, "-c", _MAIN, "--config", str(config), *arguments]
