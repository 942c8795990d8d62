"""RFC 9420 sections 6, 8, 9, 12.4, 12.4.1 and 12.4.2: commits and messages."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial

import pytest

from e2ee.codepoint import (
    EXTERNAL,
    MEMBER,
    NEW_MEMBER_PROPOSAL,
    PUBLIC_MESSAGE,
)
from e2ee.errors import (
    BadConfirmationTag,
    BadMembershipTag,
    BadPadding,
    BadSignature,
    FutureEpoch,
    GenerationTooFar,
    GenerationUsed,
    GroupInactive,
    InvalidMessage,
    InvalidWelcome,
    Malformed,
    Misuse,
    OwnMessage,
    StaleEpoch,
    UnknownPsk,
    UnknownSender,
    WrongGroup,
)
from e2ee.framing import (
    Commit,
    FramedContent,
    PublicMessage,
    Sender,
    wrap,
)
from e2ee.key_schedule import confirmation_tag, epoch_secrets, joiner_secret
from e2ee.protection import membership_tag, protect_public, sign_framed
from e2ee.suite import SUITE_3
from tests.e2ee.forging import (
    commit_refused,
    external_psk,
    own_path,
    package,
    seal,
    signed,
    unchanged,
)
from tests.e2ee.support import (
    NOW,
    Room,
    bundle_for,
    commit_in,
    forge,
    rng,
    snapshot,
)


@pytest.fixture
def room() -> Room:
    return Room.of(4)


# --- framing: who, where, when (sections 6 and 12.4.2)


def test_commit_epoch_must_be_the_current_one(room: Room) -> None:
    """Section 12.4.2: the epoch of a commit equals the GroupContext's."""
    group, commit = room["p0"], Commit((), own_path(room))
    late = forge(group, commit, epoch=group.epoch - 1)
    commit_refused(room, StaleEpoch, late)
    early = forge(group, commit, epoch=group.epoch + 1)
    commit_refused(room, FutureEpoch, early)


def test_commit_group_must_be_this_one(room: Room) -> None:
    """Section 6: a message is for the group that it names."""
    message = forge(room["p0"], Commit((), own_path(room)), group_id=b"elsewhere")
    commit_refused(room, WrongGroup, message)


def test_commit_membership_tag_must_verify(room: Room) -> None:
    """Sections 6.2 and 12.4.2: the membership tag is a member's."""
    commit = room["p0"].commit(now=NOW).commit
    wrong = commit[:-1] + bytes((commit[-1] ^ 1,))
    commit_refused(room, BadMembershipTag, wrong, at_hub=False)


def test_commit_signature_must_verify(room: Room) -> None:
    """Sections 6.1 and 12.4.2: the sender's key signed it, for this context."""
    commit = Commit((), own_path(room))
    message = forge(room["p0"], commit, signature_private=os.urandom(32))
    commit_refused(room, BadSignature, message)


def test_commit_signer_must_be_the_sender(room: Room) -> None:
    """Section 6.1: the key is that of the leaf that the sender names."""
    message = forge(room["p0"], Commit((), own_path(room)), sender=Sender(MEMBER, 1))
    commit_refused(room, BadSignature, message)


def test_commit_sender_must_be_a_member(room: Room) -> None:
    """Section 6.1: the sender's leaf is there and not blank."""
    room.commit("p0", remove=("p1",))
    commit = Commit((), own_path(room))
    for leaf in (1, 77):
        message = forge(room["p0"], commit, sender=Sender(MEMBER, leaf))
        commit_refused(room, UnknownSender, message)


def test_commit_sender_must_be_of_a_kind_that_commits(room: Room) -> None:
    """Section 6: external senders and proposing newcomers send no commits."""
    commit = Commit((), own_path(room))
    for sender in (Sender(EXTERNAL, 0), Sender(NEW_MEMBER_PROPOSAL)):
        commit_refused(room, UnknownSender, forge(room["p0"], commit, sender=sender))


def test_application_data_must_be_encrypted(room: Room) -> None:
    """Section 6: application data is never sent as PublicMessage."""
    group = room["p0"]
    content = FramedContent.make(b"room", group.epoch, Sender(MEMBER, 0), b"", b"clear")
    message = sign_framed(
        SUITE_3,
        group._signature_private,
        PUBLIC_MESSAGE,
        content,
        group._epoch.encoded_context,
    )
    with pytest.raises(Misuse):
        protect_public(SUITE_3, bytes(32), message, b"")
    tag = membership_tag(
        SUITE_3,
        group._epoch.secrets.membership_key,
        message,
        group._epoch.encoded_context,
    )
    clear = wrap(PUBLIC_MESSAGE, PublicMessage(content, message.auth, tag).encode())
    other = room["p3"]
    unchanged(other, InvalidMessage, lambda: other.decrypt(clear))
    commit_refused(room, InvalidMessage, clear)


def test_own_commit_must_not_be_processed_from_the_wire(room: Room) -> None:
    """Section 12.4.2 cannot be followed for one's own path secrets."""
    group = room["p0"]
    staged = group.commit(now=NOW)
    unchanged(group, OwnMessage, lambda: group.process_commit(staged.commit, now=NOW))


# --- messages (sections 6.3, 8.7, 9.1, 9.2, 15)


def test_padding_must_be_zero(room: Room) -> None:
    """Section 6.3.1: receivers MUST reject padding that is not all zero."""
    group = room["p3"]
    padded = seal(room["p0"], signed(room["p0"], b"x") + bytes(9) + b"\1")
    unchanged(group, BadPadding, lambda: group.decrypt(padded))


def test_message_signature_must_verify(room: Room) -> None:
    """Section 6.1: the sender's leaf key signed the content."""
    group, forged = room["p3"], signed(room["p0"], b"x", os.urandom(32))
    message = seal(room["p0"], forged)
    unchanged(group, BadSignature, lambda: group.decrypt(message))


def test_generation_must_not_be_replayed(room: Room) -> None:
    """Section 9.2: a key is deleted as soon as it was used."""
    group, message = room["p3"], room["p0"].encrypt(b"x")
    group.decrypt(message)
    unchanged(group, GenerationUsed, lambda: group.decrypt(message))


def test_generation_must_not_be_far_ahead(room: Room) -> None:
    """Section 15.3: who lies far ahead cannot make us derive for long."""
    group = room["p3"]
    message = seal(room["p0"], signed(room["p0"], b"x"), generation=1_001)
    unchanged(group, GenerationTooFar, lambda: group.decrypt(message))


def test_message_epoch_must_be_kept(room: Room) -> None:
    """Section 15.3: three past epochs are kept, no more."""
    group, message = room["p3"], room["p0"].encrypt(b"x")
    early = room["p1"].encrypt(b"y")
    for _ in range(3):
        room.commit("p0")
    assert group.decrypt(message).content == b"x"
    room.commit("p0")
    unchanged(group, StaleEpoch, lambda: group.decrypt(early))


def test_pending_proposals_must_be_committed_first(room: Room) -> None:
    """Section 12.4: who has seen a valid proposal commits before it sends data."""
    room.propose("p1", room["p1"].propose_leaving())
    assert room["p0"].pending_proposals, "the caller is told, and commits"
    room.commit("p0")
    assert not room["p0"].pending_proposals
    message = room["p0"].encrypt(b"x")
    assert room["p3"].decrypt(message).content == b"x"


# --- secrets and confirmation (sections 8, 12.4.2)


def test_psks_must_be_available(room: Room) -> None:
    """Section 12.4.2: all PSKs that the commit names are at hand."""
    message = forge(room["p0"], Commit((external_psk(),), None))
    commit_refused(room, UnknownPsk, message, at_hub=False)


def test_psks_must_be_the_same_for_all(room: Room) -> None:
    """Section 8.4: another key under the same id leads to another epoch."""
    for name in room.people:
        room[name].add_psk(b"x", b"wrong" if name == "p3" else b"right")
    commit = room["p0"].commit(psks=[b"x"], now=NOW).commit
    commit_refused(room, BadConfirmationTag, commit, at_hub=False)


def test_confirmation_tag_must_verify(room: Room) -> None:
    """Sections 6.1, 8.2 and 12.4.2: the tag confirms transcript and secrets."""
    commit = commit_in(room["p0"].commit(now=NOW))
    for tag in (bytes(32), b""):
        message = forge(room["p0"], commit, tag=tag)
        commit_refused(room, BadConfirmationTag, message, at_hub=False)


def test_confirmation_tag_must_be_of_this_epoch(room: Room) -> None:
    """Section 8: a tag by the old confirmation key, or the old transcript, is none."""
    group = room["p0"]
    state = group._epoch
    tag = confirmation_tag(
        SUITE_3,
        state.secrets.confirmation_key,
        state.context.confirmed_transcript_hash,
    )
    message = forge(group, commit_in(group.commit(now=NOW)), tag=tag)
    commit_refused(room, BadConfirmationTag, message, at_hub=False)


def test_transcript_must_hold_every_commit(room: Room) -> None:
    """Section 8.2: who missed a commit cannot confirm the next one."""
    late = room.people.pop("p3").group
    room.commit("p0")
    late._epoch = replace(late._epoch, context=room["p0"].context)
    message = room["p0"].commit(now=NOW).commit
    unchanged(late, BadMembershipTag, lambda: late.process_commit(message, now=NOW))


def test_epoch_secrets_depend_on_every_input() -> None:
    """Section 8: init secret, commit secret, PSK and context each change the epoch."""
    base = joiner_secret(SUITE_3, b"i" * 32, b"c" * 32, b"context")
    assert base != joiner_secret(SUITE_3, b"j" * 32, b"c" * 32, b"context")
    assert base != joiner_secret(SUITE_3, b"i" * 32, b"d" * 32, b"context")
    assert base != joiner_secret(SUITE_3, b"i" * 32, b"c" * 32, b"another")
    one = epoch_secrets(SUITE_3, base, SUITE_3.zero, b"context")
    two = epoch_secrets(SUITE_3, base, b"p" * 32, b"context")
    assert one.epoch_authenticator != two.epoch_authenticator


def test_commit_must_not_change_the_committer(room: Room) -> None:
    """Section 14: generating a commit MUST NOT modify the client's state."""
    group = room["p0"]
    before = snapshot(group)
    group.commit(add=[package().encoded], remove=[1], now=NOW)
    assert snapshot(group) == before


def test_reinit_must_end_sending(room: Room) -> None:
    """Section 12.4.2: after ReInit the client MUST NOT use the group to send."""
    room.deliver("p0", room["p0"].commit_reinit(group_id=b"new", now=NOW))
    for name in ("p0", "p3"):
        group = room[name]
        unchanged(group, GroupInactive, partial(group.encrypt, b"x"))
        unchanged(group, GroupInactive, partial(group.commit, now=NOW))
        unchanged(group, GroupInactive, partial(group.propose_remove, 1))


def test_welcomes_must_cover_every_new_member(room: Room) -> None:
    """Section 12.4.1: the Welcomes cover every member that the commit adds."""
    bundles = [bundle_for(name, rng(32)) for name in ("q", "r", "s")]
    staged = room["p0"].commit(add=[b.key_package for b in bundles], now=NOW)
    assert [ref for ref, _ in staged.welcomes] == [b.ref for b in bundles]
    for refs in ([], [bundles[0].ref] * 3, [b.ref for b in bundles[:2]]):
        with pytest.raises(InvalidWelcome):
            room.hub.process_commit(
                staged.commit, staged.group_info, now=NOW, welcome_refs=refs
            )


def test_commit_must_decode(room: Room) -> None:
    """Section 2.1: bytes that are no commit are refused whole."""
    commit = room["p0"].commit(now=NOW).commit
    for wrong in (b"", commit[:-1], commit + b"\0", b"\0\1\0\1"):
        commit_refused(room, Malformed, wrong)
