"""Devices that join by themselves (RFC 9420 section 12.4.3.2), and who may not."""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from e2ee import Group
from e2ee.errors import DuplicateKey
from e2ee.external_join import ExternalJoin
from e2ee.member import ALLOW_ALL
from e2ee.proposal import Proposal, Remove
from node.app import Node
from node.rooms.incoming import read_incoming
from protocol.errors import (
    BadRequest,
    DeviceRevoked,
    InvalidCommit,
    NotAllowed,
    NotFound,
    StaleEpoch,
    UnknownKey,
    UnknownRoom,
)
from protocol.log import Kind, LogId, make_submission, read_entry, read_submission
from protocol.policy import device_of
from protocol.wire import (
    AddressedWelcome,
    Bundle,
    GroupState,
    Page,
    Roster,
    Tree,
)
from tests.helpers.people import Person
from tests.node.phone import (
    Phone,
    Room,
    body,
    further_phone,
    phone,
    revocation,
)


async def head(device: Phone, room: LogId) -> int:
    path = f"/telex/v1/logs/{room}/entries"
    return (await device.call("GET", path, None, Page, query="after=0")).head


async def roster(device: Phone, room: LogId) -> Roster:
    return await device.call("GET", f"/telex/v1/logs/{room}/roster", None, Roster)


@asynccontextmanager
async def with_room(
    node: Node, alice: Phone, bob: Phone
) -> AsyncIterator[tuple[Room, Phone]]:
    """A room of alice and bob, and a second device of bob's that is not in it."""
    room = await alice.create_room()
    await alice.add(room, bob.account)
    async with further_phone(node, bob) as second:
        yield room, second


async def test_a_new_device_of_a_member_joins_and_talks(
    node: Node, alice: Phone, bob: Phone
) -> None:
    async with with_room(node, alice, bob) as (room, second):
        state = await second.group_state(room.id)
        assert (state[0].seq, state[0].epoch) == (2, 1)
        data, bundle, joined = second.external_commit(room.id, state)
        receipt = await second.submit(data, bundle)
        assert (receipt.state, receipt.seq) == ("committed", 3)
        room.group.process_commit(read_submission(data).body, now=int(time.time()))
        assert joined.group.epoch == room.group.epoch == 2
        async with second.session() as line:
            await line.ack(**{room.id: 3})
            await alice.submit(alice.message(room, b"welcome"))
            entry = (await line.entries(room.id, 1))[0]
            assert joined.group.decrypt(body(entry)).content == b"welcome"
        assert (await second.submit(second.message(joined))).state == "committed"
        found = await roster(alice, room.id)
        assert second.address in found.devices and len(found.devices) == 3
        assert found.accounts == sorted([alice.account, bob.account])
        # Nobody came in or went: the account was here before.
        path = f"/telex/v1/logs/{room.id}/entries"
        page = await alice.call("GET", path, None, Page, query="after=2")
        assert read_entry(page.entries[0]).added == ()


async def test_a_device_that_lost_its_state_takes_its_old_leaf_away(
    node: Node, alice: Phone, bob: Phone
) -> None:
    room = await alice.create_room()
    await alice.add(room, bob.account)
    state = await bob.group_state(room.id)
    with pytest.raises(NotAllowed):
        bob.external_commit(room.id, state)
    data, bundle, joined = bob.external_commit(room.id, state, remove=bob.address)
    assert (await bob.submit(data, bundle)).seq == 3
    room.group.process_commit(read_submission(data).body, now=int(time.time()))
    assert len(room.group.members()) == 2
    assert (await roster(bob, room.id)).devices == sorted([alice.address, bob.address])
    assert (await bob.submit(bob.message(joined))).seq == 4


async def test_nobody_else_gets_in(node: Node, alice: Phone, bob: Phone) -> None:
    async with (
        with_room(node, alice, bob) as (room, _),
        phone(node, "mallory") as mallory,
    ):
        await mallory.register()
        state = await alice.group_state(room.id)
        with pytest.raises(UnknownRoom):
            await mallory.group_state(room.id)
        with pytest.raises(UnknownRoom):
            await roster(mallory, room.id)
        with pytest.raises(NotAllowed):
            mallory.external_commit(room.id, state)
        data, bundle, _ = mallory.external_commit(room.id, state, validator=ALLOW_ALL)
        with pytest.raises(UnknownRoom):
            await mallory.submit(data, bundle)
        # A commit of somebody else's, in the name of a member.
        carried = make_submission(
            room.id,
            bob.address,
            os.urandom(16),
            Kind.COMMIT,
            read_submission(data).body,
        )
        with pytest.raises((NotAllowed, InvalidCommit)):
            await bob.submit(carried, bundle)
        assert await head(alice, room.id) == 2


async def test_only_its_own_old_leaf_goes(node: Node, alice: Phone, bob: Phone) -> None:
    async with with_room(node, alice, bob) as (room, second):
        state = await second.group_state(room.id)
        for victim in (alice.address, bob.address):
            with pytest.raises(NotAllowed):
                second.external_commit(room.id, state, remove=victim)
            data, bundle, _ = second.external_commit(
                room.id, state, remove=victim, validator=ALLOW_ALL
            )
            with pytest.raises(NotAllowed):
                await second.submit(data, bundle)
        # And a device that stands there stands there once.
        data, bundle, _ = second.external_commit(room.id, state)
        await second.submit(data, bundle)
        state = await second.group_state(room.id)
        with pytest.raises(DuplicateKey):
            second.external_commit(room.id, state, validator=ALLOW_ALL)
        assert await head(alice, room.id) == 3


async def test_two_leaves_never_go_at_once(
    node: Node, alice: Phone, bob: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own old leaf and, in the same commit, somebody else's."""
    room = await alice.create_room()
    await alice.add(room, bob.account)
    state = await bob.group_state(room.id)
    victim = next(
        member.leaf
        for member in room.group.members()
        if device_of(member.identity) == alice.address
    )
    honest = ExternalJoin._apply

    def greedy(self: ExternalJoin, proposals: list[Proposal], stored: Any) -> Any:
        proposals.append(Remove(victim))
        return honest(self, proposals, stored)

    with monkeypatch.context() as patch:
        patch.setattr(ExternalJoin, "_apply", greedy)
        patch.setattr("e2ee.proposal_list._check_external_list", lambda *_: None)
        data, bundle, _ = bob.external_commit(
            room.id, state, remove=bob.address, validator=ALLOW_ALL
        )
    with pytest.raises(InvalidCommit, match="more than one leaf"):
        await bob.submit(data, bundle)
    # And the policy says no by itself.
    with monkeypatch.context() as patch:
        patch.setattr("e2ee.proposal_list._check_external_list", lambda *_: None)
        with pytest.raises(NotAllowed, match="own old leaf"):
            await bob.submit(data, bundle)
    assert await head(alice, room.id) == 2


async def test_an_account_with_another_root_is_not_who_is_here(
    node: Node, alice: Phone, bob: Phone
) -> None:
    """A node that lies about its own accounts cannot let a device of its own in."""
    async with with_room(node, alice, bob) as (room, _):
        state = await alice.group_state(room.id)
        false = Person(bob.account, now=int(time.time()))
        liar = Phone(bob.http, bob.name, bob.base, false, false.device())
        with pytest.raises(NotAllowed, match="root key"):
            liar.external_commit(room.id, state)
        data, _, _ = liar.external_commit(room.id, state, validator=ALLOW_ALL)
        with pytest.raises(NotAllowed, match="root key"):
            room.group.process_commit(read_submission(data).body, now=int(time.time()))


async def test_a_stale_group_info_loses(node: Node, alice: Phone, bob: Phone) -> None:
    async with with_room(node, alice, bob) as (room, second):
        state = await second.group_state(room.id)
        data, bundle, _ = second.external_commit(room.id, state)
        ours, our_bundle, staged = alice.commit(room)
        await alice.submit(ours, our_bundle)
        room.group.apply_own(staged)
        with pytest.raises(StaleEpoch) as caught:
            await second.submit(data, bundle)
        assert caught.value.epoch == 2
        # The tree of then is gone, and the answer says what to do.
        path = f"/telex/v1/logs/{room.id}/tree/{state[0].tree_hash.hex()}"
        assert await second.call("GET", path, None, Tree)  # a Welcome named it
        ours, our_bundle, staged = alice.commit(room)
        state = await second.group_state(room.id)
        await alice.submit(ours, our_bundle)
        path = f"/telex/v1/logs/{room.id}/tree/{state[0].tree_hash.hex()}"
        with pytest.raises(NotFound, match="state again"):
            await second.call("GET", path, None, Tree)


async def test_the_bundle_of_an_external_commit(
    node: Node, alice: Phone, bob: Phone
) -> None:
    async with with_room(node, alice, bob) as (room, second):
        state = await second.group_state(room.id)
        data, bundle, _ = second.external_commit(room.id, state)
        with pytest.raises(BadRequest):
            await second.submit(data)
        with pytest.raises(InvalidCommit):
            await second.submit(data, Bundle(state[0].group_info))
        spoiled = bundle.group_info[:-1] + bytes([bundle.group_info[-1] ^ 1])
        with pytest.raises(InvalidCommit):
            await second.submit(data, Bundle(spoiled))
        false = AddressedWelcome(second.address, b"r" * 32, b"w")
        with pytest.raises(InvalidCommit):
            await second.submit(data, Bundle(bundle.group_info, [false]))
        with pytest.raises(NotAllowed):
            await bob.submit(data, bundle)
        assert await head(alice, room.id) == 2
        first = await second.submit(data, bundle)
        # A repeat answers the same; the same commit in another envelope is late.
        assert await second.submit(data) == first
        again = make_submission(
            room.id,
            second.address,
            os.urandom(16),
            Kind.COMMIT,
            read_submission(data).body,
        )
        with pytest.raises(StaleEpoch):
            await second.submit(again, bundle)
        assert await head(alice, room.id) == 3


async def test_a_revoked_device_does_not_come_back(
    node: Node, alice: Phone, bob: Phone
) -> None:
    async with with_room(node, alice, bob) as (room, second):
        state = await second.group_state(room.id)
        data, bundle, _ = second.external_commit(room.id, state)
        await bob.append_log(revocation(bob, second))
        with pytest.raises(DeviceRevoked):
            await second.submit(data, bundle)
        with pytest.raises(DeviceRevoked):
            await second.group_state(room.id)
        assert await head(alice, room.id) == 2


async def test_a_device_that_the_account_never_had(
    node: Node, alice: Phone, bob: Phone
) -> None:
    """The hub's own accounts are held against their logs, whatever a node says."""
    async with with_room(node, alice, bob) as (room, _):
        state = await alice.group_state(room.id)
        unlisted = Phone(bob.http, bob.name, bob.base, bob.person, bob.person.device())
        data, bundle, _ = unlisted.external_commit(room.id, state)
        with pytest.raises(UnknownKey):
            await unlisted.submit(data, bundle)
        with pytest.raises(UnknownKey):
            await node.hub.submit(read_incoming(data), bundle)
        assert await head(alice, room.id) == 2


async def test_who_was_removed_does_not_join_again(
    node: Node, alice: Phone, bob: Phone
) -> None:
    async with with_room(node, alice, bob) as (room, second):
        early = await second.group_state(room.id)
        data, bundle, staged = alice.commit(room, remove=[bob.address])
        await alice.submit(data, bundle)
        room.group.apply_own(staged)
        for path in ("group", "roster"):
            with pytest.raises(UnknownRoom):
                await second.call(
                    "GET", f"/telex/v1/logs/{room.id}/{path}", None, GroupState
                )
        late, late_bundle, _ = second.external_commit(room.id, early)
        with pytest.raises(UnknownRoom):
            await second.submit(late, late_bundle)
        now = await alice.group_state(room.id)
        forged, forged_bundle, _ = second.external_commit(
            room.id, now, validator=ALLOW_ALL
        )
        with pytest.raises(UnknownRoom):
            await second.submit(forged, forged_bundle)
        with pytest.raises(NotAllowed):
            room.group.process_commit(
                read_submission(forged).body, now=int(time.time())
            )


async def test_a_credential_of_garbage_is_an_invalid_commit(
    node: Node, alice: Phone, bob: Phone
) -> None:
    async with with_room(node, alice, bob) as (room, second):
        state = await second.group_state(room.id)
        for identity in (b"", b"garbage", bob.terminal.credential):
            spoiled = replace(
                second, terminal=replace(second.terminal, credential=identity)
            )
            data, bundle, _ = spoiled.external_commit(
                room.id, state, validator=ALLOW_ALL
            )
            with pytest.raises((InvalidCommit, NotAllowed)):
                await second.submit(data, bundle)
        assert await head(alice, room.id) == 2


async def test_a_self_group_is_its_creators_alone(alice: Phone, bob: Phone) -> None:
    false: list[dict[str, object]] = [
        {"default_role": 100},
        {"roles": {alice.account: 100, bob.account: 100}},
    ]
    for change in false:
        data, _ = alice.room_bytes(self_group=True, **change)
        with pytest.raises(NotAllowed, match="one account"):
            await alice.submit(data)
    data, room = alice.room_bytes(self_group=True)
    assert (await alice.submit(data)).seq == 1
    claimed = await alice.claim(bob.account)
    packages = [(p.device, p.package) for p in claimed.packages]
    with pytest.raises(NotAllowed, match="one account"):
        alice.commit(room, add=packages)
    liar = Group.load(
        room.group.dump_epoch(),
        room.group.dump_ratchets(),
        signature_private=alice.terminal.mls.seed,
        validator=ALLOW_ALL,
    )
    data, bundle, _ = alice.commit(Room(room.id, liar), add=packages)
    with pytest.raises(NotAllowed, match="one account"):
        await alice.submit(data, bundle)
