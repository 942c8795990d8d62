"""Whatever the line does, the receiver ends with exactly the sender's logs."""

import asyncio

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from protocol.log import event_id, outgoing_id, read_entry
from tests.federation.link import FOLLOWER, HUB, Fault, Link

DAY = 24 * 3600.0

schedules = st.lists(st.sampled_from(Fault), max_size=14)
sizes = st.lists(st.integers(0, 450), min_size=1, max_size=4)


async def play(faults: list[Fault], rooms: list[int], mails: int) -> Link:
    """Send these rooms and outgoing items over a line with these faults."""
    link = Link(faults)
    target = link.follower.room("target", [])
    for n, size in enumerate(rooms):
        log = link.hub.room(f"room {n}", [FOLLOWER])
        link.hub.append(log, *(b"%d" % i for i in range(size)))
    for n in range(mails):
        poison = n % 5 == 4
        body = b"poison" if poison else link.hub.submission(target, b"%d" % n)
        link.hub.send_out(FOLLOWER, body)
    link.hub.cursors = {
        key: seq for key, seq in link.hub.cursors.items() if link.hub.logs[key[1]].head
    }
    await link.run(2 * DAY)
    return link


def check(link: Link) -> None:
    hub, follower = link.hub, link.follower
    assert link.settled()
    for _, log in hub.cursors:
        assert follower.copies[log].entries == hub.logs[log].entries
        assert follower.copies[log].hashes == hub.logs[log].hashes
    target = follower.room("target", [])
    written = [read_entry(e).submission for e in follower.logs[target].entries]
    out = hub.logs.get(outgoing_id(HUB, FOLLOWER))
    asked = [read_entry(e).submission for e in out.entries] if out else []
    assert written == [s for s in asked if s != b"poison"]
    assert set(hub.outcomes) == {event_id(s) for s in asked}
    for submission in asked:
        state = hub.outcomes[event_id(submission)].state
        assert state == ("rejected" if submission == b"poison" else "committed")


@given(schedules, sizes, st.integers(0, 30))
@example([Fault.CRASH_SENDER] * 6, [250], 3)
@example([Fault.LOSE_ANSWER] * 12, [450, 1], 12)
@example([Fault.NONE, Fault.RESTORE_BACKUP, Fault.RESTORE_BACKUP], [900], 0)
@example([Fault.TWICE, Fault.SLOW, Fault.GARBLE, Fault.BUSY] * 3, [450, 3], 7)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_schedule_of_faults_ends_with_the_senders_logs(
    faults: list[Fault], rooms: list[int], mails: int
) -> None:
    check(asyncio.run(play(faults, rooms, mails)))


def test_a_perfect_line_needs_few_calls() -> None:
    link = asyncio.run(play([], [450, 450], 10))
    check(link)
    assert link.calls <= 5


def test_attempts_are_never_closer_than_the_ladder_says() -> None:
    """An outage of two days: some two hundred attempts, not thousands."""

    async def outage() -> Link:
        link = Link([Fault.LOSE_REQUEST] * 100_000)
        log = link.hub.room("garden", [FOLLOWER])
        link.hub.append(log, b"x")
        await link.run(2 * DAY)
        return link

    link = asyncio.run(outage())
    # 8 doublings, 11 to the hour's end, 92 of a quarter hour, 24 of an hour.
    assert 100 < link.calls < 160
    assert link.hub.peers[FOLLOWER].fails == link.calls
