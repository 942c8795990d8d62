"""Clients on real nodes: real TLS, real signatures, real checks, real SIGKILL."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest

from client import Client, Profile, State
from client.errors import NodeUntrusted
from protocol.credential import DEVICE_LIFETIME
from protocol.errors import UnknownAccount
from tests.client.people import PASSWORD, messages_of, online, room_of, texts, until
from tests.client.real_node import RealNode

pytestmark = pytest.mark.system

Enter = Callable[[RealNode, str], Awaitable[Client]]


@pytest.fixture
async def enter(tmp_path: Path) -> AsyncIterator[Enter]:
    """Registers accounts on real nodes and runs their clients."""
    async with AsyncExitStack() as stack:

        async def register(node: RealNode, name: str) -> Client:
            unique = f"{name}-{tmp_path.name.replace('_', '-')[-20:]}".strip("-")
            client, _ = await Client.register(
                node.profile(tmp_path / name),
                f"{unique}@{node.name}",
                invite="",
                password=PASSWORD,
            )
            await stack.enter_async_context(client)
            return await online(client)

        yield register


@pytest.mark.parametrize("there", [0, 1])
async def test_two_people_write_to_each_other(
    nodes: list[RealNode], enter: Enter, there: int
) -> None:
    alice = await enter(nodes[0], "alice")
    bob = await enter(nodes[there], "bob")
    room = await alice.start_direct(bob.account)
    await alice.send_text(room.id, "hello bob")
    await until(partial(room_of, bob, room.id))
    await until(partial(texts, bob, room.id), lambda t: t == ["hello bob"])
    await bob.send_text(room.id, "hello alice")
    both = ["hello bob", "hello alice"]
    await until(partial(texts, alice, room.id), lambda t: t == both)
    await until(
        partial(messages_of, bob, room.id, "hello alice"),
        lambda m: m[0].state is State.DELIVERED,
    )


@pytest.mark.parametrize("there", [0, 1])
async def test_a_group_with_every_change(
    nodes: list[RealNode], enter: Enter, there: int
) -> None:
    alice, bob, carol = [
        await enter(nodes[n], name)
        for n, name in ((0, "alice"), (there, "bob"), (there, "carol"))
    ]
    room = await alice.create_group("Garden", [bob.account])
    await until(
        partial(room_of, bob, room.id), lambda r: r is not None and r.title == "Garden"
    )
    await bob.add_members(room.id, [carol.account])
    await until(partial(room_of, carol, room.id))
    for client in (alice, bob, carol):
        await until(partial(client.members, room.id), lambda m: len(m) == 3)
        await client.send_text(room.id, f"from {client.account}")
    for client in (alice, bob, carol):
        await until(partial(texts, client, room.id), lambda t: len(t) == 3)
    await alice.remove_member(room.id, bob.account)
    gone = await until(
        partial(room_of, bob, room.id), lambda r: r is not None and not r.active
    )
    assert gone is not None and "removed" in gone.note
    await carol.rename(room.id, "Allotment")
    await until(
        partial(room_of, alice, room.id),
        lambda r: r is not None and r.title == "Allotment",
    )
    await carol.leave(room.id)
    await until(partial(alice.members, room.id), lambda m: len(m) == 1)


async def test_a_second_device_joins_the_rooms(
    nodes: list[RealNode],
    enter: Enter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("client.network.sync.JOIN_GRACE", 0.2)
    bob = await enter(nodes[1], "bob")
    account = f"twice@{nodes[0].name}"
    laptop, words = await Client.register(
        nodes[0].profile(tmp_path / "laptop"), account, invite="", password=PASSWORD
    )
    async with laptop:
        await online(laptop)
        room = await laptop.start_direct(bob.account)
        phone = await Client.login(
            nodes[0].profile(tmp_path / "phone"),
            account,
            password=PASSWORD,
            phrase=" ".join(words),
        )
        async with phone:
            await until(phone.rooms, lambda rooms: rooms and rooms[0].active)
            await bob.send_text(room.id, "to both")
            for device in (laptop, phone):
                await until(partial(texts, device, room.id), lambda t: "to both" in t)


async def test_nothing_is_lost_or_doubled_when_the_node_is_killed(
    nodes: list[RealNode], enter: Enter
) -> None:
    alice, bob = await enter(nodes[0], "alice"), await enter(nodes[1], "bob")
    room = await alice.start_direct(bob.account)
    await until(partial(room_of, bob, room.id))
    said = [f"word {n}" for n in range(30)]
    for n, text in enumerate(said):
        await alice.send_text(room.id, text)
        if n == 15:
            await until(partial(texts, bob, room.id), lambda t: len(t) >= 3)
            nodes[0].kill()
            await asyncio.to_thread(nodes[0].start)
    await until(partial(texts, bob, room.id), lambda t: len(t) >= 30)
    assert await texts(bob, room.id) == said
    assert await texts(alice, room.id) == said


async def test_the_certificate_must_be_trusted(
    nodes: list[RealNode], tmp_path: Path
) -> None:
    with pytest.raises(NodeUntrusted, match="certificate"):
        await Client.register(
            Profile(tmp_path / "x"),
            f"eve@{nodes[0].name}",
            invite="",
            password=PASSWORD,
        )


async def test_who_is_not_there_is_said_so(nodes: list[RealNode], enter: Enter) -> None:
    alice = await enter(nodes[0], "alice")
    for node in nodes:
        with pytest.raises(UnknownAccount):
            await alice.start_direct(f"nobody@{node.name}")


async def test_the_echo_bot_of_the_examples_answers(
    nodes: list[RealNode], enter: Enter, tmp_path: Path
) -> None:
    alice = await enter(nodes[0], "alice")
    account = f"bot-{tmp_path.name[:10].strip('_')}@{nodes[1].name}".replace("_", "-")
    bot = await asyncio.create_subprocess_exec(
        sys.executable,
        "examples/echo_bot.py",
        str(tmp_path / "bot"),
        account,
        "",
        str(nodes[1].ca),
        env={**os.environ, "TELEX_PASSWORD": PASSWORD},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert bot.stdout is not None
        assert b"is listening" in await bot.stdout.readline()
        room = await alice.start_direct(account)
        await alice.send_text(room.id, "anybody there?")
        await until(
            partial(texts, alice, room.id),
            lambda t: t == ["anybody there?", "echo: anybody there?"],
        )
        await until(
            partial(messages_of, alice, room.id, "anybody there?"),
            lambda m: m[0].state is State.READ,
        )
    finally:
        bot.terminate()
        await bot.wait()


async def test_a_node_takes_a_renewed_certificate(
    nodes: list[RealNode], enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = await enter(nodes[0], "alice"), await enter(nodes[1], "bob")
    old = alice._me.credential
    await alice.close()
    # A second of its year is gone: time for a new one.
    monkeypatch.setattr("client.account.renewal.RENEW_BEFORE", DEVICE_LIFETIME)
    await asyncio.sleep(1.1)
    async with await Client.open(alice.profile, password=PASSWORD) as again:
        await online(again)
        assert again._me.credential != old
        room = await again.start_direct(bob.account)
        await again.send_text(room.id, "as good as new")
        await until(partial(texts, bob, room.id), lambda t: len(t) == 1)
        # Whoever adds it from now on finds it in its account log.
        group = await bob.create_group("Garden", [again.account])
        await until(partial(room_of, again, group.id))


async def test_a_clock_that_is_hours_off_is_learned_from_the_refusal(
    nodes: list[RealNode], enter: Enter, tmp_path: Path
) -> None:
    alice = await enter(nodes[0], "alice")
    await alice.close()
    # With the URL given nobody asks for the discovery document and its time.
    profile = Profile(
        alice.profile.directory, nodes[0].ca, node_url=f"https://{nodes[0].name}"
    )
    client = await Client.open(profile, password=PASSWORD)
    client._clock.offset = -4 * 3600
    async with client:
        await online(client)
        assert abs(client._clock.offset) < 60
