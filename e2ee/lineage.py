"""Groups that grow out of others: successors and subgroups (RFC 9420 11.2, 11.3).

A new group names the old one by a resumption PSK in its first commit, which only the
old one's members can know. Here is what a joiner checks before it believes that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from e2ee.codepoint import MLS10, PSK_RESUMPTION, USAGE_APPLICATION, USAGE_REINIT
from e2ee.errors import InvalidLink, LinkEpoch, LinkMembers, LinkParameters
from e2ee.group_context import GroupContext
from e2ee.member import Member
from e2ee.proposal import ReInit
from e2ee.psk import PreSharedKeyId
from e2ee.suite import CipherSuite

ClientOf = Callable[[bytes], object]
"""Names the client of an identity. Identities of one client may differ over time (a
renewed certificate); which are the same client is for the application to say."""


def same_identity(identity: bytes) -> object:
    """Take each identity for a client of its own."""
    return identity


class Ancestor(Protocol):
    """The old group, as far as a new one is compared with it."""

    @property
    def epoch(self) -> int:
        """Number of its current epoch."""
        ...

    @property
    def suite(self) -> CipherSuite:
        """Its cipher suite."""
        ...

    @property
    def reinit(self) -> ReInit | None:
        """The ReInit that ended it."""
        ...

    def members_at(self, epoch: int) -> list[Member]:
        """Its members in an epoch that is kept."""
        ...


def linking_psk(psks: Sequence[PreSharedKeyId]) -> PreSharedKeyId | None:
    """Find the PSK that links a new group to an old one (section 12.4.3.1).

    Raises:
        InvalidLink: There are several.
    """
    found = [
        psk
        for psk in psks
        if psk.type == PSK_RESUMPTION and psk.usage != USAGE_APPLICATION
    ]
    if len(found) > 1:
        raise InvalidLink("a group is linked to one other group at most")
    return found[0] if found else None


def check_link(
    old: Ancestor,
    psk: PreSharedKeyId,
    context: GroupContext,
    members: Iterable[Member],
    client_of: ClientOf,
) -> None:
    """Check that a new group is what grows out of the old one.

    Args:
        psk: What links them; that its key is known is checked elsewhere.
        context: The new group's.
        members: The new group's.

    Raises:
        InvalidLink: One of its kinds: epoch, parameters, members; or itself, if the
            old group was not ended by ReInit.
    """
    if context.epoch != 1:
        raise LinkEpoch("the new group is not at epoch 1")
    new = {client_of(member.identity) for member in members}
    before = {client_of(member.identity) for member in old.members_at(psk.epoch)}
    if psk.usage != USAGE_REINIT:
        if context.cipher_suite != old.suite.id:
            raise LinkParameters("the subgroup has another cipher suite")
        if not new <= before:
            raise LinkMembers("the subgroup has members that the old group had not")
        return
    reinit = old.reinit
    if reinit is None or psk.epoch != old.epoch:
        raise InvalidLink("the old group was not ended by ReInit")
    agreed = (reinit.group_id, reinit.version, reinit.cipher_suite, reinit.extensions)
    if agreed != (context.group_id, MLS10, context.cipher_suite, context.extensions):
        raise LinkParameters("the new group is not the one that ReInit asked for")
    if new != before:
        raise LinkMembers("the members are not those of the old group")
