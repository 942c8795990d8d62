"""A node and two people on it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from node.app import Node
from tests.node.phone import Phone, phone
from tests.node.server import make_settings, running
from tests.node.world import World, two_nodes


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    """A node that anybody may register on."""
    async with running(make_settings(tmp_path)) as node:
        yield node


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Two nodes that know of each other's names."""
    async with two_nodes(tmp_path) as world:
        yield world


@pytest.fixture
async def alice(node: Node) -> AsyncIterator[Phone]:
    """A registered device."""
    async with phone(node, "alice") as device:
        await device.register()
        yield device


@pytest.fixture
async def bob(node: Node) -> AsyncIterator[Phone]:
    """Another, with key packages."""
    async with phone(node, "bob") as device:
        await device.register()
        await device.upload_packages()
        yield device
