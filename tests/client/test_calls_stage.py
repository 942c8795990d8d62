"""What is wanted of the media process and what is not any more; who a device is."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from client.calls.stage import Stage
from client.calls.values import Accept, Add, Close, Offer, Open
from client.errors import CallRefused
from client.model import RoomChanged, Trust
from media.port import Ice, MediaError
from tests.client.callers import Town
from tests.client.fake_media import Air, FakeMedia
from tests.client.people import room_of, until
from tests.client.test_calls import running, town

__all__ = ["town"]


class Slow(FakeMedia):
    """A media process that notes what it was asked, and accepts when it is let."""

    def __init__(self) -> None:
        super().__init__(Air())
        self.asked: list[str] = []
        self.begun, self.let = asyncio.Event(), asyncio.Event()
        self.closed = asyncio.Semaphore(0)

    async def accept(self, leg: str, answer: str) -> None:
        self.begun.set()
        await self.let.wait()

    async def open(self, leg: str) -> None:
        self.asked.append("open")

    async def close(self, leg: str) -> None:
        self.closed.release()


async def test_no_microphone_opens_after_the_end() -> None:
    media = Slow()
    told: list[object] = []

    async def ice() -> Ice:
        return Ice()

    def failed(leg: str, error: MediaError) -> None:
        told.append(error)

    stage = Stage(lambda: media, ice, lambda leg, sdp: told.append(sdp), failed)
    stage.take(Accept("a", "sdp"))
    stage.take(Open("a"))
    stage.take(Add("a", ("candidate:1",)))
    await media.begun.wait()
    stage.take(Close("a"))
    stage.take(Offer("b"))
    stage.take(Close("b"))
    media.let.set()
    for _ in "ab":
        await media.closed.acquire()
    # Nor is a leg made that nobody wants by now.
    assert not media.asked and not media.legs and not told
    await stage.close()


@pytest.mark.system
async def test_who_it_is_stands_for_the_device_that_calls(town: Town) -> None:
    alice, bob, room = await town.pair()

    async def change(statement: str, *values: object) -> None:
        await alice.client._store.run(lambda tx: tx.execute(statement, *values))

    async def becomes(trust: Trust) -> None:
        async def look() -> list[Trust]:
            return [leg.trust for leg in alice.seen[-1].legs]

        await until(look, lambda found: found == [trust])

    await running(bob, alice, room)
    await becomes(Trust.UNVERIFIED)
    # A group with his name is not he.
    group = await alice.client.create_group(bob.account, [])
    fake = replace(group, trust=Trust.VERIFIED)
    alice.client.calls.noted([RoomChanged(fake)])
    (leg,) = alice.client.calls.calls[0].legs
    assert leg.trust is Trust.UNVERIFIED
    now = await room_of(alice.client, room)
    assert now is not None
    for statement, values, trust in (
        ("UPDATE contact SET verified_root = root", (), Trust.VERIFIED),
        (
            "INSERT INTO suspect VALUES (?, 'unlisted', 0)",
            (bob.client.device,),
            Trust.UNVERIFIED,
        ),
        ("DELETE FROM suspect", (), Trust.VERIFIED),
        ("UPDATE contact SET other_root = x'00'", (), Trust.CHANGED),
    ):
        await change(statement, *values)
        alice.client.calls.noted([RoomChanged(now)])
        await becomes(trust)


@pytest.mark.system
async def test_what_was_switched_in_one_call_is_not_in_the_next(town: Town) -> None:
    alice, bob, room = await town.pair()
    first = await running(alice, bob, room)
    alice.media.opening = asyncio.Event()
    camera = asyncio.create_task(alice.client.calls.set_camera(first.id, "cam"))
    await until(lambda: asyncio.sleep(0, alice.media._cameras.locked()))
    await bob.hangs_up()
    await alice.sees("hung_up")
    rings = alice.client.calls.start(room)
    second = (await rings).id
    await alice.client.calls.set_muted(second, True)
    alice.media.opening.set()
    await camera
    await until(lambda: asyncio.sleep(0, not alice.media.camera))
    assert alice.now is not None and alice.media.muted
    assert (alice.now.muted, alice.now.camera) == (True, "")
    # Before a call is taken nobody is seen, and the switches are those of one call.
    with pytest.raises(CallRefused, match="not answered yet"):
        await bob.client.calls.set_camera((await bob.sees("incoming")).id, "cam")
    assert not bob.media.camera
