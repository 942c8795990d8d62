"""RFC 9420 sections 7.8, 7.9 and 12.4.3.1: trees that somebody else gives us."""

from __future__ import annotations

import os

import pytest

from e2ee.codec import Reader, u8, vector, vectors
from e2ee.codepoint import LEAF, PARENT
from e2ee.errors import (
    DuplicateEncryptionKey,
    InvalidUnmergedLeaf,
    Malformed,
    ParentHashMismatch,
    TreeHashMismatch,
    TreeMissing,
)
from e2ee.group_info import GroupInfo, find_tree
from e2ee.member import ALLOW_ALL
from e2ee.node import ParentNode, encode_optional_node
from e2ee.ratchet_tree import RatchetTree
from e2ee.suite import SUITE_3
from e2ee.tree_math import left, right, subtree_leaves
from e2ee.tree_validation import validate_tree, verify_parent_hashes
from tests.e2ee.forging import Invitation, unchanged
from tests.e2ee.support import Room


@pytest.fixture(scope="module")
def grown() -> RatchetTree:
    """A tree of eight with blanks and unmerged leaves, by real commits."""
    room = Room.of(7)
    room.commit("p3", remove=("p5",))
    room.commit("p4")
    room.commit("p0")
    room.add("p2", "q1", "q2", update=False)
    tree = room["p1"]._epoch.tree
    validate_tree(tree, b"room", (), ALLOW_ALL)
    return tree


def bent(tree: RatchetTree, index: int, **change: object) -> RatchetTree:
    """Change one parent node of a copy."""
    node, copy = tree.parent_node(index), tree.copy()
    assert node is not None
    fields: dict[str, object] = {
        "encryption_key": node.encryption_key,
        "parent_hash": node.parent_hash,
        "unmerged": node.unmerged_leaves,
    }
    fields |= change
    copy._set(index, ParentNode.make(**fields))  # type: ignore[arg-type]
    return copy


# --- 7.8: tree hashes


def test_tree_hash_must_mark_blank_nodes_absent() -> None:
    """Section 7.8: the optional node MUST be absent if and only if it is blank."""
    room = Room.of(3)
    tree, digest = room["p0"]._epoch.tree, SUITE_3.hash.digest
    assert tree.leaf(3) is None
    blank = digest(u8(LEAF) + (3).to_bytes(4) + b"\0")
    assert tree.tree_hash(6) == blank
    leaf = tree.leaf(2)
    assert leaf is not None
    full = digest(u8(LEAF) + (2).to_bytes(4) + b"\1" + leaf.encoded)
    assert tree.tree_hash(4) == full
    node = tree.parent_node(5)
    present = b"\0" if node is None else b"\1" + node.encoded
    above = digest(u8(PARENT) + present + vector(full) + vector(blank))
    assert tree.tree_hash(5) == above


def test_tree_hash_must_match_the_group_context() -> None:
    """Section 12.4.3.1: the tree's hash is the one in the GroupInfo."""
    invitation = Invitation()
    other = Room.of(3).hub.ratchet_tree()
    group = invitation.room["p0"]
    unchanged(group, TreeHashMismatch, lambda: invitation.join(tree=other))


def test_tree_must_be_there() -> None:
    """Section 12.4.3.1: without a tree, inside or beside it, nobody joins."""
    info = GroupInfo.from_message(Room()["p0"].group_info())
    with pytest.raises(TreeMissing):
        find_tree(SUITE_3, info, None)


def test_tree_must_not_end_with_a_blank() -> None:
    """Section 12.4.3.3: the last node of the encoding MUST be non-blank."""
    tree = Room.of(3)["p0"]._epoch.tree
    nodes = [encode_optional_node(tree.node(index)) for index in range(5)]
    RatchetTree.decode(SUITE_3, vectors(nodes))
    with pytest.raises(Malformed):
        RatchetTree.decode(SUITE_3, vectors([*nodes, b"\0"]))


# --- 7.9: parent hashes


def test_parent_hash_must_chain_to_a_leaf(grown: RatchetTree) -> None:
    """Section 7.9.2: each non-blank parent MUST be parent-hash valid."""
    for index, _ in list(grown.parents()):
        with pytest.raises(ParentHashMismatch):
            verify_parent_hashes(bent(grown, index, encryption_key=os.urandom(32)))


def test_parent_hash_of_the_root_must_be_empty(grown: RatchetTree) -> None:
    """Section 7.9: the root's parent_hash is the zero-length string."""
    root = grown.parent_node(grown.root)
    assert root is not None and root.parent_hash == b""
    with pytest.raises(ParentHashMismatch):
        verify_parent_hashes(bent(grown, grown.root, parent_hash=bytes(32)))


def test_parent_hash_must_cover_the_original_sibling(grown: RatchetTree) -> None:
    """Section 7.9: it is over the sibling's tree hash without unmerged leaves."""
    root = grown.parent_node(grown.root)
    assert root is not None and root.unmerged_leaves
    a, b = left(grown.root), right(grown.root)
    sides = {}
    for side in (a, b):
        first, past = subtree_leaves(side)
        below = [leaf for leaf in root.unmerged_leaves if first <= leaf < past]
        original = grown.original_tree_hash(side, below)
        sides[side] = original
        assert (original == grown.tree_hash(side)) == (not below)
    heads = [grown.node(index) for index in (a, b)]
    hashes = {grown.parent_hash(root, value) for value in sides.values()}
    assert any(node is not None and node.parent_hash in hashes for node in heads)


def test_parent_hash_must_cover_what_the_sibling_was(grown: RatchetTree) -> None:
    """Section 7.9: a leaf changed afterwards, without a path, breaks the chain."""
    tree = Room.of(4)["p0"]._epoch.tree.copy()
    other = Room.of(2)["p0"]._epoch.tree.leaf(1)
    assert other is not None
    tree._set(0, other)
    with pytest.raises(ParentHashMismatch):
        verify_parent_hashes(tree)


def test_parent_hash_must_come_from_exactly_one_child(grown: RatchetTree) -> None:
    """Section 7.9.2: D's resolution is what P's unmerged leaves leave of C's."""
    for index, node in list(grown.parents()):
        first, past = subtree_leaves(index)
        inside = [n for n in range(first, past) if grown.leaf(n) is not None]
        more = tuple(sorted({*node.unmerged_leaves, *inside}))
        with pytest.raises(ParentHashMismatch):
            verify_parent_hashes(bent(grown, index, unmerged=more))


# --- 12.4.3.1: unmerged leaves and keys


def test_unmerged_leaf_must_be_below_its_node(grown: RatchetTree) -> None:
    """Section 12.4.3.1: each entry is a descendant of the parent node."""
    index, _ = next(grown.parents())
    for unmerged in ((99,), (6,)):
        with pytest.raises(InvalidUnmergedLeaf):
            validate_tree(bent(grown, index, unmerged=unmerged), b"room", (), ALLOW_ALL)


def test_unmerged_leaf_must_not_be_blank() -> None:
    """Section 12.4.3.1: each entry is a non-blank leaf."""
    room = Room.of(4)
    room.commit("p0", remove=("p3",))
    tree = room["p0"]._epoch.tree
    with pytest.raises(InvalidUnmergedLeaf):
        validate_tree(bent(tree, tree.root, unmerged=(3,)), b"room", (), ALLOW_ALL)


def test_unmerged_leaf_must_be_in_all_nodes_between(grown: RatchetTree) -> None:
    """Section 12.4.3.1: every non-blank node in between has the entry too."""
    with pytest.raises(InvalidUnmergedLeaf):
        validate_tree(bent(grown, grown.root, unmerged=(0,)), b"room", (), ALLOW_ALL)


@pytest.mark.parametrize("unmerged", [(2, 1), (1, 1)])
def test_unmerged_leaves_must_be_sorted(unmerged: tuple[int, ...]) -> None:
    """Section 7.1: the list is in increasing order, without repeats."""
    with pytest.raises(Malformed):
        ParentNode.read(Reader(ParentNode.make(bytes(32), b"", unmerged).encoded))


def test_parent_key_must_be_unique_in_the_tree(grown: RatchetTree) -> None:
    """Section 12.4.3.1: a parent's encryption key is in no other node."""
    leaf = grown.leaf(0)
    assert leaf is not None
    with pytest.raises(DuplicateEncryptionKey):
        validate_tree(
            bent(grown, grown.root, encryption_key=leaf.encryption_key),
            b"room",
            (),
            ALLOW_ALL,
        )
