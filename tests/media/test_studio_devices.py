"""The studio's devices: they are chosen, miss, come and go in the call."""

import threading
from collections.abc import AsyncIterator

import pytest

np = pytest.importorskip("numpy", reason="calls need numpy: pip install 'telex[calls]'")
pytest.importorskip("av", reason="libopus is looked for beside PyAV")

from media.audio.devices import Lost, Stream  # noqa: E402
from media.audio.level import rms  # noqa: E402
from media.audio.opus import BLOCK  # noqa: E402
from media.port import MediaError, Sound, Trouble  # noqa: E402
from tests.media.room import Room, in_call, open_room  # noqa: E402
from tests.media.sound import talk  # noqa: E402

GONE = MediaError("no_device", "The microphone was unplugged: plug it in again.")


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    async with open_room() as room:
        yield room


async def test_devices_are_switched_in_the_call(room: Room) -> None:
    await in_call(room, talk(1.0, seed=2))
    await room.pass_time(0.2)
    at = room.sent["bob"][-1][1]
    await room.studio.set_sound(
        Sound("usb", "headset", echo=False, noise=False, gain=False)
    )
    await room.ready("microphone", "speaker")
    assert room.system.now["microphone"].id == "usb"
    assert room.system.now["speaker"].id == "headset"
    assert sorted(room.system.closed) == [("microphone", ""), ("speaker", "")]
    room.system.played.clear()
    await room.pass_time(0.2)
    assert np.concatenate(room.system.played).any()
    times = [when for _, when in room.sent["bob"] if when > at]
    assert times == list(range(at + BLOCK, at + BLOCK * (len(times) + 1), BLOCK))
    assert not room.troubles


@pytest.mark.parametrize("kind", ["microphone", "speaker"])
async def test_a_missing_device_is_replaced_by_a_clock(room: Room, kind: str) -> None:
    room.system.missing.add(kind)
    other = {"microphone": "speaker", "speaker": "microphone"}[kind]
    source = room.add("bob", talk(1.0, seed=2))
    await room.ready(other)
    await room.until(lambda: bool(room.troubles))
    text = f"There is no {kind}: plug one in."
    assert room.troubles == [Trouble(kind, "no_device", text)]  # type: ignore[arg-type]
    # The clock empties buffers, and sends silence, at its pace.
    pulled, sent = source.pulled, len(room.sent["bob"])
    if kind == "speaker":
        await room.until(lambda: source.pulled > pulled + 5)
        await room.pass_time(0.2)
    else:
        await room.until(lambda: len(room.sent["bob"]) > sent + 5)
        assert np.abs(room.decoded("bob")).max() <= 2
        await room.pass_time(0.2)
        assert source.pulled > pulled
    assert len(room.sent["bob"]) > sent
    # It is looked for again, and said once when it is there.
    attempts = room.system.attempts
    await room.until(lambda: room.system.attempts > attempts + 2)
    assert len(room.troubles) == 1
    room.system.missing.clear()
    await room.ready("microphone", "speaker")
    assert room.troubles[1:] == [Trouble(kind, "", "")]  # type: ignore[arg-type]
    room.sent["bob"].clear()
    await room.pass_time(1.0)
    assert rms(room.decoded("bob")) > 500


async def test_an_unplugged_device_comes_back(room: Room) -> None:
    source = await in_call(room, talk(1.0, seed=2))
    room.system.missing.add("microphone")
    lost = room.system.now["microphone"].lost
    thread = threading.Thread(target=lost, args=(GONE,))
    thread.start()
    thread.join()
    await room.until(lambda: bool(room.troubles))
    assert room.troubles[0] == Trouble("microphone", GONE.code, str(GONE))
    await room.ready("speaker")
    sent, pulled = len(room.sent["bob"]), source.pulled
    await room.until(lambda: len(room.sent["bob"]) > sent + 3)
    await room.pass_time(0.1)
    assert source.pulled > pulled
    room.system.missing.clear()
    await room.ready("microphone", "speaker")
    assert room.troubles[-1] == Trouble("microphone", "", "")


async def test_devices_are_open_only_while_they_are_wanted(room: Room) -> None:
    room.studio.play("ring")
    await room.ready("speaker")
    room.studio.play("none")
    room.add("bob")
    await room.ready("microphone", "speaker")
    room.studio.remove("bob")
    await room.ready()
    room.studio.play("ended")
    await room.ready("speaker")
    # It ends by itself.
    await room.pass_time(2.0)
    await room.ready()


async def test_closing_while_a_device_opens_closes_that_too() -> None:
    room = Room()
    opening, go_on = threading.Event(), threading.Event()
    opened = room.system._open

    def slow(kind: str, id: str, lost: Lost) -> Stream:
        opening.set()
        go_on.wait(10)
        return opened(kind, id, lost)

    room.system._open = slow  # type: ignore[method-assign]
    room.studio.play("ring")
    await room.until(opening.is_set)
    await room.studio.close()
    go_on.set()
    await room.until(lambda: room.system.closed == [("speaker", "")])
