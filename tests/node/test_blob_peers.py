"""Blobs that lie on another node: two real nodes over HTTPS."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from node.config import Federation
from protocol.errors import (
    PeerBlocked,
    PeerRefused,
    PeerUnreachable,
    TooLarge,
    UnknownBlob,
)
from tests.node.blobs import blob_id, drop, files, get, listed, upload
from tests.node.phone import Phone, phone
from tests.node.server import make_node
from tests.node.world import World

BIG = os.urandom(700_000)


def kept(world: World, at: int) -> list[Path]:
    return files(world.settings[at].data_dir / "blobs")


@asynccontextmanager
async def people(world: World) -> AsyncIterator[tuple[Phone, Phone]]:
    async with (
        phone(world.nodes[0], "alice", tls=world.tls) as alice,
        phone(world.nodes[1], "bob", tls=world.tls) as bob,
    ):
        await alice.register()
        await bob.register()
        yield alice, bob


async def test_a_blob_of_another_node_is_copied_once(world: World) -> None:
    async with people(world) as (alice, bob):
        blob = await upload(alice, BIG)
        with pytest.raises(UnknownBlob):
            await get(bob, blob)
        answers = await asyncio.gather(*(get(bob, blob, alice.name) for _ in range(4)))
        assert [body for _, _, body in answers] == [BIG] * 4
        assert len(kept(world, 1)) == 1
        status, _, body = await get(bob, blob, alice.name, Range="bytes=699990-")
        assert (status, body) == (206, BIG[-10:])
        await world.nodes[0].stop()
        assert (await get(bob, blob, alice.name))[2] == BIG
        assert (await get(bob, blob))[2] == BIG
        assert (await listed(bob)).used == 0
        with pytest.raises(PeerUnreachable):
            await get(bob, blob_id(b"other"), alice.name)
        await world.restart(0)


async def test_a_copy_is_not_passed_on(world: World) -> None:
    async with people(world) as (alice, bob):
        blob = await upload(alice, BIG)
        await get(bob, blob, alice.name)
        await drop(alice, blob)
        with pytest.raises(UnknownBlob):
            await get(alice, blob, bob.name)
        await upload(bob, BIG)  # now it is kept there
        assert (await get(alice, blob, bob.name))[2] == BIG


@pytest.mark.parametrize("size", [100, 700_000])
async def test_a_node_that_sends_other_bytes(world: World, size: int) -> None:
    async with people(world) as (alice, bob):
        data = BIG[:size]
        blob = await upload(alice, data)
        (file,) = kept(world, 0)
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        if size == 100:
            with pytest.raises(PeerRefused):
                await get(bob, blob, alice.name)
        else:  # it broke off, so nobody takes it for the whole
            with pytest.raises(aiohttp.ClientError):
                await get(bob, blob, alice.name)
        assert kept(world, 1) == []
        file.write_bytes(data)
        assert (await get(bob, blob, alice.name))[2] == data


async def test_what_cannot_be_fetched(world: World) -> None:
    async with people(world) as (alice, bob):
        with pytest.raises(UnknownBlob):
            await get(bob, blob_id(b"nothing"), alice.name)
        with pytest.raises(PeerUnreachable):
            await get(bob, blob_id(b"nothing"), "localhost:1")
        blob = await upload(alice, BIG)
        settings = world.settings[1]
        limits = replace(settings.limits, blob_max=1000)
        blocked = Federation(policy="deny", domains=[alice.name])
        for changes, error in (
            ({"limits": limits}, TooLarge),
            ({"federation": blocked}, PeerBlocked),
        ):
            await world.nodes[1].stop()
            world.nodes[1] = make_node(replace(settings, **changes))
            await world.nodes[1].start()
            with pytest.raises(error):
                await get(bob, blob, alice.name)
        assert kept(world, 1) == []


async def test_nodes_ask_signed(world: World) -> None:
    async with people(world) as (alice, bob):
        blob = await upload(alice, BIG)
        path = f"/telex/fed/v1/blobs/{blob}"
        assert (await alice.send("GET", path, headers={}))[0] == 401
        assert (await alice.send("GET", path))[0] == 401  # a device is no node
        assert (await bob.send("GET", path))[0] == 401
