"""Calls of engines on two real nodes: what two people see and hear of each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.client.callers import Town
from tests.client.real_node import RealNode

pytestmark = pytest.mark.system


@pytest.fixture
async def town(nodes: list[RealNode], tmp_path: Path) -> AsyncIterator[Town]:
    async with AsyncExitStack() as stack:
        yield Town(nodes, tmp_path, stack)


async def test_one_rings_the_other_answers_and_hangs_up(town: Town) -> None:
    alice, bob, room = await town.pair()
    call = await alice.client.calls.start(room)
    assert call.state == "calling" and call.own
    rings = await bob.sees("incoming")
    assert (rings.account, rings.own, rings.room) == (alice.account, False, room)
    await alice.sees("ringing")
    assert alice.media.tones == ["ringback"] and bob.media.tones == ["ring"]
    await bob.client.calls.answer(rings.id)
    running = await alice.sees("running")
    assert [leg.device for leg in running.legs] == [bob.client.device]
    await bob.sees("running")
    assert alice.media.connected[0].open and bob.media.connected[0].open
    await alice.client.calls.set_muted(running.id, True)
    heard = await bob.sees("running")
    await asyncio.sleep(0)
    del heard
    await bob.hangs_up()
    await alice.sees("hung_up")
    assert alice.states == ["calling", "ringing", "connecting", "running", "hung_up"]
    assert bob.states == ["incoming", "connecting", "running", "hung_up"]
    for one, other in ((alice, bob), (bob, alice)):
        line = await one.line(room)
        assert line.code == "call_ended" and other.account in line.text
        assert not one.client.calls.calls and not one.media.legs
