"""Proposals from outside of a group (RFC 9420 section 12.1.8).

Two may send them: who asks to be added itself, and whom the group lists in its
`external_senders` extension (a hub). They are signed, and always PublicMessage; the
group's members and hub judge them as they come in.
"""

from __future__ import annotations

from e2ee.codec import decode
from e2ee.codepoint import (
    EXTERNAL,
    EXTERNAL_SENDER_PROPOSALS,
    NEW_MEMBER_PROPOSAL,
    PUBLIC_MESSAGE,
)
from e2ee.errors import Misuse, SenderForbidden
from e2ee.framing import FramedContent, PublicMessage, Sender, wrap
from e2ee.key_package import KeyPackage
from e2ee.proposal import Add, Proposal
from e2ee.protection import sign_framed
from e2ee.suite import SUITE_3, CipherSuite


def propose_joining(
    key_package: bytes,
    *,
    group_id: bytes,
    epoch: int,
    signature_private: bytes,
    suite: CipherSuite = SUITE_3,
) -> bytes:
    """Ask a group to add us, as `new_member_proposal`.

    Keep the KeyPackage's bundle for the Welcome; ask again if the epoch goes by.

    Args:
        key_package: Our own, encoded.
        epoch: The group's current one.
        signature_private: The key that signed the KeyPackage.

    Returns:
        MLSMessage(PublicMessage).

    Raises:
        Malformed: It is no KeyPackage.
        Misuse: The key is not the KeyPackage's.
    """
    package = decode(key_package, KeyPackage.read)
    if suite.signature.public(signature_private) != package.leaf_node.signature_key:
        raise Misuse("the signature key is not the KeyPackage's")
    sender = Sender(NEW_MEMBER_PROPOSAL)
    return _sign(suite, signature_private, group_id, epoch, sender, Add(package))


def propose_externally(
    proposal: Proposal,
    *,
    group_id: bytes,
    epoch: int,
    sender_index: int,
    signature_private: bytes,
    suite: CipherSuite = SUITE_3,
) -> bytes:
    """Propose something as an `external` sender.

    Args:
        sender_index: Our place in the group's `external_senders`.

    Returns:
        MLSMessage(PublicMessage).

    Raises:
        SenderForbidden: From outside, this may not be proposed.
    """
    if proposal.type not in EXTERNAL_SENDER_PROPOSALS:
        raise SenderForbidden("an external sender may not propose this")
    sender = Sender(EXTERNAL, sender_index)
    return _sign(suite, signature_private, group_id, epoch, sender, proposal)


def _sign(
    suite: CipherSuite,
    signature_private: bytes,
    group_id: bytes,
    epoch: int,
    sender: Sender,
    proposal: Proposal,
) -> bytes:
    content = FramedContent.make(group_id, epoch, sender, b"", proposal)
    # Who stands outside does not sign the GroupContext (section 6.1).
    signed = sign_framed(suite, signature_private, PUBLIC_MESSAGE, content, b"")
    return wrap(PUBLIC_MESSAGE, PublicMessage(content, signed.auth, None).encode())
