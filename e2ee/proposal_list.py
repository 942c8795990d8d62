"""Judging proposals and applying them (RFC 9420 sections 12.1 to 12.3).

The one place that does so: a member building a commit, a member receiving one and
the hub all come through `apply_proposals`. It holds no secret and works on a copy of
the tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from e2ee.codepoint import (
    EXTERNAL,
    EXTERNAL_SENDER_PROPOSALS,
    MEMBER,
    MLS10,
    NEW_MEMBER_COMMIT,
    NEW_MEMBER_PROPOSAL,
    PATH_REQUIRED_PROPOSALS,
    PSK_RESUMPTION,
    SOURCE_UPDATE,
    USAGE_APPLICATION,
)
from e2ee.errors import (
    BadPskNonce,
    CommitterRemoved,
    CommitterUpdate,
    EncryptionKeyKept,
    ExtensionsTwice,
    ExternalForbids,
    ExternalInitCount,
    ExternalInitMisplaced,
    ExternalReference,
    InvalidProposal,
    LeafTwice,
    PskTwice,
    PskUsageForbidden,
    ReinitNotAlone,
    RemovesNobody,
    SenderForbidden,
    UnknownSender,
    VersionLowered,
    WrongLeafSource,
)
from e2ee.extension import (
    Extensions,
    RequiredCapabilities,
    external_senders,
)
from e2ee.framing import Sender
from e2ee.group_context import GroupContext
from e2ee.key_package import KeyPackage
from e2ee.leaf import LeafNode
from e2ee.member import NO_LEAF, Action, Member, Validator
from e2ee.proposal import (
    Add,
    ExternalInit,
    GroupContextExtensions,
    PreSharedKey,
    Proposal,
    ReInit,
    Remove,
    Update,
    kind_of,
)
from e2ee.psk import PreSharedKeyId
from e2ee.ratchet_tree import RatchetTree
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


@dataclass(frozen=True, slots=True)
class Applied:
    """What a list of proposals makes of a tree and context."""

    tree: RatchetTree
    """A copy of our own: a path may be merged into it."""
    extensions: Extensions
    added: tuple[tuple[int, KeyPackage], ...]
    """New leaves with their KeyPackages, in the order of the proposals."""
    psks: tuple[PreSharedKeyId, ...]
    kem_output: bytes | None
    """Of ExternalInit."""
    reinit: ReInit | None
    path_required: bool
    removed: tuple[Member, ...]
    updated: tuple[Member, ...]
    replaced: tuple[Member, ...]
    actions: tuple[Action, ...]

    @property
    def added_leaves(self) -> frozenset[int]:
        """Leaves that a path is not encrypted to."""
        return frozenset(leaf for leaf, _ in self.added)


# --- single proposals (section 12.1)


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
) -> None:
    """Check one proposal by itself (section 12.1).

    Args:
        extensions: Those that will hold; the context's own if not given.
        fresh: Whether it is to take effect now, and credentials' dates matter.
        now: Judge lifetimes at this time, if given.

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
            old = tree.leaf(sender.index) if sender.type == MEMBER else None
            if old is None:
                raise SenderForbidden("only a member may update its leaf")
            if leaf.source != SOURCE_UPDATE:
                raise WrongLeafSource("the leaf was not made for an Update")
            if leaf.encryption_key == old.encryption_key:
                raise EncryptionKeyKept("the Update keeps its encryption key")
            leaf.check(suite, required)
            leaf.verify(suite, context.group_id, sender.index)
            accept_credential(leaf, validator, fresh=fresh)
        case Remove(removed):
            if tree.leaf(removed) is None:
                raise RemovesNobody("the leaf to be removed is blank")
        case PreSharedKey(psk):
            if len(psk.nonce) != suite.hash.size:
                raise BadPskNonce("the PSK nonce has the wrong length")
            if psk.type == PSK_RESUMPTION and psk.usage != USAGE_APPLICATION:
                raise PskUsageForbidden("this resumption PSK belongs elsewhere")
        case ReInit(_, version, _, _):
            if version < MLS10:
                raise VersionLowered("ReInit cannot lower the version")
        case GroupContextExtensions(new):
            RequiredCapabilities.of(new)
            external_senders(new)
        case ExternalInit():
            pass


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
    return None


# --- the list (sections 12.2 and 12.3)


def _check_list(items: Sequence[Resolved], committer: int | None) -> None:
    """Check the rules of section 12.2 that need no tree."""
    touched: set[int] = set()
    psks: set[bytes] = set()
    kinds = [item.proposal.type for item in items]
    if kinds.count(GroupContextExtensions.type) > 1:
        raise ExtensionsTwice("extensions are replaced more than once")
    if ReInit.type in kinds and len(kinds) > 1:
        raise ReinitNotAlone("ReInit does not stand alone")
    if committer is None:
        _check_external_list(items, kinds)
    elif ExternalInit.type in kinds:
        raise ExternalInitMisplaced("only an external commit may hold ExternalInit")
    for item in items:
        match item.proposal:
            case Update():
                target = item.sender.index
                if target == committer:
                    raise CommitterUpdate("the committer's own Update")
            case Remove(target):
                if target == committer:
                    raise CommitterRemoved("the committer would remove itself")
            case PreSharedKey(psk):
                encoded = psk.encode()
                if encoded in psks:
                    raise PskTwice("a PSK stands twice")
                psks.add(encoded)
                continue
            case _:
                continue
        if target in touched:
            raise LeafTwice("a leaf is updated or removed twice")
        touched.add(target)


def _check_external_list(items: Sequence[Resolved], kinds: Sequence[int]) -> None:
    allowed = {ExternalInit.type, Remove.type, PreSharedKey.type}
    if kinds.count(ExternalInit.type) != 1:
        raise ExternalInitCount("an external commit needs one ExternalInit")
    if kinds.count(Remove.type) > 1 or not set(kinds) <= allowed:
        raise ExternalForbids("an external commit may not hold this")
    if any(item.by_reference for item in items):
        raise ExternalReference("an external commit refers to a proposal")


def apply_proposals(
    tree: RatchetTree,
    context: GroupContext,
    committer: int | None,
    items: Sequence[Resolved],
    validator: Validator,
    *,
    now: int | None = None,
) -> Applied:
    """Judge a list of proposals and apply it to a copy of the tree.

    Args:
        committer: Its leaf index; None of an external commit.
        now: Judge the dates of what comes in at this time, if given.

    Raises:
        InvalidProposalList and whatever `check_proposal` raises.
    """
    _check_list(items, committer)
    extensions = context.extensions
    for item in items:
        if isinstance(item.proposal, GroupContextExtensions):
            extensions = item.proposal.extensions
    new = tree.copy()
    proposers = [
        _check_item(tree, context, item, extensions, validator, now) for item in items
    ]
    removed: list[Member] = []
    updated: list[Member] = []
    replaced: list[Member] = []
    for item in items:
        if isinstance(item.proposal, Update):
            index = item.sender.index
            replaced.append(leaf_member(tree, index))
            updated.append(member_of(index, item.proposal.leaf_node))
            new.update_leaf(index, item.proposal.leaf_node)
    for item in items:
        if isinstance(item.proposal, Remove):
            removed.append(leaf_member(tree, item.proposal.removed))
            new.remove_leaf(item.proposal.removed)
    if removed:
        new.truncate()
    added: list[tuple[int, KeyPackage]] = []
    for item in items:
        if isinstance(item.proposal, Add):
            package = item.proposal.key_package
            added.append((new.add_leaf(package.leaf_node), package))
    places = {id(package): leaf for leaf, package in added}
    actions: list[Action] = []
    for item, proposer in zip(items, proposers, strict=True):
        subject = proposal_subject(tree, item)
        if isinstance(item.proposal, Add) and subject is not None:
            subject = replace(subject, leaf=places[id(item.proposal.key_package)])
        actions.append(
            Action(kind_of(item.proposal), proposer, subject, item.by_reference)
        )
    check_members(new, extensions, check_all=extensions is not context.extensions)
    kinds = {item.proposal.type for item in items}
    return Applied(
        tree=new,
        extensions=extensions,
        added=tuple(added),
        psks=tuple(
            item.proposal.psk
            for item in items
            if isinstance(item.proposal, PreSharedKey)
        ),
        kem_output=next(
            (
                item.proposal.kem_output
                for item in items
                if isinstance(item.proposal, ExternalInit)
            ),
            None,
        ),
        reinit=next(
            (item.proposal for item in items if isinstance(item.proposal, ReInit)),
            None,
        ),
        path_required=not items or not kinds.isdisjoint(PATH_REQUIRED_PROPOSALS),
        removed=tuple(removed),
        updated=tuple(updated),
        replaced=tuple(replaced),
        actions=tuple(actions),
    )


def _check_item(
    tree: RatchetTree,
    context: GroupContext,
    item: Resolved,
    extensions: Extensions,
    validator: Validator,
    now: int | None,
) -> Member:
    """Check one proposal of a list and give its proposer."""
    proposer = NEWCOMER
    if item.sender.type != NEW_MEMBER_COMMIT:
        proposer, _ = sender_member(tree, context, item.sender, item.proposal)
    check_proposal(
        tree,
        context,
        item.sender,
        item.proposal,
        validator,
        extensions=extensions,
        now=now,
        fresh=now is not None,
    )
    if item.by_reference:
        validator.authorize_proposal(context, proposer, item.proposal)
    return proposer


def leaf_member(tree: RatchetTree, index: int) -> Member:
    leaf = tree.leaf(index)
    if leaf is None:
        raise InvalidProposal("the leaf is blank")
    return member_of(index, leaf)


def check_members(
    tree: RatchetTree, extensions: Extensions, *, check_all: bool
) -> None:
    """Check the rules of section 7.3 that speak of all members."""
    tree.census.check_unique()
    tree.census.check_credentials()
    tree.census.check_extensions(extension.type for extension in extensions)
    if check_all:
        tree.census.check_required(RequiredCapabilities.of(extensions))
