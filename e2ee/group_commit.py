"""Commits of a member: making them, adopting our own, taking others' (RFC 9420 12.4).

Nothing here is half applied. A commit is taken on copies and the result swapped in at
the end; whatever goes wrong leaves the group as it was, to the byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from e2ee.codec import decode
from e2ee.codepoint import MEMBER, PSK_EXTERNAL
from e2ee.commit_builder import CommitBuilder
from e2ee.commit_processor import OwnPath, next_epoch
from e2ee.epoch import PskLookup
from e2ee.errors import OwnMessage, StagedMismatch
from e2ee.extension import Extension, require_own_extensions
from e2ee.framing import AuthenticatedContent, PublicMessage, Sender, read_framed
from e2ee.group_proposal import GroupProposals, read_key_package
from e2ee.member import CommitEffects, Member
from e2ee.proposal import (
    Add,
    GroupContextExtensions,
    PreSharedKey,
    Proposal,
    Remove,
    Update,
)
from e2ee.proposal_store import resolve
from e2ee.proposal_validation import Resolved
from e2ee.protection import verify_content
from e2ee.psk import PreSharedKeyId
from e2ee.secret_tree import Found
from e2ee.staged_commit import StagedCommit
from e2ee.suite import CipherSuite
from e2ee.transition import advance, commit_of, commit_signer


@dataclass(frozen=True, slots=True)
class CommitResult:
    """Somebody else's commit was applied."""

    effects: CommitEffects
    sender: Member
    removed_self: bool


class GroupCommits(GroupProposals):
    """The part of `Group` that goes from epoch to epoch."""

    def commit(
        self,
        *,
        add: Sequence[bytes] = (),
        remove: Sequence[int] = (),
        extensions: Sequence[Extension] | None = None,
        psks: Sequence[bytes] = (),
        update: bool = True,
        include_pending: bool = True,
        identity: bytes | None = None,
        now: int,
    ) -> StagedCommit:
        """Make a commit; the group does not change until `apply_own`.

        Save what comes out before you send it. Pending proposals that are invalid,
        or would be with the others, are left out.

        Args:
            add: Encoded KeyPackages.
            remove: Leaf indices.
            extensions: Replaces all of the group's extensions.
            psks: Ids of external PSKs to be mixed in; all members must hold them.
            update: Whether to renew our path even if nothing asks for it.
            include_pending: Whether to commit `pending_proposals` too.
            identity: A new identity for our own leaf.
            now: For the lifetimes of what is added, in seconds since 1970.

        Raises:
            E2eeError: What was asked for is invalid or not allowed.
        """
        self._require_active()
        proposals: list[Proposal] = [Remove(leaf) for leaf in remove]
        proposals += [Add(read_key_package(package)) for package in add]
        if extensions is not None:
            proposals.append(GroupContextExtensions(tuple(extensions)))
        for psk_id in psks:
            nonce = self._rng(self.suite.hash.size)
            named = PreSharedKeyId(PSK_EXTERNAL, psk_id=psk_id, nonce=nonce)
            proposals.append(PreSharedKey(named))
        return self._builder().build(
            proposals,
            list(self._pending.values()) if include_pending else [],
            update=update or identity is not None,
            identity=identity,
            now=now,
        )

    def commit_reinit(
        self,
        *,
        group_id: bytes,
        extensions: Sequence[Extension] = (),
        suite: CipherSuite | None = None,
        now: int,
    ) -> StagedCommit:
        """Make the commit that ends the group (section 11.2).

        Once it is applied nothing can be sent any more, and any member may go on with
        `Group.reinitialize`. Pending proposals are not taken along.

        Args:
            group_id: The new group's.
            suite: The new group's; this one's if not given.

        Raises:
            E2eeError: It is not allowed.
        """
        self._require_active()
        reinit = self._reinit_of(group_id, extensions, suite)
        return self._builder().build([reinit], [], update=True, identity=None, now=now)

    def _builder(self) -> CommitBuilder:
        return CommitBuilder(
            self._epoch,
            self._signature_private,
            self._validator,
            self._psk,
            self._rng,
            self._ratchets if self.encrypt_handshakes else None,
        )

    def apply_own(self, staged: StagedCommit) -> CommitEffects:
        """Adopt our own commit, when it has appeared in the log.

        Raises:
            StagedMismatch: It was made in another epoch or group.
        """
        self._require_active()
        if staged.epoch != self.epoch:
            raise StagedMismatch("the commit was staged in another epoch")
        message = content_of(staged)
        own = Sender(MEMBER, self.own_leaf)
        if message.content.group_id != self.group_id or message.content.sender != own:
            raise StagedMismatch("the commit was staged elsewhere")
        secret = OwnPath(staged.leaf_private, staged.path_secret)
        return self._take(message, None, secret).effects

    def process_commit(self, message: bytes, *, now: int) -> CommitResult:
        """Take somebody else's commit (section 12.4.2).

        Dates are not judged here (`now` is not used): the committer and the hub did,
        and a member that catches up after a month must not be stuck.

        Raises:
            OwnMessage: It is ours; use `apply_own`.
            StaleEpoch, FutureEpoch, WrongGroup: It is for another state.
            E2eeError: Anything else about it is wrong.
        """
        self._require_active()
        framed = read_framed(message)
        opened, found = self._unprotect(framed)
        if opened.content.sender == Sender(MEMBER, self.own_leaf):
            raise OwnMessage("this is our own commit")
        return self._take(opened, found, None)

    def process_commits(
        self, messages: Iterable[bytes], *, now: int
    ) -> Iterator[CommitResult]:
        """Take many commits one after the other, as when catching up.

        Lazily: each is taken when its result is asked for, and the dumps need to be
        saved only once, after the last. It stops when we are removed or the group is
        ended. When a commit is refused the group stays at the one before it.

        Raises:
            E2eeError: As of `process_commit`, for the first that is refused.
        """
        for message in messages:
            if not self.active:
                return
            yield self.process_commit(message, now=now)

    def _take(
        self,
        message: AuthenticatedContent,
        found: Found | None,
        own: OwnPath | None,
        psk: PskLookup | None = None,
    ) -> CommitResult:
        """Take a commit whose membership is proven, ours (`own`) or another's.

        Args:
            psk: Looks up PSKs of the commit that links a new group to an old one.
        """
        epoch, suite = self._epoch, self.suite
        commit, _ = commit_of(message)
        # (1) Signature and everything public.
        signer = commit_signer(epoch.tree, epoch.context, message)
        verify_content(suite, signer, message, epoch.encoded_context)
        items = resolve(commit, message.content.sender, self._pending)
        step = advance(
            epoch.tree,
            epoch.context,
            epoch.interim_transcript_hash,
            message,
            items,
            self._validator,
            linking=psk is not None,
        )
        effects = step.effects
        sender = effects.sender
        # (2) Our own removal is read from the proposals: our leaf may be filled again.
        if any(member.leaf == epoch.own_leaf for member in effects.removed):
            self._end(found)
            return CommitResult(effects, sender, removed_self=True)
        if effects.extensions_after is not None:
            require_own_extensions(effects.extensions_after)
        # (3) The secrets, confirmed by the tag.
        new_epoch, ratchets = next_epoch(
            epoch,
            message,
            step,
            updated_key=self._updated_key(items),
            own=own,
            psk=psk or self._psk,
        )
        # (4) Nothing can fail any more: swap.
        self._retire(found)
        self._epoch, self._ratchets = new_epoch, ratchets
        self._reinit = step.applied.reinit
        return CommitResult(effects, sender, removed_self=False)

    def _updated_key(self, items: Sequence[Resolved]) -> bytes | None:
        """Our new leaf key, if a commit covers an Update of ours."""
        for item in items:
            if isinstance(item.proposal, Update) and item.sender.index == self.own_leaf:
                return next(
                    stored.private
                    for stored in self._pending.values()
                    if stored.proposal is item.proposal
                )
        return None


def content_of(staged: StagedCommit) -> AuthenticatedContent:
    """Give the signed content of a staged commit."""
    if staged.content:
        return decode(staged.content, AuthenticatedContent.read)
    framed = read_framed(staged.commit)
    if not isinstance(framed, PublicMessage):
        raise StagedMismatch("the staged commit is no PublicMessage")
    return framed.authenticated()
