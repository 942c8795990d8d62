"""Two devices of one account, for tests of what they share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from client import Client
from protocol.log import LogId
from tests.client.fake_node import FakeNode
from tests.client.people import ALICE, PASSWORD, online, profile, until

__all__ = ["Pair", "hidden", "pair", "register_of", "set_register"]


@dataclass
class Pair:
    """A laptop that registered, and a phone that logged in after it."""

    laptop: Client
    phone: Client
    words: str


async def hidden(client: Client) -> list[tuple[LogId, str]]:
    """The self groups that a device knows, with their status."""
    return await client._store.run(
        lambda tx: [
            (LogId(row[0]), str(row[1]))
            for row in tx.all(
                "SELECT id, status FROM room WHERE purpose = 'self' ORDER BY id"
            )
        ]
    )


async def set_register(client: Client, register: str, key: str, value: bytes) -> None:
    """Set a value as a feature does."""
    await client._store.run(lambda tx: client.self_group.set(tx, register, key, value))


async def register_of(client: Client, register: str, key: str) -> bytes:
    """A value, as a device has it."""
    return await client._store.run(lambda tx: client.self_group.get(tx, register, key))


@asynccontextmanager
async def pair(fake: FakeNode, tmp_path: Path) -> AsyncIterator[Pair]:
    """Both online, and in the self group."""
    laptop, words = await Client.register(
        profile(tmp_path, "laptop", fake.url), ALICE, invite="", password=PASSWORD
    )
    async with laptop:
        await online(laptop)
        phrase = " ".join(words)
        phone = await Client.login(
            profile(tmp_path, "phone", fake.url),
            ALICE,
            password=PASSWORD,
            phrase=phrase,
        )
        async with phone:
            await online(phone)
            await until(lambda: hidden(phone), lambda h: h and h[0][1] == "active")
            # The laptop says that the words were used; its owner knows.
            (alarm,) = await until(laptop.alarms)
            assert alarm.code == "recovered"
            await laptop.dismiss(alarm.id)
            yield Pair(laptop, phone, phrase)
