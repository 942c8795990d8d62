"""The hub follows without a secret, and refuses what does not fit."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from e2ee import ALLOW_ALL, Group, PublicGroup
from e2ee.errors import (
    BadSignature,
    E2eeError,
    InvalidGroupInfo,
    InvalidWelcome,
    LifetimeExpired,
    Malformed,
    StaleEpoch,
    TreeHashMismatch,
)
from e2ee.group_info import GroupInfo, sign_group_info
from e2ee.suite import SUITE_3
from tests.e2ee.support import DAY, NOW, VECTORS, Room, bundle_for


@pytest.fixture
def room() -> Room:
    return Room.of(4)


def test_it_is_a_value(room: Room) -> None:
    hub = room.hub
    before = hub.encode()
    staged = room["p0"].commit(remove=[2], now=NOW)
    after, effects = hub.process_commit(staged.commit, staged.group_info, now=NOW)
    assert hub.encode() == before
    assert after.epoch == hub.epoch + 1
    assert effects == staged.effects
    assert [m.identity for m in after.members()] == [b"p0", b"p1", b"p3"]


def test_it_comes_back_from_bytes(room: Room) -> None:
    room.propose("p1", room["p1"].propose_update())
    again = PublicGroup.decode(room.hub.encode(), validator=ALLOW_ALL)
    assert again == room.hub or again.encode() == room.hub.encode()
    assert again.tree_hash == room["p0"].context.tree_hash
    room.hub = again
    assert len(again.pending_proposals) == 1
    room.commit("p0")
    data = room.hub.encode()
    for broken in (b"", data[:-1], data + b"\0", b"\2" + data[1:]):
        with pytest.raises(Malformed):
            PublicGroup.decode(broken, validator=ALLOW_ALL)


def test_who_loses_the_keys_follows_as_the_hub_does(room: Room) -> None:
    """A member's public half goes where the log goes, and nowhere else."""
    trail = room["p3"].public()
    assert trail.encode() == room.hub.encode()
    assert trail.is_state_of(room["p0"].group_info())
    own = room["p3"].propose_update()
    room.propose("p3", own)
    kept = room["p3"].public()
    assert not any(stored.private for stored in kept.pending.values())
    trail, _ = trail.receive_proposal(own)
    old = room["p0"].group_info()
    staged = room["p0"].commit(remove=[2], now=NOW)
    rival = room["p1"].commit(now=NOW)
    room.deliver("p0", staged)
    for before in (trail, kept):
        after, effects = before.follow(staged.commit)
        assert effects == staged.effects and after.encode() == room.hub.encode()
        assert after.is_state_of(staged.group_info)
        assert not after.is_state_of(old) and not after.is_state_of(rival.group_info)
        with pytest.raises(StaleEpoch):
            after.follow(rival.commit)
    broken = bytearray(staged.commit)
    for at in range(0, len(broken), 7):
        broken[at] ^= 1
        with contextlib.suppress(E2eeError):
            odd, _ = trail.follow(bytes(broken))
            # Of all bytes only those of the two tags are not signed.
            assert odd.context == after.context
        broken[at] ^= 1


def test_a_hub_may_take_over_later(room: Room) -> None:
    hub = PublicGroup.create(
        room["p2"].group_info(),
        room["p2"].ratchet_tree(),
        now=NOW,
        validator=ALLOW_ALL,
    )
    assert hub.encode() == room.hub.encode()
    room.hub = hub
    room.commit("p1")


def test_the_second_commit_of_an_epoch_is_stale(room: Room) -> None:
    one = room["p0"].commit(now=NOW)
    two = room["p1"].commit(now=NOW)
    hub, _ = room.hub.process_commit(one.commit, one.group_info, now=NOW)
    with pytest.raises(StaleEpoch):
        hub.process_commit(two.commit, two.group_info, now=NOW)


def test_the_group_info_must_be_of_this_commit(room: Room) -> None:
    staged = room["p0"].commit(now=NOW)
    other = room["p0"].commit(now=NOW)
    third = room["p1"].commit(now=NOW)
    for info in (other.group_info, third.group_info, room["p0"].group_info()):
        with pytest.raises(InvalidGroupInfo):
            room.hub.process_commit(staged.commit, info, now=NOW)
    right = GroupInfo.from_message(staged.group_info)
    key = room.people["p0"].signature_private

    def sign(**change: object) -> bytes:
        fields = {
            "context": right.context,
            "extensions": right.extensions,
            "confirmation_tag": right.confirmation_tag,
            "signer": 0,
        } | change
        return sign_group_info(SUITE_3, key, **fields).message()  # type: ignore[arg-type]

    good, _ = room.hub.process_commit(staged.commit, sign(), now=NOW)
    assert good.epoch == room.hub.epoch + 1
    context = right.context
    for wrong in (
        sign(context=replace(context, epoch=context.epoch + 1)),
        sign(context=replace(context, tree_hash=bytes(32))),
        sign(context=replace(context, confirmed_transcript_hash=bytes(32))),
        sign(context=replace(context, group_id=b"other")),
        sign(confirmation_tag=bytes(32)),
        sign(signer=1),
        sign(extensions=()),
    ):
        with pytest.raises(InvalidGroupInfo):
            room.hub.process_commit(staged.commit, wrong, now=NOW)
    key = room.people["p1"].signature_private
    with pytest.raises(BadSignature):
        room.hub.process_commit(staged.commit, sign(), now=NOW)


def test_welcomes_must_be_those_of_the_added(room: Room) -> None:
    bundles = [bundle_for(name, os.urandom(32)) for name in ("q", "r")]
    staged = room["p0"].commit(add=[b.key_package for b in bundles], now=NOW)
    refs = [ref for ref, _ in staged.welcomes]
    for wrong in ([], refs[:1], [*refs, refs[0]], [refs[0], bytes(32)]):
        with pytest.raises(InvalidWelcome):
            room.hub.process_commit(
                staged.commit, staged.group_info, now=NOW, welcome_refs=wrong
            )
    room.hub.process_commit(
        staged.commit, staged.group_info, now=NOW, welcome_refs=refs[::-1]
    )


def test_the_hub_judges_lifetimes(room: Room) -> None:
    bundle = bundle_for("q", os.urandom(32))
    staged = room["p0"].commit(add=[bundle.key_package], now=NOW)
    with pytest.raises(LifetimeExpired):
        room.hub.process_commit(staged.commit, staged.group_info, now=NOW + 91 * DAY)
    # A member that catches up later takes what the hub took then.
    room["p1"].process_commit(staged.commit, now=NOW + 500 * DAY)


def test_creating_checks_tree_and_signature() -> None:
    group = Group.create(
        group_id=b"g",
        signature_private=os.urandom(32),
        identity=b"x",
        now=NOW,
        validator=ALLOW_ALL,
    )
    other = Group.create(
        group_id=b"g",
        signature_private=os.urandom(32),
        identity=b"x",
        now=NOW,
        validator=ALLOW_ALL,
    )
    info, tree = group.group_info(), group.ratchet_tree()

    def create(info: bytes, tree: bytes, now: int = NOW) -> PublicGroup:
        return PublicGroup.create(info, tree, now=now, validator=ALLOW_ALL)

    assert create(info, tree).members() == group.members()
    with pytest.raises(TreeHashMismatch):
        create(info, other.ratchet_tree())
    with pytest.raises(LifetimeExpired):
        create(info, tree, NOW + 91 * DAY)
    for at in range(0, len(info), 5):
        wrong = bytearray(info)
        wrong[at] ^= 1
        with pytest.raises(E2eeError):
            create(bytes(wrong), tree)


def test_no_secret_reaches_the_hub(room: Room) -> None:
    data = room.hub.encode()
    for person in room.people.values():
        state = person.group._epoch
        for secret in (
            *state.private_keys.values(),
            state.secrets.init_secret,
            state.secrets.membership_key,
            person.signature_private,
        ):
            assert secret not in data


def test_the_hubs_module_exports_what_it_says() -> None:
    from e2ee import public_group

    for name in public_group.__all__:
        assert hasattr(public_group, name)


def test_importing_is_light() -> None:
    code = (
        "import sys, e2ee.public_group;"
        "heavy = {'asyncio', 'aiohttp', 'sqlite3', 'logging', 'socket', 'msgspec',"
        " 'cryptography', 'textual'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=VECTORS.parent.parent,
        check=True,
    )
    assert done.stdout.strip() == "[]"
