"""A real TURN server on loopback: `turnserver` of Debian's package coturn."""

import base64
import hashlib
import hmac
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from media.port import IceServer

PROGRAM = "turnserver"

SECRET = "what-the-relay-knows"

START = 10.0
"""Seconds in which it is up, on a machine that is busy."""

BINDING = bytes.fromhex("000100002112a442") + bytes(12)
"""A STUN Binding request (RFC 8489, section 5)."""

needs_coturn = pytest.mark.skipif(
    shutil.which(PROGRAM) is None, reason="turnserver is missing: apt install coturn"
)


@dataclass
class Coturn:
    """A server that runs."""

    port: int
    tls_port: int
    relays: range
    """The ports from which it sends what it relays."""
    log: Path
    secret: str = field(default=SECRET, repr=False)
    process: "subprocess.Popen[bytes]" = field(init=False, repr=False)

    def url(self, transport: str = "udp", host: str = "127.0.0.1") -> str:
        """A `turn:` or (`tls`) `turns:` URL of it."""
        if transport == "tls":
            return f"turns:{host}:{self.tls_port}?transport=tcp"
        return f"turn:{host}:{self.port}?transport={transport}"

    def server(self, *urls: str, seconds: int = 600, name: str = "x") -> IceServer:
        """The server with credentials, over udp if no URL is named."""
        username = f"{int(time.time()) + seconds}:{name}"
        digest = hmac.digest(self.secret.encode(), username.encode(), hashlib.sha1)
        credential = base64.b64encode(digest).decode()
        return IceServer(urls or (self.url(),), username, credential)


def free_port() -> int:
    """A port that is free for tcp and for udp, just now."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            port = int(tcp.getsockname()[1])
            try:
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def free_ports(count: int) -> range:
    """That many ports in a row which are free for udp, below the ephemeral ones."""
    for first in range(20_000 + time.time_ns() % 6000, 32_000, count):
        try:
            for port in range(first, first + count):
                with socket.socket(type=socket.SOCK_DGRAM) as udp:
                    udp.bind(("127.0.0.1", port))
        except OSError:
            continue
        return range(first, first + count)
    raise AssertionError("no free ports")


@contextmanager
def coturn(directory: Path, *options: str, relays: int = 40) -> Iterator[Coturn]:
    """Run a server on 127.0.0.1 until the end of the block."""
    found = Coturn(
        free_port(), free_port(), free_ports(relays), directory / "coturn.log"
    )
    arguments = [
        *("-n", "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", "--no-cli"),
        *(f"--listening-port={found.port}", f"--tls-listening-port={found.tls_port}"),
        *(f"--min-port={found.relays[0]}", f"--max-port={found.relays[-1]}"),
        *("--use-auth-secret", f"--static-auth-secret={found.secret}"),
        *("--realm=example.org", "--fingerprint", "--allow-loopback-peers"),
        *options,
    ]
    with run(arguments, directory, found.log, found.port) as found.process:
        yield found


@contextmanager
def run(
    arguments: Sequence[str],
    directory: Path,
    log: Path,
    port: int,
    *,
    within: Sequence[str] = (),
    host: str = "127.0.0.1",
    probe: socket.socket | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `turnserver`, behind the command `within`, and wait until it answers.

    `probe` is a socket that reaches it, if one made here would not.
    """
    command = [
        *within,
        PROGRAM,
        *arguments,
        *("--log-file=stdout", "--simple-log"),
        *(f"--pidfile={directory / 'coturn.pid'}", f"--db={directory / 'coturn.db'}"),
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        with probe or socket.socket(type=socket.SOCK_DGRAM) as line:
            line.settimeout(0.05)
            line.connect((host, port))
            answers(process, line, log)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(process: subprocess.Popen[bytes], line: socket.socket, log: Path) -> None:
    """Wait until the server answers a STUN request."""
    end = time.monotonic() + START
    while time.monotonic() < end and process.poll() is None:
        try:
            line.send(BINDING)
            if line.recv(1500)[:2] == b"\x01\x01":
                return
        except ConnectionRefusedError:
            time.sleep(0.02)  # not bound yet; there is nothing to wait on
        except TimeoutError:
            continue
    raise AssertionError(f"turnserver is not up: {log.read_text()[-2000:]}")
