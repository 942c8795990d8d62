"""Members, what a commit does to them, and the caller's say in it.

`e2ee` treats identities as opaque bytes and knows no roles. Whoever uses it supplies
a `Validator` (the "Authentication Service" and the policy of RFC 9750): one object,
asked in the same way when building a commit, at the hub and when receiving.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from e2ee.extension import Extensions
from e2ee.group_context import GroupContext

if TYPE_CHECKING:
    from e2ee.proposal import Proposal

NO_LEAF = 0xFFFFFFFF
"""Leaf index of somebody who stands outside the tree (an external sender)."""


@dataclass(frozen=True, slots=True)
class Member:
    """A leaf of the tree, as the caller sees it."""

    leaf: int
    identity: bytes
    signature_key: bytes


@dataclass(frozen=True, slots=True)
class Action:
    """One proposal of a commit: what is done, by whose wish, to whom.

    A commit may carry other people's proposals by reference. Then `proposer` is the
    one whose right to do this counts, not the committer.
    """

    kind: str
    """Name of the proposal type, as in `codepoint.PROPOSAL_NAMES`."""
    proposer: Member
    subject: Member | None
    """Who is added, removed or updated; None for other kinds."""
    by_reference: bool


@dataclass(frozen=True, slots=True)
class CommitEffects:
    """What a commit changes, resolved from its proposals and path."""

    sender: Member
    """Who committed. Of an external commit: the new member at its new leaf."""
    before: tuple[Member, ...] = field(default=(), repr=False, compare=False)
    """Every member before the commit: a policy needs them to tell a newcomer from
    a further device of somebody who is in. Not kept when effects are encoded."""
    added: tuple[Member, ...] = ()
    removed: tuple[Member, ...] = ()
    """As they stood before the commit."""
    updated: tuple[Member, ...] = ()
    """Members with a new leaf, as they stand after it; the committer too if the
    commit has a path."""
    replaced: tuple[Member, ...] = ()
    """The members of `updated` as they stood before, in the same order."""
    extensions_before: Extensions | None = None
    extensions_after: Extensions | None = None
    """Both set if the commit changes the group's extensions, else both None."""
    external: bool = False
    """Whether the sender joined by this very commit."""
    reinit: bool = False
    """Whether the commit ends the group by ReInit."""
    actions: tuple[Action, ...] = ()


@dataclass(frozen=True, slots=True)
class ProposalReceived:
    """A standalone proposal that verified and is kept for a commit of this epoch."""

    ref: bytes
    sender: Member
    """Of an external sender the leaf is `NO_LEAF`."""
    kind: str
    subject: Member | None
    """Who would be added, removed or updated; None for other kinds."""


class Validator(Protocol):
    """What the caller decides; both members and hub supply one."""

    def credential(self, identity: bytes, signature_key: bytes, *, fresh: bool) -> None:
        """Raise `CredentialRefused` unless the identity owns the signature key.

        Args:
            fresh: It comes in now, so its dates are to be judged. Otherwise it was
                let in before, by whoever committed and by the hub: it stands in a
                tree that we join by, or in a commit that we catch up with.
        """
        ...

    def authorize(
        self, context: GroupContext, sender: Member, effects: CommitEffects
    ) -> None:
        """Raise `NotAllowed` unless the commit may be made.

        Called before anything is applied, with the context before the commit.
        """
        ...

    def authorize_proposal(
        self, context: GroupContext, sender: Member, proposal: Proposal
    ) -> None:
        """Raise `NotAllowed` unless the sender may make this proposal."""
        ...


class UnsafeAllowAll:
    """Refuses nothing. For tests and published vectors only."""

    def credential(self, identity: bytes, signature_key: bytes, *, fresh: bool) -> None:
        """Accept."""

    def authorize(
        self, context: GroupContext, sender: Member, effects: CommitEffects
    ) -> None:
        """Accept."""

    def authorize_proposal(
        self, context: GroupContext, sender: Member, proposal: Proposal
    ) -> None:
        """Accept."""


ALLOW_ALL = UnsafeAllowAll()
