"""Two real nodes: lost keys, an old copy of a database, and what was missed."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trustme

from client import Client
from client.account import packages
from client.model import DATABASE_FILE
from client.rooms import resending
from client.storage import keyfile
from client.storage.keyfile import Strength
from protocol.log import LogId
from tests.client.people import PASSWORD, codes, messages_of, online, room_of, texts
from tests.client.people import until as until_seen
from tests.client.real_node import RealNode

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

NUMBERS = itertools.count()
"""So that each account has a name of its own."""

Enter = Callable[[int, str], Awaitable[Client]]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RealNode]]:
    authority = trustme.CA()
    base = tmp_path_factory.mktemp("repair")
    made = [RealNode.create(base / str(n), authority) for n in range(2)]
    for node in made:
        node.start()
    yield made
    for node in made:
        node.stop()


@pytest.fixture
async def enter(
    nodes: list[RealNode], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Enter]:
    monkeypatch.setattr(keyfile, "STRENGTH", Strength(1, 8192))
    monkeypatch.setattr(resending, "COPY_DELAY", 500)
    monkeypatch.setattr(packages, "KEY_PACKAGES_WANTED", 10)
    async with AsyncExitStack() as stack:

        async def register(node: int, name: str) -> Client:
            client, _ = await Client.register(
                nodes[node].profile(tmp_path / name),
                f"{name}{next(NUMBERS)}@{nodes[node].name}",
                invite="",
                password=PASSWORD,
            )
            await stack.enter_async_context(client)
            return await online(client)

        yield register


async def until(look: Callable[[], Awaitable[object]], good: object) -> None:
    """Wait for something to be seen; real nodes take their time."""
    await until_seen(look, lambda seen: seen == good, seconds=30)


async def test_a_device_at_a_follower_joins_again_and_reads_what_it_missed(
    enter: Enter,
) -> None:
    alice, bob = await enter(0, "alice"), await enter(1, "bob")
    room = (await alice.start_direct(bob.account)).id
    await until_seen(lambda: room_of(bob, room), seconds=30)
    await bob.close()
    await alice.send_text(room, "while you were away")
    await until_seen(
        lambda: messages_of(alice, room, "while you were away"),
        lambda m: m[0].seq is not None,
    )
    async with await Client.open(bob.profile, password=PASSWORD) as back:
        await back._store.run(lambda tx: back._groups.drop(tx, room))
        await back.send_text(room, "I lost my keys")
        await until(
            lambda: texts(back, room), ["while you were away", "I lost my keys"]
        )
        await until(
            lambda: texts(alice, room), ["while you were away", "I lost my keys"]
        )
        assert (await codes(alice, room)).count("rejoined") == 1
        await until(back.doctor.examine, [])


async def test_an_old_copy_of_a_database_spends_no_key_twice(enter: Enter) -> None:
    alice, bob = await enter(0, "alice"), await enter(1, "bob")
    room = (await alice.create_group("Garden", [bob.account])).id
    await until_seen(lambda: room_of(bob, room), seconds=30)
    await bob.close()
    database = bob.profile.directory / DATABASE_FILE
    old = database.read_bytes()
    async with await Client.open(bob.profile, password=PASSWORD) as newer:
        await online(newer)
        await newer.send_text(room, "one")
        await until(lambda: texts(alice, room), ["one"])
        await until_seen(lambda: acked(newer, room), seconds=30)
    database.write_bytes(old)
    async with await Client.open(bob.profile, password=PASSWORD) as back:
        await back.send_text(room, "two")
        await until(lambda: texts(alice, room), ["one", "two"])
        seen = await codes(alice, room)
        assert "rejoined" in seen
        assert not {"generation_used", "decryption_failed", "no_keys"} & set(seen)
        await until_seen(
            lambda: back.messages(room),
            lambda m: any(
                line.code == "copied" and line.text.endswith(": one") for line in m
            ),
            seconds=30,
        )


async def acked(client: Client, room: LogId) -> bool:
    """Whether the client has its own message back from the hub."""
    (message,) = await messages_of(client, room, "one")
    return message.seq is not None
