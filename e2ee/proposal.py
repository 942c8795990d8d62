"""Proposals (RFC 9420 section 12.1): what may be changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from e2ee.codec import Reader, u8, u16, u32, vector
from e2ee.codepoint import (
    ADD,
    BY_REFERENCE,
    BY_VALUE,
    EXTERNAL_INIT,
    GROUP_CONTEXT_EXTENSIONS,
    PROPOSAL_NAMES,
    PSK,
    REINIT,
    REMOVE,
    SELF_REMOVE,
    UPDATE,
)
from e2ee.errors import Malformed
from e2ee.extension import Extensions, encode_extensions, read_extensions
from e2ee.key_package import KeyPackage
from e2ee.leaf import LeafNode
from e2ee.psk import PreSharedKeyId


@dataclass(frozen=True, slots=True)
class Add:
    """Add (section 12.1.1)."""

    type: ClassVar[int] = ADD
    key_package: KeyPackage

    def encode(self) -> bytes:
        """Encode the body."""
        return self.key_package.encoded

    @classmethod
    def read(cls, reader: Reader) -> Add:
        """Decode the body."""
        return cls(KeyPackage.read(reader))


@dataclass(frozen=True, slots=True)
class Update:
    """Update (section 12.1.2)."""

    type: ClassVar[int] = UPDATE
    leaf_node: LeafNode

    def encode(self) -> bytes:
        """Encode the body."""
        return self.leaf_node.encoded

    @classmethod
    def read(cls, reader: Reader) -> Update:
        """Decode the body."""
        return cls(LeafNode.read(reader))


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove (section 12.1.3)."""

    type: ClassVar[int] = REMOVE
    removed: int

    def encode(self) -> bytes:
        """Encode the body."""
        return u32(self.removed)

    @classmethod
    def read(cls, reader: Reader) -> Remove:
        """Decode the body."""
        return cls(reader.u32())


@dataclass(frozen=True, slots=True)
class PreSharedKey:
    """PreSharedKey (section 12.1.4)."""

    type: ClassVar[int] = PSK
    psk: PreSharedKeyId

    def encode(self) -> bytes:
        """Encode the body."""
        return self.psk.encode()

    @classmethod
    def read(cls, reader: Reader) -> PreSharedKey:
        """Decode the body."""
        return cls(PreSharedKeyId.read(reader))


@dataclass(frozen=True, slots=True)
class ReInit:
    """ReInit (section 12.1.5)."""

    type: ClassVar[int] = REINIT
    group_id: bytes
    version: int
    cipher_suite: int
    extensions: Extensions

    def encode(self) -> bytes:
        """Encode the body."""
        return (
            vector(self.group_id)
            + u16(self.version)
            + u16(self.cipher_suite)
            + encode_extensions(self.extensions)
        )

    @classmethod
    def read(cls, reader: Reader) -> ReInit:
        """Decode the body."""
        return cls(reader.vector(), reader.u16(), reader.u16(), read_extensions(reader))


@dataclass(frozen=True, slots=True)
class ExternalInit:
    """ExternalInit (section 12.1.6)."""

    type: ClassVar[int] = EXTERNAL_INIT
    kem_output: bytes

    def encode(self) -> bytes:
        """Encode the body."""
        return vector(self.kem_output)

    @classmethod
    def read(cls, reader: Reader) -> ExternalInit:
        """Decode the body."""
        return cls(reader.vector())


@dataclass(frozen=True, slots=True)
class GroupContextExtensions:
    """GroupContextExtensions (section 12.1.7)."""

    type: ClassVar[int] = GROUP_CONTEXT_EXTENSIONS
    extensions: Extensions

    def encode(self) -> bytes:
        """Encode the body."""
        return encode_extensions(self.extensions)

    @classmethod
    def read(cls, reader: Reader) -> GroupContextExtensions:
        """Decode the body."""
        return cls(read_extensions(reader))


@dataclass(frozen=True, slots=True)
class SelfRemove:
    """SelfRemove (draft-ietf-mls-extensions): the sender wants to be removed."""

    type: ClassVar[int] = SELF_REMOVE

    def encode(self) -> bytes:
        """Encode the body, which is empty."""
        return b""

    @classmethod
    def read(cls, reader: Reader) -> SelfRemove:
        """Decode the body."""
        return cls()


Proposal = (
    Add
    | Update
    | Remove
    | PreSharedKey
    | ReInit
    | ExternalInit
    | GroupContextExtensions
    | SelfRemove
)

_READERS: dict[int, Callable[[Reader], Proposal]] = {
    ADD: Add.read,
    UPDATE: Update.read,
    REMOVE: Remove.read,
    PSK: PreSharedKey.read,
    REINIT: ReInit.read,
    EXTERNAL_INIT: ExternalInit.read,
    GROUP_CONTEXT_EXTENSIONS: GroupContextExtensions.read,
    SELF_REMOVE: SelfRemove.read,
}


def kind_of(proposal: Proposal) -> str:
    """Name the type of a proposal."""
    return PROPOSAL_NAMES[proposal.type]


def encode_proposal(proposal: Proposal) -> bytes:
    """Encode a proposal with its type."""
    return u16(proposal.type) + proposal.encode()


def read_proposal(reader: Reader) -> Proposal:
    """Decode a proposal; types that we do not know cannot be decoded at all."""
    read = _READERS.get(reader.u16())
    if read is None:
        raise Malformed("the proposal type is unknown")
    return read(reader)


@dataclass(frozen=True, slots=True)
class ProposalRef:
    """Names a proposal that was sent before, by hash (section 5.2)."""

    ref: bytes


ProposalOrRef = Proposal | ProposalRef


def encode_proposal_or_ref(item: ProposalOrRef) -> bytes:
    """Encode ProposalOrRef (section 12.4)."""
    if isinstance(item, ProposalRef):
        return u8(BY_REFERENCE) + vector(item.ref)
    return u8(BY_VALUE) + encode_proposal(item)


def read_proposal_or_ref(reader: Reader) -> ProposalOrRef:
    """Decode ProposalOrRef."""
    kind = reader.u8()
    if kind == BY_VALUE:
        return read_proposal(reader)
    if kind == BY_REFERENCE:
        return ProposalRef(reader.vector())
    raise Malformed("the proposal is neither by value nor by reference")
