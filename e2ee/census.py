"""Counts over all leaves and nodes of a tree, kept up to date with each change.

Three rules of RFC 9420 section 7.3 speak of all members at once: keys are unique,
every credential type in use is supported by everybody, required capabilities are
had by everybody. Counting makes each of them a comparison of numbers, where a scan
of a thousand leaves per commit would cost milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable

from e2ee.codepoint import DEFAULT_EXTENSIONS, DEFAULT_PROPOSALS
from e2ee.errors import (
    CapabilityMissing,
    CredentialUnsupported,
    DuplicateEncryptionKey,
    DuplicateSignatureKey,
    ProposalUnsupported,
    UnsupportedExtension,
)
from e2ee.extension import RequiredCapabilities
from e2ee.leaf import LeafNode

_Counts = dict[object, int]


def _change(counts: _Counts, values: Iterable[object], by: int) -> None:
    for value in values:
        count = counts.get(value, 0) + by
        if count:
            counts[value] = count
        else:
            del counts[value]


class Census:
    """What the leaves and nodes of one tree have in common."""

    __slots__ = (
        "_credentials",
        "_encryption_keys",
        "_signature_keys",
        "_supported",
        "leaves",
        "nodes",
    )

    def __init__(self) -> None:
        self.leaves = 0
        self.nodes = 0
        self._encryption_keys: _Counts = {}
        self._signature_keys: _Counts = {}
        self._credentials: _Counts = {}
        self._supported: tuple[_Counts, _Counts, _Counts] = ({}, {}, {})

    def copy(self) -> Census:
        """Give an independent copy."""
        other = Census()
        other.leaves = self.leaves
        other.nodes = self.nodes
        other._encryption_keys = self._encryption_keys.copy()
        other._signature_keys = self._signature_keys.copy()
        other._credentials = self._credentials.copy()
        extensions, proposals, credentials = self._supported
        other._supported = extensions.copy(), proposals.copy(), credentials.copy()
        return other

    def count(self, encryption_key: bytes, leaf: LeafNode | None, by: int) -> None:
        """Take a node in (`by` 1) or out (`by` -1)."""
        self.nodes += by
        _change(self._encryption_keys, (encryption_key,), by)
        if leaf is None:
            return
        self.leaves += by
        _change(self._signature_keys, (leaf.signature_key,), by)
        _change(self._credentials, (leaf.credential.type,), by)
        capabilities = leaf.capabilities
        extensions, proposals, credentials = self._supported
        _change(extensions, set(capabilities.extensions), by)
        _change(proposals, set(capabilities.proposals), by)
        _change(credentials, set(capabilities.credentials), by)

    def has_encryption_key(self, key: bytes) -> bool:
        """Whether any node has this key."""
        return key in self._encryption_keys

    def check_unique(self) -> None:
        """Raise `DuplicateKey` if any two nodes or leaves share a key."""
        if len(self._encryption_keys) != self.nodes:
            raise DuplicateEncryptionKey("an encryption key stands twice in the tree")
        if len(self._signature_keys) != self.leaves:
            raise DuplicateSignatureKey("a signature key stands twice in the tree")

    def check_credentials(self) -> None:
        """Raise `InvalidLeaf` unless all support all credential types in use."""
        supported = self._supported[2]
        for type_ in self._credentials:
            if supported.get(type_, 0) != self.leaves:
                raise CredentialUnsupported(
                    "a member does not support a credential type in use"
                )

    def check_extensions(self, types: Iterable[int]) -> None:
        """Raise `UnsupportedExtension` unless all support a group's extensions."""
        supported = self._supported[0]
        for type_ in types:
            if type_ not in DEFAULT_EXTENSIONS and (
                supported.get(type_, 0) != self.leaves
            ):
                raise UnsupportedExtension("a member lacks an extension of the group")

    def check_proposals(self, types: Iterable[int]) -> None:
        """Raise `ProposalUnsupported` unless all support these proposal types."""
        supported = self._supported[1]
        for type_ in types:
            if type_ not in DEFAULT_PROPOSALS and (
                supported.get(type_, 0) != self.leaves
            ):
                raise ProposalUnsupported("a member does not support a proposal type")

    def check_required(self, required: RequiredCapabilities) -> None:
        """Raise `UnsupportedExtension` unless all have what is required."""
        extensions, proposals, credentials = self._supported
        for needed, default, supported in (
            (required.extensions, DEFAULT_EXTENSIONS, extensions),
            (required.proposals, DEFAULT_PROPOSALS, proposals),
            (required.credentials, frozenset[int](), credentials),
        ):
            for type_ in needed:
                if type_ not in default and supported.get(type_, 0) != self.leaves:
                    raise CapabilityMissing(
                        "a member lacks a capability that the group requires"
                    )
