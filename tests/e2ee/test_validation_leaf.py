"""RFC 9420 sections 7.2 and 7.3: what a leaf must be, one test for each rule.

A leaf comes in by an Add, an Update or the path of a commit, or stands in a tree that
somebody joins by.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial

import pytest

from e2ee import UnsafeAllowAll
from e2ee.codec import decode
from e2ee.codepoint import (
    BASIC,
    DEFAULT_EXTENSIONS,
    DEFAULT_PROPOSALS,
    NEW_MEMBER_COMMIT,
    SELF_REMOVE,
    TELEX_ROOM,
    X509,
)
from e2ee.errors import (
    BadSignature,
    CapabilityMissing,
    CredentialRefused,
    CredentialTypeRefused,
    CredentialUnsupported,
    DuplicateEncryptionKey,
    DuplicateSignatureKey,
    E2eeError,
    EncryptionKeyKept,
    InvalidLeafKey,
    KeyPackageLeafSource,
    LeafLacksCredential,
    LeafLacksExtension,
    LeafLacksProtocol,
    LeafLacksRequired,
    LifetimeExpired,
    LifetimeTooLong,
    UnsupportedExtension,
    WrongLeafSource,
)
from e2ee.extension import Credential, Extension, RequiredCapabilities
from e2ee.framing import Commit, Sender
from e2ee.key_package import KeyPackage
from e2ee.leaf import (
    MAX_LIFETIME,
    LeafNode,
    Lifetime,
    greased_leaf_fields,
    own_capabilities,
    sign_leaf,
)
from e2ee.member import ALLOW_ALL
from e2ee.proposal import Add, GroupContextExtensions, Update
from e2ee.ratchet_tree import RatchetTree
from e2ee.suite import SUITE_3
from e2ee.tree_validation import validate_tree
from tests.e2ee.forging import (
    commit_leaf,
    commit_refused,
    fresh_key,
    knock,
    list_refused,
    package,
    proposal_refused,
    unchanged,
    update_leaf,
    with_leaf,
)
from tests.e2ee.support import NOW, Room, commit_in, forge, rng_of

PLAIN = own_capabilities(SUITE_3)


@pytest.fixture
def room() -> Room:
    return Room.of(4)


def newcomer(key: bytes | None = None, **change: object) -> KeyPackage:
    """A KeyPackage whose leaf is signed whatever is changed in it."""
    key = key or os.urandom(32)
    fields: dict[str, object] = {
        "encryption_key": fresh_key(),
        "credential": Credential(BASIC, b"q"),
        "capabilities": PLAIN,
        "lifetime": Lifetime(NOW - 5, NOW + 5),
    }
    leaf = sign_leaf(SUITE_3, key, **(fields | change))  # type: ignore[arg-type]
    return package(key=key, leaf=leaf)


def everywhere(room: Room, error: type[E2eeError], **change: object) -> None:
    """The same fault is refused in an Add, an Update and the path of a commit."""
    list_refused(room, error, Add(newcomer(None, **change)))
    update = Update(update_leaf(room["p0"], **change))
    proposal_refused(room, error, forge(room["p0"], update))
    commit_refused(room, error, with_leaf(room, commit_leaf(room, **change)))


def test_leaf_credential_must_be_valid(room: Room) -> None:
    """Section 7.3 (5.3.1): the application accepts the credential for the key."""

    class Picky(UnsafeAllowAll):
        def credential(
            self, identity: bytes, signature_key: bytes, *, fresh: bool
        ) -> None:
            if identity == b"mallory":
                raise CredentialRefused("no")

    room.hub = replace(room.hub, validator=Picky())
    room["p3"]._validator = Picky()
    everywhere(room, CredentialRefused, credential=Credential(BASIC, b"mallory"))


def test_leaf_credential_must_be_of_a_type_that_can_be_validated(room: Room) -> None:
    """Section 5.3.1: what cannot be validated is not valid; here only basic is."""
    both = replace(PLAIN, credentials=(BASIC, X509))
    everywhere(
        room,
        CredentialTypeRefused,
        credential=Credential(X509, b""),
        capabilities=both,
    )


def test_leaf_signature_must_verify(room: Room) -> None:
    """Section 7.3: the signature verifies with the leaf's own key."""
    good = newcomer()
    broken = bytearray(good.encoded)
    broken[good.encoded.index(good.leaf_node.signature)] ^= 1
    list_refused(room, BadSignature, Add(decode(bytes(broken), KeyPackage.read)))


def test_leaf_of_an_update_is_bound_to_group_and_index(room: Room) -> None:
    """Section 7.2: an Update's and a commit's leaf sign the group id and leaf index."""
    for change in ({"leaf": 1}, {"group_id": b"elsewhere"}):
        update = Update(update_leaf(room["p0"], **change))
        proposal_refused(room, BadSignature, forge(room["p0"], update))
        message = with_leaf(room, commit_leaf(room, **change))
        commit_refused(room, BadSignature, message)


def test_leaf_must_list_the_version(room: Room) -> None:
    """Sections 7.3 and 11.1: the leaf supports the group's protocol version."""
    capabilities = replace(PLAIN, versions=(2,))
    everywhere(room, LeafLacksProtocol, capabilities=capabilities)


def test_leaf_must_list_the_cipher_suite(room: Room) -> None:
    """Sections 7.3 and 11.1: the leaf supports the group's cipher suite."""
    capabilities = replace(PLAIN, cipher_suites=(1,))
    everywhere(room, LeafLacksProtocol, capabilities=capabilities)


def test_leaf_must_list_required_extensions(room: Room) -> None:
    """Sections 7.3 and 11.1: required extensions are in the leaf's capabilities."""
    needs = RequiredCapabilities(extensions=(TELEX_ROOM,)).extension()
    room.deliver("p0", room["p0"].commit(extensions=[needs], now=NOW))
    everywhere(room, LeafLacksRequired, capabilities=replace(PLAIN, extensions=()))


def test_leaf_must_list_required_proposals(room: Room) -> None:
    """Sections 7.3 and 11.1: required proposals are in the leaf's capabilities."""
    needs = RequiredCapabilities(proposals=(SELF_REMOVE,)).extension()
    room.deliver("p0", room["p0"].commit(extensions=[needs], now=NOW))
    everywhere(room, LeafLacksRequired, capabilities=replace(PLAIN, proposals=()))


def test_leaf_must_list_required_credentials(room: Room) -> None:
    """Sections 7.3 and 11.1: required credentials have no default."""
    needs = RequiredCapabilities(credentials=(BASIC,)).extension()
    room.deliver("p0", room["p0"].commit(extensions=[needs], now=NOW))
    x509 = {
        "credential": Credential(X509, b""),
        "capabilities": replace(PLAIN, credentials=(X509,)),
    }
    everywhere(room, LeafLacksRequired, **x509)


def test_default_types_are_never_missing(room: Room) -> None:
    """Section 11.1: default extensions and proposals need not be listed."""
    needs = RequiredCapabilities(
        extensions=tuple(DEFAULT_EXTENSIONS), proposals=tuple(DEFAULT_PROPOSALS)
    )
    staged = room["p0"].commit(extensions=[needs.extension()], now=NOW)
    room.deliver("p0", staged)
    room.add("p1", "q")


def test_default_types_must_not_be_listed() -> None:
    """Section 7.2: default proposal and extension types MUST NOT be listed."""
    for capabilities in (PLAIN, greased_leaf_fields(SUITE_3, rng_of(1))[0]):
        assert DEFAULT_EXTENSIONS.isdisjoint(capabilities.extensions)
        assert DEFAULT_PROPOSALS.isdisjoint(capabilities.proposals)


def test_all_supported_values_must_be_listed(room: Room) -> None:
    """Section 7.2: the client lists all values that it supports."""
    leaf = room["p0"]._epoch.tree.leaf(0)
    assert leaf is not None
    listed = leaf.capabilities
    assert 1 in listed.versions and SUITE_3.id in listed.cipher_suites
    assert TELEX_ROOM in listed.extensions and SELF_REMOVE in listed.proposals
    assert BASIC in listed.credentials


def test_unknown_capabilities_must_be_ignored(room: Room) -> None:
    """Section 7.2: unknown values in capabilities MUST be ignored."""
    strange = replace(
        PLAIN,
        versions=(1, 0xABCD),
        cipher_suites=(3, 0xABCD),
        extensions=(*PLAIN.extensions, 0xABCD),
        proposals=(*PLAIN.proposals, 0xABCD),
        credentials=(BASIC, 0xABCD),
    )
    added = newcomer(capabilities=strange).encoded
    room.deliver("p0", room["p0"].commit(add=[added], now=NOW))
    assert room["p3"].members()[-1].identity == b"q"


def tree_of(*leaves: LeafNode) -> RatchetTree:
    tree = RatchetTree.of(SUITE_3, [leaves[0]])
    for leaf in leaves[1:]:
        tree.add_leaf(leaf)
    return tree


def test_leaf_credential_type_must_be_supported_by_all_members() -> None:
    """Section 7.3: every member's capabilities list the leaf's credential type."""
    both = replace(PLAIN, credentials=(BASIC, X509))
    basic = newcomer().leaf_node
    x509 = newcomer(credential=Credential(X509, b""), capabilities=both).leaf_node
    with pytest.raises(CredentialUnsupported):
        validate_tree(tree_of(basic, x509), b"room", (), ALLOW_ALL)


def test_leaf_must_support_all_credential_types_in_use() -> None:
    """Section 7.3: the leaf's capabilities list the types that others use."""
    both = replace(PLAIN, credentials=(BASIC, X509))
    basic = newcomer(capabilities=both).leaf_node
    only = replace(PLAIN, credentials=(X509,))
    x509 = newcomer(credential=Credential(X509, b""), capabilities=only).leaf_node
    with pytest.raises(CredentialUnsupported):
        validate_tree(tree_of(x509, basic), b"room", (), ALLOW_ALL)


def test_leaf_credential_type_must_be_listed_by_itself(room: Room) -> None:
    """Section 7.2: the credential type used MUST be in the leaf's capabilities."""
    everywhere(room, LeafLacksCredential, capabilities=replace(PLAIN, credentials=()))


def test_sender_must_verify_the_lifetime(room: Room) -> None:
    """Section 7.3: who sends a leaf MUST verify that now is within its lifetime."""
    group = room["p0"]
    for lifetime in (Lifetime(NOW + 1, NOW + 9), Lifetime(NOW - 9, NOW - 1)):
        added = newcomer(lifetime=lifetime).encoded
        unchanged(group, LifetimeExpired, partial(group.commit, add=[added], now=NOW))


def test_hub_verifies_the_lifetime_but_late_members_do_not(room: Room) -> None:
    """Section 7.3: receivers SHOULD; one that catches up late must not be stuck."""
    staged = room["p0"].commit(add=[newcomer().encoded], now=NOW)
    with pytest.raises(LifetimeExpired):
        room.hub.process_commit(staged.commit, staged.group_info, now=NOW + 6)
    room["p3"].process_commit(staged.commit, now=NOW + 10**9)


def test_leaf_lifetime_must_not_be_too_long(room: Room) -> None:
    """Section 7.2: a leaf with a longer total lifetime than the maximum is rejected."""
    group = room["p0"]
    long = Lifetime(NOW - 1, NOW + MAX_LIFETIME)
    added = newcomer(lifetime=long).encoded
    unchanged(group, LifetimeTooLong, lambda: group.commit(add=[added], now=NOW))


def test_leaf_extensions_must_be_listed(room: Room) -> None:
    """Sections 7.2 and 7.3: each extension's type is in the leaf's capabilities."""
    everywhere(room, LeafLacksExtension, extensions=(Extension(0xF321, b""),))


def test_leaf_source_must_be_key_package_in_an_add(room: Room) -> None:
    """Section 7.3: in a KeyPackage leaf_node_source is key_package."""
    wrong = newcomer(lifetime=None, group_id=b"room", leaf=4)
    list_refused(room, KeyPackageLeafSource, Add(wrong))


def test_leaf_source_must_be_update_in_an_update(room: Room) -> None:
    """Section 7.3: in an Update leaf_node_source is update."""
    for change in ({"parent_hash": bytes(32)}, {"lifetime": Lifetime(0, NOW * 2)}):
        update = Update(update_leaf(room["p0"], **change))
        proposal_refused(room, WrongLeafSource, forge(room["p0"], update))


def test_leaf_source_must_be_commit_in_a_path(room: Room) -> None:
    """Sections 7.3 and 12.4.2: in an UpdatePath leaf_node_source is commit."""
    for leaf in (
        update_leaf(room["p0"]),
        update_leaf(room["p0"], lifetime=Lifetime(NOW - 5, NOW + 5)),
    ):
        commit_refused(room, WrongLeafSource, with_leaf(room, leaf))


def test_update_must_change_the_encryption_key(room: Room) -> None:
    """Section 7.3: an Update's encryption key differs from the replaced leaf's."""
    old = room["p0"]._epoch.tree.leaf(0)
    assert old is not None
    update = Update(update_leaf(room["p0"], encryption_key=old.encryption_key))
    proposal_refused(room, EncryptionKeyKept, forge(room["p0"], update))


def test_leaf_signature_key_must_be_unique(room: Room) -> None:
    """Section 7.3: no two members have one signature key."""
    taken = room.people["p2"].signature_private
    list_refused(room, DuplicateSignatureKey, Add(newcomer(key=taken)))


def test_leaf_encryption_key_must_be_unique(room: Room) -> None:
    """Section 7.3: no two members have one encryption key."""
    other = room["p0"]._epoch.tree.leaf(2)
    assert other is not None
    taken = Add(newcomer(encryption_key=other.encryption_key))
    message = forge(room["p0"], Commit((taken,), None))
    commit_refused(room, DuplicateEncryptionKey, message)


def test_leaf_encryption_key_must_be_a_key(room: Room) -> None:
    """Section 5.1.1: public keys are of the suite's form."""
    everywhere(room, InvalidLeafKey, encryption_key=b"short")


def test_members_must_support_extensions_of_the_group(room: Room) -> None:
    """Section 13.4: a new member lists each extension in the GroupContext."""
    staged = room["p0"].commit(extensions=[Extension(TELEX_ROOM, b"x")], now=NOW)
    room.deliver("p0", staged)
    without = Add(newcomer(capabilities=replace(PLAIN, extensions=())))
    list_refused(room, UnsupportedExtension, without)


def test_current_members_must_have_what_is_newly_required(room: Room) -> None:
    """Section 11.1: a GroupContextExtensions requires what all members support."""
    needs = RequiredCapabilities(proposals=(0xF999,)).extension()
    list_refused(room, CapabilityMissing, GroupContextExtensions((needs,)))


def test_external_joiner_must_have_required_capabilities(room: Room) -> None:
    """Section 11.1: what is required holds for who joins by external commit."""
    needs = RequiredCapabilities(proposals=(SELF_REMOVE,)).extension()
    room.deliver("p0", room["p0"].commit(extensions=[needs], now=NOW))
    key = os.urandom(32)
    _, staged = knock(room, "q", key)
    commit = commit_in(staged)
    assert commit.path is not None
    leaf = sign_leaf(
        SUITE_3,
        key,
        encryption_key=fresh_key(),
        credential=Credential(BASIC, b"q"),
        capabilities=replace(PLAIN, proposals=()),
        parent_hash=commit.path.leaf_node.parent_hash,
        group_id=b"room",
        leaf=4,
    )
    message = forge(
        room["p0"],
        Commit(commit.proposals, replace(commit.path, leaf_node=leaf)),
        sender=Sender(NEW_MEMBER_COMMIT),
        signature_private=key,
    )
    commit_refused(room, LeafLacksRequired, message)


def test_every_leaf_of_a_joined_tree_must_be_valid() -> None:
    """Sections 7.3 and 12.4.3.1: the leaves of a tree are held to the same rules."""
    for change, error in (
        ({"capabilities": replace(PLAIN, versions=(2,))}, LeafLacksProtocol),
        ({"extensions": (Extension(0xF321, b""),)}, LeafLacksExtension),
        ({"encryption_key": b"short"}, InvalidLeafKey),
        ({"group_id": b"room", "lifetime": None, "leaf": 5}, BadSignature),
    ):
        bad = newcomer(**change).leaf_node
        with pytest.raises(error):
            validate_tree(tree_of(newcomer().leaf_node, bad), b"room", (), ALLOW_ALL)
