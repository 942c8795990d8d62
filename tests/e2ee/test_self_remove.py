"""SelfRemove (draft-ietf-mls-extensions): leaving by one's wish, a test per rule."""

from __future__ import annotations

from dataclasses import replace

import pytest

from e2ee.codepoint import (
    BASIC,
    MEMBER,
    PRIVATE_MESSAGE,
)
from e2ee.errors import (
    CommitterRemoved,
    LeafTwice,
    SelfRemoveByValue,
    SelfRemoveHidden,
)
from e2ee.extension import (
    Credential,
)
from e2ee.framing import (
    FramedContent,
    Sender,
)
from e2ee.leaf import Lifetime, own_capabilities, sign_leaf
from e2ee.proposal import (
    Remove,
    SelfRemove,
)
from e2ee.protection import sign_framed
from e2ee.suite import SUITE_3
from tests.e2ee.forging import (
    fresh_key,
    list_refused,
    package,
    proposal_refused,
    proposed,
)
from tests.e2ee.support import NOW, Room, rng


@pytest.fixture
def room() -> Room:
    return Room.of(4)


def test_self_remove_is_committed_by_another(room: Room) -> None:
    """It is a removal like others, of its sender and by its wish."""
    room.propose("p1", room["p1"].propose_leaving())
    assert room["p0"].pending_proposals[0].kind == "self_remove"
    effects = room.commit("p2").effects
    assert [member.identity for member in effects.removed] == [b"p1"]
    (action,) = effects.actions
    assert action.kind == "remove" and action.by_reference
    assert action.proposer == action.subject == effects.removed[0]


def test_self_remove_must_be_by_reference(room: Room) -> None:
    """SelfRemove proposals are only allowed in a commit by reference."""
    list_refused(room, SelfRemoveByValue, SelfRemove())


def test_self_remove_must_not_be_the_committers(room: Room) -> None:
    """It is a Remove of the committer (section 12.2)."""
    ref = proposed(room, "p0", room["p0"].propose_leaving())
    list_refused(room, CommitterRemoved, ref)


def test_self_remove_and_remove_must_not_meet(room: Room) -> None:
    """With a SelfRemove of a leaf, a Remove of it is invalid; the first is taken."""
    ref = proposed(room, "p1", room["p1"].propose_leaving())
    list_refused(room, LeafTwice, ref, Remove(1))
    room.propose("p2", room["p2"].propose_remove(1))
    effects = room.commit("p0").effects
    assert effects.actions[0].proposer.identity == b"p1"


def test_self_remove_must_be_a_public_message(room: Room) -> None:
    """External joiners must be able to read it."""
    group = room["p1"]
    group.encrypt_handshakes = True
    room.propose("p1", group.propose_leaving())
    content = FramedContent.make(
        b"room", group.epoch, Sender(MEMBER, 1), b"", SelfRemove()
    )
    hidden = group._encrypted(
        sign_framed(
            SUITE_3,
            group._signature_private,
            PRIVATE_MESSAGE,
            content,
            group._epoch.encoded_context,
        )
    )
    proposal_refused(room, SelfRemoveHidden, hidden, at_hub=False)


def test_self_remove_must_not_be_issued_twice(room: Room) -> None:
    """A client MUST NOT issue more than one in an epoch: it gives the same again."""
    assert room["p1"].propose_leaving() == room["p1"].propose_leaving()
    assert len(room["p1"].pending_proposals) == 1


def test_leaving_a_group_without_self_remove(room: Room) -> None:
    """If a member does not support it, leaving is an ordinary Remove."""
    key = rng(32)
    leaf = sign_leaf(
        SUITE_3,
        key,
        encryption_key=fresh_key(),
        credential=Credential(BASIC, b"old"),
        capabilities=replace(own_capabilities(SUITE_3), proposals=()),
        lifetime=Lifetime(NOW - 5, NOW + 5),
    )
    added = package(key=key, leaf=leaf).encoded
    room.deliver("p0", room["p0"].commit(add=[added], now=NOW))
    room.propose("p1", room["p1"].propose_leaving())
    assert room["p0"].pending_proposals[0].kind == "remove"
