"""Application messages of a group, this epoch's and late ones (RFC 9420 6.3, 15)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from e2ee.codepoint import (
    APPLICATION,
    MEMBER,
    PRIVATE_MESSAGE,
)
from e2ee.errors import (
    FutureEpoch,
    InvalidMessage,
    StaleEpoch,
    UnknownSender,
)
from e2ee.framing import (
    FramedContent,
    PrivateMessage,
    Sender,
    read_framed,
    wrap,
)
from e2ee.group_state import GroupState
from e2ee.leaf import LeafNode
from e2ee.member import Member
from e2ee.proposal_validation import member_of
from e2ee.protection import (
    protect_private,
    sign_framed,
    unprotect_private,
    verify_content,
)
from e2ee.secret_tree import SecretTree


@dataclass(frozen=True, slots=True)
class Decrypted:
    """An application message that verified."""

    content: bytes = field(repr=False)
    authenticated_data: bytes
    sender: Member
    epoch: int
    generation: int


_Keys = tuple[bytes, SecretTree, int, Callable[[int], LeafNode | None], bytes]
"""Of one epoch: sender data secret, ratchets, own leaf, leaves, encoded context."""


class GroupMessages(GroupState):
    """The part of `Group` that talks."""

    def encrypt(self, content: bytes, *, authenticated_data: bytes = b"") -> bytes:
        """Encrypt an application message, padded (section 6.3).

        Save `dump_ratchets()` before the message leaves: its key must not be used
        again. Commit `pending_proposals` first.

        Returns:
            MLSMessage(PrivateMessage).
        """
        self._require_active()
        epoch = self._epoch
        framed = FramedContent.make(
            self.group_id,
            self.epoch,
            Sender(MEMBER, epoch.own_leaf),
            authenticated_data,
            content,
        )
        signed = sign_framed(
            self.suite,
            self._signature_private,
            PRIVATE_MESSAGE,
            framed,
            epoch.encoded_context,
        )
        message = protect_private(
            self.suite,
            epoch.secrets.sender_data_secret,
            self._ratchets,
            framed,
            signed.auth,
            rng=self._rng,
        )
        return wrap(PRIVATE_MESSAGE, message.encode())

    def decrypt(self, message: bytes) -> Decrypted:
        """Decrypt an application message of this epoch or one of the last three.

        Save `dump_ratchets()` together with the content: the key is gone.

        Raises:
            StaleEpoch, FutureEpoch, WrongGroup: It is for another state.
            OwnMessage: We sent it.
            GenerationUsed: It was decrypted before.
            E2eeError: Anything else about it is wrong.
        """
        framed = read_framed(message)
        if not isinstance(framed, PrivateMessage):
            raise InvalidMessage("an application message must be encrypted")
        if framed.content_type != APPLICATION:
            raise InvalidMessage("the message is not an application message")
        self._check_group(framed.group_id)
        sender_data, ratchets, own_leaf, leaf_of, context = self._keys_for(framed.epoch)
        opened, found = unprotect_private(
            self.suite, sender_data, ratchets, framed, own_leaf
        )
        leaf = leaf_of(found.leaf)
        if leaf is None:
            raise UnknownSender("the sender is not a member")
        verify_content(self.suite, leaf.signature_key, opened, context)
        content = opened.content.content
        if not isinstance(content, bytes):  # pragma: no cover - decoded as such
            raise InvalidMessage("the message is not an application message")
        self._consume(ratchets, found)
        return Decrypted(
            content,
            framed.authenticated_data,
            member_of(found.leaf, leaf),
            framed.epoch,
            found.generation,
        )

    def _keys_for(self, number: int) -> _Keys:
        if number > self.epoch:
            raise FutureEpoch("the message is for an epoch that has not come yet")
        if number == self.epoch and not self._removed:
            epoch = self._epoch
            return (
                epoch.secrets.sender_data_secret,
                self._ratchets,
                epoch.own_leaf,
                epoch.tree.leaf,
                epoch.encoded_context,
            )
        for past, ratchets in self._past:
            if past.epoch == number:
                return (
                    past.sender_data_secret,
                    ratchets,
                    past.own_leaf,
                    past.leaf,
                    past.encoded_context,
                )
        raise StaleEpoch("the message is for an epoch whose keys are deleted")
