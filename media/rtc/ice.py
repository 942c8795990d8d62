"""Finding a way to the other side: ICE (RFC 8445) with candidates as they turn up.

aiortc waits for every STUN and TURN server before it describes itself, up to 5 s, and
takes one of each kind. Here a description carries the addresses of this machine, at
once; what servers find follows by itself (RFC 8838), as lines for the other side, and
is used here whether or not that side has heard of it.

This is the one module that reaches into aioice (0.13) and aiortc's ICE transport
(1.16): by instance, nothing is replaced for others. `INNARDS` names all that is
touched, and a test holds it against what is installed.

What is different from aioice, besides the waiting:

- several servers of each kind, and TURN over udp, tcp and tls side by side: udp is
  taken where it answers, the others pass firewalls that it does not;
- where nothing but a relay may be used, credentials that are refused are an error
  and not an empty list;
- a check by the other side has ours sent again at once: the first one dies at a NAT
  or relay that has not heard from inside yet, and would be repeated after 500 ms;
- 127.0.0.1 is a way if there is no other.
"""

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, Literal

import ifaddr
from aioice import Candidate, Connection, TransportPolicy, stun
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import CandidatePair, StunProtocol, relayed_candidate
from aiortc import RTCBundlePolicy, RTCConfiguration, RTCPeerConnection
from aiortc.rtcconfiguration import RTCIceTransportPolicy
from aiortc.rtcicetransport import RTCIceGatherer

from media.port import Ice, MediaError
from media.rtc.servers import Way, refusal, sort_servers
from protocol.ice_url import IceUrl

__all__ = ["INNARDS", "Gatherer", "addresses"]

log = logging.getLogger(__name__)

ANSWER = 10.0
"""Seconds that a server has: a lost packet or four, over a satellite."""

RELAY_WAIT = 1.0
"""Seconds that a description waits for a relay, where there may be nothing else."""

STAGGER = 0.1
"""Seconds that tcp waits for udp, and tls for tcp, before a server is asked over it:
where the first answers, the server is spared the others."""

UDP_WAIT = 0.75
"""Seconds for udp while something else works already: one lost packet is sent again
after 0.5. Sound over tcp waits for each packet that is lost, all call long."""

ADDRESSES_MAX = 12
"""Sockets of a leg: machines with containers have dozens of addresses, of which one or
two lead anywhere, and each is asked about at each STUN server."""

HURRIED_MAX = 2
"""Times that a check is sent again because the other side's came: it may be lost."""

REMOTES_MAX = 128
"""Addresses of the other side: those it named, and those its checks come from. It
could check from each port there is, and each would be checked in return."""

TRANSPORTS = "_RTCPeerConnection__iceTransports"
SET_STATE = "_RTCIceGatherer__setState"
REQUEST, ADDRESS = "_Transaction__request", "_Transaction__addr"

INNARDS: dict[type, tuple[str, ...]] = {
    RTCPeerConnection: (TRANSPORTS,),
    RTCIceGatherer: ("_connection", SET_STATE, "gather", "state"),
    Connection: (
        "_check_list_maybe_fail",
        "_closing",
        "_early_checks_done",
        "_local_candidates",
        "_local_candidates_end",
        "_local_candidates_start",
        "_nominated",
        "_pair_remote_candidate",
        "_protocols",
        "_remote_candidates",
        "_remote_candidates_expected",
        "_transport_policy",
        "check_incoming",
        "close",
        "get_component_candidates",
        "request_received",
        "sort_check_list",
    ),
    StunProtocol: ("close", "request", "send_stun", "transactions"),
    stun.Transaction: (REQUEST, ADDRESS),
    CandidatePair: ("local_candidate", "remote_candidate"),
}
"""What of aioice and aiortc is used that they do not promise."""

Found = Callable[[list[str]], None]

UDP = socket.SOCK_DGRAM

_leaving: set[asyncio.Task[None]] = set()
"""Relays of legs that have ended, until their servers know."""


def addresses() -> tuple[str, ...]:
    """The addresses of this machine by which others may reach it, sorted.

    Loopback only if there is nothing else. It takes well below a millisecond, so a
    call may ask each second: when the answer changes, the old way may be dead.
    """
    usable: set[str] = set()
    loopback: set[str] = set()
    for adapter in ifaddr.get_adapters():
        for entry in adapter.ips:
            if isinstance(entry.ip, str):
                text = entry.ip
            elif entry.ip[2] == 0:  # no scope: it means something elsewhere as well
                text = entry.ip[0]
            else:
                continue
            inside = ipaddress.ip_address(text).is_loopback
            (loopback if inside else usable).add(text)
    return tuple(sorted(usable or loopback))


def _chosen() -> list[str]:
    """Addresses to use: first those from which packets leave for anywhere."""
    leaving = set()
    for family, far in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::")):
        # Nothing is sent, and nobody is there; there may be no way, or no IPv6.
        with contextlib.suppress(OSError), socket.socket(family, UDP) as probe:
            probe.connect((far, 9))
            leaving.add(probe.getsockname()[0])
    found = sorted(addresses(), key=lambda address: address not in leaving)
    return found[:ADDRESSES_MAX]


class Gatherer:
    """The candidates of one leg.

    gatherer = Gatherer(ice, found)
    pc = RTCPeerConnection(gatherer.configure())
    ...                                   # tracks and channels, or the remote offer
    gatherer.attach(pc)
    await pc.setLocalDescription(...)     # at once; MediaError, see `attach`

    It ends with `pc.close()`.
    """

    def __init__(self, ice: Ice, found: Found) -> None:
        """Prepare.

        Args:
            ice: servers, and whether only relays may be used.
            found: gets `candidate:...` lines that are not in the description.
        """
        self._relay_only = ice.relay_only
        self._stun, self._turn = sort_servers(ice)
        self._found = found
        self._named = False
        self._done = False
        self._relay = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._hurried: Counter[bytes] = Counter()
        self._connection: Connection
        self._gatherer: RTCIceGatherer
        self.problem = ""
        """A sentence, if servers were asked for a relay and none gave one."""

    def configure(self) -> RTCConfiguration:
        """What the peer connection is made with."""
        policy = RTCIceTransportPolicy
        return RTCConfiguration(
            iceServers=[],  # None would be a server of somebody else
            bundlePolicy=RTCBundlePolicy.MAX_BUNDLE,
            iceTransportPolicy=policy.RELAY if self._relay_only else policy.ALL,
        )

    def attach(self, pc: RTCPeerConnection) -> None:
        """Gather for a connection that has its media lines and no description yet.

        It may be made otherwise than by `configure`, as long as it is bundled.
        Its `setLocalDescription` raises MediaError `no_relay` if only relays may be
        used and there is none within `RELAY_WAIT` seconds.
        """
        (transport,) = getattr(pc, TRANSPORTS)  # one: everything is bundled
        self._gatherer = transport.iceGatherer
        connection = self._connection = self._gatherer._connection
        if self._relay_only:
            connection._transport_policy = TransportPolicy.RELAY
        vars(self._gatherer).update(gather=self._gather)
        expected = connection._remote_candidates_expected
        vars(connection).update(
            close=self._closing(connection.close),
            check_incoming=self._hurrying(connection.check_incoming),
            request_received=self._bounding(connection.request_received),
            _remote_candidates_expected=lambda: not self._done or expected(),
        )

    @property
    def path(self) -> Literal["", "direct", "relayed"]:
        """By which way packets go; empty before there is one."""
        pair = self._connection._nominated.get(1)
        if pair is None:
            return ""
        ends = (pair.local_candidate.type, pair.remote_candidate.type)
        return "relayed" if "relay" in ends else "direct"

    # --- gathering ----------------------------------------------------------------

    async def _gather(self) -> None:
        """In place of `RTCIceGatherer.gather`: what is there at once."""
        if self._gatherer.state != "new":
            return
        # Not "completed" before servers were heard: an SDP that says so ends it.
        getattr(self._gatherer, SET_STATE)("gathering")
        connection = self._connection
        connection._local_candidates_start = True
        if not self._relay_only:
            connection._local_candidates += await connection.get_component_candidates(
                1, _chosen()
            )
        connection._local_candidates_end = True
        if (self._turn or self._stun) and not (self._relay_only and not self._turn):
            self._spawn(self._ask())
        else:
            self._finish()
        if self._relay_only:
            await self._wait_for_relay()
        self._named = True

    async def _wait_for_relay(self) -> None:
        if self._turn:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._relay.wait(), RELAY_WAIT)
        if not self._connection._local_candidates:
            raise MediaError("no_relay", self._no_relay())

    def _no_relay(self) -> str:
        """One sentence."""
        if not self._turn:
            return (
                "A call that hides your address needs a TURN server, and your node has "
                "none: ask its admin for `telex-node turn`, or let calls go directly."
            )
        why = self.problem or "the TURN server has not answered in time."
        return f"A call that hides your address cannot be made: {why}"

    async def _ask(self) -> None:
        """Ask all servers; what one finds waits for no other."""
        await asyncio.gather(self._ask_stun(), self._ask_turn())
        self._finish()

    def _finish(self) -> None:
        """Nothing more will be found."""
        self._done = True
        self._relay.set()
        getattr(self._gatherer, SET_STATE)("completed")
        if self._connection._early_checks_done:
            self._connection._check_list_maybe_fail()

    def _add(self, candidate: Candidate, protocol: StunProtocol | None = None) -> None:
        """Use a candidate here, and name it to the other side."""
        connection = self._connection
        connection._local_candidates.append(candidate)
        if protocol is not None:
            connection._protocols.append(protocol)
            for remote in connection._remote_candidates:
                connection._pair_remote_candidate(remote)
            connection.sort_check_list()
        if self._named:
            self._found([f"candidate:{candidate.to_sdp()}"])

    # --- STUN ---------------------------------------------------------------------

    async def _ask_stun(self) -> None:
        """Ask how each of our IPv4 sockets is seen from outside."""
        if self._relay_only:
            return
        await asyncio.gather(
            *(
                self._reflexive(protocol, url)
                for protocol in list(self._connection._protocols)
                if _is_ipv4(protocol.local_candidate.host)
                for url in self._stun
            )
        )

    async def _reflexive(self, protocol: StunProtocol, url: IceUrl) -> None:
        base = protocol.local_candidate
        try:
            async with asyncio.timeout(ANSWER):
                server = await _resolve(url)
                query = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
                answer, _ = await protocol.request(query, server)
                host, port = answer.attributes["XOR-MAPPED-ADDRESS"]
        except (OSError, ValueError, KeyError, stun.TransactionError) as error:
            log.info("STUN server %s: %s", url.host, str(error) or "no answer")
            return
        known = {(c.host, c.port) for c in self._connection._local_candidates}
        if not port or (host, port) in known or self._connection._closing:
            return
        self._add(
            Candidate(
                foundation=candidate_foundation("srflx", "udp", base.host),
                component=1,
                transport="udp",
                priority=candidate_priority(1, "srflx"),
                host=host,
                port=port,
                type="srflx",
                related_address=base.host,
                related_port=base.port,
            )
        )

    # --- TURN ---------------------------------------------------------------------

    async def _ask_turn(self) -> None:
        """Take the best relay of those that answer, and give back the others."""
        loop = asyncio.get_running_loop()
        until = loop.time() + UDP_WAIT
        asked = {
            asyncio.create_task(self._allocate(way)): way.rank for way in self._turn
        }
        best: tuple[int, StunProtocol] | None = None
        try:
            while asked and not (best and (best[0] == 0 or loop.time() >= until)):
                wait = None if best is None else max(0.0, until - loop.time())
                done, _ = await asyncio.wait(
                    asked, timeout=wait, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    rank, protocol = asked.pop(task), task.result()
                    if protocol is None:
                        continue
                    if best is not None and best[0] <= rank:
                        self._spawn(protocol.close())
                        continue
                    if best is not None:
                        self._spawn(best[1].close())
                    best = rank, protocol
        except asyncio.CancelledError:
            if best is not None:
                self._connection._protocols.append(best[1])  # closed with the others
            for task in asked:
                task.cancel()
            raise
        for task in asked:
            self._spawn(self._give_back(task))
        if best is not None:
            self.problem = ""
            self._add(best[1].local_candidate, best[1])
        self._relay.set()

    async def _allocate(self, way: Way) -> StunProtocol | None:
        """A relay; None if there is none, or none is needed any more."""
        await asyncio.sleep(way.rank * STAGGER)
        if self._relay.is_set():
            return None
        url = way.url
        try:
            async with asyncio.timeout(ANSWER):
                _, protocol = await relayed_candidate(
                    component=1,
                    hide_related_address=self._relay_only,
                    protocol_factory=lambda: StunProtocol(self._connection),
                    turn_server=(url.host, url.port),
                    turn_username=way.username,
                    turn_password=way.credential,
                    turn_ssl=url.scheme == "turns",
                    turn_transport=url.transport,
                )
                return protocol
        except (OSError, ValueError, stun.TransactionError) as error:
            problem = refusal(url, error)
            log.info("%s (%s)", problem, str(error) or "no answer in time")
            if not self.problem or isinstance(error, stun.TransactionFailed):
                self.problem = problem  # a refusal says more than silence
            return None

    async def _give_back(self, task: asyncio.Task[StunProtocol | None]) -> None:
        """End an allocation that came too late: it counts against a quota there."""
        protocol = await task
        if protocol is not None:
            await protocol.close()

    # --- in place of aioice's own ---------------------------------------------------

    def _closing(
        self, close: Callable[[], Coroutine[Any, Any, None]]
    ) -> Callable[[], Coroutine[Any, Any, None]]:
        async def ours() -> None:
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)
            # A server that is gone would be asked for 30 s to end the relay.
            for protocol in list(self._connection._protocols):
                if protocol.local_candidate.type == "relay":
                    self._connection._protocols.remove(protocol)
                    task = asyncio.create_task(protocol.close())
                    _leaving.add(task)
                    task.add_done_callback(_leaving.discard)
            await close()

        return ours

    def _bounding(self, request_received: Callable[..., None]) -> Callable[..., None]:
        def ours(
            message: stun.Message, addr: tuple[str, int], protocol: StunProtocol
        ) -> None:
            known = self._connection._remote_candidates
            if len(known) < REMOTES_MAX or addr in {(c.host, c.port) for c in known}:
                request_received(message, addr, protocol)

        return ours

    def _hurrying(self, check_incoming: Callable[..., None]) -> Callable[..., None]:
        def ours(
            message: stun.Message, addr: tuple[str, int], protocol: StunProtocol
        ) -> None:
            check_incoming(message, addr, protocol)
            for number, transaction in list(protocol.transactions.items()):
                if getattr(transaction, ADDRESS) != addr:
                    continue
                self._hurried[number] += 1
                if self._hurried[number] <= HURRIED_MAX:
                    protocol.send_stun(getattr(transaction, REQUEST), addr)

        return ours

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a part of ICE has failed", exc_info=task.exception())


async def _resolve(url: IceUrl) -> tuple[str, int]:
    """The server's IPv4 address."""
    found = await asyncio.get_running_loop().getaddrinfo(
        url.host, url.port, family=socket.AF_INET, type=socket.SOCK_DGRAM
    )
    host, port = found[0][4][:2]
    return str(host), int(port)


def _is_ipv4(text: str) -> bool:
    return ipaddress.ip_address(text).version == 4
