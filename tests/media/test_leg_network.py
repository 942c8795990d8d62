"""Calls over bad networks."""

import pytest

pytest.importorskip("aiortc", reason="calls need: pip install 'telex[calls]'")

from tests.media.legs import Side, call
from tests.media.relay import Path, Relay


async def seconds(side: Side, count: int) -> None:
    """Wait until a leg has told its quality so many times more."""
    until = len(side.qualities) + count
    await side.until(lambda: len(side.qualities) >= until, count + 30)


def seen(side: Side, other: Side) -> float:
    """The share of the other camera's pictures that was shown on this side."""
    return len(side.shown) / other.picture.given


def frozen(side: Side) -> int:
    """How often pictures stood still until a key frame came."""
    return side.leg._session._video_in._assembler.lost


async def test_losses_and_disorder_cost_neither_sound_nor_pictures() -> None:
    relay = Relay(Path(delay=0.02))
    async with call(relay) as (a, b):
        for side in (a, b):
            side.leg.tell(False, False, True, False)
        await seconds(a, 1)
        bad = Path(loss=0.05, delay=0.02, jitter=0.005, duplicate=0.02, reorder=0.03)
        relay.set(bad)
        begin = b.leg.buffer.stats
        await seconds(a, 3)
        stats = b.leg.buffer.stats
        lost = relay.counts("a").lost
        assert lost > 5
        assert stats.recovered > begin.recovered
        played = stats.played - begin.played
        assert stats.concealed - begin.concealed < 0.06 * played
        await b.until(lambda: b.hears(a, 1.0)[0] > 0.5)
        for here, there in ((a, b), (b, a)):
            assert seen(here, there) > 0.85
            assert frozen(here) <= 1
        assert stats.delay_ms < 150


async def test_450_kbit_carry_sound_and_pictures() -> None:
    relay = Relay(Path(rate=450_000, delay=0.02))
    async with call(relay) as (a, b):
        for side in (a, b):
            side.leg.tell(False, False, True, False)
        await seconds(a, 5)
        for side, other in ((a, b), (b, a)):
            assert side.troubles == []
            assert seen(side, other) > 0.75  # the rate leaves some out
            assert frozen(side) <= 1
            stats = side.leg.buffer.stats
            assert stats.concealed < 0.05 * stats.played
            assert side.qualities[-1].delay < 200


async def test_100_kbit_carry_sound_alone_and_pictures_come_back() -> None:
    relay = Relay(Path(rate=100_000, delay=0.02))
    async with call(relay) as (a, b):
        for side in (a, b):
            side.leg.tell(False, False, True, False)
        for side in (a, b):
            await side.until(lambda side=side: side.troubles == ["narrow"])  # type: ignore[misc]
            await side.until(lambda side=side: side.says and not side.says.camera)  # type: ignore[misc]
        assert min(bitrate for bitrate, _ in a.rates) <= 32_000
        await seconds(a, 1)
        begin, shown = b.leg.buffer.stats, len(b.shown)
        await seconds(a, 2)
        stats = b.leg.buffer.stats
        assert stats.concealed - begin.concealed <= 5
        assert len(b.shown) <= shown + 2
        # There is room again: nobody has to do anything.
        relay.set(Path(delay=0.02))
        for side in (a, b):  # it would take ten seconds, which are too long here
            side.leg._session._budget._wait = 0.0
            side.leg._session._budget.cap = 250_000
            side.leg._session._arrivals.estimate = 180_000
        for side in (a, b):
            await side.until(lambda side=side: side.troubles == ["narrow", ""], 40)  # type: ignore[misc]
        await b.until(lambda: len(b.shown) > shown + 8)
        await b.until(lambda: b.says and b.says.camera)


@pytest.mark.long
async def test_a_minute_on_450_kbit_has_no_freeze() -> None:
    relay = Relay(Path(rate=450_000, delay=0.02))
    async with call(relay) as (a, b):
        for side in (a, b):
            side.leg.tell(False, False, True, False)
        await seconds(a, 60)
        for side, other in ((a, b), (b, a)):
            assert side.troubles == []
            assert seen(side, other) > 0.85
            assert frozen(side) == 0
            stats = side.leg.buffer.stats
            assert stats.concealed < 0.03 * stats.played
