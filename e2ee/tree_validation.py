"""Checks of a whole tree that somebody gave us (RFC 9420 sections 7.9.2, 12.4.3.1).

Done when joining and when a hub takes in a group; commits are checked by the change.
"""

from __future__ import annotations

from e2ee.codepoint import BASIC
from e2ee.errors import (
    CredentialTypeRefused,
    InvalidUnmergedLeaf,
    ParentHashMismatch,
)
from e2ee.extension import Extensions, RequiredCapabilities
from e2ee.leaf import LeafNode
from e2ee.member import Validator
from e2ee.node import ParentNode
from e2ee.ratchet_tree import RatchetTree
from e2ee.tree_math import direct_path, left, right, subtree_leaves


def validate_tree(
    tree: RatchetTree,
    group_id: bytes,
    extensions: Extensions,
    validator: Validator,
    *,
    fresh: bool = False,
) -> None:
    """Check all of a tree but its root hash.

    Args:
        fresh: Whether it is a new group's. Else the leaves were let in before, and
            what has expired since must not shut others out.

    Raises:
        InvalidTree, DuplicateKey, ParentHashMismatch: Its shape or hashes are wrong.
        InvalidLeaf, BadSignature, CredentialRefused: A leaf is.
        UnsupportedExtension: A member lacks what the group needs.
    """
    # (1) Every key once.
    tree.census.check_unique()
    # (2) Unmerged leaves stand below, and in all nodes on the way.
    verify_unmerged_leaves(tree)
    # (3) Every parent was set together with a leaf's signature.
    verify_parent_hashes(tree)
    # (4) Every member can live with the others and with the group.
    required = RequiredCapabilities.of(extensions)
    tree.census.check_credentials()
    tree.census.check_required(required)
    tree.census.check_extensions(extension.type for extension in extensions)
    # (5) Every leaf is sound, signed, and its credential accepted.
    for index, leaf in tree.leaves():
        check_leaf(tree, leaf, required)
        leaf.verify(tree.suite, group_id, index)
        accept_credential(leaf, validator, fresh=fresh)


def check_leaf(
    tree: RatchetTree, leaf: LeafNode, required: RequiredCapabilities
) -> None:
    """Check what a leaf alone shows; raises `InvalidLeaf`."""
    leaf.check(tree.suite, required)


def accept_credential(leaf: LeafNode, validator: Validator, *, fresh: bool) -> None:
    """Ask the caller about a leaf's credential.

    Raises:
        InvalidLeaf: It is not a basic one.
        CredentialRefused: The caller refuses it.
    """
    if leaf.credential.type != BASIC:
        raise CredentialTypeRefused("only basic credentials are accepted")
    validator.credential(leaf.credential.identity, leaf.signature_key, fresh=fresh)


def verify_unmerged_leaves(tree: RatchetTree) -> None:
    """Check the lists of unmerged leaves; raises `InvalidTree`."""
    lists = {index: set(node.unmerged_leaves) for index, node in tree.parents()}
    for index, unmerged in lists.items():
        first, past = subtree_leaves(index)
        for leaf in unmerged:
            if not first <= leaf < past or tree.leaf(leaf) is None:
                raise InvalidUnmergedLeaf(
                    "an unmerged leaf does not stand under its node"
                )
            for between in direct_path(2 * leaf, tree.width):
                if between == index:
                    break
                if between in lists and leaf not in lists[between]:
                    raise InvalidUnmergedLeaf(
                        "an unmerged leaf is missing further down"
                    )


def verify_parent_hashes(tree: RatchetTree) -> None:
    """Check that each parent has exactly one child chain (section 7.9.2).

    Raises:
        ParentHashMismatch: A parent has none, or more than one.
    """
    for index, node in tree.parents():
        a, b = left(index), right(index)
        if _is_chained(tree, node, a, b) == _is_chained(tree, node, b, a):
            raise ParentHashMismatch("a parent node is not chained to one leaf")


def _is_chained(tree: RatchetTree, node: ParentNode, child: int, other: int) -> bool:
    """Whether a parent was set together with a node in the resolution of a child."""
    below = {2 * leaf for leaf in _unmerged_under(node, child)}
    resolution = tree.resolution(child)
    # That node is in the resolution, and the rest of it is what is unmerged.
    heads = [found for found in resolution if found not in below]
    if len(heads) != 1 or len(resolution) != len(below) + 1:
        return False
    head = tree.node(heads[0])
    gone = _unmerged_under(node, other)
    expected = tree.parent_hash(node, tree.original_tree_hash(other, gone))
    return head is not None and head.parent_hash == expected


def _unmerged_under(node: ParentNode, child: int) -> list[int]:
    """Unmerged leaves of a parent that stand under one of its children."""
    if not node.unmerged_leaves:
        return []
    first, past = subtree_leaves(child)
    return [leaf for leaf in node.unmerged_leaves if first <= leaf < past]
