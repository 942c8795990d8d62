"""A room of people who do anything in any order, and always agree.

Deliveries of handshakes follow the hub's order, as the log gives it; application
messages are delivered late, out of order and across epochs. People restart, lose
races, leave and are added again.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from e2ee import Group
from e2ee.errors import E2eeError, GenerationUsed, StaleEpoch
from tests.e2ee.support import (
    FUZZ,
    NOW,
    RANDOM,
    Person,
    Room,
    bundle_for,
    reload,
    rng,
    snapshot,
)

MOST = 20


class RoomMachine(RuleBasedStateMachine):
    """Members do things; invariants hold after each step."""

    def __init__(self) -> None:
        super().__init__()
        RANDOM.seed(9420)
        self.room = Room()
        self.number = 0
        self.waiting: list[tuple[str, int, bytes, bytes]] = []
        """(reader, epoch, message, content) not delivered yet."""
        self.exported: set[bytes] = set()
        self.leaving: list[tuple[int, bytes]] = []
        """(epoch, SelfRemove), for who joins from outside."""

    def pick(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.room.people)))

    def names(self, count: int) -> list[str]:
        start, self.number = self.number, self.number + count
        return [f"n{number}" for number in range(start, self.number)]

    @initialize(count=st.integers(0, 9))
    def start(self, count: int) -> None:
        if count:
            self.room.add("p0", *self.names(count))

    @rule(data=st.data(), count=st.integers(1, 4), update=st.booleans())
    def add(self, data: st.DataObject, count: int, update: bool) -> None:
        if len(self.room.people) + count <= MOST:
            self.room.add(self.pick(data), *self.names(count), update=update)

    @precondition(lambda self: len(self.room.people) > 2)
    @rule(data=st.data(), count=st.integers(1, 4), again=st.integers(0, 3))
    def remove_and_add(self, data: st.DataObject, count: int, again: int) -> None:
        by = self.pick(data)
        others = sorted(set(self.room.people) - {by})
        gone = data.draw(st.permutations(others))[:count]
        if len(self.room.people) - len(gone) + again <= MOST:
            self.room.add(by, *self.names(again), remove=tuple(gone))

    @rule(data=st.data())
    def update(self, data: st.DataObject) -> None:
        self.room.commit(self.pick(data))

    @rule(data=st.data(), resync=st.booleans())
    def come_by_external_commit(self, data: st.DataObject, resync: bool) -> None:
        room = self.room
        old = self.pick(data) if resync and len(room.people) > 1 else None
        if old is None and len(room.people) >= MOST:
            return
        key = room.people[old].signature_private if old else rng(32)
        name = self.names(1)[0]
        group, staged = Group.join_external(
            room[self.pick(data)].group_info(),
            ratchet_tree=room.hub.ratchet_tree(),
            signature_private=key,
            identity=name.encode(),
            remove=room.leaf(old) if old else None,
            leaving=[m for epoch, m in self.leaving if epoch == room.hub.epoch],
            validator=room.validator,
            rng=rng,
        )
        if old:
            gone = room.people.pop(old).group
            assert gone.process_commit(staged.commit, now=NOW).removed_self
        for person in list(room.people.values()):
            if person.group.process_commit(staged.commit, now=NOW).removed_self:
                del room.people[person.name]
        room.hub, _ = room.hub.process_commit(staged.commit, staged.group_info, now=NOW)
        room.people[name] = Person(name, key, group)

    @rule(data=st.data())
    def propose_update(self, data: st.DataObject) -> None:
        name = self.pick(data)
        self.room.propose(name, self.room[name].propose_update())

    @rule(data=st.data())
    def propose_remove(self, data: st.DataObject) -> None:
        name, target = self.pick(data), self.pick(data)
        leaf = self.room.leaf(target)
        self.room.propose(name, self.room[name].propose_remove(leaf))

    @precondition(lambda self: len(self.room.people) > 1)
    @rule(data=st.data())
    def propose_leaving(self, data: st.DataObject) -> None:
        name = self.pick(data)
        message = self.room[name].propose_leaving()
        self.room.propose(name, message)
        self.leaving.append((self.room.hub.epoch, message))

    @rule(data=st.data())
    def propose_add(self, data: st.DataObject) -> None:
        if len(self.room.people) < MOST:
            name = self.pick(data)
            package = bundle_for("ghost", rng(32)).key_package
            self.room.propose(name, self.room[name].propose_add(package))

    @rule(data=st.data())
    def lose_a_race(self, data: st.DataObject) -> None:
        loser, winner = self.pick(data), self.pick(data)
        staged = self.room[loser].commit(now=NOW)
        self.room.commit(winner)
        if loser == winner or loser not in self.room.people:
            return
        before = snapshot(self.room[loser])
        for call in (
            lambda: self.room[loser].apply_own(staged),
            lambda: self.room.hub.process_commit(
                staged.commit, staged.group_info, now=NOW
            ),
        ):
            try:
                call()
            except E2eeError:
                continue
            raise AssertionError("a stale commit was taken")
        assert snapshot(self.room[loser]) == before

    @rule(data=st.data())
    def restart(self, data: st.DataObject) -> None:
        reload(self.room.people[self.pick(data)])

    @rule(data=st.data(), count=st.integers(1, 5), size=st.integers(0, 900))
    def write(self, data: st.DataObject, count: int, size: int) -> None:
        name = self.pick(data)
        for _ in range(count):
            content = rng(size)
            message = self.room[name].encrypt(content)
            epoch = self.room[name].epoch
            for reader in self.room.people:
                if reader != name:
                    self.waiting.append((reader, epoch, message, content))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), count=st.integers(1, 20))
    def read(self, data: st.DataObject, count: int) -> None:
        for _ in range(min(count, len(self.waiting))):
            at = data.draw(st.integers(0, len(self.waiting) - 1))
            reader, epoch, message, content = self.waiting.pop(at)
            person = self.room.people.get(reader)
            if person is None:
                continue
            group: Group = person.group
            try:
                assert group.decrypt(message).content == content
            except StaleEpoch:
                assert group.epoch - epoch > 3
                continue
            try:
                group.decrypt(message)
            except GenerationUsed:
                continue
            raise AssertionError("a message was read twice")

    @invariant()
    def everybody_agrees(self) -> None:
        self.room.check()

    @invariant()
    def an_epochs_secret_is_new(self) -> None:
        group = next(iter(self.room.people.values())).group
        if group.epoch > len(self.exported):
            secret = group.export("epoch", b"", 32)
            assert secret not in self.exported
            self.exported.add(secret)


RoomMachine.TestCase.settings = settings(
    max_examples=300 if FUZZ else 12,
    stateful_step_count=60 if FUZZ else 25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestRoom = pytest.mark.fuzz(RoomMachine.TestCase)
