"""Our outgoing log as its peer reads it: hello, lost acks, pruning."""

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, select

from federation.ports import PendingStream
from node.peers.log import PeerLogs
from node.peers.outgoing import send
from node.peers.pruning import KEPT, Pruner
from node.rooms.carrying import find_outcome
from node.storage.schema import migrate
from node.storage.store import Store, Transaction
from node.storage.tables import EntryRow, core
from protocol.errors import NotAllowed
from protocol.log import Kind, LogId, chain, event_id, make_submission, outgoing_id
from protocol.wire import Receipt, StreamAck
from tests.helpers.people import NOW

HERE, PEER = "here.example", "peer.example"
ROOM = LogId("r" * 52)
OUTGOING = outgoing_id(HERE, PEER)
ANN = f"ann@{HERE}/" + "a" * 16


@dataclass
class Sender:
    """A node's side of the log that it writes to another."""

    store: Store
    logs: PeerLogs
    pruner: Pruner
    now: float = NOW

    async def write(self, kind: Kind = Kind.MESSAGE) -> bytes:
        """Put a submission on its way; its event id."""
        data = make_submission(ROOM, ANN, os.urandom(16), kind, b"x")

        def put(transaction: Transaction) -> None:
            send(transaction, data, origin=HERE, destination=PEER, now=self.now)

        await self.store.write(put)
        return event_id(data)

    async def pending(self) -> PendingStream | None:
        """What would be pushed next."""
        streams = await self.logs.pending_streams(PEER, 100, 1 << 20)
        return streams[0] if streams else None

    async def ack(self, seq: int, *refused: bytes) -> None:
        """The peer's answer to a push."""
        problem = NotAllowed().problem()
        outcomes = [Receipt(event, "rejected", problem=problem) for event in refused]
        await self.logs.record_acks(PEER, [StreamAck(OUTGOING, seq, outcomes)])

    async def outcome(self, event: bytes) -> Receipt | None:
        """What is known of a submission."""
        return await self.store.read(lambda c: find_outcome(c, ROOM, event))

    async def held(self) -> int:
        """Entries on disk."""

        def count(connection: Connection) -> int:
            query = select(func.count()).select_from(core(EntryRow))
            return connection.scalar(query) or 0

        return await self.store.read(count)


@pytest.fixture
async def sender(tmp_path: Path) -> AsyncIterator[Sender]:
    path = tmp_path / "node.db"
    migrate(path)
    store = Store(path, on_events=lambda _: None)
    await store.start()
    logs = PeerLogs(store, HERE, lambda: found.now)
    found = Sender(store, logs, Pruner(store, HERE, lambda: found.now))
    yield found
    await store.stop()


async def test_a_hello_does_not_pass_by_outcomes_that_got_lost(sender: Sender) -> None:
    events = [await sender.write() for _ in range(3)]
    # The peer applied all three and refused one; its answer never came.
    await sender.logs.move_cursors(PEER, {OUTGOING: 3})
    stream = await sender.pending()
    assert stream is not None and (stream.after, len(stream.entries)) == (0, 3)
    await sender.ack(3, events[1])
    outcome = await sender.outcome(events[1])
    assert outcome is not None and outcome.state == "rejected"
    assert await sender.pending() is None
    # A peer that lost its newest data is sent them again.
    await sender.logs.move_cursors(PEER, {OUTGOING: 1})
    stream = await sender.pending()
    assert stream is not None and stream.after == 1


async def test_what_was_acked_long_ago_is_pruned_and_the_chain_goes_on(
    sender: Sender,
) -> None:
    events = [await sender.write() for _ in range(250)]
    stream = await sender.pending()
    assert stream is not None
    digest = stream.previous
    for entry in stream.entries:
        digest = chain(digest, entry)
    while (stream := await sender.pending()) is not None:
        last = stream.after + len(stream.entries)
        await sender.ack(last, *events[stream.after : last])
    assert await sender.pruner.prune() == 0
    sender.now += KEPT + 1
    assert await sender.pruner.prune() == 250
    assert await sender.held() == 0
    await sender.write()
    stream = await sender.pending()
    assert stream is not None
    assert (stream.after, stream.floor, stream.head) == (250, 250, 251)
    assert stream.last_hash == chain(stream.previous, stream.entries[0])
    # A peer that has less goes on where there still is something.
    await sender.ack(3)
    assert await sender.pending() == stream
    outcome = await sender.outcome(events[0])
    assert outcome is not None and outcome.state == "rejected"


async def test_nothing_is_pruned_that_may_still_be_asked_for(sender: Sender) -> None:
    known, unknown, last = [await sender.write() for _ in range(3)]
    await sender.write(Kind.WELCOME)
    await sender.ack(1, known)
    sender.now += KEPT + 1
    assert await sender.pruner.prune() == 1
    # Acked, but our copy of the room does not have it yet.
    await sender.ack(4, last)
    assert await sender.pruner.prune() == 0
    await sender.ack(1)
    await sender.ack(4, unknown)
    assert await sender.pruner.prune() == 3
    assert await sender.logs.peers_with_pending() == []
