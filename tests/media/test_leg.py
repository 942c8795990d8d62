"""Two legs that call each other: what a person hears, sees and is told."""

import asyncio
import gc
import socket
import threading
import time

import pytest

pytest.importorskip("aiortc", reason="calls need: pip install 'telex[calls]'")

import numpy as np

from media.audio.opus import LOSS
from media.port import Candidates, PeerSays
from media.rtc.leg import Leg
from tests.media.legs import ORANGE, Side, call, speech
from tests.media.relay import Path, Relay


def colour(side: Side) -> tuple[float, ...]:
    """Of the lower half of the picture shown last, where nothing moves."""
    pixels = side.shown[-1][1].to_ndarray(format="rgb24")
    still = pixels[pixels.shape[0] * 3 // 4 :]
    return tuple(np.median(still, axis=(0, 1)))


async def test_sound_and_pictures_arrive_as_they_were_sent() -> None:
    async with call() as (a, b):
        a.leg.tell(False, False, True, False)
        b.leg.tell(True, False, True, True)
        for side in (a, b):
            await side.until(lambda side=side: len(side.shown) > 25)  # type: ignore[misc]
            assert colour(side) == pytest.approx(ORANGE, abs=14)
            assert side.shown[-1][1].width == 320
        await a.until(lambda: a.says and a.says.muted)
        assert a.says == PeerSays("a", muted=True, camera=True, screen=True)
        assert b.says == PeerSays("b", camera=True)
        for here, there in ((a, b), (b, a)):
            await heard(here, there, 1.0, 0.85)
            assert 0 < here.hears(there, 1.0)[1] < 0.3
            quality = here.qualities[-1]
            assert quality.path == "direct"
            assert quality.audio == "opus"
            assert quality.video.startswith("VP8 320x240@")
            assert quality.loss == 0
            assert 40_000 < quality.received < 400_000
            assert 0 < quality.rtt < 200
            assert here.states == ["connecting", "connected"]


async def test_pictures_for_who_knows_nothing_but_h264() -> None:
    a, b = Side("a", speech(1)), Side("b", speech(1))
    try:
        offer = (await a.leg.offer()).replace("VP8/90000", "VP7/90000")
        await a.leg.accept(await b.leg.answer(offer))
        for side in (a, b):
            side.leg.open()
            side.leg.tell(False, False, True, False)
        for side in (a, b):
            await side.until(lambda side=side: len(side.shown) > 25)  # type: ignore[misc]
            assert colour(side) == pytest.approx(ORANGE, abs=14)
            await side.until(lambda side=side: side.qualities)  # type: ignore[misc]
            assert side.qualities[-1].video.startswith("H264 320x240@")
    finally:
        await asyncio.gather(a.close(False), b.close(False))


async def test_nothing_flows_before_it_is_opened() -> None:
    async with call(opened=False) as (a, b):
        a.leg.tell(False, False, True, False)
        await a.until(lambda: a.qualities)
        await b.until(lambda: len(b.qualities) > 1)
        assert not b.shown
        assert b.leg.buffer.stats.played == a.leg.buffer.stats.played == 0
        assert a.leg._session._audio.packets == a.leg._session._video.packets == 0
        assert b.leg._session._audio.packets > 0
        a.leg.open()
        await b.until(lambda: len(b.shown) > 5 and len(b.qualities) > 2)
        await heard(b, a, 0.5, 0.8)


async def test_who_calls_does_not_learn_where_we_are_before_we_accept() -> None:
    """A packet from us would tell: none comes while it only rings."""
    a, b = Side("a", speech(1)), Side("b", speech(1))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
        ear.bind(("127.0.0.1", 0))
        ear.setblocking(False)
        here = f"candidate:1 1 udp 2130706431 127.0.0.1 {ear.getsockname()[1]} typ host"
        loop = asyncio.get_running_loop()
        try:
            lines = (await a.leg.offer()).splitlines()
            offer = [line for line in lines if not line.startswith("a=candidate")]
            at = next(i for i, line in enumerate(offer) if line.startswith("a=mid"))
            offer.insert(at, f"a={here}")
            await b.leg.answer("\r\n".join(offer) + "\r\n")
            b.leg.add_candidates([here])
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(loop.sock_recv(ear, 2048), 1.0)
            b.leg.open()
            check = await asyncio.wait_for(loop.sock_recv(ear, 2048), 20)
            assert check[4:8] == bytes.fromhex("2112a442")  # STUN (RFC 8489)
        finally:
            await asyncio.gather(a.close(False), b.close(False))


async def test_a_held_leg_neither_sends_nor_plays() -> None:
    async with call() as (a, b):
        b.leg.tell(False, False, True, False)
        await a.until(lambda: len(a.shown) > 5)
        a.leg.tell(False, True, True, False)
        await b.until(lambda: b.says and b.says.held)
        sent, shown = a.leg._session._audio.packets, len(a.shown)
        played = a.leg.buffer.stats.played
        count = len(a.qualities)
        await a.until(lambda: len(a.qualities) > count + 1)
        assert a.leg._session._audio.packets == sent
        assert a.leg.buffer.stats.played <= played + 10  # what waited there
        assert len(a.shown) <= shown + 3
        a.leg.tell(False, False, True, False)
        await a.until(lambda: len(a.shown) > shown + 10)
        await b.until(lambda: len(b.shown) > 5)


async def test_bye_ends_both_sides() -> None:
    async with call() as (a, b):
        await a.leg.close()
        await b.until(lambda: "closed" in b.states)
        assert b.says is not None
        assert b.says.bye
        assert a.states[-1] == "closed"


async def test_who_is_not_heard_is_silent_until_he_is_again() -> None:
    relay = Relay()
    async with call(relay) as (a, b):
        relay.cut()
        cut = time.monotonic()
        for side in (a, b):
            await side.until(lambda side=side: "silent" in side.states)  # type: ignore[misc]
        assert time.monotonic() - cut > 2
        relay.restore()
        for side in (a, b):
            await side.until(lambda side=side: side.states[-1] == "connected")  # type: ignore[misc]
            assert side.states == ["connecting", "connected", "silent", "connected"]


async def test_a_peer_that_sends_no_sound_is_not_silent() -> None:
    async with call() as (a, b):
        a.quiet = b.quiet = True
        await a.until(lambda: a.qualities)
        sent = a.leg._session._audio.packets
        await a.until(lambda: len(a.qualities) > 3)
        assert a.leg._session._audio.packets == sent
        assert a.states == b.states == ["connecting", "connected"]
        assert a.qualities[-1].audio == ""


async def test_copies_of_sound_are_sent_where_much_is_lost() -> None:
    async with call() as (a, b):
        await b.until(lambda: b.qualities)
        before = b.qualities[-1].received
        a.leg._session._lost_sound = 0.5  # as reports would say
        await b.until(lambda: b.qualities[-1].received > 2 * before)
        count = len(b.qualities)
        await b.until(lambda: len(b.qualities) > count)
        await heard(b, a, 0.5, 0.8)
        assert a.leg._session._copying
        await a.until(lambda: a.rates[-1] == (48_000, 0.0))  # no bits for FEC
        a.leg._session._lost_sound = 0.0
        await a.until(lambda: a.rates[-1][1] == LOSS)


async def test_a_leg_that_nobody_answers_fails_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("media.rtc.leg.CONNECT", 0.5)
    relay = Relay(Path(cut=True))
    a, b = Side("a", speech(1)), Side("b", speech(1))
    answer = await b.leg.answer(relay.rewrite("a", await a.leg.offer()))
    await a.leg.accept(relay.rewrite("b", answer))
    await a.until(lambda: a.states[-1:] == ["failed"])
    assert a.details[-1].endswith(".")
    assert b.states == ["connecting"]  # it rings: that may take as long as it likes
    await asyncio.gather(a.close(), b.close())
    relay.close()


async def test_candidates_that_come_later_connect_as_well() -> None:
    a, b = Side("a", speech(1)), Side("b", speech(1))
    offer = await a.leg.offer()
    lines = [line for line in offer.splitlines() if "a=candidate" in line]
    answer = await b.leg.answer(
        "\r\n".join(line for line in offer.splitlines() if line not in lines)
    )
    await a.leg.accept(
        "\r\n".join(x for x in answer.splitlines() if "a=candidate" not in x)
    )
    b.leg.add_candidates(["nonsense", *lines, *["candidate:x"] * 100])
    b.leg.open()
    for side in (a, b):
        await side.until(lambda side=side: "connected" in side.states)  # type: ignore[misc]
    assert not [e for e in a.events if isinstance(e, Candidates)]
    await asyncio.gather(a.close(), b.close())


async def test_calls_leave_nothing_behind() -> None:
    await one_short_call()
    before = census()
    for _ in range(4):
        await one_short_call()
    await until_gone(before)


@pytest.mark.long
async def test_thirty_calls_leave_nothing_behind() -> None:
    await one_short_call()
    before = census()
    for _ in range(30):
        await one_short_call()
    await until_gone(before)


async def one_short_call() -> None:
    async with call() as (a, b):
        a.leg.tell(False, False, True, False)
        await b.until(lambda: len(b.shown) > 1)
        await a.leg.close()
        await b.until(lambda: "closed" in b.states)


def census() -> dict[str, int]:
    gc.collect()
    return {
        "threads": threading.active_count(),
        "tasks": len(asyncio.all_tasks()),
        "legs": sum(isinstance(thing, Leg) for thing in gc.get_objects()),
        "sockets": sum(
            type(thing).__name__ in ("_SelectorDatagramTransport", "StunProtocol")
            for thing in gc.get_objects()
        ),
    }


async def heard(here: Side, there: Side, seconds: float, like: float) -> None:
    """Wait until one side hears the other; a busy machine plays some of it late."""
    await here.until(lambda: here.hears(there, seconds)[0] > like)


async def until_gone(before: dict[str, int]) -> None:
    """Wait for threads to end by themselves; what is left then is a leak."""
    for _ in range(50):
        after = census()
        if all(after[name] <= before[name] for name in before):
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{before} -> {after}")
