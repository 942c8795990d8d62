"""A room's group and roster through two nodes; and a hub that lies about them."""

import time
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from e2ee import E2eeError
from e2ee.member import ALLOW_ALL
from node.app import Node
from node.rooms.state import _check_roster
from protocol.account_log import read_account_log
from protocol.address import parse_account
from protocol.errors import (
    DeviceRevoked,
    LogForked,
    NotAllowed,
    PeerRefused,
    Refused,
    UnknownKey,
    UnknownRoom,
)
from protocol.log import LogId, read_submission
from protocol.wire import AccountLog, GroupState, Page, Roster, Submit
from tests.helpers.fuzz import fuzzing
from tests.helpers.people import Person
from tests.node.phone import Phone, body, further_phone, phone, revocation
from tests.node.world import World, meet


async def group(device: Phone, room: LogId) -> GroupState:
    return await device.call("GET", f"/telex/v1/logs/{room}/group", None, GroupState)


async def roster(device: Phone, room: LogId) -> Roster:
    return await device.call("GET", f"/telex/v1/logs/{room}/roster", None, Roster)


async def test_a_device_on_another_node_joins_by_itself(world: World) -> None:
    async with (
        phone(world.nodes[0], "alice", tls=world.tls) as alice,
        phone(world.nodes[1], "bob", tls=world.tls) as bob,
        phone(world.nodes[1], "mallory", tls=world.tls) as mallory,
    ):
        for each in (alice, bob, mallory):
            await each.register()
        await bob.upload_packages()
        async with bob.session() as other:
            room, _ = await meet(alice, bob, other)
        async with further_phone(world.nodes[1], bob, tls=world.tls) as second:
            state = await second.group_state(room.id)
            assert state == await alice.group_state(room.id)
            assert (state[0].seq, state[0].epoch) == (2, 1)
            with pytest.raises(UnknownRoom):
                await group(mallory, room.id)
            with pytest.raises(UnknownRoom):
                await roster(mallory, room.id)
            data, bundle, joined = second.external_commit(room.id, state)
            assert (await second.submit(data, bundle)).seq == 3
            room.group.process_commit(read_submission(data).body, now=int(time.time()))
            assert await second.submit(data, bundle) == await second.submit(data)
            async with second.session() as line:
                await line.ack(**{room.id: 3})
                await alice.submit(alice.message(room, b"over there"))
                entry = (await line.entries(room.id, 1))[0]
                assert joined.group.decrypt(body(entry)).content == b"over there"
            for asker in (alice, second):
                found = await roster(asker, room.id)
                assert found.devices == sorted(
                    [alice.address, bob.address, second.address]
                )
                assert found.accounts == sorted([alice.account, bob.account])
            # A device that its node has shut out does not get through to the hub.
            await bob.append_log(revocation(bob, second))
            with pytest.raises(DeviceRevoked):
                await group(second, room.id)
            found = await roster(bob, room.id)
            assert found.devices == sorted([alice.address, bob.address])
        log = await alice.call(
            "GET", f"/telex/v1/accounts/{bob.account}/log", None, AccountLog
        )
        assert (log.seq, log.hash) == (4, twin_head(bob, log))


def twin_head(device: Phone, log: AccountLog) -> bytes:
    """The chain's hash as a reader of the log works it out."""
    return read_account_log(parse_account(device.account), log.entries).head


async def test_a_node_brings_in_nobody_under_its_accounts_names(
    world: World,
) -> None:
    """A node vouches for its own devices, but not for another root of theirs."""
    async with (
        phone(world.nodes[0], "alice", tls=world.tls) as alice,
        phone(world.nodes[1], "bob", tls=world.tls) as bob,
    ):
        await alice.register()
        await bob.register()
        await bob.upload_packages()
        async with bob.session() as other:
            room, _ = await meet(alice, bob, other)
        state = await alice.group_state(room.id)
        false = Person(bob.account, now=int(time.time()))
        liar = replace(bob, person=false, terminal=false.device())
        data, bundle, _ = liar.external_commit(room.id, state, validator=ALLOW_ALL)
        with pytest.raises(UnknownKey):
            await liar.submit(data, bundle)
        # The node itself forwards it, as a dishonest one would.
        with pytest.raises(NotAllowed, match="root key"):
            await world.nodes[1].federation.submit(
                alice.name, room.id, Submit(data, bundle)
            )
        path = f"/telex/v1/logs/{room.id}/entries"
        page = await alice.call("GET", path, None, Page, query="after=0")
        assert page.head == 2


@dataclass
class Lies:
    """What a hub says instead of the truth; fields that are None are true."""

    group: dict[str, Any] = field(default_factory=dict)
    roster: dict[str, Any] = field(default_factory=dict)


def make_lying(node: Node, lies: Lies, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a hub answer its peers with lies, properly signed."""
    states = node.states
    true_group, true_roster = states.group_for_peer, states.roster_for_peer

    async def false_group(peer: str, room: LogId) -> GroupState:
        return changed(await true_group(peer, room), **lies.group)

    async def false_roster(peer: str, room: LogId) -> Roster:
        return changed(await true_roster(peer, room), **lies.roster)

    monkeypatch.setattr(states, "group_for_peer", false_group)
    monkeypatch.setattr(states, "roster_for_peer", false_roster)


async def test_a_hub_that_lies_is_caught_by_ones_own_node_or_device(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    lies = Lies()
    make_lying(world.nodes[0], lies, monkeypatch)
    async with (
        phone(world.nodes[0], "alice", tls=world.tls) as alice,
        phone(world.nodes[1], "bob", tls=world.tls) as bob,
    ):
        await alice.register()
        await bob.register()
        await bob.upload_packages()
        async with bob.session() as other:
            room, _ = await meet(alice, bob, other)
        true = await group(bob, room.id)
        for lie, expected in (
            ({"hash": bytes(32)}, LogForked),
            ({"seq": 0}, LogForked),
            ({"seq": -5}, LogForked),
            ({"hash": b"short"}, PeerRefused),
            ({"tree_hash": b""}, PeerRefused),
            ({"epoch": -1}, PeerRefused),
        ):
            lies.group = lie
            with pytest.raises(expected):
                await group(bob, room.id)
        lies.group = {}
        false: list[dict[str, list[str]]] = [
            {"accounts": [alice.account]},
            {"accounts": []},
            {"devices": ["not a device"]},
            {"accounts": ["not an account"]},
            {"devices": [f"eve@evil.example/{'a' * 16}"]},
        ]
        for lists in false:
            lies.roster = dict(lists)
            with pytest.raises(PeerRefused):
                await roster(bob, room.id)
        lies.roster = {}
        # A group that no member vouches for is the device's to refuse.
        spoiled = true.group_info[:-1] + bytes([true.group_info[-1] ^ 1])
        lies.group = {"group_info": spoiled}
        state = await bob.group_state(room.id)
        with pytest.raises(E2eeError):
            bob.external_commit(room.id, state, remove=bob.address)
        lies.group = {}
        assert await group(bob, room.id) == true


async def test_only_nodes_with_members_ask(world: World) -> None:
    async with phone(world.nodes[0], "alice", tls=world.tls) as alice:
        await alice.register()
        room = await alice.create_room()
        stranger = world.nodes[1].federation
        for ask in (stranger.group, stranger.roster):
            with pytest.raises(UnknownRoom):
                await ask(alice.name, room.id)
            with pytest.raises(Refused):
                await ask(alice.name, LogId("a" * 52))


@pytest.mark.fuzz
@fuzzing
@given(
    st.lists(st.text(max_size=30) | st.just("a@b.c"), max_size=4),
    st.lists(st.text(max_size=30) | st.just(f"a@b.c/{'a' * 16}"), max_size=4),
)
def test_any_roster_is_right_or_refused(
    accounts: list[str], devices: list[str]
) -> None:
    try:
        _check_roster(Roster(1, devices, accounts), "hub.example")
    except PeerRefused as error:
        assert str(error).isprintable()
        return
    assert {device.rpartition("/")[0] for device in devices} <= set(accounts)
