"""Rooms on one node: create, add, talk, remove; and what the hub refuses."""

import asyncio
import os

import pytest

from protocol.codec import encode
from protocol.errors import (
    BadRequest,
    InvalidCommit,
    LogForked,
    NotAllowed,
    StaleEpoch,
    UnknownRoom,
)
from protocol.log import (
    GENESIS,
    Kind,
    Submission,
    chain,
    make_submission,
    read_entry,
    read_submission,
)
from protocol.wire import Page, Rooms
from tests.node.phone import Phone, Room, body, mail


async def read_page(device: Phone, room: Room, query: str = "after=0") -> Page:
    path = f"/telex/v1/logs/{room.id}/entries"
    return await device.call("GET", path, None, Page, query=query)


async def test_two_people_talk(alice: Phone, bob: Phone) -> None:
    room = await alice.create_room()
    async with alice.session() as line, bob.session() as other:
        await line.ack(**{room.id: 0})
        assert len(await line.entries(room.id, 1)) == 1
        receipt = await alice.add(room, bob.account)
        welcome = mail((await other.entries(bob.mailbox, 1))[0])
        assert (welcome.seq, welcome.hash) == (receipt.seq, receipt.hash)
        joined = await bob.join(welcome)
        await other.ack(**{room.id: welcome.seq, bob.mailbox: 1})

        sent = await line.submit(alice.message(room, b"hello"))
        entry = (await other.entries(room.id, 1))[0]
        assert chain(welcome.hash, entry) == sent.hash
        assert joined.group.decrypt(body(entry)).content == b"hello"

        await other.submit(bob.message(joined, b"hi"))
        entries = await line.entries(room.id, 3)
        assert room.group.decrypt(body(entries[-1])).content == b"hi"


async def test_removed_member_reads_its_removal_and_no_more(
    alice: Phone, bob: Phone
) -> None:
    room = await alice.create_room()
    await alice.add(room, bob.account)
    async with bob.session() as line:
        await line.ack(**{room.id: 2, bob.mailbox: 1})
        await alice.submit(alice.message(room))
        data, bundle, staged = alice.commit(room, remove=[bob.address])
        removal = await alice.submit(data, bundle)
        room.group.apply_own(staged)
        after = await alice.submit(alice.message(room, b"secret"))
        assert (removal.seq, after.seq) == (4, 5)
        entries = await line.entries(room.id, 2)
        assert read_entry(entries[-1]).removed == (bob.account,)
        with pytest.raises(TimeoutError):
            await line.receive(seconds=0.3)
    page = await read_page(bob, room, "after=2")
    assert (len(page.entries), page.head) == (2, 4)
    assert (await read_page(bob, room, "after=4")).entries == []
    with pytest.raises(UnknownRoom):
        await bob.submit(bob.message(room))
    rooms = await bob.call("GET", "/telex/v1/rooms", None, Rooms)
    assert rooms.rooms == []


async def test_history_before_the_invitation_is_not_shown(
    alice: Phone, bob: Phone
) -> None:
    room = await alice.create_room()
    await alice.submit(alice.message(room))
    await alice.add(room, bob.account)
    page = await read_page(bob, room)
    assert (page.after, len(page.entries)) == (2, 1)


async def test_pages_go_both_ways(alice: Phone) -> None:
    room = await alice.create_room()
    for number in range(6):
        await alice.submit(alice.message(room, bytes([number])))
    page = await read_page(alice, room, "after=2&limit=3")
    assert (page.after, len(page.entries), page.head) == (2, 3, 7)
    back = await read_page(alice, room, "before=6&limit=3")
    assert (back.after, back.entries) == (2, page.entries)
    first = await read_page(alice, room, "before=3")
    assert (first.after, len(first.entries)) == (0, 2)
    digest = GENESIS
    for entry in (await read_page(alice, room)).entries:
        digest = chain(digest, entry)
    last = await read_page(alice, room, "after=7")
    assert (last.entries, last.previous) == ([], digest)
    with pytest.raises(BadRequest):
        await read_page(alice, room, "after=1&before=3")


async def test_repeats_answer_the_same_receipt(alice: Phone, bob: Phone) -> None:
    data, room = alice.room_bytes()
    assert await alice.submit(data) == await alice.submit(data)
    message = alice.message(room)
    same = await asyncio.gather(*(alice.submit(message) for _ in range(5)))
    assert len({(r.seq, r.hash) for r in same}) == 1
    claimed = await alice.claim(bob.account)
    packages = [(p.device, p.package) for p in claimed.packages]
    commit, bundle, _ = alice.commit(room, add=packages)
    both = [alice.submit(commit, bundle) for _ in range(2)]
    first, second = await asyncio.gather(*both)
    # The answer was lost: the bundle is not needed to ask again.
    assert first == second == await alice.submit(commit)
    assert len((await read_page(alice, room)).entries) == 3


async def test_the_loser_of_two_commits_is_told(alice: Phone, bob: Phone) -> None:
    room = await alice.create_room()
    claimed = await alice.claim(bob.account)
    packages = [(p.device, p.package) for p in claimed.packages]
    one, first, _ = alice.commit(room, add=packages)
    two, second, _ = alice.commit(room, add=packages)
    answers = await asyncio.gather(
        alice.submit(one, first), alice.submit(two, second), return_exceptions=True
    )
    refused = [answer for answer in answers if isinstance(answer, StaleEpoch)]
    assert len(refused) == 1 and refused[0].epoch == 1
    assert len((await read_page(alice, room)).entries) == 2


async def test_messages_of_old_epochs_are_taken_for_a_while(
    alice: Phone, bob: Phone
) -> None:
    room = await alice.create_room()
    early = alice.message(room)
    for _ in range(2):
        data, bundle, staged = alice.commit(room)
        await alice.submit(data, bundle)
        room.group.apply_own(staged)
    assert (await alice.submit(early)).state == "committed"
    data, bundle, staged = alice.commit(room)
    await alice.submit(data, bundle)
    old = make_submission(
        room.id,
        alice.address,
        os.urandom(16),
        Kind.MESSAGE,
        read_submission(early).body,
    )
    with pytest.raises(StaleEpoch) as caught:
        await alice.submit(old)
    assert caught.value.epoch == 3


async def test_a_spoiled_commit_leaves_the_room_as_it_was(
    alice: Phone, bob: Phone
) -> None:
    room = await alice.create_room()
    claimed = await alice.claim(bob.account)
    packages = [(p.device, p.package) for p in claimed.packages]
    data, bundle, staged = alice.commit(room, add=packages)
    good = bundle.group_info
    bundle.group_info = good[:-1] + bytes([good[-1] ^ 1])
    with pytest.raises(InvalidCommit):
        await alice.submit(data, bundle)
    bundle.group_info = good
    welcome = bundle.welcomes.pop()
    with pytest.raises(InvalidCommit):
        await alice.submit(data, bundle)
    welcome.device = alice.address
    bundle.welcomes.append(welcome)
    with pytest.raises(InvalidCommit):
        await alice.submit(data, bundle)
    with pytest.raises(BadRequest):
        await alice.submit(data)
    assert len((await read_page(alice, room)).entries) == 1
    welcome.device = bob.address
    assert (await alice.submit(data, bundle)).seq == 2
    room.group.apply_own(staged)


async def test_strangers_cannot_write(alice: Phone, bob: Phone) -> None:
    room = await alice.create_room()
    forged = make_submission(
        room.id, bob.address, os.urandom(16), Kind.MESSAGE, room.group.encrypt(b"x")
    )
    with pytest.raises(UnknownRoom):
        await bob.submit(forged)
    with pytest.raises(NotAllowed):
        await bob.submit(alice.message(room))
    for kind in (Kind.WELCOME, Kind.CREATE):
        other = make_submission(
            room.id, alice.address, os.urandom(16), kind, b"anything"
        )
        with pytest.raises((NotAllowed, BadRequest, LogForked)):
            await alice.submit(other)
    with pytest.raises(UnknownRoom):
        await read_page(bob, room)
    assert len((await read_page(alice, room)).entries) == 1


async def test_a_kind_from_the_future_is_stored(alice: Phone) -> None:
    room = await alice.create_room()
    data = encode(
        Submission(1, room.id, alice.address, os.urandom(16), "poll_v9", b"?")
    )
    assert (await alice.submit(data)).seq == 2


async def test_join_requests_come_from_members_for_themselves(
    alice: Phone, bob: Phone
) -> None:
    room = await alice.create_room()

    def ask(device: Phone, package: bytes) -> bytes:
        return make_submission(
            room.id, device.address, os.urandom(16), Kind.JOIN_REQUEST, package
        )

    own = alice.key_package().key_package
    assert (await alice.submit(ask(alice, own))).state == "committed"
    with pytest.raises(NotAllowed):
        await alice.submit(ask(alice, bob.key_package().key_package))
    with pytest.raises(UnknownRoom):
        await bob.submit(ask(bob, bob.key_package().key_package))
    with pytest.raises(BadRequest):
        await alice.submit(ask(alice, b"no package"))


@pytest.mark.parametrize("by_remove", [True, False])
async def test_leaving_is_proposed_and_committed(
    alice: Phone, bob: Phone, by_remove: bool
) -> None:
    room = await alice.create_room()
    await alice.add(room, bob.account)
    async with bob.session() as line:
        joined = await bob.join(mail((await line.entries(bob.mailbox, 1))[0]))
    leaf = next(
        member.leaf
        for member in joined.group.members()
        if member.identity == bob.terminal.credential
    )
    proposal = (
        joined.group.propose_remove(leaf)
        if by_remove
        else joined.group.propose_leaving()
    )
    data = make_submission(
        room.id, bob.address, os.urandom(16), Kind.PROPOSAL, proposal
    )
    assert (await bob.submit(data)).seq == 3
    room.group.receive_proposal(proposal)
    data, bundle, _ = alice.commit(room)
    assert (await alice.submit(data, bundle)).seq == 4
    page = await read_page(alice, room, "after=3")
    assert read_entry(page.entries[0]).removed == (bob.account,)
