"""A group as bytes: what changes with an epoch, and what with each message.

Two parts, because an epoch has the tree in it and a message only moves a ratchet.
Both hold secrets; the signature key is in neither. Save them in one transaction with
what they belong to.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from e2ee.codec import Reader, decode, optional, u8, u16, u64, vector, vectors
from e2ee.epoch import Epoch, PastEpoch
from e2ee.errors import Malformed, UnsupportedSuite
from e2ee.proposal import ReInit
from e2ee.proposal_store import StoredProposal, read_stored
from e2ee.secret_tree import SecretTree
from e2ee.suite import CipherSuite

FORMAT = 2
"""Version of both encodings."""

PastEpochs = tuple[tuple[PastEpoch, SecretTree], ...]


@dataclass(frozen=True, slots=True)
class SavedGroup:
    """Everything of a `Group` that is kept."""

    epoch: Epoch
    ratchets: SecretTree = field(repr=False)
    past: PastEpochs
    pending: dict[bytes, StoredProposal]
    removed: bool
    reinit: ReInit | None
    joined_with: bytes | None

    def encode_epoch(self) -> bytes:
        """Encode what changes with an epoch alone."""
        joined_with, reinit = self.joined_with, self.reinit
        return (
            u8(FORMAT)
            + u16(self.epoch.tree.suite.id)
            + u8(self.removed)
            + optional(None if reinit is None else reinit.encode())
            + optional(None if joined_with is None else vector(joined_with))
            + self.epoch.encode()
            + vectors(past.encode(self.epoch.tree) for past, _ in self.past)
        )

    def encode_ratchets(self) -> bytes:
        """Encode what changes with each message."""
        return (
            u8(FORMAT)
            + u64(self.epoch.context.epoch)
            + self.ratchets.encode()
            + vectors(ratchets.encode() for _, ratchets in self.past)
            + vectors(stored.encode() for stored in self.pending.values())
        )


def load_group(epoch: bytes, ratchets: bytes, suite: CipherSuite) -> SavedGroup:
    """Decode both parts.

    Raises:
        Malformed: They are broken, or not of the same epoch.
        UnsupportedSuite: The group has another suite.
    """
    reader = Reader(epoch)
    _check_format(reader)
    if reader.u16() != suite.id:
        raise UnsupportedSuite("the saved group has another cipher suite")
    removed = reader.present()
    reinit = ReInit.read(reader) if reader.present() else None
    joined_with = reader.vector() if reader.present() else None
    current = Epoch.read(suite, reader)
    past = reader.items(lambda r: PastEpoch.read(current.tree, r))
    reader.finish()

    def read(inner: Reader) -> SavedGroup:
        _check_format(inner)
        if inner.u64() != current.context.epoch:
            raise Malformed("epoch and ratchets were not saved together")
        tree = SecretTree.read(suite, inner)
        older = inner.items(lambda r: SecretTree.read(suite, r))
        if len(older) != len(past):
            raise Malformed("epoch and ratchets were not saved together")
        stored = inner.items(
            lambda r: read_stored(suite, current.tree, current.context, r)
        )
        return SavedGroup(
            current,
            tree,
            tuple(zip(past, older, strict=True)),
            {item.received.ref: item for item in stored},
            removed,
            reinit,
            joined_with,
        )

    return decode(ratchets, read)


def _check_format(reader: Reader) -> None:
    if reader.u8() != FORMAT:
        raise Malformed("the group was saved by another version")
