"""What a malicious member could send besides breaking one rule: all refused.

One test for each rule of the RFC is in `test_validation_*`.
"""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from e2ee.codec import decode
from e2ee.errors import (
    DecryptionFailed,
    DuplicateKey,
    E2eeError,
    LimitExceeded,
    Malformed,
    UnsupportedSuite,
    UnsupportedVersion,
)
from e2ee.extension import encode_extensions
from e2ee.framing import Commit
from e2ee.key_package import KeyPackage
from e2ee.leaf import Capabilities, LeafNode, own_capabilities, sign_leaf
from e2ee.proposal import (
    Remove,
)
from e2ee.suite import SUITE_3, HpkeCiphertext
from tests.e2ee.forging import (
    bend,
    commit_refused,
    fresh_key,
    knock,
    own_path,
    package,
    proposal_refused,
)
from tests.e2ee.support import (
    NOW,
    SUITE_1,
    Room,
    bundle_for,
    forge,
    snapshot,
)


@pytest.fixture
def room() -> Room:
    return Room.of(4)


def refused(
    room: Room, error: type[E2eeError], message: bytes, *, at_hub: bool = True
) -> None:
    """Member p3 and the hub refuse a commit and stay as they were."""
    group = room["p3"]
    before = snapshot(group)
    with pytest.raises(error) as caught:
        group.process_commit(message, now=NOW)
    assert snapshot(group) == before
    if at_hub:
        hub = room.hub.encode()
        info = room["p0"].group_info()
        with pytest.raises(type(caught.value)):
            room.hub.process_commit(message, info, now=NOW)
        assert room.hub.encode() == hub


def test_a_thousand_proposals_are_enough(room: Room) -> None:
    message = forge(room["p0"], Commit((Remove(1),) * 1_001, None))
    refused(room, LimitExceeded, message)


def test_a_message_of_more_than_a_mebibyte(room: Room) -> None:
    refused(room, LimitExceeded, bytes(1024 * 1024 + 1))


def test_another_members_signature_key_cannot_be_taken(room: Room) -> None:
    # The leaf is signed with p1's key, which p0 somehow has.
    path = own_path(room)
    old = room["p0"]._epoch.tree.leaf(0)
    assert old is not None
    leaf = sign_leaf(
        SUITE_3,
        room.people["p1"].signature_private,
        encryption_key=fresh_key(),
        credential=old.credential,
        capabilities=old.capabilities,
        parent_hash=path.leaf_node.parent_hash,
        group_id=b"room",
        leaf=0,
    )
    message = forge(room["p0"], Commit((), replace(path, leaf_node=leaf)))
    refused(room, DuplicateKey, message)


def test_secrets_that_do_not_match_their_keys(room: Room) -> None:
    """What the hub cannot see, the members do."""
    path = own_path(room)
    sealed = path.nodes[1].encrypted_path_secret[0]
    flipped = bytes((sealed.ciphertext[0] ^ 1,)) + sealed.ciphertext[1:]
    for wrong in (
        HpkeCiphertext(sealed.kem_output, flipped),
        HpkeCiphertext(bytes(32), sealed.ciphertext),
        HpkeCiphertext(b"short", sealed.ciphertext),
        HpkeCiphertext(sealed.kem_output, b""),
    ):
        bent = bend(path, 1, encrypted_path_secret=(wrong,))
        message = forge(room["p0"], Commit((), bent))
        refused(room, DecryptionFailed, message, at_hub=False)


def test_every_flipped_byte_of_a_commit_is_refused(room: Room) -> None:
    staged = room["p0"].commit(add=[package().encoded], now=NOW)
    group = room["p3"]
    before = snapshot(group)
    for at in range(0, len(staged.commit), 3):
        wrong = bytearray(staged.commit)
        wrong[at] ^= 1 << (at % 8)
        with pytest.raises(E2eeError):
            group.process_commit(bytes(wrong), now=NOW)
        assert snapshot(group) == before
    group.process_commit(staged.commit, now=NOW)


def test_another_suite_is_named() -> None:
    from e2ee import PublicGroup

    room = Room.of(1)
    with pytest.raises(UnsupportedSuite):
        PublicGroup.create(
            room["p0"].group_info(),
            room["p0"].ratchet_tree(),
            now=NOW,
            validator=room.validator,
            suite=SUITE_1,
        )
    assert bundle_for("x", os.urandom(32), suite=SUITE_1).ref


# --- limits


def test_pending_proposals_have_a_limit(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("e2ee.proposal_store.MAX_PENDING", 2)
    for _ in range(2):
        room.propose("p0", room["p0"].propose_update())
    more = room["p0"].propose_update()
    proposal_refused(room, LimitExceeded, more)


def test_members_have_a_limit_from_outside_too(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, staged = knock(room, "q", os.urandom(32))
    monkeypatch.setattr("e2ee.transition.MAX_LEAVES", 4)
    commit_refused(room, LimitExceeded, staged.commit)


def test_lists_of_capabilities_have_a_limit() -> None:
    many = replace(own_capabilities(SUITE_3), extensions=tuple(range(300, 557)))
    with pytest.raises(Malformed):
        decode(many.encode(), Capabilities.read)


def test_leaves_and_key_packages_of_other_kinds_do_not_decode() -> None:
    good = package()
    leaf = good.leaf_node
    source = len(leaf.tbs) - len(encode_extensions(leaf.extensions)) - 17
    assert leaf.encoded[source] == 1
    strange = bytearray(leaf.encoded)
    strange[source] = 9
    with pytest.raises(Malformed):
        decode(bytes(strange), LeafNode.read)
    with pytest.raises(UnsupportedVersion):
        decode(b"\0\2" + good.encoded[2:], KeyPackage.read)
