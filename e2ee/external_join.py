"""Joining by external commit (RFC 9420 section 12.4.3.2).

The fallback of a device that lost its state: with the group's current GroupInfo and
tree it adds itself, and may remove its old leaf in the same commit ("resync").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from e2ee.codec import Reader, decode
from e2ee.codepoint import BASIC, EXTERNAL_PUB, NEW_MEMBER_COMMIT, PUBLIC_MESSAGE
from e2ee.commit_builder import NewEpoch, confirm, make_group_info
from e2ee.commit_processor import EXTERNAL_INIT_LABEL
from e2ee.crypto import SHA256, Rng
from e2ee.epoch import Epoch, start_epoch
from e2ee.errors import E2eeError, ExternalPubMissing, UnsupportedSuite
from e2ee.extension import Credential, RequiredCapabilities, find_extension
from e2ee.framing import (
    AuthData,
    Commit,
    FramedContent,
    PublicMessage,
    Sender,
    read_framed,
    wrap,
)
from e2ee.group_info import GroupInfo, find_tree, verify_group_info
from e2ee.key_schedule import interim_transcript_hash
from e2ee.leaf import LeafNode, greased_leaf_fields, sign_leaf
from e2ee.member import CommitEffects, Member, Validator
from e2ee.proposal import ExternalInit, Proposal, ProposalRef, Remove, SelfRemove
from e2ee.proposal_choice import Judge
from e2ee.proposal_list import Applied, apply_proposals, check_members
from e2ee.proposal_store import StoredProposal, accept_proposal
from e2ee.proposal_validation import Resolved
from e2ee.protection import sign_framed
from e2ee.ratchet_tree import RatchetTree
from e2ee.secret_tree import SecretTree
from e2ee.staged_commit import StagedCommit
from e2ee.suite import CipherSuite
from e2ee.transition import commit_effects
from e2ee.tree_validation import validate_tree
from e2ee.treekem import CreatedPath, create_path


@dataclass(frozen=True, slots=True)
class ExternalJoin:
    """What a newcomer needs to commit itself into a group."""

    info: GroupInfo
    tree: RatchetTree = field(repr=False)
    signature_private: bytes = field(repr=False)
    identity: bytes
    validator: Validator = field(repr=False)
    rng: Rng

    @classmethod
    def check(
        cls,
        group_info: bytes,
        ratchet_tree: bytes | None,
        *,
        signature_private: bytes,
        identity: bytes,
        validator: Validator,
        suite: CipherSuite,
        rng: Rng,
    ) -> ExternalJoin:
        """Check what the hub gave us, as when joining by Welcome.

        Raises:
            E2eeError: It is not a group that a member vouches for.
        """
        info = GroupInfo.from_message(group_info)
        context = info.context
        if context.cipher_suite != suite.id:
            raise UnsupportedSuite("the group has another cipher suite")
        tree = find_tree(suite, info, ratchet_tree)
        validate_tree(tree, context.group_id, context.extensions, validator)
        verify_group_info(tree, info)
        return cls(info, tree, signature_private, identity, validator, rng)

    def build(
        self, remove: int | None, leaving: Sequence[bytes] = ()
    ) -> tuple[StagedCommit, Epoch, SecretTree]:
        """Make the external commit and the epoch that it leads to.

        Args:
            remove: Our own old leaf.
            leaving: SelfRemoves of this epoch; those that do not hold are left out.

        Raises:
            InvalidGroupInfo: The group lets nobody join like this.
            E2eeError: The removal is invalid, or not allowed.
        """
        suite, context = self.tree.suite, self.info.context
        # (1) A fresh init secret for the group's external key.
        kem_output, init_secret = self._external_init()
        # (2) The proposals, and what they do.
        stored = self._leaving(leaving, remove)
        proposals: list[Proposal] = [ExternalInit(kem_output)]
        if remove is not None:
            proposals.append(Remove(remove))
        applied, place, effects = self._apply(proposals, stored)
        # (3) Our leaf and path.
        created = self._path(applied, place)
        self._check_own(applied, place)
        # (4) The commit, signed for the old epoch, and the new epoch.
        references = [ProposalRef(item.received.ref) for item in stored]
        unconfirmed = sign_framed(
            suite,
            self.signature_private,
            PUBLIC_MESSAGE,
            FramedContent.make(
                context.group_id,
                context.epoch,
                Sender(NEW_MEMBER_COMMIT),
                b"",
                Commit((*proposals, *references), created.update_path),
            ),
            context.encode(),
        )
        new = confirm(
            suite,
            interim_transcript_hash(
                suite, context.confirmed_transcript_hash, self.info.confirmation_tag
            ),
            unconfirmed,
            replace(
                context, epoch=context.epoch + 1, tree_hash=applied.tree.tree_hash()
            ),
            init_secret=init_secret,
            commit_secret=created.path.commit_secret,
            psk=suite.zero,
        )
        auth = AuthData(unconfirmed.auth.signature, new.tag)
        message = PublicMessage(unconfirmed.content, auth, None)
        # (5) What the hub gets, and our own state.
        staged = self._stage(message, new, place, effects, created)
        epoch, ratchets = self._start(new, applied, place, created)
        return staged, epoch, ratchets

    def _external_init(self) -> tuple[bytes, bytes]:
        """Give a KEM output for the group's external key, and the init secret."""
        suite = self.tree.suite
        data = find_extension(self.info.extensions, EXTERNAL_PUB)
        if data is None:
            raise ExternalPubMissing("the GroupInfo has no external_pub")
        external_pub = decode(data, Reader.vector)
        kem_output, hpke = suite.hpke.setup_sender(external_pub, b"", self.rng)
        return kem_output, hpke.export(EXTERNAL_INIT_LABEL, suite.hash.size)

    def _leaving(
        self, messages: Sequence[bytes], remove: int | None
    ) -> list[StoredProposal]:
        """Verify SelfRemoves; who is not a member cannot check membership tags.

        What is forged, stale or something else must not keep us out.
        """
        context, judge = self.info.context, Judge(self.validator)
        found: dict[int, StoredProposal] = {}
        for message in messages:
            try:
                framed = read_framed(message)
                if not isinstance(framed, PublicMessage):
                    continue
                here = framed.content.group_id, framed.content.epoch
                stored = accept_proposal(
                    self.tree, context, framed.authenticated(), judge, {}
                )
            except E2eeError:
                continue
            if here == (context.group_id, context.epoch) and isinstance(
                stored.proposal, SelfRemove
            ):
                found[stored.sender.index] = stored
        if remove is not None:
            found.pop(remove, None)
        return list(found.values())

    def _apply(
        self, proposals: Sequence[Proposal], stored: Sequence[StoredProposal]
    ) -> tuple[Applied, int, CommitEffects]:
        """Apply the proposals and ask the caller whether we may do this."""
        context, sender = self.info.context, Sender(NEW_MEMBER_COMMIT)
        items = [Resolved(proposal, sender, False) for proposal in proposals]
        items += [Resolved(item.proposal, item.sender, True) for item in stored]
        applied = apply_proposals(self.tree, context, None, items, self.validator)
        place = applied.tree.first_blank()
        if place >= applied.tree.width:
            applied.tree.extend()
        public = self.tree.suite.signature.public(self.signature_private)
        me = Member(place, self.identity, public)
        effects = commit_effects(self.tree, applied, context, me, None, has_path=True)
        self.validator.credential(me.identity, me.signature_key, fresh=True)
        self.validator.authorize(context, me, effects)
        return applied, place, effects

    def _check_own(self, applied: Applied, place: int) -> None:
        """Hold ourselves to what the members will check (sections 7.3, 11.1)."""
        own, extensions = applied.tree.leaf(place), applied.extensions
        if own is not None:
            own.check(applied.tree.suite, RequiredCapabilities.of(extensions))
        check_members(applied.tree, extensions, check_all=False)

    def _stage(
        self,
        message: PublicMessage,
        new: NewEpoch,
        place: int,
        effects: CommitEffects,
        created: CreatedPath,
    ) -> StagedCommit:
        encoded = wrap(PUBLIC_MESSAGE, message.encode())
        info = make_group_info(
            self.tree.suite,
            self.signature_private,
            new.context,
            new.secrets,
            new.tag,
            place,
            self.rng,
        )
        return StagedCommit(
            commit=encoded,
            hash=SHA256.digest(encoded),
            welcomes=(),
            group_info=info.message(),
            effects=effects,
            epoch=self.info.context.epoch,
            leaf_private=created.leaf_private,
            path_secret=created.first_secret,
        )

    def _start(
        self, new: NewEpoch, applied: Applied, place: int, created: CreatedPath
    ) -> tuple[Epoch, SecretTree]:
        confirmed = new.context.confirmed_transcript_hash
        return start_epoch(
            new.context,
            applied.tree,
            interim_transcript_hash(applied.tree.suite, confirmed, new.tag),
            new.tag,
            new.secrets,
            place,
            {2 * place: created.leaf_private, **created.path.private_keys},
        )

    def _path(self, applied: Applied, place: int) -> CreatedPath:
        suite, context = applied.tree.suite, self.info.context
        capabilities, extensions = greased_leaf_fields(suite, self.rng)

        def sign(encryption_key: bytes, parent_hash: bytes) -> LeafNode:
            return sign_leaf(
                suite,
                self.signature_private,
                encryption_key=encryption_key,
                credential=Credential(BASIC, self.identity),
                capabilities=capabilities,
                extensions=extensions,
                parent_hash=parent_hash,
                group_id=context.group_id,
                leaf=place,
            )

        provisional = replace(context, epoch=context.epoch + 1)
        return create_path(
            applied.tree,
            place,
            sign=sign,
            context=lambda tree_hash: replace(
                provisional, tree_hash=tree_hash
            ).encode(),
            excluded=frozenset(),
            rng=self.rng,
        )
