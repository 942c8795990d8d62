"""Checks of ratchet trees and TreeKEM."""

from __future__ import annotations

from dataclasses import replace

from e2ee.codec import decode
from e2ee.codepoint import MEMBER, SOURCE_COMMIT
from e2ee.extension import RequiredCapabilities
from e2ee.framing import Sender
from e2ee.group_context import GroupContext
from e2ee.leaf import LeafNode, sign_leaf
from e2ee.member import ALLOW_ALL
from e2ee.proposal import Add, Remove, Update, read_proposal
from e2ee.proposal_validation import check_proposal
from e2ee.ratchet_tree import RatchetTree
from e2ee.tree_math import in_subtree
from e2ee.tree_validation import verify_parent_hashes, verify_unmerged_leaves
from e2ee.treekem import (
    UpdatePath,
    create_path,
    decrypt_path,
    derive_path,
    merge_update_path,
)
from e2ee.vectors.case import Case, Mismatch, same


def _leaf(tree: RatchetTree, index: int) -> LeafNode:
    leaf = tree.leaf(index)
    if leaf is None:
        raise Mismatch(f"leaf {index} is blank")
    return leaf


def tree_operations_case(case: Case) -> None:
    """Check `tree-operations.json`."""
    suite = case.suite
    before = case.hex("tree_before")
    tree = RatchetTree.decode(suite, before)
    same("tree_before", tree.encode(), before)
    same("tree_hash_before", tree.tree_hash(), case.hex("tree_hash_before"))
    proposal = decode(case.hex("proposal"), read_proposal)
    sender = case.data["proposal_sender"]
    _leaf(tree, sender)
    match proposal:
        case Add(package):
            context = GroupContext(suite.id, b"", 0, b"", b"")
            check_proposal(tree, context, Sender(MEMBER, sender), proposal, ALLOW_ALL)
            tree.add_leaf(package.leaf_node)
        case Update(leaf):
            same("signer", leaf.signature_key, _leaf(tree, sender).signature_key)
            tree.update_leaf(sender, leaf)
        case Remove(removed):
            _leaf(tree, removed)
            tree.remove_leaf(removed)
            tree.truncate()
        case _:
            raise Mismatch("the proposal does not change a tree")
    same("tree_hash_after", tree.tree_hash(), case.hex("tree_hash_after"))
    same("tree_after", tree.encode(), case.hex("tree_after"))
    again = RatchetTree.decode(suite, case.hex("tree_after"))
    same("tree hash of tree_after", again.tree_hash(), tree.tree_hash())


def tree_validation_case(case: Case) -> None:
    """Check `tree-validation.json`."""
    suite, encoded, group_id = case.suite, case.hex("tree"), case.hex("group_id")
    tree = RatchetTree.decode(suite, encoded)
    same("tree", tree.encode(), encoded)
    nodes = range(2 * tree.width - 1)
    same("resolutions", [tree.resolution(n) for n in nodes], case.data["resolutions"])
    hashes = [tree.tree_hash(node).hex() for node in nodes]
    same("tree_hashes", hashes, case.data["tree_hashes"])
    tree.census.check_unique()
    verify_unmerged_leaves(tree)
    verify_parent_hashes(tree)
    for index, leaf in tree.leaves():
        leaf.check(suite, RequiredCapabilities())
        leaf.verify(suite, group_id, index)


def treekem_case(case: Case) -> None:
    """Check `treekem.json`."""
    suite = case.suite
    encoded = case.hex("ratchet_tree")
    tree = RatchetTree.decode(suite, encoded)
    same("ratchet_tree", tree.encode(), encoded)
    verify_parent_hashes(tree)
    context = GroupContext(
        suite.id,
        case.hex("group_id"),
        case.data["epoch"],
        tree.tree_hash(),
        case.hex("confirmed_transcript_hash"),
    )
    members = {data["index"]: data for data in case.data["leaves_private"]}
    same("members", sorted(members), [index for index, _ in tree.leaves()])
    keys = {
        index: _private_keys(case.part(data), tree) for index, data in members.items()
    }
    for index, leaf in tree.leaves():
        leaf.verify(suite, context.group_id, index)
    for data in case.data["update_paths"]:
        one = case.part(data)
        sender = data["sender"]
        encoded = one.hex("update_path")
        path = decode(encoded, UpdatePath.read)
        same("update_path", path.encode(), encoded)
        _process(one, tree, context, path, keys)
        own = _create(tree, context, sender, members[sender]["signature_priv"])
        _process_own(tree, context, sender, own, keys)


def _private_keys(one: Case, tree: RatchetTree) -> dict[int, bytes]:
    """Check a member's private state against the tree."""
    suite, index = tree.suite, one.data["index"]
    leaf = _leaf(tree, index)
    private = one.hex("encryption_priv")
    same("encryption_priv", suite.kem.public(private), leaf.encryption_key)
    signer = suite.signature.public(one.hex("signature_priv"))
    same("signature_priv", signer, leaf.signature_key)
    keys = {2 * index: private}
    for entry in one.data["path_secrets"]:
        node = entry["node"]
        derived = derive_path(suite, bytes.fromhex(entry["path_secret"]), [node])
        content = tree.parent_node(node)
        if content is None or not in_subtree(index, node):
            raise Mismatch("a path secret belongs to no node")
        same("path_secret", derived.public_keys[0], content.encryption_key)
        keys |= derived.private_keys
    return keys


def _process(
    one: Case,
    tree: RatchetTree,
    context: GroupContext,
    path: UpdatePath,
    keys: dict[int, dict[int, bytes]],
) -> None:
    sender = one.data["sender"]
    new = tree.copy()
    path.leaf_node.verify(tree.suite, context.group_id, sender)
    same("source", path.leaf_node.source, SOURCE_COMMIT)
    merge_update_path(new, sender, path, frozenset())
    same("tree_hash_after", new.tree_hash(), one.hex("tree_hash_after"))
    encoded = replace(context, tree_hash=new.tree_hash()).encode()
    expected: list[str | None] = []
    for index in range(len(one.data["path_secrets"])):
        if index == sender or new.leaf(index) is None:
            expected.append(None)
            continue
        found = decrypt_path(
            new,
            sender,
            path,
            own_leaf=index,
            private_keys=keys[index],
            excluded=frozenset(),
            context=encoded,
        )
        same("commit_secret", found.commit_secret, one.hex("commit_secret"))
        expected.append(next(iter(found.secrets.values())).hex())
    same("path_secrets", expected, one.data["path_secrets"])
    last = max(index for index, _ in tree.leaves())
    same("every member", len(expected) > last, True)


def _create(
    tree: RatchetTree, context: GroupContext, sender: int, signature_private: str
) -> tuple[UpdatePath, bytes]:
    """Make an UpdatePath of our own; give it and its commit secret."""
    old = _leaf(tree, sender)

    def sign(encryption_key: bytes, parent_hash: bytes) -> LeafNode:
        return sign_leaf(
            tree.suite,
            bytes.fromhex(signature_private),
            encryption_key=encryption_key,
            credential=old.credential,
            capabilities=old.capabilities,
            extensions=old.extensions,
            parent_hash=parent_hash,
            group_id=context.group_id,
            leaf=sender,
        )

    created = create_path(
        tree.copy(),
        sender,
        sign=sign,
        context=lambda tree_hash: replace(context, tree_hash=tree_hash).encode(),
        excluded=frozenset(),
    )
    encoded = created.update_path.encode()
    return decode(encoded, UpdatePath.read), created.path.commit_secret


def _process_own(
    tree: RatchetTree,
    context: GroupContext,
    sender: int,
    own: tuple[UpdatePath, bytes],
    keys: dict[int, dict[int, bytes]],
) -> None:
    path, commit_secret = own
    new = tree.copy()
    merge_update_path(new, sender, path, frozenset())
    verify_parent_hashes(new)
    encoded = replace(context, tree_hash=new.tree_hash()).encode()
    for index, _ in tree.leaves():
        if index == sender:
            continue
        found = decrypt_path(
            new,
            sender,
            path,
            own_leaf=index,
            private_keys=keys[index],
            excluded=frozenset(),
            context=encoded,
        )
        same("own commit secret", found.commit_secret, commit_secret)
