"""What tests of lying nodes share: quick looks, and accounts with two devices."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from client import Alarm, Client
from client.account import self_group
from client.verification import audit
from tests.client.fake_node import NAME, FakeNode
from tests.client.people import (
    PASSWORD,
    online,
    profile,
    until,
)

__all__ = ["alarmed", "at_once", "log_in", "looked", "two_devices"]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_group, "DELAY", 0.05)
    monkeypatch.setattr("client.network.sync.JOIN_GRACE", 0.1)
    monkeypatch.setattr(audit, "SPREAD", 1)
    monkeypatch.setattr(audit, "PAUSE", 0.01)


async def alarmed(client: Client, code: str) -> Alarm:
    """Wait for a client to have one alarm, and no other."""
    found = await until(client.alarms)
    assert [alarm.code for alarm in found] == [code]
    return found[0]


async def looked(client: Client) -> list[Alarm]:
    """Let a client look at everything, twice; what it says."""
    for _ in range(2):
        await client._audit.settle()
    return await client.alarms()


@asynccontextmanager
async def two_devices(
    fake: FakeNode, tmp_path: Path, name: str
) -> AsyncIterator[tuple[Client, str]]:
    """A device of an account, and the words to make another one."""
    client, words = await Client.register(
        profile(tmp_path, f"{name}-laptop", fake.url),
        f"{name}@{NAME}",
        invite="",
        password=PASSWORD,
    )
    async with client:
        yield await online(client), " ".join(words)


async def log_in(fake: FakeNode, tmp_path: Path, name: str, words: str) -> Client:
    """The account's second device."""
    return await Client.login(
        profile(tmp_path, f"{name}-phone", fake.url),
        f"{name}@{NAME}",
        password=PASSWORD,
        phrase=words,
    )
