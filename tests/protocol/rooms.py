"""Rooms with real groups, their hub, and people without a network."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from e2ee import (
    Extension,
    Group,
    KeyPackageBundle,
    PublicGroup,
    new_key_package,
)
from e2ee.member import UnsafeAllowAll
from protocol.policy import (
    TELEX_ROOM,
    Role,
    RoomPolicy,
    RoomValidator,
)
from tests.helpers.people import NOW, Person, Terminal

RULES = RoomValidator(lambda: NOW)
OLGA, MIA, MAX = (Person(f"{name}@example.org") for name in ("olga", "mia", "max"))


def package(terminal: Terminal) -> KeyPackageBundle:
    return new_key_package(
        signature_private=terminal.mls.seed,
        identity=terminal.credential,
        not_before=NOW - 60,
        not_after=NOW + 86_400,
    )


@dataclass
class Room:
    """A room with its hub, and members by device."""

    hub: PublicGroup
    groups: dict[str, Group]

    def apply(self, committer: Terminal, **wishes: Sequence[object]) -> None:
        staged = self.groups[str(committer.address)].commit(now=NOW, **wishes)  # type: ignore[arg-type]
        self.hub, _ = self.hub.process_commit(staged.commit, staged.group_info, now=NOW)
        for device, group in self.groups.items():
            if device == str(committer.address):
                group.apply_own(staged)
            else:
                group.process_commit(staged.commit, now=NOW)
        self.welcomes = staged.welcomes


def room_of(
    creator: Terminal,
    *others: Terminal,
    direct: bool = False,
    self_group: bool = False,
) -> Room:
    policy = RoomPolicy(
        1,
        "room",
        direct,
        {str(creator.address.account): int(Role.OWNER)},
        add_role=int(Role.MEMBER if direct else Role.ADMIN),
        self_group=self_group,
    )
    group = Group.create(
        group_id=b"room",
        signature_private=creator.mls.seed,
        identity=creator.credential,
        extensions=[Extension(TELEX_ROOM, policy.encode())],
        now=NOW,
        validator=RULES,
    )
    hub = PublicGroup.create(
        group.group_info(), group.ratchet_tree(), now=NOW, validator=RULES
    )
    room = Room(hub, {str(creator.address): group})
    if others:
        bundles = [package(other) for other in others]
        room.apply(creator, add=[bundle.key_package for bundle in bundles])
        for other, bundle, (_, welcome) in zip(
            others, bundles, room.welcomes, strict=True
        ):
            room.groups[str(other.address)] = Group.join(
                welcome,
                [bundle],
                signature_private=other.mls.seed,
                ratchet_tree=group.ratchet_tree(),
                now=NOW,
                validator=RULES,
            )
    return room


def with_data(group: Group, data: bytes) -> list[Extension]:
    """The group's extensions with another policy."""
    return [
        replace(e, data=data) if e.type == TELEX_ROOM else e
        for e in group.context.extensions
    ]


def policy_data(group: Group) -> bytes:
    return next(e.data for e in group.context.extensions if e.type == TELEX_ROOM)


def lying(group: Group, terminal: Terminal) -> Group:
    """The same group in a client without rules."""
    return Group.load(
        group.dump_epoch(),
        group.dump_ratchets(),
        signature_private=terminal.mls.seed,
        validator=UnsafeAllowAll(),
    )


def leaf(group: Group, terminal: Terminal) -> int:
    return next(
        m.leaf for m in group.members() if m.signature_key == terminal.mls.public
    )
