"""Servers that do not answer: what they cost.

They are sockets of this machine that take what comes: a STUN server, and TURN servers
over udp and tcp. With them and without: how long a description takes, and a call of two
media processes from its offer until both are connected. A call lasts until the servers
were asked in it: it is often connected before its turn to ask over tcp has come.
"""

import asyncio
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from bench.calls.pair import LEG, PATIENCE, pair
from bench.calls.process import environment
from bench.calls.report import Result, middle
from media.port import Ice, IceServer

__all__ = ["run"]


def run(folder: Path, rounds: int) -> list[Result]:
    """`rounds` calls with them, and as many without."""
    with environment({"TELEX_AUDIO": "null"}):
        return asyncio.run(_servers(rounds))


async def _servers(rounds: int) -> list[Result]:
    offers: dict[str, list[float]] = {"no_servers": [], "dead_servers": []}
    setups: dict[str, list[float]] = {"no_servers": [], "dead_servers": []}
    with _Holes() as holes:
        async with pair() as two:
            await two.call()
            await two.hang_up()
            for _ in range(rounds):
                for name, ice in (("no_servers", Ice()), ("dead_servers", holes.ice)):
                    begun = time.monotonic()
                    await two.a.media.offer(LEG, ice)
                    offers[name].append(1000 * (time.monotonic() - begun))
                    await two.a.media.close(LEG)
                    setups[name].append(1000 * await two.call(ice=ice))
                    if ice is holes.ice:
                        await holes.asked()
                    await two.hang_up()
    return [
        *(middle(f"offer_{name}", ms, "ms") for name, ms in offers.items()),
        *(middle(f"connected_{name}", ms, "ms") for name, ms in setups.items()),
    ]


class _Holes:
    """Servers that take what they are sent and never answer."""

    ice: Ice
    """They, as a node would name them."""

    def __enter__(self) -> Self:
        from media.rtc.ice import addresses

        # As a leg does: from an address of ours there is a way to itself.
        host = next(one for one in addresses() if ":" not in one)
        self._open = ExitStack()
        self._datagrams = self._bind(host, socket.SOCK_DGRAM)
        self._stream = self._bind(host, socket.SOCK_STREAM)
        self._stream.listen()
        udp, tcp = (
            f"{host}:{one.getsockname()[1]}" for one in (self._datagrams, self._stream)
        )
        turn = (f"turn:{udp}?transport=udp", f"turn:{tcp}?transport=tcp")
        self.ice = Ice(
            (IceServer((f"stun:{udp}",)), IceServer(turn, "user", "password"))
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _bind(self, host: str, kind: socket.SocketKind) -> socket.socket:
        made = self._open.enter_context(socket.socket(socket.AF_INET, kind))
        made.bind((host, 0))
        made.setblocking(False)
        return made

    async def asked(self) -> None:
        """Wait until both have been; who came over tcp is kept waiting to the end."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(PATIENCE):
                await loop.sock_recv(self._datagrams, 2048)
                caller, _ = await loop.sock_accept(self._stream)
                self._open.enter_context(caller)
        except TimeoutError:
            raise RuntimeError("the dead servers were not asked") from None
