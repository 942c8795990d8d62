"""Standalone proposals of a member, and handshakes from the wire (RFC 9420 12.1)."""

from __future__ import annotations

from collections.abc import Sequence

from e2ee.codec import decode
from e2ee.codepoint import (
    APPLICATION,
    BASIC,
    MEMBER,
    MLS10,
    PRIVATE_MESSAGE,
    PUBLIC_MESSAGE,
)
from e2ee.errors import (
    InvalidMessage,
    LimitExceeded,
    OwnMessage,
    ProposalUnsupported,
)
from e2ee.extension import Credential, Extension
from e2ee.framing import (
    AuthenticatedContent,
    FramedContent,
    PrivateMessage,
    PublicMessage,
    Sender,
    read_framed,
    wrap,
)
from e2ee.group_message import GroupMessages
from e2ee.key_package import MAX_KEY_PACKAGE, KeyPackage
from e2ee.leaf import sign_leaf
from e2ee.member import ProposalReceived
from e2ee.proposal import (
    Add,
    GroupContextExtensions,
    Proposal,
    ReInit,
    Remove,
    SelfRemove,
    Update,
)
from e2ee.proposal_store import (
    accept_proposal,
    describe,
    proposal_of,
)
from e2ee.proposal_validation import check_proposal, member_of
from e2ee.protection import (
    check_membership,
    protect_private,
    protect_public,
    sign_framed,
    unprotect_private,
)
from e2ee.secret_tree import Found
from e2ee.suite import CipherSuite


class GroupProposals(GroupMessages):
    """The part of `Group` that proposes."""

    def propose_add(self, key_package: bytes) -> bytes:
        """Propose to add a member; like all of these gives an MLSMessage."""
        return self._propose(Add(read_key_package(key_package)))

    def propose_remove(self, leaf: int) -> bytes:
        """Propose to remove a member, or ourselves."""
        return self._propose(Remove(leaf))

    def propose_leaving(self) -> bytes:
        """Propose to remove ourselves: by SelfRemove, if all members know it.

        Who joins by external commit takes a SelfRemove along, but no Remove, and
        there is no need to be asked for twice in an epoch: the same message is given
        again.
        """
        self._require_active()
        own = Sender(MEMBER, self.own_leaf)
        for stored in self._pending.values():
            if isinstance(stored.proposal, SelfRemove) and stored.sender == own:
                return self._public(decode(stored.encoded, AuthenticatedContent.read))
        try:
            self._epoch.tree.census.check_proposals([SelfRemove.type])
        except ProposalUnsupported:
            return self._propose(Remove(self.own_leaf))
        return self._propose(SelfRemove())

    def propose_update(self, *, identity: bytes | None = None) -> bytes:
        """Propose a new leaf for ourselves."""
        self._require_active()
        epoch, suite = self._epoch, self.suite
        old = self._own_leaf_node()
        private, public = suite.kem.derive_key_pair(self._rng(32))
        leaf = sign_leaf(
            suite,
            self._signature_private,
            encryption_key=public,
            credential=old.credential
            if identity is None
            else Credential(BASIC, identity),
            capabilities=old.capabilities,
            extensions=old.extensions,
            group_id=self.group_id,
            leaf=epoch.own_leaf,
        )
        return self._propose(Update(leaf), private)

    def propose_extensions(self, extensions: Sequence[Extension]) -> bytes:
        """Propose to replace the group's extensions."""
        return self._propose(GroupContextExtensions(tuple(extensions)))

    def propose_reinit(
        self,
        *,
        group_id: bytes,
        extensions: Sequence[Extension] = (),
        suite: CipherSuite | None = None,
    ) -> bytes:
        """Propose to end the group and go on in a new one (section 11.2).

        Args:
            group_id: The new group's.
            suite: The new group's; this one's if not given.
        """
        return self._propose(self._reinit_of(group_id, extensions, suite))

    def _reinit_of(
        self,
        group_id: bytes,
        extensions: Sequence[Extension],
        suite: CipherSuite | None,
    ) -> ReInit:
        id_ = (suite or self.suite).id
        return ReInit(group_id, MLS10, id_, tuple(extensions))

    def _propose(self, proposal: Proposal, private: bytes = b"") -> bytes:
        self._require_active()
        epoch, suite = self._epoch, self.suite
        sender = Sender(MEMBER, epoch.own_leaf)
        check_proposal(epoch.tree, epoch.context, sender, proposal, self._validator)
        member = member_of(epoch.own_leaf, self._own_leaf_node())
        self._validator.authorize_proposal(epoch.context, member, proposal)
        # A SelfRemove is for external joiners too, who could not decrypt it.
        encrypted = self.encrypt_handshakes and not isinstance(proposal, SelfRemove)
        message = sign_framed(
            suite,
            self._signature_private,
            PRIVATE_MESSAGE if encrypted else PUBLIC_MESSAGE,
            FramedContent.make(self.group_id, self.epoch, sender, b"", proposal),
            epoch.encoded_context,
        )
        stored = describe(epoch.tree, epoch.context, message, private)
        encoded = self._encrypted(message) if encrypted else self._public(message)
        self._pending[stored.received.ref] = stored
        return encoded

    def _public(self, message: AuthenticatedContent) -> bytes:
        epoch = self._epoch
        public = protect_public(
            self.suite, epoch.secrets.membership_key, message, epoch.encoded_context
        )
        return wrap(PUBLIC_MESSAGE, public.encode())

    def _encrypted(self, message: AuthenticatedContent) -> bytes:
        sealed = protect_private(
            self.suite,
            self._epoch.secrets.sender_data_secret,
            self._ratchets,
            message.content,
            message.auth,
            rng=self._rng,
        )
        return wrap(PRIVATE_MESSAGE, sealed.encode())

    def receive_proposal(self, message: bytes) -> ProposalReceived:
        """Verify a standalone proposal and keep it for a commit of this epoch.

        A proposal of our own that comes back is recognised and changes nothing.

        Raises:
            E2eeError: It is not a valid proposal for this epoch.
        """
        self._require_active()
        framed = read_framed(message)
        if isinstance(framed, PublicMessage):
            known = self._pending.get(framed.authenticated().proposal_ref(self.suite))
            if known is not None:
                return known.received
        opened, found = self._unprotect(framed)
        epoch = self._epoch
        if opened.content.sender == Sender(MEMBER, epoch.own_leaf) and isinstance(
            proposal_of(opened), Update
        ):
            raise OwnMessage("this is our own Update, whose key is lost")
        stored = accept_proposal(
            epoch.tree, epoch.context, opened, self._validator, self._pending
        )
        if found is not None:
            self._consume(self._ratchets, found)
        self._pending[stored.received.ref] = stored
        return stored.received

    def _unprotect(
        self, framed: PublicMessage | PrivateMessage
    ) -> tuple[AuthenticatedContent, Found | None]:
        """Check group, epoch and membership of a handshake message.

        The signature is verified by whoever goes on with it.
        """
        epoch = self._epoch
        if isinstance(framed, PublicMessage):
            self._check_group(framed.content.group_id)
            self._check_current(framed.content.epoch)
            check_membership(
                self.suite, epoch.secrets.membership_key, framed, epoch.encoded_context
            )
            return framed.authenticated(), None
        self._check_group(framed.group_id)
        self._check_current(framed.epoch)
        if framed.content_type == APPLICATION:
            raise InvalidMessage("the message is not a handshake")
        return unprotect_private(
            self.suite,
            epoch.secrets.sender_data_secret,
            self._ratchets,
            framed,
            epoch.own_leaf,
        )


def read_key_package(data: bytes) -> KeyPackage:
    """Decode a KeyPackage; raises `Malformed`."""
    if len(data) > MAX_KEY_PACKAGE:
        raise LimitExceeded("a KeyPackage is larger than accepted")
    return decode(data, KeyPackage.read)
