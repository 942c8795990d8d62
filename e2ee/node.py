"""Parent nodes, and nodes as a tree lists them (RFC 9420 sections 7.1, 12.4.3.3)."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import pairwise

from e2ee.codec import Reader, u8, u32_vector, vector
from e2ee.codepoint import LEAF, PARENT
from e2ee.errors import Malformed
from e2ee.leaf import LeafNode


@dataclass(frozen=True, slots=True)
class ParentNode:
    """ParentNode (section 7.1)."""

    encryption_key: bytes
    parent_hash: bytes
    unmerged_leaves: tuple[int, ...]
    """Leaf indices, strictly increasing."""
    encoded: bytes = field(repr=False, compare=False)

    @classmethod
    def make(
        cls, encryption_key: bytes, parent_hash: bytes, unmerged: tuple[int, ...] = ()
    ) -> ParentNode:
        """Make a node and its encoding."""
        encoded = vector(encryption_key) + vector(parent_hash) + u32_vector(unmerged)
        return cls(encryption_key, parent_hash, unmerged, encoded)

    @classmethod
    def read(cls, reader: Reader) -> ParentNode:
        """Decode; unmerged leaves must be sorted and without repeats."""
        start = reader.position
        encryption_key = reader.vector()
        parent_hash = reader.vector()
        unmerged = reader.u32_vector()
        if any(a >= b for a, b in pairwise(unmerged)):
            raise Malformed("unmerged leaves are not in increasing order")
        return cls(encryption_key, parent_hash, unmerged, reader.since(start))

    def with_unmerged(self, leaf: int) -> ParentNode:
        """Give this node with one more unmerged leaf."""
        unmerged = self.unmerged_leaves
        at = bisect_left(unmerged, leaf)
        return ParentNode.make(
            self.encryption_key,
            self.parent_hash,
            (*unmerged[:at], leaf, *unmerged[at:]),
        )

    def without_unmerged(self, leaves: frozenset[int]) -> ParentNode:
        """Give this node without some of its unmerged leaves."""
        kept = tuple(leaf for leaf in self.unmerged_leaves if leaf not in leaves)
        return ParentNode.make(self.encryption_key, self.parent_hash, kept)


Node = LeafNode | ParentNode


def read_optional_node(reader: Reader) -> Node | None:
    """Decode optional<Node>."""
    if not reader.present():
        return None
    kind = reader.u8()
    if kind == LEAF:
        return LeafNode.read(reader)
    if kind == PARENT:
        return ParentNode.read(reader)
    raise Malformed("the node type is unknown")


def encode_optional_node(node: Node | None) -> bytes:
    """Encode optional<Node>."""
    if node is None:
        return b"\0"
    kind = LEAF if isinstance(node, LeafNode) else PARENT
    return b"\1" + u8(kind) + node.encoded
