"""Presence and typing over real sockets, on one node and between two."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from node.accounts.password import Hasher
from node.app import Node
from protocol.codec import encode
from protocol.errors import NotAllowed, TooMany
from protocol.presence import (
    LEASE,
    PEER_LEASE,
    SHOW_MAX,
    Mode,
    PeerPresence,
    People,
    Person,
    Presence,
    ShownPerson,
    Typing,
    Typist,
)
from protocol.wire import AccountLog, FromDevice, FromNode, ProblemFrame
from tests.node.phone import Phone, Socket, phone
from tests.node.server import make_settings
from tests.node.world import World, meet


class Clock:
    """The machine's clock, and some seconds."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class Ear:
    """A session that listens to what is ephemeral."""

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self.frames: list[FromNode] = []
        self.people: dict[str, Person] = {}

    async def say(self, frame: FromDevice) -> None:
        """Send a frame."""
        await self.socket.connection.send_bytes(encode(frame))

    async def show(self, mode: Mode, *accounts: str) -> None:
        """Say how this device is, and to whom it is shown."""
        await self.say(Presence(mode, list(accounts)))

    async def next(self) -> FromNode:
        """The next frame, after noting what it says."""
        frame = await self.socket.receive()
        self.frames.append(frame)
        if isinstance(frame, People):
            if frame.fresh:
                self.people.clear()
            self.people |= {person.account: person for person in frame.people}
        return frame

    async def sees(self, account: str, state: str) -> Person:
        """Wait until somebody is seen like this."""
        while account not in self.people or self.people[account].state != state:
            await self.next()
        return self.people[account]

    async def typist(self) -> Typist:
        """The next word about typing."""
        while True:
            if isinstance(frame := await self.next(), Typist):
                return frame


@asynccontextmanager
async def ear(device: Phone) -> AsyncIterator[Ear]:
    """A session of a device."""
    async with device.session() as socket:
        yield Ear(socket)


@pytest.fixture
async def people(node: Node) -> AsyncIterator[dict[str, Phone]]:
    """Four registered people on one node."""
    async with AsyncExitStack() as stack:
        found = {}
        for name in ("alice", "bob", "carol", "dave"):
            found[name] = await stack.enter_async_context(phone(node, name))
            await found[name].register()
        yield found


async def test_those_who_may_see_it_and_nobody_else(people: dict[str, Phone]) -> None:
    alice, bob, carol, dave = people.values()
    async with ear(alice) as a, ear(bob) as b, ear(carol) as c, ear(dave) as d:
        await c.show("online", alice.account, bob.account)
        await a.show("online", bob.account)
        await b.show("dnd", alice.account)
        await b.sees(alice.account, "online")
        await a.sees(bob.account, "dnd")
        await a.sees(carol.account, "online")
        await a.show("away", bob.account)
        await b.sees(alice.account, "away")
        await a.say(Presence("gone"))
        gone = await b.sees(alice.account, "offline")
        assert abs(gone.since - time.time()) < 5
        # The stranger: the next that she hears of anybody is dave.
        await d.show("online", carol.account)
        await c.sees(dave.account, "online")
        assert set(c.people) == {dave.account}
        assert all(isinstance(frame, People) for frame in c.frames)


async def test_who_comes_later_is_told_who_is_there_and_who_was(
    people: dict[str, Phone],
) -> None:
    alice, bob, carol, _ = people.values()
    async with ear(alice) as a, ear(bob) as b:
        await a.show("online", carol.account)
        await b.show("online", carol.account)
        await b.say(Presence("gone"))
        async with ear(carol) as c:
            await c.show("hidden")
            await c.sees(alice.account, "online")
            seen = await c.sees(bob.account, "offline")
            assert abs(seen.since - time.time()) < 5
            await a.show("online")
            hidden = await c.sees(alice.account, "offline")
            assert hidden.since == 0


@asynccontextmanager
async def clocked(directory: Path) -> AsyncIterator[tuple[Node, Clock]]:
    """A node whose clock a test sets."""
    clock = Clock()
    node = Node(make_settings(directory), clock, Hasher(memory=1024 * 1024))
    await node.start()
    try:
        yield node, clock
    finally:
        await node.stop()


async def test_a_device_that_vanished_is_offline_when_its_lease_ends(
    tmp_path: Path,
) -> None:
    async with (
        clocked(tmp_path) as (node, clock),
        phone(node, "alice") as alice,
        phone(node, "bob") as bob,
    ):
        await alice.register()
        await bob.register()
        over = asyncio.Event()
        node.delivery.ended.append(lambda device: over.set())
        async with ear(bob) as b:
            await b.show("online", alice.account)
            async with ear(alice) as a:
                await a.show("online", bob.account)
                await b.sees(alice.account, "online")
                response = a.socket.connection._response
                assert response.connection is not None
                transport = response.connection.transport
                assert transport is not None
                transport.abort()
            await over.wait()
            before = clock()
            clock.ahead = LEASE - 1
            node.presence.turn()
            assert node.presence._roll.there(alice.account)
            clock.ahead = LEASE + 2
            node.presence._wake.set()
            seen = await b.sees(alice.account, "offline")
            assert abs(seen.since - before) < 3


async def test_a_flood_is_refused_and_others_hear_one_change_a_second(
    people: dict[str, Phone],
) -> None:
    alice, bob, *_ = people.values()
    async with ear(alice) as a, ear(bob) as b:
        await b.show("online", alice.account)
        await a.show("online", bob.account)
        await b.sees(alice.account, "online")
        begin = time.monotonic()
        for number in range(300):
            await a.say(Presence("away" if number % 2 else "dnd"))
        problems = 0
        while problems < 200:
            frame = await a.next()
            if isinstance(frame, ProblemFrame):
                assert frame.problem.code == TooMany.code
                problems += 1
        await b.next()
        heard = [f for f in b.frames if isinstance(f, People)]
        assert len(heard) <= 3 + time.monotonic() - begin
        too_many = [f"u{n}@{alice.name}" for n in range(SHOW_MAX + 1)]
        async with ear(alice) as again:
            await again.show("online", *too_many)
            frame = await again.next()
            assert isinstance(frame, ProblemFrame)


# --- two nodes -------------------------------------------------------------------


@pytest.fixture
async def two(world: World) -> AsyncIterator[tuple[World, Phone, Phone, Phone]]:
    """Alice on the first node; bob and carol on the second. The nodes have met."""
    async with (
        phone(world.nodes[0], "alice", tls=world.tls) as alice,
        phone(world.nodes[1], "bob", tls=world.tls) as bob,
        phone(world.nodes[1], "carol", tls=world.tls) as carol,
    ):
        for each in (alice, bob, carol):
            await each.register()
            await each.upload_packages()
        path = f"/telex/v1/accounts/{bob.account}/log"
        await alice.call("GET", path, None, AccountLog)
        yield world, alice, bob, carol


async def test_people_on_two_nodes_see_each_other(
    two: tuple[World, Phone, Phone, Phone],
) -> None:
    world, alice, bob, carol = two
    async with ear(alice) as a, ear(bob) as b, ear(carol) as c:
        await c.show("online", alice.account)
        await a.show("online", bob.account)
        await b.show("online", alice.account)
        await b.sees(alice.account, "online")
        await a.sees(bob.account, "online")
        await a.sees(carol.account, "online")
        await a.show("away", bob.account)
        await b.sees(alice.account, "away")
        await a.say(Presence("gone"))
        seen = await b.sees(alice.account, "offline")
        assert abs(seen.since - time.time()) < 5
        # Nothing of it came to carol, to whom alice does not show herself.
        await b.show("online", alice.account, carol.account)
        await c.sees(bob.account, "online")
        assert set(c.people) == {bob.account}
        # Nor does her node get it by asking.
        asking = world.nodes[1].federation
        answer = await asking.presence(
            alice.name, PeerPresence(1, probe=[carol.account])
        )
        assert answer.people == []
        answer = await asking.presence(alice.name, PeerPresence(1, probe=[bob.account]))
        assert [(p.account, p.to) for p in answer.people] == [(alice.account, ["bob"])]
        with pytest.raises(NotAllowed):
            await asking.presence(alice.name, PeerPresence(1, probe=[alice.account]))
        lie = ShownPerson(alice.account, "online", 1, ["alice"])
        with pytest.raises(NotAllowed):
            await asking.presence(alice.name, PeerPresence(1, people=[lie]))


async def test_a_node_that_falls_silent_shows_its_people_as_offline(
    two: tuple[World, Phone, Phone, Phone],
) -> None:
    world, alice, bob, _ = two
    first, second = world.nodes
    async with ear(alice) as a:
        await a.show("online", bob.account)
        async with ear(bob) as b:
            await b.show("online", alice.account)
            await a.sees(bob.account, "online")
            await second.stop()
        first.presence._clock = lambda: time.time() + PEER_LEASE + 60
        first.presence._wake.set()
        assert (await a.sees(bob.account, "offline")).since == 0


async def test_a_node_that_comes_back_asks_and_is_told(
    two: tuple[World, Phone, Phone, Phone],
) -> None:
    world, alice, bob, _ = two
    async with ear(alice) as a:
        await a.show("dnd", bob.account)
        async with ear(bob) as b:
            await b.show("online", alice.account)
            await b.sees(alice.account, "dnd")
            await world.nodes[1].stop()
        await world.restart(1)
        bob.base = f"https://127.0.0.1:{world.nodes[1].port}"
        async with ear(bob) as b:
            await b.show("away", alice.account)
            await b.sees(alice.account, "dnd")
            await a.sees(bob.account, "away")


async def test_members_see_who_types_and_nobody_else_does(
    two: tuple[World, Phone, Phone, Phone],
) -> None:
    _, alice, bob, carol = two
    async with ear(alice) as a, ear(bob) as b, ear(carol) as c:
        room, _ = await meet(alice, bob, b.socket)
        for each in (a, b, c):
            await each.show("online")
        await a.say(Typing(room.id))
        assert await b.typist() == Typist(room.id, alice.account, 6)
        await a.say(Typing(room.id))  # too early: passed by
        await a.say(Typing(room.id, on=False))
        assert await b.typist() == Typist(room.id, alice.account, 0)
        # From the follower, through the hub's node.
        await b.say(Typing(room.id))
        assert await a.typist() == Typist(room.id, bob.account, 6)
        # Whoever is no member: the next word that alice hears is not hers.
        await c.say(Typing(room.id))
        await b.say(Typing(room.id, on=False))
        assert await a.typist() == Typist(room.id, bob.account, 0)
        await c.show("online", carol.account)
        assert not any(isinstance(frame, Typist | ProblemFrame) for frame in c.frames)


async def test_who_never_says_how_it_is_hears_nothing(
    people: dict[str, Phone],
) -> None:
    alice, bob, *_ = people.values()
    await bob.upload_packages()
    async with ear(alice) as a, ear(bob) as b:
        room, joined = await meet(alice, bob, b.socket)
        await a.show("online", bob.account)
        await a.say(Typing(room.id))
        await a.say(Presence("away"))
        await b.socket.submit(bob.message(joined, b"old program"))
        data = await b.socket.entries(room.id, 1)
        assert len(data) == 1  # entries and the receipt, and no other frame


async def test_nodes_that_there_are_not_cost_nothing(node: Node, alice: Phone) -> None:
    """A list may name any: nobody is shown on a node that this one never met."""
    async with alice.session() as line:
        for turn in range(3):
            show = [f"eve@n{turn}x{n}.example" for n in range(SHOW_MAX)]
            await line.connection.send_bytes(encode(Presence("online", show)))
        await line.submit(alice.message(await alice.create_room()))
        assert node.presence._roll.there(alice.account)
        node.presence.turn()
        assert node.presence._outlets._outlets == {}
        assert not node.presence._probed[alice.account]
