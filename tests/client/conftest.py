"""Fixtures of the client's tests: cheap passwords, a fake node, clients on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trustme

from client import Client
from client.account import packages
from client.enrol import profile as enrol_profile
from client.network import pace
from client.rooms import ranking, talk
from client.storage import keyfile
from client.storage.keyfile import Strength
from tests.client.fake_node import NAME, FakeNode, running
from tests.client.people import PASSWORD, online, profile
from tests.client.real_node import RealNode

Join = Callable[[str], Awaitable[Client]]


@pytest.fixture(autouse=True)
def weak_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argon2id with its real strength would be most of the tests' time."""
    monkeypatch.setattr(keyfile, "STRENGTH", Strength(1, 8192))
    monkeypatch.setattr(
        enrol_profile,
        "login_secret",
        lambda account, password: password.encode().ljust(32),
    )


@pytest.fixture(autouse=True)
def few_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred key packages for each of a hundred accounts take their time too."""
    monkeypatch.setattr(packages, "KEY_PACKAGES_WANTED", 10)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits that are there for people and for lines, not for what is tested."""
    monkeypatch.setattr(pace, "GAP", 0.02)
    monkeypatch.setattr(pace, "FIRST_DELAY", 0.1)
    monkeypatch.setattr(pace, "YOUNG_DELAY", 0.5)
    monkeypatch.setattr(pace, "LAST_DELAY", 0.5)
    monkeypatch.setattr(talk, "RECEIPT_DELAY", 0.1)
    monkeypatch.setattr(talk, "RECEIPT_GAP", 0.1)
    monkeypatch.setattr(ranking, "STEP", 0.5)


@pytest.fixture(scope="session")
def two_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RealNode]]:
    """Two real nodes of one private network, started when first asked for."""
    authority = trustme.CA()
    base = tmp_path_factory.mktemp("nodes")

    def make(n: int) -> RealNode:
        node = RealNode.create(base / str(n), authority)
        node.start()
        return node

    with ThreadPoolExecutor() as threads:  # most of it is waiting for processes
        made = list(threads.map(make, range(2)))
    yield made
    for node in made:
        node.stop()


@pytest.fixture
def nodes(two_nodes: list[RealNode]) -> list[RealNode]:
    """The two nodes, for tests that name their accounts as no other test does."""
    for node in two_nodes:
        if node.process is None:  # a test that stopped it broke off
            node.start()
    return two_nodes


@pytest.fixture
async def fake() -> AsyncIterator[FakeNode]:
    """A fake node."""
    async with running() as node:
        yield node


@pytest.fixture
async def join(fake: FakeNode, tmp_path: Path) -> AsyncIterator[Join]:
    """Registers accounts on the fake node and runs their clients."""
    async with AsyncExitStack() as stack:

        async def register(name: str) -> Client:
            client, _ = await Client.register(
                profile(tmp_path, name, fake.url),
                f"{name}@{NAME}",
                invite="",
                password=PASSWORD,
            )
            await stack.enter_async_context(client)
            return await online(client)

        yield register
