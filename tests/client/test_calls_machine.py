"""Calls as arbitrary stories of devices that read one log, and single races by hand."""

from __future__ import annotations

import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.calls.record import RING
from tests.client.call_world import Device, World
from tests.helpers.fuzz import LONG

NAMES = ["alice@a/1", "alice@a/2", "bob@b/1", "bob@b/2"]

ACTS = ("start", "accept", "decline", "hang_up")
WORK = ("post", "hear", "step")
HARM = ("exit", "crash")

acts = st.one_of(
    st.tuples(st.sampled_from(WORK), st.integers(0, 3), st.integers(1, 6)),
    st.tuples(st.sampled_from(WORK), st.integers(0, 3), st.integers(1, 6)),
    st.tuples(st.just("all"), st.just(0), st.just(1)),
    st.tuples(st.sampled_from(ACTS), st.integers(0, 3), st.just(1)),
    st.tuples(st.sampled_from(HARM), st.integers(0, 3), st.just(1)),
    st.tuples(
        st.just("wait"), st.sampled_from([10, 500, 3_000, 12_000, 50_000]), st.just(1)
    ),
    st.tuples(st.sampled_from(("cut", "heal")), st.just(0), st.just(1)),
)


def world(seed: int = 0) -> World:
    return World(NAMES, random.Random(seed))


def play(world: World, act: tuple[str, int, int]) -> None:
    what, which, times = act
    if what == "wait":
        world.wait(which)
    elif what == "all":
        world.settle()
    elif what in ("cut", "heal"):
        getattr(world, what)()
    else:
        for _ in range(times):
            getattr(world.devices[which], what)()
    world.check()


@settings(
    max_examples=5_000 if LONG else 250,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(acts, max_size=60), st.integers(0, 1000))
def test_all_devices_agree_and_every_call_ends_or_stands(
    story: list[tuple[str, int, int]], seed: int
) -> None:
    town = world(seed)
    for act in story:
        play(town, act)
    town.heal()
    for _ in range(12):
        town.settle()
        town.check()
        town.wait(10_000)
    town.settle()
    town.check()
    town.agree()


def two() -> tuple[World, Device, Device]:
    town = world()
    return town, town.devices[0], town.devices[2]
