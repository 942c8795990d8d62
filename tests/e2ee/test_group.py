"""What members do together: join, change, talk, leave, save."""

from __future__ import annotations

import os
from functools import partial

import pytest

from e2ee import ALLOW_ALL, Extension, Group, StagedCommit
from e2ee.codepoint import PSK_EXTERNAL, TELEX_ROOM
from e2ee.errors import (
    BadConfirmationTag,
    DuplicateKey,
    E2eeError,
    FutureEpoch,
    GroupInactive,
    OwnMessage,
    StagedMismatch,
    StaleEpoch,
    UnknownPsk,
    UnsupportedSuite,
    WrongGroup,
)
from e2ee.proposal import PreSharedKey, ReInit
from e2ee.psk import PreSharedKeyId
from tests.e2ee.support import (
    NOW,
    SUITE_1,
    Person,
    Room,
    bundle_for,
    commit_in,
    forge,
    reload,
    rng_of,
    snapshot,
    unmoved,
)


def test_two_people_talk() -> None:
    room = Room.of(2)
    message = room["p0"].encrypt(b"hello", authenticated_data=b"head 7")
    got = room["p1"].decrypt(message)
    assert got.content == b"hello"
    assert got.authenticated_data == b"head 7"
    assert got.sender == room["p0"].members()[0]
    assert (got.epoch, got.generation) == (room["p0"].epoch, 0)


def test_a_room_lives() -> None:
    room = Room.of(5)
    room.commit("p4", remove=("p1", "p0"))
    room.add("p2", "q0", "q1", "q2", "q3")
    room.commit("q3", remove=("p3",))
    room.add("q0", "r0", remove=("q1",))
    for person in room.people.values():
        message = person.group.encrypt(person.name.encode())
        for other in room.people.values():
            if other is not person:
                got = other.group.decrypt(message)
                assert got.content == got.sender.identity == person.name.encode()


def test_staging_changes_nothing_and_survives_a_restart() -> None:
    room = Room.of(3)
    group = room["p1"]
    before = snapshot(group)
    staged = group.commit(remove=[2], now=NOW)
    assert snapshot(group) == before
    again = StagedCommit.decode(staged.encode())
    assert again == staged
    reload(room.people["p1"])
    room.deliver("p1", again)


def test_a_commit_that_lost_the_race_is_refused() -> None:
    room = Room.of(3)
    mine = room["p0"].commit(now=NOW)
    room.commit("p1")
    unmoved(room["p0"], StagedMismatch, lambda: room["p0"].apply_own(mine))
    unmoved(
        room["p2"], StaleEpoch, lambda: room["p2"].process_commit(mine.commit, now=NOW)
    )
    room.deliver("p0", room["p0"].commit(now=NOW))


def test_own_commit_is_adopted_not_processed() -> None:
    room = Room.of(3)
    staged = room["p0"].commit(now=NOW)
    unmoved(
        room["p0"],
        OwnMessage,
        lambda: room["p0"].process_commit(staged.commit, now=NOW),
    )
    other = room["p1"].commit(now=NOW)
    unmoved(room["p0"], StagedMismatch, lambda: room["p0"].apply_own(other))


def test_staged_secrets_must_be_the_commits() -> None:
    room = Room.of(3)
    group = room["p0"]
    one, two = group.commit(now=NOW), group.commit(now=NOW)
    mixed = StagedCommit(
        one.commit,
        one.hash,
        one.welcomes,
        one.group_info,
        one.effects,
        one.epoch,
        two.leaf_private,
        two.path_secret,
    )
    unmoved(group, StagedMismatch, lambda: group.apply_own(mixed))


def test_a_removed_member_gets_a_clean_end() -> None:
    room = Room.of(3)
    gone = room.people["p2"]
    late = room["p0"].encrypt(b"late")
    staged = room["p0"].commit(remove=[2], now=NOW)
    result = gone.group.process_commit(staged.commit, now=NOW)
    assert result.removed_self
    assert result.sender.identity == b"p0"
    assert not gone.group.active
    reload(gone)
    assert not gone.group.active
    assert gone.group.decrypt(late).content == b"late"
    for call in (
        lambda: gone.group.encrypt(b"x"),
        lambda: gone.group.commit(now=NOW),
        lambda: gone.group.export("x", b"", 32),
        lambda: gone.group.group_info(),
        lambda: gone.group.propose_update(),
        lambda: gone.group.process_commit(staged.commit, now=NOW),
    ):
        unmoved(gone.group, GroupInactive, call)
    room["p0"].apply_own(staged)
    with pytest.raises(FutureEpoch):
        gone.group.decrypt(room["p0"].encrypt(b"not for you"))


def test_removal_is_seen_even_if_the_leaf_is_filled_again() -> None:
    room = Room.of(4)
    gone = room["p2"]
    room.add("p0", "q0", remove=("p2",))
    assert room.leaf("q0") == 2
    assert not gone.active


def test_after_removal_nothing_leads_on() -> None:
    room = Room.of(3)
    gone = room["p2"]
    secrets = gone._epoch.secrets
    room.commit("p0", remove=("p2",))
    kept = b"".join(snapshot(gone))
    for secret in (secrets.init_secret, secrets.exporter_secret):
        assert secret not in kept
    assert not gone._epoch.private_keys


def test_remove_and_add_of_the_same_device_in_one_commit() -> None:
    room = Room.of(3)
    key = room.people["p2"].signature_private
    bundle = bundle_for("p2", key)
    # Without the Remove it is in the group already.
    with pytest.raises(DuplicateKey):
        room["p0"].commit(add=[bundle.key_package], now=NOW)
    staged = room["p0"].commit(add=[bundle.key_package], remove=[2], now=NOW)
    old = room["p2"]
    room.deliver("p0", staged)
    assert not old.active
    group = Group.join(
        staged.welcomes[0][1],
        [bundle],
        signature_private=key,
        ratchet_tree=room.hub.ratchet_tree(),
        now=NOW,
        validator=ALLOW_ALL,
    )
    room.people["p2"] = Person("p2", key, group)
    room.check()
    room.commit("p2")


def test_proposals_are_committed_by_others() -> None:
    room = Room.of(5)
    room.propose("p1", room["p1"].propose_update())
    room.propose("p2", room["p2"].propose_remove(4))
    room.propose("p3", room["p3"].propose_remove(room.leaf("p3")))
    key = os.urandom(32)
    bundle = bundle_for("q0", key)
    room.propose("p1", room["p1"].propose_add(bundle.key_package))
    assert {p.kind for p in room["p0"].pending_proposals} == {"update", "remove", "add"}
    staged = room.commit("p0")
    effects = staged.effects
    assert {m.identity for m in effects.removed} == {b"p3", b"p4"}
    assert {m.identity for m in effects.updated} == {b"p0", b"p1"}
    assert [m.identity for m in effects.added] == [b"q0"]
    proposers = {(a.kind, a.proposer.identity, a.by_reference) for a in effects.actions}
    assert proposers == {
        ("update", b"p1", True),
        ("remove", b"p2", True),
        ("remove", b"p3", True),
        ("add", b"p1", True),
    }
    assert not room["p1"].pending_proposals
    room.commit("p1")


def test_pending_proposals_survive_a_restart() -> None:
    room = Room.of(3)
    room.propose("p1", room["p1"].propose_update())
    room.propose("p0", room["p0"].propose_remove(2))
    before = room["p1"].pending_proposals
    for person in room.people.values():
        reload(person)
    assert room["p1"].pending_proposals == before
    room.commit("p0")


def test_invalid_pending_proposals_are_left_out() -> None:
    room = Room.of(5)
    room.propose("p1", room["p1"].propose_remove(4))
    room.propose("p2", room["p2"].propose_remove(4))
    room.propose("p4", room["p4"].propose_update())
    room.propose("p3", room["p3"].propose_update())
    room.propose("p3", room["p3"].propose_update())
    room.propose("p1", room["p1"].propose_remove(0))
    # p0 can neither commit its own removal nor two things for one leaf.
    staged = room.commit("p0")
    assert [m.identity for m in staged.effects.removed] == [b"p4"]
    assert [m.identity for m in staged.effects.updated] == [b"p3", b"p0"]
    assert len(commit_in(staged).proposals) == 2


def test_a_flood_of_proposals_does_not_stop_a_commit() -> None:
    room = Room.of(4)
    group = room["p0"]
    package = bundle_for("q", os.urandom(32)).key_package
    for name in ("p1", "p2", "p3"):
        message = room[name].propose_add(package)
        room.propose(name, message)
    for number in range(60):
        other = bundle_for(f"n{number}", os.urandom(32)).key_package
        room.propose("p1", room["p1"].propose_add(other))
    room.propose("p2", room["p2"].propose_remove(3))
    room["p1"].add_psk(b"id", b"psk")
    nonce = PreSharedKeyId(PSK_EXTERNAL, psk_id=b"id", nonce=bytes(32))
    for proposal in (PreSharedKey(nonce), ReInit(b"next", 1, 3, ())):
        room.propose("p1", forge(room["p1"], proposal))
    # The same client three times cannot be; the removal still gets through.
    staged = room.commit("p0")
    assert [m.identity for m in staged.effects.removed] == [b"p3"]
    assert group.epoch == room.hub.epoch


def test_the_latest_update_wins() -> None:
    room = Room.of(3)
    room.propose("p1", room["p1"].propose_update())
    latest = room["p1"].propose_update(identity=b"p1 renewed")
    room.propose("p1", latest)
    staged = room.commit("p0")
    assert [m.identity for m in staged.effects.updated] == [b"p1 renewed", b"p0"]
    assert [m.identity for m in staged.effects.replaced] == [b"p1", b"p0"]


def test_pending_proposals_may_be_ignored() -> None:
    room = Room.of(3)
    room.propose("p1", room["p1"].propose_remove(2))
    staged = room["p0"].commit(include_pending=False, now=NOW)
    assert commit_in(staged).proposals == ()
    room.deliver("p0", staged)


def test_our_own_proposal_coming_back_changes_nothing() -> None:
    room = Room.of(2)
    message = room["p0"].propose_update()
    before = snapshot(room["p0"])
    assert room["p0"].receive_proposal(message).kind == "update"
    assert snapshot(room["p0"]) == before
    # After a loss of state our own Update is of no use: its key is gone.
    room["p0"]._pending.clear()
    unmoved(room["p0"], OwnMessage, lambda: room["p0"].receive_proposal(message))


def test_partial_commits_have_no_path() -> None:
    room = Room.of(3)
    staged = room.add("p0", "q0", "q1", update=False)
    assert commit_in(staged).path is None
    assert staged.effects.updated == ()
    room.commit("q1")
    # Without proposals, or with a Remove, there is a path whatever was asked.
    assert commit_in(room["p0"].commit(update=False, now=NOW)).path is not None
    staged = room["p0"].commit(update=False, remove=[1], now=NOW)
    assert commit_in(staged).path is not None


def test_an_identity_can_be_renewed() -> None:
    room = Room.of(3)
    staged = room["p1"].commit(identity=b"p1 v2", now=NOW)
    room.deliver("p1", staged)
    assert room["p0"].members()[1].identity == b"p1 v2"
    assert staged.effects.replaced[0].identity == b"p1"


def test_extensions_are_replaced_as_a_whole() -> None:
    room = Room.of(3)
    one, two = Extension(TELEX_ROOM, b"one"), Extension(TELEX_ROOM, b"two")
    staged = room["p0"].commit(extensions=[one], now=NOW)
    room.deliver("p0", staged)
    assert staged.effects.extensions_before == ()
    assert staged.effects.extensions_after == (one,)
    room.propose("p1", room["p1"].propose_extensions([two]))
    staged = room.commit("p2")
    assert room["p0"].context.extensions == (two,)
    assert room["p0"].context.extension(TELEX_ROOM) == b"two"
    room.add("p0", "q0")
    assert room["q0"].context.extensions == (two,)
    assert room.commit("p0").effects.extensions_after is None


def test_psks_are_mixed_in() -> None:
    room = Room.of(3)
    group = room["p0"]
    unmoved(group, UnknownPsk, lambda: group.commit(psks=[b"id"], now=NOW))
    for name in ("p0", "p1"):
        room[name].add_psk(b"id", b"shared")
        room[name].add_psk(b"other", b"too")
    room["p2"].add_psk(b"id", b"something else")
    room["p2"].add_psk(b"other", b"too")
    key = os.urandom(32)
    bundle = bundle_for("q", key)
    staged = group.commit(
        psks=[b"id", b"other"], add=[bundle.key_package], update=False, now=NOW
    )
    assert commit_in(staged).path is None
    hub, _ = room.hub.process_commit(staged.commit, staged.group_info, now=NOW)
    group.apply_own(staged)
    room["p1"].process_commit(staged.commit, now=NOW)
    assert room["p1"].epoch_authenticator == group.epoch_authenticator
    unmoved(
        room["p2"],
        BadConfirmationTag,
        partial(room["p2"].process_commit, staged.commit, now=NOW),
    )

    def join(psks: dict[bytes, bytes]) -> Group:
        return Group.join(
            staged.welcomes[0][1],
            [bundle],
            signature_private=key,
            ratchet_tree=hub.ratchet_tree(),
            now=NOW,
            validator=ALLOW_ALL,
            psks=psks,
        )

    joined = join({b"id": b"shared", b"other": b"too"})
    assert joined.epoch_authenticator == group.epoch_authenticator
    with pytest.raises(UnknownPsk):
        join({b"id": b"shared"})
    with pytest.raises(E2eeError):
        join({b"id": b"wrong", b"other": b"too"})


def test_a_reinit_ends_the_group() -> None:
    room = Room.of(3)
    group = room["p0"]
    message = forge(room["p1"], ReInit(b"next", 1, 3, ()))
    group.receive_proposal(message)
    room["p2"].receive_proposal(message)
    room.hub, _ = room.hub.receive_proposal(message)
    late = room["p2"].encrypt(b"late")
    staged = group.commit(now=NOW)
    assert staged.effects.reinit
    room.hub.process_commit(staged.commit, staged.group_info, now=NOW)
    room["p2"].process_commit(staged.commit, now=NOW)
    group.apply_own(staged)
    assert group.epoch_authenticator == room["p2"].epoch_authenticator
    assert not group.active
    unmoved(group, GroupInactive, lambda: group.encrypt(b"x"))
    assert group.decrypt(late).content == b"late"
    reload(room.people["p0"])
    assert not room["p0"].active


def test_exported_secrets_agree_and_change() -> None:
    room = Room.of(3)
    secret = room["p0"].export("telex call", b"id", 16)
    assert secret == room["p2"].export("telex call", b"id", 16)
    assert len(secret) == 16
    assert secret != room["p0"].export("telex call", b"other", 16)
    assert secret != room["p0"].export("other", b"id", 16)
    room.commit("p1")
    assert secret != room["p0"].export("telex call", b"id", 16)


def test_three_past_epochs_are_kept() -> None:
    room = Room.of(3)
    messages = [room["p0"].encrypt(b"0")]
    for number in range(1, 5):
        room.commit("p1")
        messages.append(room["p0"].encrypt(b"%d" % number))
    group = room["p2"]
    unmoved(group, StaleEpoch, lambda: group.decrypt(messages[0]))
    for number in (1, 2, 3, 4):
        reload(room.people["p2"])
        group = room["p2"]
        assert group.decrypt(messages[number]).content == b"%d" % number


def test_a_past_sender_who_left_is_still_known() -> None:
    room = Room.of(4)
    late = room["p3"].encrypt(b"bye")
    room.add("p0", "q0", remove=("p3",))
    room.commit("p1", remove=("p2",))
    reload(room.people["p1"])
    got = room["p1"].decrypt(late)
    assert (got.content, got.sender.identity) == (b"bye", b"p3")


def test_future_and_foreign_messages_are_named() -> None:
    room, other = Room.of(3), Room.of(2)
    staged = room["p0"].commit(now=NOW)
    room["p0"].apply_own(staged)
    ahead = room["p0"].encrypt(b"x")
    group = room["p1"]
    unmoved(group, FutureEpoch, lambda: group.decrypt(ahead))
    later = room["p0"].commit(now=NOW).commit
    unmoved(group, FutureEpoch, lambda: group.process_commit(later, now=NOW))
    foreign = Group.create(
        group_id=b"elsewhere",
        signature_private=os.urandom(32),
        identity=b"x",
        now=NOW,
        validator=ALLOW_ALL,
    )
    unmoved(group, WrongGroup, lambda: group.decrypt(foreign.encrypt(b"x")))
    del other


def test_creating_is_repeatable_with_the_same_randomness() -> None:
    def create() -> Group:
        return Group.create(
            group_id=b"g",
            signature_private=bytes(32),
            identity=b"x",
            now=NOW,
            validator=ALLOW_ALL,
            rng=rng_of(1),
        )

    assert snapshot(create()) == snapshot(create())


def test_loading_wants_both_parts_of_one_state() -> None:
    room = Room.of(2)
    person = room.people["p0"]
    old = snapshot(person.group)
    room.commit("p0")
    new = snapshot(person.group)
    for epoch, ratchets in ((old[0], new[1]), (new[0], old[1])):
        with pytest.raises(E2eeError):
            Group.load(
                epoch,
                ratchets,
                signature_private=person.signature_private,
                validator=ALLOW_ALL,
            )
    with pytest.raises(UnsupportedSuite):
        Group.load(
            *new,
            signature_private=person.signature_private,
            validator=ALLOW_ALL,
            suite=SUITE_1,
        )
    for part in new:
        with pytest.raises(E2eeError):
            Group.load(
                *(part[:-1] if p is part else p for p in new),
                signature_private=person.signature_private,
                validator=ALLOW_ALL,
            )


def test_the_signature_key_is_not_dumped() -> None:
    room = Room.of(2)
    for person in room.people.values():
        person.group.encrypt(b"x")
        assert person.signature_private not in b"".join(snapshot(person.group))
