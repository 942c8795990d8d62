"""TreeKEM: new secrets along a path, sent to everybody else (RFC 9420 section 7).

Three traps live here. The commit secret is one DeriveSecret past the secret of the
last node of the *filtered* path. Path secrets are encrypted under the *provisional*
context: new epoch, tree hash and extensions, old confirmed transcript hash. Leaves
added by the same commit are left out of the resolutions they are encrypted to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from e2ee.codec import Reader, vector, vectors
from e2ee.crypto import Rng, equal, random_bytes
from e2ee.errors import (
    DecryptionFailed,
    InvalidPath,
    InvalidPathKey,
    ParentHashMismatch,
    PathKeyReused,
    PathLength,
    PathRecipients,
    PathSecretMismatch,
)
from e2ee.leaf import LeafNode
from e2ee.ratchet_tree import RatchetTree
from e2ee.suite import CipherSuite, HpkeCiphertext
from e2ee.tree_math import in_subtree

MAX_PATH = 32
"""Nodes of an UpdatePath: more than the height of any tree that we accept."""

_LABEL = "UpdatePathNode"


def read_hpke_ciphertext(reader: Reader) -> HpkeCiphertext:
    """Decode HPKECiphertext."""
    return HpkeCiphertext(reader.vector(), reader.vector())


@dataclass(frozen=True, slots=True)
class UpdatePathNode:
    """UpdatePathNode (section 7.6)."""

    encryption_key: bytes
    encrypted_path_secret: tuple[HpkeCiphertext, ...]

    def encode(self) -> bytes:
        """Encode."""
        return vector(self.encryption_key) + vectors(
            sealed.encode() for sealed in self.encrypted_path_secret
        )

    @classmethod
    def read(cls, reader: Reader) -> UpdatePathNode:
        """Decode."""
        return cls(reader.vector(), tuple(reader.items(read_hpke_ciphertext)))


@dataclass(frozen=True, slots=True)
class UpdatePath:
    """UpdatePath (section 7.6)."""

    leaf_node: LeafNode
    nodes: tuple[UpdatePathNode, ...]

    def encode(self) -> bytes:
        """Encode."""
        return self.leaf_node.encoded + vectors(node.encode() for node in self.nodes)

    @classmethod
    def read(cls, reader: Reader) -> UpdatePath:
        """Decode."""
        leaf_node = LeafNode.read(reader)
        return cls(leaf_node, tuple(reader.items(UpdatePathNode.read, MAX_PATH)))


@dataclass(frozen=True, slots=True)
class PathSecrets:
    """Path secrets from one node up to the root, and what follows from them."""

    secrets: dict[int, bytes] = field(repr=False)
    """Node index to path secret."""
    private_keys: dict[int, bytes] = field(repr=False)
    public_keys: tuple[bytes, ...]
    """Upwards, one per node."""
    commit_secret: bytes = field(repr=False)


def derive_path(suite: CipherSuite, first: bytes, nodes: list[int]) -> PathSecrets:
    """Derive the path secrets of `nodes`, upwards, from the first one's."""
    secrets: dict[int, bytes] = {}
    private_keys: dict[int, bytes] = {}
    public_keys: list[bytes] = []
    secret = first
    for node in nodes:
        secrets[node] = secret
        node_secret = suite.derive_secret(secret, "node")
        private_keys[node], public = suite.kem.derive_key_pair(node_secret)
        public_keys.append(public)
        secret = suite.derive_secret(secret, "path")
    return PathSecrets(secrets, private_keys, tuple(public_keys), secret)


@dataclass(frozen=True, slots=True)
class CreatedPath:
    """A path of our own: what to send and what to keep."""

    update_path: UpdatePath
    path: PathSecrets
    leaf_private: bytes = field(repr=False)
    first_secret: bytes = field(repr=False)


def create_path(
    tree: RatchetTree,
    leaf: int,
    *,
    sign: Callable[[bytes, bytes], LeafNode],
    context: Callable[[bytes], bytes],
    excluded: frozenset[int],
    rng: Rng = random_bytes,
) -> CreatedPath:
    """Give a leaf and its path new keys in `tree` (a copy, proposals applied).

    Args:
        sign: Makes the new leaf from its encryption key and parent hash.
        context: Gives the encoded provisional GroupContext for a tree hash.
        excluded: Leaves added by this commit.
    """
    suite = tree.suite
    filtered = tree.filtered_direct_path(leaf)
    first_secret = rng(suite.hash.size)
    path = derive_path(suite, first_secret, [node for node, _ in filtered])
    leaf_private, leaf_public = suite.kem.derive_key_pair(rng(suite.hash.size))
    parent_hash = tree.merge_path(leaf, path.public_keys)
    leaf_node = sign(leaf_public, parent_hash)
    tree.set_leaf(leaf, leaf_node)
    info = suite.encrypt_info(_LABEL, context(tree.tree_hash()))
    nodes: list[UpdatePathNode] = []
    for (node, other), public in zip(filtered, path.public_keys, strict=True):
        sealed: list[HpkeCiphertext] = []
        for target in tree.resolution(other, excluded):
            content = tree.node(target)
            if content is None:  # pragma: no cover - resolutions hold no blanks
                raise InvalidPath("a blank node is in a resolution")
            sealed.append(
                suite.encrypt_prepared(
                    content.encryption_key, info, path.secrets[node], rng
                )
            )
        nodes.append(UpdatePathNode(public, tuple(sealed)))
    update_path = UpdatePath(leaf_node, tuple(nodes))
    return CreatedPath(update_path, path, leaf_private, first_secret)


def merge_update_path(
    tree: RatchetTree, leaf: int, path: UpdatePath, excluded: frozenset[int]
) -> None:
    """Check a path's public side and merge it into `tree` (a copy).

    Raises:
        InvalidPath: It does not fit the tree, or a key of it is in the tree.
        ParentHashMismatch: The leaf signs another parent hash.
    """
    filtered = tree.filtered_direct_path(leaf)
    if len(filtered) != len(path.nodes):
        raise PathLength("the path has another length than the tree asks for")
    keys = [node.encryption_key for node in path.nodes]
    fresh = {path.leaf_node.encryption_key, *keys}
    if len(fresh) != len(keys) + 1:
        raise PathKeyReused("a key stands twice in the path")
    if any(map(tree.census.has_encryption_key, fresh)):
        raise PathKeyReused("a key of the path is already in the tree")
    for (_, other), node in zip(filtered, path.nodes, strict=True):
        try:
            tree.suite.kem.check_public(node.encryption_key)
        except DecryptionFailed:
            raise InvalidPathKey("a key of the path is not a key") from None
        expected = len(tree.resolution(other, excluded))
        if len(node.encrypted_path_secret) != expected:
            raise PathRecipients("the path is not encrypted to the right nodes")
    parent_hash = tree.merge_path(leaf, keys)
    if path.leaf_node.parent_hash != parent_hash:
        raise ParentHashMismatch("the new leaf carries another parent hash")
    tree.set_leaf(leaf, path.leaf_node)


def decrypt_path(
    tree: RatchetTree,
    sender: int,
    path: UpdatePath,
    *,
    own_leaf: int,
    private_keys: Mapping[int, bytes],
    excluded: frozenset[int],
    context: bytes,
) -> PathSecrets:
    """Find our path secret in a path that is already merged into `tree`.

    Args:
        private_keys: Node index to private key, for nodes as they were before.
        context: The encoded provisional GroupContext.

    Raises:
        InvalidPath: Nothing in it is for us, or its keys do not match its secrets.
        DecryptionFailed: What is for us does not open.
    """
    suite = tree.suite
    filtered = tree.filtered_direct_path(sender)
    place = next(
        (at for at, (_, other) in enumerate(filtered) if in_subtree(own_leaf, other)),
        None,
    )
    if place is None:
        raise InvalidPath("nothing in the path is for us")
    targets = tree.resolution(filtered[place][1], excluded)
    sealed_for = dict(
        zip(targets, path.nodes[place].encrypted_path_secret, strict=True)
    )
    target = next((node for node in targets if node in private_keys), None)
    if target is None:
        raise InvalidPath("nothing in the path is for us")
    sealed = sealed_for[target]
    private = private_keys[target]
    secret = suite.decrypt_with_label(private, _LABEL, context, sealed)
    if len(secret) != suite.hash.size:
        raise PathSecretMismatch("a path secret has the wrong length")
    derived = derive_path(suite, secret, [node for node, _ in filtered[place:]])
    for public, node in zip(derived.public_keys, path.nodes[place:], strict=True):
        if not equal(public, node.encryption_key):
            raise PathSecretMismatch("a key of the path does not match its secret")
    return derived
