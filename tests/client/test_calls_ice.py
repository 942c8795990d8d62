"""The servers that a node names for calls: asked for in time, and waited for never."""

from __future__ import annotations

import asyncio

import pytest

from client.calls import ice
from client.calls.ice import Servers
from client.errors import NodeUnreachable
from media.port import IceServer
from protocol.wire import IceServer as Named
from protocol.wire import IceServers


class Node:
    """What a node answers, and how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.down = False
        self.silent: asyncio.Event | None = None
        self.seconds = 600

    async def ask(self) -> IceServers:
        self.asked += 1
        if self.down:
            raise NodeUnreachable("It is down.")
        if self.silent is not None:
            await self.silent.wait()
        turn = Named(["turn:a.example"], f"user-{self.asked}", "planted")
        return IceServers([turn] * 30, self.seconds)


async def test_they_are_asked_for_once_and_again_when_half_their_time_is_over() -> None:
    node, now = Node(), [0.0]
    servers = Servers(node.ask, lambda: now[0])
    first = await servers.get()
    assert first[0] == IceServer(("turn:a.example",), "user-1", "planted")
    assert len(first) == ice.SERVERS_MAX and "planted" not in repr(first)
    await servers.get()
    assert node.asked == 1
    now[0] = 301.0
    node.silent = asyncio.Event()
    assert (await servers.get())[0].username == "user-1"  # nobody waits for new ones
    node.silent.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert (await servers.get())[0].username == "user-2"


async def test_a_node_that_is_away_or_slow_leaves_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ice, "PATIENCE", 0.001)
    node, now = Node(), [0.0]
    servers = Servers(node.ask, lambda: now[0])
    node.down = True
    assert await servers.get() == ()
    assert await servers.get() == () and node.asked == 1
    node.down, node.silent = False, asyncio.Event()
    now[0] = ice.AGAIN
    assert await servers.get() == ()
    node.silent.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert await servers.get()
    # They are over, and the node is away again.
    node.down, now[0] = True, 700.0
    assert await servers.get() == ()
    await servers.close()


async def test_what_a_node_says_is_bounded() -> None:
    node, now = Node(), [0.0]
    node.seconds = 10**12
    servers = Servers(node.ask, lambda: now[0])
    await servers.get()
    now[0] = ice.SECONDS_MAX + 1.0
    node.down = True
    assert await servers.get() == ()
