"""Commits and proposals that a malicious member could make: all refused.

Every forged commit is given to a member and to the hub. Both must name the same fault
and stay as they were.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from e2ee import Extension
from e2ee.codepoint import (
    BASIC,
    EXTERNAL,
    MEMBER,
    NEW_MEMBER_COMMIT,
    NEW_MEMBER_PROPOSAL,
    TELEX_ROOM,
    USAGE_BRANCH,
    USAGE_REINIT,
)
from e2ee.errors import (
    BadConfirmationTag,
    BadMembershipTag,
    BadSignature,
    DecryptionFailed,
    DuplicateKey,
    E2eeError,
    FutureEpoch,
    InvalidKeyPackage,
    InvalidLeaf,
    InvalidMessage,
    InvalidPath,
    InvalidProposal,
    InvalidProposalList,
    LimitExceeded,
    Malformed,
    OwnMessage,
    ParentHashMismatch,
    PathRequired,
    StaleEpoch,
    UnknownProposal,
    UnknownPsk,
    UnknownSender,
    UnsupportedExtension,
    UnsupportedSuite,
    WrongGroup,
)
from e2ee.extension import (
    Credential,
    ExternalSender,
    RequiredCapabilities,
    external_senders_extension,
)
from e2ee.framing import Commit, Sender
from e2ee.leaf import LeafNode, Lifetime, own_capabilities, sign_leaf
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
from e2ee.suite import SUITE_3, HpkeCiphertext
from e2ee.treekem import UpdatePathNode
from tests.e2ee.forging import (
    bend,
    commit_leaf,
    external_psk,
    fresh_key,
    own_path,
    package,
    resumption,
    update_leaf,
    with_leaf,
)
from tests.e2ee.support import (
    NOW,
    SUITE_1,
    Room,
    bundle_for,
    commit_in,
    forge,
    snapshot,
)


@pytest.fixture
def room() -> Room:
    return Room.of(4)


def refused(
    room: Room, error: type[E2eeError], message: bytes, *, at_hub: bool = True
) -> None:
    """Member p3 and the hub refuse a commit and stay as they were."""
    group = room["p3"]
    before = snapshot(group)
    with pytest.raises(error) as caught:
        group.process_commit(message, now=NOW)
    assert snapshot(group) == before
    if at_hub:
        hub = room.hub.encode()
        info = room["p0"].group_info()
        with pytest.raises(type(caught.value)):
            room.hub.process_commit(message, info, now=NOW)
        assert room.hub.encode() == hub


# --- section 12.2: the list


LISTS: dict[str, tuple[Callable[[], Sequence[Proposal]], type[E2eeError]]] = {
    "removes the committer": (lambda: [Remove(0)], InvalidProposalList),
    "removes nobody": (lambda: [Remove(4)], InvalidProposal),
    "removes far outside": (lambda: [Remove(0xFFFFFFFF)], InvalidProposal),
    "removes twice": (lambda: [Remove(1), Remove(1)], InvalidProposalList),
    "holds ExternalInit": (lambda: [ExternalInit(bytes(32))], InvalidProposalList),
    "replaces extensions twice": (
        lambda: [GroupContextExtensions(()), GroupContextExtensions(())],
        InvalidProposalList,
    ),
    "ReInit beside a Remove": (
        lambda: [ReInit(b"new", 1, 3, ()), Remove(1)],
        InvalidProposalList,
    ),
    "ReInit to version 0": (lambda: [ReInit(b"new", 0, 3, ())], InvalidProposal),
    "a PSK twice": (lambda: [external_psk(), external_psk()], InvalidProposalList),
    "a PSK with a short nonce": (lambda: [external_psk(b"short")], InvalidProposal),
    "a reinit PSK": (lambda: [resumption(USAGE_REINIT)], InvalidProposal),
    "a branch PSK": (lambda: [resumption(USAGE_BRANCH)], InvalidProposal),
    "adds with init key = encryption key": (
        lambda: [Add(package(same_key=True))],
        InvalidKeyPackage,
    ),
    "adds with a bad signature": (
        lambda: [Add(package(bad_signature=True))],
        BadSignature,
    ),
    "adds with an init key that is none": (
        lambda: [Add(package(init_key=b"short"))],
        InvalidKeyPackage,
    ),
    "adds for another suite": (lambda: [Add(package(suite=1))], UnsupportedSuite),
    "extensions that nobody has": (
        lambda: [GroupContextExtensions((Extension(0xF999, b""),))],
        UnsupportedExtension,
    ),
    "requires what nobody has": (
        lambda: [
            GroupContextExtensions(
                (RequiredCapabilities(proposals=(0xF999,)).extension(),)
            )
        ],
        UnsupportedExtension,
    ),
    "required capabilities that are none": (
        lambda: [GroupContextExtensions((Extension(3, b"x"),))],
        Malformed,
    ),
}


@pytest.mark.parametrize("name", LISTS)
def test_invalid_lists(room: Room, name: str) -> None:
    make, error = LISTS[name]
    path = own_path(room)
    refused(room, error, forge(room["p0"], Commit(tuple(make()), path)))


def test_the_same_client_twice(room: Room) -> None:
    key = os.urandom(32)
    twice = (Add(package(key=key)), Add(package(key=key)))
    refused(room, DuplicateKey, forge(room["p0"], Commit(twice, None)))


def test_a_client_who_is_in_the_group(room: Room) -> None:
    key = room.people["p2"].signature_private
    again = (Add(package(key=key)),)
    refused(room, DuplicateKey, forge(room["p0"], Commit(again, None)))


def test_a_key_that_is_in_the_tree(room: Room) -> None:
    tree = room["p0"]._epoch.tree
    leaf, parent = tree.leaf(2), tree.parent_node(1)
    assert leaf is not None and parent is not None
    for used in (leaf.encryption_key, parent.encryption_key):
        stolen = sign_leaf(
            SUITE_3,
            key := os.urandom(32),
            encryption_key=used,
            credential=Credential(BASIC, b"q"),
            capabilities=own_capabilities(SUITE_3),
            lifetime=Lifetime(NOW - 5, NOW + 5),
        )
        proposal = Add(package(key=key, leaf=stolen))
        refused(room, DuplicateKey, forge(room["p0"], Commit((proposal,), None)))


def test_a_leaf_that_was_not_made_for_a_key_package(room: Room) -> None:
    key = os.urandom(32)
    leaf = sign_leaf(
        SUITE_3,
        key,
        encryption_key=SUITE_3.kem.derive_key_pair(os.urandom(32))[1],
        credential=Credential(BASIC, b"q"),
        capabilities=own_capabilities(SUITE_3),
        group_id=b"room",
        leaf=4,
    )
    proposal = Add(package(key=key, leaf=leaf))
    refused(room, InvalidKeyPackage, forge(room["p0"], Commit((proposal,), None)))


def test_new_members_must_support_the_groups_extensions(room: Room) -> None:
    staged = room["p0"].commit(extensions=[Extension(TELEX_ROOM, b"x")], now=NOW)
    room.deliver("p0", staged)
    key = os.urandom(32)
    plain = own_capabilities(SUITE_3)
    leaf = sign_leaf(
        SUITE_3,
        key,
        encryption_key=SUITE_3.kem.derive_key_pair(os.urandom(32))[1],
        credential=Credential(BASIC, b"q"),
        capabilities=replace(plain, extensions=()),
        lifetime=Lifetime(NOW - 5, NOW + 5),
    )
    proposal = Add(package(key=key, leaf=leaf))
    refused(room, UnsupportedExtension, forge(room["p0"], Commit((proposal,), None)))


def test_new_extensions_count_for_adds_of_the_same_commit(room: Room) -> None:
    key = os.urandom(32)
    plain = own_capabilities(SUITE_3)
    leaf = sign_leaf(
        SUITE_3,
        key,
        encryption_key=SUITE_3.kem.derive_key_pair(os.urandom(32))[1],
        credential=Credential(BASIC, b"q"),
        capabilities=replace(plain, extensions=()),
        lifetime=Lifetime(NOW - 5, NOW + 5),
    )
    needs = RequiredCapabilities(extensions=(TELEX_ROOM,)).extension()
    proposals = (Add(package(key=key, leaf=leaf)), GroupContextExtensions((needs,)))
    message = forge(room["p0"], Commit(proposals, own_path(room)))
    refused(room, InvalidLeaf, message)


def test_the_committers_own_update(room: Room) -> None:
    by_value = (Update(update_leaf(room["p0"])),)
    message = forge(room["p0"], Commit(by_value, own_path(room)))
    refused(room, InvalidProposalList, message)
    room.propose("p0", room["p0"].propose_update())
    ref = room["p1"].pending_proposals[0].ref
    message = forge(room["p0"], Commit((ProposalRef(ref),), own_path(room)))
    refused(room, InvalidProposalList, message)


def test_update_and_remove_of_one_leaf(room: Room) -> None:
    room.propose("p1", room["p1"].propose_update())
    ref = ProposalRef(room["p0"].pending_proposals[0].ref)
    message = forge(room["p0"], Commit((ref, Remove(1)), own_path(room)))
    refused(room, InvalidProposalList, message)


def test_unknown_references(room: Room) -> None:
    message = forge(room["p0"], Commit((ProposalRef(bytes(32)),), own_path(room)))
    refused(room, UnknownProposal, message)


def test_references_do_not_outlive_their_epoch(room: Room) -> None:
    room.propose("p1", room["p1"].propose_update())
    ref = ProposalRef(room["p0"].pending_proposals[0].ref)
    room.commit("p2")
    message = forge(room["p0"], Commit((ref,), own_path(room)))
    refused(room, UnknownProposal, message)


def test_psks_that_we_do_not_have(room: Room) -> None:
    message = forge(room["p0"], Commit((external_psk(),), None))
    refused(room, UnknownPsk, message, at_hub=False)


def test_a_thousand_proposals_are_enough(room: Room) -> None:
    message = forge(room["p0"], Commit((Remove(1),) * 1_001, None))
    refused(room, LimitExceeded, message)


def test_a_message_of_more_than_a_mebibyte(room: Room) -> None:
    refused(room, LimitExceeded, bytes(1024 * 1024 + 1))


# --- section 12.4: the path


@pytest.mark.parametrize(
    "make",
    [
        lambda: (),
        lambda: (Remove(1),),
        lambda: (GroupContextExtensions(()),),
    ],
    ids=["empty", "remove", "extensions"],
)
def test_a_path_is_required(
    room: Room, make: Callable[[], tuple[Proposal, ...]]
) -> None:
    refused(room, PathRequired, forge(room["p0"], Commit(make(), None)))


def test_a_path_is_required_for_an_update(room: Room) -> None:
    room.propose("p1", room["p1"].propose_update())
    ref = ProposalRef(room["p0"].pending_proposals[0].ref)
    refused(room, PathRequired, forge(room["p0"], Commit((ref,), None)))


def test_paths_of_the_wrong_shape(room: Room) -> None:
    path = own_path(room)
    first = path.nodes[0]
    sealed = first.encrypted_path_secret
    tree = room["p0"]._epoch.tree
    inside = tree.parent_node(1)
    assert inside is not None
    for wrong in (
        replace(path, nodes=path.nodes[:-1]),
        replace(path, nodes=()),
        replace(path, nodes=(*path.nodes, UpdatePathNode(fresh_key(), sealed))),
        bend(path, 0, encrypted_path_secret=()),
        bend(path, 0, encrypted_path_secret=sealed * 2),
        bend(path, 0, encryption_key=inside.encryption_key),
        bend(path, 0, encryption_key=path.nodes[1].encryption_key),
        bend(path, 0, encryption_key=path.leaf_node.encryption_key),
        bend(path, 0, encryption_key=b"short"),
    ):
        refused(room, InvalidPath, forge(room["p0"], Commit((), wrong)))


def test_a_path_is_not_encrypted_to_leaves_added_beside_it(room: Room) -> None:
    staged = room["p0"].commit(add=[package().encoded], now=NOW)
    commit = commit_in(staged)
    path = commit.path
    assert path is not None
    # Leaf 4 stands alone under the copath of the new root: nothing is sent there.
    assert [len(node.encrypted_path_secret) for node in path.nodes] == [1, 1, 0]
    sealed = path.nodes[0].encrypted_path_secret
    wrong = bend(path, 2, encrypted_path_secret=sealed)
    refused(room, InvalidPath, forge(room["p0"], Commit(commit.proposals, wrong)))


def test_a_changed_key_breaks_the_parent_hash(room: Room) -> None:
    wrong = bend(own_path(room), 1, encryption_key=fresh_key())
    refused(room, ParentHashMismatch, forge(room["p0"], Commit((), wrong)))


def test_the_leaf_of_a_path(room: Room) -> None:
    group = room["p0"]
    old = group._epoch.tree.leaf(0)
    other = group._epoch.tree.leaf(2)
    assert old is not None and other is not None
    plain = own_capabilities(SUITE_3)
    cases: list[tuple[LeafNode, type[E2eeError]]] = [
        (update_leaf(group), InvalidLeaf),  # made for an Update
        (commit_leaf(room, encryption_key=old.encryption_key), InvalidPath),
        (commit_leaf(room, encryption_key=other.encryption_key), InvalidPath),
        (commit_leaf(room, encryption_key=b"short"), InvalidLeaf),
        (commit_leaf(room, parent_hash=bytes(32)), ParentHashMismatch),
        (commit_leaf(room, parent_hash=b""), ParentHashMismatch),
        (commit_leaf(room, leaf=1), BadSignature),
        (commit_leaf(room, group_id=b"elsewhere"), BadSignature),
        (
            commit_leaf(room, capabilities=replace(plain, cipher_suites=(1,))),
            InvalidLeaf,
        ),
        (commit_leaf(room, capabilities=replace(plain, credentials=(2,))), InvalidLeaf),
        (commit_leaf(room, extensions=(Extension(0xF321, b""),)), InvalidLeaf),
        (commit_leaf(room, credential=Credential(2, b"")), InvalidLeaf),
    ]
    for leaf, error in cases:
        refused(room, error, with_leaf(room, leaf))


def test_another_members_signature_key_cannot_be_taken(room: Room) -> None:
    # The leaf is signed with p1's key, which p0 somehow has.
    path = own_path(room)
    old = room["p0"]._epoch.tree.leaf(0)
    assert old is not None
    leaf = sign_leaf(
        SUITE_3,
        room.people["p1"].signature_private,
        encryption_key=fresh_key(),
        credential=old.credential,
        capabilities=old.capabilities,
        parent_hash=path.leaf_node.parent_hash,
        group_id=b"room",
        leaf=0,
    )
    message = forge(room["p0"], Commit((), replace(path, leaf_node=leaf)))
    refused(room, DuplicateKey, message)


def test_secrets_that_do_not_match_their_keys(room: Room) -> None:
    """What the hub cannot see, the members do."""
    path = own_path(room)
    sealed = path.nodes[1].encrypted_path_secret[0]
    flipped = bytes((sealed.ciphertext[0] ^ 1,)) + sealed.ciphertext[1:]
    for wrong in (
        HpkeCiphertext(sealed.kem_output, flipped),
        HpkeCiphertext(bytes(32), sealed.ciphertext),
        HpkeCiphertext(b"short", sealed.ciphertext),
        HpkeCiphertext(sealed.kem_output, b""),
    ):
        bent = bend(path, 1, encrypted_path_secret=(wrong,))
        message = forge(room["p0"], Commit((), bent))
        refused(room, DecryptionFailed, message, at_hub=False)


def test_a_secret_of_another_node(room: Room) -> None:
    group = room["p0"]
    one, two = group.commit(now=NOW), group.commit(now=NOW)
    path, other = commit_in(one).path, commit_in(two).path
    assert path is not None and other is not None
    # Seal a wrong secret under the right context: only comparing the keys tells.
    from e2ee.framing import PublicMessage, read_framed
    from e2ee.transition import advance

    message = read_framed(one.commit)
    assert isinstance(message, PublicMessage)
    state = group._epoch
    step = advance(
        state.tree,
        state.context,
        state.interim_transcript_hash,
        message.authenticated(),
        (),
        room.validator,
    )
    sealed = SUITE_3.encrypt_with_label(
        state.tree.node(5).encryption_key,  # type: ignore[union-attr]
        "UpdatePathNode",
        step.provisional.encode(),
        os.urandom(32),
    )
    bent = bend(path, 1, encrypted_path_secret=(sealed,))
    refused(room, InvalidPath, forge(group, Commit((), bent)), at_hub=False)


# --- framing


def test_a_wrong_confirmation_tag(room: Room) -> None:
    message = forge(room["p0"], Commit((), own_path(room)))
    refused(room, BadConfirmationTag, message, at_hub=False)
    staged = room["p0"].commit(now=NOW)
    bad = forge(room["p0"], commit_in(staged), tag=b"")
    refused(room, BadConfirmationTag, bad, at_hub=False)


def test_wrong_group_epoch_and_sender(room: Room) -> None:
    group = room["p0"]
    commit = Commit((), own_path(room))
    for message, error in (
        (forge(group, commit, group_id=b"other"), WrongGroup),
        (forge(group, commit, epoch=group.epoch + 1), FutureEpoch),
        (forge(group, commit, epoch=group.epoch - 1), StaleEpoch),
        (forge(group, commit, sender=Sender(MEMBER, 77)), UnknownSender),
        (forge(group, commit, sender=Sender(MEMBER, 1)), BadSignature),
        (forge(group, commit, sender=Sender(EXTERNAL, 0)), UnknownSender),
        (forge(group, commit, sender=Sender(NEW_MEMBER_PROPOSAL)), UnknownSender),
        (forge(group, commit, sender=Sender(NEW_MEMBER_COMMIT)), E2eeError),
        (forge(group, commit, signature_private=os.urandom(32)), BadSignature),
        (forge(group, Remove(1)), InvalidMessage),
    ):
        refused(room, error, message)


def test_the_sender_of_a_blank_leaf(room: Room) -> None:
    room.commit("p0", remove=("p1",))
    commit = Commit((), own_path(room))
    message = forge(room["p0"], commit, sender=Sender(MEMBER, 1))
    refused(room, UnknownSender, message)


def test_our_own_commit(room: Room) -> None:
    message = forge(room["p0"], Commit((), own_path(room)), sender=Sender(MEMBER, 3))
    refused(room, OwnMessage, message, at_hub=False)


def test_a_wrong_membership_tag(room: Room) -> None:
    staged = room["p0"].commit(now=NOW)
    wrong = staged.commit[:-1] + bytes((staged.commit[-1] ^ 1,))
    refused(room, BadMembershipTag, wrong, at_hub=False)
    proposal = room["p0"].propose_remove(1)
    group = room["p3"]
    before = snapshot(group)
    with pytest.raises(BadMembershipTag):
        group.receive_proposal(proposal[:-1] + bytes((proposal[-1] ^ 1,)))
    assert snapshot(group) == before


def test_every_flipped_byte_of_a_commit_is_refused(room: Room) -> None:
    staged = room["p0"].commit(add=[package().encoded], now=NOW)
    group = room["p3"]
    before = snapshot(group)
    for at in range(0, len(staged.commit), 3):
        wrong = bytearray(staged.commit)
        wrong[at] ^= 1 << (at % 8)
        with pytest.raises(E2eeError):
            group.process_commit(bytes(wrong), now=NOW)
        assert snapshot(group) == before
    group.process_commit(staged.commit, now=NOW)


# --- standalone proposals


def proposal_refused(room: Room, error: type[E2eeError], message: bytes) -> None:
    group = room["p3"]
    before = snapshot(group)
    with pytest.raises(error) as caught:
        group.receive_proposal(message)
    assert snapshot(group) == before
    with pytest.raises(type(caught.value)):
        room.hub.receive_proposal(message)


def test_invalid_proposals(room: Room) -> None:
    group = room["p0"]
    old = group._epoch.tree.leaf(0)
    assert old is not None
    plain = own_capabilities(SUITE_3)
    cases: list[tuple[Proposal, type[E2eeError]]] = [
        (Remove(9), InvalidProposal),
        (Add(package(same_key=True)), InvalidKeyPackage),
        (Add(package(bad_signature=True)), BadSignature),
        (Update(update_leaf(group, leaf=1)), BadSignature),
        (Update(update_leaf(group, group_id=b"x")), BadSignature),
        (Update(update_leaf(group, encryption_key=old.encryption_key)), InvalidLeaf),
        (Update(update_leaf(group, parent_hash=b"x")), InvalidLeaf),
        (Update(update_leaf(group, lifetime=Lifetime(0, NOW * 2))), InvalidLeaf),
        (
            Update(update_leaf(group, capabilities=replace(plain, versions=(2,)))),
            InvalidLeaf,
        ),
        (external_psk(b""), InvalidProposal),
    ]
    for proposal, error in cases:
        proposal_refused(room, error, forge(group, proposal))


def test_proposals_for_other_states(room: Room) -> None:
    group = room["p0"]
    for message, error in (
        (forge(group, Remove(1), epoch=99), FutureEpoch),
        (forge(group, Remove(1), epoch=0), StaleEpoch),
        (forge(group, Remove(1), group_id=b""), WrongGroup),
        (forge(group, Remove(1), sender=Sender(MEMBER, 50)), UnknownSender),
        (forge(group, Remove(1), sender=Sender(NEW_MEMBER_COMMIT)), UnknownSender),
        (forge(group, Commit((), None)), InvalidMessage),
        (room["p0"].encrypt(b"x"), InvalidMessage),
    ):
        proposal_refused(room, error, message)


def test_external_senders_may_do_only_what_the_rfc_lets_them(room: Room) -> None:
    hub_key = os.urandom(32)
    sender = Sender(EXTERNAL, 0)
    message = forge(room["p0"], Remove(1), sender=sender, signature_private=hub_key)
    proposal_refused(room, UnknownSender, message)
    listed = external_senders_extension(
        [ExternalSender(SUITE_3.signature.public(hub_key), Credential(BASIC, b"hub"))]
    )
    room.deliver("p0", room["p0"].commit(extensions=[listed], now=NOW))
    update = Update(update_leaf(room["p0"]))
    for proposal in (update, ExternalInit(bytes(32))):
        message = forge(room["p0"], proposal, sender=sender, signature_private=hub_key)
        proposal_refused(room, InvalidProposal, message)
    message = forge(
        room["p0"], Remove(1), sender=Sender(EXTERNAL, 1), signature_private=hub_key
    )
    proposal_refused(room, UnknownSender, message)
    proposal_refused(room, BadSignature, forge(room["p0"], Remove(1), sender=sender))
    # And this is how it is meant.
    message = room.hub.propose_remove(1, signature_private=hub_key)
    room.propose("hub", message)
    staged = room.commit("p2")
    assert [m.identity for m in staged.effects.removed] == [b"p1"]
    assert staged.effects.actions[0].proposer.identity == b"hub"


def test_newcomers_may_ask_to_be_added(room: Room) -> None:
    key = os.urandom(32)
    sender = Sender(NEW_MEMBER_PROPOSAL)
    ask = Add(package(key=key))
    message = forge(room["p0"], ask, sender=sender, signature_private=key)
    room.propose("q", message)
    wrong = forge(room["p0"], ask, sender=sender)
    proposal_refused(room, BadSignature, wrong)
    wrong = forge(room["p0"], Remove(1), sender=sender, signature_private=key)
    proposal_refused(room, InvalidProposal, wrong)
    assert [m.identity for m in room.commit("p0").effects.added] == [b"q"]


def test_another_suite_is_named() -> None:
    from e2ee import PublicGroup

    room = Room.of(1)
    with pytest.raises(UnsupportedSuite):
        PublicGroup.create(
            room["p0"].group_info(),
            room["p0"].ratchet_tree(),
            now=NOW,
            validator=room.validator,
            suite=SUITE_1,
        )
    assert bundle_for("x", os.urandom(32), suite=SUITE_1).ref
