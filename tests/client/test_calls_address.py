"""A machine gets another address in mid-call: the call goes on from there.

The engines and their nodes are as ever; their media processes live in two network
namespaces with one wire between them, and one of the two is given another address.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("aiortc", reason="calls need: pip install 'telex[calls]'")

from media import process
from media.port import Levels, Sound
from media.supervisor import Media
from tests.client.callers import Caller, Town
from tests.client.real_node import RealNode
from tests.media.nat import inside, move, neighbours, why_not
from tests.media.test_process_call import sweep

pytestmark = pytest.mark.system


@pytest.fixture
async def town(nodes: list[RealNode], tmp_path: Path) -> AsyncIterator[Town]:
    async with AsyncExitStack() as stack:
        yield Town(nodes, tmp_path, stack)


async def hears(caller: Caller) -> None:
    """Wait until something comes out of the speaker."""
    heard = asyncio.Event()

    def look(value: object) -> None:
        if isinstance(value, Levels) and value.speaker > 0.02:
            heard.set()

    caller.client.calls.watch(look)
    async with asyncio.timeout(20):
        await heard.wait()
    caller.client.calls.watch(None)


async def test_a_call_goes_on_from_another_address(
    town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason := why_not():
        pytest.skip(reason)
    monkeypatch.setenv("TELEX_AUDIO", "null")
    sweep(tmp_path / "says.wav")
    sound = Sound(f"file-loop:{tmp_path}/says.wav", "", echo=False, noise=False)
    alice, bob, room = await town.pair()
    with neighbours() as homes:
        free, spawn = list(homes), process._spawn
        monkeypatch.setattr(
            process, "_spawn", lambda fd: inside(free.pop(), partial(spawn, fd))
        )
        for caller in (alice, bob):
            caller.client.calls.make_media = Media
            await caller.client.calls.set_sound(sound)
        call = await alice.client.calls.start(room)
        await bob.answers()
        for caller in (alice, bob):
            await caller.sees("running")
            await hears(caller)
        assert not free

        move(homes[0], "10.9.0.77")
        for caller in (alice, bob):
            await caller.sees("reconnecting")
        for caller in (alice, bob):
            assert (await caller.sees("running")).id == call.id
            await hears(caller)
        await alice.hangs_up()
        await bob.sees("hung_up")
