"""A bad network between two legs: a UDP relay in a thread of its own.

Each side takes the relay for the other one:

    relay = Relay(Path(loss=0.05, delay=0.025))
    answer = await bob.answer(relay.rewrite("a", await alice.offer()))
    await alice.accept(relay.rewrite("b", answer))
    ...
    relay.set(Path(rate=450_000))       # in mid-call, both ways
    relay.cut(); relay.restore()        # as if the cable was pulled
    relay.close()

`rewrite` replaces all candidates of a description by a port of the relay; candidates
that follow later must not be passed on, or the legs find a way around it. What is
lost is decided by a fixed seed, so that a run can be repeated (the packets that it
hits are others, as calls have no fixed seed).
"""

import asyncio
import math
import random
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

__all__ = ["Counts", "Path", "Relay", "Side"]

Side = Literal["a", "b"]
OTHER: dict[Side, Side] = {"a": "b", "b": "a"}

HEADERS = 28
"""Bytes of UDP and IPv4, which a link carries as well."""


@dataclass(frozen=True)
class Path:
    """What happens to packets in one direction."""

    loss: float = 0.0
    """Share of packets lost in the long run (0 to 1)."""
    burst: float = 1.0
    """Mean number of packets lost in a row (Gilbert-Elliott); 1: none follows."""
    delay: float = 0.0
    """Seconds, one way."""
    jitter: float = 0.0
    """Seconds: standard deviation of a normal distribution, of which each packet is
    late by the absolute value; no packet overtakes another by it."""
    rate: int | None = None
    """Bits a second that the link carries; None: any."""
    queue: float = 0.2
    """Seconds of packets that wait for the link; what is beyond is lost."""
    duplicate: float = 0.0
    """Share of packets that come twice."""
    reorder: float = 0.0
    """Share of packets that come 30 ms later than their turn."""
    cut: bool = False
    """Whether nothing comes through at all."""


@dataclass
class Counts:
    """What happened to packets of one direction so far."""

    packets: int = 0
    """That came in."""
    bytes: int = 0
    lost: int = 0
    """By chance, or cut."""
    dropped: int = 0
    """As the queue was full."""
    sizes: list[int] = field(default_factory=list)
    """Bytes of the last packets that came in, 10,000 at most."""


class Direction:
    """The state of one direction."""

    def __init__(self, path: Path, seed: int) -> None:
        self.path = path
        self.counts = Counts()
        self._random = random.Random(seed)
        self._bad = False
        self._free = 0.0
        """When the link has sent all that waits."""
        self._last = 0.0
        """When the last packet comes out."""

    def arrivals(self, size: int, now: float) -> list[float]:
        """When a packet that comes in now comes out: never, once or twice."""
        counts, path = self.counts, self.path
        counts.packets += 1
        counts.bytes += size
        if len(counts.sizes) < 10_000:
            counts.sizes.append(size)
        if path.cut or self._is_lost(path):
            counts.lost += 1
            return []
        at = now
        if path.rate is not None:
            start = max(self._free, now)
            if start - now > path.queue:
                counts.dropped += 1
                return []
            self._free = at = start + (size + HEADERS) * 8 / path.rate
        at += path.delay
        if path.jitter:
            at += abs(self._random.gauss(0, path.jitter))
        if path.reorder and self._random.random() < path.reorder:
            return [at + 0.03]
        self._last = at = max(at, self._last)
        twice = path.duplicate and self._random.random() < path.duplicate
        return [at, at + 0.001] if twice else [at]

    def _is_lost(self, path: Path) -> bool:
        """Gilbert-Elliott: good loses nothing, bad everything."""
        if not path.loss:
            return False
        leave = 1 / max(path.burst, 1 / (1 - path.loss))
        enter = leave * path.loss / (1 - path.loss)
        threshold = leave if self._bad else enter
        if self._random.random() < threshold:
            self._bad = not self._bad
        return self._bad


class Port(asyncio.DatagramProtocol):
    """The relay's socket that one side sends to."""

    transport: asyncio.DatagramTransport

    def __init__(self, heard: Callable[[bytes, tuple[str, int]], None]) -> None:
        self._heard = heard

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._heard(data, (addr[0], addr[1]))

    def error_received(self, exc: Exception) -> None:
        """A side has closed its socket: that is its affair."""


class Relay:
    """See the module; `close` it in the end."""

    def __init__(
        self, path: Path = Path(), back: Path | None = None, seed: int = 1
    ) -> None:
        """Start it.

        Args:
            path: from side `a` to side `b`, and the same way back unless
            back: says otherwise.
            seed: of all chance.
        """
        self._directions: dict[Side, Direction] = {
            "a": Direction(path, seed),
            "b": Direction(back or path, seed + 1),
        }
        self._ports: dict[Side, Port] = {}
        self._addresses: dict[Side, tuple[str, int]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def rewrite(self, side: Side, sdp: str) -> str:
        """The description of a side, as the other one is to see it."""
        lines = sdp.splitlines()
        own = [line for line in lines if line.startswith("a=candidate:")]
        usable = [line.split() for line in own if ":" not in line.split()[4]]
        host, port = usable[0][4], int(usable[0][5])
        self._addresses.setdefault(side, (host, port))
        if not self._ports:
            asyncio.run_coroutine_threadsafe(self._bind(host), self._loop).result(5)
        # The other side sends to its own port here, and takes that for this side.
        seen = self._ports[OTHER[side]].transport.get_extra_info("sockname")
        candidate = f"a=candidate:1 1 udp 2130706431 {seen[0]} {seen[1]} typ host"
        kept = [line for line in lines if line not in own]
        first = next(i for i, line in enumerate(kept) if line.startswith("m="))
        kept.insert(first + 1, candidate)
        return "\r\n".join(kept) + "\r\n"

    async def _bind(self, host: str) -> None:
        sides: tuple[Side, Side] = ("a", "b")
        for side in sides:

            def heard(data: bytes, address: tuple[str, int], side: Side = side) -> None:
                self._addresses[side] = address
                self.heard(side, data)

            _, port = await self._loop.create_datagram_endpoint(
                lambda heard=heard: Port(heard),  # type: ignore[misc]
                local_addr=(host, 0),
                family=socket.AF_INET,
            )
            self._ports[side] = port

    def heard(self, side: Side, data: bytes) -> None:
        """A packet came from a side; in the relay's thread. Tests override this."""
        now = self._loop.time()
        for at in self._directions[side].arrivals(len(data), now):
            if at <= now:
                self.send(OTHER[side], data)
            else:
                self._loop.call_at(at, self.send, OTHER[side], data)

    def send(self, side: Side, data: bytes) -> None:
        """Give a packet to a side; in the relay's thread."""
        if side in self._addresses and not self._ports[side].transport.is_closing():
            self._ports[side].transport.sendto(data, self._addresses[side])

    def set(self, path: Path, back: Path | None = None) -> None:
        """Change the network from now on, both ways."""
        self._directions["a"].path = path
        self._directions["b"].path = back or path

    def cut(self) -> None:
        """Let nothing through."""
        for direction in self._directions.values():
            direction.path = replace(direction.path, cut=True)

    def restore(self) -> None:
        """Let everything through again that comes through by the other settings."""
        for direction in self._directions.values():
            direction.path = replace(direction.path, cut=False)

    def counts(self, side: Side) -> Counts:
        """Of packets that came from a side."""
        return self._directions[side].counts

    def lost(self) -> float:
        """Share of all packets that did not come through."""
        both = [direction.counts for direction in self._directions.values()]
        gone = sum(counts.lost + counts.dropped for counts in both)
        total = sum(counts.packets for counts in both)
        return gone / total if total else math.nan

    def close(self) -> None:
        """End the thread and give back the ports."""

        def stop() -> None:
            for port in self._ports.values():
                port.transport.close()
            self._loop.call_soon(self._loop.stop)

        self._loop.call_soon_threadsafe(stop)
        self._thread.join(5)
        self._loop.close()
