"""A member's group (RFC 9420): what `client/` works with.

Nothing here is half applied. A message is taken on copies and the result swapped in
at the end; whatever goes wrong raises one of `e2ee.errors` and leaves the group as it
was, to the byte. A group is not thread-safe: one owner.

Handshakes are sent as PublicMessage, so that the hub can check them; received they
may be either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from e2ee.codepoint import (
    BASIC,
    MEMBER,
    PSK_EXTERNAL,
)
from e2ee.commit_builder import CommitBuilder
from e2ee.commit_processor import OwnPath, next_epoch
from e2ee.crypto import Rng, random_bytes
from e2ee.epoch import (
    start_epoch,
)
from e2ee.errors import (
    OwnMessage,
    StagedMismatch,
)
from e2ee.extension import Credential, Extension
from e2ee.external_join import ExternalJoin
from e2ee.framing import (
    AuthenticatedContent,
    PublicMessage,
    Sender,
    read_framed,
)
from e2ee.group_context import GroupContext
from e2ee.group_message import Decrypted
from e2ee.group_proposal import GroupProposals, read_key_package
from e2ee.joining import join_group
from e2ee.key_package import KeyPackageBundle
from e2ee.key_schedule import (
    confirmation_tag,
    epoch_secrets_of,
    interim_transcript_hash,
)
from e2ee.leaf import Lifetime, own_capabilities, sign_leaf
from e2ee.member import CommitEffects, Member, Validator
from e2ee.proposal import (
    Add,
    GroupContextExtensions,
    PreSharedKey,
    Proposal,
    Remove,
    Update,
)
from e2ee.proposal_list import Resolved
from e2ee.proposal_store import (
    resolve,
)
from e2ee.protection import (
    verify_content,
)
from e2ee.psk import PreSharedKeyId
from e2ee.ratchet_tree import RatchetTree
from e2ee.secret_tree import Found
from e2ee.staged_commit import StagedCommit
from e2ee.suite import SUITE_3, CipherSuite
from e2ee.transition import advance, commit_of, commit_signer
from e2ee.tree_validation import validate_tree

CREATOR_LIFETIME = 90 * 86_400
"""Seconds for which the creator's first leaf is valid, as for a KeyPackage."""


@dataclass(frozen=True, slots=True)
class CommitResult:
    """Somebody else's commit was applied."""

    effects: CommitEffects
    sender: Member
    removed_self: bool


class Group(GroupProposals):
    """One member's group."""

    # --- making one

    @classmethod
    def create(
        cls,
        *,
        group_id: bytes,
        signature_private: bytes,
        identity: bytes,
        extensions: Sequence[Extension] = (),
        now: int,
        validator: Validator,
        suite: CipherSuite = SUITE_3,
        rng: Rng = random_bytes,
    ) -> Group:
        """Create a group of one member (section 11).

        Give `group_info()` and `ratchet_tree()` to the hub next.

        Raises:
            E2eeError: The extensions are not ones that we support.
        """
        private, public = suite.kem.derive_key_pair(rng(32))
        leaf = sign_leaf(
            suite,
            signature_private,
            encryption_key=public,
            credential=Credential(BASIC, identity),
            capabilities=own_capabilities(suite),
            lifetime=Lifetime(now - 86_400, now + CREATOR_LIFETIME),
        )
        tree = RatchetTree.of(suite, [leaf])
        context = GroupContext(
            suite.id, group_id, 0, tree.tree_hash(), b"", tuple(extensions)
        )
        validate_tree(tree, group_id, context.extensions, validator, fresh=True)
        secrets = epoch_secrets_of(suite, rng(suite.hash.size))
        tag = confirmation_tag(suite, secrets.confirmation_key, b"")
        interim = interim_transcript_hash(suite, b"", tag)
        epoch, ratchets = start_epoch(
            context, tree, interim, tag, secrets, 0, {0: private}
        )
        return cls(
            epoch,
            ratchets,
            signature_private=signature_private,
            validator=validator,
            rng=rng,
        )

    @classmethod
    def join(
        cls,
        welcome: bytes,
        bundles: Sequence[KeyPackageBundle],
        *,
        signature_private: bytes,
        ratchet_tree: bytes | None,
        now: int,
        validator: Validator,
        psks: Mapping[bytes, bytes] | None = None,
        suite: CipherSuite = SUITE_3,
        rng: Rng = random_bytes,
    ) -> Group:
        """Join by Welcome (section 12.4.3.1).

        Check that `group_id` is new to you; delete the bundle that `joined_with`
        names, unless it is a last-resort one. Dates in the tree are not judged (`now`
        is not used): members stay when what they came with has expired.

        Args:
            welcome: MLSMessage(Welcome).
            ratchet_tree: From the hub, if it is not inside; its hash is checked.
            psks: External PSKs by id.

        Raises:
            E2eeError: Anything about it is wrong.
        """
        known = dict(psks or {})
        epoch, ratchets, ref = join_group(
            welcome,
            bundles,
            signature_private=signature_private,
            ratchet_tree=ratchet_tree,
            validator=validator,
            lookup=lambda id_: (
                known.get(id_.psk_id) if id_.type == PSK_EXTERNAL else None
            ),
            suite=suite,
        )
        return cls(
            epoch,
            ratchets,
            signature_private=signature_private,
            validator=validator,
            psks=known,
            rng=rng,
            joined_with=ref,
        )

    @classmethod
    def join_external(
        cls,
        group_info: bytes,
        *,
        ratchet_tree: bytes | None,
        signature_private: bytes,
        identity: bytes,
        remove: int | None = None,
        validator: Validator,
        psks: Mapping[bytes, bytes] | None = None,
        suite: CipherSuite = SUITE_3,
        rng: Rng = random_bytes,
    ) -> tuple[Group, StagedCommit]:
        """Join by external commit (section 12.4.3.2).

        Save the group's dumps and the staged commit, then send the commit. The group
        is in the *next* epoch already: take it up when the commit has appeared in the
        log, and throw it away if another one came first. `apply_own` is not for it.

        Args:
            group_info: MLSMessage(GroupInfo) of the current epoch.
            remove: Our own old leaf, if we had one ("resync").

        Raises:
            E2eeError: The group is not valid, or may not be joined like this.
        """
        join = ExternalJoin.check(
            group_info,
            ratchet_tree,
            signature_private=signature_private,
            identity=identity,
            validator=validator,
            suite=suite,
            rng=rng,
        )
        staged, epoch, ratchets = join.build(remove)
        group = cls(
            epoch,
            ratchets,
            signature_private=signature_private,
            validator=validator,
            psks=psks,
            rng=rng,
        )
        return group, staged

    # --- commits

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
        builder = CommitBuilder(
            self._epoch,
            self._signature_private,
            self._validator,
            self._psk,
            self._rng,
        )
        return builder.build(
            proposals,
            list(self._pending.values()) if include_pending else [],
            update=update or identity is not None,
            identity=identity,
            now=now,
        )

    def apply_own(self, staged: StagedCommit) -> CommitEffects:
        """Adopt our own commit, when it has appeared in the log.

        Raises:
            StagedMismatch: It was made in another epoch or group.
        """
        self._require_active()
        if staged.epoch != self.epoch:
            raise StagedMismatch("the commit was staged in another epoch")
        framed = read_framed(staged.commit)
        if not isinstance(framed, PublicMessage):
            raise StagedMismatch("the staged commit is no PublicMessage")
        own = Sender(MEMBER, self.own_leaf)
        if framed.content.group_id != self.group_id or framed.content.sender != own:
            raise StagedMismatch("the commit was staged elsewhere")
        secret = OwnPath(staged.leaf_private, staged.path_secret)
        return self._take(framed.authenticated(), None, secret).effects

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

    def _take(
        self,
        message: AuthenticatedContent,
        found: Found | None,
        own: OwnPath | None,
    ) -> CommitResult:
        """Take a commit whose membership is proven, ours (`own`) or another's."""
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
        )
        effects = step.effects
        sender = effects.sender
        # (2) Our own removal is read from the proposals: our leaf may be filled again.
        if any(member.leaf == epoch.own_leaf for member in effects.removed):
            self._end(found)
            return CommitResult(effects, sender, removed_self=True)
        # (3) The secrets, confirmed by the tag.
        new_epoch, ratchets = next_epoch(
            epoch,
            message,
            step,
            updated_key=self._updated_key(items),
            own=own,
            psk=self._psk,
        )
        # (4) Nothing can fail any more: swap.
        self._retire(found)
        self._epoch, self._ratchets = new_epoch, ratchets
        self._ended = step.applied.reinit is not None
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


__all__ = ["CommitResult", "Decrypted", "Group"]
