"""How many keys are kept for messages that come late, and catching up after long."""

from __future__ import annotations

import pytest

from e2ee.errors import E2eeError, GenerationTooFar, GenerationUsed, StaleEpoch
from e2ee.group_state import MAX_PAST_EPOCHS, MAX_SKIPPED_GROUP
from e2ee.secret_tree import APPLICATION_RATCHET, MAX_FORWARD, MAX_SKIPPED
from tests.e2ee.forging import seal, signed, unchanged
from tests.e2ee.support import NOW, Person, Room, reload


def kept(person: Person) -> int:
    """Unused keys in all epochs."""
    group = person.group
    trees = [group._ratchets, *(ratchets for _, ratchets in group._past)]
    assert all(
        tree.skipped == sum(len(r.skipped) for r in tree._ratchets.values())
        for tree in trees
    )
    return sum(tree.skipped for tree in trees)


def skip(room: Room, by: str, count: int) -> tuple[bytes, bytes]:
    """Send a message, lose `count` and send another."""
    group = room[by]
    first = group.encrypt(b"first")
    ratchets = group._ratchets
    for _ in range(count - 1):
        ratchets.consume(ratchets.next(group.own_leaf, APPLICATION_RATCHET))
    return first, group.encrypt(b"last")


def test_the_window_numbers_are_the_agreed_ones() -> None:
    """1,000 for a sender and epoch, 1,000 ahead, 5,000 in all, three past epochs."""
    assert (MAX_SKIPPED, MAX_FORWARD) == (1_000, 1_000)
    assert (MAX_SKIPPED_GROUP, MAX_PAST_EPOCHS) == (5_000, 3)


def test_the_oldest_keys_of_the_group_go_first() -> None:
    """Over all epochs together, and across a restart."""
    room = Room.of(8)
    reader = room.people["p7"]
    late: dict[str, bytes] = {}
    for number in range(6):
        if number == 3:
            room.commit("p6")
            reload(reader)
        late[f"p{number}"], last = skip(room, f"p{number}", 1_000)
        assert reader.group.decrypt(last).content == b"last"
        assert kept(reader) == min(1_000 * (number + 1), MAX_SKIPPED_GROUP)
    reload(reader)
    assert kept(reader) == MAX_SKIPPED_GROUP
    group = reader.group
    unchanged(group, GenerationUsed, lambda: group.decrypt(late["p0"]))
    for name in ("p1", "p2", "p3", "p4", "p5"):
        assert group.decrypt(late[name]).content == b"first"
    assert kept(reader) == MAX_SKIPPED_GROUP - 5


def test_keys_kept_go_with_their_epoch() -> None:
    """Section 9.2: with the epoch's secrets its unused keys are deleted."""
    room = Room.of(3)
    late, last = skip(room, "p0", 500)
    group = room["p2"]
    group.decrypt(last)
    for _ in range(MAX_PAST_EPOCHS):
        room.commit("p1")
    assert kept(room.people["p2"]) == 500
    room.commit("p1")
    assert kept(room.people["p2"]) == 0
    unchanged(group, StaleEpoch, lambda: group.decrypt(late))


def test_the_distance_ahead_is_bounded() -> None:
    """A thousand lost messages are skipped, one more is refused."""
    room = Room.of(2)
    group = room["p1"]
    far = seal(room["p0"], signed(room["p0"], b"x"), generation=MAX_FORWARD + 1)
    unchanged(group, GenerationTooFar, lambda: group.decrypt(far))
    room = Room.of(2)
    _, last = skip(room, "p0", MAX_FORWARD)
    assert room["p1"].decrypt(last).content == b"last"


def test_a_device_that_missed_many_epochs_catches_up() -> None:
    """Commits are taken one after the other; the dumps are saved once at the end."""
    room = Room.of(4)
    late = room.people.pop("p3")
    missed = [room.commit(f"p{number % 3}").commit for number in range(40)]
    results = list(late.group.process_commits(missed, now=NOW))
    assert [r.sender.identity for r in results[:3]] == [b"p0", b"p1", b"p2"]
    assert late.group.epoch_authenticator == room["p0"].epoch_authenticator
    reload(late)
    late.group.decrypt(room["p1"].encrypt(b"welcome back"))


def test_catching_up_stops_at_a_refused_commit_or_the_end() -> None:
    """What came before stays; our removal is the last result."""
    room = Room.of(4)
    late = room.people.pop("p3").group
    missed = [room.commit("p0").commit for _ in range(5)]
    bad = bytearray(missed[3])
    bad[-1] ^= 1
    results = late.process_commits([*missed[:3], bytes(bad), missed[4]], now=NOW)
    with pytest.raises(E2eeError):
        list(results)
    rest = missed[3:]
    rest.append(room["p0"].commit(remove=[3], now=NOW).commit)
    *_, end = late.process_commits([*rest, b"never looked at"], now=NOW)
    assert end.removed_self and not late.active
