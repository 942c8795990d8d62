"""Long polling: the same frames as over a WebSocket, whatever answer gets lost."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from node.app import Node
from protocol.codec import decode_json, encode
from protocol.errors import BadRequest, SessionReplaced, TooMany, UnknownRoom
from protocol.limits import BATCH_ENTRIES, WINDOW_BYTES
from protocol.log import LogId, read_entry
from protocol.presence import People, Presence, Typing
from protocol.sync import Polled
from protocol.wire import (
    AckFrame,
    Empty,
    Entries,
    FromNode,
    ProblemFrame,
    Ready,
    Rooms,
    SubmitFrame,
)
from tests.node.phone import Phone, Room, further_phone, phone, revocation
from tests.node.server import make_node, make_settings, running

SYNC = "/telex/v1/sync"


class Poller:
    """A device that polls."""

    def __init__(self, device: Phone) -> None:
        self.device = device
        self.session = ""

    async def poll(
        self, seconds: int = 0, session: str | None = None
    ) -> list[FromNode]:
        """The next frames; the session goes on with the next poll."""
        name = self.session if session is None else session
        query = f"timeout={seconds}" + (f"&session={name}" if name else "")
        answer = await self.device.call("GET", SYNC, None, Polled, query=query)
        self.session = answer.session
        return answer.frames

    async def entries(self, log: LogId, count: int) -> list[int]:
        """The seqs of the next entries of a log, which must follow each other."""
        seqs: list[int] = []
        while len(seqs) < count:
            for frame in await self.poll(seconds=5):
                if isinstance(frame, Entries) and frame.log == log:
                    found = [read_entry(data).seq for data in frame.entries]
                    assert found[0] == frame.after + 1
                    seqs += found
        assert seqs == list(range(seqs[0], seqs[0] + count))
        return seqs

    async def ack(self, **cursors: int) -> None:
        """Say how far logs are on disk."""
        body = AckFrame({LogId(log): seq for log, seq in cursors.items()})
        await self.device.call("POST", "/telex/v1/acks", body, Empty)


async def say(device: Phone, room: Room, count: int, size: int = 20) -> None:
    for _ in range(count):
        data = device.message(room, os.urandom(size))
        assert (await device.submit(data)).state == "committed"


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the node tells nobody
            await asyncio.sleep(0.005)


async def began(poller: Poller) -> Room:
    """A room of the device's, read from the start."""
    room = await poller.device.create_room()
    first = await poller.poll()
    assert isinstance(first[0], Ready) and len(first) == 1
    assert first[0].mailbox == poller.device.mailbox
    await poller.ack(**{room.id: 0})
    assert await poller.entries(room.id, 1) == [1]
    return room


@pytest.fixture
async def poller(alice: Phone) -> AsyncIterator[Poller]:
    yield Poller(alice)


async def test_entries_come_while_a_poll_waits(poller: Poller) -> None:
    room = await began(poller)
    waiting = asyncio.create_task(poller.entries(room.id, 3))
    await say(poller.device, room, 3)
    assert await waiting == [2, 3, 4]
    await poller.ack(**{room.id: 4})
    assert await poller.poll() == []
    assert await poller.poll(seconds=1) == []
    rooms = await poller.device.call("GET", "/telex/v1/rooms", None, Rooms)
    assert rooms.rooms[0].cursor == 4


async def test_an_answer_that_was_lost_comes_again_from_the_ack(
    poller: Poller,
) -> None:
    room = await began(poller)
    await poller.ack(**{room.id: 1})
    await say(poller.device, room, 2)
    before = poller.session
    assert await poller.entries(room.id, 2) == [2, 3]
    await poller.ack(**{room.id: 2})
    frames = await poller.poll(session=before)  # the answer was lost
    assert isinstance(frames[0], Ready)
    found = [each for each in frames if isinstance(each, Entries)]
    assert [(each.after, len(each.entries)) for each in found] == [(2, 1)]
    assert await poller.poll() == []


async def test_a_restart_of_the_node_is_another_cut(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    async with running(settings) as node, phone(node, "alice") as alice:
        await alice.register()
        poller = Poller(alice)
        room = await began(poller)
        await poller.ack(**{room.id: 1})
        await say(alice, room, 3)
        assert await poller.entries(room.id, 3) == [2, 3, 4]
        await poller.ack(**{room.id: 3})
        waiting = asyncio.create_task(poller.poll(seconds=60))
        await until(lambda: node.polls.waiting == 1)
        await node.stop()
        frames = await waiting
        assert isinstance(frames[-1], ProblemFrame)
        assert frames[-1].problem.code == "node_busy"
        again = make_node(settings)
        await again.start()
        try:
            ready, *rest = await poller.poll()
            assert isinstance(ready, Ready)
            (found,) = rest or await poller.poll(seconds=5)
            assert isinstance(found, Entries)
            assert (found.after, len(found.entries)) == (3, 1)
        finally:
            await again.stop()


async def test_no_more_than_the_window_is_sent_unacked(poller: Poller) -> None:
    room = await began(poller)
    await poller.ack(**{room.id: 1})
    await say(poller.device, room, 12, size=40_000)
    seqs: list[int] = []
    while len(seqs) < 12:
        size, at = 0, len(seqs)
        while frames := await poller.poll(seconds=0):
            for frame in frames:
                assert (
                    isinstance(frame, Entries) and len(frame.entries) <= BATCH_ENTRIES
                )
                seqs += [read_entry(data).seq for data in frame.entries]
                size += sum(map(len, frame.entries))
            assert size <= WINDOW_BYTES
        if len(seqs) > at:
            await poller.ack(**{room.id: seqs[-1]})
        else:
            await asyncio.sleep(0)  # they are being read from the database
    assert seqs == list(range(2, 14))


async def test_acks_need_no_session(alice: Phone) -> None:
    room = await alice.create_room()
    poller = Poller(alice)
    await poller.ack(**{room.id: 1})
    rooms = await alice.call("GET", "/telex/v1/rooms", None, Rooms)
    assert rooms.rooms[0].cursor == 1
    with pytest.raises(BadRequest):
        await poller.ack(**{room.id: 2})
    with pytest.raises(UnknownRoom):
        await poller.ack(**{"a" * 52: 0})
    status, _, content = await alice.send(
        "POST",
        "/telex/v1/acks",
        b'{"cursors": {}}',
        headers=alice.headers(
            "POST",
            "/telex/v1/acks",
            "",
            b'{"cursors": {}}',
            content_type="application/json",
        ),
    )
    assert (status, content) == (200, b"\x80")


async def test_a_device_has_one_session_of_either_kind(
    node: Node, poller: Poller
) -> None:
    await poller.poll()
    waiting = asyncio.create_task(poller.poll(seconds=60))
    await until(lambda: node.polls.waiting == 1)
    async with poller.device.session() as line:
        (frame,) = await waiting
        assert isinstance(frame, ProblemFrame)
        assert frame.problem.code == SessionReplaced.code
        frames = await poller.poll()
        assert isinstance(frames[0], Ready)
        ended = await line.receive()
        assert isinstance(ended, ProblemFrame)
        assert ended.problem.code == SessionReplaced.code


async def test_who_is_revoked_hears_it_at_once(node: Node, alice: Phone) -> None:
    async with further_phone(node, alice) as second:
        poller = Poller(second)
        await poller.poll()
        waiting = asyncio.create_task(poller.poll(seconds=60))
        await until(lambda: node.polls.waiting == 1)
        await alice.append_log(revocation(alice, second))
        (frame,) = await waiting
        assert isinstance(frame, ProblemFrame)
        assert frame.problem.code == "device_revoked"
        assert (await second.send("GET", SYNC))[0] == 403
    await until(lambda: node.delivery.sessions == 0)


async def test_the_newer_of_two_polls_is_answered(node: Node, poller: Poller) -> None:
    room = await began(poller)
    await poller.ack(**{room.id: 1})
    token = poller.session
    first = asyncio.create_task(poller.poll(seconds=60, session=token))
    await until(lambda: node.polls.waiting == 1)
    second = asyncio.create_task(poller.poll(seconds=60, session=token))
    assert await first == []
    await say(poller.device, room, 1)
    (frame,) = await second
    assert isinstance(frame, Entries) and frame.after == 1


async def test_frames_wait_for_who_comes_back(node: Node, poller: Poller) -> None:
    room = await began(poller)
    await poller.ack(**{room.id: 1})
    token = poller.session
    device, query = poller.device, f"timeout=60&session={token}"
    async with aiohttp.ClientSession() as http:
        leaving = asyncio.create_task(
            http.get(
                f"{device.base}{SYNC}?{query}",
                headers=device.headers("GET", SYNC, query),
            )
        )
        await until(lambda: node.polls.waiting == 1)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
    await say(device, room, 1)
    (frame,) = await poller.poll(seconds=5, session=token)
    assert isinstance(frame, Entries) and frame.after == 1


async def test_who_polls_no_more_has_no_session(
    node: Node, poller: Poller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.sessions.poll.POLL_GAP", 0.02)
    room = await began(poller)
    await until(lambda: node.delivery.sessions == 0)
    frames = await poller.poll()
    assert isinstance(frames[0], Ready)
    found = [f for f in frames if isinstance(f, Entries)] or await poller.poll(
        seconds=5
    )
    assert isinstance(found[0], Entries) and found[0].log == room.id


async def test_polls_count_as_sessions(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    limits = replace(settings.limits, connections_per_address=1)
    async with (
        running(replace(settings, limits=limits)) as node,
        phone(node, "alice") as alice,
        phone(node, "bob") as bob,
    ):
        await alice.register()
        await bob.register()
        await Poller(alice).poll()
        with pytest.raises(TooMany):
            await Poller(bob).poll()

        for _ in range(3):  # begun anew, it is still one
            await Poller(alice).poll()


async def test_frames_of_a_device_are_requests(alice: Phone) -> None:
    path = "/telex/v1/frames"
    await Poller(alice).poll()
    for frame in (
        Presence("online", []),
        Typing(LogId("a" * 52), True),
        AckFrame({}),
    ):
        await alice.call("POST", path, frame, Empty)
    with pytest.raises(BadRequest):
        await alice.call("POST", path, SubmitFrame(1, b""), Empty)
    for noise in (b"\xc1", encode({"t": "unknown"}), encode([1])):
        status, _, _ = await alice.send("POST", path, noise)
        assert status == 400


async def test_who_polls_sees_who_is_there(alice: Phone, bob: Phone) -> None:
    async def say(device: Phone, frame: Presence | Typing) -> None:
        await device.call("POST", "/telex/v1/frames", frame, Empty)

    with pytest.raises(BadRequest, match="no session"):  # nothing would end it
        await say(alice, Presence("online", [bob.account]))
    pollers = [Poller(each) for each in (alice, bob)]
    for poller, other in zip(pollers, (bob, alice), strict=True):
        await poller.poll()
        await say(poller.device, Presence("online", [other.account]))
    for poller, other in zip(pollers, (bob, alice), strict=True):
        seen: list[tuple[str, str]] = []
        async with asyncio.timeout(10):
            while (other.account, "online") not in seen:
                for frame in await poller.poll(seconds=5):
                    if isinstance(frame, People):
                        seen += [(each.account, each.state) for each in frame.people]


async def test_people_can_read_it(alice: Phone) -> None:
    headers = alice.headers("GET", SYNC) | {"Accept": "application/json"}
    status, media, content = await alice.send("GET", SYNC, headers=headers)
    assert (status, media) == (200, "application/json")
    assert isinstance(decode_json(content, Polled).frames[0], Ready)
    for query in ("timeout=x", "timeout=-1"):
        with pytest.raises(BadRequest):
            await alice.call("GET", SYNC, None, Polled, query=query)
