"""RFC 9420 sections 6, 8, 9, 12.4, 12.4.1 and 12.4.2: commits and messages."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial

import pytest

from e2ee import Group
from e2ee.codepoint import (
    COMMIT,
    EXTERNAL,
    MEMBER,
    NEW_MEMBER_PROPOSAL,
    PROPOSAL,
    PUBLIC_MESSAGE,
)
from e2ee.errors import (
    BadConfirmationTag,
    BadMembershipTag,
    BadPadding,
    BadSignature,
    DecryptionFailed,
    FutureEpoch,
    GenerationTooFar,
    GenerationUsed,
    GroupInactive,
    InvalidMessage,
    InvalidPathKey,
    InvalidWelcome,
    Malformed,
    Misuse,
    OwnMessage,
    ParentHashMismatch,
    PathKeyReused,
    PathLength,
    PathRecipients,
    PathRequired,
    PathSecretMismatch,
    StaleEpoch,
    UnknownPsk,
    UnknownSender,
    WrongGroup,
)
from e2ee.framing import (
    Commit,
    FramedContent,
    PrivateMessage,
    PublicMessage,
    Sender,
    read_framed,
    wrap,
)
from e2ee.key_schedule import confirmation_tag, epoch_secrets, joiner_secret
from e2ee.proposal import GroupContextExtensions, ProposalRef, Remove
from e2ee.protection import membership_tag, protect_public, sign_framed
from e2ee.suite import SUITE_3, HpkeCiphertext
from e2ee.transition import advance
from e2ee.treekem import UpdatePathNode
from tests.e2ee.forging import (
    bend,
    commit_leaf,
    commit_refused,
    external_psk,
    fresh_key,
    own_path,
    package,
    proposed,
    seal,
    signed,
    unchanged,
    with_leaf,
)
from tests.e2ee.support import (
    NOW,
    Room,
    bundle_for,
    commit_in,
    forge,
    reload,
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


# --- encrypted handshakes (section 6.3)


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


# --- the path (sections 7.5, 7.6, 12.4 and 12.4.2)


def test_path_must_be_there_for_an_empty_list(room: Room) -> None:
    """Section 12.4: a commit without proposals has a path."""
    commit_refused(room, PathRequired, forge(room["p0"], Commit((), None)))


def test_path_must_be_there_for_a_remove(room: Room) -> None:
    """Section 12.4: Remove requires a path."""
    commit_refused(room, PathRequired, forge(room["p0"], Commit((Remove(1),), None)))


def test_path_must_be_there_for_an_update(room: Room) -> None:
    """Section 12.4: Update requires a path."""
    ref = ProposalRef(proposed(room, "p1", room["p1"].propose_update()))
    commit_refused(room, PathRequired, forge(room["p0"], Commit((ref,), None)))


def test_path_must_be_there_for_new_extensions(room: Room) -> None:
    """Section 12.4: GroupContextExtensions requires a path."""
    change = Commit((GroupContextExtensions(()),), None)
    commit_refused(room, PathRequired, forge(room["p0"], change))


def test_path_must_be_there_for_a_self_remove(room: Room) -> None:
    """SelfRemove requires a path (draft-ietf-mls-extensions)."""
    ref = ProposalRef(proposed(room, "p1", room["p1"].propose_leaving()))
    commit_refused(room, PathRequired, forge(room["p0"], Commit((ref,), None)))


def test_committer_must_populate_the_path_when_required(room: Room) -> None:
    """Section 12.4.1: the sender MUST populate a path that is required."""
    group = room["p0"]
    assert commit_in(group.commit(remove=[1], update=False, now=NOW)).path
    assert commit_in(group.commit(extensions=[], update=False, now=NOW)).path
    assert commit_in(group.commit(update=False, now=NOW)).path
    added = package().encoded
    assert not commit_in(group.commit(add=[added], update=False, now=NOW)).path


def test_path_leaf_key_must_be_new(room: Room) -> None:
    """Section 12.4.2: the leaf's encryption key differs from the current one."""
    old = room["p0"]._epoch.tree.leaf(0)
    assert old is not None
    leaf = commit_leaf(room, encryption_key=old.encryption_key)
    commit_refused(room, PathKeyReused, with_leaf(room, leaf))


def test_path_keys_must_not_be_in_the_tree(room: Room) -> None:
    """Section 12.4.2: no key of the UpdatePath appears in the new tree."""
    parent = room["p0"]._epoch.tree.parent_node(5)
    leaf = room["p0"]._epoch.tree.leaf(2)
    assert parent is not None and leaf is not None
    path = own_path(room)
    for key in (parent.encryption_key, leaf.encryption_key):
        wrong = bend(path, 0, encryption_key=key)
        commit_refused(room, PathKeyReused, forge(room["p0"], Commit((), wrong)))


def test_path_keys_must_differ(room: Room) -> None:
    """Sections 7.3 and 12.4.2: nor does a key stand twice in the path."""
    path = own_path(room)
    for key in (path.nodes[1].encryption_key, path.leaf_node.encryption_key):
        wrong = bend(path, 0, encryption_key=key)
        commit_refused(room, PathKeyReused, forge(room["p0"], Commit((), wrong)))


def test_path_keys_must_be_keys(room: Room) -> None:
    """Section 5.1.1: public keys are of the suite's form."""
    wrong = bend(own_path(room), 0, encryption_key=b"short")
    commit_refused(room, InvalidPathKey, forge(room["p0"], Commit((), wrong)))


def test_path_must_have_the_length_of_the_filtered_path(room: Room) -> None:
    """Section 7.6: one node for each of the filtered direct path."""
    path = own_path(room)
    more = UpdatePathNode(fresh_key(), path.nodes[0].encrypted_path_secret)
    for nodes in ((), path.nodes[:-1], (*path.nodes, more)):
        wrong = replace(path, nodes=nodes)
        commit_refused(room, PathLength, forge(room["p0"], Commit((), wrong)))


def test_path_must_be_encrypted_to_the_resolution(room: Room) -> None:
    """Section 7.6: as many ciphertexts as the copath node's resolution has nodes."""
    path = own_path(room)
    sealed = path.nodes[0].encrypted_path_secret
    for wrong in (
        bend(path, 0, encrypted_path_secret=()),
        bend(path, 0, encrypted_path_secret=sealed * 2),
    ):
        commit_refused(room, PathRecipients, forge(room["p0"], Commit((), wrong)))


def test_path_must_not_be_encrypted_to_added_leaves(room: Room) -> None:
    """Section 7.5: leaves added by the commit are left out of the resolution."""
    commit = commit_in(room["p0"].commit(add=[package().encoded], now=NOW))
    path = commit.path
    assert path is not None
    assert [len(node.encrypted_path_secret) for node in path.nodes] == [1, 1, 0]
    sealed = path.nodes[0].encrypted_path_secret
    wrong = Commit(commit.proposals, bend(path, 2, encrypted_path_secret=sealed))
    commit_refused(room, PathRecipients, forge(room["p0"], wrong))


def test_path_secret_must_open(room: Room) -> None:
    """Section 12.4.2: members decrypt the path; the hub cannot see that."""
    path = own_path(room)
    sealed = path.nodes[1].encrypted_path_secret[0]
    bad = HpkeCiphertext(sealed.kem_output, bytes(len(sealed.ciphertext)))
    wrong = bend(path, 1, encrypted_path_secret=(bad,))
    message = forge(room["p0"], Commit((), wrong))
    commit_refused(room, DecryptionFailed, message, at_hub=False)


def test_path_secret_must_lead_to_the_path_keys(room: Room) -> None:
    """Section 7.5: the derived public keys are compared with the path's."""
    group = room["p0"]
    staged = group.commit(now=NOW)
    path = commit_in(staged).path
    framed, state = read_framed(staged.commit), group._epoch
    assert path is not None and isinstance(framed, PublicMessage)
    message = framed.authenticated()
    interim = state.interim_transcript_hash
    step = advance(state.tree, state.context, interim, message, (), room.validator)
    target = state.tree.node(5)
    assert target is not None
    for secret in (os.urandom(32), b"short"):
        sealed = SUITE_3.encrypt_with_label(
            target.encryption_key, "UpdatePathNode", step.provisional.encode(), secret
        )
        wrong = bend(path, 1, encrypted_path_secret=(sealed,))
        bad = forge(group, Commit((), wrong))
        commit_refused(room, PathSecretMismatch, bad, at_hub=False)


def test_parent_hash_of_the_path_leaf_must_match(room: Room) -> None:
    """Sections 7.9.2 and 12.4.2: clients MUST recompute the leaf's parent_hash."""
    for value in (bytes(32), b""):
        leaf = commit_leaf(room, parent_hash=value)
        commit_refused(room, ParentHashMismatch, with_leaf(room, leaf))
    wrong = bend(own_path(room), 1, encryption_key=fresh_key())
    commit_refused(room, ParentHashMismatch, forge(room["p0"], Commit((), wrong)))


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
