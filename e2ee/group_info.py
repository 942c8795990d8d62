"""GroupInfo (RFC 9420 section 12.4.3): an epoch as a member vouches for it."""

from __future__ import annotations

from dataclasses import dataclass, field

from e2ee.codec import Reader, u32, vector
from e2ee.codepoint import GROUP_INFO, RATCHET_TREE
from e2ee.crypto import equal
from e2ee.errors import (
    SignerMissing,
    TreeHashMismatch,
    TreeMissing,
)
from e2ee.extension import (
    Extension,
    Extensions,
    encode_extensions,
    find_extension,
    read_extensions,
)
from e2ee.framing import unwrap, wrap
from e2ee.group_context import GroupContext
from e2ee.ratchet_tree import RatchetTree
from e2ee.suite import CipherSuite


@dataclass(frozen=True, slots=True)
class GroupInfo:
    """GroupInfo (section 12.4.3)."""

    context: GroupContext
    extensions: Extensions
    confirmation_tag: bytes
    signer: int
    signature: bytes
    encoded: bytes = field(repr=False, compare=False)
    tbs: bytes = field(repr=False, compare=False)

    @classmethod
    def read(cls, reader: Reader) -> GroupInfo:
        """Decode, keeping the bytes."""
        start = reader.position
        context = GroupContext.read(reader)
        extensions = read_extensions(reader)
        tag = reader.vector()
        signer = reader.u32()
        tbs = reader.since(start)
        signature = reader.vector()
        return cls(
            context, extensions, tag, signer, signature, reader.since(start), tbs
        )

    @classmethod
    def from_message(cls, message: bytes) -> GroupInfo:
        """Decode an MLSMessage(GroupInfo); raises `Malformed`."""
        reader = unwrap(message, GROUP_INFO)
        info = cls.read(reader)
        reader.finish()
        return info

    def message(self) -> bytes:
        """Encode as MLSMessage."""
        return wrap(GROUP_INFO, self.encoded)

    def verify(self, suite: CipherSuite, signature_key: bytes) -> None:
        """Raise `BadSignature` unless the key signed it."""
        suite.verify_with_label(signature_key, "GroupInfoTBS", self.tbs, self.signature)


def sign_group_info(
    suite: CipherSuite,
    signature_private: bytes,
    context: GroupContext,
    extensions: tuple[Extension, ...],
    confirmation_tag: bytes,
    signer: int,
) -> GroupInfo:
    """Make a signed GroupInfo."""
    tbs = (
        context.encode()
        + encode_extensions(extensions)
        + vector(confirmation_tag)
        + u32(signer)
    )
    signature = suite.sign_with_label(signature_private, "GroupInfoTBS", tbs)
    return GroupInfo(
        context,
        extensions,
        confirmation_tag,
        signer,
        signature,
        tbs + vector(signature),
        tbs,
    )


def find_tree(suite: CipherSuite, info: GroupInfo, given: bytes | None) -> RatchetTree:
    """Take the tree from the GroupInfo or from beside it, and check its hash.

    Raises:
        InvalidGroupInfo: There is none.
        TreeHashMismatch: It is another one.
    """
    inside = find_extension(info.extensions, RATCHET_TREE)
    data = inside if inside is not None else given
    if data is None:
        raise TreeMissing("there is no ratchet tree")
    tree = RatchetTree.decode(suite, data)
    if not equal(tree.tree_hash(), info.context.tree_hash):
        raise TreeHashMismatch("the tree is not the one that the group has")
    return tree


def verify_group_info(tree: RatchetTree, info: GroupInfo) -> None:
    """Check that a member signed a GroupInfo.

    Raises:
        InvalidGroupInfo: The signer's leaf is blank.
        BadSignature: The signature does not verify.
    """
    signer = tree.leaf(info.signer)
    if signer is None:
        raise SignerMissing("the signer of the GroupInfo is not a member")
    info.verify(tree.suite, signer.signature_key)
