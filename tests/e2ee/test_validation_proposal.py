"""RFC 9420 sections 12.1 to 12.3: proposals alone and in a list, a test per rule."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from e2ee import Extension
from e2ee.codec import Reader, vector
from e2ee.codepoint import (
    BASIC,
    MEMBER,
    TELEX_ROOM,
    USAGE_BRANCH,
    USAGE_REINIT,
)
from e2ee.errors import (
    BadMembershipTag,
    BadPskNonce,
    BadSignature,
    CapabilityMissing,
    CommitterRemoved,
    CommitterUpdate,
    DuplicateEncryptionKey,
    DuplicateSignatureKey,
    E2eeError,
    ExtensionsTwice,
    ExternalInitMisplaced,
    FutureEpoch,
    InitKeyReused,
    InvalidInitKey,
    LeafLacksRequired,
    LeafTwice,
    Malformed,
    ProposalUnsupported,
    PskTwice,
    PskUsageForbidden,
    ReinitNotAlone,
    RemovesNobody,
    StaleEpoch,
    UnknownProposal,
    UnknownSender,
    UnsupportedExtension,
    UnsupportedSuite,
    VersionLowered,
    WrongGroup,
)
from e2ee.extension import (
    Credential,
    RequiredCapabilities,
    read_extensions,
)
from e2ee.framing import (
    Commit,
    PublicMessage,
    Sender,
    read_framed,
)
from e2ee.leaf import Lifetime, own_capabilities, sign_leaf
from e2ee.proposal import (
    Add,
    ExternalInit,
    GroupContextExtensions,
    PreSharedKey,
    ReInit,
    Remove,
    SelfRemove,
    Update,
)
from e2ee.suite import SUITE_3
from tests.e2ee.forging import (
    commit_refused,
    external_psk,
    fresh_key,
    list_refused,
    package,
    proposal_refused,
    proposed,
    resumption,
    unchanged,
    update_leaf,
)
from tests.e2ee.support import NOW, SUITE_1, Room, bundle_for, forge, rng


@pytest.fixture
def room() -> Room:
    return Room.of(4)


# --- 12.1: a proposal by itself


def test_proposal_signature_must_verify(room: Room) -> None:
    """Section 12.1: the client MUST verify the signature of a proposal."""
    message = forge(room["p0"], Remove(1), signature_private=os.urandom(32))
    proposal_refused(room, BadSignature, message)


def test_proposal_membership_tag_must_verify(room: Room) -> None:
    """Section 6.2: a member's PublicMessage carries the right membership tag."""
    message = forge(room["p0"], Remove(1))
    wrong = message[:-1] + bytes((message[-1] ^ 1,))
    proposal_refused(room, BadMembershipTag, wrong, at_hub=False)


def test_proposal_epoch_must_be_the_current_one(room: Room) -> None:
    """Section 12.1: the epoch of a proposal MUST be the group's."""
    late = forge(room["p0"], Remove(1), epoch=room["p0"].epoch - 1)
    proposal_refused(room, StaleEpoch, late)
    early = forge(room["p0"], Remove(1), epoch=room["p0"].epoch + 1)
    proposal_refused(room, FutureEpoch, early)


def test_proposal_group_must_be_this_one(room: Room) -> None:
    """Section 6: a message is for the group that it names."""
    message = forge(room["p0"], Remove(1), group_id=b"elsewhere")
    proposal_refused(room, WrongGroup, message)


def test_proposal_sender_must_be_a_member(room: Room) -> None:
    """Section 6.1: the sender's leaf is not blank."""
    message = forge(room["p0"], Remove(1), sender=Sender(MEMBER, 50))
    proposal_refused(room, UnknownSender, message)


def test_add_must_hold_a_valid_key_package(room: Room) -> None:
    """Sections 12.1.1 and 10.1: signature, suite, init key of the KeyPackage."""
    cases: list[tuple[dict[str, object], type[E2eeError]]] = [
        ({"bad_signature": True}, BadSignature),
        ({"suite": 1}, UnsupportedSuite),
        ({"same_key": True}, InitKeyReused),
        ({"init_key": b"short"}, InvalidInitKey),
    ]
    for change, error in cases:
        list_refused(room, error, Add(package(**change)))  # type: ignore[arg-type]


def test_remove_must_name_a_member(room: Room) -> None:
    """Section 12.1.3: a Remove of a blank leaf is invalid."""
    for leaf in (4, 0xFFFFFFFF):
        list_refused(room, RemovesNobody, Remove(leaf))


def test_psk_nonce_must_have_the_hash_length(room: Room) -> None:
    """Section 12.1.4: a psk_nonce of another length than KDF.Nh is invalid."""
    for nonce in (b"", bytes(31), bytes(33)):
        list_refused(room, BadPskNonce, external_psk(nonce))


def test_psk_of_usage_reinit_must_not_be_proposed(room: Room) -> None:
    """Sections 11.2 and 12.1.4: usage reinit is for creating the successor alone."""
    list_refused(room, PskUsageForbidden, resumption(USAGE_REINIT))


def test_psk_of_usage_branch_must_not_be_proposed(room: Room) -> None:
    """Sections 11.3 and 12.1.4: usage branch is for creating a subgroup alone."""
    list_refused(room, PskUsageForbidden, resumption(USAGE_BRANCH))


def test_psk_nonce_must_be_fresh(room: Room) -> None:
    """Sections 8.4 and 12.1.4: each psk_nonce is randomly sampled."""
    room["p0"].add_psk(b"x", b"key")
    nonces = set()
    for _ in range(5):
        proposal = _proposals(room["p0"].commit(psks=[b"x"], now=NOW).commit)[0]
        assert isinstance(proposal, PreSharedKey)
        nonces.add(proposal.psk.nonce)
    assert len(nonces) == 5


def _proposals(message: bytes) -> tuple[object, ...]:
    framed = read_framed(message)
    assert isinstance(framed, PublicMessage)
    assert isinstance(framed.content.content, Commit)
    return framed.content.content.proposals


def test_reinit_must_not_lower_the_version(room: Room) -> None:
    """Section 12.1.5: a ReInit to a lower version is invalid."""
    list_refused(room, VersionLowered, ReInit(b"new", 0, 3, ()))


def test_external_init_must_not_be_proposed_by_members(room: Room) -> None:
    """Section 12.1.6: ExternalInit can only be used in an external commit."""
    list_refused(room, ExternalInitMisplaced, ExternalInit(bytes(32)))


def test_extensions_must_be_supported_by_all(room: Room) -> None:
    """Sections 12.1.7 and 13.4: all members support a new group extension."""
    unknown = GroupContextExtensions((Extension(0xF999, b""),))
    list_refused(room, UnsupportedExtension, unknown)


def test_extensions_must_require_what_all_have(room: Room) -> None:
    """Section 12.1.7: required capabilities are supported by all after the commit."""
    needs = RequiredCapabilities(extensions=(0xF999,)).extension()
    list_refused(room, CapabilityMissing, GroupContextExtensions((needs,)))
    broken = GroupContextExtensions((Extension(3, b"x"),))
    list_refused(room, Malformed, broken)


def test_extension_types_must_not_repeat(room: Room) -> None:
    """Section 13.4: a list has at most one extension of any given type."""
    body = Extension(TELEX_ROOM, b"").encode()
    with pytest.raises(Malformed):
        read_extensions(Reader(vector(body + body)))
    twice = [Extension(TELEX_ROOM, b"")] * 2
    group = room["p0"]
    unchanged(group, Malformed, lambda: group.commit(extensions=twice, now=NOW))


# --- 12.2: the list


def test_list_must_not_update_the_committer(room: Room) -> None:
    """Section 12.2: no Update generated by the committer, by value or reference."""
    list_refused(room, CommitterUpdate, Update(update_leaf(room["p0"])))
    ref = proposed(room, "p0", room["p0"].propose_update())
    list_refused(room, CommitterUpdate, ref)


def test_list_must_not_remove_the_committer(room: Room) -> None:
    """Section 12.2: no Remove of the committer."""
    list_refused(room, CommitterRemoved, Remove(0))
    group = room["p0"]
    unchanged(group, CommitterRemoved, lambda: group.commit(remove=[0], now=NOW))


def test_list_must_not_touch_a_leaf_twice(room: Room) -> None:
    """Section 12.2: one Update or Remove for a leaf."""
    list_refused(room, LeafTwice, Remove(1), Remove(1))
    ref = proposed(room, "p1", room["p1"].propose_update())
    list_refused(room, LeafTwice, ref, Remove(1))
    other = proposed(room, "p1", room["p1"].propose_update())
    list_refused(room, LeafTwice, ref, other)


def test_list_must_not_add_a_client_twice(room: Room) -> None:
    """Section 12.2: no two Adds of one client."""
    key = rng(32)
    list_refused(
        room, DuplicateSignatureKey, Add(package(key=key)), Add(package(key=key))
    )


def test_list_must_not_add_a_member(room: Room) -> None:
    """Section 12.2: no Add of a client in the group, unless it is removed too."""
    key = room.people["p2"].signature_private
    list_refused(room, DuplicateSignatureKey, Add(package(key=key)))
    again = package(key=key).encoded
    staged = room["p0"].commit(add=[again], remove=[2], now=NOW)
    room["p3"].process_commit(staged.commit, now=NOW)


def test_list_must_not_name_a_psk_twice(room: Room) -> None:
    """Section 12.2: no two PreSharedKey proposals of one PreSharedKeyID."""
    list_refused(room, PskTwice, external_psk(), external_psk())


def test_list_must_not_replace_extensions_twice(room: Room) -> None:
    """Section 12.2: one GroupContextExtensions at most."""
    empty = GroupContextExtensions(())
    list_refused(room, ExtensionsTwice, empty, empty)


def test_reinit_must_stand_alone(room: Room) -> None:
    """Section 12.2: no ReInit together with any other proposal."""
    list_refused(room, ReinitNotAlone, ReInit(b"new", 1, 3, ()), Remove(1))


def test_other_proposals_are_preferred_to_reinit(room: Room) -> None:
    """Section 12.2: who has received others SHOULD leave the ReInit out."""
    room.propose("p1", room["p1"].propose_reinit(group_id=b"new"))
    room.propose("p2", room["p2"].propose_remove(2))
    effects = room.commit("p0").effects
    assert [member.identity for member in effects.removed] == [b"p2"]
    assert not effects.reinit and room["p0"].active


def test_list_must_not_hold_external_init(room: Room) -> None:
    """Section 12.2: a regular commit holds no ExternalInit."""
    list_refused(room, ExternalInitMisplaced, ExternalInit(bytes(32)), Remove(1))


def test_list_must_not_hold_a_type_that_a_member_lacks(room: Room) -> None:
    """Section 12.2: all who process the commit support a non-default type."""
    plain = own_capabilities(SUITE_3)
    key = rng(32)
    leaf = sign_leaf(
        SUITE_3,
        key,
        encryption_key=fresh_key(),
        credential=Credential(BASIC, b"old"),
        capabilities=replace(plain, proposals=()),
        lifetime=Lifetime(NOW - 5, NOW + 5),
    )
    added = package(key=key, leaf=leaf).encoded
    room.deliver("p0", room["p0"].commit(add=[added], now=NOW))
    message = forge(room["p1"], SelfRemove())
    ref = proposed(room, "p1", message)
    list_refused(room, ProposalUnsupported, ref)
    # Who leaves by the same commit need not support it (leaf 4).
    staged = room["p0"].commit(remove=[4], now=NOW)
    room["p3"].process_commit(staged.commit, now=NOW)
    assert [m.identity for m in room["p3"].members()] == [b"p0", b"p2", b"p3"]


def test_list_must_leave_a_valid_tree(room: Room) -> None:
    """Section 12.2: afterwards no leaf is invalid, here by a key that stands twice."""
    taken = room["p0"]._epoch.tree.parent_node(1)
    assert taken is not None
    key = rng(32)
    leaf = sign_leaf(
        SUITE_3,
        key,
        encryption_key=taken.encryption_key,
        credential=Credential(BASIC, b"q"),
        capabilities=own_capabilities(SUITE_3),
        lifetime=Lifetime(NOW - 5, NOW + 5),
    )
    message = forge(room["p0"], Commit((Add(package(key=key, leaf=leaf)),), None))
    commit_refused(room, DuplicateEncryptionKey, message)


def test_references_must_be_known(room: Room) -> None:
    """Section 12.4: a reference names a proposal of this epoch."""
    list_refused(room, UnknownProposal, bytes(32))
    ref = proposed(room, "p1", room["p1"].propose_update())
    room.commit("p2", update=True)
    list_refused(room, UnknownProposal, ref)


def test_committer_must_check_the_list_too(room: Room) -> None:
    """Section 12.4.1: the sender verifies the list as receivers do."""
    group = room["p0"]
    bad = package(bad_signature=True).encoded
    unchanged(group, BadSignature, lambda: group.commit(add=[bad], now=NOW))
    unchanged(group, LeafTwice, lambda: group.commit(remove=[1, 1], now=NOW))
    other = bundle_for("q", rng(32), suite=SUITE_1).key_package
    unchanged(group, UnsupportedSuite, lambda: group.commit(add=[other], now=NOW))


# --- 12.3: the order


def test_new_extensions_must_hold_for_the_rest_of_the_list(room: Room) -> None:
    """Section 12.3: the new extensions MUST be used for the other proposals."""
    needs = RequiredCapabilities(extensions=(TELEX_ROOM,)).extension()
    key = rng(32)
    leaf = sign_leaf(
        SUITE_3,
        key,
        encryption_key=fresh_key(),
        credential=Credential(BASIC, b"q"),
        capabilities=replace(own_capabilities(SUITE_3), extensions=()),
        lifetime=Lifetime(NOW - 5, NOW + 5),
    )
    add = Add(package(key=key, leaf=leaf))
    list_refused(room, LeafLacksRequired, add, GroupContextExtensions((needs,)))


def test_removes_must_come_before_adds(room: Room) -> None:
    """Section 12.3: an Add takes the leaf that a Remove of the list leaves blank."""
    bundle = bundle_for("q", rng(32))
    staged = room["p0"].commit(add=[bundle.key_package], remove=[1], now=NOW)
    room["p3"].process_commit(staged.commit, now=NOW)
    assert staged.effects.added[0].leaf == 1
