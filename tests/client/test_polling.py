"""Clients behind proxies that let no WebSocket through: they poll, and lose nothing."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import cast

import pytest

from client import Client, Profile
from client.network.polling import PollSession
from client.network.transport import Transport
from node.app import Node
from protocol.errors import Refused, TooMany
from protocol.log import LogId
from protocol.sync import Polled
from protocol.wire import Entries, Ready
from tests.client.people import PASSWORD, online, room_of, texts, until
from tests.client.upgrade_proxy import UpgradeProxy, Way
from tests.node.server import make_node, make_settings, running

Enter = Callable[[str, str], Awaitable[Client]]


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running(make_settings(tmp_path)) as node:
        yield node


@pytest.fixture
async def proxy(node: Node) -> AsyncIterator[UpgradeProxy]:
    proxy = UpgradeProxy(f"http://127.0.0.1:{node.port}")
    async with proxy.running():
        yield proxy


@pytest.fixture
async def enter(node: Node, tmp_path: Path) -> AsyncIterator[Enter]:
    """Registers accounts, each by way of a URL."""
    async with AsyncExitStack() as stack:

        async def register(name: str, url: str) -> Client:
            client, _ = await Client.register(
                Profile(tmp_path / name, node_url=url),
                f"{name}@{node.settings.name}",
                invite="",
                password=PASSWORD,
            )
            await stack.enter_async_context(client)
            return await online(client)

        yield register


async def chat(enter: Enter, proxy: UpgradeProxy) -> tuple[Client, Client, LogId]:
    """Alice behind the proxy, bob beside it, and their room."""
    alice = await enter("alice", proxy.url)
    bob = await enter("bob", proxy.node)
    room = await bob.start_direct(alice.account)
    await until(partial(room_of, alice, room.id))
    return alice, bob, room.id


async def talk(alice: Client, bob: Client, room: LogId, said: list[str]) -> None:
    """Both write; both read all of it, once."""
    for client in (alice, bob):
        await client.send_text(room, f"{len(said)} from {client.account}")
        said.append(f"{len(said)} from {client.account}")
        for reader in (alice, bob):
            await until(partial(texts, reader, room), lambda t: t == said)


@pytest.mark.parametrize("way", ["refuse", "strip", "cut", "hang up"])
async def test_where_no_websocket_passes_it_polls(
    proxy: UpgradeProxy, enter: Enter, way: Way
) -> None:
    proxy.way = way
    alice, bob, room = await chat(enter, proxy)
    said: list[str] = []
    for _ in range(2):
        await talk(alice, bob, room, said)
    assert proxy.polls > 2 and proxy.websockets == 0


async def test_where_one_passes_it_never_polls(
    proxy: UpgradeProxy, enter: Enter
) -> None:
    alice, bob, room = await chat(enter, proxy)
    await talk(alice, bob, room, [])
    assert (proxy.polls, proxy.websockets) == (0, 1)


async def test_it_goes_back_to_a_websocket(
    proxy: UpgradeProxy, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.network.polling.PROBE_FIRST", 0.1)
    monkeypatch.setattr("client.network.polling.POLL_SECONDS", 1)
    proxy.way = "refuse"
    alice, bob, room = await chat(enter, proxy)
    said: list[str] = []
    await talk(alice, bob, room, said)
    refused = proxy.upgrades

    async def probed() -> bool:
        return proxy.upgrades > refused

    await until(probed)
    await talk(alice, bob, room, said)  # a probe in vain costs nothing
    proxy.way = "pass"

    async def passed() -> bool:
        return proxy.websockets == 1

    await until(passed)
    await online(alice)
    polls = proxy.polls
    await talk(alice, bob, room, said)
    assert proxy.polls == polls and proxy.websockets == 1


async def test_answers_that_are_lost_come_again(
    proxy: UpgradeProxy, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.network.polling.TRY_PAUSE", 0.02)
    monkeypatch.setattr("client.network.pace.GAP", 0.05)
    monkeypatch.setattr("client.network.pace.FIRST_DELAY", 0.05)
    proxy.way, proxy.lose = "refuse", 2
    alice, bob, room = await chat(enter, proxy)
    said: list[str] = []
    while proxy.lost < 3:
        text = f"number {len(said)}"
        await bob.send_text(room, text)
        said.append(text)
        await until(partial(texts, alice, room), lambda t: t == said, seconds=30)


ROOM = LogId("mbx_" + "a" * 26)
PAGE = Entries(ROOM, 0, [], 0)


async def test_a_node_cannot_send_a_poll_away_for_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("client.network.polling.LAST_DELAY", 0.01)
    ready = Ready(0, ROOM)
    answers: list[Polled | Refused] = [
        Polled("one", [ready]),
        TooMany(retry_after=10**9),
        Polled("two", [PAGE]),
    ]

    class Answering:
        async def get(self, path: str, kind: type[Polled]) -> Polled:
            answer = answers.pop(0)
            if isinstance(answer, Refused):
                raise answer
            return answer

    async def no_websocket() -> bool:
        return False

    session = await PollSession.open(cast(Transport, Answering()), no_websocket)
    async with asyncio.timeout(5):
        assert await anext(session.frames()) == PAGE
    await session.close()


async def test_a_node_that_was_away_is_found_again(
    node: Node, proxy: UpgradeProxy, enter: Enter
) -> None:
    proxy.way = "refuse"
    alice, bob, room = await chat(enter, proxy)
    said: list[str] = []
    await talk(alice, bob, room, said)
    await node.stop()
    await alice.send_text(room, "while it was away")
    again = make_node(node.settings)
    await again.start()
    try:
        said.append("while it was away")
        for reader in (alice, bob):
            await until(partial(texts, reader, room), lambda t: t == said, seconds=30)
    finally:
        await again.stop()
