"""Joining by oneself, and self groups: what hub and members allow, and refuse."""

from collections.abc import Sequence

import pytest

from e2ee import (
    Group,
    StagedCommit,
)
from e2ee.member import UnsafeAllowAll
from protocol.errors import NotAllowed
from protocol.policy import (
    RoomValidator,
    device_of,
)
from tests.helpers.people import NOW, Person, Terminal
from tests.protocol.rooms import (
    MAX,
    MIA,
    OLGA,
    RULES,
    Room,
    leaf,
    lying,
    package,
    room_of,
)

pytestmark = pytest.mark.usefixtures("few_devices")


def external(
    room: Room,
    terminal: Terminal,
    *,
    remove: int | None = None,
    leaving: Sequence[bytes] = (),
    validator: RoomValidator | UnsafeAllowAll = RULES,
) -> tuple[Group, StagedCommit]:
    info = next(iter(room.groups.values())).group_info()
    return Group.join_external(
        info,
        ratchet_tree=room.hub.ratchet_tree(),
        signature_private=terminal.mls.seed,
        identity=terminal.credential,
        remove=remove,
        leaving=leaving,
        validator=validator,
    )


def refused_everywhere(room: Room, staged: StagedCommit, match: str) -> None:
    """Hub and members refuse what a client without rules built."""
    with pytest.raises(NotAllowed, match=match):
        room.hub.process_commit(staged.commit, staged.group_info, now=NOW)
    for group in room.groups.values():
        with pytest.raises(NotAllowed, match=match):
            group.process_commit(staged.commit, now=NOW)


def test_a_further_device_and_a_lost_one_join_by_themselves() -> None:
    olga, mia, second = OLGA.device(), MIA.device(), MIA.device()
    room = room_of(olga, mia)
    for terminal, remove in (
        (second, None),
        (mia, leaf(room.groups[str(olga.address)], mia)),
    ):
        joined, staged = external(room, terminal, remove=remove)
        room.groups.pop(str(terminal.address), None)
        room.hub, _ = room.hub.process_commit(staged.commit, staged.group_info, now=NOW)
        for group in room.groups.values():
            group.process_commit(staged.commit, now=NOW)
        room.groups[str(terminal.address)] = joined
    assert len(room.hub.members()) == 3


def test_a_stranger_does_not_join_by_itself() -> None:
    room = room_of(OLGA.device(), MIA.device())
    stranger = MAX.device()
    with pytest.raises(NotAllowed, match="somebody in this room"):
        external(room, stranger)
    _, staged = external(room, stranger, validator=UnsafeAllowAll())
    refused_everywhere(room, staged, "somebody in this room")


def test_another_root_under_the_same_name_does_not_join() -> None:
    room = room_of(OLGA.device(), MIA.device())
    impostor = Person(MIA.address).device()
    with pytest.raises(NotAllowed, match="root key"):
        external(room, impostor)
    _, staged = external(room, impostor, validator=UnsafeAllowAll())
    refused_everywhere(room, staged, "root key")


def test_who_joins_removes_nobody_else_not_even_a_sibling() -> None:
    olga, mia, second = OLGA.device(), MIA.device(), MIA.device()
    room = room_of(olga, mia)
    group = room.groups[str(olga.address)]
    for victim in (olga, mia):
        with pytest.raises(NotAllowed, match="own old leaf"):
            external(room, second, remove=leaf(group, victim))
        _, staged = external(
            room, second, remove=leaf(group, victim), validator=UnsafeAllowAll()
        )
        refused_everywhere(room, staged, "own old leaf")


def test_who_joins_takes_along_who_asked_to_leave() -> None:
    olga, mia, max_, second = (p.device() for p in (OLGA, MIA, MAX, MIA))
    room = room_of(olga, mia, max_)
    wish = room.groups[str(max_.address)].propose_leaving()
    room.hub, _ = room.hub.receive_proposal(wish)
    for terminal in (olga, mia):
        room.groups[str(terminal.address)].receive_proposal(wish)
    joined, staged = external(room, second, leaving=[wish])
    room.hub, effects = room.hub.process_commit(
        staged.commit, staged.group_info, now=NOW
    )
    assert [device_of(m.identity) for m in effects.removed] == [str(max_.address)]
    for group in room.groups.values():
        group.process_commit(staged.commit, now=NOW)
    assert not room.groups[str(max_.address)].active
    assert joined.epoch == room.hub.epoch == 2
    # A wish that its own device did not make is nobody's.
    liar = lying(room.groups[str(mia.address)], mia)
    other = liar.propose_remove(leaf(liar, olga))
    _, staged = external(room, MIA.device(), leaving=[other])
    assert not staged.effects.removed


def test_nobody_but_its_creator_joins_a_self_group() -> None:
    olga, second = OLGA.device(), OLGA.device()
    room = room_of(olga, self_group=True)
    group = room.groups[str(olga.address)]
    with pytest.raises(NotAllowed, match="one account"):
        group.commit(add=[package(MIA.device()).key_package], now=NOW)
    staged = lying(group, olga).commit(add=[package(MIA.device()).key_package], now=NOW)
    with pytest.raises(NotAllowed, match="one account"):
        room.hub.process_commit(staged.commit, staged.group_info, now=NOW)
    room.apply(olga, add=[package(second).key_package])
    third = OLGA.device()
    _, alone = external(room, third)
    room.hub.process_commit(alone.commit, alone.group_info, now=NOW)
