"""Signing, tagging and encrypting messages (RFC 9420 sections 6.1 to 6.3)."""

from __future__ import annotations

from dataclasses import dataclass, field

from e2ee.codec import Reader, decode, u8, u32, u64, vector
from e2ee.codepoint import APPLICATION, COMMIT, MEMBER, PRIVATE_MESSAGE
from e2ee.crypto import Rng, equal, random_bytes
from e2ee.errors import (
    BadMembershipTag,
    BadPadding,
    Misuse,
    OwnMessage,
)
from e2ee.framing import (
    AuthData,
    AuthenticatedContent,
    FramedContent,
    PrivateMessage,
    PublicMessage,
    Sender,
    encode_content,
    read_content,
)
from e2ee.secret_tree import (
    APPLICATION_RATCHET,
    HANDSHAKE_RATCHET,
    Found,
    SecretTree,
)
from e2ee.suite import CipherSuite

PADDING_BUCKETS = (256, 512, 1024)
"""Sizes that most chat messages fall into; beyond them Padmé, at most 12 % more."""


def padded_size(size: int) -> int:
    """Size to which a plaintext of `size` bytes is padded."""
    for bucket in PADDING_BUCKETS:
        if size <= bucket:
            return bucket
    exponent = size.bit_length() - 1
    zeroes = exponent - exponent.bit_length()
    mask = (1 << zeroes) - 1
    return (size + mask) & ~mask


def sign_content(
    suite: CipherSuite,
    signature_private: bytes,
    wire_format: int,
    content: FramedContent,
    context: bytes,
) -> bytes:
    """Sign a FramedContent; `context` is the encoded GroupContext."""
    return suite.sign_with_label(
        signature_private, "FramedContentTBS", content.tbs(wire_format, context)
    )


def sign_framed(
    suite: CipherSuite,
    signature_private: bytes,
    wire_format: int,
    content: FramedContent,
    context: bytes,
) -> AuthenticatedContent:
    """Sign a content; of a commit the confirmation tag stays empty for now."""
    signature = sign_content(suite, signature_private, wire_format, content, context)
    tag = b"" if content.content_type == COMMIT else None
    return AuthenticatedContent(wire_format, content, AuthData(signature, tag))


def verify_content(
    suite: CipherSuite,
    signature_key: bytes,
    message: AuthenticatedContent,
    context: bytes,
) -> None:
    """Raise `BadSignature` unless the sender's key signed the message."""
    suite.verify_with_label(
        signature_key,
        "FramedContentTBS",
        message.content.tbs(message.wire_format, context),
        message.auth.signature,
    )


def membership_tag(
    suite: CipherSuite,
    membership_key: bytes,
    message: AuthenticatedContent,
    context: bytes,
) -> bytes:
    """Compute the membership tag of a PublicMessage (section 6.2)."""
    tbs = message.content.tbs(message.wire_format, context)
    return suite.hash.mac(membership_key, tbs + message.auth.encode())


def protect_public(
    suite: CipherSuite,
    membership_key: bytes,
    message: AuthenticatedContent,
    context: bytes,
) -> PublicMessage:
    """Make a PublicMessage of a signed content.

    Raises:
        Misuse: It is application data, which is never sent in the clear.
    """
    if message.content.content_type == APPLICATION:
        raise Misuse("application data must be encrypted")
    tag = None
    if message.content.sender.type == MEMBER:
        tag = membership_tag(suite, membership_key, message, context)
    return PublicMessage(message.content, message.auth, tag)


def check_membership(
    suite: CipherSuite, membership_key: bytes, message: PublicMessage, context: bytes
) -> None:
    """Raise `BadMembershipTag` unless a member's PublicMessage carries the right tag.

    Messages from outside have none.
    """
    if message.membership_tag is None:
        return
    expected = membership_tag(suite, membership_key, message.authenticated(), context)
    if not equal(expected, message.membership_tag):
        raise BadMembershipTag("the membership tag does not verify")


@dataclass(frozen=True, slots=True)
class _SenderData:
    leaf: int
    generation: int
    reuse_guard: bytes = field(repr=False)

    def encode(self) -> bytes:
        return u32(self.leaf) + u32(self.generation) + self.reuse_guard

    @classmethod
    def read(cls, reader: Reader) -> _SenderData:
        return cls(reader.u32(), reader.u32(), reader.take(4))


def sender_data_key_nonce(
    suite: CipherSuite, sender_data_secret: bytes, ciphertext: bytes
) -> tuple[bytes, bytes]:
    """Derive key and nonce from a sample of the ciphertext (section 6.3.2)."""
    sample = ciphertext[: suite.hash.size]
    expand = suite.expand_with_label
    return (
        expand(sender_data_secret, "key", sample, suite.aead.key_size),
        expand(sender_data_secret, "nonce", sample, suite.aead.nonce_size),
    )


def _guarded(nonce: bytes, guard: bytes) -> bytes:
    first = bytes(a ^ b for a, b in zip(nonce, guard, strict=False))
    return first + nonce[len(first) :]


def _ratchet_kind(content_type: int) -> int:
    return APPLICATION_RATCHET if content_type == APPLICATION else HANDSHAKE_RATCHET


def protect_private(
    suite: CipherSuite,
    sender_data_secret: bytes,
    tree: SecretTree,
    content: FramedContent,
    auth: AuthData,
    *,
    pad: bool = True,
    rng: Rng = random_bytes,
) -> PrivateMessage:
    """Encrypt a signed content with the sender's next key, which is consumed."""
    leaf = content.sender.index
    found = tree.next(leaf, _ratchet_kind(content.content_type))
    plaintext = encode_content(content.content) + auth.encode()
    if pad:
        plaintext += bytes(padded_size(len(plaintext)) - len(plaintext))
    guard = rng(4)
    header = vector(content.group_id) + u64(content.epoch) + u8(content.content_type)
    ciphertext = suite.aead.seal(
        found.key,
        _guarded(found.nonce, guard),
        header + vector(content.authenticated_data),
        plaintext,
    )
    key, nonce = sender_data_key_nonce(suite, sender_data_secret, ciphertext)
    sender_data = _SenderData(leaf, found.generation, guard).encode()
    sealed = suite.aead.seal(key, nonce, header, sender_data)
    tree.consume(found)
    return PrivateMessage(
        content.group_id,
        content.epoch,
        content.content_type,
        content.authenticated_data,
        sealed,
        ciphertext,
    )


def unprotect_private(
    suite: CipherSuite,
    sender_data_secret: bytes,
    tree: SecretTree,
    message: PrivateMessage,
    own_leaf: int | None = None,
) -> tuple[AuthenticatedContent, Found]:
    """Decrypt; neither is the signature checked nor the key consumed yet.

    Raises:
        DecryptionFailed, Malformed, BadPadding: It does not open, or is not content.
        OwnMessage: The sender is `own_leaf`.
        UnknownSender, GenerationUsed, GenerationTooFar: There is no key for it.
    """
    header = vector(message.group_id) + u64(message.epoch) + u8(message.content_type)
    key, nonce = sender_data_key_nonce(suite, sender_data_secret, message.ciphertext)
    opened = suite.aead.open(key, nonce, header, message.encrypted_sender_data)
    sender = decode(opened, _SenderData.read)
    if sender.leaf == own_leaf:
        raise OwnMessage("this is our own message")
    found = tree.find(
        sender.leaf, _ratchet_kind(message.content_type), sender.generation
    )
    plaintext = suite.aead.open(
        found.key,
        _guarded(found.nonce, sender.reuse_guard),
        header + vector(message.authenticated_data),
        message.ciphertext,
    )
    reader = Reader(plaintext)
    content = read_content(reader, message.content_type)
    encoded_content = reader.since(0)
    auth = AuthData.read(reader, message.content_type)
    if any(reader.take(reader.left)):
        raise BadPadding("the padding is not zero")
    framed = FramedContent.make(
        message.group_id,
        message.epoch,
        Sender(MEMBER, sender.leaf),
        message.authenticated_data,
        content,
        encoded_content,
    )
    return AuthenticatedContent(PRIVATE_MESSAGE, framed, auth), found
