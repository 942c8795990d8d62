"""Welcomes: what a newcomer checks before it believes a group."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from e2ee import ALLOW_ALL, Group, KeyPackageBundle
from e2ee.codepoint import RATCHET_TREE
from e2ee.errors import (
    BadConfirmationTag,
    BadSignature,
    CredentialRefused,
    DecryptionFailed,
    DuplicateKey,
    E2eeError,
    InvalidGroupInfo,
    InvalidWelcome,
    Malformed,
    Misuse,
    NoMatchingKeyPackage,
    TreeHashMismatch,
    UnsupportedSuite,
)
from e2ee.extension import Extension
from e2ee.group_info import GroupInfo
from e2ee.joining import read_welcome
from e2ee.member import UnsafeAllowAll
from tests.e2ee.forging import Invitation
from tests.e2ee.support import NOW, SUITE_1, Room, bundle_for, snapshot


@pytest.fixture
def invitation() -> Invitation:
    return Invitation()


def test_joining(invitation: Invitation) -> None:
    group = invitation.join(invitation.seal(invitation.sign()))
    assert group.epoch_authenticator == invitation.room["p0"].epoch_authenticator
    assert group.joined_with == invitation.bundle.ref
    assert group.context == invitation.room["p0"].context
    got = invitation.room["p0"].decrypt(group.encrypt(b"hi"))
    assert got.content == b"hi"
    # The interim transcript hash is right: the next commit confirms.
    staged = group.commit(now=NOW)
    invitation.room["p0"].process_commit(staged.commit, now=NOW)


def test_joining_without_a_path(invitation: Invitation) -> None:
    bare = Invitation(update=False)
    assert bare.secrets.path_secret is None
    group = bare.join()
    assert set(group._epoch.private_keys) == {2 * group.own_leaf}
    bare.room["p0"].process_commit(group.commit(now=NOW).commit, now=NOW)


def test_joining_at_epoch_1() -> None:
    room = Room()
    staged = room.add("p0", "q0")
    assert staged.epoch == 0 and room["q0"].epoch == 1
    room.commit("q0")


def test_the_tree_may_be_inside(invitation: Invitation) -> None:
    inside = Extension(RATCHET_TREE, invitation.tree)
    info = invitation.sign(extensions=(inside,))
    assert invitation.join(invitation.seal(info), b"").epoch


def test_no_tree_or_another(invitation: Invitation) -> None:
    with pytest.raises(InvalidGroupInfo):
        Group.join(
            invitation.message,
            [invitation.bundle],
            signature_private=invitation.key,
            ratchet_tree=None,
            now=NOW,
            validator=ALLOW_ALL,
        )
    old = Room.of(4).hub.ratchet_tree()
    with pytest.raises(TreeHashMismatch):
        invitation.join(tree=old)
    for broken in (b"", invitation.tree[:-1], invitation.tree + b"\0", b"\0"):
        with pytest.raises(Malformed):
            invitation.join(tree=broken)
    flipped = bytearray(invitation.tree)
    flipped[40] ^= 1
    with pytest.raises(E2eeError):
        invitation.join(tree=bytes(flipped))


def test_wrong_keys(invitation: Invitation) -> None:
    other = bundle_for("q", invitation.key)
    for bundle, error in (
        (other, NoMatchingKeyPackage),
        (replace(invitation.bundle, init_private=os.urandom(32)), DecryptionFailed),
        (replace(invitation.bundle, encryption_private=os.urandom(32)), Misuse),
    ):
        with pytest.raises(error):
            Group.join(
                invitation.message,
                [bundle],
                signature_private=invitation.key,
                ratchet_tree=invitation.tree,
                now=NOW,
                validator=ALLOW_ALL,
            )


def test_another_suite(invitation: Invitation) -> None:
    with pytest.raises(UnsupportedSuite):
        Group.join(
            invitation.message,
            [invitation.bundle],
            signature_private=invitation.key,
            ratchet_tree=invitation.tree,
            now=NOW,
            validator=ALLOW_ALL,
            suite=SUITE_1,
        )


def test_what_the_group_info_says(invitation: Invitation) -> None:
    context = invitation.info.context
    cases: list[tuple[GroupInfo, type[E2eeError]]] = [
        (invitation.sign(by="p2"), BadSignature),
        (invitation.sign(signer=2), BadSignature),
        (invitation.sign(signer=6), InvalidGroupInfo),
        (invitation.sign(signer=0xFFFFFFFF), InvalidGroupInfo),
        (invitation.sign(confirmation_tag=bytes(32)), BadConfirmationTag),
        (invitation.sign(context=replace(context, epoch=99)), BadConfirmationTag),
        (
            invitation.sign(context=replace(context, tree_hash=bytes(32))),
            TreeHashMismatch,
        ),
        (
            invitation.sign(context=replace(context, group_id=b"another")),
            BadSignature,  # of the leaves, which name their group
        ),
        (
            invitation.sign(context=replace(context, cipher_suite=1)),
            InvalidGroupInfo,
        ),
        (
            invitation.sign(
                context=replace(context, extensions=(Extension(0xF888, b""),))
            ),
            E2eeError,
        ),
    ]
    for info, error in cases:
        with pytest.raises(error):
            invitation.join(invitation.seal(info))


def test_what_the_secrets_say(invitation: Invitation) -> None:
    secrets = invitation.secrets
    for change, error in (
        ({"joiner_secret": bytes(32)}, BadConfirmationTag),
        ({"path_secret": bytes(32)}, InvalidWelcome),
        ({"path_secret": b"short"}, InvalidWelcome),
    ):
        bent = replace(secrets, **change)  # type: ignore[arg-type]
        message = invitation.seal(invitation.info, bent)
        with pytest.raises(error):
            invitation.join(message)


def test_someone_who_is_not_in_the_tree(invitation: Invitation) -> None:
    stranger = bundle_for("s", key := os.urandom(32))
    invitation.bundle = stranger
    invitation.key = key
    with pytest.raises(InvalidWelcome):
        invitation.join(invitation.seal(invitation.info))


def test_every_flipped_byte_is_refused(invitation: Invitation) -> None:
    for at in range(0, len(invitation.message), 2):
        wrong = bytearray(invitation.message)
        wrong[at] ^= 1 << (at % 8)
        with pytest.raises(E2eeError):
            invitation.join(bytes(wrong))


def test_members_are_validated(invitation: Invitation) -> None:
    class Picky(UnsafeAllowAll):
        def credential(
            self, identity: bytes, signature_key: bytes, *, fresh: bool
        ) -> None:
            if identity == b"p3":
                raise CredentialRefused("no")

    with pytest.raises(CredentialRefused):
        Group.join(
            invitation.message,
            [invitation.bundle],
            signature_private=invitation.key,
            ratchet_tree=invitation.tree,
            now=NOW,
            validator=Picky(),
        )


def test_one_welcome_per_added_member() -> None:
    room = Room.of(2)
    keys = [os.urandom(32) for _ in range(5)]
    bundles = [bundle_for(f"q{number}", key) for number, key in enumerate(keys)]
    staged = room["p0"].commit(add=[b.key_package for b in bundles], now=NOW)
    assert [ref for ref, _ in staged.welcomes] == [b.ref for b in bundles]
    room.deliver("p0", staged)
    tree = room.hub.ratchet_tree()
    sealed = {
        read_welcome(message).encrypted_group_info for _, message in staged.welcomes
    }
    assert len(sealed) == 1
    for (_, message), bundle, key in zip(staged.welcomes, bundles, keys, strict=True):
        assert len(read_welcome(message).secrets) == 1
        assert tree not in message
        group = Group.join(
            message,
            bundles,
            signature_private=key,
            ratchet_tree=tree,
            now=NOW,
            validator=ALLOW_ALL,
        )
        assert group.joined_with == bundle.ref


def test_two_welcomes_to_one_key_package() -> None:
    """Both open as long as the bundle is kept: whoever joined must delete it."""
    key = os.urandom(32)
    bundle = bundle_for("q", key)
    groups = []
    for _ in range(2):
        room = Room.of(2)
        staged = room["p0"].commit(add=[bundle.key_package], now=NOW)
        room.deliver("p0", staged)
        groups.append(
            Group.join(
                staged.welcomes[0][1],
                [bundle],
                signature_private=key,
                ratchet_tree=room.hub.ratchet_tree(),
                now=NOW,
                validator=ALLOW_ALL,
            )
        )
        left: list[KeyPackageBundle] = []
        with pytest.raises(NoMatchingKeyPackage):
            Group.join(
                staged.welcomes[0][1],
                left,
                signature_private=key,
                ratchet_tree=None,
                now=NOW,
                validator=ALLOW_ALL,
            )
    assert snapshot(groups[0]) != snapshot(groups[1])


def test_a_tree_with_a_repeated_key_is_refused() -> None:
    """A committer who puts its own parent key twice into the tree."""
    room = Room.of(2)
    tree = room["p0"]._epoch.tree.copy()
    leaf = tree.leaf(1)
    assert leaf is not None
    tree.add_leaf(leaf)
    from e2ee.tree_validation import validate_tree

    with pytest.raises(DuplicateKey):
        validate_tree(tree, b"room", (), ALLOW_ALL)
