"""What a peer can make us hold: pictures, packets and addresses without end."""

import pytest

pytest.importorskip("aiortc", reason="calls need: pip install 'telex[calls]'")

import asyncio
import gc
import socket
from fractions import Fraction

import av
import pytest
from aiortc.codecs import get_capabilities
from aiortc.rtcrtpparameters import RTCRtpCodecParameters

from media.port import PeerSays
from media.rtc import peer, sender
from media.rtc.assembler import MAX_GAP, Assembler, Part, Picture
from media.rtc.codec import Decoder, Encoder, TooLarge
from media.rtc.receiver import MAX_UNSHOWN, VideoReceiver
from tests.media.legs import Side, call, speech


def decoder(name: str) -> Decoder:
    known = get_capabilities("video").codecs
    codec = next(codec for codec in known if codec.name == name)
    return Decoder(
        RTCRtpCodecParameters(
            mimeType=codec.mimeType, clockRate=90_000, parameters=codec.parameters
        )
    )


def encoded(name: str, width: int, height: int) -> bytes:
    """One key frame of nothing."""
    context = av.CodecContext.create(name, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base, context.framerate = Fraction(1, 15), Fraction(15, 1)
    frame = av.VideoFrame(width, height, "yuv420p")
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    packets = [*context.encode(frame), *context.encode(None)]
    return b"".join(bytes(packet) for packet in packets)


@pytest.mark.parametrize("key", [True, False])
def test_a_key_frame_of_268_million_pixels_is_not_decoded(key: bool) -> None:
    data = bytearray(encoded("libvpx", 320, 240))
    ours = decoder("VP8")
    assert ours.decode(Picture(0, True, bytes(data))) is not None
    data[6:10] = b"\xff\x3f\xff\x3f"
    # Packets may say what they like of it: libvpx would take 900 MB and two seconds.
    with pytest.raises(TooLarge):
        ours.decode(Picture(6_000, key, bytes(data)))


def test_h264_of_too_many_pixels_ends_before_they_are_there() -> None:
    data = encoded("libx264", 2560, 1600)
    with pytest.raises(av.FFmpegError):  # not TooLarge: that is after decoding
        decoder("H264").decode(Picture(0, True, data))


def test_gaps_are_not_gathered() -> None:
    assembler = Assembler()
    assembler.put(10, Part(0, False, True, b"x"), 0.0)
    for index in range(1, 100):
        assembler.put(10 + index * MAX_GAP, Part(index, False, False, b"x"), 0.0)
        assert len(assembler._missing) <= MAX_GAP


async def test_pictures_that_wait_for_their_sound_are_few() -> None:
    come = asyncio.Semaphore(0)
    receiver = VideoReceiver(lambda frame: come.release(), lambda: 0.02)
    frame = av.VideoFrame(16, 16, "yuv420p")
    for _ in range(3 * MAX_UNSHOWN):
        receiver._show_later(frame)
    for _ in range(MAX_UNSHOWN):
        await come.acquire()
    assert not receiver._unshown
    assert come.locked()
    receiver._show_later(frame)  # and then they are shown again
    await come.acquire()
    receiver.close()


async def test_a_datagram_that_is_too_long_raises_nothing() -> None:
    async with call() as (a, b):
        failures: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: failures.append(context))
        end = b.leg._peer.transport.ice._nominated[1].protocol.local_candidate
        family = socket.AF_INET6 if ":" in end.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as anybody:
            for _ in range(3):
                anybody.sendto(b"\x80\x60" + bytes(3_000), (end.host, end.port))
        count = len(a.qualities)
        await a.until(lambda: len(a.qualities) > count)
        loop.set_exception_handler(None)
        assert not failures
        assert b.states == ["connecting", "connected"]


async def test_a_leg_that_ends_as_it_connects_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peer, "CONSENT", 0.01)
    failures: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: failures.append(context))
    before = asyncio.all_tasks()
    for turns in range(4):
        a, b = Side("a", speech(1)), Side("b", speech(1))
        await a.leg.accept(await b.leg.answer(await a.leg.offer()))
        if turns:
            async with asyncio.timeout(10):
                while not a.leg._peer.transport.ice._nominated:  # noqa: ASYNC110
                    await asyncio.sleep(0)
        for _ in range(turns - 1):
            await asyncio.sleep(0)
        await asyncio.gather(a.close(False), b.close(False))
    left = asyncio.all_tasks() - before
    if left:
        _, left = await asyncio.wait(left, timeout=5)
    assert not left
    gc.collect()
    loop.set_exception_handler(None)
    assert not failures


async def test_a_picture_that_cannot_be_encoded_is_one_picture_less(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sender, "FAILED", 0.1)
    async with call() as (a, b):
        a.leg.tell(False, False, True, False)
        await b.until(lambda: len(b.shown) > 3)
        with monkeypatch.context() as broken:
            failed = asyncio.Event()
            loop = asyncio.get_running_loop()

            def fail(*arguments: object) -> None:
                loop.call_soon_threadsafe(failed.set)
                raise MemoryError

            broken.setattr(Encoder, "encode", fail)
            await asyncio.wait_for(failed.wait(), 5)
        shown = len(b.shown)
        await b.until(lambda: len(b.shown) > shown + 3)
        assert "could not be encoded" in caplog.text


async def test_a_storm_of_states_is_told_as_a_few_and_the_last_one_counts() -> None:
    async with call() as (a, b):
        await b.until(lambda: b.says is not None)
        told = b.events.count
        a.leg.tell(False, False, False, False)
        for index in range(601):
            a.leg.tell(index % 2 == 0, False, False, False)
        a.leg.tell(True, True, False, False)
        await b.until(lambda: b.says and b.says.held)
        storm = [told(PeerSays("b", muted=muted)) for muted in (False, True)]
        assert sum(storm) < 30
        assert b.says == PeerSays("b", muted=True, held=True)
