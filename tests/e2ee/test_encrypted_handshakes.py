"""Proposals and commits as PrivateMessage (RFC 9420 section 6.3), both ways."""

from __future__ import annotations

from functools import partial

import pytest

from e2ee import Group
from e2ee.codepoint import (
    COMMIT,
    PROPOSAL,
)
from e2ee.errors import (
    DecryptionFailed,
    GenerationUsed,
    InvalidMessage,
    StaleEpoch,
)
from e2ee.framing import (
    PrivateMessage,
    read_framed,
)
from tests.e2ee.forging import (
    commit_refused,
    unchanged,
)
from tests.e2ee.support import (
    NOW,
    Room,
    bundle_for,
    reload,
    rng,
)


@pytest.fixture
def room() -> Room:
    return Room.of(4)


def test_handshakes_can_be_sent_encrypted(room: Room) -> None:
    """Section 6.3.1: proposals and commits as PrivateMessage, both ways."""
    for name in room.people:
        room[name].encrypt_handshakes = True
    proposal = room["p1"].propose_remove(2)
    staged = room["p0"].commit(now=NOW, include_pending=False)
    for message in (proposal, staged.commit):
        assert isinstance(read_framed(message), PrivateMessage)
    for name in ("p0", "p2", "p3"):
        assert room[name].receive_proposal(proposal).kind == "remove"
    key = rng(32)
    bundle = bundle_for("q", key)
    staged = room["p0"].commit(add=[bundle.key_package], now=NOW)
    again = type(staged).decode(staged.encode())
    reload(room.people["p0"])
    effects = room["p0"].apply_own(again)
    assert [m.identity for m in effects.removed] == [b"p2"]
    assert room["p2"].process_commit(staged.commit, now=NOW).removed_self
    for name in ("p1", "p3"):
        assert room[name].process_commit(staged.commit, now=NOW).effects == effects
    joined = Group.join(
        staged.welcomes[0][1],
        [bundle],
        signature_private=key,
        ratchet_tree=room["p0"].ratchet_tree(),
        now=NOW,
        validator=room.validator,
    )
    assert joined.epoch_authenticator == room["p3"].epoch_authenticator


def test_encrypted_commit_must_open(room: Room) -> None:
    """Section 12.4.2: a PrivateMessage opens with the sender's handshake key."""
    room["p0"].encrypt_handshakes = True
    commit = room["p0"].commit(now=NOW).commit
    for at in (-1, -40):
        wrong = bytearray(commit)
        wrong[at] ^= 1
        commit_refused(room, DecryptionFailed, bytes(wrong), at_hub=False)


def test_encrypted_commit_must_not_be_replayed(room: Room) -> None:
    """Section 9.1: a handshake key is used once, by sender and receiver."""
    group, sender = room["p3"], room["p0"]
    sender.encrypt_handshakes = True
    proposal = sender.propose_remove(1)
    group.receive_proposal(proposal)
    unchanged(group, GenerationUsed, lambda: group.receive_proposal(proposal))
    one, two = sender.commit(now=NOW).commit, sender.commit(now=NOW).commit
    framed = [read_framed(message) for message in (one, two)]
    assert all(isinstance(message, PrivateMessage) for message in framed)
    group.process_commit(two, now=NOW)
    with pytest.raises(StaleEpoch):
        group.process_commit(one, now=NOW)


def test_encrypted_handshake_must_not_be_read_as_application_data(room: Room) -> None:
    """Section 6.3.1: the content type is authenticated and has its own ratchet."""
    room["p0"].encrypt_handshakes = True
    group = room["p3"]
    proposal = room["p0"].propose_remove(1)
    unchanged(group, InvalidMessage, lambda: group.decrypt(proposal))
    chat = room["p0"].encrypt(b"hello")
    unchanged(group, InvalidMessage, lambda: group.receive_proposal(chat))
    relabelled = bytearray(chat)
    at = chat.index(b"room") + 4 + 8
    for kind in (PROPOSAL, COMMIT):
        relabelled[at] = kind
        message = bytes(relabelled)
        unchanged(group, DecryptionFailed, partial(group.receive_proposal, message))


def test_encrypted_handshakes_are_not_for_the_hub(room: Room) -> None:
    """What the hub cannot read it refuses: rooms send PublicMessages."""
    room["p0"].encrypt_handshakes = True
    staged = room["p0"].commit(now=NOW)
    with pytest.raises(InvalidMessage):
        room.hub.process_commit(staged.commit, staged.group_info, now=NOW)
