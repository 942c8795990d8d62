"""Legs between two homes behind NAT, with a real coturn outside."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiortc", reason="calls need: pip install 'telex[calls]'")

from media.port import Ice, IceServer
from tests.media.coturn import SECRET, Coturn, needs_coturn, run
from tests.media.nat import (
    PUBLIC,
    Kind,
    Network,
    bare,
    call,
    datagram_socket,
    network,
    peer,
    why_not,
)

PORT, TLS_PORT = 3478, 5349
"""In a namespace of its own every port is free."""

RELAYS = range(50_000, 50_100)

STUN = IceServer((f"stun:{PUBLIC}:{PORT}",))


@pytest.fixture(autouse=True)
def namespaces() -> None:
    """Skip where there can be none."""
    if reason := why_not():
        pytest.skip(reason)


@contextmanager
def homes(kind: Kind, directory: Path) -> Iterator[tuple[Network, IceServer]]:
    """Two homes behind NATs of a kind; the TURN server with its credentials."""
    with network(kind) as net:
        server = Coturn(PORT, TLS_PORT, RELAYS, directory / "coturn.log")
        arguments = [
            *("-n", f"--listening-ip={PUBLIC}", f"--relay-ip={PUBLIC}", "--no-cli"),
            *("--use-auth-secret", f"--static-auth-secret={SECRET}", "--no-tls"),
            *("--realm=example.org", "--fingerprint", f"--listening-port={PORT}"),
            *(f"--min-port={RELAYS[0]}", f"--max-port={RELAYS[-1]}", "--no-dtls"),
            # A relay into the homes would be a hole in their NATs.
            "--denied-peer-ip=10.0.0.0-10.255.255.255",
        ]
        within = ("ip", "netns", "exec", net.public)
        probe = datagram_socket(net.public)
        log = server.log
        with run(
            arguments, directory, log, PORT, within=within, host=PUBLIC, probe=probe
        ):
            urls = [f"turn:{PUBLIC}:{PORT}?transport={kind}" for kind in ("udp", "tcp")]
            yield net, server.server(*urls)


async def connected(net: Network, *ices: Ice) -> tuple[dict[str, Any], dict[str, Any]]:
    """Let the homes call, and say how they ended up."""
    async with peer(net.homes[0], ices[0]) as one, peer(net.homes[1], ices[-1]) as two:
        return await call(one, two)


@needs_coturn
async def test_ways_between_homes_whose_nats_keep_ports(tmp_path: Path) -> None:
    with homes("preserving", tmp_path) as (net, turn):
        # STUN alone is enough, and TURN beside it does not make a detour.
        for servers in ((STUN,), (STUN, turn)):
            one, two = await connected(net, Ice(servers))
            assert one["path"] == two["path"] == "direct"
            assert net.outside(1) in one["seen"] and net.outside(0) in two["seen"]
        # Who hides is seen nowhere but at the relay, by one who does not hide too.
        one, two = await connected(
            net, Ice((STUN, turn), relay_only=True), Ice((STUN, turn))
        )
        assert one["path"] == two["path"] == "relayed"
        assert two["seen"] == [PUBLIC]


@needs_coturn
async def test_nats_that_change_ports_take_a_relay(tmp_path: Path) -> None:
    with homes("symmetric", tmp_path) as (net, turn):
        one, two = await connected(net, Ice((STUN, turn)))
        assert one["path"] == two["path"] == "relayed"
        one, two = await connected(net, Ice((turn,), relay_only=True))
        assert one["path"] == two["path"] == "relayed"
        assert one["seen"] == two["seen"] == [PUBLIC]


@needs_coturn
async def test_homes_that_let_no_udp_out_relay_over_tcp(tmp_path: Path) -> None:
    with homes("closed", tmp_path) as (net, turn):
        one, two = await connected(net, Ice((STUN, turn)))
        assert one["path"] == two["path"] == "relayed"


async def test_a_machine_without_any_network_calls_itself() -> None:
    with bare() as name:
        async with peer(name, Ice()) as one, peer(name, Ice()) as two:
            states = await call(one, two)
    assert all(set(state["seen"]) <= {"127.0.0.1", "::1"} for state in states)
