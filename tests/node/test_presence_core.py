"""The pure parts of presence: against a plain model, and rule by rule."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.presence.hearsay import PEER_SEEN_MAX, Hearsay
from node.presence.outlet import PACE, RENEW, Outlets
from node.presence.roll import GATHER, PAUSE, Change, Roll
from node.presence.tray import Tray
from node.presence.typists import TypingRoom, Typists
from protocol.errors import TooMany
from protocol.log import LogId
from protocol.presence import (
    LEASE,
    PEER_LEASE,
    PEER_RESAY,
    Availability,
    Mode,
    PeerPresenceAnswer,
    Person,
    ShownPerson,
)

NODE, OTHER = "here.example", "there.example"
ALICE, BOB, CAROL = f"alice@{NODE}", f"bob@{NODE}", f"carol@{OTHER}"
PHONE, LAPTOP = f"{ALICE}/phone", f"{ALICE}/laptop"


def outcome(roll: Roll, now: float) -> dict[str, tuple[Availability, int]]:
    """What goes out now, by account."""
    changes = roll.take(now)
    return {c.person.account: (c.person.state, c.person.since) for c in changes}


# --- the roll ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("modes", "state"),
    [
        (["online"], "online"),
        (["away", "online"], "online"),
        (["dnd", "online", "away"], "dnd"),
        (["hidden", "online", "dnd"], "offline"),
        (["away"], "away"),
    ],
)
def test_a_person_is_what_its_devices_say_together(
    modes: list[Mode], state: Availability
) -> None:
    roll = Roll()
    for number, mode in enumerate(modes):
        roll.say(f"{ALICE}/{number}", ALICE, mode, [BOB], 100)
    found = outcome(roll, 101)
    assert found.get(ALICE, ("offline", 0))[0] == state


def test_a_device_that_vanished_is_there_until_its_lease_ends() -> None:
    roll = Roll()
    roll.say(PHONE, ALICE, "online", [BOB], 100)
    assert outcome(roll, 101) == {ALICE: ("online", 101)}
    roll.end(PHONE, 200)
    assert outcome(roll, 200 + LEASE - 1) == {}
    assert outcome(roll, 200 + LEASE) == {}
    assert outcome(roll, 200 + LEASE + GATHER) == {ALICE: ("offline", 200)}
    assert roll.seen_by(BOB) == [Person(ALICE, "offline", 200)]


def test_who_comes_back_inside_the_lease_was_never_away() -> None:
    roll = Roll()
    roll.say(PHONE, ALICE, "online", [BOB], 100)
    outcome(roll, 101)
    roll.end(PHONE, 200)
    roll.say(PHONE, ALICE, "online", [BOB], 230)
    assert outcome(roll, 1000) == {}
    assert roll.there(ALICE)


def test_a_goodbye_counts_at_once_and_the_other_device_goes_on() -> None:
    roll = Roll()
    roll.say(PHONE, ALICE, "online", [BOB], 100)
    roll.say(LAPTOP, ALICE, "away", [BOB], 100)
    outcome(roll, 101)
    roll.say(PHONE, ALICE, "gone", None, 200)
    roll.end(PHONE, 200)
    assert outcome(roll, 201) == {ALICE: ("away", 201)}
    roll.say(LAPTOP, ALICE, "gone", None, 300)
    assert outcome(roll, 301) == {ALICE: ("offline", 300)}


def test_hiding_looks_like_leaving_and_leaving_hidden_looks_like_nothing() -> None:
    roll = Roll()
    roll.say(PHONE, ALICE, "online", [BOB], 100)
    outcome(roll, 101)
    roll.say(PHONE, ALICE, "hidden", None, 200)
    assert outcome(roll, 201) == {ALICE: ("offline", 200)}
    roll.say(PHONE, ALICE, "gone", None, 900)
    assert outcome(roll, 901) == {}
    assert roll.seen_by(BOB) == [Person(ALICE, "offline", 200)]


def test_who_always_hid_was_never_seen() -> None:
    roll = Roll()
    roll.say(PHONE, ALICE, "hidden", [BOB], 100)
    roll.end(PHONE, 200)
    roll.take(300)
    assert roll.seen_by(BOB) in ([], [Person(ALICE, "offline", 0)])


def test_one_change_a_second_goes_out_and_the_last_state_wins() -> None:
    roll = Roll()
    out: list[Change] = []
    modes: tuple[Mode, ...] = ("online", "away", "dnd")
    for step in range(1000):  # ten seconds
        roll.say(PHONE, ALICE, modes[step % 3], [BOB], 100 + step / 100)
        out += roll.take(100 + step / 100)
    out += roll.take(120)
    assert len(out) <= 12
    assert out[-1].person.state == modes[999 % 3]


def test_who_is_no_longer_shown_is_told_so() -> None:
    roll = Roll()
    roll.say(PHONE, ALICE, "online", [BOB, CAROL], 100)
    roll.take(101)
    roll.say(PHONE, ALICE, "online", [CAROL], 110)
    (change,) = roll.take(111)
    assert change.dropped == {NODE: frozenset({"bob"})} and not change.to
    assert roll.seen_by(BOB) == [] and len(roll.seen_by(CAROL)) == 1


def test_its_memory_is_bounded_and_the_absent_are_forgotten_first() -> None:
    roll = Roll(pairs_max=10)
    for number in range(100):
        account = f"u{number}@{NODE}"
        roll.say(f"{account}/d", account, "online", [BOB, CAROL], number)
        roll.say(f"{account}/d", account, "gone", None, number)
        roll.take(number + 0.5)
    assert len(roll.seen_by(BOB)) <= 5
    crowd = [f"v{number}@{NODE}" for number in range(11)]
    with pytest.raises(TooMany):
        roll.say(PHONE, ALICE, "online", crowd, 200)


def test_who_shares_with_nobody_costs_nothing_after_it_left() -> None:
    roll = Roll()
    for number in range(50):
        account = f"u{number}@{NODE}"
        roll.say(f"{account}/d", account, "online", [], number)
        roll.end(f"{account}/d", number)
        roll.take(number + 1000)
    assert not roll._accounts and not roll._left and not roll._devices


@dataclass
class Model:
    """What should be shown: written as plainly as it can be."""

    devices: dict[str, tuple[str, str, frozenset[str], float | None]] = field(
        default_factory=dict
    )

    def say(
        self, device: str, account: str, mode: str, show: set[str] | None, now: float
    ) -> None:
        if mode == "gone":
            self.devices.pop(device, None)
            return
        before = self.devices.get(device)
        over = before is None or (before[3] is not None and before[3] <= now)
        shown = frozenset() if before is None or over else before[2]
        if show is not None:
            shown = frozenset(show - {account})
        self.devices[device] = (account, mode, shown, None)

    def end(self, device: str, now: float) -> None:
        if device in self.devices:
            account, mode, shown, until = self.devices[device]
            if mode == "hidden":
                del self.devices[device]
            elif until is None:
                self.devices[device] = (account, mode, shown, now + LEASE)

    def state(self, account: str, viewer: str, now: float) -> str:
        """As a viewer should see an account that was not seen before it left."""
        alive = [
            d
            for d in self.devices.values()
            if d[0] == account and (d[3] is None or d[3] > now)
        ]
        if not any(viewer in d[2] for d in alive) or any(
            d[1] == "hidden" for d in alive
        ):
            return "offline"
        return next(s for s in ("dnd", "online", "away") if s in {d[1] for d in alive})


PEOPLE = [ALICE, BOB, CAROL.replace(OTHER, NODE)]
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("say"),
            st.integers(0, 5),
            st.sampled_from(["online", "away", "dnd", "hidden", "gone"]),
            st.none() | st.sets(st.sampled_from(PEOPLE)),
        ),
        st.tuples(st.just("end"), st.integers(0, 5), st.none(), st.none()),
        st.tuples(st.just("wait"), st.integers(0, 120), st.none(), st.none()),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_what_viewers_hear_is_what_devices_said(steps: list[Any]) -> None:
    roll, model, now = Roll(), Model(), 1000.0
    heard: dict[tuple[str, str], str] = {}
    last: dict[str, float] = {}

    def hear() -> None:
        for change in roll.take(now):
            account = change.person.account
            assert now - last.get(account, 0) >= PAUSE
            last[account] = now
            for shown, state in (
                (change.to, change.person.state),
                (change.dropped, "offline"),
            ):
                for node, names in shown.items():
                    for name in names:
                        heard[f"{name}@{node}", account] = state

    for what, number, mode, show in steps:
        account = PEOPLE[number % 3]
        device = f"{account}/{number}"
        if what == "say":
            roll.say(device, account, mode, show, now)
            model.say(device, account, mode, show, now)
        elif what == "end":
            roll.end(device, now)
            model.end(device, now)
        else:
            now += number
        hear()
        due = roll.next_due()
        assert due is None or due > now - 1
    for _ in range(3):
        now += PAUSE
        hear()
    for viewer in PEOPLE:
        for account in PEOPLE:
            if viewer != account:
                wanted = model.state(account, viewer, now - PAUSE)
                assert heard.get((viewer, account), "offline") == wanted


# --- the tray ------------------------------------------------------------------


def test_a_crowd_costs_a_person_one_frame_a_second() -> None:
    tray, frames = Tray(), []
    for step in range(3000):  # three seconds
        now = 100 + step / 1000
        tray.put(BOB, Person(f"u{step % 50}@{NODE}", "online", step), now)
        frames += tray.take(now)
    frames += tray.take(110)
    assert len(frames) <= 5
    last = {p.account: p.since for _, people in frames for p in people}
    assert sorted(last.values()) == list(range(2950, 3000))


# --- other nodes ----------------------------------------------------------------


def told(outlets: Outlets, roll: Roll, now: float) -> None:
    """Let changes of the roll reach the outlets."""
    for change in roll.take(now):
        nodes = {*change.to, *change.dropped} - {NODE}
        outlets.change(change, nodes, now)


@pytest.fixture
def roll() -> Roll:
    """Alice is there, and shows herself to carol on the other node."""
    roll = Roll()
    roll.say(PHONE, ALICE, "online", [CAROL], 100)
    return roll


def runs() -> Any:
    """Numbers that were not given before."""
    count = iter(range(1, 10**6))
    return lambda: next(count)


def test_a_node_is_told_once_then_renewed_and_only_of_changes(roll: Roll) -> None:
    outlets = Outlets(roll, runs())
    told(outlets, roll, 101)
    assert outlets.due(101) == [OTHER]
    first = outlets.take(OTHER)
    assert first is not None and first.fresh
    assert first.people == [ShownPerson(ALICE, "online", 101, ["carol"])]
    assert outlets.due(1000) == []  # one at a time
    outlets.answered(OTHER, PeerPresenceAnswer(1, listens=True), 102)
    assert outlets.due(102 + RENEW - 1) == []
    assert outlets.due(102 + RENEW) == [OTHER]
    renewal = outlets.take(OTHER)
    assert renewal is not None and (renewal.run, renewal.people) == (first.run, [])
    outlets.answered(OTHER, PeerPresenceAnswer(1, listens=True), 400)
    roll.say(PHONE, ALICE, "away", None, 500)
    told(outlets, roll, 501)
    assert outlets.due(501) == [OTHER]
    change = outlets.take(OTHER)
    assert change is not None and not change.fresh
    assert [p.state for p in change.people] == ["away"]


def test_what_was_not_heard_is_all_said_anew(roll: Roll) -> None:
    outlets = Outlets(roll, runs())
    outlets.probe(ALICE, [OTHER], 100)
    told(outlets, roll, 101)
    first = outlets.take(OTHER)
    outlets.failed(OTHER, 101)
    assert outlets.due(102) == []
    again = outlets.take(outlets.due(1000)[0])
    assert first is not None and again is not None
    assert again.fresh and again.run != first.run
    assert again.people == first.people and again.probe == [ALICE]
    outlets.answered(OTHER, PeerPresenceAnswer(1, lost=True, listens=True), 1001)
    assert outlets.due(1001 + PACE) == [OTHER]
    third = outlets.take(OTHER)
    assert third is not None and third.fresh and third.people == first.people


def test_a_node_that_does_not_answer_is_asked_ever_less_until_it_asks(
    roll: Roll,
) -> None:
    outlets, now, times = Outlets(roll, runs()), 101.0, []
    told(outlets, roll, now)
    for _ in range(8):
        due = outlets.next_due()
        assert due is not None
        now = due
        times.append(now)
        assert outlets.take(OTHER) is not None
        outlets.failed(OTHER, now)
        roll.say(PHONE, ALICE, "away" if len(times) % 2 else "dnd", None, now)
        told(outlets, roll, now + 1)
    gaps = [b - a for a, b in pairwise(times)]
    assert gaps == [30, 60, 120, 240, 480, 600, 600]
    outlets.answer(OTHER, [], now + 2)
    assert outlets.due(now + 29) == []  # its answers may be lost still
    assert outlets.due(now + 30) == [OTHER]


def test_nobody_listens_nothing_is_said_until_it_is_asked_for(roll: Roll) -> None:
    outlets = Outlets(roll, runs())
    told(outlets, roll, 101)
    outlets.take(OTHER)
    outlets.answered(OTHER, PeerPresenceAnswer(1, listens=False), 102)
    roll.say(PHONE, ALICE, "away", None, 200)
    told(outlets, roll, 201)
    assert outlets.next_due() is None
    answer = outlets.answer(OTHER, [CAROL], 300)
    assert answer.people == [ShownPerson(ALICE, "away", 201, ["carol"])]
    roll.say(PHONE, ALICE, "online", None, 400)
    told(outlets, roll, 401)
    assert outlets.due(401) == [OTHER]
    body = outlets.take(OTHER)
    assert body is not None and body.run == answer.run and not body.fresh


def test_a_node_learns_nothing_of_those_who_do_not_show_themselves(roll: Roll) -> None:
    outlets = Outlets(roll, runs())
    told(outlets, roll, 101)
    for probe in ([f"dave@{OTHER}"], [ALICE], [BOB]):
        assert outlets.answer(OTHER, probe, 110).people == []
    assert outlets.answer("third.example", [CAROL], 110).people != []  # checked before


def hearsay(*here: str) -> Hearsay:
    return Hearsay(NODE, lambda account: account in here)


def test_hearsay_is_kept_for_those_who_are_here_alone() -> None:
    store = hearsay(ALICE)
    people = [ShownPerson(CAROL, "online", 50, ["alice", "bob", "nobody"])]
    told, known = store.take(OTHER, 1, people, 100, fresh=True)
    assert told == [(ALICE, Person(CAROL, "online", 50))] and known
    assert store.listens(OTHER) and store.seen_by(BOB) == []
    store.forget(ALICE)
    assert not store.listens(OTHER) and not store._peers and not store._seen


def test_what_is_not_renewed_ends_as_offline() -> None:
    store = hearsay(ALICE)
    people = [ShownPerson(CAROL, "online", 50, ["alice"])]
    store.take(OTHER, 1, people, 100, fresh=True)
    store.take(OTHER, 1, [], 400, fresh=False)
    assert store.expire(100 + PEER_LEASE) == []
    assert store.expire(400 + PEER_LEASE) == [(ALICE, Person(CAROL, "offline", 0))]
    assert store.seen_by(ALICE) == [] and store.next_due() is None


def test_another_run_ends_what_it_does_not_say_again() -> None:
    store = hearsay(ALICE)
    dave = f"dave@{OTHER}"
    two = [ShownPerson(who, "online", 50, ["alice"]) for who in (CAROL, dave)]
    store.take(OTHER, 1, two, 100, fresh=True)
    _, known = store.take(OTHER, 2, two[:1], 200, fresh=False)
    assert not known
    assert store.expire(200 + PEER_RESAY) == [(ALICE, Person(dave, "offline", 0))]
    assert [p.account for p in store.seen_by(ALICE)] == [CAROL]


def test_a_node_that_says_much_fills_no_memory() -> None:
    store = hearsay(ALICE)
    for start in range(0, 5000, 500):
        people = [
            ShownPerson(f"u{n}@{OTHER}", "online", 1, ["alice"])
            for n in range(start, start + 500)
        ]
        store.take(OTHER, 1, people, 100, fresh=True)
    assert len(store.seen_by(ALICE)) == PEER_SEEN_MAX


# --- typing ----------------------------------------------------------------------


def test_typing_is_news_every_three_seconds_and_its_end_once() -> None:
    typists, log = Typists(), LogId("room")
    news = [typists.pass_on(log, PHONE, True, 100 + n / 10) for n in range(60)]
    assert sum(news) == 3
    assert typists.pass_on(log, PHONE, False, 106)
    assert not typists.pass_on(log, PHONE, False, 106)
    assert typists.pass_on(log, PHONE, True, 106.1)


def test_a_room_is_remembered_for_a_moment() -> None:
    typists, log = Typists(), LogId("room")
    room = TypingRoom(NODE, frozenset({ALICE}), frozenset({CAROL}))
    typists.keep(log, room, 100)
    assert typists.room(log, 104) is room and room.nodes == {OTHER}
    with pytest.raises(KeyError):
        typists.room(log, 105)
