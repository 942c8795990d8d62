"""RFC 9420 sections 12.4.3 and 12.4.3.1: what a newcomer verifies, a test per rule."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from e2ee import ALLOW_ALL, Group
from e2ee.codec import Reader, decode, vector
from e2ee.codepoint import (
    PSK_EXTERNAL,
    PSK_RESUMPTION,
    RATCHET_TREE,
    USAGE_APPLICATION,
    USAGE_BRANCH,
    USAGE_REINIT,
)
from e2ee.errors import (
    BadConfirmationTag,
    BadPathSecret,
    BadSignature,
    DecryptionFailed,
    E2eeError,
    GroupIdTaken,
    InvalidGroupInfo,
    InvalidLink,
    InvalidWelcome,
    Malformed,
    NoMatchingKeyPackage,
    NotInTree,
    SignerMissing,
    UnknownPsk,
    UnsupportedExtension,
    UnsupportedSuite,
)
from e2ee.extension import Extension, read_extensions
from e2ee.framing import wrap
from e2ee.joining import find_bundle, open_welcome, read_welcome
from e2ee.key_package import KeyPackage
from e2ee.psk import PreSharedKeyId
from e2ee.suite import SUITE_3
from e2ee.welcome import Welcome
from tests.e2ee.forging import Invitation
from tests.e2ee.support import NOW, SUITE_1, bundle_for


@pytest.fixture
def invitation() -> Invitation:
    return Invitation()


def refused(
    invitation: Invitation, error: type[E2eeError], message: bytes | None = None
) -> None:
    """Nobody joins by this; the KeyPackage still serves the right Welcome."""
    with pytest.raises(E2eeError) as caught:
        invitation.join(message)
    assert type(caught.value) is error, repr(caught.value)
    if message is not None:
        assert invitation.join().epoch == invitation.room["p0"].epoch


def test_welcome_must_be_for_one_of_our_key_packages(invitation: Invitation) -> None:
    """Section 12.4.3.1: an entry's new_member is one of our KeyPackages."""
    invitation.bundle = bundle_for("q", invitation.key)
    refused(invitation, NoMatchingKeyPackage)


def test_welcome_suite_must_be_the_key_packages(invitation: Invitation) -> None:
    """Section 12.4.3.1: the suites of Welcome and KeyPackage match."""
    welcome = read_welcome(invitation.message)
    other = replace(welcome, cipher_suite=1)
    refused(invitation, UnsupportedSuite, wrap(3, other.encode()))
    bundle = bundle_for("q", invitation.key, suite=SUITE_1)
    invitation.bundle = replace(bundle, ref=invitation.bundle.ref)
    refused(invitation, UnsupportedSuite)


def test_group_secrets_must_open(invitation: Invitation) -> None:
    """Section 12.4.3.1: they decrypt with the KeyPackage's init key."""
    private, _ = SUITE_3.kem.derive_key_pair(os.urandom(32))
    invitation.bundle = replace(invitation.bundle, init_private=private)
    refused(invitation, DecryptionFailed)


def test_group_secrets_must_be_bound_to_the_group_info(invitation: Invitation) -> None:
    """Section 12.4.3.1: encrypted_group_info is the context of their encryption."""
    welcome = read_welcome(invitation.message)
    other = Welcome(3, welcome.secrets, welcome.encrypted_group_info + b"\0")
    refused(invitation, DecryptionFailed, wrap(3, other.encode()))


def psk_of(type_: int = PSK_RESUMPTION, usage: int = USAGE_REINIT) -> PreSharedKeyId:
    if type_ == PSK_EXTERNAL:
        return PreSharedKeyId(type_, psk_id=b"x", nonce=bytes(32))
    return PreSharedKeyId(
        type_, usage=usage, group_id=b"old", epoch=5, nonce=os.urandom(32)
    )


def with_psks(invitation: Invitation, *psks: PreSharedKeyId) -> bytes:
    return invitation.seal(invitation.info, replace(invitation.secrets, psks=psks))


def test_welcome_psks_must_be_known(invitation: Invitation) -> None:
    """Section 12.4.3.1: a PSK that we do not possess is an error."""
    refused(invitation, UnknownPsk, with_psks(invitation, psk_of(PSK_EXTERNAL)))
    resumption = psk_of(usage=USAGE_APPLICATION)
    refused(invitation, UnknownPsk, with_psks(invitation, resumption))


def test_welcome_must_hold_one_linking_psk_at_most(invitation: Invitation) -> None:
    """Section 12.4.3.1: a PSK of usage reinit or branch is the only such one."""
    two = with_psks(invitation, psk_of(), psk_of(usage=USAGE_BRANCH))
    refused(invitation, InvalidLink, two)


def test_group_info_must_open(invitation: Invitation) -> None:
    """Section 12.4.3.1: it decrypts with the key from joiner secret and PSKs."""
    message = invitation.seal(
        invitation.info, replace(invitation.secrets, joiner_secret=bytes(32))
    )
    # The sealer used the same wrong joiner secret: the tag tells.
    refused(invitation, BadConfirmationTag, message)
    welcome = read_welcome(invitation.message)
    package = decode(invitation.bundle.key_package, KeyPackage.read)
    wrong = replace(invitation.secrets, joiner_secret=bytes(32))
    sealed = SUITE_3.encrypt_with_label(
        package.init_key, "Welcome", welcome.encrypted_group_info, wrong.encode()
    )
    item = replace(welcome.secrets[0], sealed=sealed)
    message = wrap(3, replace(welcome, secrets=(item,)).encode())
    refused(invitation, InvalidWelcome, message)


def test_group_info_signature_must_verify(invitation: Invitation) -> None:
    """Sections 12.4.3 and 12.4.3.1: new members MUST verify the signature."""
    for info in (invitation.sign(by="p2"), invitation.sign(signer=2)):
        refused(invitation, BadSignature, invitation.seal(info))


def test_group_info_signer_must_be_a_member(invitation: Invitation) -> None:
    """Section 12.4.3.1: a blank signer's leaf is an error."""
    for signer in (6, 0xFFFFFFFF):
        info = invitation.sign(signer=signer)
        refused(invitation, SignerMissing, invitation.seal(info))


def test_group_id_must_be_new(invitation: Invitation) -> None:
    """Section 12.4.3: group_id is unique among the groups that we are in."""

    def join(known: set[bytes]) -> Group:
        return Group.join(
            invitation.message,
            [invitation.bundle],
            signature_private=invitation.key,
            ratchet_tree=invitation.tree,
            now=NOW,
            validator=ALLOW_ALL,
            known_groups=known,
        )

    with pytest.raises(GroupIdTaken):
        join({b"room"})
    assert join({b"other"}).active


def test_group_info_suite_must_be_the_key_packages(invitation: Invitation) -> None:
    """Section 12.4.3.1: the GroupInfo's cipher suite is the KeyPackage's."""
    context = replace(invitation.info.context, cipher_suite=1)
    info = invitation.sign(context=context)
    refused(invitation, InvalidGroupInfo, invitation.seal(info))


def test_our_leaf_must_be_in_the_tree(invitation: Invitation) -> None:
    """Section 12.4.3.1: a leaf is identical to the one in our KeyPackage."""
    invitation.key = os.urandom(32)
    invitation.bundle = bundle_for("q", invitation.key)
    with pytest.raises(NotInTree):
        invitation.join(invitation.seal(invitation.info))


def test_path_secret_must_lead_to_the_tree_keys(invitation: Invitation) -> None:
    """Section 12.4.3.1: private keys MUST correspond to the tree's public keys."""
    for secret in (os.urandom(32), b"short"):
        bent = replace(invitation.secrets, path_secret=secret)
        message = invitation.seal(invitation.info, bent)
        refused(invitation, BadPathSecret, message)


def test_welcome_confirmation_tag_must_verify(invitation: Invitation) -> None:
    """Section 12.4.3.1: the GroupInfo's tag is verified with the derived key."""
    info = invitation.sign(confirmation_tag=bytes(32))
    refused(invitation, BadConfirmationTag, invitation.seal(info))


def test_welcome_context_must_be_the_groups(invitation: Invitation) -> None:
    """Section 8.1: another epoch or transcript derives other secrets."""
    context = invitation.info.context
    for other in (
        replace(context, epoch=99),
        replace(context, confirmed_transcript_hash=bytes(32)),
    ):
        info = invitation.sign(context=other)
        refused(invitation, BadConfirmationTag, invitation.seal(info))


def test_context_extensions_must_be_supported_by_the_joiner(
    invitation: Invitation,
) -> None:
    """Sections 12.4.3 and 13.4: else GroupInfo is invalid and nobody joins."""
    context = replace(invitation.info.context, extensions=(Extension(0xF888, b""),))
    info = invitation.sign(context=context)
    refused(invitation, UnsupportedExtension, invitation.seal(info))


def test_unknown_group_info_extensions_must_be_ignored(invitation: Invitation) -> None:
    """Sections 12.4.3 and 13.4: unknown ones in GroupInfo.extensions MUST be."""
    extensions = (
        *invitation.info.extensions,
        Extension(0xF777, b"?"),
        Extension(RATCHET_TREE, invitation.tree),
    )
    message = invitation.seal(invitation.sign(extensions=extensions))
    assert invitation.join(message, b"").epoch == invitation.room["p0"].epoch


def test_group_info_extension_types_must_not_repeat(invitation: Invitation) -> None:
    """Section 13.4: at most one extension of any type in a list."""
    with pytest.raises(Malformed):
        invitation.sign(extensions=(Extension(0xF777, b""),) * 2)
    one = Extension(0xF777, b"").encode()
    with pytest.raises(Malformed):
        read_extensions(Reader(vector(one * 2)))


def test_linked_welcome_must_be_expected(invitation: Invitation) -> None:
    """Sections 11.2 and 11.3: without the old group nothing linked is joined."""
    psk = psk_of()
    message = with_psks(invitation, psk)
    welcome = read_welcome(message)
    bundle, item = find_bundle(welcome, [invitation.bundle])
    with pytest.raises(UnknownPsk):
        open_welcome(SUITE_3, welcome, bundle, item, lambda _: None)
    refused(invitation, UnknownPsk, message)
    # And a group that is linked to nothing is not the successor that we expect.
    old = invitation.room["p2"]
    with pytest.raises(InvalidLink):
        Group.join(
            invitation.message,
            [invitation.bundle],
            signature_private=invitation.key,
            ratchet_tree=invitation.tree,
            now=NOW,
            validator=ALLOW_ALL,
            old=old,
        )
