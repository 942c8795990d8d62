"""What a malicious member could send besides breaking one rule: all refused.

One test for each rule of the RFC is in `test_validation_*`.
"""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from e2ee.errors import (
    DecryptionFailed,
    DuplicateKey,
    E2eeError,
    LimitExceeded,
    UnsupportedSuite,
)
from e2ee.framing import Commit
from e2ee.leaf import sign_leaf
from e2ee.proposal import (
    Remove,
)
from e2ee.suite import SUITE_3, HpkeCiphertext
from tests.e2ee.forging import (
    bend,
    fresh_key,
    own_path,
    package,
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
