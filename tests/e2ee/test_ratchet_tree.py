"""Trees: shape, hashes, unmerged leaves, validation; no recursion anywhere."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from e2ee import tree_math
from e2ee.codec import vectors
from e2ee.codepoint import BASIC
from e2ee.errors import (
    BadSignature,
    CredentialRefused,
    DuplicateKey,
    E2eeError,
    InvalidLeaf,
    InvalidTree,
    LimitExceeded,
    Malformed,
    ParentHashMismatch,
    UnsupportedExtension,
)
from e2ee.extension import Credential, Extension, RequiredCapabilities
from e2ee.leaf import (
    Capabilities,
    LeafNode,
    Lifetime,
    own_capabilities,
    sign_leaf,
)
from e2ee.member import ALLOW_ALL, UnsafeAllowAll
from e2ee.node import Node, ParentNode, encode_optional_node
from e2ee.ratchet_tree import MAX_LEAVES, RatchetTree
from e2ee.suite import SUITE_3
from e2ee.tree_validation import (
    validate_tree,
    verify_parent_hashes,
    verify_unmerged_leaves,
)
from tests.e2ee.support import Room

_PLAIN = own_capabilities(SUITE_3)
GREASED = replace(_PLAIN, extensions=(*_PLAIN.extensions, 0x0A0A, 0xEAEA))


def make_leaf(
    name: bytes = b"x",
    *,
    capabilities: Capabilities = GREASED,
    extensions: tuple[Extension, ...] = (),
    signature_private: bytes | None = None,
    encryption_key: bytes | None = None,
) -> LeafNode:
    return sign_leaf(
        SUITE_3,
        signature_private or os.urandom(32),
        encryption_key=encryption_key or os.urandom(32),
        credential=Credential(BASIC, name),
        capabilities=capabilities,
        lifetime=Lifetime(0, 1),
        extensions=extensions,
    )


def tree_of(count: int) -> RatchetTree:
    tree = RatchetTree.of(SUITE_3, [make_leaf()])
    for _ in range(count - 1):
        tree.add_leaf(make_leaf())
    return tree


def fresh_hash(tree: RatchetTree) -> bytes:
    nodes = [tree.node(index) for index in range(2 * tree.width - 1)]
    return RatchetTree.of(SUITE_3, nodes).tree_hash()


def full_tree() -> RatchetTree:
    """A tree of eight with unmerged leaves and a blank, by real commits."""
    room = Room.of(7)
    room.commit("p3", remove=("p5",))
    room.commit("p4")
    room.commit("p0")
    room.add("p2", "q1", "q2", update=False)
    return room["p1"]._epoch.tree


def test_leaf_index_0_is_an_ordinary_index() -> None:
    tree = tree_of(3)
    assert tree.leaf(0) is not None
    tree.remove_leaf(0)
    assert tree.leaf(0) is None
    assert tree.first_blank() == 0
    assert tree.add_leaf(make_leaf()) == 0
    assert tree_math.common_ancestor(0, 2) == 1


def test_the_creator_can_be_removed() -> None:
    room = Room.of(4)
    room.commit("p2", remove=("p0",))
    assert [member.leaf for member in room["p2"].members()] == [1, 2, 3]
    room.add("p1", "q0")
    assert room.leaf("q0") == 0
    room.commit("q0")


def test_width_is_a_power_of_two_and_shrinks() -> None:
    tree = tree_of(9)
    assert tree.width == 16
    tree.remove_leaf(8)
    tree.truncate()
    assert tree.width == 8
    for leaf in (1, 2, 3, 4, 5, 6, 7):
        tree.remove_leaf(leaf)
    tree.truncate()
    assert tree.width == 1
    assert tree.tree_hash() == fresh_hash(tree)


def test_truncation_stops_at_the_last_leaf() -> None:
    tree = tree_of(8)
    for leaf in (4, 5, 6):
        tree.remove_leaf(leaf)
    tree.truncate()
    assert tree.width == 8
    assert tree.first_blank() == 4


def test_added_leaves_are_unmerged_in_every_filled_ancestor() -> None:
    tree = full_tree()
    lists = {node.unmerged_leaves for _, node in tree.parents()}
    assert any(lists)
    for index, node in tree.parents():
        assert list(node.unmerged_leaves) == sorted(set(node.unmerged_leaves))
        for leaf in node.unmerged_leaves:
            assert tree_math.in_subtree(leaf, index)
    validate_tree(tree, b"room", (), ALLOW_ALL)


def test_unmerged_leaves_are_kept_sorted() -> None:
    node = ParentNode.make(bytes(32), b"", (1, 5))
    assert node.with_unmerged(3).unmerged_leaves == (1, 3, 5)
    assert node.with_unmerged(0).unmerged_leaves == (0, 1, 5)
    assert node.with_unmerged(9).unmerged_leaves == (1, 5, 9)


@pytest.mark.parametrize("unmerged", [(2, 1), (1, 1)])
def test_unsorted_or_repeated_unmerged_leaves_are_refused(
    unmerged: tuple[int, ...],
) -> None:
    nodes: list[Node | None] = [
        make_leaf(),
        ParentNode.make(bytes(32), b"", unmerged),
        make_leaf(),
    ]
    with pytest.raises(Malformed):
        RatchetTree.decode(SUITE_3, vectors(map(encode_optional_node, nodes)))


def test_hashes_follow_every_change() -> None:
    tree = full_tree()
    for change in (
        lambda t: t.add_leaf(make_leaf()),
        lambda t: t.update_leaf(1, make_leaf()),
        lambda t: t.remove_leaf(2),
        lambda t: (t.remove_leaf(7), t.truncate()),
        lambda t: t.merge_path(0, [os.urandom(32) for _ in t.filtered_direct_path(0)]),
    ):
        before = tree.tree_hash()
        copy = tree.copy()
        copy.tree_hash()
        change(copy)
        assert copy.tree_hash() == fresh_hash(copy) != before
        assert tree.tree_hash() == before == fresh_hash(tree)


def test_encoding_leaves_trailing_blanks_out_and_comes_back() -> None:
    tree = tree_of(5)
    again = RatchetTree.decode(SUITE_3, tree.encode())
    assert again.width == 8
    assert again.encode() == tree.encode()
    assert again.tree_hash() == tree.tree_hash()
    nodes = [tree.node(index) for index in range(2 * tree.width - 1)]
    with pytest.raises(Malformed):
        RatchetTree.decode(SUITE_3, vectors(map(encode_optional_node, nodes)))


def test_nodes_of_the_wrong_kind_are_refused() -> None:
    parent = ParentNode.make(bytes(32), b"")
    for nodes in ([parent], [make_leaf(), make_leaf(), make_leaf()], []):
        with pytest.raises(Malformed):
            RatchetTree.decode(SUITE_3, vectors(map(encode_optional_node, nodes)))


def test_limits() -> None:
    with pytest.raises(LimitExceeded):
        RatchetTree.decode(SUITE_3, bytes(8 * 1024 * 1024 + 1))
    blanks = vectors([b"\0"] * 8193)
    with pytest.raises(LimitExceeded):
        RatchetTree.decode(SUITE_3, blanks)
    leaf = make_leaf()
    tree = RatchetTree.of(SUITE_3, [leaf, None] * MAX_LEAVES)
    with pytest.raises(LimitExceeded):
        tree.add_leaf(leaf)


def test_ten_thousand_leaves_need_no_recursion() -> None:
    leaf = make_leaf()
    count = 10_000
    tree = RatchetTree.of(SUITE_3, [leaf, None] * count)
    assert tree.width == 16_384
    assert len(tree.tree_hash()) == 32
    assert len(tree.resolution(tree.root)) == count
    assert len(tree.filtered_direct_path(0)) == 14
    keys = [os.urandom(32) for _ in tree.filtered_direct_path(9_999)]
    tree.merge_path(9_999, keys)
    assert not tree.is_empty(tree.root)
    assert tree.original_tree_hash(tree.root, [3]) != tree.tree_hash()
    tree.remove_leaf(9_999)
    tree.truncate()
    assert tree.width == 16_384
    from e2ee.secret_tree import SecretTree

    secrets = SecretTree(SUITE_3, bytes(32), tree.width)
    secrets.consume(secrets.next(9_999, 1))


def test_same_key_twice_is_refused() -> None:
    key, private = os.urandom(32), os.urandom(32)
    tree = tree_of(2)
    tree.add_leaf(make_leaf(encryption_key=key))
    tree.census.check_unique()
    tree.add_leaf(make_leaf(encryption_key=key))
    with pytest.raises(DuplicateKey):
        tree.census.check_unique()
    tree = tree_of(2)
    tree.add_leaf(make_leaf(signature_private=private))
    tree.add_leaf(make_leaf(signature_private=private))
    with pytest.raises(DuplicateKey):
        tree.census.check_unique()
    tree.remove_leaf(2)
    tree.census.check_unique()


def test_a_parents_key_may_not_be_a_leafs() -> None:
    tree = full_tree().copy()
    leaf = tree.leaf(0)
    assert leaf is not None
    tree._set(1, ParentNode.make(leaf.encryption_key, b""))
    with pytest.raises(DuplicateKey):
        tree.census.check_unique()


def test_parent_hashes_must_chain() -> None:
    tree = full_tree()
    verify_parent_hashes(tree)
    for index, node in list(tree.parents()):
        for changed in (
            ParentNode.make(os.urandom(32), node.parent_hash, node.unmerged_leaves),
            ParentNode.make(node.encryption_key, b"x" * 32, node.unmerged_leaves),
        ):
            copy = tree.copy()
            copy._set(index, changed)
            with pytest.raises(ParentHashMismatch):
                verify_parent_hashes(copy)


def test_a_changed_sibling_subtree_breaks_the_parent_hash() -> None:
    tree = Room.of(4)["p0"]._epoch.tree.copy()
    # Leaf 3 committed last, so the left half is what its chain covers.
    tree._set(0, make_leaf())
    with pytest.raises(ParentHashMismatch):
        verify_parent_hashes(tree)


def test_unmerged_leaves_must_be_where_they_say() -> None:
    tree = full_tree()
    for unmerged in ((0, 99), (99,)):
        copy = tree.copy()
        index, node = next(copy.parents())
        copy._set(
            index, ParentNode.make(node.encryption_key, node.parent_hash, unmerged)
        )
        with pytest.raises(InvalidTree):
            verify_unmerged_leaves(copy)
    # A blank leaf, and a leaf that a node in between does not list.
    copy = tree.copy()
    root = copy.parent_node(copy.root)
    assert root is not None
    for unmerged in ((1,),):
        copy._set(
            copy.root, ParentNode.make(root.encryption_key, root.parent_hash, unmerged)
        )
        with pytest.raises(InvalidTree):
            verify_unmerged_leaves(copy)


def refused(tree: RatchetTree, error: type[E2eeError], *extensions: Extension) -> None:
    with pytest.raises(error):
        validate_tree(tree, b"room", extensions, ALLOW_ALL)


def test_every_leaf_is_checked_when_joining() -> None:
    good = make_leaf()
    tree = RatchetTree.of(SUITE_3, [good, None, make_leaf()])
    validate_tree(tree, b"room", (), ALLOW_ALL)
    forged = LeafNode(
        good.encryption_key,
        os.urandom(32),
        good.credential,
        good.capabilities,
        good.source,
        good.lifetime,
        b"",
        (),
        good.signature,
        good.encoded,
        good.tbs,
    )
    refused(RatchetTree.of(SUITE_3, [forged]), BadSignature)


@pytest.mark.parametrize(
    "field", ["versions", "cipher_suites", "credentials", "extensions"]
)
def test_a_leaf_must_support_what_it_uses(field: str) -> None:
    values = {name: getattr(GREASED, name) for name in GREASED.__slots__}
    values[field] = (0x0A0A,)
    leaf = make_leaf(
        capabilities=Capabilities(**values), extensions=(Extension(0xF123, b""),)
    )
    refused(RatchetTree.of(SUITE_3, [leaf]), InvalidLeaf)


def test_required_capabilities_hold_for_all() -> None:
    needs = RequiredCapabilities(extensions=(0xF0A1,), credentials=(BASIC,))
    tree = RatchetTree.of(SUITE_3, [make_leaf()])
    validate_tree(tree, b"room", (needs.extension(),), ALLOW_ALL)
    for needs in (
        RequiredCapabilities(extensions=(0xF777,)),
        RequiredCapabilities(proposals=(0xF777,)),
        RequiredCapabilities(credentials=(2,)),
    ):
        refused(tree, UnsupportedExtension, needs.extension())
    refused(tree, UnsupportedExtension, Extension(0xF777, b""))
    # The defaults need not be listed.
    default = RequiredCapabilities(extensions=(1, 3, 5), proposals=(1, 7))
    validate_tree(tree, b"room", (default.extension(),), ALLOW_ALL)


def test_credentials_are_asked_about() -> None:
    class Picky(UnsafeAllowAll):
        def credential(
            self, identity: bytes, signature_key: bytes, *, fresh: bool
        ) -> None:
            if identity == b"mallory":
                raise CredentialRefused("no")

    tree = RatchetTree.of(SUITE_3, [make_leaf(b"alice"), None, make_leaf(b"mallory")])
    with pytest.raises(CredentialRefused):
        validate_tree(tree, b"room", (), Picky())


def test_grease_and_unknown_extensions_are_kept_in_hashes() -> None:
    greased = make_leaf(extensions=(Extension(0x0A0A, b"grease"),))
    tree = RatchetTree.of(SUITE_3, [greased])
    again = RatchetTree.decode(SUITE_3, tree.encode())
    assert again.tree_hash() == tree.tree_hash()
    leaf = again.leaf(0)
    assert leaf is not None and leaf.extensions == (Extension(0x0A0A, b"grease"),)
    validate_tree(again, b"room", (), ALLOW_ALL)
