"""KeyPackages (RFC 9420 section 10): how to be added while away."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from e2ee.codec import Reader, decode, u8, u16, u64, vector
from e2ee.codepoint import (
    APP_DATA_DICTIONARY,
    BASIC,
    LAST_RESORT,
    LAST_RESORT_COMPONENT,
    MLS10,
    SOURCE_KEY_PACKAGE,
)
from e2ee.crypto import Rng, random_bytes
from e2ee.errors import (
    DecryptionFailed,
    InitKeyReused,
    InvalidInitKey,
    InvalidKeyPackage,
    KeyPackageLeafSource,
    LimitExceeded,
    Malformed,
    UnsupportedSuite,
    UnsupportedVersion,
)
from e2ee.extension import (
    Credential,
    Extension,
    Extensions,
    RequiredCapabilities,
    encode_extensions,
    find_extension,
    read_extensions,
)
from e2ee.grease import grease_extension
from e2ee.leaf import LeafNode, Lifetime, greased_leaf_fields, sign_leaf
from e2ee.suite import SUITE_3, CipherSuite

MAX_KEY_PACKAGE = 16 * 1024
"""Bytes of a KeyPackage: a 1 KiB credential and room for a post-quantum key."""
REMEMBERED = 1_000
"""KeyPackages whose signatures held, and are not verified again: a commit that adds
so many, each of which was checked when it was claimed. A forged one is never kept."""


MAX_COMPONENTS = 64
"""Components in a KeyPackage's dictionary; the draft defines one for KeyPackages."""


@dataclass(frozen=True, slots=True)
class KeyPackage:
    """KeyPackage (section 10)."""

    cipher_suite: int
    init_key: bytes
    leaf_node: LeafNode
    extensions: Extensions
    signature: bytes
    encoded: bytes = field(repr=False, compare=False)
    tbs: bytes = field(repr=False, compare=False)

    @classmethod
    def read(cls, reader: Reader) -> KeyPackage:
        """Decode, keeping the bytes."""
        start = reader.position
        if reader.u16() != MLS10:
            raise UnsupportedVersion("only MLS 1.0 is spoken here")
        cipher_suite = reader.u16()
        init_key = reader.vector()
        leaf_node = LeafNode.read(reader)
        extensions = read_extensions(reader)
        tbs = reader.since(start)
        signature = reader.vector()
        encoded = reader.since(start)
        if len(encoded) > MAX_KEY_PACKAGE:
            raise LimitExceeded("a KeyPackage is larger than accepted")
        return cls(
            cipher_suite, init_key, leaf_node, extensions, signature, encoded, tbs
        )

    def ref(self, suite: CipherSuite) -> bytes:
        """Give the KeyPackageRef (section 5.2)."""
        return suite.ref_hash("MLS 1.0 KeyPackage Reference", self.encoded)

    @property
    def last_resort(self) -> bool:
        """Whether it is marked for use more than once.

        By the extension of older drafts, or by the component of the present one.
        """
        extensions = self.extensions + self.leaf_node.extensions
        if any(extension.type == LAST_RESORT for extension in extensions):
            return True
        dictionary = find_extension(self.extensions, APP_DATA_DICTIONARY)
        if dictionary is None:
            return False
        try:
            components = decode(dictionary, read_components)
        except Malformed:
            return False
        return LAST_RESORT_COMPONENT in components

    def verify(self, suite: CipherSuite, required: RequiredCapabilities) -> None:
        """Check all that section 10.1 asks, but for the rest of the group.

        Raises:
            InvalidKeyPackage, InvalidLeaf, BadSignature, UnsupportedSuite.
        """
        if self.cipher_suite != suite.id:
            raise UnsupportedSuite("the KeyPackage is for another cipher suite")
        leaf = self.leaf_node
        if leaf.source != SOURCE_KEY_PACKAGE:
            raise KeyPackageLeafSource("the leaf was not made for a KeyPackage")
        if leaf.encryption_key == self.init_key:
            raise InitKeyReused("init key and encryption key are the same")
        try:
            suite.kem.check_public(self.init_key)
        except DecryptionFailed:
            raise InvalidInitKey("the init key is not a key") from None
        leaf.check(suite, required)
        _verify_signatures(
            suite,
            leaf.signature_key,
            leaf.tbs,
            leaf.signature,
            self.tbs,
            self.signature,
        )


@lru_cache(maxsize=REMEMBERED)
def _verify_signatures(
    suite: CipherSuite,
    signature_key: bytes,
    leaf_tbs: bytes,
    leaf_signature: bytes,
    tbs: bytes,
    signature: bytes,
) -> None:
    """Verify both signatures of a KeyPackage; raises `BadSignature`."""
    suite.verify_with_label(signature_key, "LeafNodeTBS", leaf_tbs, leaf_signature)
    suite.verify_with_label(signature_key, "KeyPackageTBS", tbs, signature)


def read_components(reader: Reader) -> set[int]:
    """Give the component ids in an AppDataDictionary (draft-ietf-mls-extensions)."""
    found = reader.items(lambda r: (r.u16(), r.vector()), MAX_COMPONENTS)
    return {component for component, _ in found}


@dataclass(frozen=True, slots=True)
class KeyPackageBundle:
    """A KeyPackage with its private keys, to be kept until its Welcome came.

    `encode` gives bytes that hold the private keys.
    """

    key_package: bytes
    """The encoded KeyPackage, not wrapped in an MLSMessage."""
    ref: bytes
    not_after: int
    last_resort: bool
    init_private: bytes = field(repr=False)
    encryption_private: bytes = field(repr=False)

    def encode(self) -> bytes:
        """Encode with the private keys."""
        return (
            vector(self.key_package)
            + vector(self.ref)
            + u64(self.not_after)
            + u8(self.last_resort)
            + vector(self.init_private)
            + vector(self.encryption_private)
        )

    @classmethod
    def decode(cls, data: bytes) -> KeyPackageBundle:
        """Decode what `encode` gave; raises `Malformed`."""
        return decode(
            data,
            lambda r: cls(
                r.vector(), r.vector(), r.u64(), r.present(), r.vector(), r.vector()
            ),
        )


@dataclass(frozen=True, slots=True)
class KeyPackageInfo:
    """What a KeyPackage says, its signatures verified."""

    ref: bytes
    identity: bytes
    signature_key: bytes
    not_before: int
    not_after: int
    last_resort: bool
    cipher_suite: int


def new_key_package(
    *,
    signature_private: bytes,
    identity: bytes,
    not_before: int,
    not_after: int,
    last_resort: bool = False,
    suite: CipherSuite = SUITE_3,
    rng: Rng = random_bytes,
) -> KeyPackageBundle:
    """Make a KeyPackage with fresh keys.

    Keep the bundle until the Welcome came, then delete it (a last-resort one when it
    has been replaced). Times are in seconds since 1970.
    """
    init_private, init_key = suite.kem.derive_key_pair(rng(32))
    encryption_private, encryption_key = suite.kem.derive_key_pair(rng(32))
    capabilities, leaf_extensions = greased_leaf_fields(suite, rng)
    leaf = sign_leaf(
        suite,
        signature_private,
        encryption_key=encryption_key,
        credential=Credential(BASIC, identity),
        capabilities=capabilities,
        extensions=leaf_extensions,
        lifetime=Lifetime(not_before, not_after),
    )
    extensions: Extensions = (grease_extension(rng),)
    if last_resort:
        extensions += (Extension(LAST_RESORT, b""),)
    tbs = (
        u16(MLS10)
        + u16(suite.id)
        + vector(init_key)
        + leaf.encoded
        + encode_extensions(extensions)
    )
    signature = suite.sign_with_label(signature_private, "KeyPackageTBS", tbs)
    encoded = tbs + vector(signature)
    return KeyPackageBundle(
        key_package=encoded,
        ref=suite.ref_hash("MLS 1.0 KeyPackage Reference", encoded),
        not_after=not_after,
        last_resort=last_resort,
        init_private=init_private,
        encryption_private=encryption_private,
    )


def key_package_info(
    key_package: bytes, *, suite: CipherSuite = SUITE_3
) -> KeyPackageInfo:
    """Parse a KeyPackage and verify its signatures; its time is not judged.

    Raises:
        Malformed, UnsupportedSuite, InvalidKeyPackage, InvalidLeaf, BadSignature.
    """
    parsed = decode(key_package, KeyPackage.read)
    parsed.verify(suite, RequiredCapabilities())
    leaf = parsed.leaf_node
    if leaf.lifetime is None or leaf.credential.type != BASIC:
        raise InvalidKeyPackage("the credential is not a basic one")
    return KeyPackageInfo(
        ref=parsed.ref(suite),
        identity=leaf.credential.identity,
        signature_key=leaf.signature_key,
        not_before=leaf.lifetime.not_before,
        not_after=leaf.lifetime.not_after,
        last_resort=parsed.last_resort,
        cipher_suite=parsed.cipher_suite,
    )
