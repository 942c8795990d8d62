"""What peers push: copies and outgoing logs, with gaps, overlaps, forks and races."""

import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace
from sqlalchemy import Connection, insert

from node.peers.inbox import PeerInbox
from node.rooms.hub import Hub
from node.rooms.member import Period, list_periods
from node.storage.chain import (
    MAILBOX,
    create_log,
    get_log,
    list_entries,
    log_number,
)
from node.storage.chain import ROOM as ROOM_LOG
from node.storage.schema import migrate
from node.storage.store import Store, Transaction
from node.storage.tables import AccountRow, core
from protocol.codec import encode
from protocol.errors import LogForked, NotAllowed, UnknownRoom
from protocol.log import (
    GENESIS,
    Entry,
    Kind,
    LogId,
    chain,
    mailbox_id,
    make_submission,
    outgoing_id,
)
from protocol.wire import SignedCheckpoint, Stream, WelcomeMail
from tests.helpers.people import NOW

HERE, PEER, OTHER = "here.example", "peer.example", "other.example"
ROOM = LogId("r" * 52)
ANN, BEN = f"ann@{HERE}", f"ben@{HERE}"
SENDER = f"eve@{PEER}/" + "a" * 16
UNSIGNED = SignedCheckpoint(b"", "", b"")


@dataclass
class Owner:
    """The other side of a log: makes entries and streams of them."""

    log: LogId
    entries: list[bytes]

    def add(
        self,
        submission: bytes | None = None,
        *,
        added: Sequence[str] = (),
        removed: Sequence[str] = (),
    ) -> None:
        """Append an entry."""
        if submission is None:
            submission = message(self.log)
        entry = Entry(
            len(self.entries) + 1, 1, 0, submission, tuple(added), tuple(removed)
        )
        self.entries.append(encode(entry))

    def hash(self, seq: int) -> bytes:
        """The chain's hash after an entry."""
        digest = GENESIS
        for data in self.entries[:seq]:
            digest = chain(digest, data)
        return digest

    def stream(self, after: int, upto: int | None = None) -> Stream:
        """A run of entries as it is pushed."""
        return Stream(
            self.log,
            after,
            self.hash(after),
            self.entries[after:upto],
            len(self.entries),
            UNSIGNED,
        )


@dataclass
class Here:
    """A node without its sockets."""

    store: Store
    inbox: PeerInbox

    async def seqs(self, log: LogId) -> tuple[int, int]:
        """First and last entry that it holds of a log."""

        def read(connection: Connection) -> tuple[int, int]:
            found = get_log(connection, log)
            assert found is not None
            for first in range(found.head):
                run = list_entries(
                    connection,
                    found,
                    first,
                    upto=found.head,
                    limit=1000,
                    max_bytes=1 << 20,
                )
                if run.entries:
                    return run.after + 1, run.last
            return 0, found.head

        return await self.store.read(read)

    async def periods(self, account: str) -> tuple[Period, ...]:
        """When an account may read the room."""
        return await self.store.read(lambda c: list_periods(c, ROOM, account))


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    path = tmp_path / "node.db"
    migrate(path)
    store = Store(path, on_events=lambda _: None)
    await store.start()
    hub = Hub(store, HERE, lambda: NOW, 10)

    def people(transaction: Transaction) -> None:
        for account in (ANN, BEN):
            transaction.connection.execute(
                insert(core(AccountRow)).values(
                    name=account.partition("@")[0],
                    login_hash=b"",
                    root=b"",
                    created=0,
                    disabled=False,
                )
            )
            create_log(
                transaction.connection,
                mailbox_id(account),
                MAILBOX,
                HERE,
                party=account,
                now=0,
            )

    await store.write(people)
    yield Here(store, PeerInbox(store, hub, HERE, lambda: NOW))
    hub.close()
    await store.stop()


def message(log: LogId, sender: str = SENDER) -> bytes:
    return make_submission(log, sender, os.urandom(16), Kind.JOIN_REQUEST, b"x")


def room() -> Owner:
    """Three entries before ann comes, then she does, then one more."""
    owner = Owner(ROOM, [])
    for _ in range(3):
        owner.add()
    owner.add(added=[ANN])
    owner.add()
    return owner


async def test_a_copy_begins_with_the_first_member(here: Here) -> None:
    owner = room()
    with pytest.raises(UnknownRoom):
        await here.inbox.receive_copy(PEER, owner.stream(0))
    ghost = Owner(ROOM, [])
    ghost.add(added=[f"ghost@{HERE}", f"zoe@{OTHER}", "no address"])
    with pytest.raises(UnknownRoom):
        await here.inbox.receive_copy(PEER, ghost.stream(0))
    assert (await here.inbox.receive_copy(PEER, owner.stream(3))).seq == 5
    assert await here.seqs(ROOM) == (4, 5)
    assert await here.periods(ANN) == (Period(4, None),)
    with pytest.raises(NotAllowed):
        await here.inbox.receive_copy(OTHER, owner.stream(3))
    assert await here.inbox.received_cursors(PEER) == {ROOM: 5}


async def test_gaps_and_overlaps(here: Here) -> None:
    owner = room()
    await here.inbox.receive_copy(PEER, owner.stream(3, 4))
    for _ in range(4):
        owner.add()
    assert (await here.inbox.receive_copy(PEER, owner.stream(6))).seq == 4
    assert (await here.inbox.receive_copy(PEER, owner.stream(3, 6))).seq == 6
    assert (await here.inbox.receive_copy(PEER, owner.stream(3, 5))).seq == 6
    assert (await here.inbox.receive_copy(PEER, owner.stream(5))).seq == 9
    assert await here.seqs(ROOM) == (4, 9)


async def test_a_fork_is_found_and_changes_nothing(here: Here) -> None:
    owner = room()
    await here.inbox.receive_copy(PEER, owner.stream(3))
    fork = Owner(ROOM, owner.entries[:4])
    fork.add()
    fork.add()
    for after in (3, 4, 5):
        with pytest.raises(LogForked):
            await here.inbox.receive_copy(PEER, fork.stream(after))
    assert await here.seqs(ROOM) == (4, 5)
    owner.add()
    assert (await here.inbox.receive_copy(PEER, owner.stream(5))).seq == 6


async def test_odd_entries_are_stored_and_passed_by(here: Here) -> None:
    owner = room()
    twice = message(ROOM)
    for data in (twice, twice):
        owner.add(data)
    owner.entries.append(b"\xc1 from the future")
    owner.add()
    assert (await here.inbox.receive_copy(PEER, owner.stream(3))).seq == 9
    assert await here.seqs(ROOM) == (4, 9)


async def test_who_comes_back_reads_on_behind_the_gap(here: Here) -> None:
    owner = room()
    owner.add(removed=[ANN])
    await here.inbox.receive_copy(PEER, owner.stream(3))
    for _ in range(3):
        owner.add()
    assert (await here.inbox.receive_copy(PEER, owner.stream(7))).seq == 6
    owner.add(added=[ANN])
    assert (await here.inbox.receive_copy(PEER, owner.stream(9))).seq == 10
    assert await here.periods(ANN) == (Period(4, 6), Period(10, None))


async def test_two_rooms_with_one_number_stop_nothing_else(here: Here) -> None:
    """Whoever tries long enough finds two ids whose short numbers are the same."""

    def take(transaction: Transaction) -> None:
        twin = LogId("t" * 52)
        create_log(transaction.connection, twin, ROOM_LOG, HERE, now=0)
        transaction.connection.exec_driver_sql(
            "UPDATE log SET number = ? WHERE id = ?", (log_number(ROOM), twin)
        )

    await here.store.write(take)
    owner, outgoing = room(), Owner(outgoing_id(PEER, HERE), [])
    outgoing.add(welcome(owner, 4))
    other = Owner(LogId("o" * 52), [])
    other.add(added=[ANN])
    outgoing.add(welcome(other, 1))
    ack = await here.inbox.receive_outgoing(PEER, outgoing.stream(0))
    assert ack.seq == 2
    assert [o.state for o in ack.outcomes] == ["rejected", "committed"]
    problem = ack.outcomes[0].problem
    assert problem is not None and problem.code == "log_forked"
    assert await here.inbox.receive_outgoing(PEER, outgoing.stream(0)) == ack
    with pytest.raises(LogForked, match="number"):
        await here.inbox.receive_copy(PEER, owner.stream(3))
    assert (await here.inbox.receive_copy(PEER, other.stream(0))).seq == 1
    assert await here.periods(ANN) == ()


def welcome(
    owner: Owner, seq: int, *, to: str = ANN, hub: str = PEER, box: str | None = None
) -> bytes:
    mail = WelcomeMail(
        owner.log, hub, f"{to}/" + "b" * 16, b"ref", seq, owner.hash(seq), b"tree", b"w"
    )
    return make_submission(
        mailbox_id(box or to), SENDER, os.urandom(16), Kind.WELCOME, encode(mail)
    )


async def test_a_welcome_may_come_before_the_room(here: Here) -> None:
    owner, outgoing = room(), Owner(outgoing_id(PEER, HERE), [])
    outgoing.add(welcome(owner, 4))
    ack = await here.inbox.receive_outgoing(PEER, outgoing.stream(0))
    assert [o.state for o in ack.outcomes] == ["committed"]
    assert await here.periods(ANN) == (Period(4, None),)
    assert (await here.inbox.receive_copy(PEER, owner.stream(3))).seq == 5
    assert await here.seqs(ROOM) == (5, 5)
    owner.add(added=[BEN])
    owner.add(removed=[ANN])
    outgoing.add(welcome(owner, 6, to=BEN))
    await here.inbox.receive_outgoing(PEER, outgoing.stream(1))
    assert (await here.inbox.receive_copy(PEER, owner.stream(5))).seq == 7
    assert await here.periods(ANN) == (Period(4, 7),)
    assert await here.periods(BEN) == (Period(6, None),)


async def test_outgoing_items_are_applied_once_and_answered_always(
    here: Here,
) -> None:
    owner, outgoing = room(), Owner(outgoing_id(PEER, HERE), [])
    outgoing.add(welcome(owner, 4))
    outgoing.add(welcome(owner, 4, hub=OTHER))
    outgoing.add(welcome(owner, 4, box=BEN))
    outgoing.add(welcome(owner, 4, to=f"ghost@{HERE}"))
    outgoing.add(message(LogId("x" * 52)))
    outgoing.add(message(LogId("x" * 52), sender=f"eve@{OTHER}/" + "a" * 16))
    outgoing.add(b"no submission")
    outgoing.entries.append(b"no entry")
    states = ["committed"] + ["rejected"] * 7
    first = await here.inbox.receive_outgoing(PEER, outgoing.stream(0))
    assert (first.seq, [o.state for o in first.outcomes]) == (8, states)
    codes = [o.problem.code if o.problem else None for o in first.outcomes]
    assert codes[1:4] == ["not_allowed", "not_allowed", "unknown_account"]
    assert await here.inbox.receive_outgoing(PEER, outgoing.stream(0)) == first
    part = await here.inbox.receive_outgoing(PEER, outgoing.stream(2, 5))
    assert (part.seq, part.outcomes) == (8, first.outcomes[2:5])
    assert await here.seqs(mailbox_id(ANN)) == (1, 1)
    gap = await here.inbox.receive_outgoing(
        PEER, Stream(outgoing.log, 20, GENESIS, [], 20, UNSIGNED)
    )
    assert (gap.seq, gap.outcomes) == (8, [])
    fork = Owner(outgoing.log, outgoing.entries[:7])
    fork.add(b"another")
    with pytest.raises(LogForked):
        await here.inbox.receive_outgoing(PEER, fork.stream(6))
    with pytest.raises(NotAllowed):
        await here.inbox.receive_outgoing(OTHER, outgoing.stream(0))


async def test_an_outgoing_log_begins_at_its_beginning(here: Here) -> None:
    owner, outgoing = room(), Owner(outgoing_id(PEER, HERE), [])
    for _ in range(4):
        outgoing.add(welcome(owner, 4))
    gap = await here.inbox.receive_outgoing(PEER, outgoing.stream(2))
    assert (gap.seq, gap.outcomes) == (0, [])
    assert await here.inbox.received_cursors(PEER) == {}
    whole = await here.inbox.receive_outgoing(PEER, outgoing.stream(0))
    assert (whole.seq, len(whole.outcomes)) == (4, 4)
    assert await here.seqs(mailbox_id(ANN)) == (1, 4)


async def test_what_its_owner_pruned_is_passed_by(here: Here) -> None:
    owner, outgoing = room(), Owner(outgoing_id(PEER, HERE), [])
    for _ in range(6):
        outgoing.add(welcome(owner, 4))
    first = replace(outgoing.stream(2, 3), floor=2)
    assert (await here.inbox.receive_outgoing(PEER, first)).seq == 3
    low = replace(outgoing.stream(5), floor=4)
    assert (await here.inbox.receive_outgoing(PEER, low)).seq == 3
    later = replace(outgoing.stream(4), floor=4)
    assert (await here.inbox.receive_outgoing(PEER, later)).seq == 6
    assert await here.seqs(mailbox_id(ANN)) == (1, 3)
