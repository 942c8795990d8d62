"""Clients for tests: accounts on a node, and waiting for what should come."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from client import Client, Connection, Message, Profile, Room, State
from protocol.log import LogId
from tests.client.fake_node import NAME

__all__ = [
    "ALICE",
    "BOB",
    "CAROL",
    "PASSWORD",
    "all_bytes",
    "chat",
    "codes",
    "messages_of",
    "online",
    "opened",
    "state_of",
    "texts",
    "until",
]

PASSWORD = "a long password"
ALICE, BOB, CAROL = f"alice@{NAME}", f"bob@{NAME}", f"carol@{NAME}"
PATIENCE = 30.0
"""Seconds until a test gives up: far more than anything here takes."""

T = TypeVar("T")


async def until(
    look: Callable[[], Awaitable[T]],
    good: Callable[[T], object] = bool,
    *,
    seconds: float = PATIENCE,
) -> T:
    """Look again and again until what is seen is good."""
    end = time.monotonic() + seconds
    while True:
        seen = await look()
        if good(seen):
            return seen
        assert time.monotonic() < end, f"still {seen!r}"
        await asyncio.sleep(0.02)


async def online(client: Client) -> Client:
    """Wait until a client is connected and has read everything."""

    async def state() -> tuple[Connection, str]:
        return client.connection, client.connection_detail

    await until(state, lambda seen: seen[0] is Connection.ONLINE)
    return client


async def chat(join: Callable[[str], Awaitable[Client]]) -> tuple[Client, Client, Room]:
    """Two people, one of whom has said something; nothing is under way any more.

    The receipt is there too, so the next entry of the room is the one a test makes.
    """
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(BOB)
    await alice.send_text(room.id, "one")
    await until(
        partial(state_of, alice, room.id, "one"), lambda s: s is State.DELIVERED
    )
    return alice, bob, room


async def texts(client: Client, room: LogId) -> list[str]:
    """What was written in a room, as this client sees it."""
    return [m.text for m in await client.messages(room) if m.kind == "text"]


async def messages_of(client: Client, room: LogId, text: str) -> list[Message]:
    """The messages with a text."""
    return [m for m in await client.messages(room) if m.text == text]


async def room_of(client: Client, room: LogId) -> Room | None:
    """A room as it stands in a client's list."""
    return next((r for r in await client.rooms() if r.id == room), None)


def profile(tmp_path: Path, name: str, url: str | None) -> Profile:
    """Where a client lives."""
    return Profile(tmp_path / name, node_url=url)


async def codes(client: Client, room: LogId) -> list[str]:
    """The notices of a room, by code."""
    return [m.code for m in await client.messages(room) if m.kind == "notice"]


def all_bytes(folder: Path) -> bytes:
    """Everything that lies in a folder."""
    return b"".join(p.read_bytes() for p in folder.rglob("*") if p.is_file())


async def state_of(client: Client, room: LogId, text: str) -> State:
    """What became of the one message with this text."""
    (message,) = await messages_of(client, room, text)
    return message.state


@contextlib.asynccontextmanager
async def opened(tmp_path: Path, name: str, url: str | None) -> AsyncIterator[Client]:
    """A client of a profile that exists already."""
    async with await Client.open(
        profile(tmp_path, name, url), password=PASSWORD
    ) as client:
        yield client


async def lose_keys(client: Client, room: LogId) -> None:
    """As if the room's keys were gone from the disk."""
    await client._store.run(lambda tx: client._groups.drop(tx, room))
