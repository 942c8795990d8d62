"""The hub's group: everything but the secrets (RFC 9420; RFC 9750 section 5).

The only module of `e2ee` that the node may import. A hub orders commits, and refuses
those that are malformed or forbidden, because one bad commit would leave the group
stuck for ever. It cannot check membership tags, confirmation tags and HPKE contents:
for these, members report failures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from e2ee.codec import Reader, decode, u8, vector, vectors
from e2ee.codepoint import EXTERNAL, EXTERNAL_PUB
from e2ee.errors import (
    BadSignature,
    CredentialRefused,
    E2eeError,
    ExternalPubMissing,
    FutureEpoch,
    InvalidGroupInfo,
    InvalidMessage,
    InvalidWelcome,
    Malformed,
    NotAllowed,
    StaleEpoch,
    UnknownProposal,
    Unsupported,
    UnsupportedSuite,
    WrongEpoch,
    WrongGroup,
)
from e2ee.extension import Extension, find_extension
from e2ee.external_proposal import propose_externally
from e2ee.framing import (
    AuthenticatedContent,
    Peek,
    PublicMessage,
    Sender,
    peek,
    read_framed,
)
from e2ee.group_context import GroupContext
from e2ee.group_info import GroupInfo, find_tree, verify_group_info
from e2ee.key_package import KeyPackageInfo, key_package_info
from e2ee.key_schedule import interim_transcript_hash
from e2ee.member import (
    ALLOW_ALL,
    Action,
    CommitEffects,
    Member,
    ProposalReceived,
    Validator,
)
from e2ee.proposal import Remove
from e2ee.proposal_store import (
    StoredProposal,
    accept_proposal,
    read_stored,
    resolve,
)
from e2ee.proposal_validation import check_proposal, member_of
from e2ee.protection import verify_content
from e2ee.ratchet_tree import RatchetTree
from e2ee.suite import SUITE_3, CipherSuite
from e2ee.transition import Transition, advance, commit_of, commit_signer
from e2ee.tree_validation import validate_tree

__all__ = [
    "ALLOW_ALL",
    "Action",
    "BadSignature",
    "CommitEffects",
    "CredentialRefused",
    "E2eeError",
    "Extension",
    "FutureEpoch",
    "GroupContext",
    "InvalidGroupInfo",
    "InvalidMessage",
    "KeyPackageInfo",
    "Malformed",
    "Member",
    "NotAllowed",
    "Peek",
    "ProposalReceived",
    "PublicGroup",
    "StaleEpoch",
    "UnknownProposal",
    "Unsupported",
    "Validator",
    "WrongEpoch",
    "WrongGroup",
    "key_package_info",
    "peek",
]

FORMAT = 1
"""Version of the encoding."""


@dataclass(frozen=True, slots=True)
class PublicGroup:
    """The hub's view of a group at one epoch. A value: changes give a new one."""

    context: GroupContext
    tree: RatchetTree = field(repr=False)
    interim_transcript_hash: bytes
    confirmation_tag: bytes
    validator: Validator = field(repr=False, compare=False)
    pending: Mapping[bytes, StoredProposal] = field(repr=False, default_factory=dict)
    ended: bool = False
    """Whether a ReInit ended the group: it takes no more handshakes."""

    @classmethod
    def create(
        cls,
        group_info: bytes,
        ratchet_tree: bytes,
        *,
        now: int,
        validator: Validator,
        suite: CipherSuite = SUITE_3,
    ) -> PublicGroup:
        """Take in a group from a member's GroupInfo and tree.

        Args:
            group_info: MLSMessage(GroupInfo).
            now: Judges the lifetimes of leaves that come from KeyPackages, if the
                group is at epoch 0; later ones, and later credentials, may have
                expired by right.

        Raises:
            InvalidGroupInfo, TreeHashMismatch, BadSignature: They do not belong
                together, or no member signed them.
            E2eeError: The tree is not valid.
        """
        info = GroupInfo.from_message(group_info)
        context = info.context
        if context.cipher_suite != suite.id:
            raise UnsupportedSuite("the group has another cipher suite")
        tree = find_tree(suite, info, ratchet_tree)
        new = context.epoch == 0
        validate_tree(tree, context.group_id, context.extensions, validator, fresh=new)
        if new:
            for _, leaf in tree.leaves():
                if leaf.lifetime is not None:
                    leaf.lifetime.check(now)
        verify_group_info(tree, info)
        interim = interim_transcript_hash(
            suite, context.confirmed_transcript_hash, info.confirmation_tag
        )
        return cls(context, tree, interim, info.confirmation_tag, validator)

    # --- looking at it

    @property
    def group_id(self) -> bytes:
        """The group's id."""
        return self.context.group_id

    @property
    def epoch(self) -> int:
        """Number of the epoch."""
        return self.context.epoch

    @property
    def tree_hash(self) -> bytes:
        """Hash of the whole tree."""
        return self.context.tree_hash

    @property
    def suite(self) -> CipherSuite:
        """The group's cipher suite."""
        return self.tree.suite

    @property
    def pending_proposals(self) -> tuple[ProposalReceived, ...]:
        """Standalone proposals of this epoch."""
        return tuple(stored.received for stored in self.pending.values())

    def members(self) -> list[Member]:
        """Give all members, in the order of their leaves."""
        return [member_of(at, leaf) for at, leaf in self.tree.leaves()]

    def ratchet_tree(self) -> bytes:
        """Encode the tree, for new members."""
        return self.tree.encode()

    # --- messages

    def receive_proposal(self, message: bytes) -> tuple[PublicGroup, ProposalReceived]:
        """Verify a standalone proposal and keep it for commits of this epoch.

        The membership tag cannot be checked here.

        Raises:
            E2eeError: It is not a valid proposal for this epoch.
        """
        content = self._public(message)
        stored = accept_proposal(
            self.tree, self.context, content, self.validator, self.pending
        )
        pending = {**self.pending, stored.received.ref: stored}
        return replace(self, pending=pending), stored.received

    def propose_remove(
        self, leaf: int, *, signature_private: bytes, sender_index: int = 0
    ) -> bytes:
        """Propose to remove a member, as an external sender (section 12.1.8).

        For members who have left: a hub proposes it anew after each epoch until
        somebody has committed it. The group must list the hub's key.

        Returns:
            MLSMessage(PublicMessage); give it to `receive_proposal` and all members.

        Raises:
            InvalidProposal: There is no such member.
        """
        sender, proposal = Sender(EXTERNAL, sender_index), Remove(leaf)
        check_proposal(self.tree, self.context, sender, proposal, self.validator)
        return propose_externally(
            proposal,
            group_id=self.group_id,
            epoch=self.epoch,
            sender_index=sender_index,
            signature_private=signature_private,
            suite=self.suite,
        )

    def process_commit(
        self,
        commit: bytes,
        group_info: bytes,
        *,
        now: int,
        welcome_refs: Sequence[bytes] | None = None,
    ) -> tuple[PublicGroup, CommitEffects]:
        """Verify a commit bundle and give the group after it.

        Args:
            commit: MLSMessage(PublicMessage).
            group_info: MLSMessage(GroupInfo) of the new epoch by the committer.
            now: Judges the lifetimes of what is added.
            welcome_refs: KeyPackageRefs of the Welcomes in the bundle; if given,
                they must be those of the added members.

        Raises:
            StaleEpoch, FutureEpoch, WrongGroup: It is for another state.
            E2eeError: It is not valid, or not allowed.
        """
        # (1) A commit for this state, signed by a member, as far as it is public.
        step, tag = self._advance(commit, now)
        # (2) The committer vouches for the same result.
        self._check_group_info(GroupInfo.from_message(group_info), step, tag)
        # (3) A Welcome for each new member.
        if welcome_refs is not None:
            refs = [package.ref(self.suite) for _, package in step.applied.added]
            if sorted(refs) != sorted(welcome_refs):
                raise InvalidWelcome("the Welcomes are not those of the added members")
        return self._after(step, tag), step.effects

    def follow(self, commit: bytes) -> tuple[PublicGroup, CommitEffects]:
        """Verify a commit that stands in the log, and give the group after it.

        For a member that lost its keys, and so can still say to which group the log
        leads. As in `Group.process_commit` no dates are judged; the membership tag,
        the confirmation tag and the path's secrets cannot be checked.

        Args:
            commit: MLSMessage(PublicMessage).

        Raises:
            StaleEpoch, FutureEpoch, WrongGroup: It is for another state.
            E2eeError: It is not valid, or not allowed.
        """
        step, tag = self._advance(commit, None)
        return self._after(step, tag), step.effects

    def _advance(self, commit: bytes, now: int | None) -> tuple[Transition, bytes]:
        message = self._public(commit)
        signer = commit_signer(self.tree, self.context, message)
        verify_content(self.suite, signer, message, self.context.encode())
        content, tag = commit_of(message)
        items = resolve(content, message.content.sender, self.pending)
        step = advance(
            self.tree,
            self.context,
            self.interim_transcript_hash,
            message,
            items,
            self.validator,
            now=now,
        )
        return step, tag

    def _after(self, step: Transition, tag: bytes) -> PublicGroup:
        return PublicGroup(
            step.context,
            step.tree,
            step.interim_transcript_hash,
            tag,
            self.validator,
            ended=step.applied.reinit is not None,
        )

    def is_state_of(self, group_info: bytes) -> bool:
        """Whether a GroupInfo is of this very epoch: what led to it, and who is in it.

        The signature is not checked here: whoever joins by it does.

        Raises:
            Malformed: It is no GroupInfo.
        """
        info = GroupInfo.from_message(group_info)
        return (
            info.context == self.context
            and info.confirmation_tag == self.confirmation_tag
        )

    @staticmethod
    def _check_group_info(info: GroupInfo, step: Transition, tag: bytes) -> None:
        if info.context != step.context:
            raise InvalidGroupInfo("the GroupInfo is not of the group after the commit")
        if info.signer != step.committer:
            raise InvalidGroupInfo("the GroupInfo is not signed by the committer")
        if info.confirmation_tag != tag:
            raise InvalidGroupInfo("the GroupInfo has another confirmation tag")
        if find_extension(info.extensions, EXTERNAL_PUB) is None:
            raise ExternalPubMissing("the GroupInfo has no external_pub")
        verify_group_info(step.tree, info)

    def _public(self, message: bytes) -> AuthenticatedContent:
        framed = read_framed(message)
        if not isinstance(framed, PublicMessage):
            raise InvalidMessage("the hub must be able to read handshakes")
        content = framed.content
        if content.group_id != self.group_id:
            raise WrongGroup("the message is for another group")
        if content.epoch < self.epoch:
            raise StaleEpoch("the message is for an epoch that is over")
        if content.epoch > self.epoch:
            raise FutureEpoch("the message is for an epoch that has not come yet")
        if self.ended:
            raise InvalidMessage("the group was ended by ReInit")
        return framed.authenticated()

    # --- keeping it

    def encode(self) -> bytes:
        """Encode for keeping; there is no secret in it."""
        return (
            u8(FORMAT)
            + vector(self.context.encode())
            + vector(self.interim_transcript_hash)
            + vector(self.confirmation_tag)
            + vector(self.tree.encode())
            + vectors(stored.encode() for stored in self.pending.values())
            + (u8(1) if self.ended else b"")
        )

    @classmethod
    def decode(
        cls, data: bytes, *, validator: Validator, suite: CipherSuite = SUITE_3
    ) -> PublicGroup:
        """Decode what `encode` gave; it is trusted and not verified again.

        Raises:
            Malformed, UnsupportedSuite.
        """
        reader = Reader(data)
        if reader.u8() != FORMAT:
            raise Malformed("the group was saved by another version")
        context = decode(reader.vector(), GroupContext.read)
        if context.cipher_suite != suite.id:
            raise UnsupportedSuite("the saved group has another cipher suite")
        interim = reader.vector()
        tag = reader.vector()
        tree = RatchetTree.decode(suite, reader.vector())
        stored = reader.items(lambda r: read_stored(suite, tree, context, r))
        ended = reader.left > 0
        if ended and not reader.present():
            raise Malformed("the saved group has more bytes than it should")
        reader.finish()
        pending = {item.received.ref: item for item in stored}
        return cls(context, tree, interim, tag, validator, pending, ended)
