"""RFC 9420 section 12.1.8: proposals from outside of the group, a test per rule."""

from __future__ import annotations

import pytest

from e2ee.codec import decode
from e2ee.codepoint import (
    BASIC,
    EXTERNAL,
    MEMBER,
    NEW_MEMBER_COMMIT,
    NEW_MEMBER_PROPOSAL,
)
from e2ee.errors import (
    BadSignature,
    SenderForbidden,
    UnknownSender,
)
from e2ee.extension import (
    Credential,
    ExternalSender,
    external_senders_extension,
)
from e2ee.external_proposal import propose_externally, propose_joining
from e2ee.framing import PrivateMessage, PublicMessage, Sender, read_framed
from e2ee.key_package import KeyPackage
from e2ee.proposal import (
    Add,
    ExternalInit,
    GroupContextExtensions,
    Proposal,
    ReInit,
    Remove,
    SelfRemove,
    Update,
)
from e2ee.protection import unprotect_private
from e2ee.suite import SUITE_3
from tests.e2ee.forging import (
    package,
    proposal_refused,
    update_leaf,
)
from tests.e2ee.support import NOW, Room, bundle_for, forge, rng


@pytest.fixture
def room() -> Room:
    return Room.of(4)


def test_update_must_come_from_a_member(room: Room) -> None:
    """Section 12.1.2: an Update replaces its sender's leaf, so it has one."""
    hub_key = listed(room)
    update = Update(update_leaf(room["p0"]))
    with pytest.raises(SenderForbidden):
        outside(room, hub_key, update)


def listed(room: Room) -> bytes:
    """List an external sender, and give its key."""
    key = rng(32)
    sender = ExternalSender(SUITE_3.signature.public(key), Credential(BASIC, b"hub"))
    extension = external_senders_extension([sender])
    room.deliver("p0", room["p0"].commit(extensions=[extension], now=NOW))
    return key


def outside(room: Room, key: bytes, proposal: Proposal, index: int = 0) -> bytes:
    return propose_externally(
        proposal,
        group_id=room.hub.group_id,
        epoch=room.hub.epoch,
        sender_index=index,
        signature_private=key,
    )


def test_external_sender_may_propose(room: Room) -> None:
    """Section 12.1.8: add, remove, psk, reinit and group_context_extensions."""
    key = listed(room)
    bundle = bundle_for("q", rng(32))
    add = Add(package_of(bundle.key_package))
    keep = GroupContextExtensions(room.hub.context.extensions)
    for proposal in (Remove(1), add, keep):
        room.propose("hub", outside(room, key, proposal))
    actions = room.commit("p2").effects.actions
    assert {action.kind for action in actions} == {
        "remove",
        "add",
        "group_context_extensions",
    }
    assert all(action.proposer.identity == b"hub" for action in actions)
    room.propose("hub", outside(room, key, ReInit(b"new", 1, 3, ())))
    assert room["p3"].pending_proposals[0].kind == "reinit"


def package_of(encoded: bytes) -> KeyPackage:
    return decode(encoded, KeyPackage.read)


def test_external_sender_must_not_propose_other_types(room: Room) -> None:
    """Section 12.1.8: other types from external senders MUST be rejected."""
    key = listed(room)
    sender = Sender(EXTERNAL, 0)
    for proposal in (
        Update(update_leaf(room["p0"])),
        ExternalInit(bytes(32)),
        SelfRemove(),
    ):
        message = forge(room["p0"], proposal, sender=sender, signature_private=key)
        proposal_refused(room, SenderForbidden, message)
        with pytest.raises(SenderForbidden):
            outside(room, key, proposal)


def test_external_sender_must_be_listed(room: Room) -> None:
    """Section 12.1.8: external senders need the external_senders extension."""
    proposal_refused(room, UnknownSender, outside(room, rng(32), Remove(1)))
    key = listed(room)
    proposal_refused(room, UnknownSender, outside(room, key, Remove(1), index=1))


def test_external_sender_must_sign_with_its_listed_key(room: Room) -> None:
    """Section 6.1: an external sender's key is the one in the extension."""
    listed(room)
    proposal_refused(room, BadSignature, outside(room, rng(32), Remove(1)))


def test_new_member_may_propose_itself(room: Room) -> None:
    """Section 12.1.8: a newcomer asks to be added, signed with its KeyPackage's key."""
    key = rng(32)
    bundle = bundle_for("q", key)
    message = propose_joining(
        bundle.key_package,
        group_id=b"room",
        epoch=room.hub.epoch,
        signature_private=key,
    )
    room.propose("q", message)
    staged = room.commit("p0")
    assert [m.identity for m in staged.effects.added] == [b"q"]
    assert [ref for ref, _ in staged.welcomes] == [bundle.ref]


def test_new_member_must_propose_nothing_but_its_add(room: Room) -> None:
    """Sections 6 and 12.1.8: new_member_proposal carries an Add."""
    sender, key = Sender(NEW_MEMBER_PROPOSAL), rng(32)
    for proposal in (Remove(1), SelfRemove(), ReInit(b"n", 1, 3, ())):
        message = forge(room["p0"], proposal, sender=sender, signature_private=key)
        proposal_refused(room, SenderForbidden, message)


def test_new_member_must_sign_its_add_with_its_own_key(room: Room) -> None:
    """Section 6.1: the signature key is the one in the KeyPackage's leaf."""
    sender = Sender(NEW_MEMBER_PROPOSAL)
    message = forge(room["p0"], Add(package()), sender=sender)
    proposal_refused(room, BadSignature, message)


def test_new_member_commit_must_not_be_a_proposal(room: Room) -> None:
    """Section 6: new_member_commit sends commits alone."""
    message = forge(room["p0"], Remove(1), sender=Sender(NEW_MEMBER_COMMIT))
    proposal_refused(room, UnknownSender, message)


def test_external_proposals_must_be_public_messages(room: Room) -> None:
    """Section 12.1.8: they MUST be PublicMessage; an encrypted one is a member's."""
    key = listed(room)
    asked = propose_joining(
        bundle_for("q", key).key_package,
        group_id=b"room",
        epoch=room.hub.epoch,
        signature_private=key,
    )
    for message in (asked, outside(room, key, Remove(1))):
        framed = read_framed(message)
        assert isinstance(framed, PublicMessage) and framed.membership_tag is None
    room["p1"].encrypt_handshakes = True
    sealed = read_framed(room["p1"].propose_remove(2))
    assert isinstance(sealed, PrivateMessage)
    state = room["p3"]._epoch
    opened, _ = unprotect_private(
        SUITE_3, state.secrets.sender_data_secret, room["p3"]._ratchets, sealed
    )
    assert opened.content.sender == Sender(MEMBER, 1)
