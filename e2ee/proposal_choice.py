"""Which of the proposals that wait go into a commit (RFC 9420 section 12.4).

Anybody can send proposals; one that is invalid, or that the caller's policy refuses,
must never stop somebody else's commit. So ours are set, and of the others goes in
what is valid and allowed together with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from e2ee.codepoint import MEMBER
from e2ee.epoch import Epoch, PskLookup
from e2ee.errors import (
    InvalidMessage,
    LimitExceeded,
    Malformed,
    NotAllowed,
    Refused,
    Unsupported,
)
from e2ee.framing import MAX_PROPOSALS, Sender
from e2ee.group_context import GroupContext
from e2ee.member import CommitEffects, Member, Validator
from e2ee.proposal import (
    GroupContextExtensions,
    PreSharedKey,
    Proposal,
    ReInit,
    Remove,
    SelfRemove,
    Update,
)
from e2ee.proposal_list import Applied, apply_proposals
from e2ee.proposal_store import StoredProposal
from e2ee.proposal_validation import Resolved, check_proposal, leaf_member
from e2ee.transition import commit_effects

MAX_TRIES = 32
"""Pending proposals tried one by one when they do not fit together; a commit with so
many takes milliseconds each."""

_UNFIT = (InvalidMessage, Malformed, Refused, Unsupported)


@dataclass(frozen=True, slots=True)
class ProposalChoice:
    """What it takes to choose."""

    epoch: Epoch
    validator: Validator
    psk: PskLookup = field(repr=False)
    linking: bool = False
    """Whether it makes a successor or subgroup (sections 11.2, 11.3)."""

    def choose(
        self,
        proposals: Sequence[Proposal],
        pending: Sequence[StoredProposal],
        now: int,
    ) -> tuple[list[StoredProposal | Proposal], Applied]:
        """Give the proposals to commit: ours, and what fits of the pending ones.

        The work stays linear in the number of pending proposals, whoever sent them:
        only if the rest is not valid and allowed together are few of them tried one
        by one, or of many the removals alone.
        """
        if len(proposals) > MAX_PROPOSALS:
            raise LimitExceeded("the commit has more proposals than accepted")
        ours: list[StoredProposal | Proposal] = list(proposals)
        candidates = self._candidates(proposals, pending)
        firsts: dict[object, StoredProposal] = {}
        for subject, candidate in candidates:
            firsts.setdefault(subject, candidate)
        everything = [*list(firsts.values())[: MAX_PROPOSALS - len(ours)], *ours]
        if candidates and (fitting := self._try(everything, now)) is not None:
            return everything, fitting
        applied, chosen = self._apply(ours, now, self.validator), ours
        if len(candidates) > MAX_TRIES:
            candidates = [
                c for c in candidates if isinstance(c[1].proposal, Remove | SelfRemove)
            ]
        taken: set[object] = set()
        tries = 0
        for subject, candidate in _in_turn(candidates):
            if subject in taken or len(chosen) >= MAX_PROPOSALS:
                continue
            if tries == MAX_TRIES:
                break
            tries += 1
            attempt = [candidate, *chosen]
            if (fitting := self._try(attempt, now)) is not None:
                applied, chosen = fitting, attempt
                taken.add(subject)
        return chosen, applied

    def _apply(
        self,
        chosen: Sequence[StoredProposal | Proposal],
        now: int,
        validator: Validator,
    ) -> Applied:
        epoch = self.epoch
        own = Sender(MEMBER, epoch.own_leaf)
        items = [
            Resolved(item.proposal, item.sender, True)
            if isinstance(item, StoredProposal)
            else Resolved(item, own, False)
            for item in chosen
        ]
        return apply_proposals(
            epoch.tree,
            epoch.context,
            epoch.own_leaf,
            items,
            validator,
            now=now,
            linking=self.linking,
        )

    def _try(
        self, chosen: Sequence[StoredProposal | Proposal], now: int
    ) -> Applied | None:
        """Apply what may hold pending proposals, if it is valid and allowed."""
        epoch, judge = self.epoch, Judge(self.validator)
        me = leaf_member(epoch.tree, epoch.own_leaf)
        try:
            applied = self._apply(chosen, now, judge)
            effects = commit_effects(
                epoch.tree, applied, epoch.context, me, me, has_path=False
            )
            judge.authorize(epoch.context, me, effects)
        except _UNFIT:
            return None
        return applied

    def _candidates(
        self, proposals: Sequence[Proposal], pending: Sequence[StoredProposal]
    ) -> list[tuple[object, StoredProposal]]:
        """Leave out of the pending proposals what plainly cannot be committed.

        Returns:
            The rest, the preferred first, each with what it is about: of those
            about the same thing only one can be committed.
        """
        epoch = self.epoch
        kinds = {type(proposal) for proposal in proposals}
        touched: set[object] = {epoch.own_leaf}
        touched |= {item.removed for item in proposals if isinstance(item, Remove)}
        # A Remove is preferred to an Update of the same leaf, a later Update to an
        # earlier one (section 12.2): so Removes are tried first, the rest backwards.
        # A SelfRemove makes a Remove of the same leaf invalid.
        newest_first = sorted(reversed(pending), key=lambda item: _rank(item.proposal))
        found: list[tuple[object, StoredProposal]] = []
        for item in newest_first:
            match item.proposal:
                case Remove(leaf):
                    subject: object = leaf
                case Update() | SelfRemove():
                    subject = item.sender.index
                case PreSharedKey(id_):
                    subject = id_.encode()
                    if self.psk(id_) is None:
                        continue
                case GroupContextExtensions():
                    subject = GroupContextExtensions
                    if GroupContextExtensions in kinds:
                        continue
                case ReInit():
                    if len(pending) + len(proposals) > 1:
                        continue
                    subject = ReInit
                case _:
                    subject = item.received.ref
            if subject not in touched and self._valid(item):
                found.append((subject, item))
        return found

    def _valid(self, item: StoredProposal) -> bool:
        """Whether a pending proposal is (still) valid by itself, and allowed."""
        epoch, judge = self.epoch, Judge(self.validator)
        try:
            check_proposal(epoch.tree, epoch.context, item.sender, item.proposal, judge)
            judge.authorize_proposal(epoch.context, item.received.sender, item.proposal)
        except _UNFIT:
            return False
        return True


def _rank(proposal: Proposal) -> int:
    match proposal:
        case SelfRemove():
            return 0
        case Remove():
            return 1
    return 2


class Judge:
    """The caller's validator, whose every exception means no.

    For what others proposed: the exceptions of the caller are its own, and what it
    refuses of theirs must not stop our commit.
    """

    def __init__(self, validator: Validator) -> None:
        self._validator = validator

    def credential(self, identity: bytes, signature_key: bytes, *, fresh: bool) -> None:
        _ask(lambda: self._validator.credential(identity, signature_key, fresh=fresh))

    def authorize(
        self, context: GroupContext, sender: Member, effects: CommitEffects
    ) -> None:
        _ask(lambda: self._validator.authorize(context, sender, effects))

    def authorize_proposal(
        self, context: GroupContext, sender: Member, proposal: Proposal
    ) -> None:
        _ask(lambda: self._validator.authorize_proposal(context, sender, proposal))


def _ask(question: Callable[[], None]) -> None:
    try:
        question()
    except Exception as error:
        raise NotAllowed("the caller refuses a pending proposal") from error


def _in_turn(
    candidates: Sequence[tuple[object, StoredProposal]],
) -> list[tuple[object, StoredProposal]]:
    """One candidate of each sender, then a second one: nobody crowds others out."""
    count: dict[Sender, int] = {}
    ranked: list[tuple[int, tuple[object, StoredProposal]]] = []
    for candidate in candidates:
        sender = candidate[1].sender
        count[sender] = count.get(sender, 0) + 1
        ranked.append((count[sender], candidate))
    return [candidate for _, candidate in sorted(ranked, key=lambda item: item[0])]
