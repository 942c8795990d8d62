"""Checks of messages: their syntax, their protection, and Welcomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from e2ee.codec import Reader, decode, vectors
from e2ee.codepoint import (
    APPLICATION,
    COMMIT,
    GROUP_INFO,
    KEY_PACKAGE,
    MEMBER,
    PRIVATE_MESSAGE,
    PROPOSAL,
    PUBLIC_MESSAGE,
    WELCOME,
)
from e2ee.crypto import equal
from e2ee.errors import Misuse
from e2ee.extension import RequiredCapabilities
from e2ee.framing import (
    AuthData,
    AuthenticatedContent,
    Commit,
    Content,
    FramedContent,
    PrivateMessage,
    PublicMessage,
    Sender,
    encode_content,
    read_framed,
    unwrap,
    wrap,
)
from e2ee.group_context import GroupContext
from e2ee.group_info import GroupInfo
from e2ee.joining import find_bundle, open_welcome, read_welcome
from e2ee.key_package import KeyPackage, KeyPackageBundle
from e2ee.key_schedule import confirmation_tag, epoch_secrets
from e2ee.node import encode_optional_node, read_optional_node
from e2ee.proposal import (
    Add,
    ExternalInit,
    GroupContextExtensions,
    PreSharedKey,
    ReInit,
    Remove,
    Update,
    read_proposal,
)
from e2ee.protection import (
    check_membership,
    protect_private,
    protect_public,
    sign_content,
    unprotect_private,
    verify_content,
)
from e2ee.secret_tree import SecretTree
from e2ee.vectors.case import Case, Mismatch, refused, same
from e2ee.welcome import GroupSecrets, Welcome


class _Encodes(Protocol):
    def encode(self) -> bytes: ...


def _message(
    wire_format: int, read: Callable[[Reader], _Encodes]
) -> Callable[[bytes], bytes]:
    def again(data: bytes) -> bytes:
        reader = unwrap(data, wire_format)
        body = read(reader)
        reader.finish()
        return wrap(wire_format, body.encode())

    return again


def _content(content_type: int) -> Callable[[bytes], bytes]:
    def again(data: bytes) -> bytes:
        message = read_framed(data)
        if not isinstance(message, PublicMessage):
            raise Mismatch("the message is not public")
        frame = message.content
        same("content type", frame.content_type, content_type)
        rebuilt = FramedContent.make(
            frame.group_id,
            frame.epoch,
            frame.sender,
            frame.authenticated_data,
            frame.content,
        )
        same("framed content", rebuilt.encoded, frame.encoded)
        return wrap(PUBLIC_MESSAGE, message.encode())

    return again


def _plain(read: Callable[[Reader], _Encodes]) -> Callable[[bytes], bytes]:
    return lambda data: decode(data, read).encode()


class _Tree:
    """A ratchet tree as a mere list of nodes: these need not form a valid tree."""

    def __init__(self, reader: Reader) -> None:
        self.nodes = reader.items(read_optional_node)

    def encode(self) -> bytes:
        return vectors(map(encode_optional_node, self.nodes))


class _Kept:
    """A structure that keeps its bytes."""

    def __init__(self, value: KeyPackage | GroupInfo) -> None:
        self.encoded = value.encoded

    def encode(self) -> bytes:
        return self.encoded


_STRUCTURES: dict[str, Callable[[bytes], bytes]] = {
    "mls_welcome": _message(WELCOME, Welcome.read),
    "mls_group_info": _message(GROUP_INFO, lambda r: _Kept(GroupInfo.read(r))),
    "mls_key_package": _message(KEY_PACKAGE, lambda r: _Kept(KeyPackage.read(r))),
    "ratchet_tree": _plain(_Tree),
    "group_secrets": _plain(GroupSecrets.read),
    "add_proposal": _plain(Add.read),
    "update_proposal": _plain(Update.read),
    "remove_proposal": _plain(Remove.read),
    "pre_shared_key_proposal": _plain(PreSharedKey.read),
    "re_init_proposal": _plain(ReInit.read),
    "external_init_proposal": _plain(ExternalInit.read),
    "group_context_extensions_proposal": _plain(GroupContextExtensions.read),
    "commit": _plain(Commit.read),
    "public_message_application": _content(APPLICATION),
    "public_message_proposal": _content(PROPOSAL),
    "public_message_commit": _content(COMMIT),
    "private_message": _message(PRIVATE_MESSAGE, PrivateMessage.read),
}


def messages_case(case: Case) -> None:
    """Check `messages.json`."""
    for name, again in _STRUCTURES.items():
        data = case.hex(name)
        same(name, again(data), data)
    same("names", set(case.data), set(_STRUCTURES))


_SENDER = 1


class _Protection:
    """The keys of a `message-protection.json` case, and both directions."""

    def __init__(self, case: Case) -> None:
        self.suite = case.suite
        self.private = case.hex("signature_priv")
        self.public = case.hex("signature_pub")
        self.membership_key = case.hex("membership_key")
        self.sender_data_secret = case.hex("sender_data_secret")
        self.encryption_secret = case.hex("encryption_secret")
        self.group_id, self.epoch = case.hex("group_id"), case.data["epoch"]
        self.context = GroupContext(
            self.suite.id,
            self.group_id,
            self.epoch,
            case.hex("tree_hash"),
            case.hex("confirmed_transcript_hash"),
        ).encode()

    def tree(self) -> SecretTree:
        """Give the ratchets of the two members, unused."""
        return SecretTree(self.suite, self.encryption_secret, 2)

    def sign(self, wire_format: int, content: Content) -> AuthenticatedContent:
        """Frame and sign a content as the sender."""
        framed = FramedContent.make(
            self.group_id, self.epoch, Sender(MEMBER, _SENDER), b"", content
        )
        signature = sign_content(
            self.suite, self.private, wire_format, framed, self.context
        )
        tag = bytes(self.suite.hash.size) if isinstance(content, Commit) else None
        return AuthenticatedContent(wire_format, framed, AuthData(signature, tag))

    def protect_private(self, content: Content) -> bytes:
        """Encrypt a content of our own."""
        signed = self.sign(PRIVATE_MESSAGE, content)
        message = protect_private(
            self.suite,
            self.sender_data_secret,
            self.tree(),
            signed.content,
            signed.auth,
        )
        return wrap(PRIVATE_MESSAGE, message.encode())

    def protect_public(self, content: Content) -> bytes:
        """Tag a content of our own; raises `Misuse` for application data."""
        signed = self.sign(PUBLIC_MESSAGE, content)
        message = protect_public(self.suite, self.membership_key, signed, self.context)
        return wrap(PUBLIC_MESSAGE, message.encode())

    def check_private(self, data: bytes, raw: bytes) -> None:
        """Decrypt a message, which must hold `raw`."""
        message = read_framed(data)
        if not isinstance(message, PrivateMessage):
            raise Mismatch("the message is not private")
        opened, _ = unprotect_private(
            self.suite, self.sender_data_secret, self.tree(), message
        )
        self._check(opened, raw)

    def check_public(self, data: bytes, raw: bytes) -> None:
        """Verify a message, which must hold `raw`."""
        message = read_framed(data)
        if not isinstance(message, PublicMessage):
            raise Mismatch("the message is not public")
        check_membership(self.suite, self.membership_key, message, self.context)
        self._check(message.authenticated(), raw)

    def _check(self, opened: AuthenticatedContent, raw: bytes) -> None:
        verify_content(self.suite, self.public, opened, self.context)
        same("group id", opened.content.group_id, self.group_id)
        same("epoch", opened.content.epoch, self.epoch)
        same("sender", opened.content.sender, Sender(MEMBER, _SENDER))
        content = opened.content.content
        plain = content if isinstance(content, bytes) else encode_content(content)
        same("content", plain, raw)


def message_protection_case(case: Case) -> None:
    """Check `message-protection.json`."""
    keys = _Protection(case)
    same("signature_pub", keys.suite.signature.public(keys.private), keys.public)
    raws = {name: case.hex(name) for name in ("proposal", "commit", "application")}
    contents: dict[str, Content] = {
        "proposal": decode(raws["proposal"], read_proposal),
        "commit": decode(raws["commit"], Commit.read),
        "application": raws["application"],
    }
    for name, raw in raws.items():
        keys.check_private(case.hex(f"{name}_priv"), raw)
        keys.check_private(keys.protect_private(contents[name]), raw)
    for name in ("proposal", "commit"):
        keys.check_public(case.hex(f"{name}_pub"), raws[name])
        keys.check_public(keys.protect_public(contents[name]), raws[name])
    clear = contents["application"]
    refused("application data in the clear", Misuse, keys.protect_public, clear)


def welcome_case(case: Case) -> None:
    """Check `welcome.json`."""
    suite, init_private = case.suite, case.hex("init_priv")
    reader = unwrap(case.hex("key_package"), KEY_PACKAGE)
    package = KeyPackage.read(reader)
    reader.finish()
    package.verify(suite, RequiredCapabilities())
    same("init_priv", suite.kem.public(init_private), package.init_key)
    bundle = KeyPackageBundle(
        package.encoded, package.ref(suite), 0, False, init_private, b""
    )
    welcome = read_welcome(case.hex("welcome"))
    same("cipher suite", welcome.cipher_suite, suite.id)
    found, item = find_bundle(welcome, [bundle])
    secrets, psk, info = open_welcome(suite, welcome, found, item, lambda _: None)
    info.verify(suite, case.hex("signer_pub"))
    context = info.context
    keys = epoch_secrets(suite, secrets.joiner_secret, psk, context.encode())
    expected = confirmation_tag(
        suite, keys.confirmation_key, context.confirmed_transcript_hash
    )
    same("confirmation tag", equal(expected, info.confirmation_tag), True)
