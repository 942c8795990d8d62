"""Leaf nodes (RFC 9420 sections 7.2 and 7.3).

A `LeafNode` keeps the bytes it was decoded from, so hashing and sending it again
never re-encodes it. Checks that need the rest of the tree (unique keys, credential
types that all members support) are the ratchet tree's.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from e2ee.codec import Reader, u8, u16_vector, u32, u64, vector
from e2ee.codepoint import (
    BASIC,
    DEFAULT_EXTENSIONS,
    DEFAULT_PROPOSALS,
    MLS10,
    SELF_REMOVE,
    SOURCE_COMMIT,
    SOURCE_KEY_PACKAGE,
    SOURCE_UPDATE,
)
from e2ee.crypto import Rng
from e2ee.errors import (
    DecryptionFailed,
    InvalidLeafKey,
    LeafLacksCredential,
    LeafLacksExtension,
    LeafLacksProtocol,
    LeafLacksRequired,
    LifetimeExpired,
    LifetimeTooLong,
    Malformed,
)
from e2ee.extension import (
    OUR_EXTENSIONS,
    Credential,
    Extensions,
    RequiredCapabilities,
    encode_extensions,
    read_extensions,
)
from e2ee.grease import grease_extension, grease_values
from e2ee.suite import CipherSuite

MAX_CAPABILITIES = 256
"""Entries in one list of capabilities; the registries are far smaller."""
MAX_LIFETIME = 400 * 86_400
"""Longest lifetime of a leaf in seconds: a device certificate's year and a month."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Capabilities (section 7.2)."""

    versions: tuple[int, ...]
    cipher_suites: tuple[int, ...]
    extensions: tuple[int, ...]
    proposals: tuple[int, ...]
    credentials: tuple[int, ...]

    def encode(self) -> bytes:
        """Encode."""
        return b"".join(
            map(
                u16_vector,
                (
                    self.versions,
                    self.cipher_suites,
                    self.extensions,
                    self.proposals,
                    self.credentials,
                ),
            )
        )

    @classmethod
    def read(cls, reader: Reader) -> Capabilities:
        """Decode."""
        lists = [reader.u16_vector() for _ in range(5)]
        if any(len(values) > MAX_CAPABILITIES for values in lists):
            raise Malformed("a list of capabilities is too long")
        return cls(*lists)

    def check_required(self, required: RequiredCapabilities) -> None:
        """Raise `InvalidLeaf` unless all that a group requires is listed."""
        if (
            not set(required.extensions) <= DEFAULT_EXTENSIONS | set(self.extensions)
            or not set(required.proposals) <= DEFAULT_PROPOSALS | set(self.proposals)
            or not set(required.credentials) <= set(self.credentials)
        ):
            raise LeafLacksRequired("a leaf lacks a capability that the group requires")


OUR_PROPOSALS = (SELF_REMOVE,)
"""Non-default proposal types that this implementation copes with."""


def own_capabilities(suite: CipherSuite) -> Capabilities:
    """Give what this implementation supports, and nothing else."""
    return Capabilities(
        versions=(MLS10,),
        cipher_suites=(suite.id,),
        extensions=OUR_EXTENSIONS,
        proposals=OUR_PROPOSALS,
        credentials=(BASIC,),
    )


def greased_leaf_fields(
    suite: CipherSuite, rng: Rng
) -> tuple[Capabilities, Extensions]:
    """Give the capabilities and extensions of a leaf of ours, with GREASE in them.

    Two values in each list of capabilities and one extension, which is listed as it
    must be (section 13.5).
    """
    plain = own_capabilities(suite)
    extensions = grease_values(rng)
    capabilities = Capabilities(
        versions=plain.versions,
        cipher_suites=plain.cipher_suites + grease_values(rng),
        extensions=plain.extensions + extensions,
        proposals=plain.proposals + grease_values(rng),
        credentials=plain.credentials + grease_values(rng),
    )
    return capabilities, (grease_extension(rng, extensions),)


@dataclass(frozen=True, slots=True)
class Lifetime:
    """Lifetime (section 7.2), in seconds since 1970."""

    not_before: int
    not_after: int

    def encode(self) -> bytes:
        """Encode."""
        return u64(self.not_before) + u64(self.not_after)

    @classmethod
    def read(cls, reader: Reader) -> Lifetime:
        """Decode."""
        return cls(reader.u64(), reader.u64())

    def check(self, now: int) -> None:
        """Raise `LifetimeExpired` unless it holds now and is not too long."""
        if not self.not_before <= now <= self.not_after:
            raise LifetimeExpired("a leaf's lifetime does not hold now")
        if self.not_after - self.not_before > MAX_LIFETIME:
            raise LifetimeTooLong("a leaf's lifetime is longer than accepted")


@dataclass(frozen=True, slots=True)
class LeafNode:
    """LeafNode (section 7.2)."""

    encryption_key: bytes
    signature_key: bytes
    credential: Credential
    capabilities: Capabilities
    source: int
    lifetime: Lifetime | None
    """Set if and only if the source is a KeyPackage."""
    parent_hash: bytes
    """Empty unless the source is a commit."""
    extensions: Extensions
    signature: bytes
    encoded: bytes = field(repr=False, compare=False)
    tbs: bytes = field(repr=False, compare=False)
    """The signed fields without the group id and leaf index."""

    @classmethod
    def read(cls, reader: Reader) -> LeafNode:
        """Decode, keeping the bytes."""
        start = reader.position
        encryption_key = reader.vector()
        signature_key = reader.vector()
        credential = Credential.read(reader)
        capabilities = Capabilities.read(reader)
        source = reader.u8()
        lifetime = None
        parent_hash = b""
        if source == SOURCE_KEY_PACKAGE:
            lifetime = Lifetime.read(reader)
        elif source == SOURCE_COMMIT:
            parent_hash = reader.vector()
        elif source != SOURCE_UPDATE:
            raise Malformed("the leaf node source is unknown")
        extensions = read_extensions(reader)
        tbs = reader.since(start)
        signature = reader.vector()
        return cls(
            encryption_key,
            signature_key,
            credential,
            capabilities,
            source,
            lifetime,
            parent_hash,
            extensions,
            signature,
            reader.since(start),
            tbs,
        )

    def verify(self, suite: CipherSuite, group_id: bytes, leaf: int) -> None:
        """Raise `BadSignature` unless the leaf's own key signed it.

        The group and index are part of what is signed unless the leaf comes from a
        KeyPackage, which is made before they are known.
        """
        content = self.tbs
        if self.source != SOURCE_KEY_PACKAGE:
            content += vector(group_id) + u32(leaf)
        suite.verify_with_label(
            self.signature_key, "LeafNodeTBS", content, self.signature
        )

    def check(self, suite: CipherSuite, required: RequiredCapabilities) -> None:
        """Check what can be seen from the leaf alone (section 7.3).

        Raises:
            InvalidLeaf: It does not support the group's parameters or its own.
        """
        capabilities = self.capabilities
        if MLS10 not in capabilities.versions:
            raise LeafLacksProtocol("a leaf does not support MLS 1.0")
        if suite.id not in capabilities.cipher_suites:
            raise LeafLacksProtocol("a leaf does not support the cipher suite")
        if self.credential.type not in capabilities.credentials:
            raise LeafLacksCredential("a leaf does not list its own credential type")
        for extension in self.extensions:
            if (
                extension.type not in DEFAULT_EXTENSIONS
                and extension.type not in capabilities.extensions
            ):
                raise LeafLacksExtension("a leaf does not list its own extension")
        capabilities.check_required(required)
        try:
            suite.kem.check_public(self.encryption_key)
        except DecryptionFailed:
            raise InvalidLeafKey("a leaf's encryption key is not a key") from None


def sign_leaf(
    suite: CipherSuite,
    signature_private: bytes,
    *,
    encryption_key: bytes,
    credential: Credential,
    capabilities: Capabilities,
    extensions: Extensions = (),
    lifetime: Lifetime | None = None,
    parent_hash: bytes | None = None,
    group_id: bytes = b"",
    leaf: int = 0,
) -> LeafNode:
    """Make a signed LeafNode.

    With a `lifetime` it is for a KeyPackage, with a `parent_hash` for a commit,
    with neither for an Update; the last two bind `group_id` and `leaf`.
    """
    signature_key = suite.signature.public(signature_private)
    tbs = (
        vector(encryption_key)
        + vector(signature_key)
        + credential.encode()
        + capabilities.encode()
    )
    context = vector(group_id) + u32(leaf)
    if lifetime is not None:
        source, context = SOURCE_KEY_PACKAGE, b""
        tbs += u8(source) + lifetime.encode()
    elif parent_hash is not None:
        source = SOURCE_COMMIT
        tbs += u8(source) + vector(parent_hash)
    else:
        source = SOURCE_UPDATE
        tbs += u8(source)
    tbs += encode_extensions(extensions)
    signature = suite.sign_with_label(signature_private, "LeafNodeTBS", tbs + context)
    return LeafNode(
        encryption_key,
        signature_key,
        credential,
        capabilities,
        source,
        lifetime,
        parent_hash or b"",
        tuple(extensions),
        signature,
        tbs + vector(signature),
        tbs,
    )
