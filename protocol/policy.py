"""Who may do what in a room: one policy, one function, three places that ask it.

The policy stands in the MLS GroupContext (extension `TELEX_ROOM`), so all members
agree on it cryptographically and the hub can read it. `authorize` is asked by the
member that builds a commit, by the hub that orders it and by each member that
receives it: there is no other table of roles. It holds nothing that a node may
not know; names and topics are encrypted messages.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from enum import IntEnum
from typing import Protocol

import msgspec

from protocol.codec import decode, encode
from protocol.credential import credential_device, credential_root, read_credential
from protocol.errors import IdentityError, Malformed, NotAllowed
from protocol.limits import MEMBERS_MAX
from protocol.whole import Whole

__all__ = [
    "TELEX_ROOM",
    "Role",
    "RoomPolicy",
    "RoomValidator",
    "account_of",
    "authorize",
    "device_of",
    "read_policy",
    "set_refuse_unverified",
]

TELEX_ROOM = 0xF0A1
"""The GroupContext extension (RFC 9420 section 17.3, private use)."""


class Role(IntEnum):
    """What an account may do; each includes those before it."""

    MEMBER = 0
    """Write; add devices of accounts that are in the room; leave."""
    ADMIN = 50
    """Add and remove accounts."""
    OWNER = 100
    """What nobody can be removed from by an admin: the creator."""


class RoomPolicy(msgspec.Struct, array_like=True, frozen=True):
    """The data of the `TELEX_ROOM` extension."""

    version: Whole
    room: str
    direct: bool
    """Two people for good: nobody can be added or removed, anybody can leave."""
    roles: dict[str, Whole]
    """Accounts whose role is not `default_role`."""
    default_role: Whole = Role.MEMBER
    add_role: Whole = Role.MEMBER
    """The least role that adds accounts."""
    self_group: bool = False
    """The devices of one account, its creator's, for good."""
    refuse_unverified: bool = False
    """Members send nothing while a device here is not verified; the one field that
    may change (`set_refuse_unverified`)."""

    def role(self, account: str) -> int:
        """An account's role."""
        return self.roles.get(account, self.default_role)

    def encode(self) -> bytes:
        """The extension's data."""
        return encode(self)


def read_policy(extensions: "Iterable[_Extension]") -> RoomPolicy:
    """The policy among a GroupContext's extensions.

    Raises:
        NotAllowed: there is none, or not exactly one; such a group is no room.
        Malformed: it cannot be decoded.
    """
    found = [e.data for e in extensions if e.type == TELEX_ROOM]
    if len(found) != 1:
        raise NotAllowed("The group carries no room policy.")
    return decode(found[0], RoomPolicy)


_REFUSE_UNVERIFIED = RoomPolicy.__struct_fields__.index("refuse_unverified")


def set_refuse_unverified(data: bytes, on: bool) -> bytes:
    """The extension's data with `refuse_unverified` set and all else kept.

    Builder and checker both come here, so a change is right when its bytes are these.
    Fields that a later version has put behind ours stay as they are.

    Raises:
        Malformed: the data is no policy.
    """
    decode(data, RoomPolicy)
    fields = decode(data, list)
    # A room that was made before the field was: what follows are its defaults.
    fields += [False] * (_REFUSE_UNVERIFIED + 1 - len(fields))
    fields[_REFUSE_UNVERIFIED] = on
    return encode(fields)


def authorize(
    policy: RoomPolicy,
    sender: str,
    *,
    added: Collection[str],
    removed: Collection[str],
    present: Collection[str],
) -> None:
    """Refuse what the sender may not do to the room's accounts.

    Args:
        policy: the policy in force before the change.
        sender: the account that asks.
        added: the accounts of the devices that are added.
        removed: the accounts of the devices that are removed.
        present: the accounts in the room before the change.

    Raises:
        NotAllowed: says what the sender lacks.
    """
    role = policy.role(sender)
    newcomers = set(added) - set(present)
    if policy.self_group and not set(added) <= _creator(policy):
        raise NotAllowed("This room is for the devices of one account alone.")
    if newcomers:
        # The one time a direct room grows is when its creator brings the other.
        if policy.direct and len(set(present) | newcomers) > 2:
            raise NotAllowed("A direct chat stays between two people.")
        if role < policy.add_role:
            raise NotAllowed("You may not add people to this room.")
        if len(set(present) | newcomers) > MEMBERS_MAX:
            raise NotAllowed(f"A room has at most {MEMBERS_MAX} people.")
    # A device that is added again in the same commit was lost, not thrown out.
    for account in set(removed) - {sender} - set(added):
        if policy.direct:
            raise NotAllowed("Nobody can be removed from a direct chat.")
        if role < Role.ADMIN or role <= policy.role(account):
            raise NotAllowed(f"You may not remove {account} from this room.")


def _creator(policy: RoomPolicy) -> set[str]:
    """The one owner of a self group; nobody, if it names more or fewer."""
    owners = {name for name, role in policy.roles.items() if role >= Role.OWNER}
    alone = len(owners) == 1 and policy.default_role < Role.OWNER
    return owners if alone else set()


class _Extension(Protocol):
    @property
    def type(self) -> int: ...
    @property
    def data(self) -> bytes: ...


class _Context(Protocol):
    @property
    def extensions(self) -> "Sequence[_Extension]": ...


class _Member(Protocol):
    @property
    def leaf(self) -> int: ...
    @property
    def identity(self) -> bytes: ...
    @property
    def signature_key(self) -> bytes: ...


class _Action(Protocol):
    @property
    def kind(self) -> str: ...
    @property
    def proposer(self) -> _Member: ...
    @property
    def subject(self) -> _Member | None: ...


class _Effects(Protocol):
    @property
    def before(self) -> "Sequence[_Member]": ...
    @property
    def actions(self) -> "Sequence[_Action]": ...
    @property
    def added(self) -> "Sequence[_Member]": ...
    @property
    def removed(self) -> "Sequence[_Member]": ...
    @property
    def updated(self) -> "Sequence[_Member]": ...
    @property
    def external(self) -> bool: ...
    @property
    def extensions_after(self) -> "Sequence[_Extension] | None": ...


class RoomValidator:
    """Telex's rules as the validator that `e2ee` asks, at members and at the hub."""

    def __init__(self, clock: Callable[[], int]) -> None:
        """`clock` gives unix seconds, which certificates are held against."""
        self._clock = clock

    def credential(self, identity: bytes, signature_key: bytes, *, fresh: bool) -> None:
        """Check the credential of a leaf (RFC 9420 section 5.3.1).

        A certificate that expires later must not shut anybody out of a room: who is
        in stays in, and its dates are judged only when it comes in.

        Args:
            fresh: whether it comes in now.

        Raises:
            IdentityError: it does not hold, or is for another key.
        """
        now = self._clock() if fresh else None
        if read_credential(identity, now).mls_key != signature_key:
            raise IdentityError("A credential is for another key than its leaf's.")

    def authorize(self, context: _Context, sender: _Member, effects: _Effects) -> None:
        """Check what a commit does, by the room's policy, before it is applied.

        Each action is held against the rights of whoever proposed it, so nobody
        gets a wish through by having it ride in an admin's commit.

        Args:
            context: the GroupContext before the change.
            sender: the member that commits.
            effects: what the change does to the leaves, and who wished it.

        Raises:
            NotAllowed: says what the sender or proposer lacks.
        """
        policy = read_policy(context.extensions)
        occupants = {m.leaf: device_of(m.identity) for m in effects.before}
        devices = set(occupants.values())
        if effects.external:
            _check_external(sender, effects)
        elif device_of(sender.identity) not in devices:
            raise NotAllowed("Only a member may change this room.")
        gone = {device_of(member.identity) for member in effects.removed}
        for member in effects.added:
            if device_of(member.identity) in devices - gone:
                raise NotAllowed("A device stands in a room only once.")
        for member in effects.updated:
            if occupants.get(member.leaf) != device_of(member.identity):
                raise NotAllowed("A leaf may not change hands.")
        if effects.extensions_after is not None:
            _check_extensions(context.extensions, effects.extensions_after)
        present = {device.rpartition("/")[0] for device in devices}
        self._authorize_actions(policy, effects, present)

    def _authorize_actions(
        self, policy: RoomPolicy, effects: _Effects, present: set[str]
    ) -> None:
        wishes: dict[str, tuple[list[str], list[str]]] = {}
        for action in effects.actions:
            proposer = account_of(action.proposer.identity)
            added, removed = wishes.setdefault(proposer, ([], []))
            match action.kind:
                case "add" if action.subject is not None:
                    added.append(account_of(action.subject.identity))
                case "remove" if action.subject is not None:
                    removed.append(account_of(action.subject.identity))
                case "external_init" if effects.external:
                    added.append(proposer)
                case "group_context_extensions":
                    if not policy.direct and policy.role(proposer) < Role.ADMIN:
                        raise NotAllowed("You may not change this room's rules.")
                case "update":
                    pass
                case other:
                    raise NotAllowed(f"This room takes no {other} proposals.")
        for proposer, (added, removed) in wishes.items():
            authorize(policy, proposer, added=added, removed=removed, present=present)

    def authorize_proposal(
        self, context: _Context, sender: _Member, proposal: object
    ) -> None:
        """Check a proposal that comes alone: only wishes to leave do.

        Whose devices it may remove is checked when it is committed.

        Raises:
            NotAllowed: it is of another kind.
        """
        if type(proposal).__name__ not in ("Remove", "SelfRemove"):
            raise NotAllowed("Only a wish to leave may be proposed here.")


def _check_external(sender: _Member, effects: _Effects) -> None:
    """Who comes in by itself is a device of somebody who is here already.

    Its account's leaves vouch for it: their root key must be its own, or a node could
    let anybody in under the name of an account of its own. Of what stands in the
    tree it may take away its own old leaf, and else only who asked to leave.
    """
    device, account = device_of(sender.identity), account_of(sender.identity)
    root = credential_root(sender.identity)
    kin = [m for m in effects.before if account_of(m.identity) == account]
    if not kin:
        raise NotAllowed("Only a device of somebody in this room may join by itself.")
    if all(credential_root(member.identity) != root for member in kin):
        raise NotAllowed(f"The root key of {account} is not the one known here.")
    leaving = {
        action.subject
        for action in effects.actions
        if action.kind == "remove" and action.proposer == action.subject
    }
    others = [m for m in effects.removed if device_of(m.identity) != device]
    if not leaving.issuperset(others):
        raise NotAllowed("Who joins by itself may remove its own old leaf alone.")


def _check_extensions(
    before: "Sequence[_Extension]", after: "Sequence[_Extension]"
) -> None:
    """Of all that stands in the GroupContext, `refuse_unverified` alone may change."""
    new = [(e.type, e.data) for e in after]
    try:
        allowed = [
            [
                (e.type, set_refuse_unverified(e.data, on))
                if e.type == TELEX_ROOM
                else (e.type, e.data)
                for e in before
            ]
            for on in (False, True)
        ]
    except Malformed as error:
        raise NotAllowed("The room's policy cannot be read.") from error
    if new not in allowed:
        raise NotAllowed("Of a room's rules, only that on verification may change.")


def account_of(identity: bytes) -> str:
    """The account in a credential that was checked when its leaf came in."""
    return device_of(identity).rpartition("/")[0]


def device_of(identity: bytes) -> str:
    """The device address in a credential that was checked when its leaf came in."""
    return credential_device(identity)
