"""Fixtures: a throw-away CA, and nodes that are stopped at the end."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import trustme

from federation.policy import PeerPolicy
from tests.federation.clock import FakeClock
from tests.federation.nodes import TestNode

MakeNode = Callable[..., Awaitable[TestNode]]


@pytest.fixture(scope="session")
def ca(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """A CA's certificate as a file, and a server's context that it issued."""
    authority = trustme.CA()
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return path, context


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still."""
    return FakeClock()


@pytest.fixture
async def make_node(ca: tuple[Path, ssl.SSLContext]) -> AsyncIterator[MakeNode]:
    """Starts nodes, each with its own name and store."""
    nodes: list[TestNode] = []

    async def make(
        clock: FakeClock | None = None,
        policy: PeerPolicy | None = None,
        start: bool = True,
    ) -> TestNode:
        node = TestNode(*ca, clock=clock, policy=policy)
        nodes.append(node)
        return await node.start() if start else node

    yield make
    for node in nodes:
        await node.stop()
