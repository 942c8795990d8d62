"""Two homes behind NAT and a server on the public side: network namespaces.

    home 0 ── nat 0 ──┐
                      ├── public (198.51.100.1: coturn)
    home 1 ── nat 1 ──┘

Each NAT is the kernel's masquerading, as in a home router: it lets in what answers
something from inside and nothing else. `preserving` keeps a socket's port towards
everybody, so that STUN finds what others can use; `symmetric` takes another one for
each destination; `closed` lets no udp out at all, as some offices do.

Signalling goes over pipes: those cross namespaces.
"""

import asyncio
import ctypes
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from media.port import Ice

T = TypeVar("T")

Kind = Literal["preserving", "symmetric", "closed"]

PUBLIC = "198.51.100.1"

CLONE_NEWNET = 0x40000000

TIMEOUT = 20.0
"""Seconds for a command, and for a call to connect."""


@cache
def why_not() -> str:
    """Why there can be no namespaces here; empty if there can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "network namespaces need Linux and root"
    missing = [name for name in ("ip", "iptables") if shutil.which(name) is None]
    if missing:
        return f"{' and '.join(missing)} missing: apt install iproute2 iptables"
    name = f"telex-probe-{os.getpid()}"
    try:
        _run(f"ip netns add {name}")
        try:
            _run("ip link add name t0 type veth peer name t1", name)
            _run("iptables -t nat -A POSTROUTING -j MASQUERADE", name)
        finally:
            _run(f"ip netns delete {name}")
    except (subprocess.SubprocessError, OSError) as error:
        said = getattr(error, "stderr", None) or str(error).encode()
        return f"no namespaces with NAT here: {said.decode().strip()}"
    return ""


@dataclass(frozen=True)
class Network:
    """Names of its namespaces."""

    public: str
    homes: tuple[str, str]
    nats: tuple[str, str]

    def outside(self, number: int) -> str:
        """The public address of a home."""
        return f"198.51.100.{11 + number}"


@contextmanager
def bare() -> Iterator[str]:
    """A namespace that has loopback and nothing else."""
    name = f"telex-{os.getpid()}-bare"
    _run(f"ip netns add {name}")
    try:
        _run("ip link set dev lo up", name)
        yield name
    finally:
        _remove(name)


@contextmanager
def network(kind: Kind) -> Iterator[Network]:
    """Make the namespaces; they are gone at the end, with whatever runs in them."""
    head = f"telex-{os.getpid()}"
    names = Network(
        f"{head}-pub", (f"{head}-h0", f"{head}-h1"), (f"{head}-n0", f"{head}-n1")
    )
    with ExitStack() as stack:
        for name in (names.public, *names.homes, *names.nats):
            _run(f"ip netns add {name}")
            stack.callback(_remove, name)
            _run("ip link set dev lo up", name)
        _run("ip link add name bridge type bridge", names.public)
        _up(names.public, "bridge", f"{PUBLIC}/24")
        for number in (0, 1):
            _home(names, number, kind)
        yield names


def _home(names: Network, number: int, kind: Kind) -> None:
    """A home, its NAT, and the wires between them and to the public side."""
    home, nat, public = names.homes[number], names.nats[number], names.public
    wire = "ip link add name {} type veth peer name {} netns {}"
    _run(wire.format("eth", "inside", nat), home)
    _run(wire.format("outside", f"nat{number}", public), nat)
    _up(home, "eth", f"10.{number}.0.2/24")
    _up(nat, "inside", f"10.{number}.0.1/24")
    _up(nat, "outside", f"{names.outside(number)}/24")
    _run(f"ip link set dev nat{number} master bridge up", public)
    _run(f"ip route add default via 10.{number}.0.1", home)
    _run("sysctl -qw net.ipv4.ip_forward=1", nat)
    fully = " --random-fully" if kind == "symmetric" else ""
    rules = [
        f"-t nat -A POSTROUTING -o outside -j MASQUERADE{fully}",
        # What nobody asked for leaves no trace: else the kernel would take another
        # port for our own packets to there.
        "-A INPUT -i outside -j DROP",
        "-A FORWARD -i outside -m state --state NEW,INVALID -j DROP",
    ]
    if kind == "closed":
        rules.append("-A FORWARD -p udp -j DROP")
    for rule in rules:
        _run(f"iptables -w {rule}", nat)


def _up(name: str, port: str, address: str) -> None:
    _run(f"ip addr add {address} dev {port}", name)
    _run(f"ip link set dev {port} up", name)


def _remove(name: str) -> None:
    with suppress(subprocess.SubprocessError):
        _run(f"ip netns delete {name}")


def _run(command: str, namespace: str = "") -> None:
    within = f"ip netns exec {namespace} " if namespace else ""
    words = f"{within}{command}".split()
    subprocess.run(words, check=True, capture_output=True, timeout=TIMEOUT)


def datagram_socket(namespace: str) -> socket.socket:
    """A UDP socket in a namespace, for use from here: it stays where it was made."""
    return inside(namespace, lambda: socket.socket(type=socket.SOCK_DGRAM))


def inside(namespace: str, make: Callable[[], T]) -> T:
    """What a function gives that runs in a namespace; processes stay there too."""
    libc = ctypes.CDLL(None, use_errno=True)

    def there() -> T:
        # A thread of its own, which ends: the namespace is the thread's.
        with open(f"/run/netns/{namespace}") as door:
            if libc.setns(door.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"no way into {namespace}")
        return make()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(there).result()


@contextmanager
def neighbours() -> Iterator[tuple[str, str]]:
    """Two homes on one wire, 10.9.0.2 and 10.9.0.3, without any NAT."""
    one, two = (f"telex-{os.getpid()}-{side}" for side in ("left", "right"))
    with ExitStack() as stack:
        for name in (one, two):
            _run(f"ip netns add {name}")
            stack.callback(_remove, name)
            _run("ip link set dev lo up", name)
            _run("sysctl -qw net.ipv6.conf.all.disable_ipv6=1", name)
        _run(f"ip link add name eth type veth peer name eth netns {two}", one)
        _up(one, "eth", "10.9.0.2/24")
        _up(two, "eth", "10.9.0.3/24")
        yield one, two


def move(home: str, address: str) -> None:
    """Take a home's address away and give it another."""
    _run("ip addr flush dev eth", home)
    _run(f"ip addr add {address}/24 dev eth", home)


class Peer:
    """`tests.media.nat_peer` in a namespace, which says one line for one line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self, **command: Any) -> dict[str, Any]:
        """Send a command, and what it answers."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        async with asyncio.timeout(TIMEOUT):
            line = await self._process.stdout.readline()
        assert line, "the peer has ended"
        answer: dict[str, Any] = json.loads(line)
        return answer


@asynccontextmanager
async def peer(namespace: str, ice: Ice) -> AsyncIterator[Peer]:
    """A peer in a namespace, ended at the end."""
    process = await asyncio.create_subprocess_exec(
        *("ip", "netns", "exec", namespace, sys.executable, "-m"),
        *("tests.media.nat_peer", msgspec.json.encode(ice).decode()),
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        limit=1 << 20,
    )
    try:
        yield Peer(process)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def call(one: Peer, other: Peer) -> tuple[dict[str, Any], dict[str, Any]]:
    """Let two peers call: descriptions at once, candidates as they are found.

    Returns:
        What each says when it hears the other.
    """
    offer = await one.ask(do="offer")
    answer = await other.ask(do="answer", sdp=offer["sdp"])
    await one.ask(do="accept", sdp=answer["sdp"])
    async with asyncio.timeout(TIMEOUT):
        while True:
            states = [await side.ask(do="wait") for side in (one, other)]
            await other.ask(do="add", lines=states[0]["lines"])
            await one.ask(do="add", lines=states[1]["lines"])
            if all(state["heard"] for state in states):
                return states[0], states[1]
