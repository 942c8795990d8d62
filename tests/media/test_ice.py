"""Candidates: those of the machine at once, those of servers whenever they answer."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import cast

import pytest

pytest.importorskip("aiortc", reason="calls need: pip install 'telex[calls]'")

import ifaddr
import trustme
from aioice import Candidate, Connection, stun
from aioice.ice import CandidatePair, StunProtocol
from aiortc import RTCPeerConnection
from aiortc.rtcicetransport import RTCIceGatherer
from aiortc.sdp import candidate_from_sdp

from media.port import Ice, IceServer, MediaError
from media.rtc import ice as ice_module
from media.rtc.ice import ADDRESSES_MAX, INNARDS, REMOTES_MAX, addresses
from tests.media.caller import CONNECT, Caller
from tests.media.coturn import Coturn, coturn, needs_coturn


@asynccontextmanager
async def callers(*ices: Ice) -> AsyncIterator[list[Caller]]:
    """Callers, closed at the end."""
    made = [Caller(ice) for ice in ices]
    try:
        yield made
    finally:
        await asyncio.gather(*(caller.pc.close() for caller in made))


async def connect(a: Caller, b: Caller, strip: Callable[[str], str] = str) -> None:
    """Let them call; each hears the other."""
    answer = await b.answer(strip(await a.offer()))
    await a.accept(strip(answer))
    await both_hear(a, b)


async def both_hear(a: Caller, b: Caller) -> None:
    async with asyncio.timeout(CONNECT):
        await asyncio.gather(a.heard.wait(), b.heard.wait())


def without_hosts(sdp: str) -> str:
    """A description that names no address of its machine."""
    lines = [line for line in sdp.splitlines() if " typ host" not in line]
    return "\r\n".join(lines) + "\r\n"


class Server(asyncio.DatagramProtocol):
    """Answers each STUN request with what a test says; None: never."""

    def __init__(self, answer: Callable[[stun.Message], bytes | None]) -> None:
        self.answer = answer
        self.asked = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.asked.set()
        if (reply := self.answer(stun.parse_message(data))) is not None:
            self.transport.sendto(reply, addr)


Serve = Callable[
    [Callable[[stun.Message], bytes | None]], Awaitable[tuple[str, Server]]
]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Makes servers on a wildcard address; gives `host:port` and the server."""
    made: list[Server] = []

    async def start(
        answer: Callable[[stun.Message], bytes | None],
    ) -> tuple[str, Server]:
        server = Server(answer)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: server, local_addr=("0.0.0.0", 0)
        )
        made.append(server)
        return f"127.0.0.1:{transport.get_extra_info('sockname')[1]}", server

    yield start
    for server in made:
        server.transport.close()


def silent(_: stun.Message) -> None:
    """Never answers."""


def seen_as(host: str, port: int) -> Callable[[stun.Message], bytes]:
    """Says that everybody comes from there."""

    def answer(request: stun.Message) -> bytes:
        attributes = {"XOR-MAPPED-ADDRESS": (host, port)}
        return bytes(
            stun.Message(
                stun.Method.BINDING,
                stun.Class.RESPONSE,
                request.transaction_id,
                attributes,
            )
        )

    return answer


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coturn]:
    """A TURN server over udp, tcp and tls, whose users hold four relays at most."""
    directory = tmp_path_factory.mktemp("coturn")
    authority = trustme.CA()
    cert = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    cert.cert_chain_pems[0].write_to_path(str(directory / "cert.pem"))
    cert.private_key_pem.write_to_path(str(directory / "key.pem"))
    options = [f"--cert={directory / 'cert.pem'}", f"--pkey={directory / 'key.pem'}"]
    with coturn(directory, *options, "--user-quota=4") as server:
        yield server


# --- what is relied on ------------------------------------------------------------


async def test_what_is_touched_inside_of_aioice_and_aiortc_is_there() -> None:
    assert version("aiortc") == "1.16.0" and version("aioice").startswith("0.13.")
    connection = Connection(ice_controlling=True)
    protocol = StunProtocol(connection)
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    candidate = Candidate("f", 1, "udp", 1, "127.0.0.1", 1, "host")
    protocol.local_candidate = candidate
    things = {
        RTCPeerConnection: RTCPeerConnection(),
        RTCIceGatherer: RTCIceGatherer(iceServers=[]),
        Connection: connection,
        StunProtocol: protocol,
        stun.Transaction: stun.Transaction(request, ("127.0.0.1", 1), protocol),
        CandidatePair: CandidatePair(protocol, candidate),
    }
    assert set(things) == set(INNARDS)
    for kind, names in INNARDS.items():
        missing = [name for name in names if not hasattr(things[kind], name)]
        assert not missing, f"{kind.__name__} has no {missing} any more"


async def test_a_peer_that_checks_from_each_port_is_not_followed() -> None:
    async with callers(Ice(), Ice()) as (a, b):
        await connect(a, b)
        ours = a.connection
        protocol = ours._nominated[1].protocol
        host, name = protocol.local_candidate.host, ours.local_username
        for port in range(1, 3 * REMOTES_MAX):
            check = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
            check.attributes["USERNAME"] = f"{name}:{ours.remote_username}"
            check.attributes["PRIORITY"] = 1
            check.attributes["ICE-CONTROLLED"] = 1
            check.add_message_integrity(ours.local_password.encode())
            protocol.datagram_received(bytes(check), (host, port))
        assert len(ours._remote_candidates) == REMOTES_MAX
        assert len(ours._check_list) < 2 * REMOTES_MAX * len(ours._protocols)


def test_loopback_is_an_address_only_where_there_is_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lo = ifaddr.Adapter(
        "lo",
        "lo",
        [ifaddr.IP("127.0.0.1", 8, "lo"), ifaddr.IP(("::1", 0, 0), 128, "lo")],
    )
    eth = ifaddr.Adapter(
        "eth0",
        "eth0",
        [
            ifaddr.IP("192.0.2.7", 24, "eth0"),
            ifaddr.IP(("fe80::1", 0, 3), 64, "eth0"),
            ifaddr.IP(("2001:db8::7", 0, 0), 64, "eth0"),
        ],
    )
    monkeypatch.setattr(ifaddr, "get_adapters", lambda: [lo, eth])
    assert addresses() == ("192.0.2.7", "2001:db8::7")
    monkeypatch.setattr(ifaddr, "get_adapters", lambda: [lo])
    assert addresses() == ("127.0.0.1", "::1")


async def test_of_dozens_of_addresses_those_that_lead_out_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A machine full of containers makes no description that others refuse."""
    own = addresses()
    bridges = [f"127.1.0.{number}" for number in range(1, 60)]  # they can be bound
    monkeypatch.setattr(
        ice_module, "addresses", lambda: tuple(sorted([*bridges, *own]))
    )
    async with callers(Ice()) as (a,):
        sdp = await a.offer()
    assert sdp.count(" typ host") == ADDRESSES_MAX * sdp.count("\r\nm=")
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return  # nothing leads out of this machine
        assert f" {probe.getsockname()[0]} " in sdp


async def test_a_machine_with_loopback_alone_calls_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lo = ifaddr.Adapter("lo", "lo", [ifaddr.IP("127.0.0.1", 8, "lo")])
    monkeypatch.setattr(ifaddr, "get_adapters", lambda: [lo])
    async with callers(Ice(), Ice()) as (a, b):
        await connect(a, b)
        assert a.gatherer.path == b.gatherer.path == "direct"


# --- servers that answer, and that do not -----------------------------------------


async def test_servers_that_never_answer_delay_nothing(serve: Serve) -> None:
    hole, asked = await serve(silent)
    with socket.socket() as closed:  # bound, and nobody listens: refused
        closed.bind(("127.0.0.1", 0))
        refused = f"127.0.0.1:{closed.getsockname()[1]}"
        urls = (f"stun:{hole}", f"turn:{hole}", f"turn:{refused}?transport=tcp")
        dead = Ice((IceServer(urls, "u", "p"),))
        async with callers(dead, dead) as (a, b):
            await connect(a, b)
            for caller in (a, b):
                sdp = caller.pc.localDescription.sdp
                assert " typ host" in sdp and "end-of-candidates" not in sdp
                assert caller.pc.iceGatheringState == "gathering"
                assert caller.gatherer.path == "direct" and not caller.lines
            async with asyncio.timeout(CONNECT):
                await asked.asked.wait()


async def test_a_description_without_servers_says_that_nothing_follows() -> None:
    async with callers(Ice()) as (a,):
        assert "a=end-of-candidates" in await a.offer()


async def test_what_stun_finds_follows_the_description(serve: Serve) -> None:
    where, _ = await serve(seen_as("203.0.113.7", 4242))
    hole, _ = await serve(silent)
    ice = Ice((IceServer((f"stun:{hole}",)), IceServer((f"stun:{where}",))))
    async with callers(ice) as (a,):
        offer = await a.offer()
        assert "203.0.113.7" not in offer
        line = await a.found_one("srflx")
        found = candidate_from_sdp(line.removeprefix("candidate:"))
        assert (found.ip, found.port, found.type) == ("203.0.113.7", 4242, "srflx")
        assert found.relatedAddress in addresses()
        # Once, though there may be several sockets that the server sees so.
        assert len([one for one in a.lines if "203.0.113.7 4242" in one]) == 1


async def test_senseless_answers_of_a_stun_server_do_no_harm(serve: Serve) -> None:
    def empty(request: stun.Message) -> bytes:
        kinds = (stun.Method.BINDING, stun.Class.RESPONSE)
        return bytes(stun.Message(*kinds, request.transaction_id))

    def error(request: stun.Message) -> bytes:
        kinds = (stun.Method.BINDING, stun.Class.ERROR)
        code = {"ERROR-CODE": (500, "no")}
        return bytes(stun.Message(*kinds, request.transaction_id, code))

    urls = [f"stun:{(await serve(answer))[0]}" for answer in (empty, error)]
    ice = Ice((IceServer((*urls, "stun:no such host", "turn:x y", "")),))
    async with callers(ice, ice) as (a, b):
        await connect(a, b)
        assert not a.lines


@needs_coturn
async def test_a_relay_found_late_is_used_where_nothing_else_leads(
    relay: Coturn,
) -> None:
    async with callers(Ice((relay.server(),)), Ice()) as (a, b):
        # Neither knows an address of the other, but for the relay of one of them.
        offer = without_hosts(await a.offer())
        line = await a.found_one("relay")
        answer = await b.answer(offer)
        await b.add(line)
        await a.accept(answer)
        await both_hear(a, b)
        hosts = {c.host for c in a.connection.remote_candidates}
        assert hosts <= set(addresses()) and a.connection.local_candidates
        relays = [p for p in b.connection._remote_candidates if p.type == "relay"]
        assert [c.port in relay.relays for c in relays] == [True]


@needs_coturn
async def test_a_relay_alone_names_and_uses_no_address_of_ours(relay: Coturn) -> None:
    ices = [Ice((relay.server(name=name),), relay_only=True) for name in "ab"]
    async with callers(*ices) as (a, b):
        await connect(a, b)
        for caller in (a, b):
            sdp = caller.pc.localDescription.sdp
            assert " typ relay raddr 0.0.0.0 rport 9" in sdp
            assert " typ host" not in sdp and " typ srflx" not in sdp
            assert not any(f" {own} " in sdp for own in addresses())
            assert caller.gatherer.path == "relayed"
            # Whatever reached it, also by itself (prflx), came out of the relay.
            for seen in caller.connection._remote_candidates:
                assert seen.host == "127.0.0.1" and seen.port in relay.relays
            kinds = {p.local_candidate.type for p in caller.connection._protocols}
            assert kinds == {"relay"}


@needs_coturn
@pytest.mark.parametrize("transport", ["tcp", "tls"])
async def test_a_firewall_that_stops_udp_is_passed(
    relay: Coturn, transport: str, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(relay.log.parent / "ca.pem"))
    hole, _ = await serve(silent)
    urls = (f"turn:{hole}", relay.url(transport, "localhost"))
    ices = [Ice((relay.server(*urls, name=n),), relay_only=True) for n in "cd"]
    async with callers(*ices) as (a, b):
        await connect(a, b)
        assert a.gatherer.path == "relayed" and not a.gatherer.problem


@needs_coturn
async def test_udp_is_preferred_and_what_is_not_needed_is_given_back(
    relay: Coturn,
) -> None:
    """More calls than a user may hold relays at one time: all are given back."""
    urls = (relay.url("tcp"), relay.url("udp"))
    ice = Ice((relay.server(*urls, name="often"),), relay_only=True)
    made = 0
    async with asyncio.timeout(CONNECT):
        while made < 6:
            async with callers(ice) as (a,):
                try:
                    await a.offer()
                except MediaError as error:
                    # coturn counts what was given back until its next second.
                    assert "relays too much already" in str(error)
                    await asyncio.sleep(0.1)
                    continue
                made += 1
                (protocol,) = a.connection._protocols
                inner = vars(protocol.transport)["_TurnTransport__inner_protocol"]
                assert str(inner) == "turn/udp"


@needs_coturn
async def test_a_leg_ends_though_its_turn_server_is_gone(tmp_path: Path) -> None:
    with coturn(tmp_path) as server:
        async with callers(Ice((server.server(),), relay_only=True)) as (a,):
            await a.offer()
            server.process.send_signal(signal.SIGSTOP)
            try:
                async with asyncio.timeout(CONNECT / 2):  # aioice asks for 31 s
                    await a.pc.close()
            finally:
                server.process.send_signal(signal.SIGCONT)


# --- why there is no relay ---------------------------------------------------------


async def refused(ice: Ice) -> str:
    async with callers(ice) as (a,):
        with pytest.raises(MediaError) as caught:
            await a.offer()
    assert caught.value.code == "no_relay"
    text = str(caught.value)
    assert "\n" not in text and text.endswith(".")
    return text


async def test_no_turn_server_at_all() -> None:
    stuns = IceServer(("stun:127.0.0.1:9",))
    assert "your node has none" in await refused(Ice((stuns,), relay_only=True))


async def test_no_turn_server_that_answers(serve: Serve) -> None:
    hole, _ = await serve(silent)
    ice = Ice((IceServer((f"turn:{hole}",), "u", "p"),), relay_only=True)
    assert "has not answered in time" in await refused(ice)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"turn:127.0.0.1:{closed.getsockname()[1]}?transport=tcp"
        ice = Ice((IceServer((url,), "u", "p"),), relay_only=True)
        assert "does not answer over tcp" in await refused(ice)


@needs_coturn
async def test_credentials_that_are_wrong_or_expired(relay: Coturn) -> None:
    for server in (
        IceServer((relay.url(),), "9999999999:x", "wrong"),
        relay.server(seconds=-1),
    ):
        text = await refused(Ice((server,), relay_only=True))
        assert "refuses the credentials of your node" in text
        assert server.credential not in text and server.username not in text


@needs_coturn
async def test_wrong_credentials_do_not_stop_a_direct_call(relay: Coturn) -> None:
    ice = Ice((IceServer((relay.url(),), "9999999999:x", "wrong"),))
    async with callers(ice, ice) as (a, b):
        await connect(a, b)
        assert a.gatherer.path == "direct"
