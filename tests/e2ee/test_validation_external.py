"""RFC 9420 sections 8.3, 12.2 and 12.4.3.2: external commits, a test for each rule."""

from __future__ import annotations

from dataclasses import replace

import pytest

from e2ee import Group, StagedCommit
from e2ee.codepoint import MEMBER, NEW_MEMBER_COMMIT
from e2ee.errors import (
    BadConfirmationTag,
    BadSignature,
    DuplicateSignatureKey,
    E2eeError,
    EncryptionKeyKept,
    ExternalForbids,
    ExternalInitCount,
    ExternalInitMisplaced,
    ExternalPubMissing,
    ExternalReference,
    ExternalRemoves,
    GroupIdTaken,
    NotAllowed,
    ParentHashMismatch,
    PathRequired,
    ReinitNotAlone,
    RemovesNobody,
    TreeHashMismatch,
    UnknownSender,
    UnsupportedSuite,
    WrongLeafSource,
)
from e2ee.framing import Commit, Sender
from e2ee.group_context import GroupContext
from e2ee.group_info import GroupInfo, sign_group_info
from e2ee.leaf import LeafNode, own_capabilities, sign_leaf
from e2ee.member import CommitEffects, Member, UnsafeAllowAll
from e2ee.proposal import (
    Add,
    ExternalInit,
    GroupContextExtensions,
    Proposal,
    ProposalRef,
    ReInit,
    Remove,
    Update,
)
from e2ee.suite import SUITE_3
from tests.e2ee.forging import (
    commit_refused,
    fresh_key,
    knock,
    package,
    proposed,
    update_leaf,
)
from tests.e2ee.support import NOW, SUITE_1, Room, commit_in, forge, rng


class Door:
    """A room of four, and somebody who is about to join from outside."""

    def __init__(self, remove: int | None = None) -> None:
        self.room = Room.of(4)
        self.key = rng(32)
        if remove is not None:
            self.key = self.room.people[f"p{remove}"].signature_private
        self.group, self.staged = knock(self.room, "q", self.key, remove=remove)
        self.commit = commit_in(self.staged)
        assert self.commit.path is not None
        self.path = self.commit.path
        init = self.commit.proposals[0]
        assert isinstance(init, ExternalInit)
        self.init = init

    def refused(
        self,
        error: type[E2eeError],
        *proposals: Proposal | ProposalRef,
        at_hub: bool = True,
    ) -> None:
        """The same commit with other proposals."""
        self.bent(error, Commit(proposals, self.path), at_hub=at_hub)

    def bent(
        self, error: type[E2eeError], commit: Commit, *, at_hub: bool = True
    ) -> None:
        message = forge(
            self.room["p0"],
            commit,
            sender=Sender(NEW_MEMBER_COMMIT),
            signature_private=self.key,
        )
        commit_refused(self.room, error, message, at_hub=at_hub)

    def leaf(self, **change: object) -> LeafNode:
        old = self.path.leaf_node
        fields: dict[str, object] = {
            "encryption_key": fresh_key(),
            "credential": old.credential,
            "capabilities": own_capabilities(SUITE_3),
            "parent_hash": old.parent_hash,
            "group_id": b"room",
            "leaf": 4,
        }
        return sign_leaf(SUITE_3, self.key, **(fields | change))  # type: ignore[arg-type]


@pytest.fixture
def door() -> Door:
    return Door()


# --- the list (section 12.2)


def test_external_commit_must_hold_one_external_init(door: Door) -> None:
    """Section 12.2: exactly one ExternalInit."""
    door.refused(ExternalInitCount)
    door.refused(ExternalInitCount, door.init, door.init)
    door.refused(ExternalInitCount, Remove(1))


def test_external_commit_must_hold_one_remove_at_most(door: Door) -> None:
    """Section 12.2: at most one Remove."""
    door.refused(ExternalRemoves, door.init, Remove(1), Remove(2))


def test_external_commit_must_remove_somebody(door: Door) -> None:
    """Section 12.1.3: the removed leaf is not blank."""
    door.refused(RemovesNobody, door.init, Remove(9))


def test_external_commit_must_hold_no_other_proposals(door: Door) -> None:
    """Section 12.2: no Add, Update, GroupContextExtensions or ReInit."""
    others: list[Proposal] = [
        Add(package()),
        Update(update_leaf(door.room["p0"])),
        GroupContextExtensions(()),
    ]
    for other in others:
        door.refused(ExternalForbids, door.init, other)
    door.refused(ReinitNotAlone, door.init, ReInit(b"new", 1, 3, ()))


def test_external_commit_must_not_refer_to_proposals(door: Door) -> None:
    """Section 12.4.3.2: it MUST NOT include proposals by reference."""
    ref = proposed(door.room, "p1", door.room["p1"].propose_remove(2))
    door.refused(ExternalReference, door.init, ProposalRef(ref))


def test_resync_leaf_must_change_the_encryption_key() -> None:
    """Section 12.2: its leaf meets what an Update of the removed leaf would."""
    door = Door(remove=1)
    old = door.room["p0"]._epoch.tree.leaf(1)
    assert old is not None
    leaf = door.leaf(encryption_key=old.encryption_key, leaf=1)
    wrong = Commit(door.commit.proposals, replace(door.path, leaf_node=leaf))
    door.bent(EncryptionKeyKept, wrong)


def test_resync_credential_must_be_acceptable_for_the_removed(door: Door) -> None:
    """Section 12.2: the application judges who may take whose place."""

    class Same(UnsafeAllowAll):
        def authorize(
            self, context: GroupContext, sender: Member, effects: CommitEffects
        ) -> None:
            gone = {member.identity for member in effects.removed}
            if effects.external and gone != {sender.identity}:
                raise NotAllowed("only in one's own place")

    room = Room.of(4)
    key = room.people["p1"].signature_private
    _, staged = knock(room, "mallory", key, remove=1)
    room.hub = replace(room.hub, validator=Same())
    room["p3"]._validator = Same()
    commit_refused(room, NotAllowed, staged.commit)


# --- the path and the signature (section 12.4.3.2)


def test_external_commit_must_have_a_path(door: Door) -> None:
    """Section 12.4.3.2: external commits MUST contain a path."""
    door.bent(PathRequired, Commit((door.init,), None))


def test_external_commit_must_be_signed_by_the_new_member(door: Door) -> None:
    """Section 12.4.3.2: it MUST verify with the key in the path's leaf."""
    message = forge(door.room["p0"], door.commit, sender=Sender(NEW_MEMBER_COMMIT))
    commit_refused(door.room, BadSignature, message)


def test_external_commit_sender_must_be_new_member_commit(door: Door) -> None:
    """Section 12.4.3.2: the sender type MUST be new_member_commit."""
    message = forge(door.room["p0"], door.commit, sender=Sender(MEMBER, 0))
    commit_refused(door.room, ExternalInitMisplaced, message)
    message = forge(door.room["p0"], door.commit, sender=Sender(MEMBER, 4))
    commit_refused(door.room, UnknownSender, message)


def test_external_leaf_must_be_made_for_a_commit(door: Door) -> None:
    """Sections 7.3 and 12.4.2: leaf_node_source is commit."""
    leaf = door.leaf(parent_hash=None)
    wrong = Commit(door.commit.proposals, replace(door.path, leaf_node=leaf))
    door.bent(WrongLeafSource, wrong)


def test_external_leaf_must_be_the_leftmost_blank_one(door: Door) -> None:
    """Section 12.4.3.2: the joiner is added at the leftmost free leaf."""
    leaf = door.leaf(leaf=5)
    wrong = Commit(door.commit.proposals, replace(door.path, leaf_node=leaf))
    door.bent(BadSignature, wrong)


def test_external_leaf_must_carry_the_parent_hash(door: Door) -> None:
    """Section 7.9.2: it is recomputed, as for every path."""
    leaf = door.leaf(parent_hash=bytes(32))
    wrong = Commit(door.commit.proposals, replace(door.path, leaf_node=leaf))
    door.bent(ParentHashMismatch, wrong)


def test_external_joiner_must_not_be_a_member(door: Door) -> None:
    """Sections 7.3 and 12.2: a client stands in the group once."""
    key = door.room.people["p2"].signature_private
    with pytest.raises(DuplicateSignatureKey):
        knock(door.room, "p2", key)


def test_external_init_secret_must_be_used(door: Door) -> None:
    """Sections 8.3 and 12.4.3.2: another KEM output leads to another epoch."""
    other, _ = SUITE_3.hpke.setup_sender(fresh_key(), b"", rng)
    proposals = (ExternalInit(other),)
    door.bent(BadConfirmationTag, Commit(proposals, door.path), at_hub=False)


def test_external_commit_tag_must_verify(door: Door) -> None:
    """Section 12.4.2: the confirmation tag is checked as for every commit."""
    door.bent(BadConfirmationTag, door.commit, at_hub=False)


# --- what the joiner itself must check


def join(room: Room, info: bytes, tree: bytes | None) -> tuple[Group, StagedCommit]:
    return Group.join_external(
        info,
        ratchet_tree=tree,
        signature_private=rng(32),
        identity=b"q",
        validator=room.validator,
        known_groups={b"other"},
    )


def test_external_joiner_must_find_an_external_pub(door: Door) -> None:
    """Section 12.4.3.2: a GroupInfo with external_pub is needed."""
    room = door.room
    parsed = GroupInfo.from_message(room["p0"].group_info())
    key = room.people["p0"].signature_private
    bare = sign_group_info(SUITE_3, key, parsed.context, (), parsed.confirmation_tag, 0)
    with pytest.raises(ExternalPubMissing):
        join(room, bare.message(), room.hub.ratchet_tree())


def test_external_joiner_must_verify_group_info_and_tree(door: Door) -> None:
    """Sections 12.4.3 and 12.4.3.2: signature and tree hash, as for a Welcome."""
    room = door.room
    parsed = GroupInfo.from_message(room["p0"].group_info())
    forged = sign_group_info(
        SUITE_3,
        rng(32),
        parsed.context,
        parsed.extensions,
        parsed.confirmation_tag,
        0,
    )
    with pytest.raises(BadSignature):
        join(room, forged.message(), room.hub.ratchet_tree())
    other = Room.of(3).hub.ratchet_tree()
    with pytest.raises(TreeHashMismatch):
        join(room, room["p0"].group_info(), other)


def test_external_joiner_must_have_the_suite(door: Door) -> None:
    """Section 12.4.3.2: the joiner knows the group's cipher suite."""
    with pytest.raises(UnsupportedSuite):
        Group.join_external(
            door.room["p0"].group_info(),
            ratchet_tree=door.room.hub.ratchet_tree(),
            signature_private=rng(32),
            identity=b"q",
            validator=door.room.validator,
            suite=SUITE_1,
        )


def test_external_group_id_must_be_new(door: Door) -> None:
    """Section 12.4.3: group_id is unique among the groups that we are in."""
    with pytest.raises(GroupIdTaken):
        Group.join_external(
            door.room["p0"].group_info(),
            ratchet_tree=door.room.hub.ratchet_tree(),
            signature_private=rng(32),
            identity=b"q",
            validator=door.room.validator,
            known_groups={b"room"},
        )


# --- SelfRemove in external commits (draft-ietf-mls-extensions)


def test_external_joiner_takes_self_removes_along() -> None:
    """A joiner MUST include pending SelfRemoves, and verifies them before."""
    room = Room.of(4)
    leaving = room["p1"].propose_leaving()
    room.propose("p1", leaving)
    elsewhere = Room.of(2)["p1"].propose_leaving()
    forged = forge(room["p0"], Remove(2))
    broken = bytearray(leaving)
    broken[30] ^= 1
    key = rng(32)
    group, staged = Group.join_external(
        room["p0"].group_info(),
        ratchet_tree=room.hub.ratchet_tree(),
        signature_private=key,
        identity=b"q",
        leaving=[leaving, leaving, elsewhere, forged, bytes(broken), b"junk"],
        validator=room.validator,
    )
    assert [m.identity for m in staged.effects.removed] == [b"p1"]
    assert group.own_leaf == 1, "the leftmost blank leaf after the removal"
    room.hub, effects = room.hub.process_commit(
        staged.commit, staged.group_info, now=NOW, welcome_refs=[]
    )
    assert effects == staged.effects
    assert room["p1"].process_commit(staged.commit, now=NOW).removed_self
    for name in ("p0", "p2", "p3"):
        room[name].process_commit(staged.commit, now=NOW)
        assert room[name].epoch_authenticator == group.epoch_authenticator
