"""What a room's hub works out about its MLS group: pure, slow, run in a thread.

A hub holds the public half of the group. It checks each handshake as a member would,
because one malformed commit would leave the room stuck for ever, and says what the
handshake does to accounts and devices. Who may do it is the room's policy, asked
through `protocol.policy.RoomValidator`, the same as at the members.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from e2ee.public_group import (
    CredentialRefused,
    E2eeError,
    FutureEpoch,
    Member,
    PublicGroup,
    Validator,
)
from e2ee.public_group import NotAllowed as E2eeNotAllowed
from e2ee.public_group import StaleEpoch as E2eeStaleEpoch
from node.rooms.incoming import Incoming
from protocol.codec import decode
from protocol.errors import (
    AddressError,
    BadRequest,
    IdentityError,
    InvalidCommit,
    Malformed,
    NotAllowed,
    Refused,
    StaleEpoch,
)
from protocol.log import RoomSeed, group_id, room_id
from protocol.policy import Role, account_of, authorize, device_of, read_policy
from protocol.wire import Bundle, CreateRoom

__all__ = ["Change", "commit", "found", "open_group", "propose"]

CREATED_SLACK_MS = 24 * 3600 * 1000
"""Milliseconds by which a room's seed may lie in our future: clocks are wrong."""


@dataclass(frozen=True, slots=True)
class Change:
    """A group after a handshake, and what the handshake did."""

    group: PublicGroup
    encoded: bytes
    """The group as it is kept."""
    group_info: bytes
    """MLSMessage(GroupInfo) of its epoch; empty after a lone proposal."""
    tree: bytes
    """Its ratchet tree; empty after a lone proposal."""
    added: tuple[str, ...] = ()
    """Accounts that came in."""
    removed: tuple[str, ...] = ()
    """Accounts whose last device went."""
    came: frozenset[str] = frozenset()
    """Devices that came in."""
    gone: frozenset[str] = frozenset()
    """Devices that went (one that was removed and added again did neither)."""
    newcomers: tuple[Member, ...] = ()
    """The new leaves, with their credentials."""


def open_group(data: bytes, validator: Validator) -> PublicGroup:
    """A group as it was kept."""
    return PublicGroup.decode(data, validator=validator)


def found(incoming: Incoming, now: int, validator: Validator) -> Change:
    """Check the first entry of a room.

    Raises:
        BadRequest, InvalidCommit, NotAllowed: what is wrong with it.
    """
    submission = incoming.submission
    try:
        body = decode(submission.body, CreateRoom)
        seed = decode(body.seed, RoomSeed)
    except Malformed as error:
        raise BadRequest(str(error)) from error
    if room_id(body.seed) != submission.log or len(seed.salt) != 16:
        raise BadRequest("The room's id does not follow from its seed.")
    if seed.version != 1 or seed.created > now * 1000 + CREATED_SLACK_MS:
        raise BadRequest("The room's seed is of another version or of the future.")
    if seed.creator != incoming.account:
        raise NotAllowed("A room is created by the account that its seed names.")
    try:
        group = PublicGroup.create(
            body.group_info, body.ratchet_tree, now=now, validator=validator
        )
        policy = read_policy(group.context.extensions)
    except Exception as error:
        raise _refusal(error, None) from error
    members = group.members()
    if group.group_id != group_id(submission.log) or group.epoch != 0:
        raise InvalidCommit("The group is not this room's at epoch 0.")
    if [device_of(m.identity) for m in members] != [submission.sender]:
        raise InvalidCommit("The group must hold its creator's device alone.")
    if policy.version != 1 or policy.room != submission.log:
        raise InvalidCommit("The room policy is another room's.")
    if policy.role(incoming.account) < Role.OWNER:
        raise InvalidCommit("The room policy does not name its creator as owner.")
    if policy.self_group:
        me = [incoming.account]
        authorize(policy, incoming.account, added=me, removed=[], present=me)
    return Change(
        group,
        group.encode(),
        body.group_info,
        group.ratchet_tree(),
        added=(incoming.account,),
        came=frozenset({submission.sender}),
        newcomers=tuple(members),
    )


def commit(group: PublicGroup, incoming: Incoming, bundle: Bundle, now: int) -> Change:
    """Check a commit and its bundle against the group.

    A device that joins by the commit itself (RFC 9420 section 12.4.3.2) is one of the
    newcomers, and the one that gets no Welcome.

    Raises:
        StaleEpoch: another commit came before.
        InvalidCommit, NotAllowed: what is wrong with it.
    """
    refs = [welcome.key_package_ref for welcome in bundle.welcomes]
    try:
        after, effects = group.process_commit(
            incoming.submission.body, bundle.group_info, now=now, welcome_refs=refs
        )
        sender = device_of(effects.sender.identity)
        newcomers = tuple(effects.added)
        welcomed = newcomers[:-1] if effects.external else newcomers
        joined = sorted(device_of(member.identity) for member in welcomed)
        before_accounts, before = _inside(group.members())
        after_accounts, devices = _inside(after.members())
    except Exception as error:
        raise _refusal(error, group) from error
    if sender != incoming.submission.sender:
        raise InvalidCommit("The commit is by another device than the one that sends.")
    if joined != sorted(welcome.device for welcome in bundle.welcomes):
        raise InvalidCommit("Each device that is added needs one Welcome.")
    return Change(
        after,
        after.encode(),
        bundle.group_info,
        after.ratchet_tree(),
        added=tuple(sorted(after_accounts - before_accounts)),
        removed=tuple(sorted(before_accounts - after_accounts)),
        came=frozenset(devices - before),
        gone=frozenset(before - devices),
        newcomers=newcomers,
    )


def propose(group: PublicGroup, incoming: Incoming) -> Change:
    """Check a proposal that comes alone: a wish to leave.

    Raises:
        StaleEpoch, InvalidCommit, NotAllowed: what is wrong with it.
    """
    try:
        after, proposal = group.receive_proposal(incoming.submission.body)
        sender = device_of(proposal.sender.identity)
        subject = None if proposal.subject is None else proposal.subject.identity
        own = subject is not None and account_of(subject) == incoming.account
    except Exception as error:
        raise _refusal(error, group) from error
    if sender != incoming.submission.sender:
        raise InvalidCommit("The proposal is by another device than sends it.")
    if not own:
        raise NotAllowed("A device may only propose that its own account leaves.")
    return Change(after, after.encode(), b"", b"")


def _inside(members: Sequence[Member]) -> tuple[set[str], set[str]]:
    """The accounts and the devices of these leaves."""
    devices = {device_of(member.identity) for member in members}
    return {device.rpartition("/")[0] for device in devices}, devices


def _refusal(error: Exception, group: PublicGroup | None) -> Exception:
    """What the sender of a handshake is told; unknown errors stay what they are."""
    match error:
        case Refused():
            return error
        case E2eeStaleEpoch() | FutureEpoch() if group is not None:
            return StaleEpoch(epoch=group.epoch)
        case E2eeNotAllowed():
            return NotAllowed(f"{error}.")
        case CredentialRefused() | IdentityError() | Malformed() | AddressError():
            return InvalidCommit(str(error))
        case E2eeError():
            return InvalidCommit(f"{error}.")
        case _:
            return error
