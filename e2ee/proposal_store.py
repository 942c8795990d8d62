"""Standalone proposals of the current epoch (RFC 9420 section 12.1).

Kept by reference until a commit names them; forgotten with the epoch. The same code
serves members and the hub.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from e2ee.codec import Reader, decode, vector
from e2ee.codepoint import PROPOSAL, PUBLIC_MESSAGE
from e2ee.errors import InvalidMessage, LimitExceeded, SelfRemoveHidden, UnknownProposal
from e2ee.framing import AuthenticatedContent, Commit, Sender
from e2ee.group_context import GroupContext
from e2ee.member import ProposalReceived, Validator
from e2ee.proposal import Proposal, ProposalRef, SelfRemove, kind_of
from e2ee.proposal_validation import (
    Resolved,
    check_proposal,
    proposal_subject,
    sender_member,
)
from e2ee.protection import verify_content
from e2ee.ratchet_tree import RatchetTree
from e2ee.suite import CipherSuite

MAX_PENDING = 1_000
"""Proposals kept in one epoch: as many as a commit may hold."""


@dataclass(frozen=True, slots=True)
class StoredProposal:
    """A proposal that verified."""

    received: ProposalReceived
    proposal: Proposal
    sender: Sender
    encoded: bytes = field(repr=False)
    """The AuthenticatedContent."""
    private: bytes = field(repr=False, default=b"")
    """Our own Update's new leaf key; empty for everything else."""

    def encode(self) -> bytes:
        """Encode for keeping; may hold a private key."""
        return vector(self.encoded) + vector(self.private)


Pending = Mapping[bytes, StoredProposal]


def proposal_of(message: AuthenticatedContent) -> Proposal:
    """Give the proposal that a message holds.

    Raises:
        InvalidMessage: It holds something else.
    """
    content = message.content.content
    if message.content.content_type != PROPOSAL or isinstance(content, bytes | Commit):
        raise InvalidMessage("the message is not a proposal")
    return content


def describe(
    tree: RatchetTree,
    context: GroupContext,
    message: AuthenticatedContent,
    private: bytes = b"",
) -> StoredProposal:
    """Make the record of a proposal that is known to be valid."""
    proposal = proposal_of(message)
    sender = message.content.sender
    member, _ = sender_member(tree, context, sender, proposal)
    received = ProposalReceived(
        ref=message.proposal_ref(tree.suite),
        sender=member,
        kind=kind_of(proposal),
        subject=proposal_subject(tree, Resolved(proposal, sender, True)),
    )
    return StoredProposal(received, proposal, sender, message.encode(), private)


def accept_proposal(
    tree: RatchetTree,
    context: GroupContext,
    message: AuthenticatedContent,
    validator: Validator,
    pending: Pending,
) -> StoredProposal:
    """Verify a standalone proposal; the membership tag is the caller's to check.

    Raises:
        E2eeError: It is not a valid proposal for this epoch.
    """
    proposal = proposal_of(message)
    sender = message.content.sender
    if isinstance(proposal, SelfRemove) and message.wire_format != PUBLIC_MESSAGE:
        raise SelfRemoveHidden("a SelfRemove must be readable by who joins")
    member, key = sender_member(tree, context, sender, proposal)
    verify_content(tree.suite, key, message, context.encode())
    check_proposal(tree, context, sender, proposal, validator)
    validator.authorize_proposal(context, member, proposal)
    stored = describe(tree, context, message)
    if stored.received.ref not in pending and len(pending) >= MAX_PENDING:
        raise LimitExceeded("the epoch has as many proposals as accepted")
    return stored


def resolve(commit: Commit, sender: Sender, pending: Pending) -> tuple[Resolved, ...]:
    """Look up what a commit refers to.

    Raises:
        UnknownProposal: It was never received in this epoch.
    """
    found: list[Resolved] = []
    for item in commit.proposals:
        if isinstance(item, ProposalRef):
            stored = pending.get(item.ref)
            if stored is None:
                raise UnknownProposal("the commit refers to an unknown proposal")
            found.append(Resolved(stored.proposal, stored.sender, True))
        else:
            found.append(Resolved(item, sender, False))
    return tuple(found)


def read_stored(
    suite: CipherSuite, tree: RatchetTree, context: GroupContext, reader: Reader
) -> StoredProposal:
    """Decode what `StoredProposal.encode` gave."""
    message = decode(reader.vector(), AuthenticatedContent.read)
    return describe(tree, context, message, reader.vector())
