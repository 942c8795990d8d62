"""How much is sent: against links that are simulated packet by packet."""

import pytest

pytest.importorskip("aiortc", reason="calls need: pip install 'telex[calls]'")

import random
from collections.abc import Callable
from itertools import accumulate, pairwise

from media.audio.red import ON, Redundancy
from media.rtc.rate import HIGHEST, NARROW, STEPS, Arrivals, Budget, Plan, losing


def run(
    budget: Budget,
    link: Callable[[float], float],
    seconds: float,
    jitter: float = 0.0,
    loss: float = 0.0,
    begin: float = 0.0,
) -> list[tuple[float, Plan, float]]:
    """Send by a budget over a link (bits a second at a time): time, plan, queue."""
    rng = random.Random(3)
    arrivals, free, log = Arrivals(), 0.0, []
    coming: list[tuple[float, str, float, int]] = []
    now, seen = begin, begin
    due = lost = sent = bits = 0.0
    while now < begin + seconds:
        plan = budget.plan(now, pictures=True)
        sizes = [("audio", plan.sound // 400 + 28)]
        if plan.step:
            due += plan.step.bitrate / 50 / 6400
            sizes += [("video", 800)] * int(due)
            due %= 1
        for stream, size in sizes:
            sent += 1
            bits += 8 * (size + 28)
            start = max(free, now)
            if start - now > 0.3 or rng.random() < loss:
                lost += 1
                continue
            free = start + (size + 28) * 8 / link(now)
            come = free + 0.02 + abs(rng.gauss(0, jitter))
            coming.append((come, stream, now % 64, size))
        coming.sort()
        while coming and coming[0][0] <= now:
            come, stream, at, size = coming.pop(0)
            arrivals.add(stream, at, 64.0, come, size)
        if arrivals.tick(now):
            budget.remb = arrivals.estimate
        if now - seen >= 1.0:
            budget.remb = arrivals.estimate
            budget.report(lost / sent, now - seen, bits / (now - seen))
            lost = sent = bits = 0.0
            seen = now
        log.append((now, plan, max(0.0, free - now)))
        now += 0.02
    return log


def rates(log: list[tuple[float, Plan, float]], after: float) -> list[int]:
    return [plan.step.bitrate if plan.step else 0 for t, plan, _ in log if t >= after]


def test_a_wide_link_is_used_up_to_the_largest_pictures() -> None:
    log = run(Budget(), lambda now: 5e6, 40)
    assert log[0][1].step == STEPS[3]
    assert rates(log, 35)[-1] == STEPS[-1].bitrate
    assert log[-1][1].sound == 64_000


def test_a_link_of_450_carries_both_without_a_long_queue() -> None:
    log = run(Budget(), lambda now: 450_000, 60)
    assert not any(plan.narrow for _, plan, _ in log)
    assert min(rates(log, 5)) >= 200_000
    queues = sorted(queue for t, _, queue in log if t > 2)
    assert queues[int(len(queues) * 0.95)] < 0.15


def test_a_link_of_100_has_sound_alone_and_pictures_are_rarely_tried() -> None:
    log = run(Budget(), lambda now: 100_000, 120)
    stopped = next(t for t, plan, _ in log if plan.narrow)
    assert stopped < 3
    assert sum(rate > 0 for rate in rates(log, 5)) / len(rates(log, 5)) < 0.12
    queues = sorted(queue for t, _, queue in log if t > 5)
    assert queues[int(len(queues) * 0.9)] < 0.1


def test_pictures_come_back_when_there_is_room_again() -> None:
    log = run(Budget(), lambda now: 100_000 if now < 10 else 1e6, 60)
    assert rates(log, 9)[0] == 0
    assert rates(log, 59)[-1] >= 400_000


def test_losses_that_stopped_pictures_are_forgotten_without_pictures() -> None:
    budget = Budget()
    for _ in range(20):
        budget.report(0.5, 1.0, 100_000)
    assert budget.plan(0.0, pictures=True).narrow
    plans = []
    for second in range(1, 60):
        budget.report(0.0, 1.0, 46_000)
        plans.append(budget.plan(float(second), pictures=True))
    assert plans[-1].step is not None


def test_sound_alone_gets_more_where_it_gets_lost() -> None:
    budget = Budget()
    assert budget.plan(0.0, pictures=False).sound == 48_000
    assert budget.plan(0.0, pictures=False, lost=0.05).sound == 64_000
    assert budget.plan(0.0, pictures=False, copies=True, lost=0.1).sound == 48_000
    assert budget.plan(0.0, pictures=True, lost=0.05).sound == 48_000
    budget.cap = 100_000  # losses of a narrow path come from bits
    assert budget.plan(0.0, pictures=False, lost=0.2).sound == 32_000


def test_losses_are_believed_soon_and_forgotten_slowly() -> None:
    """Reports come every 0.4 s, of 20 packets: with 5 % lost they tell of 0 to 4."""
    rng = random.Random(5)
    reports = [sum(rng.random() < 0.05 for _ in range(20)) / 20 for _ in range(150)]
    thought = list(accumulate(reports, losing, initial=0.0))
    copies = Redundancy(111)
    on = []
    for share in thought:
        copies.tune(share)
        on.append(copies.on)
    assert on.index(True) <= 5
    assert sum(on) > 0.9 * len(on)
    clean = list(accumulate([0.0] * 25, losing, initial=thought[-1]))
    copies.tune(clean[-1])
    assert not copies.on
    assert losing(0.0, 0.05) < ON  # one packet is no lossy path


def test_jitter_is_no_queue() -> None:
    log = run(Budget(), lambda now: 5e6, 30, jitter=0.03)
    assert min(rates(log, 25)) >= 600_000


def test_some_losses_cost_nothing_many_cost_bits() -> None:
    few = run(Budget(), lambda now: 5e6, 30, loss=0.05)
    many = run(Budget(), lambda now: 5e6, 30, loss=0.3)
    assert min(rates(few, 25)) >= 200_000
    assert max(rates(many, 25)) < 150_000


def test_pictures_change_seldom_each_change_is_a_key_frame() -> None:
    rng = random.Random(1)
    log = run(Budget(), lambda now: rng.uniform(300_000, 700_000), 60)
    steps = [plan.step for _, plan, _ in log if plan.step]
    changes = sum(a != b for a, b in pairwise(steps))
    assert changes < 25


def test_a_clock_that_drifts_is_no_queue() -> None:
    arrivals = Arrivals()
    for index in range(3000):  # 60 s, 500 millionths too slow
        now = index * 0.02
        arrivals.add("audio", now * 0.9995, 1000.0, now, 100)
        arrivals.tick(now)
    assert arrivals.estimate == HIGHEST


def test_a_clock_that_is_set_anew_is_no_queue() -> None:
    arrivals = Arrivals()
    for index in range(1000):
        now = index * 0.02
        arrivals.add("audio", now if index < 500 else now - 30, 1000.0, now, 100)
        arrivals.tick(now)
    assert arrivals.estimate == HIGHEST


def test_a_receiver_that_wants_little_gets_little() -> None:
    budget = Budget(remb=1)
    plan = [budget.plan(t / 10, pictures=True) for t in range(30)][-1]
    assert plan.step is None
    assert plan.narrow
    assert plan.sound == 24_000
    assert budget.total < NARROW
