"""When to connect again: never in a flood, soon after the node is back."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from client import Client, Connection, State
from client.network import pace
from client.network.pace import (
    FIRST_DELAY,
    GAP,
    LAST_DELAY,
    PATIENCE,
    YOUNG_DELAY,
    Pace,
)
from protocol.errors import (
    AccountDisabled,
    NodeFault,
    NotAllowed,
    PeerUnreachable,
    Refused,
    SignatureExpired,
    StorageFull,
    UnknownRoom,
)
from tests.client.conftest import Join
from tests.client.fake_node import NAME, FakeNode, running
from tests.client.people import (
    PASSWORD,
    messages_of,
    online,
    profile,
    room_of,
    texts,
    until,
)

LATER = (
    AccountDisabled(),
    NodeFault(),
    PeerUnreachable(),
    SignatureExpired(),
    StorageFull(),
)

SCALE = 5
"""The real numbers divided by this, for the tests with sockets."""


class Watch:
    """A clock that stands still unless told otherwise."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def outage(minutes: float, *, hasty: int = 0) -> list[tuple[float, float]]:
    """When attempts were made, and how long the next one was away then."""
    watch = Watch()
    rhythm = Pace(watch)
    begin = watch.now
    seen: list[tuple[float, float]] = []
    while watch.now - begin < minutes * 60:
        rhythm.attempt()
        wait = rhythm.failed()
        seen.append((watch.now - begin, wait))
        for _ in range(hasty):
            if wait <= GAP:
                break
            watch.now += GAP
            rhythm.attempt()
            wait = rhythm.failed()
        watch.now += wait
    return seen


@pytest.mark.parametrize("hasty", [0, 3, 300])
def test_a_young_outage_is_tried_every_five_seconds(hasty: int) -> None:
    seen = outage(5, hasty=hasty)
    assert all(wait <= YOUNG_DELAY + GAP for _, wait in seen)
    assert seen[0][1] <= max(FIRST_DELAY, GAP)
    assert len(seen) > 50


def test_a_long_outage_is_tried_once_a_minute() -> None:
    seen = outage(180)
    assert max(wait for _, wait in seen) <= LAST_DELAY
    late = [wait for since, wait in seen if since > 3700]
    assert min(late) >= LAST_DELAY / 2
    assert len(set(late)) > 10, "everybody would come at the same moment"


def test_haste_never_makes_the_next_attempt_later() -> None:
    watch = Watch()
    rhythm = Pace(watch)
    rhythm.attempt()
    due = watch.now + rhythm.failed()
    for _ in range(50):
        rhythm.attempt()
        assert watch.now + rhythm.failed() <= max(due, watch.now + GAP)
        watch.now += 0.01


def test_after_a_good_connection_the_steps_begin_anew() -> None:
    watch = Watch()
    rhythm = Pace(watch)
    for _ in range(200):
        rhythm.attempt()
        watch.now += rhythm.failed()
    rhythm.attempt()
    rhythm.worked()
    watch.now += 3600
    rhythm.stood()
    assert rhythm.failed() <= FIRST_DELAY


def test_a_node_that_asks_for_time_gets_it() -> None:
    rhythm = Pace(Watch())
    rhythm.attempt()
    assert rhythm.failed(retry_after=40) == 40
    assert rhythm.failed(retry_after=10**9) == LAST_DELAY


# --- with sockets ---------------------------------------------------------------------


REAL = {
    "GAP": GAP,
    "FIRST_DELAY": FIRST_DELAY,
    "YOUNG_DELAY": YOUNG_DELAY,
    "PATIENCE": PATIENCE,
    "LAST_DELAY": LAST_DELAY,
}


@pytest.fixture(autouse=True)
def real_pace(short_waits: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in REAL.items():
        monkeypatch.setattr(pace, name, value)


@pytest.fixture
def quick(real_pace: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in REAL.items():
        monkeypatch.setattr(pace, name, value / SCALE)


class Door:
    """A port that notes who asks for what, and lets nobody in."""

    def __init__(self) -> None:
        self.sessions = 0
        self.others = 0

    async def open(self, port: int) -> None:
        self._server = await asyncio.start_server(self._knock, "127.0.0.1", port)

    async def _knock(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        asked = await reader.readline()
        if b"/ws " in asked or b"/sync?" in asked:
            self.sessions += 1
        else:
            self.others += 1
        writer.close()

    async def close(self) -> None:
        self._server.close()
        await self._server.wait_closed()


async def test_what_is_written_while_the_node_is_down_waits_and_does_not_knock(
    quick: None, tmp_path: Path
) -> None:
    clients: list[Client] = []
    async with AsyncExitStack() as stack:
        async with running() as fake:
            port = int(fake.url.rpartition(":")[2])
            for name in ("alice", "bob"):
                client, _ = await Client.register(
                    profile(tmp_path, name, fake.url),
                    f"{name}@{NAME}",
                    invite="",
                    password=PASSWORD,
                )
                clients.append(await stack.enter_async_context(client))
                await online(client)
            alice, bob = clients
            room = await alice.start_direct(bob.account)
            await until(lambda: room_of(bob, room.id))
            # Who knocks from here on is Alice.
            await bob._stop()
        began = time.monotonic()
        door = Door()
        await door.open(port)
        said = [f"word {n}" for n in range(60)]
        for text in said:
            await alice.send_text(room.id, text)
            await asyncio.sleep(0.02)
        await door.close()
        most = (time.monotonic() - began) / (GAP / SCALE) + 1
        # An attempt may knock twice: aiohttp tries once more when it is cut off.
        assert 2 <= door.sessions <= 2 * most
        # What was on its way when the node went, or was just due: a message, a look at
        # a roster, at a list of devices. Not the sixty that were written since.
        assert door.others <= len(said) // 4
        assert alice.connection is not Connection.ONLINE
        states = {m.state for m in await alice.messages(room.id) if m.own}
        assert states == {State.PENDING}
        await asyncio.sleep(YOUNG_DELAY / SCALE)
        # Nobody does anything: it is back by itself.
        await stack.enter_async_context(running(fake, port))
        back = time.monotonic()
        await online(alice)
        assert time.monotonic() - back < (YOUNG_DELAY + GAP) / SCALE + 2
        await until(
            lambda: alice.messages(room.id, limit=100),
            lambda seen: all(m.state >= State.SENT for m in seen),
        )
        assert await texts(alice, room.id) == said[-50:]


@pytest.mark.parametrize(
    "refusal",
    LATER,
    ids=lambda refusal: refusal.code,
)
async def test_a_refusal_that_is_not_about_the_message_never_fails_it(
    refusal: Refused,
    join: Join,
    fake: FakeNode,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("client.rooms.workers.FIRST_RETRY", 0.05)
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(bob.account)
    await until(lambda: room_of(bob, room.id))
    seen: set[State] = set()
    for _ in range(3):
        fake.fail["message"] = refusal
        await alice.send_text(room.id, "patience")
        seen |= {m.state for m in await messages_of(alice, room.id, "patience")}
        await until(lambda: asyncio.sleep(0, "message" not in fake.fail))
        seen |= {m.state for m in await messages_of(alice, room.id, "patience")}
    await until(lambda: texts(bob, room.id), lambda t: t == ["patience"] * 3)
    assert State.FAILED not in seen


@pytest.mark.parametrize("refusal", [NotAllowed("\x1b[2Jno"), UnknownRoom()])
async def test_a_refusal_of_the_message_is_final(
    refusal: Refused, join: Join, fake: FakeNode
) -> None:
    alice, bob = await join("alice"), await join("bob")
    room = await alice.start_direct(bob.account)
    fake.fail["message"] = refusal
    await alice.send_text(room.id, "no")
    (failed,) = await until(
        lambda: messages_of(alice, room.id, "no"),
        lambda m: m[0].state is State.FAILED,
    )
    assert str(refusal).replace("\x1b", "\ufffd") == failed.error
