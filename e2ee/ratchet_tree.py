"""The ratchet tree: public state of a group (RFC 9420 sections 4.1, 7.5 to 7.9).

Nodes are immutable and shared between copies; a copy of the tree costs a few list
and dict copies, so every change is made on a copy and thrown away if it fails.
A tree hash is kept per node; changing a node forgets the hashes above it only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from e2ee.census import Census
from e2ee.codec import Reader, optional, u8, u32, vector, vectors
from e2ee.codepoint import LEAF, PARENT
from e2ee.errors import InvalidTree, LimitExceeded, Malformed
from e2ee.leaf import LeafNode
from e2ee.node import Node, ParentNode, encode_optional_node, read_optional_node
from e2ee.suite import CipherSuite
from e2ee.tree_math import direct_path, left, level, parent, right, sibling

MAX_LEAVES = 4_000
"""Members of a group: a room of 1,000 people with up to four devices each."""
MAX_TREE = 8 * 1024 * 1024
"""Bytes of an encoded tree: 4,000 leaves of 2 KiB."""
_MAX_WIDTH = 2 * 4096
"""Entries in an encoded tree: `MAX_LEAVES` rounded up to a full tree."""


class RatchetTree:
    """A ratchet tree. Mutating methods are for a `copy()` alone."""

    __slots__ = ("_first_blank", "_hashes", "_nodes", "census", "suite")

    def __init__(self, suite: CipherSuite) -> None:
        self.suite = suite
        self.census = Census()
        self._nodes: list[Node | None] = [None]
        self._hashes: list[bytes | None] = [None]
        self._first_blank = 0

    @classmethod
    def of(cls, suite: CipherSuite, nodes: Sequence[Node | None]) -> RatchetTree:
        """Build from nodes in order, filled up with blanks to a full tree.

        Raises:
            Malformed: A leaf stands where a parent belongs, or the other way round.
        """
        tree = cls(suite)
        width = 1
        while width < len(nodes):
            width = 2 * width + 1
        tree._nodes = [*nodes, *[None] * (width - len(nodes))]
        tree._hashes = [None] * width
        for index, node in enumerate(nodes):
            if node is None:
                continue
            is_leaf = isinstance(node, LeafNode)
            if is_leaf == bool(index & 1):
                raise Malformed("a node of the tree has the wrong type")
            tree.census.count(
                node.encryption_key, node if isinstance(node, LeafNode) else None, 1
            )
        return tree

    @classmethod
    def decode(cls, suite: CipherSuite, data: bytes) -> RatchetTree:
        """Decode `optional<Node> ratchet_tree<V>` (section 12.4.3.3).

        Raises:
            Malformed: The bytes are no tree, or its last node is blank.
            LimitExceeded: It is larger than accepted.
        """
        if len(data) > MAX_TREE:
            raise LimitExceeded("the ratchet tree is larger than accepted")
        reader = Reader(data)
        nodes = reader.items(read_optional_node, _MAX_WIDTH)
        reader.finish()
        if not nodes or nodes[-1] is None:
            raise Malformed("the last node of the tree is blank")
        tree = cls.of(suite, nodes)
        if tree.census.leaves > MAX_LEAVES:
            raise LimitExceeded("the tree has more leaves than accepted")
        return tree

    def encode(self) -> bytes:
        """Encode without the blanks after the last node."""
        nodes = self._nodes
        past = len(nodes)
        while past > 0 and nodes[past - 1] is None:
            past -= 1
        return vectors(encode_optional_node(node) for node in nodes[:past])

    def copy(self) -> RatchetTree:
        """Give an independent copy that shares the nodes."""
        other = RatchetTree.__new__(RatchetTree)
        other.suite = self.suite
        other.census = self.census.copy()
        other._nodes = self._nodes.copy()
        other._hashes = self._hashes.copy()
        other._first_blank = self._first_blank
        return other

    # --- reading

    @property
    def width(self) -> int:
        """How many leaves fit: a power of two."""
        return (len(self._nodes) + 1) // 2

    @property
    def root(self) -> int:
        """Node index of the root."""
        return len(self._nodes) // 2

    def node(self, index: int) -> Node | None:
        """Give a node by node index."""
        return self._nodes[index]

    def leaf(self, index: int) -> LeafNode | None:
        """Give a leaf by leaf index; None if it is blank or outside of the tree."""
        if index >= self.width:
            return None
        node = self._nodes[2 * index]
        return node if isinstance(node, LeafNode) else None

    def parent_node(self, index: int) -> ParentNode | None:
        """Give a parent by node index."""
        node = self._nodes[index]
        return node if isinstance(node, ParentNode) else None

    def leaves(self) -> Iterator[tuple[int, LeafNode]]:
        """Give all members with their leaf indices, in order."""
        for index, node in enumerate(self._nodes[::2]):
            if isinstance(node, LeafNode):
                yield index, node

    def all_leaves(self) -> list[LeafNode | None]:
        """Give all leaves, blank ones too: what a past epoch keeps."""
        return [n if isinstance(n, LeafNode) else None for n in self._nodes[::2]]

    def parents(self) -> Iterator[tuple[int, ParentNode]]:
        """Give all non-blank parents with their node indices."""
        for index in range(1, len(self._nodes), 2):
            node = self._nodes[index]
            if isinstance(node, ParentNode):
                yield index, node

    def direct_path(self, leaf: int) -> list[int]:
        """Node indices from the parent of a leaf to the root."""
        return direct_path(2 * leaf, self.width)

    def resolution(
        self, node: int, excluded: frozenset[int] = frozenset()
    ) -> list[int]:
        """Node indices of the resolution (section 4.1.1), without `excluded` leaves."""
        nodes = self._nodes
        found: list[int] = []
        stack = [node]
        while stack:
            index = stack.pop()
            content = nodes[index]
            if content is None:
                if index & 1:
                    stack.append(right(index))
                    stack.append(left(index))
            elif isinstance(content, ParentNode):
                found.append(index)
                found.extend(
                    2 * leaf for leaf in content.unmerged_leaves if leaf not in excluded
                )
            elif index // 2 not in excluded:
                found.append(index)
        return found

    def is_empty(self, node: int) -> bool:
        """Whether the resolution of a node is empty."""
        nodes = self._nodes
        stack = [node]
        while stack:
            index = stack.pop()
            if nodes[index] is not None:
                return False
            if index & 1:
                stack.append(right(index))
                stack.append(left(index))
        return True

    def filtered_direct_path(self, leaf: int) -> list[tuple[int, int]]:
        """Give (node, copath child) for the filtered direct path (section 4.1.2)."""
        found: list[tuple[int, int]] = []
        below = 2 * leaf
        for node in self.direct_path(leaf):
            other = sibling(below)
            if not self.is_empty(other):
                found.append((node, other))
            below = node
        return found

    # --- hashes

    def tree_hash(self, node: int | None = None) -> bytes:
        """Give the tree hash of a node, or of the whole tree (section 7.8)."""
        hashes = self._hashes
        top = self.root if node is None else node
        known = hashes[top]
        if known is not None:
            return known
        stack = [top]
        while stack:
            index = stack[-1]
            if hashes[index] is not None:
                stack.pop()
                continue
            if index & 1:
                a, b = left(index), right(index)
                left_hash, right_hash = hashes[a], hashes[b]
                if left_hash is None or right_hash is None:
                    if left_hash is None:
                        stack.append(a)
                    if right_hash is None:
                        stack.append(b)
                    continue
                hashes[index] = self._parent_hash_of(
                    self._nodes[index], left_hash, right_hash
                )
            else:
                hashes[index] = self._leaf_hash(index // 2, self._nodes[index])
            stack.pop()
        result = hashes[top]
        if result is None:  # pragma: no cover - the loop above fills it
            raise InvalidTree("a tree hash was not computed")
        return result

    def _leaf_hash(self, leaf: int, node: Node | None) -> bytes:
        encoded = None if node is None else node.encoded
        return self.suite.hash.digest(u8(LEAF) + u32(leaf) + optional(encoded))

    def _parent_hash_of(
        self, node: Node | None, left_hash: bytes, right_hash: bytes
    ) -> bytes:
        encoded = None if node is None else node.encoded
        return self.suite.hash.digest(
            u8(PARENT) + optional(encoded) + vector(left_hash) + vector(right_hash)
        )

    def original_tree_hash(self, node: int, without: Iterable[int]) -> bytes:
        """Tree hash of a subtree as it was before the leaves `without` were added.

        Those leaves are blanked and taken out of all lists of unmerged leaves
        (section 7.9). Only the paths above them are hashed again.
        """
        gone = frozenset(without)
        own = self.tree_hash(node)
        if not gone:
            return own
        changed: dict[int, bytes] = {}
        top = level(node)
        layer = set()
        for leaf in gone:
            changed[2 * leaf] = self._leaf_hash(leaf, None)
            layer.add(2 * leaf)
        for _ in range(top):
            layer = {parent(index) for index in layer}
            for index in layer:
                a, b = left(index), right(index)
                content = self._nodes[index]
                if isinstance(content, ParentNode):
                    content = content.without_unmerged(gone)
                changed[index] = self._parent_hash_of(
                    content,
                    changed.get(a) or self.tree_hash(a),
                    changed.get(b) or self.tree_hash(b),
                )
        return changed[node]

    def parent_hash(self, content: ParentNode, sibling_hash: bytes) -> bytes:
        """Parent hash of a parent node with a copath child's hash (section 7.9)."""
        return self.suite.hash.digest(
            vector(content.encryption_key)
            + vector(content.parent_hash)
            + vector(sibling_hash)
        )

    # --- changing (on a copy)

    def _set(self, index: int, node: Node | None) -> None:
        nodes, hashes = self._nodes, self._hashes
        old = nodes[index]
        if old is None and node is None:
            return
        for content, by in ((old, -1), (node, 1)):
            if content is not None:
                self.census.count(
                    content.encryption_key,
                    content if isinstance(content, LeafNode) else None,
                    by,
                )
        nodes[index] = node
        top = self.root
        while True:
            hashes[index] = None
            if index == top:
                return
            index = parent(index)
            if hashes[index] is None:
                return

    def set_leaf(self, leaf: int, node: LeafNode) -> None:
        """Replace a leaf and leave the nodes above as they are."""
        self._set(2 * leaf, node)

    def blank_path(self, leaf: int) -> None:
        """Blank all nodes above a leaf."""
        for index in self.direct_path(leaf):
            self._set(index, None)

    def update_leaf(self, leaf: int, node: LeafNode) -> None:
        """Apply an Update (section 12.1.2)."""
        self._set(2 * leaf, node)
        self.blank_path(leaf)

    def remove_leaf(self, leaf: int) -> None:
        """Apply a Remove (section 12.1.3), all but the truncation."""
        self._set(2 * leaf, None)
        self.blank_path(leaf)
        self._first_blank = min(self._first_blank, leaf)

    def truncate(self) -> None:
        """Halve the tree while its right half holds no leaf (section 7.7)."""
        nodes = self._nodes
        last = len(nodes) - 1
        while last >= 0 and nodes[last] is None:
            last -= 2
        width = 1
        while width <= last:
            width = 2 * width + 1
        for index in range(width, len(nodes), 2):
            self._set(index, None)
        del nodes[width:]
        del self._hashes[width:]

    def first_blank(self) -> int:
        """Leftmost blank leaf; one past the last if there is none."""
        nodes = self._nodes
        leaf = self._first_blank
        while 2 * leaf < len(nodes) and nodes[2 * leaf] is not None:
            leaf += 1
        self._first_blank = leaf
        return leaf

    def extend(self) -> None:
        """Double the tree (section 7.7)."""
        more = len(self._nodes) + 1
        self._nodes.extend([None] * more)
        self._hashes.extend([None] * more)

    def add_leaf(self, node: LeafNode) -> int:
        """Apply an Add (section 12.1.1) and give the new leaf's index.

        Raises:
            LimitExceeded: The group would have more than `MAX_LEAVES` members.
        """
        if self.census.leaves >= MAX_LEAVES:
            raise LimitExceeded("the group has as many members as accepted")
        leaf = self.first_blank()
        if leaf >= self.width:
            self.extend()
        for index in self.direct_path(leaf):
            content = self._nodes[index]
            if isinstance(content, ParentNode):
                self._set(index, content.with_unmerged(leaf))
        self._set(2 * leaf, node)
        return leaf

    def merge_path(self, leaf: int, keys: Sequence[bytes]) -> bytes:
        """Set new keys on the filtered direct path of a leaf (section 7.5).

        Args:
            keys: One public key per node of the filtered direct path, upwards.

        Returns:
            The parent hash that the leaf itself must carry.
        """
        path = self.filtered_direct_path(leaf)
        self.blank_path(leaf)
        above = b""
        for (index, other), key in zip(reversed(path), reversed(keys), strict=True):
            content = ParentNode.make(key, above)
            self._set(index, content)
            above = self.parent_hash(content, self.tree_hash(other))
        return above
