"""Message framing: the structures of RFC 9420 section 6.

What is decoded keeps its bytes (`encoded`): signatures, tags, references and
transcript hashes are computed over what was received, never over a re-encoding.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from e2ee.codec import Reader, decode, optional, u8, u16, u32, u64, vector, vectors
from e2ee.codepoint import (
    APPLICATION,
    COMMIT,
    CONTENT_TYPE_NAMES,
    EXTERNAL,
    GROUP_INFO,
    KEY_PACKAGE,
    MEMBER,
    MLS10,
    NEW_MEMBER_COMMIT,
    NEW_MEMBER_PROPOSAL,
    PRIVATE_MESSAGE,
    PROPOSAL,
    PUBLIC_MESSAGE,
    WELCOME,
)
from e2ee.errors import LimitExceeded, Malformed, UnsupportedVersion
from e2ee.group_context import GroupContext
from e2ee.key_package import KeyPackage
from e2ee.proposal import (
    Proposal,
    ProposalOrRef,
    encode_proposal,
    encode_proposal_or_ref,
    read_proposal,
    read_proposal_or_ref,
)
from e2ee.ratchet_tree import MAX_TREE
from e2ee.suite import CipherSuite
from e2ee.treekem import UpdatePath

MAX_HANDSHAKE = 1024 * 1024
"""Bytes of a message: a commit that adds 1,000 members has about half of that."""
MAX_WELCOME = MAX_TREE + MAX_HANDSHAKE
"""Bytes of a Welcome or GroupInfo, which others may send with the tree inside."""
MAX_PROPOSALS = 1_000
"""Proposals in one commit: a whole room may be added at once."""


@dataclass(frozen=True, slots=True)
class Commit:
    """Commit (section 12.4)."""

    proposals: tuple[ProposalOrRef, ...]
    path: UpdatePath | None

    def encode(self) -> bytes:
        """Encode."""
        path = None if self.path is None else self.path.encode()
        return vectors(map(encode_proposal_or_ref, self.proposals)) + optional(path)

    @classmethod
    def read(cls, reader: Reader) -> Commit:
        """Decode."""
        proposals = tuple(reader.items(read_proposal_or_ref, MAX_PROPOSALS))
        return cls(proposals, UpdatePath.read(reader) if reader.present() else None)


@dataclass(frozen=True, slots=True)
class Sender:
    """Sender (section 6): a leaf, a place in `external_senders`, or a newcomer."""

    type: int
    index: int = 0

    def encode(self) -> bytes:
        """Encode."""
        if self.type in (MEMBER, EXTERNAL):
            return u8(self.type) + u32(self.index)
        return u8(self.type)

    @classmethod
    def read(cls, reader: Reader) -> Sender:
        """Decode."""
        type_ = reader.u8()
        if type_ in (MEMBER, EXTERNAL):
            return cls(type_, reader.u32())
        if type_ in (NEW_MEMBER_PROPOSAL, NEW_MEMBER_COMMIT):
            return cls(type_)
        raise Malformed("the sender type is unknown")


Content = bytes | Proposal | Commit


def encode_content(content: Content) -> bytes:
    """Encode what stands in a frame: application data, a proposal or a commit."""
    if isinstance(content, bytes):
        return vector(content)
    if isinstance(content, Commit):
        return content.encode()
    return encode_proposal(content)


def read_content(reader: Reader, content_type: int) -> Content:
    """Decode what stands in a frame."""
    if content_type == APPLICATION:
        return reader.vector()
    if content_type == PROPOSAL:
        return read_proposal(reader)
    if content_type == COMMIT:
        return Commit.read(reader)
    raise Malformed("the content type is unknown")


def content_type_of(content: Content) -> int:
    """Give the ContentType of something to be framed."""
    if isinstance(content, bytes):
        return APPLICATION
    return COMMIT if isinstance(content, Commit) else PROPOSAL


@dataclass(frozen=True, slots=True)
class FramedContent:
    """FramedContent (section 6)."""

    group_id: bytes
    epoch: int
    sender: Sender
    authenticated_data: bytes
    content_type: int
    content: Content = field(repr=False)
    encoded: bytes = field(repr=False, compare=False)

    @classmethod
    def make(
        cls,
        group_id: bytes,
        epoch: int,
        sender: Sender,
        authenticated_data: bytes,
        content: Content,
        encoded_content: bytes | None = None,
    ) -> FramedContent:
        """Frame a content; give its encoding too where it is known."""
        content_type = content_type_of(content)
        if encoded_content is None:
            encoded_content = encode_content(content)
        encoded = (
            vector(group_id)
            + u64(epoch)
            + sender.encode()
            + vector(authenticated_data)
            + u8(content_type)
            + encoded_content
        )
        return cls(
            group_id, epoch, sender, authenticated_data, content_type, content, encoded
        )

    @classmethod
    def read(cls, reader: Reader) -> FramedContent:
        """Decode, keeping the bytes."""
        start = reader.position
        group_id = reader.vector()
        epoch = reader.u64()
        sender = Sender.read(reader)
        authenticated_data = reader.vector()
        content_type = reader.u8()
        content = read_content(reader, content_type)
        return cls(
            group_id,
            epoch,
            sender,
            authenticated_data,
            content_type,
            content,
            reader.since(start),
        )

    def tbs(self, wire_format: int, context: bytes) -> bytes:
        """FramedContentTBS (section 6.1); `context` is the encoded GroupContext."""
        signed = u16(MLS10) + u16(wire_format) + self.encoded
        if self.sender.type in (MEMBER, NEW_MEMBER_COMMIT):
            signed += context
        return signed


@dataclass(frozen=True, slots=True)
class AuthData:
    """FramedContentAuthData (section 6.1)."""

    signature: bytes
    confirmation_tag: bytes | None
    """Set for commits and for nothing else."""

    def encode(self) -> bytes:
        """Encode."""
        encoded = vector(self.signature)
        if self.confirmation_tag is not None:
            encoded += vector(self.confirmation_tag)
        return encoded

    @classmethod
    def read(cls, reader: Reader, content_type: int) -> AuthData:
        """Decode."""
        signature = reader.vector()
        return cls(signature, reader.vector() if content_type == COMMIT else None)


@dataclass(frozen=True, slots=True)
class AuthenticatedContent:
    """AuthenticatedContent (section 6)."""

    wire_format: int
    content: FramedContent
    auth: AuthData

    def encode(self) -> bytes:
        """Encode."""
        return u16(self.wire_format) + self.content.encoded + self.auth.encode()

    @classmethod
    def read(cls, reader: Reader) -> AuthenticatedContent:
        """Decode."""
        wire_format = reader.u16()
        if wire_format not in (PUBLIC_MESSAGE, PRIVATE_MESSAGE):
            raise Malformed("the wire format does not carry content")
        content = FramedContent.read(reader)
        return cls(wire_format, content, AuthData.read(reader, content.content_type))

    def proposal_ref(self, suite: CipherSuite) -> bytes:
        """Give the ProposalRef (section 5.2) of what must be a proposal."""
        return suite.ref_hash("MLS 1.0 Proposal Reference", self.encode())


@dataclass(frozen=True, slots=True)
class PublicMessage:
    """PublicMessage (section 6.2)."""

    content: FramedContent
    auth: AuthData
    membership_tag: bytes | None
    """Set if and only if a member sent it."""

    def encode(self) -> bytes:
        """Encode."""
        encoded = self.content.encoded + self.auth.encode()
        if self.membership_tag is not None:
            encoded += vector(self.membership_tag)
        return encoded

    @classmethod
    def read(cls, reader: Reader) -> PublicMessage:
        """Decode."""
        content = FramedContent.read(reader)
        auth = AuthData.read(reader, content.content_type)
        is_member = content.sender.type == MEMBER
        return cls(content, auth, reader.vector() if is_member else None)

    def authenticated(self) -> AuthenticatedContent:
        """Give the content with its authentication, without the membership tag."""
        return AuthenticatedContent(PUBLIC_MESSAGE, self.content, self.auth)


@dataclass(frozen=True, slots=True)
class PrivateMessage:
    """PrivateMessage (section 6.3)."""

    group_id: bytes
    epoch: int
    content_type: int
    authenticated_data: bytes
    encrypted_sender_data: bytes
    ciphertext: bytes

    def encode(self) -> bytes:
        """Encode."""
        return (
            vector(self.group_id)
            + u64(self.epoch)
            + u8(self.content_type)
            + vector(self.authenticated_data)
            + vector(self.encrypted_sender_data)
            + vector(self.ciphertext)
        )

    @classmethod
    def read(cls, reader: Reader) -> PrivateMessage:
        """Decode."""
        group_id = reader.vector()
        epoch = reader.u64()
        content_type = reader.u8()
        if content_type not in CONTENT_TYPE_NAMES:
            raise Malformed("the content type is unknown")
        return cls(
            group_id,
            epoch,
            content_type,
            reader.vector(),
            reader.vector(),
            reader.vector(),
        )


def wrap(wire_format: int, body: bytes) -> bytes:
    """Encode an MLSMessage from its wire format and encoded body."""
    return u16(MLS10) + u16(wire_format) + body


def read_header(reader: Reader) -> int:
    """Decode the start of an MLSMessage and give its wire format."""
    if reader.u16() != MLS10:
        raise UnsupportedVersion("only MLS 1.0 is spoken here")
    wire_format = reader.u16()
    if not PUBLIC_MESSAGE <= wire_format <= KEY_PACKAGE:
        raise Malformed("the wire format is unknown")
    return wire_format


def unwrap(message: bytes, wire_format: int, limit: int = MAX_WELCOME) -> Reader:
    """Check that an MLSMessage is of one wire format and give its body to read."""
    if len(message) > limit:
        raise LimitExceeded("the message is larger than accepted")
    reader = Reader(message)
    if read_header(reader) != wire_format:
        raise Malformed("the message has another wire format than expected")
    return reader


def read_framed(message: bytes) -> PublicMessage | PrivateMessage:
    """Decode an MLSMessage that must be a PublicMessage or PrivateMessage.

    Raises:
        Malformed: It is something else, or larger than accepted.
    """
    if len(message) > MAX_HANDSHAKE:
        raise LimitExceeded("the message is larger than accepted")
    reader = Reader(message)
    wire_format = read_header(reader)
    framed: PublicMessage | PrivateMessage
    if wire_format == PUBLIC_MESSAGE:
        framed = PublicMessage.read(reader)
    elif wire_format == PRIVATE_MESSAGE:
        framed = PrivateMessage.read(reader)
    else:
        raise Malformed("the message carries no content")
    reader.finish()
    return framed


@dataclass(frozen=True, slots=True)
class Peek:
    """What can be seen of an MLSMessage without secrets."""

    wire_format: int
    """As in `codepoint`: PUBLIC_MESSAGE, PRIVATE_MESSAGE, WELCOME ..."""
    group_id: bytes | None
    """None of a Welcome and of a KeyPackage."""
    epoch: int | None
    content_type: str | None
    """"application", "proposal" or "commit"; None if it carries none of them."""


def peek(message: bytes) -> Peek:
    """Look at an MLSMessage without secrets, and without checking its body.

    Raises:
        Malformed: Not even that much can be read.
    """
    reader = Reader(message)
    wire_format = read_header(reader)
    if wire_format == PUBLIC_MESSAGE:
        group_id, epoch = reader.vector(), reader.u64()
        Sender.read(reader)
        reader.vector()
        kind = reader.u8()
    elif wire_format == PRIVATE_MESSAGE:
        group_id, epoch, kind = reader.vector(), reader.u64(), reader.u8()
    elif wire_format == GROUP_INFO:
        context = GroupContext.read(reader)
        return Peek(wire_format, context.group_id, context.epoch, None)
    elif wire_format == WELCOME:
        return Peek(wire_format, None, None, None)
    else:
        decode(message[4:], KeyPackage.read)
        return Peek(wire_format, None, None, None)
    if kind not in CONTENT_TYPE_NAMES:
        raise Malformed("the content type is unknown")
    return Peek(wire_format, group_id, epoch, CONTENT_TYPE_NAMES[kind])
