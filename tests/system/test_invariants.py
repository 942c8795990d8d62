"""The five invariants (ARCHITECTURE.md), held against arbitrary stories.

Hypothesis writes a story: who says what, who renames the room, which node is killed
and when. Two real nodes and two real engines live it; then every invariant is looked
up where it would break: in the databases of both nodes and in both timelines.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from client import Client, Message, Profile, State
from node.storage.chain import log_number
from protocol.log import GENESIS, LogId, chain, read_entry, read_submission
from protocol.wire import Receipt, Submit
from tests.helpers.fuzz import LONG
from tests.system.world import PASSWORD, Node, World, world

pytestmark = [pytest.mark.system, pytest.mark.timeout(1800 if LONG else 280)]

PATIENCE = 60.0
"""Seconds for everybody to have everything after the last fault."""


@dataclass(frozen=True)
class Say:
    """One of the two writes."""

    who: int
    text: str


@dataclass(frozen=True)
class Rename:
    """The room gets a name."""

    name: str


@dataclass(frozen=True)
class Kill:
    """A node gets SIGKILL, and starts again after some more of the story."""

    node: int


# Words that cannot stand in a database by chance: long, and of three alphabets.
words = st.text("abcxyzäöü水火木", min_size=12, max_size=40)
# Faults come early in each part, so that something happens around every one.
stories = st.lists(
    st.one_of(
        st.builds(Say, st.integers(0, 1), words),
        st.builds(Say, st.integers(0, 1), words),
        st.builds(Say, st.integers(0, 1), words),
        st.builds(Rename, words),
        st.builds(Kill, st.integers(0, 1)),
    ),
    min_size=6,
    max_size=16,
).filter(lambda story: sum(isinstance(step, Kill) for step in story) <= 2)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("invariants")) as made:
        north, south = made.node(), made.node()
        made.person("alice", north)
        made.person("bob", south)
        yield made


@settings(
    max_examples=100 if LONG else 4,
    deadline=None,
    # A story takes seconds: a failing one is shown as it was, not made smaller.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(story=stories)
def test_invariants_hold_in_any_story(place: World, story: list[object]) -> None:
    asyncio.run(live(place, story))


async def live(place: World, story: list[object]) -> None:
    """Live a story in a new room, then look at what became of it."""
    for node in place.nodes:
        if node.process is None:  # a story before this one broke off
            await asyncio.to_thread(node.start)
    people = [
        await Client.open(
            Profile(place.folder / f"profile-{name}", place.ca_file), password=PASSWORD
        )
        for name in ("alice", "bob")
    ]
    async with people[0] as alice, people[1] as bob:
        created = await alice.create_group("a room of the story", [bob.account])
        room = created.id
        await until(lambda: has_room(bob, room))
        said: list[tuple[int, str]] = []
        names: list[str] = []
        sent: set[str] = set()
        down: dict[int, int] = {}
        for number, step in enumerate(story):
            match step:
                case Say(who, text):
                    await people[who].send_text(room, text)
                    said.append((who, text))
                case Rename(name):
                    await alice.rename(room, name)
                    names.append(name)
                case Kill(victim) if victim not in down:
                    for client in people:
                        sent |= await acked(client, room)
                    place.nodes[victim].kill()
                    down[victim] = number
            for victim in [v for v, since in down.items() if number - since >= 3]:
                await asyncio.to_thread(place.nodes[victim].start)
                del down[victim]
        for victim in down:
            await asyncio.to_thread(place.nodes[victim].start)
        for client in people:
            client.reconnect()

        expected = sorted(text for _, text in said)
        await until(lambda: same_texts(people, room, expected))

        await until(lambda: same_heads(place.nodes, room))
        logs = [stored(node, room) for node in place.nodes]
        await check_order(people, room, said, sent)
        check_logs(logs)
        await check_repeats(people, room, logs[0])
        check_blindness(place.nodes, [*expected, *names])
        for client in people:
            # Nobody lied: crashes and races are no alarms.
            await client._audit.settle()
            assert await client.alarms() == []
            failed = await client._store.run(
                lambda tx: tx.all("SELECT kind, subject FROM audit WHERE tries > 0")
            )
            assert failed == []


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until an async predicate holds."""
    async with asyncio.timeout(PATIENCE):
        # What is waited for is in other processes: there is no event to wait on.
        while not await holds():  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def has_room(client: Client, room: LogId) -> bool:
    return any(found.id == room for found in await client.rooms())


async def texts(client: Client, room: LogId) -> list[Message]:
    messages = await client.messages(room, limit=200)
    return [message for message in messages if message.kind == "text"]


async def acked(client: Client, room: LogId) -> set[str]:
    """Texts that the writer was told are in the log."""
    return {
        message.text
        for message in await texts(client, room)
        if message.own and message.state in (State.SENT, State.DELIVERED, State.READ)
    }


async def same_texts(people: list[Client], room: LogId, expected: list[str]) -> bool:
    for client in people:
        found = await texts(client, room)
        if sorted(message.text for message in found) != expected:
            return False
        if any(m.own and m.state == State.PENDING for m in found):
            return False
    return True


async def same_heads(nodes: list[Node], room: LogId) -> bool:
    """Whether the copy has caught up (receipts follow the texts)."""
    heads = [await asyncio.to_thread(stored, node, room) for node in nodes]
    return all(heads) and heads[0][-1][0] == heads[1][-1][0]


def stored(node: Node, room: LogId) -> list[tuple[int, bytes, bytes]]:
    """A node's copy of a room: (seq, hash, entry bytes)."""
    address = f"file:{node.data / 'node.db'}?mode=ro"
    with closing(sqlite3.connect(address, uri=True)) as database:
        return database.execute(
            "SELECT seq, hash, data FROM entry WHERE log = ? ORDER BY seq",
            (log_number(room),),
        ).fetchall()


async def check_order(
    people: list[Client], room: LogId, said: list[tuple[int, str]], sent: set[str]
) -> None:
    """(1) What was acked is there. (2) Once each, in seq order, the same for all."""
    left, right = [await texts(client, room) for client in people]
    assert [m.text for m in left] == [m.text for m in right]
    assert sent <= {m.text for m in left}
    for timeline in (left, right):
        seqs = [m.seq for m in timeline if m.seq is not None]
        assert seqs == sorted(set(seqs)) and len(seqs) == len(timeline)
    for who, client in enumerate(people):
        mine = [m.text for m in left if m.sender == client.account]
        assert mine == [text for writer, text in said if writer == who]


def check_logs(logs: list[list[tuple[int, bytes, bytes]]]) -> None:
    """(2) No gap. (4) All copies agree on (seq, hash), and the chain verifies."""
    hub, follower = logs
    assert [seq for seq, _, _ in hub] == list(range(1, len(hub) + 1))
    head = GENESIS
    for seq, hashed, data in hub:
        head = chain(head, data)
        assert head == hashed and read_entry(data).seq == seq
    first = follower[0][0]
    shared = range(min(len(hub) - first + 1, len(follower)))
    assert [follower[i] for i in shared] == [hub[first - 1 + i] for i in shared]


async def check_repeats(
    people: list[Client], room: LogId, log: list[tuple[int, bytes, bytes]]
) -> None:
    """(3) The same submission again: the same answer, and no new entry."""
    for seq, hashed, data in log:
        submission = read_entry(data).submission
        writer = read_submission(submission)
        if writer.kind != "message":
            continue
        client = next(c for c in people if c.device == writer.sender)
        receipt = await client._transport.post(
            f"/logs/{room}/entries", Submit(submission), Receipt
        )
        assert (receipt.state, receipt.seq, receipt.hash) == ("committed", seq, hashed)


def check_blindness(nodes: list[Node], planted: list[str]) -> None:
    """(5) No text and no name stands in anything that a node wrote."""
    for node in nodes:
        for path in node.folder.rglob("*"):
            if path.is_file():
                seen = path.read_bytes()
                for word in set(planted):
                    assert word.encode() not in seen, (Path(path).name, word)
