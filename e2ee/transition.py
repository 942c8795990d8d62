"""From one epoch to the next, as far as it is public (RFC 9420 section 12.4).

Members and hub take a commit through the same `advance`. Nothing here holds a secret;
everything works on a copy of the tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from e2ee.codepoint import COMMIT, MEMBER, NEW_MEMBER_COMMIT, SOURCE_COMMIT
from e2ee.errors import (
    EncryptionKeyKept,
    InvalidCommit,
    InvalidMessage,
    LimitExceeded,
    PathRequired,
    UnknownSender,
    WrongLeafSource,
)
from e2ee.extension import RequiredCapabilities
from e2ee.framing import AuthenticatedContent, Commit
from e2ee.group_context import GroupContext
from e2ee.key_schedule import confirmed_transcript_hash, interim_transcript_hash
from e2ee.member import CommitEffects, Member, Validator
from e2ee.proposal_list import Applied, apply_proposals, check_members
from e2ee.proposal_validation import (
    NEWCOMER,
    Resolved,
    leaf_member,
    member_of,
    sender_member,
)
from e2ee.ratchet_tree import MAX_LEAVES, RatchetTree
from e2ee.tree_validation import accept_credential
from e2ee.treekem import UpdatePath, merge_update_path


@dataclass(frozen=True, slots=True)
class Transition:
    """The public side of the next epoch, and what the secret side needs."""

    applied: Applied
    tree: RatchetTree
    committer: int
    """Leaf index; of an external commit, the new one."""
    provisional: GroupContext
    """What path secrets are encrypted under."""
    context: GroupContext
    interim_transcript_hash: bytes
    effects: CommitEffects


def commit_effects(
    tree: RatchetTree,
    applied: Applied,
    context: GroupContext,
    sender: Member,
    before: Member | None,
    *,
    has_path: bool,
) -> CommitEffects:
    """Sum up what a commit does, for the caller to judge.

    Args:
        tree: The tree before the commit.
        sender: The committer as it stands after the commit.
        before: The committer as it stood; None of an external commit.
    """
    updated, replaced = applied.updated, applied.replaced
    added = tuple(member_of(leaf, kp.leaf_node) for leaf, kp in applied.added)
    if before is None:
        added = (*added, sender)
    elif has_path:
        updated, replaced = (*updated, sender), (*replaced, before)
    changed = any(
        action.kind == "group_context_extensions" for action in applied.actions
    )
    return CommitEffects(
        sender=sender,
        before=tuple(member_of(at, leaf) for at, leaf in tree.leaves()),
        added=added,
        removed=applied.removed,
        updated=updated,
        replaced=replaced,
        extensions_before=context.extensions if changed else None,
        extensions_after=applied.extensions if changed else None,
        external=before is None,
        reinit=applied.reinit is not None,
        actions=tuple(
            replace(action, proposer=sender) if action.proposer is NEWCOMER else action
            for action in applied.actions
        ),
    )


def commit_of(message: AuthenticatedContent) -> tuple[Commit, bytes]:
    """Give a message's commit and confirmation tag.

    Raises:
        InvalidMessage: It holds something else.
    """
    commit, tag = message.content.content, message.auth.confirmation_tag
    if message.content.content_type != COMMIT or not isinstance(commit, Commit):
        raise InvalidMessage("the message is not a commit")
    if tag is None:  # pragma: no cover - the decoder sets it for commits
        raise InvalidMessage("the commit has no confirmation tag")
    return commit, tag


def commit_signer(
    tree: RatchetTree, context: GroupContext, message: AuthenticatedContent
) -> bytes:
    """Give the key that must have signed a commit (section 6.1).

    Raises:
        UnknownSender, PathRequired: There is none.
    """
    commit, _ = commit_of(message)
    sender = message.content.sender
    if sender.type == MEMBER:
        return sender_member(tree, context, sender, None)[1]
    if sender.type != NEW_MEMBER_COMMIT:
        raise UnknownSender("this sender cannot commit")
    if commit.path is None:
        raise PathRequired("an external commit needs a path")
    return commit.path.leaf_node.signature_key


def advance(
    tree: RatchetTree,
    context: GroupContext,
    interim: bytes,
    message: AuthenticatedContent,
    items: Sequence[Resolved],
    validator: Validator,
    *,
    now: int | None = None,
    linking: bool = False,
) -> Transition:
    """Take a commit whose signature is verified, as far as it is public.

    Args:
        items: The commit's proposals, those by reference looked up.
        now: Judge the dates of what comes in at this time, if given.
        linking: Whether it makes a successor or subgroup (sections 11.2, 11.3).

    Raises:
        E2eeError: One of the many; `tree` and `context` are never changed.
    """
    commit, tag = commit_of(message)
    sender = message.content.sender
    committer = sender.index if sender.type == MEMBER else None
    # (1) The proposals are valid, alone and together.
    applied = apply_proposals(
        tree, context, committer, items, validator, now=now, linking=linking
    )
    # (2) A path is there if it must be.
    if commit.path is None and (applied.path_required or committer is None):
        raise PathRequired("these proposals need a path")
    # (3) The caller's policy allows it.
    before = None if committer is None else leaf_member(tree, committer)
    place = applied.tree.first_blank() if committer is None else committer
    effects = _authorized(tree, applied, context, commit, before, place, validator)
    # (4) The path fits the new tree.
    if commit.path is not None:
        if committer is None:
            _check_replaced(tree, applied, commit.path)
        # A credential that stays what it was is no newcomer, though it may expire.
        fresh = now is not None and (before is None or effects.sender != before)
        _merge_path(applied, context, place, commit.path, validator, before, fresh)
    # (5) The new context.
    provisional = replace(
        context,
        epoch=context.epoch + 1,
        tree_hash=applied.tree.tree_hash(),
        extensions=applied.extensions,
    )
    confirmed = confirmed_transcript_hash(tree.suite, interim, message)
    return Transition(
        applied=applied,
        tree=applied.tree,
        committer=place,
        provisional=provisional,
        context=replace(provisional, confirmed_transcript_hash=confirmed),
        interim_transcript_hash=interim_transcript_hash(tree.suite, confirmed, tag),
        effects=effects,
    )


def _authorized(
    tree: RatchetTree,
    applied: Applied,
    context: GroupContext,
    commit: Commit,
    before: Member | None,
    place: int,
    validator: Validator,
) -> CommitEffects:
    """Sum up what a commit does, and ask the caller whether its sender may."""
    after, path = before, commit.path
    if path is not None:
        after = member_of(place, path.leaf_node)
    if after is None:  # pragma: no cover - an external commit has a path
        raise InvalidCommit("nobody committed")
    effects = commit_effects(
        tree, applied, context, after, before, has_path=path is not None
    )
    validator.authorize(context, before or after, effects)
    return effects


def _check_replaced(tree: RatchetTree, applied: Applied, path: UpdatePath) -> None:
    """Hold the leaf of a resync to what section 7.3 asks of an Update."""
    for member in applied.removed:
        old = tree.leaf(member.leaf)
        if old is not None and old.encryption_key == path.leaf_node.encryption_key:
            raise EncryptionKeyKept("the new leaf keeps its encryption key")


def _merge_path(
    applied: Applied,
    context: GroupContext,
    place: int,
    path: UpdatePath,
    validator: Validator,
    before: Member | None,
    fresh: bool,
) -> None:
    """Validate a path's leaf (section 7.3) and merge the path into the new tree."""
    tree, leaf, external = applied.tree, path.leaf_node, before is None
    if external and tree.census.leaves >= MAX_LEAVES:
        raise LimitExceeded("the group has as many members as accepted")
    if leaf.source != SOURCE_COMMIT:
        raise WrongLeafSource("the leaf was not made for a commit")
    leaf.check(tree.suite, RequiredCapabilities.of(applied.extensions))
    leaf.verify(tree.suite, context.group_id, place)
    accept_credential(leaf, validator, fresh=fresh)
    if external and place >= tree.width:
        tree.extend()
    merge_update_path(tree, place, path, applied.added_leaves)
    check_members(tree, applied.extensions, check_all=False)
