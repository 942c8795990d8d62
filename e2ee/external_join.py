"""Joining by external commit (RFC 9420 section 12.4.3.2).

The fallback of a device that lost its state: with the group's current GroupInfo and
tree it adds itself, and may remove its old leaf in the same commit ("resync").
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from e2ee.codec import Reader, decode
from e2ee.codepoint import BASIC, EXTERNAL_PUB, NEW_MEMBER_COMMIT, PUBLIC_MESSAGE
from e2ee.commit_builder import make_group_info
from e2ee.commit_processor import EXTERNAL_INIT_LABEL
from e2ee.crypto import SHA256, Rng
from e2ee.epoch import Epoch, start_epoch
from e2ee.errors import (
    ExternalPubMissing,
    UnsupportedSuite,
)
from e2ee.extension import Credential, find_extension
from e2ee.framing import (
    AuthData,
    AuthenticatedContent,
    Commit,
    FramedContent,
    PublicMessage,
    Sender,
    wrap,
)
from e2ee.group_info import GroupInfo, find_tree, verify_group_info
from e2ee.key_schedule import (
    confirmation_tag,
    confirmed_transcript_hash,
    epoch_secrets,
    interim_transcript_hash,
    joiner_secret,
)
from e2ee.leaf import LeafNode, own_capabilities, sign_leaf
from e2ee.member import Member, Validator
from e2ee.proposal import ExternalInit, Proposal, Remove
from e2ee.proposal_list import Applied, Resolved, apply_proposals
from e2ee.protection import sign_content
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

    def build(self, remove: int | None) -> tuple[StagedCommit, Epoch, SecretTree]:
        """Make the external commit and the epoch that it leads to.

        Raises:
            InvalidGroupInfo: The group lets nobody join like this.
            E2eeError: The removal is invalid, or not allowed.
        """
        suite, context = self.tree.suite, self.info.context
        # (1) A fresh init secret for the group's external key.
        data = find_extension(self.info.extensions, EXTERNAL_PUB)
        if data is None:
            raise ExternalPubMissing("the GroupInfo has no external_pub")
        external_pub = decode(data, Reader.vector)
        kem_output, hpke = suite.hpke.setup_sender(external_pub, b"", self.rng)
        init_secret = hpke.export(EXTERNAL_INIT_LABEL, suite.hash.size)
        # (2) The proposals, and what they do.
        proposals: list[Proposal] = [ExternalInit(kem_output)]
        if remove is not None:
            proposals.append(Remove(remove))
        sender = Sender(NEW_MEMBER_COMMIT)
        items = [Resolved(proposal, sender, False) for proposal in proposals]
        applied = apply_proposals(self.tree, context, None, items, self.validator)
        place = applied.tree.first_blank()
        if place >= applied.tree.width:
            applied.tree.extend()
        me = Member(
            place, self.identity, suite.signature.public(self.signature_private)
        )
        effects = commit_effects(self.tree, applied, context, me, None, has_path=True)
        self.validator.credential(me.identity, me.signature_key, fresh=True)
        self.validator.authorize(context, me, effects)
        # (3) Our leaf and path.
        created = self._path(applied, place)
        applied.tree.census.check_unique()
        applied.tree.census.check_extensions(e.type for e in context.extensions)
        # (4) The commit, signed for the old epoch, and the new epoch.
        commit = Commit(tuple(proposals), created.update_path)
        content = FramedContent.make(
            context.group_id, context.epoch, sender, b"", commit
        )
        signature = sign_content(
            suite, self.signature_private, PUBLIC_MESSAGE, content, context.encode()
        )
        unconfirmed = AuthenticatedContent(
            PUBLIC_MESSAGE, content, AuthData(signature, b"")
        )
        before = interim_transcript_hash(
            suite, context.confirmed_transcript_hash, self.info.confirmation_tag
        )
        confirmed = confirmed_transcript_hash(suite, before, unconfirmed)
        new_context = replace(
            context,
            epoch=context.epoch + 1,
            tree_hash=applied.tree.tree_hash(),
            confirmed_transcript_hash=confirmed,
        )
        encoded = new_context.encode()
        joiner = joiner_secret(suite, init_secret, created.path.commit_secret, encoded)
        secrets = epoch_secrets(suite, joiner, suite.zero, encoded)
        tag = confirmation_tag(suite, secrets.confirmation_key, confirmed)
        message = PublicMessage(content, AuthData(signature, tag), None)
        encoded_commit = wrap(PUBLIC_MESSAGE, message.encode())
        info = make_group_info(
            suite, self.signature_private, new_context, secrets, tag, place
        )
        staged = StagedCommit(
            commit=encoded_commit,
            hash=SHA256.digest(encoded_commit),
            welcomes=(),
            group_info=info.message(),
            effects=effects,
            epoch=context.epoch,
            leaf_private=created.leaf_private,
            path_secret=created.first_secret,
        )
        keys = {2 * place: created.leaf_private, **created.path.private_keys}
        interim = interim_transcript_hash(suite, confirmed, tag)
        epoch, ratchets = start_epoch(
            new_context, applied.tree, interim, tag, secrets, place, keys
        )
        return staged, epoch, ratchets

    def _path(self, applied: Applied, place: int) -> CreatedPath:
        suite, context = applied.tree.suite, self.info.context

        def sign(encryption_key: bytes, parent_hash: bytes) -> LeafNode:
            return sign_leaf(
                suite,
                self.signature_private,
                encryption_key=encryption_key,
                credential=Credential(BASIC, self.identity),
                capabilities=own_capabilities(suite),
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
