"""RFC 9420 sections 7.5, 7.6, 7.9.2 and 12.4: the path of a commit, a test per rule."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from e2ee.errors import (
    DecryptionFailed,
    InvalidPathKey,
    ParentHashMismatch,
    PathKeyReused,
    PathLength,
    PathRecipients,
    PathRequired,
    PathSecretMismatch,
)
from e2ee.framing import (
    Commit,
    PublicMessage,
    read_framed,
)
from e2ee.proposal import GroupContextExtensions, ProposalRef, Remove
from e2ee.suite import SUITE_3, HpkeCiphertext
from e2ee.transition import advance
from e2ee.treekem import UpdatePathNode
from tests.e2ee.forging import (
    bend,
    commit_leaf,
    commit_refused,
    fresh_key,
    own_path,
    package,
    proposed,
    with_leaf,
)
from tests.e2ee.support import (
    NOW,
    Room,
    commit_in,
    forge,
)


@pytest.fixture
def room() -> Room:
    return Room.of(4)


def test_path_must_be_there_for_an_empty_list(room: Room) -> None:
    """Section 12.4: a commit without proposals has a path."""
    commit_refused(room, PathRequired, forge(room["p0"], Commit((), None)))


def test_path_must_be_there_for_a_remove(room: Room) -> None:
    """Section 12.4: Remove requires a path."""
    commit_refused(room, PathRequired, forge(room["p0"], Commit((Remove(1),), None)))


def test_path_must_be_there_for_an_update(room: Room) -> None:
    """Section 12.4: Update requires a path."""
    ref = ProposalRef(proposed(room, "p1", room["p1"].propose_update()))
    commit_refused(room, PathRequired, forge(room["p0"], Commit((ref,), None)))


def test_path_must_be_there_for_new_extensions(room: Room) -> None:
    """Section 12.4: GroupContextExtensions requires a path."""
    change = Commit((GroupContextExtensions(()),), None)
    commit_refused(room, PathRequired, forge(room["p0"], change))


def test_path_must_be_there_for_a_self_remove(room: Room) -> None:
    """SelfRemove requires a path (draft-ietf-mls-extensions)."""
    ref = ProposalRef(proposed(room, "p1", room["p1"].propose_leaving()))
    commit_refused(room, PathRequired, forge(room["p0"], Commit((ref,), None)))


def test_committer_must_populate_the_path_when_required(room: Room) -> None:
    """Section 12.4.1: the sender MUST populate a path that is required."""
    group = room["p0"]
    assert commit_in(group.commit(remove=[1], update=False, now=NOW)).path
    assert commit_in(group.commit(extensions=[], update=False, now=NOW)).path
    assert commit_in(group.commit(update=False, now=NOW)).path
    added = package().encoded
    assert not commit_in(group.commit(add=[added], update=False, now=NOW)).path


def test_path_leaf_key_must_be_new(room: Room) -> None:
    """Section 12.4.2: the leaf's encryption key differs from the current one."""
    old = room["p0"]._epoch.tree.leaf(0)
    assert old is not None
    leaf = commit_leaf(room, encryption_key=old.encryption_key)
    commit_refused(room, PathKeyReused, with_leaf(room, leaf))


def test_path_keys_must_not_be_in_the_tree(room: Room) -> None:
    """Section 12.4.2: no key of the UpdatePath appears in the new tree."""
    parent = room["p0"]._epoch.tree.parent_node(5)
    leaf = room["p0"]._epoch.tree.leaf(2)
    assert parent is not None and leaf is not None
    path = own_path(room)
    for key in (parent.encryption_key, leaf.encryption_key):
        wrong = bend(path, 0, encryption_key=key)
        commit_refused(room, PathKeyReused, forge(room["p0"], Commit((), wrong)))


def test_path_keys_must_differ(room: Room) -> None:
    """Sections 7.3 and 12.4.2: nor does a key stand twice in the path."""
    path = own_path(room)
    for key in (path.nodes[1].encryption_key, path.leaf_node.encryption_key):
        wrong = bend(path, 0, encryption_key=key)
        commit_refused(room, PathKeyReused, forge(room["p0"], Commit((), wrong)))


def test_path_keys_must_be_keys(room: Room) -> None:
    """Section 5.1.1: public keys are of the suite's form."""
    wrong = bend(own_path(room), 0, encryption_key=b"short")
    commit_refused(room, InvalidPathKey, forge(room["p0"], Commit((), wrong)))


def test_path_must_have_the_length_of_the_filtered_path(room: Room) -> None:
    """Section 7.6: one node for each of the filtered direct path."""
    path = own_path(room)
    more = UpdatePathNode(fresh_key(), path.nodes[0].encrypted_path_secret)
    for nodes in ((), path.nodes[:-1], (*path.nodes, more)):
        wrong = replace(path, nodes=nodes)
        commit_refused(room, PathLength, forge(room["p0"], Commit((), wrong)))


def test_path_must_be_encrypted_to_the_resolution(room: Room) -> None:
    """Section 7.6: as many ciphertexts as the copath node's resolution has nodes."""
    path = own_path(room)
    sealed = path.nodes[0].encrypted_path_secret
    for wrong in (
        bend(path, 0, encrypted_path_secret=()),
        bend(path, 0, encrypted_path_secret=sealed * 2),
    ):
        commit_refused(room, PathRecipients, forge(room["p0"], Commit((), wrong)))


def test_path_must_not_be_encrypted_to_added_leaves(room: Room) -> None:
    """Section 7.5: leaves added by the commit are left out of the resolution."""
    commit = commit_in(room["p0"].commit(add=[package().encoded], now=NOW))
    path = commit.path
    assert path is not None
    assert [len(node.encrypted_path_secret) for node in path.nodes] == [1, 1, 0]
    sealed = path.nodes[0].encrypted_path_secret
    wrong = Commit(commit.proposals, bend(path, 2, encrypted_path_secret=sealed))
    commit_refused(room, PathRecipients, forge(room["p0"], wrong))


def test_path_secret_must_open(room: Room) -> None:
    """Section 12.4.2: members decrypt the path; the hub cannot see that."""
    path = own_path(room)
    sealed = path.nodes[1].encrypted_path_secret[0]
    bad = HpkeCiphertext(sealed.kem_output, bytes(len(sealed.ciphertext)))
    wrong = bend(path, 1, encrypted_path_secret=(bad,))
    message = forge(room["p0"], Commit((), wrong))
    commit_refused(room, DecryptionFailed, message, at_hub=False)


def test_path_secret_must_lead_to_the_path_keys(room: Room) -> None:
    """Section 7.5: the derived public keys are compared with the path's."""
    group = room["p0"]
    staged = group.commit(now=NOW)
    path = commit_in(staged).path
    framed, state = read_framed(staged.commit), group._epoch
    assert path is not None and isinstance(framed, PublicMessage)
    message = framed.authenticated()
    interim = state.interim_transcript_hash
    step = advance(state.tree, state.context, interim, message, (), room.validator)
    target = state.tree.node(5)
    assert target is not None
    for secret in (os.urandom(32), b"short"):
        sealed = SUITE_3.encrypt_with_label(
            target.encryption_key, "UpdatePathNode", step.provisional.encode(), secret
        )
        wrong = bend(path, 1, encrypted_path_secret=(sealed,))
        bad = forge(group, Commit((), wrong))
        commit_refused(room, PathSecretMismatch, bad, at_hub=False)


def test_parent_hash_of_the_path_leaf_must_match(room: Room) -> None:
    """Sections 7.9.2 and 12.4.2: clients MUST recompute the leaf's parent_hash."""
    for value in (bytes(32), b""):
        leaf = commit_leaf(room, parent_hash=value)
        commit_refused(room, ParentHashMismatch, with_leaf(room, leaf))
    wrong = bend(own_path(room), 1, encryption_key=fresh_key())
    commit_refused(room, ParentHashMismatch, forge(room["p0"], Commit((), wrong)))
