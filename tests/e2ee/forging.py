"""What a broken or malicious member could send, and that it is refused.

Everything here is signed, tagged and encrypted as it should be, so that only the rule
under test can refuse it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from e2ee import ALLOW_ALL, Group, StagedCommit
from e2ee.codec import decode, u8, u16, u32, u64, vector
from e2ee.codepoint import (
    APPLICATION,
    BASIC,
    MEMBER,
    PRIVATE_MESSAGE,
    PSK_EXTERNAL,
    PSK_RESUMPTION,
    WELCOME,
)
from e2ee.errors import E2eeError
from e2ee.extension import Credential
from e2ee.framing import (
    AuthData,
    Commit,
    FramedContent,
    PrivateMessage,
    Sender,
    encode_content,
    wrap,
)
from e2ee.group_info import GroupInfo, sign_group_info
from e2ee.joining import find_bundle, open_welcome, read_welcome
from e2ee.key_package import KeyPackage
from e2ee.key_schedule import welcome_secret
from e2ee.leaf import LeafNode, Lifetime, own_capabilities, sign_leaf
from e2ee.proposal import PreSharedKey, Proposal, ProposalRef
from e2ee.protection import sender_data_key_nonce, sign_content
from e2ee.psk import PreSharedKeyId
from e2ee.secret_tree import APPLICATION_RATCHET
from e2ee.suite import SUITE_3
from e2ee.treekem import UpdatePath
from e2ee.welcome import EncryptedGroupSecrets, GroupSecrets, Welcome, seal_group_info
from tests.e2ee.support import NOW, Room, bundle_for, commit_in, forge, rng, snapshot


def unchanged(
    group: Group, error: type[E2eeError], attempt: Callable[[], object]
) -> None:
    """An attempt raises exactly this error, and the group stays as it was."""
    before = snapshot(group)
    with pytest.raises(E2eeError) as caught:
        attempt()
    assert type(caught.value) is error, repr(caught.value)
    assert snapshot(group) == before


def commit_refused(
    room: Room,
    error: type[E2eeError],
    message: bytes,
    *,
    by: str = "p3",
    at_hub: bool = True,
) -> None:
    """A member and the hub refuse a commit in the same words; neither changes."""
    group = room[by]
    unchanged(group, error, lambda: group.process_commit(message, now=NOW))
    if at_hub:
        hub, info = room.hub.encode(), room["p0"].group_info()
        with pytest.raises(E2eeError) as caught:
            room.hub.process_commit(message, info, now=NOW)
        assert type(caught.value) is error, repr(caught.value)
        assert room.hub.encode() == hub


def list_refused(room: Room, error: type[E2eeError], *items: Proposal | bytes) -> None:
    """A commit of p0 with these proposals (bytes are references) is refused."""
    proposals = tuple(ProposalRef(i) if isinstance(i, bytes) else i for i in items)
    message = forge(room["p0"], Commit(proposals, own_path(room)))
    commit_refused(room, error, message)


def proposal_refused(
    room: Room, error: type[E2eeError], message: bytes, *, at_hub: bool = True
) -> None:
    """A member and the hub refuse a standalone proposal; neither changes."""
    group = room["p3"]
    unchanged(group, error, lambda: group.receive_proposal(message))
    if at_hub:
        hub = room.hub.encode()
        with pytest.raises(E2eeError) as caught:
            room.hub.receive_proposal(message)
        assert type(caught.value) is error, repr(caught.value)
        assert room.hub.encode() == hub


def proposed(room: Room, by: str, message: bytes) -> bytes:
    """Give a proposal to everybody, and its reference."""
    room.propose(by, message)
    return room.hub.pending_proposals[-1].ref


def own_path(room: Room) -> UpdatePath:
    path = commit_in(room["p0"].commit(now=NOW)).path
    assert path is not None
    return path


def package(
    *, init_key: bytes | None = None, key: bytes | None = None, **change: object
) -> KeyPackage:
    """Make a KeyPackage, signed whatever is changed in it."""
    private = key or os.urandom(32)
    encryption_key = SUITE_3.kem.derive_key_pair(os.urandom(32))[1]
    leaf = change.pop("leaf", None) or sign_leaf(
        SUITE_3,
        private,
        encryption_key=encryption_key,
        credential=Credential(BASIC, b"q"),
        capabilities=own_capabilities(SUITE_3),
        lifetime=Lifetime(NOW - 5, NOW + 5),
    )
    assert isinstance(leaf, LeafNode)
    if init_key is None:
        init_key = SUITE_3.kem.derive_key_pair(os.urandom(32))[1]
    if change.pop("same_key", False):
        init_key = leaf.encryption_key
    suite = change.pop("suite", 3)
    assert isinstance(suite, int)
    tbs = u16(1) + u16(suite) + vector(init_key) + leaf.encoded + vector(b"")
    signature = SUITE_3.sign_with_label(private, "KeyPackageTBS", tbs)
    if change.pop("bad_signature", False):
        signature = bytes(64)
    return decode(tbs + vector(signature), KeyPackage.read)


def update_leaf(group: Group, **change: object) -> LeafNode:
    old = group._epoch.tree.leaf(group.own_leaf)
    assert old is not None
    arguments: dict[str, object] = {
        "encryption_key": SUITE_3.kem.derive_key_pair(os.urandom(32))[1],
        "credential": old.credential,
        "capabilities": old.capabilities,
        "group_id": group.group_id,
        "leaf": group.own_leaf,
    }
    return sign_leaf(SUITE_3, group._signature_private, **(arguments | change))  # type: ignore[arg-type]


def fresh_key() -> bytes:
    return SUITE_3.kem.derive_key_pair(os.urandom(32))[1]


def bend(path: UpdatePath, at: int, **change: object) -> UpdatePath:
    nodes = list(path.nodes)
    nodes[at] = replace(nodes[at], **change)  # type: ignore[arg-type]
    return replace(path, nodes=tuple(nodes))


def commit_leaf(room: Room, **change: object) -> LeafNode:
    path = own_path(room)
    change = {"parent_hash": path.leaf_node.parent_hash} | change
    return update_leaf(room["p0"], **change)


def with_leaf(room: Room, leaf: LeafNode) -> bytes:
    return forge(room["p0"], Commit((), replace(own_path(room), leaf_node=leaf)))


PSK_NONCE = bytes(32)


def external_psk(nonce: bytes = PSK_NONCE) -> PreSharedKey:
    return PreSharedKey(PreSharedKeyId(PSK_EXTERNAL, psk_id=b"x", nonce=nonce))


def resumption(usage: int) -> PreSharedKey:
    return PreSharedKey(
        PreSharedKeyId(PSK_RESUMPTION, usage=usage, group_id=b"room", nonce=PSK_NONCE)
    )


def seal(
    group: Group,
    plaintext: bytes,
    *,
    leaf: int | None = None,
    generation: int | None = None,
) -> bytes:
    """Encrypt any plaintext with our next key, as a broken client would."""
    state, suite = group._epoch, group.suite
    found = group._ratchets.next(group.own_leaf, APPLICATION_RATCHET)
    header = vector(group.group_id) + u64(group.epoch) + u8(APPLICATION)
    ciphertext = suite.aead.seal(found.key, found.nonce, header + b"\0", plaintext)
    key, nonce = sender_data_key_nonce(
        suite, state.secrets.sender_data_secret, ciphertext
    )
    sender = u32(group.own_leaf if leaf is None else leaf)
    number = u32(found.generation if generation is None else generation)
    sealed = suite.aead.seal(key, nonce, header, sender + number + bytes(4))
    group._ratchets.consume(found)
    message = PrivateMessage(
        group.group_id, group.epoch, APPLICATION, b"", sealed, ciphertext
    )
    return wrap(PRIVATE_MESSAGE, message.encode())


def signed(group: Group, content: bytes, key: bytes | None = None) -> bytes:
    framed = FramedContent.make(
        group.group_id, group.epoch, Sender(MEMBER, group.own_leaf), b"", content
    )
    signature = sign_content(
        group.suite,
        key or group._signature_private,
        PRIVATE_MESSAGE,
        framed,
        group._epoch.encoded_context,
    )
    return encode_content(content) + AuthData(signature, None).encode()


def knock(
    room: Room, name: str, key: bytes, *, remove: int | None = None
) -> tuple[Group, StagedCommit]:
    return Group.join_external(
        next(iter(room.people.values())).group.group_info(),
        ratchet_tree=room.hub.ratchet_tree(),
        signature_private=key,
        identity=name.encode(),
        remove=remove,
        validator=room.validator,
        rng=rng,
    )


class Invitation:
    """A Welcome, and ways to bend what is in it."""

    def __init__(self, *, update: bool = True) -> None:
        self.room = Room.of(4)
        self.key = os.urandom(32)
        self.bundle = bundle_for("q", self.key)
        self.staged: StagedCommit = self.room["p1"].commit(
            add=[self.bundle.key_package], update=update, now=NOW
        )
        self.room.deliver("p1", self.staged)
        self.tree = self.room.hub.ratchet_tree()
        self.message = self.staged.welcomes[0][1]
        welcome = read_welcome(self.message)
        bundle, item = find_bundle(welcome, [self.bundle])
        self.secrets, self.psk, self.info = open_welcome(
            SUITE_3, welcome, bundle, item, lambda _: None
        )

    def join(self, message: bytes | None = None, tree: bytes | None = None) -> Group:
        return Group.join(
            self.message if message is None else message,
            [self.bundle],
            signature_private=self.key,
            ratchet_tree=self.tree if tree is None else tree,
            now=NOW,
            validator=ALLOW_ALL,
        )

    def seal(self, info: GroupInfo, secrets: GroupSecrets | None = None) -> bytes:
        """Make a Welcome of anything."""
        secrets = secrets or self.secrets
        secret = welcome_secret(SUITE_3, secrets.joiner_secret, self.psk)
        sealed_info = seal_group_info(SUITE_3, secret, info)
        package = decode(self.bundle.key_package, KeyPackage.read)
        sealed = SUITE_3.encrypt_with_label(
            package.init_key, "Welcome", sealed_info, secrets.encode()
        )
        item = EncryptedGroupSecrets(self.bundle.ref, sealed)
        return wrap(WELCOME, Welcome(3, (item,), sealed_info).encode())

    def sign(self, by: str = "p1", **change: object) -> GroupInfo:
        fields = {
            "context": self.info.context,
            "extensions": self.info.extensions,
            "confirmation_tag": self.info.confirmation_tag,
            "signer": self.info.signer,
        } | change
        key = self.room.people[by].signature_private
        return sign_group_info(SUITE_3, key, **fields)  # type: ignore[arg-type]
