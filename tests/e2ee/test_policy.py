"""The caller's say: one validator when building, at the hub and when receiving."""

from __future__ import annotations

import os
from functools import partial

import pytest

from e2ee import ALLOW_ALL
from e2ee.codepoint import MEMBER
from e2ee.errors import (
    CredentialRefused,
    E2eeError,
    NotAllowed,
)
from e2ee.framing import Sender
from e2ee.group_context import GroupContext
from e2ee.member import CommitEffects, Member, UnsafeAllowAll
from e2ee.proposal import Proposal, ProposalRef, Remove
from tests.e2ee.support import (
    NOW,
    Room,
    bundle_for,
    commit_in,
    forge,
    unmoved,
)


class Rules(UnsafeAllowAll):
    """Only p0 removes others; anybody may propose to leave; mallory is nobody."""

    def credential(self, identity: bytes, signature_key: bytes, *, fresh: bool) -> None:
        if identity == b"mallory":
            raise CredentialRefused("unknown")

    def authorize(
        self, context: GroupContext, sender: Member, effects: CommitEffects
    ) -> None:
        for action in effects.actions:
            if action.kind == "remove":
                own = action.proposer == action.subject
                if action.proposer.identity != b"p0" and not own:
                    raise NotAllowed("only p0 removes")

    def authorize_proposal(
        self, context: GroupContext, sender: Member, proposal: Proposal
    ) -> None:
        other = isinstance(proposal, Remove) and proposal.removed != sender.leaf
        if other and sender.identity != b"p0":
            raise NotAllowed("only p0 removes")


def test_policy_holds_when_building_at_the_hub_and_when_receiving() -> None:
    room = Room.of(4, validator=Rules())
    rebel = room["p1"]
    unmoved(rebel, NotAllowed, lambda: rebel.commit(remove=[2], now=NOW))
    unmoved(rebel, NotAllowed, lambda: rebel.propose_remove(2))
    # The rebel patches its client.
    rebel._validator = ALLOW_ALL
    staged = rebel.commit(remove=[2], now=NOW)
    with pytest.raises(NotAllowed):
        room.hub.process_commit(staged.commit, staged.group_info, now=NOW)
    for name in ("p0", "p2", "p3"):
        group = room[name]
        unmoved(
            group, NotAllowed, partial(group.process_commit, staged.commit, now=NOW)
        )
    proposal = rebel.propose_remove(2)
    with pytest.raises(NotAllowed):
        room.hub.receive_proposal(proposal)
    unmoved(room["p0"], NotAllowed, lambda: room["p0"].receive_proposal(proposal))


def test_others_proposals_are_judged_by_their_proposer() -> None:
    room = Room.of(4, validator=Rules())
    room.propose("p3", room["p3"].propose_remove(room.leaf("p3")))
    staged = room.commit("p1")
    assert [m.identity for m in staged.effects.removed] == [b"p3"]


def test_a_refused_credential_is_not_added() -> None:
    room = Room.of(2, validator=Rules())
    package = bundle_for("mallory", os.urandom(32)).key_package
    group = room["p0"]
    unmoved(group, CredentialRefused, lambda: group.commit(add=[package], now=NOW))
    unmoved(
        group, CredentialRefused, lambda: group.commit(identity=b"mallory", now=NOW)
    )
    unmoved(group, CredentialRefused, lambda: group.propose_update(identity=b"mallory"))


def test_a_forbidden_pending_proposal_does_not_ride_along() -> None:
    room = Room.of(4)
    room.propose("p1", room["p1"].propose_remove(2))
    for person in room.people.values():
        person.group._validator = Rules()
    staged = room["p0"].commit(now=NOW)
    assert commit_in(staged).proposals == ()
    # And if somebody does commit it, it is refused.
    pending = room["p3"].pending_proposals[0]
    room["p3"]._validator = ALLOW_ALL
    staged = room["p3"].commit(now=NOW)
    assert commit_in(staged).proposals == (ProposalRef(pending.ref),)
    unmoved(
        room["p0"],
        NotAllowed,
        lambda: room["p0"].process_commit(staged.commit, now=NOW),
    )


class Foreign(UnsafeAllowAll):
    """Judges removals when they are committed alone, with an error of its own."""

    def authorize(
        self, context: GroupContext, sender: Member, effects: CommitEffects
    ) -> None:
        for action in effects.actions:
            own = action.proposer == action.subject
            if action.kind == "remove" and action.by_reference and not own:
                raise LookupError("not in my house")


def test_a_refused_wish_neither_stops_a_commit_nor_hides_a_good_one() -> None:
    room = Room(validator=Foreign())
    room.add("p0", *(f"p{number}" for number in range(1, 45)))
    group = room["p0"]
    good = [room[f"p{n}"].propose_remove(n) for n in (3, 4)]
    # More than are tried one by one; some are about the same leaves, and newer.
    bad = [forge(room["p1"], Remove(leaf)) for leaf in range(2, 45)]
    for message in (good[0], *bad, good[1]):
        group.receive_proposal(message)
    staged = group.commit(remove=[2], now=NOW)
    assert {m.identity for m in staged.effects.removed} == {b"p2", b"p3", b"p4"}


def test_what_we_ask_for_ourselves_is_refused_in_the_callers_words() -> None:
    class Never(UnsafeAllowAll):
        def authorize(self, *args: object) -> None:
            raise LookupError("never")

    room = Room.of(3)
    room.propose("p1", room["p1"].propose_remove(1))
    room["p0"]._validator = Never()
    with pytest.raises(LookupError, match="never"):
        room["p0"].commit(remove=[2], now=NOW)


def test_forging_needs_the_key() -> None:
    room = Room.of(3)
    message = forge(
        room["p1"],
        Remove(2),
        sender=Sender(MEMBER, 0),
        signature_private=os.urandom(32),
    )
    unmoved(room["p2"], E2eeError, lambda: room["p2"].receive_proposal(message))
