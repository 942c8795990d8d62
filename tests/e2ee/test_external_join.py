"""Joining by external commit: newly, or in place of one's lost self."""

from __future__ import annotations

from dataclasses import replace

import pytest

from e2ee import ALLOW_ALL, Group, StagedCommit
from e2ee.codepoint import NEW_MEMBER_COMMIT
from e2ee.errors import (
    BadConfirmationTag,
    BadSignature,
    DuplicateKey,
    E2eeError,
    InvalidGroupInfo,
    InvalidLeaf,
    InvalidProposal,
    InvalidProposalList,
    NotAllowed,
    PathRequired,
    TreeHashMismatch,
)
from e2ee.framing import Commit, Sender
from e2ee.group_context import GroupContext
from e2ee.group_info import GroupInfo, sign_group_info
from e2ee.member import CommitEffects, Member, UnsafeAllowAll
from e2ee.proposal import Add, ExternalInit, Proposal, ProposalRef, Remove
from e2ee.suite import SUITE_3
from tests.e2ee.forging import knock
from tests.e2ee.support import (
    NOW,
    Person,
    Room,
    bundle_for,
    commit_in,
    forge,
    rng,
    snapshot,
)


def enter(room: Room, name: str, *, remove: str | None = None) -> StagedCommit:
    key = room.people[remove].signature_private if remove else rng(32)
    leaf = room.leaf(remove) if remove else None
    group, staged = knock(room, name, key, remove=leaf)
    if remove:
        old = room.people.pop(remove)
        assert old.group.process_commit(staged.commit, now=NOW).removed_self
    room.people[name] = Person(name, key, group)
    before = set(room.people) - {name}
    room.hub, effects = room.hub.process_commit(
        staged.commit, staged.group_info, now=NOW, welcome_refs=[]
    )
    assert effects == staged.effects
    for other in before:
        assert room[other].process_commit(staged.commit, now=NOW).effects == effects
    room.check()
    return staged


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 8])
def test_a_newcomer_joins_and_takes_part(count: int) -> None:
    room = Room.of(count)
    staged = enter(room, "q")
    effects = staged.effects
    assert effects.external
    assert effects.added == (effects.sender,)
    assert effects.sender.leaf == count
    message = room["q"].encrypt(b"hello")
    assert room["p0"].decrypt(message).content == b"hello"
    room.commit("q")
    room.commit("p0")
    room.add("q", "r")


def test_the_leftmost_blank_leaf_is_taken() -> None:
    room = Room.of(5)
    room.commit("p1", remove=("p0",))
    assert enter(room, "q").effects.sender.leaf == 0


def test_resync_replaces_the_old_leaf() -> None:
    room = Room.of(4)
    staged = enter(room, "p2", remove="p2")
    assert [m.identity for m in staged.effects.removed] == [b"p2"]
    assert room.leaf("p2") == 2
    room.commit("p2")


def test_the_creator_comes_back() -> None:
    room = Room.of(1)
    enter(room, "q")
    enter(room, "p0", remove="p0")
    assert room.leaf("p0") == 0


def test_without_the_remove_it_is_in_the_group_already() -> None:
    room = Room.of(3)
    with pytest.raises(DuplicateKey):
        knock(room, "p2", room.people["p2"].signature_private)


def test_only_the_current_epoch_can_be_joined() -> None:
    room = Room.of(3)
    _, staged = knock(room, "q", rng(32))
    room.commit("p0")
    with pytest.raises(E2eeError):
        room.hub.process_commit(staged.commit, staged.group_info, now=NOW)


def test_what_the_hub_gives_is_checked() -> None:
    room = Room.of(3)
    info, tree = room["p0"].group_info(), room.hub.ratchet_tree()

    def join(info: bytes, tree: bytes | None) -> None:
        Group.join_external(
            info,
            ratchet_tree=tree,
            signature_private=rng(32),
            identity=b"q",
            validator=ALLOW_ALL,
        )

    with pytest.raises(InvalidGroupInfo):
        join(info, None)
    with pytest.raises(TreeHashMismatch):
        join(info, Room.of(2).hub.ratchet_tree())
    parsed = GroupInfo.from_message(info)
    key = room.people["p0"].signature_private
    bare = sign_group_info(SUITE_3, key, parsed.context, (), parsed.confirmation_tag, 0)
    with pytest.raises(InvalidGroupInfo):
        join(bare.message(), tree)
    for at in range(0, len(info), 4):
        wrong = bytearray(info)
        wrong[at] ^= 1
        with pytest.raises(E2eeError):
            join(bytes(wrong), tree)


def test_a_removal_must_be_possible() -> None:
    room = Room.of(3)
    with pytest.raises(InvalidProposal):
        knock(room, "q", rng(32), remove=3)


def refused(room: Room, error: type[E2eeError], message: bytes) -> None:
    group = room["p2"]
    before = snapshot(group)
    with pytest.raises(error) as caught:
        group.process_commit(message, now=NOW)
    assert snapshot(group) == before
    with pytest.raises(type(caught.value)):
        room.hub.process_commit(message, room["p0"].group_info(), now=NOW)


def test_external_commits_hold_nothing_else() -> None:
    room = Room.of(4)
    room.propose("p1", room["p1"].propose_remove(3))
    reference = ProposalRef(room["p0"].pending_proposals[0].ref)
    key = rng(32)
    _, staged = knock(room, "q", key)
    commit = commit_in(staged)
    init = commit.proposals[0]
    assert isinstance(init, ExternalInit)
    from e2ee.codec import decode
    from e2ee.key_package import KeyPackage

    package = decode(bundle_for("r", rng(32)).key_package, KeyPackage.read)
    lists: list[tuple[tuple[Proposal | ProposalRef, ...], type[E2eeError]]] = [
        ((), InvalidProposalList),
        ((init, init), InvalidProposalList),
        ((init, Remove(1), Remove(3)), InvalidProposalList),
        ((init, Add(package)), InvalidProposalList),
        ((init, reference), InvalidProposalList),
        ((Remove(1),), InvalidProposalList),
        ((init, Remove(9)), InvalidProposal),
    ]
    sender = Sender(NEW_MEMBER_COMMIT)
    for proposals, error in lists:
        bent = Commit(proposals, commit.path)
        message = forge(room["p0"], bent, sender=sender, signature_private=key)
        refused(room, error, message)
    no_path = Commit((init,), None)
    message = forge(room["p0"], no_path, sender=sender, signature_private=key)
    refused(room, PathRequired, message)
    message = forge(room["p0"], commit, sender=sender)
    refused(room, BadSignature, message)


def test_the_tag_confirms_external_commits_too() -> None:
    room = Room.of(3)
    key = rng(32)
    _, staged = knock(room, "q", key)
    sender = Sender(NEW_MEMBER_COMMIT)
    message = forge(room["p0"], commit_in(staged), sender=sender, signature_private=key)
    group = room["p2"]
    before = snapshot(group)
    with pytest.raises(BadConfirmationTag):
        group.process_commit(message, now=NOW)
    assert snapshot(group) == before


def test_a_resync_needs_a_new_encryption_key() -> None:
    room = Room.of(3)
    key = room.people["p1"].signature_private
    old = room["p1"]._epoch.tree.leaf(1)
    assert old is not None
    _, staged = knock(room, "p1", key, remove=1)
    commit = commit_in(staged)
    assert commit.path is not None
    bent = replace(commit.path.leaf_node, encryption_key=old.encryption_key)
    from e2ee.leaf import sign_leaf

    leaf = sign_leaf(
        SUITE_3,
        key,
        encryption_key=bent.encryption_key,
        credential=bent.credential,
        capabilities=bent.capabilities,
        parent_hash=bent.parent_hash,
        group_id=b"room",
        leaf=1,
    )
    message = forge(
        room["p0"],
        Commit(commit.proposals, replace(commit.path, leaf_node=leaf)),
        sender=Sender(NEW_MEMBER_COMMIT),
        signature_private=key,
    )
    refused(room, InvalidLeaf, message)


def test_policy_may_forbid_it() -> None:
    class Closed(UnsafeAllowAll):
        def authorize(
            self, context: GroupContext, sender: Member, effects: CommitEffects
        ) -> None:
            if effects.external and not effects.removed:
                raise NotAllowed("external joins are off")

    room = Room.of(3, validator=Closed())
    with pytest.raises(NotAllowed):
        knock(room, "q", rng(32))
    room.validator = ALLOW_ALL
    _, staged = knock(room, "q", rng(32))
    refused(room, NotAllowed, staged.commit)
    room.validator = Closed()
    enter(room, "p1", remove="p1")
