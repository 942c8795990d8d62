"""Servers that do not answer: what they cost.

They are sockets of this machine that take what comes: a STUN server, and TURN servers
over udp and tcp. With them and without: how long a description takes, and a call of two
media processes from its offer until both are connected.
"""

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.calls.pair import LEG, pair
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
    with _holes() as dead:
        async with pair() as two:
            await two.call()
            await two.hang_up()
            for _ in range(rounds):
                for name, ice in (("no_servers", Ice()), ("dead_servers", dead)):
                    begun = time.monotonic()
                    await two.a.media.offer(LEG, ice)
                    offers[name].append(1000 * (time.monotonic() - begun))
                    await two.a.media.close(LEG)
                    setups[name].append(1000 * await two.call(ice=ice))
                    await two.hang_up()
    return [
        *(middle(f"offer_{name}", ms, "ms") for name, ms in offers.items()),
        *(middle(f"connected_{name}", ms, "ms") for name, ms in setups.items()),
    ]


@contextmanager
def _holes() -> Iterator[Ice]:
    """Servers that take what they are sent and never answer."""
    from media.rtc.ice import addresses

    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream,
    ):
        # As a leg does: from an address of ours there is a way to itself.
        host = next(one for one in addresses() if ":" not in one)
        for one in (datagrams, stream):
            one.bind((host, 0))
            one.setblocking(False)
        stream.listen()
        udp, tcp = (f"{host}:{one.getsockname()[1]}" for one in (datagrams, stream))
        yield Ice(
            (
                IceServer((f"stun:{udp}",)),
                IceServer(
                    (f"turn:{udp}?transport=udp", f"turn:{tcp}?transport=tcp"),
                    "user",
                    "password",
                ),
            )
        )
        try:
            datagrams.recv(2048)
            stream.accept()[0].close()
        except BlockingIOError:
            raise RuntimeError("the dead servers were not asked") from None
