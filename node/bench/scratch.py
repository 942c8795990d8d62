"""A scratch node: a directory of its own, a free port, `telex-node run`."""

import datetime
import ipaddress
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from node.admin import create_node
from node.bench.plan import BenchProblem, Place
from node.config import Settings, load

__all__ = [
    "Scratch",
    "end",
    "make_certificate",
    "make_scratch",
    "pin",
    "undisturbed",
]

START_TIMEOUT = 60.0
"""Seconds in which a node must be up, also with millions of entries."""

STOP_TIMEOUT = 30.0
"""Seconds that it has to stop; then it is killed, for nothing of it is kept."""

_OPEN: dict[str, object] = {
    "limits.events_per_second": 100_000.0,
    "limits.events_burst": 100_000,
    "limits.requests_per_second": 100_000.0,
    "limits.requests_burst": 100_000,
    "limits.connections_per_address": 0,
    "limits.connections": 200_000,
    "limits.rooms_per_account": 1_000_000,
    "log.level": "warning",
}
"""One machine plays everybody, so limits on one client would be what is measured."""


@dataclass
class Scratch:
    """A node that is thrown away."""

    settings: Settings
    config: Path
    ca_file: Path | None = None
    _process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The node's name."""
        return self.settings.name

    @property
    def place(self) -> Place:
        """Where it is; it must run."""
        assert self._process is not None
        ca_file = "" if self.ca_file is None else str(self.ca_file)
        return Place(self.name, self.settings.port, self._process.pid, ca_file)

    def start(self, core: int | None) -> None:
        """Start it on a core (None: on any) and wait until it is up.

        Raises:
            BenchProblem: it did not come up; says its last words.
        """
        words = self.config.parent / "log"
        with words.open("ab") as errors, undisturbed():
            self._process = process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "node.cli"),
                    *("--config", str(self.config), "run"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                # Ctrl-C is for us, who stop it when its load has ended.
                start_new_session=True,
            )
        pin(process.pid, core)
        assert process.stdout is not None
        with selectors.DefaultSelector() as waiting:
            waiting.register(process.stdout, selectors.EVENT_READ)
            ready = bool(waiting.select(START_TIMEOUT)) and process.stdout.readline()
        if not ready:
            self.stop()
            last = words.read_text(errors="replace").strip().splitlines()[-1:]
            said = "; it said: " + last[0] if last else ""
            raise BenchProblem(f"The scratch node did not come up{said}.")

    def stop(self) -> None:
        """Stop it, if it runs."""
        end(self._process, STOP_TIMEOUT)
        self._process = None


def end(process: "subprocess.Popen[bytes] | None", seconds: float) -> None:
    """Ask a process to end, and kill it if it takes longer than that."""
    if process is None:
        return
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait for the end of this block.

    Else a process could be started and nobody know it.
    """
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(n, lambda got, _frame: came.append(got)) for n in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


def make_scratch(directory: Path, *, tls: Path | None = None) -> Scratch:
    """Make a node on a free port of loopback.

    Args:
        directory: where its own directory is made.
        tls: where `make_certificate` wrote; None: plain HTTP.
    """
    port = _free_port()
    home = directory / f"node-{port}"
    home.mkdir(mode=0o700)
    values = dict(_OPEN)
    values["listen.host"] = "127.0.0.1"
    values["listen.port"] = port
    if tls is not None:
        values["tls.cert_file"] = tls / "cert.pem"
        values["tls.key_file"] = tls / "key.pem"
        values["ca_file"] = tls / "cert.pem"
    created = create_node(home / "telex-node.toml", f"localhost:{port}", values)
    ca_file = None if tls is None else tls / "cert.pem"
    return Scratch(load(created.config), created.config, ca_file)


def pin(pid: int, core: int | None) -> None:
    """Keep a process, and the threads it will make, on one core, where we may."""
    if core is None or not hasattr(os, "sched_setaffinity"):
        return
    try:
        os.sched_setaffinity(pid, {core})
    except OSError:  # a container may forbid it; then the kernel chooses
        return


def make_certificate(directory: Path) -> Path:
    """Write `cert.pem` and `key.pem` for localhost, signed by itself; gives back
    the directory."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    directory.mkdir(mode=0o700, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    local = ipaddress.ip_address("127.0.0.1")
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=7))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName("localhost"), x509.IPAddress(local)]
            ),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (directory / "cert.pem").write_bytes(certificate.public_bytes(pem))
    secret = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (directory / "key.pem").write_bytes(secret)
    return directory


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
