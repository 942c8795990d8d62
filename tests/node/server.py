"""Nodes in this process, on free ports, with keys and an empty database."""

import socket
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from node.accounts.password import Hasher
from node.app import Node
from node.config import Limits, Listen, Settings, Tls
from node.keys import create_keys
from node.storage.schema import migrate


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_settings(
    directory: Path, *, tls: Tls | None = None, **changes: Any
) -> Settings:
    """Settings of a new node on a free port, with its keys made."""
    port = free_port()
    name = f"localhost:{port}"
    data = directory / f"node-{port}"
    data.mkdir()
    seed = create_keys(data, name, int(time.time()))
    (directory / f"recovery-{port}.key").write_bytes(b64encode(seed))
    (data / "node.db").write_bytes(_empty_database())
    settings = Settings(
        name=name,
        data_dir=data,
        registration="open",
        listen=Listen(host="127.0.0.1", port=port),
        tls=tls or Tls(),
        limits=Limits(
            events_per_second=10_000,
            events_burst=10_000,
            requests_per_second=10_000,
            requests_burst=10_000,
        ),
    )
    return replace(settings, **changes)


@cache
def _empty_database() -> bytes:
    """A new node's database: migrated once, for all."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "node.db"
        migrate(path)
        return path.read_bytes()


def make_node(settings: Settings) -> Node:
    """A node that hashes log-in secrets with 1 MiB: a hundred registrations would
    take a minute else."""
    return Node(settings, hasher=Hasher(memory=1024 * 1024))


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Node]:
    """A node in this process, stopped at the end."""
    node = make_node(settings)
    await node.start()
    try:
        yield node
    finally:
        await node.stop()
