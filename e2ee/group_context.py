"""GroupContext: what all members agree on (RFC 9420 section 8.1)."""

from __future__ import annotations

from dataclasses import dataclass

from e2ee.codec import Reader, u16, u64, vector
from e2ee.codepoint import MLS10
from e2ee.errors import UnsupportedVersion
from e2ee.extension import (
    Extensions,
    encode_extensions,
    find_extension,
    read_extensions,
)


@dataclass(frozen=True, slots=True)
class GroupContext:
    """GroupContext (section 8.1)."""

    cipher_suite: int
    group_id: bytes
    epoch: int
    tree_hash: bytes
    confirmed_transcript_hash: bytes
    extensions: Extensions = ()

    def encode(self) -> bytes:
        """Encode."""
        return (
            u16(MLS10)
            + u16(self.cipher_suite)
            + vector(self.group_id)
            + u64(self.epoch)
            + vector(self.tree_hash)
            + vector(self.confirmed_transcript_hash)
            + encode_extensions(self.extensions)
        )

    @classmethod
    def read(cls, reader: Reader) -> GroupContext:
        """Decode."""
        if reader.u16() != MLS10:
            raise UnsupportedVersion("only MLS 1.0 is spoken here")
        return cls(
            cipher_suite=reader.u16(),
            group_id=reader.vector(),
            epoch=reader.u64(),
            tree_hash=reader.vector(),
            confirmed_transcript_hash=reader.vector(),
            extensions=read_extensions(reader),
        )

    def extension(self, type_: int) -> bytes | None:
        """Give the data of a group extension, if the group has it."""
        return find_extension(self.extensions, type_)
