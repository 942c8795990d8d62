"""How soon after somebody accepted both hear each other.

Two headless clients on two nodes; microphones are tones, speakers are files. What
counts is the first sample of the other's tone that the speaker was given: a sound card
adds what its buffers hold. It rings for a second before it is accepted, as with people,
so that the media processes have loaded what they need.
"""

import asyncio
import time
from pathlib import Path

from bench.calls.pair import plain
from bench.calls.people import Street, Talker, street
from bench.calls.process import environment
from bench.calls.report import Result, middle
from bench.calls.sound import RATE, began, first_tone, read, tone_file

__all__ = ["run"]

ROUND_TRIP = 0.05
"""Seconds, of each connection to a node, between nodes and between the clients."""

RINGING = 1.0
TALKING = 1.2

CALLS, MINUTE = 5, 61.0
"""Calls in so many seconds: a room in which more ring is not told of them."""

TONES = {"alice": 1500.0, "bob": 2100.0}
"""Hertz: no ringing tone has them."""


def run(folder: Path, rounds: int) -> list[Result]:
    """Call `rounds` times without and with delay."""
    with environment({"TELEX_AUDIO": "null"}), street(folder) as town:
        return asyncio.run(_measure(town, rounds))


async def _measure(town: Street, rounds: int) -> list[Result]:
    results: list[Result] = []
    async with town.open(town.alice, town.bob) as (alice, bob):
        folder = town.place.folder
        for name, talker in (("alice", alice), ("bob", bob)):
            microphone = tone_file(folder / f"{name}.wav", TONES[name])
            speaker = folder / f"{name}-hears.wav"
            await talker.client.calls.set_sound(
                plain(f"file-loop:{microphone}", f"file:{speaker}")
            )
        begun: list[float] = []
        await _paced(begun, town, alice, bob)  # connects the nodes, fills caches
        for name, delay in (("loopback", 0.0), ("rtt50", ROUND_TRIP / 2)):
            town.set_delay(delay)
            both = [await _paced(begun, town, alice, bob) for _ in range(rounds)]
            caller, callee = ([one[side] for one in both] for side in (0, 1))
            later = [max(one) for one in both]
            results += [
                middle(f"first_sound_{name}", later, "ms"),
                middle(f"first_sound_{name}_at_caller", caller, "ms"),
                middle(f"first_sound_{name}_at_callee", callee, "ms"),
            ]
    return results


async def _paced(
    begun: list[float], town: Street, alice: Talker, bob: Talker
) -> tuple[float, float]:
    """`_call`, when there may be another one."""
    if len(begun) >= CALLS:
        await asyncio.sleep(max(0.0, begun[-CALLS] + MINUTE - time.monotonic()))
    begun.append(time.monotonic())
    return await _call(town, alice, bob)


async def _call(town: Street, alice: Talker, bob: Talker) -> tuple[float, float]:
    """Milliseconds from accepting until each of them hears the other."""
    begun = time.monotonic()
    call = await alice.client.calls.start(town.room)
    _, incoming = await bob.sees("incoming", begun)
    await alice.sees("ringing", begun)
    await asyncio.sleep(RINGING)
    accepted = time.monotonic()
    await bob.client.calls.answer(incoming.id)
    await alice.sees("running", accepted)
    await asyncio.sleep(TALKING)
    heard = []
    for name, other in (("alice", "bob"), ("bob", "alice")):
        file = town.place.folder / f"{name}-hears.wav"
        start = await began(file)
        at = first_tone(read(file), TONES[other], round((accepted - start) * RATE))
        if at is None:
            raise RuntimeError(f"{name} heard nothing")
        heard.append(1000 * (start + at / RATE - accepted))
    ended = time.monotonic()
    await alice.client.calls.hang_up(call.id)
    for talker in (alice, bob):
        await talker.sees("ended", ended)
    return heard[0], heard[1]
