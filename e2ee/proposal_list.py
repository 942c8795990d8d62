"""Judging a list of proposals and applying it (RFC 9420 sections 12.2 and 12.3).

The one place that does so: a member building a commit, a member receiving one and
the hub all come through `apply_proposals`. It holds no secret and works on a copy of
the tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from e2ee.codepoint import NEW_MEMBER_COMMIT, PATH_REQUIRED_PROPOSALS
from e2ee.errors import (
    CommitterRemoved,
    CommitterUpdate,
    ExtensionsTwice,
    ExternalForbids,
    ExternalInitCount,
    ExternalInitMisplaced,
    ExternalReference,
    ExternalRemoves,
    LeafTwice,
    PskTwice,
    ReinitNotAlone,
    SelfRemoveByValue,
)
from e2ee.extension import Extensions, RequiredCapabilities
from e2ee.group_context import GroupContext
from e2ee.key_package import KeyPackage
from e2ee.member import Action, Member, Validator
from e2ee.proposal import (
    Add,
    ExternalInit,
    GroupContextExtensions,
    PreSharedKey,
    ReInit,
    Remove,
    SelfRemove,
    Update,
    kind_of,
)
from e2ee.proposal_validation import (
    NEWCOMER,
    Resolved,
    check_proposal,
    leaf_member,
    member_of,
    proposal_subject,
    sender_member,
)
from e2ee.psk import PreSharedKeyId
from e2ee.ratchet_tree import RatchetTree


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


# --- what section 12.2 says of a list without looking at the tree


def _check_list(items: Sequence[Resolved], committer: int | None) -> None:
    kinds = [item.proposal.type for item in items]
    if kinds.count(GroupContextExtensions.type) > 1:
        raise ExtensionsTwice("extensions are replaced more than once")
    if ReInit.type in kinds and len(kinds) > 1:
        raise ReinitNotAlone("ReInit does not stand alone")
    if committer is None:
        _check_external_list(items, kinds)
    elif ExternalInit.type in kinds:
        raise ExternalInitMisplaced("only an external commit may hold ExternalInit")
    _check_targets(items, committer)
    psks = [
        i.proposal.psk.encode() for i in items if isinstance(i.proposal, PreSharedKey)
    ]
    if len(set(psks)) != len(psks):
        raise PskTwice("a PSK stands twice")


def _check_external_list(items: Sequence[Resolved], kinds: Sequence[int]) -> None:
    """Check the list of an external commit; SelfRemoves may be referred to."""
    if kinds.count(ExternalInit.type) != 1:
        raise ExternalInitCount("an external commit needs one ExternalInit")
    if kinds.count(Remove.type) > 1:
        raise ExternalRemoves("an external commit removes more than one leaf")
    allowed = {ExternalInit.type, Remove.type, PreSharedKey.type, SelfRemove.type}
    if not set(kinds) <= allowed:
        raise ExternalForbids("an external commit may not hold this")
    for item in items:
        if item.by_reference and not isinstance(item.proposal, SelfRemove):
            raise ExternalReference("an external commit refers to a proposal")


def _check_targets(items: Sequence[Resolved], committer: int | None) -> None:
    """Check that each leaf is updated or removed once, and not the committer's."""
    touched: set[int] = set()
    for item in items:
        match item.proposal:
            case Update():
                target = item.sender.index
                if target == committer:
                    raise CommitterUpdate("the committer's own Update")
            case Remove(target):
                if target == committer:
                    raise CommitterRemoved("the committer would remove itself")
            case SelfRemove():
                target = item.sender.index
                if not item.by_reference:
                    raise SelfRemoveByValue("a SelfRemove is not referred to")
                if target == committer:
                    raise CommitterRemoved("the committer would remove itself")
            case _:
                continue
        if target in touched:
            raise LeafTwice("a leaf is updated or removed twice")
        touched.add(target)


# --- applying (section 12.3)


class _TreeChange:
    """A copy of a tree, and what was done to it so far."""

    def __init__(self, tree: RatchetTree) -> None:
        self.before = tree
        self.tree = tree.copy()
        self.updated: list[Member] = []
        self.replaced: list[Member] = []
        self.removed: list[Member] = []
        self.added: list[tuple[int, KeyPackage]] = []
        self._places: dict[int, int] = {}

    def update(self, items: Sequence[Resolved]) -> None:
        """Apply the Updates, in any order."""
        for item in items:
            if isinstance(item.proposal, Update):
                index, leaf = item.sender.index, item.proposal.leaf_node
                self.replaced.append(leaf_member(self.before, index))
                self.updated.append(member_of(index, leaf))
                self.tree.update_leaf(index, leaf)

    def remove(self, items: Sequence[Resolved]) -> None:
        """Apply the SelfRemoves and Removes, in any order."""
        for item in items:
            match item.proposal:
                case Remove(index):
                    pass
                case SelfRemove():
                    index = item.sender.index
                case _:
                    continue
            self.removed.append(leaf_member(self.before, index))
            self.tree.remove_leaf(index)
        if self.removed:
            self.tree.truncate()

    def add(self, items: Sequence[Resolved]) -> None:
        """Apply the Adds, in their order."""
        for item in items:
            if isinstance(item.proposal, Add):
                package = item.proposal.key_package
                place = self.tree.add_leaf(package.leaf_node)
                self.added.append((place, package))
                self._places[id(package)] = place

    def action(self, item: Resolved, proposer: Member) -> Action:
        """Say what a proposal did, for the caller to judge."""
        kind, subject = kind_of(item.proposal), proposal_subject(self.before, item)
        if isinstance(item.proposal, SelfRemove):
            # To a policy it is a removal like others, by the one who leaves.
            kind = kind_of(Remove(item.sender.index))
        if isinstance(item.proposal, Add) and subject is not None:
            place = self._places[id(item.proposal.key_package)]
            subject = replace(subject, leaf=place)
        return Action(kind, proposer, subject, item.by_reference)


def apply_proposals(
    tree: RatchetTree,
    context: GroupContext,
    committer: int | None,
    items: Sequence[Resolved],
    validator: Validator,
    *,
    now: int | None = None,
    linking: bool = False,
) -> Applied:
    """Judge a list of proposals and apply it to a copy of the tree.

    Args:
        committer: Its leaf index; None of an external commit.
        now: Judge the dates of what comes in at this time, if given.
        linking: Whether it makes a successor or subgroup (sections 11.2, 11.3).

    Raises:
        InvalidProposalList and whatever `check_proposal` raises.
    """
    # (1) Each is valid, and all together.
    _check_list(items, committer)
    extensions = _extensions_after(context, items)
    proposers = [
        _check_item(tree, context, item, extensions, validator, now, linking)
        for item in items
    ]
    # (2) The tree; who stays must know each type, who comes or goes need not.
    change = _TreeChange(tree)
    change.update(items)
    change.remove(items)
    kinds = {item.proposal.type for item in items}
    change.tree.census.check_proposals(kinds)
    change.add(items)
    # (3) The members fit together, and to the group.
    changed = extensions is not context.extensions
    check_members(change.tree, extensions, check_all=changed)
    proposals = [item.proposal for item in items]
    inits = [p.kem_output for p in proposals if isinstance(p, ExternalInit)]
    reinits = [p for p in proposals if isinstance(p, ReInit)]
    return Applied(
        tree=change.tree,
        extensions=extensions,
        added=tuple(change.added),
        psks=tuple(p.psk for p in proposals if isinstance(p, PreSharedKey)),
        kem_output=inits[0] if inits else None,
        reinit=reinits[0] if reinits else None,
        path_required=not items or not kinds.isdisjoint(PATH_REQUIRED_PROPOSALS),
        removed=tuple(change.removed),
        updated=tuple(change.updated),
        replaced=tuple(change.replaced),
        actions=tuple(map(change.action, items, proposers)),
    )


def _extensions_after(context: GroupContext, items: Sequence[Resolved]) -> Extensions:
    """Give the extensions that hold for all other proposals of the list too."""
    for item in items:
        if isinstance(item.proposal, GroupContextExtensions):
            return item.proposal.extensions
    return context.extensions


def _check_item(
    tree: RatchetTree,
    context: GroupContext,
    item: Resolved,
    extensions: Extensions,
    validator: Validator,
    now: int | None,
    linking: bool,
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
        linking=linking,
    )
    if item.by_reference:
        validator.authorize_proposal(context, proposer, item.proposal)
    return proposer


def check_members(
    tree: RatchetTree, extensions: Extensions, *, check_all: bool
) -> None:
    """Check the rules of section 7.3 that speak of all members."""
    tree.census.check_unique()
    tree.census.check_credentials()
    tree.census.check_extensions(extension.type for extension in extensions)
    if check_all:
        tree.census.check_required(RequiredCapabilities.of(extensions))
