"""What strangers can make presence keep or do: not more than a little."""

from typing import Any

import pytest

from node.presence.hearsay import PEER_SEEN_MAX, Hearsay
from node.presence.typing import Typings
from protocol.errors import BadRequest
from protocol.log import LogId
from protocol.presence import PeerTyping, ShownPerson, Typing
from tests.node.test_presence_service import BOB, NODE, OTHER, device_of, nothing

GOOD = LogId("a" * 52)


def test_typing_in_what_is_no_log_is_refused_and_nothing_of_it_is_kept() -> None:
    unused: Any = nothing
    typings = Typings(NODE, lambda: 1000.0, unused, unused, unused, unused)
    long = LogId("x" * 100_000)
    bad: list[Any] = [
        lambda: typings.heard(device_of("bob"), Typing(long)),
        lambda: typings.heard_from(OTHER, PeerTyping(long, f"a@{OTHER}", 6)),
        lambda: typings.heard_from(OTHER, PeerTyping(GOOD, "x" * 100_000, 6)),
    ]
    for call in bad:
        with pytest.raises(BadRequest):
            call()
    assert not typings._typists._said and not typings._typists._rooms


def test_strangers_of_one_node_leave_room_for_friends_of_another() -> None:
    hearsay = Hearsay(NODE, lambda account: account == BOB)
    crowd = [
        ShownPerson(f"x{number}@{OTHER}", "online", 1, ["bob"])
        for number in range(PEER_SEEN_MAX * 2)
    ]
    told, _ = hearsay.take(OTHER, 1, crowd, 0, fresh=True)
    assert len(told) == PEER_SEEN_MAX
    ann = ShownPerson("ann@friends.example", "online", 1, ["bob"])
    told, _ = hearsay.take("friends.example", 1, [ann], 0, fresh=True)
    assert [(viewer, person.account) for viewer, person in told] == [(BOB, ann.account)]
    hearsay.forget(BOB)
    assert not hearsay.listens(OTHER) and hearsay.seen_by(BOB) == []


def test_who_is_named_often_is_told_once() -> None:
    hearsay = Hearsay(NODE, lambda account: account == BOB)
    person = ShownPerson(f"x@{OTHER}", "online", 1, ["bob"] * 40)
    told, _ = hearsay.take(OTHER, 1, [person], 0, fresh=True)
    assert len(told) == 1
