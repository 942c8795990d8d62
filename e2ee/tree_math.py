"""Index arithmetic of array-based trees (RFC 9420 appendix C).

Leaf `i` stands at node `2 * i`; parents stand at odd nodes. A tree with `n` leaves
here always has a power of two of them. Node and leaf index 0 are ordinary indices:
nothing may test one for truth.
"""

from __future__ import annotations


def level(node: int) -> int:
    """Height of a node over the leaves: the number of its trailing one bits."""
    return (~node & (node + 1)).bit_length() - 1


def node_width(leaves: int) -> int:
    """How many nodes a tree with so many leaves has."""
    return 0 if leaves == 0 else 2 * leaves - 1


def root(leaves: int) -> int:
    """The root of a tree with so many leaves (rounded up to a power of two)."""
    return (1 << (leaves - 1).bit_length()) - 1


def left(node: int) -> int:
    """Left child of a parent node."""
    return node ^ (1 << (level(node) - 1))


def right(node: int) -> int:
    """Right child of a parent node."""
    return node ^ (3 << (level(node) - 1))


def parent(node: int) -> int:
    """Parent of a node that is not the root; the tree's size does not matter."""
    k = level(node)
    bit = (node >> (k + 1)) & 1
    return (node | (1 << k)) ^ (bit << (k + 1))


def sibling(node: int) -> int:
    """The other child of the parent of a node that is not the root."""
    up = parent(node)
    return right(up) if node < up else left(up)


def direct_path(node: int, leaves: int) -> list[int]:
    """Nodes above `node`, from its parent to the root; empty for the root."""
    top = root(leaves)
    path: list[int] = []
    while node != top:
        node = parent(node)
        path.append(node)
    return path


def common_ancestor(a: int, b: int) -> int:
    """Lowest node whose subtree holds both leaf nodes `a` and `b`."""
    shift = (a ^ b).bit_length()
    if shift == 0:
        return a
    return (a >> shift << shift) | ((1 << (shift - 1)) - 1)


def subtree_leaves(node: int) -> tuple[int, int]:
    """Leaf indices [first, past the last) under `node`."""
    span = (1 << level(node)) - 1
    return (node - span) // 2, (node + span) // 2 + 1


def in_subtree(leaf: int, node: int) -> bool:
    """Whether leaf index `leaf` stands under `node`."""
    first, past = subtree_leaves(node)
    return first <= leaf < past
