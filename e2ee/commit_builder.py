"""Making a commit and its Welcomes (RFC 9420 section 12.4.1).

Nothing of the group changes here: what comes out is a `StagedCommit`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from e2ee.codec import vector
from e2ee.codepoint import (
    EXTERNAL_PUB,
    MEMBER,
    PRIVATE_MESSAGE,
    PUBLIC_MESSAGE,
    WELCOME,
)
from e2ee.crypto import SHA256, Rng
from e2ee.epoch import Epoch, PskLookup, gather_psks
from e2ee.errors import (
    InvalidCommit,
    LimitExceeded,
)
from e2ee.extension import Credential, Extension
from e2ee.framing import (
    MAX_HANDSHAKE,
    AuthData,
    AuthenticatedContent,
    Commit,
    FramedContent,
    PrivateMessage,
    PublicMessage,
    Sender,
    wrap,
)
from e2ee.grease import grease_extension
from e2ee.group_context import GroupContext
from e2ee.group_info import GroupInfo, sign_group_info
from e2ee.key_schedule import (
    EpochSecrets,
    confirmation_tag,
    confirmed_transcript_hash,
    epoch_secrets,
    external_key_pair,
    joiner_secret,
    welcome_secret,
)
from e2ee.leaf import LeafNode, sign_leaf
from e2ee.member import CommitEffects, Member, Validator
from e2ee.proposal import (
    Proposal,
    ProposalOrRef,
    ProposalRef,
)
from e2ee.proposal_choice import ProposalChoice
from e2ee.proposal_list import Applied
from e2ee.proposal_store import StoredProposal
from e2ee.proposal_validation import member_of
from e2ee.protection import protect_private, protect_public, sign_framed
from e2ee.secret_tree import SecretTree
from e2ee.staged_commit import StagedCommit
from e2ee.suite import CipherSuite
from e2ee.transition import commit_effects
from e2ee.tree_math import common_ancestor
from e2ee.treekem import CreatedPath, create_path
from e2ee.welcome import (
    EncryptedGroupSecrets,
    GroupSecrets,
    Welcome,
    seal_group_info,
)


@dataclass(frozen=True, slots=True)
class NewEpoch:
    """What a commit that is signed, but not yet confirmed, leads to."""

    context: GroupContext
    joiner_secret: bytes = field(repr=False)
    secrets: EpochSecrets = field(repr=False)
    tag: bytes


def confirm(
    suite: CipherSuite,
    interim: bytes,
    unconfirmed: AuthenticatedContent,
    provisional: GroupContext,
    *,
    init_secret: bytes,
    commit_secret: bytes,
    psk: bytes,
) -> NewEpoch:
    """Take a signed commit into the transcript and derive its epoch (section 8).

    Args:
        interim: The interim transcript hash before the commit.
        provisional: The new context with the tree hash after the path, and the old
            confirmed transcript hash.
    """
    confirmed = confirmed_transcript_hash(suite, interim, unconfirmed)
    context = replace(provisional, confirmed_transcript_hash=confirmed)
    encoded = context.encode()
    joiner = joiner_secret(suite, init_secret, commit_secret, encoded)
    secrets = epoch_secrets(suite, joiner, psk, encoded)
    tag = confirmation_tag(suite, secrets.confirmation_key, confirmed)
    return NewEpoch(context, joiner, secrets, tag)


@dataclass(frozen=True, slots=True)
class CommitBuilder:
    """What a member needs to commit."""

    epoch: Epoch
    signature_private: bytes = field(repr=False)
    validator: Validator
    psk: PskLookup = field(repr=False)
    rng: Rng
    ratchets: SecretTree | None = field(repr=False, default=None)
    """If given, the commit is sent encrypted and consumes our next handshake key."""
    linking: bool = False
    """Whether this makes a successor or subgroup (sections 11.2, 11.3)."""

    def build(
        self,
        proposals: Sequence[Proposal],
        pending: Sequence[StoredProposal],
        *,
        update: bool,
        identity: bytes | None,
        now: int,
    ) -> StagedCommit:
        """Make a commit of our own proposals and of pending ones that fit.

        Raises:
            E2eeError: One of `proposals` is invalid or not allowed. Pending ones
                that are invalid are left out instead.
        """
        epoch = self.epoch
        suite, context = epoch.tree.suite, epoch.context
        # (1) A valid list, and what it does.
        choice = ProposalChoice(epoch, self.validator, self.psk, self.linking)
        chosen, applied = choice.choose(proposals, pending, now)
        has_path = update or applied.path_required
        credential, effects = self._authorized(applied, identity, has_path)
        # (2) New keys along our path.
        provisional = replace(
            context, epoch=context.epoch + 1, extensions=applied.extensions
        )
        created = self._path(applied, provisional, credential) if has_path else None
        provisional = replace(provisional, tree_hash=applied.tree.tree_hash())
        # (3) The signed commit, and with it the new context and its secrets.
        path = None if created is None else created.update_path
        unconfirmed = self._sign(Commit(_references(chosen), path))
        psk = gather_psks(suite, applied.psks, self.psk)
        new = confirm(
            suite,
            epoch.interim_transcript_hash,
            unconfirmed,
            provisional,
            init_secret=epoch.secrets.init_secret,
            commit_secret=suite.zero if created is None else created.path.commit_secret,
            psk=psk,
        )
        # (4) The message, under the keys of the old epoch.
        auth = AuthData(unconfirmed.auth.signature, new.tag)
        message = replace(unconfirmed, auth=auth)
        encoded = self._protect(message)
        # (5) What new members and the hub get.
        info = self._group_info(new)
        return StagedCommit(
            commit=encoded,
            hash=SHA256.digest(encoded),
            welcomes=self._welcomes(applied, created, new.joiner_secret, psk, info),
            group_info=info.message(),
            effects=effects,
            epoch=context.epoch,
            leaf_private=b"" if created is None else created.leaf_private,
            path_secret=b"" if created is None else created.first_secret,
            content=b"" if self.ratchets is None else message.encode(),
        )

    def _group_info(self, new: NewEpoch) -> GroupInfo:
        return make_group_info(
            self.epoch.tree.suite,
            self.signature_private,
            new.context,
            new.secrets,
            new.tag,
            self.epoch.own_leaf,
            self.rng,
        )

    def _own_leaf(self) -> LeafNode:
        leaf = self.epoch.tree.leaf(self.epoch.own_leaf)
        if leaf is None:  # pragma: no cover - an active member has a leaf
            raise InvalidCommit("our own leaf is blank")
        return leaf

    def _authorized(
        self, applied: Applied, identity: bytes | None, has_path: bool
    ) -> tuple[Credential, CommitEffects]:
        """Ask the caller whether we may, and give our credential and the effects."""
        epoch, before = self.epoch, self._own_leaf()
        me = member_of(epoch.own_leaf, before)
        credential = before.credential
        if identity is not None:
            credential = replace(credential, identity=identity)
            self.validator.credential(identity, before.signature_key, fresh=True)
        after = Member(me.leaf, credential.identity, me.signature_key)
        effects = commit_effects(
            epoch.tree,
            applied,
            epoch.context,
            after if has_path else me,
            me,
            has_path=has_path,
        )
        self.validator.authorize(epoch.context, me, effects)
        return credential, effects

    def _sign(self, commit: Commit) -> AuthenticatedContent:
        """Sign a commit for the old epoch; the confirmation tag is not there yet."""
        epoch, context = self.epoch, self.epoch.context
        sender = Sender(MEMBER, epoch.own_leaf)
        content = FramedContent.make(
            context.group_id, context.epoch, sender, b"", commit
        )
        return sign_framed(
            epoch.tree.suite,
            self.signature_private,
            PUBLIC_MESSAGE if self.ratchets is None else PRIVATE_MESSAGE,
            content,
            epoch.encoded_context,
        )

    def _protect(self, message: AuthenticatedContent) -> bytes:
        """Encode the commit, tagged or encrypted with the old epoch's keys."""
        epoch = self.epoch
        suite = epoch.tree.suite
        framed: PublicMessage | PrivateMessage
        if self.ratchets is None:
            framed = protect_public(
                suite, epoch.secrets.membership_key, message, epoch.encoded_context
            )
        else:
            framed = protect_private(
                suite,
                epoch.secrets.sender_data_secret,
                self.ratchets,
                message.content,
                message.auth,
                rng=self.rng,
            )
        encoded = wrap(message.wire_format, framed.encode())
        if len(encoded) > MAX_HANDSHAKE:
            raise LimitExceeded("the commit is larger than accepted")
        return encoded

    def _path(
        self,
        applied: Applied,
        provisional: GroupContext,
        credential: Credential,
    ) -> CreatedPath:
        suite, own_leaf = applied.tree.suite, self.epoch.own_leaf
        before = self._own_leaf()

        def sign(encryption_key: bytes, parent_hash: bytes) -> LeafNode:
            return sign_leaf(
                suite,
                self.signature_private,
                encryption_key=encryption_key,
                credential=credential,
                capabilities=before.capabilities,
                extensions=before.extensions,
                parent_hash=parent_hash,
                group_id=provisional.group_id,
                leaf=own_leaf,
            )

        def context(tree_hash: bytes) -> bytes:
            return replace(provisional, tree_hash=tree_hash).encode()

        return create_path(
            applied.tree,
            own_leaf,
            sign=sign,
            context=context,
            excluded=applied.added_leaves,
            rng=self.rng,
        )

    def _welcomes(
        self,
        applied: Applied,
        created: CreatedPath | None,
        joiner: bytes,
        psk: bytes,
        info: GroupInfo,
    ) -> tuple[tuple[bytes, bytes], ...]:
        if not applied.added:
            return ()
        suite = applied.tree.suite
        sealed_info = seal_group_info(suite, welcome_secret(suite, joiner, psk), info)
        # The HPKE info is the same for all, and long: hash it once.
        prepared = suite.encrypt_info("Welcome", sealed_info)
        welcomes: list[tuple[bytes, bytes]] = []
        for leaf, package in applied.added:
            path_secret = None
            if created is not None:
                node = common_ancestor(2 * leaf, 2 * self.epoch.own_leaf)
                path_secret = created.path.secrets[node]
            secrets = GroupSecrets(joiner, path_secret, applied.psks).encode()
            sealed = suite.encrypt_prepared(
                package.init_key, prepared, secrets, self.rng
            )
            ref = package.ref(suite)
            item = EncryptedGroupSecrets(ref, sealed)
            welcome = Welcome(suite.id, (item,), sealed_info)
            welcomes.append((ref, wrap(WELCOME, welcome.encode())))
        return tuple(welcomes)


def make_group_info(
    suite: CipherSuite,
    signature_private: bytes,
    context: GroupContext,
    secrets: EpochSecrets,
    tag: bytes,
    signer: int,
    rng: Rng,
) -> GroupInfo:
    """Make the GroupInfo of an epoch, with the key for external commits."""
    _, external_pub = external_key_pair(suite, secrets.external_secret)
    extensions = Extension(EXTERNAL_PUB, vector(external_pub)), grease_extension(rng)
    return sign_group_info(suite, signature_private, context, extensions, tag, signer)


def _references(
    chosen: Sequence[StoredProposal | Proposal],
) -> tuple[ProposalOrRef, ...]:
    """Refer to what was sent before."""
    return tuple(
        ProposalRef(item.received.ref) if isinstance(item, StoredProposal) else item
        for item in chosen
    )
