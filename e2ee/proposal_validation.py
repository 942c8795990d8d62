"""Judging one proposal (RFC 9420 section 12.1): who sent it, and is it valid alone.

Holds no secret. What holds for a list of proposals is in `proposal_list`.
"""

from __future__ import annotations

from dataclasses import dataclass

from e2ee.codepoint import (
    EXTERNAL,
    EXTERNAL_SENDER_PROPOSALS,
    MEMBER,
    MLS10,
    NEW_MEMBER_PROPOSAL,
    PSK_RESUMPTION,
    SOURCE_UPDATE,
    USAGE_APPLICATION,
)
from e2ee.errors import (
    BadPskNonce,
    EncryptionKeyKept,
    InvalidProposal,
    PskUsageForbidden,
    RemovesNobody,
    SenderForbidden,
    UnknownSender,
    VersionLowered,
    WrongLeafSource,
)
from e2ee.extension import Extensions, RequiredCapabilities, external_senders
from e2ee.framing import Sender
from e2ee.group_context import GroupContext
from e2ee.leaf import LeafNode
from e2ee.member import NO_LEAF, Member, Validator
from e2ee.proposal import (
    Add,
    ExternalInit,
    GroupContextExtensions,
    PreSharedKey,
    Proposal,
    ReInit,
    Remove,
    SelfRemove,
    Update,
)
from e2ee.psk import PreSharedKeyId
from e2ee.ratchet_tree import RatchetTree
from e2ee.suite import CipherSuite
from e2ee.tree_validation import accept_credential

NEWCOMER = Member(NO_LEAF, b"", b"")
"""Stands for the sender of an external commit until its leaf is known."""


def member_of(leaf: int, node: LeafNode) -> Member:
    """Show a leaf as the caller sees it."""
    return Member(leaf, node.credential.identity, node.signature_key)


@dataclass(frozen=True, slots=True)
class Resolved:
    """A proposal of a commit, with who proposed it."""

    proposal: Proposal
    sender: Sender
    by_reference: bool


def leaf_member(tree: RatchetTree, index: int) -> Member:
    leaf = tree.leaf(index)
    if leaf is None:
        raise InvalidProposal("the leaf is blank")
    return member_of(index, leaf)


def sender_member(
    tree: RatchetTree, context: GroupContext, sender: Sender, proposal: Proposal | None
) -> tuple[Member, bytes]:
    """Give who sent something, and the key that must have signed it.

    Raises:
        UnknownSender: There is nobody there.
        InvalidProposal: A sender of this kind may not propose this.
    """
    if sender.type == MEMBER:
        leaf = tree.leaf(sender.index)
        if leaf is None:
            raise UnknownSender("the sender is not a member")
        return member_of(sender.index, leaf), leaf.signature_key
    if sender.type == EXTERNAL:
        known = external_senders(context.extensions)
        if sender.index >= len(known):
            raise UnknownSender("the external sender is not listed")
        if proposal is None or proposal.type not in EXTERNAL_SENDER_PROPOSALS:
            raise SenderForbidden("an external sender may not propose this")
        key = known[sender.index].signature_key
        return Member(NO_LEAF, known[sender.index].credential.identity, key), key
    if sender.type == NEW_MEMBER_PROPOSAL:
        if not isinstance(proposal, Add):
            raise SenderForbidden("a new member may propose to add itself alone")
        leaf = proposal.key_package.leaf_node
        return member_of(NO_LEAF, leaf), leaf.signature_key
    raise UnknownSender("this sender cannot send this")


def check_proposal(
    tree: RatchetTree,
    context: GroupContext,
    sender: Sender,
    proposal: Proposal,
    validator: Validator,
    *,
    extensions: Extensions | None = None,
    now: int | None = None,
    fresh: bool = True,
    linking: bool = False,
) -> None:
    """Check one proposal by itself (section 12.1).

    Args:
        extensions: Those that will hold; the context's own if not given.
        fresh: Whether it is to take effect now, and credentials' dates matter.
        now: Judge lifetimes at this time, if given.
        linking: Whether it makes a successor or subgroup (sections 11.2, 11.3).

    Raises:
        InvalidProposal, InvalidKeyPackage, InvalidLeaf, BadSignature,
        CredentialRefused, UnsupportedSuite.
    """
    suite = tree.suite
    if extensions is None:
        extensions = context.extensions
    required = RequiredCapabilities.of(extensions)
    match proposal:
        case Add(key_package):
            leaf = key_package.leaf_node
            key_package.verify(suite, required)
            if now is not None and leaf.lifetime is not None:
                leaf.lifetime.check(now)
            accept_credential(leaf, validator, fresh=fresh)
        case Update(leaf):
            _check_update(tree, context, sender, leaf, required)
            accept_credential(leaf, validator, fresh=fresh)
        case Remove(removed):
            if tree.leaf(removed) is None:
                raise RemovesNobody("the leaf to be removed is blank")
        case PreSharedKey(psk):
            _check_psk(suite, psk, linking)
        case ReInit(_, version, _, _):
            if version < MLS10:
                raise VersionLowered("ReInit cannot lower the version")
        case GroupContextExtensions(new):
            RequiredCapabilities.of(new)
            external_senders(new)
        case SelfRemove():
            if sender.type != MEMBER:
                raise SenderForbidden("only a member may remove itself")
        case ExternalInit():
            pass


def _check_update(
    tree: RatchetTree,
    context: GroupContext,
    sender: Sender,
    leaf: LeafNode,
    required: RequiredCapabilities,
) -> None:
    old = tree.leaf(sender.index) if sender.type == MEMBER else None
    if old is None:
        raise SenderForbidden("only a member may update its leaf")
    if leaf.source != SOURCE_UPDATE:
        raise WrongLeafSource("the leaf was not made for an Update")
    if leaf.encryption_key == old.encryption_key:
        raise EncryptionKeyKept("the Update keeps its encryption key")
    leaf.check(tree.suite, required)
    leaf.verify(tree.suite, context.group_id, sender.index)


def _check_psk(suite: CipherSuite, psk: PreSharedKeyId, linking: bool) -> None:
    if len(psk.nonce) != suite.hash.size:
        raise BadPskNonce("the PSK nonce has the wrong length")
    special = psk.type == PSK_RESUMPTION and psk.usage != USAGE_APPLICATION
    if special and not linking:
        raise PskUsageForbidden("this resumption PSK belongs elsewhere")


def proposal_subject(tree: RatchetTree, resolved: Resolved) -> Member | None:
    """Say whom a valid proposal is about."""
    match resolved.proposal:
        case Add(key_package):
            return member_of(NO_LEAF, key_package.leaf_node)
        case Remove(removed):
            leaf = tree.leaf(removed)
            return None if leaf is None else member_of(removed, leaf)
        case Update(leaf):
            return member_of(resolved.sender.index, leaf)
        case SelfRemove():
            return leaf_member(tree, resolved.sender.index)
    return None
