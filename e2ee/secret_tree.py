"""The secret tree and its ratchets (RFC 9420 section 9).

Looking a key up and consuming it are two steps: `find` changes nothing, `consume`
deletes what was used. So a message that fails to verify leaves no trace.
Of the tree only what is not consumed is kept: at first the root, later the siblings
along the opened paths.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice

from e2ee.codec import Reader, u8, u32, vector, vectors
from e2ee.errors import (
    GenerationTooFar,
    GenerationUsed,
    Malformed,
    UnknownSender,
)
from e2ee.suite import CipherSuite
from e2ee.tree_math import left, parent, right, root

MAX_FORWARD = 1_000
"""How far a message may lie ahead of its sender's ratchet: a thousand lost messages
in one epoch; more would let a member make us derive for long."""
MAX_SKIPPED = 1_000
"""Unused keys kept per sender and epoch, for messages that come late."""

HANDSHAKE_RATCHET = 0
APPLICATION_RATCHET = 1
_LABELS = ("handshake", "application")
_MAX_GENERATION = 0xFFFFFFFF


@dataclass(slots=True)
class _Ratchet:
    """One sender's ratchet: the next generation, its secret, and keys passed over."""

    secret: bytes = field(repr=False)
    generation: int = 0
    skipped: dict[int, tuple[bytes, bytes]] = field(repr=False, default_factory=dict)


@dataclass(slots=True)
class _Opening:
    """Secrets that deriving a leaf would consume and leave."""

    consumed: int
    left: dict[int, bytes] = field(repr=False)
    ratchets: tuple[_Ratchet, _Ratchet] = field(repr=False)


@dataclass(slots=True)
class Found:
    """A key that `SecretTree.consume` will delete."""

    leaf: int
    kind: int
    generation: int
    key: bytes = field(repr=False)
    nonce: bytes = field(repr=False)
    _opening: _Opening | None = field(repr=False)
    _next: bytes | None = field(repr=False)
    """The ratchet's secret after this generation; None if the key was kept back."""
    _skipped: list[tuple[int, tuple[bytes, bytes]]] = field(repr=False)


class SecretTree:
    """The unconsumed secrets of one epoch."""

    __slots__ = ("_nodes", "_order", "_ratchets", "suite", "width")

    def __init__(self, suite: CipherSuite, encryption_secret: bytes, width: int):
        """Start an epoch; `width` is how many leaves the ratchet tree has."""
        self.suite = suite
        self.width = width
        self._nodes: dict[int, bytes] = {root(width): encryption_secret}
        self._ratchets: dict[tuple[int, int], _Ratchet] = {}
        self._order: dict[tuple[int, int, int], None] = {}
        """(leaf, kind, generation) of each key passed over, the oldest first."""

    @property
    def skipped(self) -> int:
        """How many unused keys are kept."""
        return len(self._order)

    def drop_skipped(self, count: int) -> int:
        """Delete up to `count` of the unused keys, the oldest first.

        Returns:
            How many were deleted.
        """
        oldest = list(islice(self._order, count))
        for place in oldest:
            self._forget(*place)
        return len(oldest)

    def next(self, leaf: int, kind: int) -> Found:
        """Give the next key of our own ratchet; consume it at once."""
        ratchet = self._ratchets.get((leaf, kind))
        return self.find(leaf, kind, 0 if ratchet is None else ratchet.generation)

    def find(self, leaf: int, kind: int, generation: int) -> Found:
        """Give the key of a generation without changing anything.

        Raises:
            UnknownSender: The leaf is outside of the tree.
            GenerationUsed: The key was used, or dropped as too old.
            GenerationTooFar: It lies more than `MAX_FORWARD` ahead.
        """
        ratchet = self._ratchets.get((leaf, kind))
        opening = None
        if ratchet is None:
            opening = self._open(leaf)
            ratchet = opening.ratchets[kind]
        ahead = generation - ratchet.generation
        if ahead < 0:
            kept = ratchet.skipped.get(generation)
            if kept is None:
                raise GenerationUsed("this message's key was used already")
            return Found(leaf, kind, generation, *kept, opening, None, [])
        if ahead > MAX_FORWARD or generation >= _MAX_GENERATION:
            raise GenerationTooFar("this message is too far ahead of those before it")
        secret = ratchet.secret
        skipped: list[tuple[int, tuple[bytes, bytes]]] = []
        for passed in range(ratchet.generation, generation):
            skipped.append((passed, self._key_nonce(secret, passed)))
            secret = self._advance(secret, passed)
        key, nonce = self._key_nonce(secret, generation)
        after = self._advance(secret, generation)
        return Found(leaf, kind, generation, key, nonce, opening, after, skipped)

    def consume(self, found: Found) -> None:
        """Delete a key and all that it was derived from."""
        opening = found._opening
        if opening is not None and opening.consumed in self._nodes:
            del self._nodes[opening.consumed]
            self._nodes.update(opening.left)
            for kind, ratchet in enumerate(opening.ratchets):
                self._ratchets[found.leaf, kind] = ratchet
        leaf, kind = found.leaf, found.kind
        ratchet = self._ratchets[leaf, kind]
        if found._next is None:
            self._forget(leaf, kind, found.generation)
            return
        ratchet.secret = found._next
        ratchet.generation = found.generation + 1
        ratchet.skipped.update(found._skipped)
        self._order.update(((leaf, kind, passed), None) for passed, _ in found._skipped)
        while len(ratchet.skipped) > MAX_SKIPPED:
            self._forget(leaf, kind, next(iter(ratchet.skipped)))

    def _forget(self, leaf: int, kind: int, generation: int) -> None:
        del self._ratchets[leaf, kind].skipped[generation]
        del self._order[leaf, kind, generation]

    def _key_nonce(self, secret: bytes, generation: int) -> tuple[bytes, bytes]:
        suite, aead = self.suite, self.suite.aead
        derive = suite.derive_tree_secret
        return (
            derive(secret, "key", generation, aead.key_size),
            derive(secret, "nonce", generation, aead.nonce_size),
        )

    def _advance(self, secret: bytes, generation: int) -> bytes:
        size = self.suite.hash.size
        return self.suite.derive_tree_secret(secret, "secret", generation, size)

    def _open(self, leaf: int) -> _Opening:
        if leaf >= self.width:
            raise UnknownSender("the sender is outside of the tree")
        suite, size = self.suite, self.suite.hash.size
        top = root(self.width)
        path = [2 * leaf]
        while path[-1] not in self._nodes:
            if path[-1] == top:
                raise GenerationUsed("the sender's secrets are gone")
            path.append(parent(path[-1]))
        consumed = path.pop()
        secret = self._nodes[consumed]
        above = consumed
        kept: dict[int, bytes] = {}
        while path:
            below = path.pop()
            a, b = left(above), right(above)
            kept[a] = suite.expand_with_label(secret, "tree", b"left", size)
            kept[b] = suite.expand_with_label(secret, "tree", b"right", size)
            secret = kept.pop(below)
            above = below
        handshake, application = (
            _Ratchet(suite.expand_with_label(secret, label, b"", size))
            for label in _LABELS
        )
        return _Opening(consumed, kept, (handshake, application))

    def encode(self) -> bytes:
        """Encode for keeping; the bytes hold secrets."""
        nodes = vectors(u32(i) + vector(s) for i, s in sorted(self._nodes.items()))
        ratchets = vectors(
            u32(leaf) + u8(kind) + u32(ratchet.generation) + vector(ratchet.secret)
            for (leaf, kind), ratchet in sorted(self._ratchets.items())
        )
        skipped = vectors(map(self._encode_skipped, self._order))
        return u32(self.width) + nodes + ratchets + skipped

    def _encode_skipped(self, place: tuple[int, int, int]) -> bytes:
        leaf, kind, generation = place
        key, nonce = self._ratchets[leaf, kind].skipped[generation]
        return u32(leaf) + u8(kind) + u32(generation) + vector(key) + vector(nonce)

    @classmethod
    def read(cls, suite: CipherSuite, reader: Reader) -> SecretTree:
        """Decode what `encode` gave."""
        tree = cls(suite, b"", reader.u32())
        tree._nodes = dict(reader.items(lambda r: (r.u32(), r.vector())))
        for place, ratchet in reader.items(_read_ratchet):
            tree._ratchets[place] = ratchet
        for (leaf, kind, generation), key_nonce in reader.items(_read_skipped):
            kept = tree._ratchets.get((leaf, kind))
            if kept is None:
                raise Malformed("a saved key belongs to no ratchet")
            kept.skipped[generation] = key_nonce
            tree._order[leaf, kind, generation] = None
        return tree


def _read_ratchet(reader: Reader) -> tuple[tuple[int, int], _Ratchet]:
    place = reader.u32(), reader.u8()
    generation = reader.u32()
    return place, _Ratchet(reader.vector(), generation)


def _read_skipped(reader: Reader) -> tuple[tuple[int, int, int], tuple[bytes, bytes]]:
    place = reader.u32(), reader.u8(), reader.u32()
    return place, (reader.vector(), reader.vector())
