"""A network that lies, and a peer that sends what it likes."""

import asyncio
import contextlib
import random
import threading
from collections.abc import Callable

import pytest

pytest.importorskip("aiortc", reason="calls need: pip install 'telex[calls]'")

from aiortc import RTCCertificate
from aiortc.rtcdtlstransport import SRTP_PROFILES
from aiortc.rtp import RtcpSrPacket
from OpenSSL import SSL

from media.rtc import rtp
from media.rtc.leg import REFUSED
from media.rtc.peer import MAX_STREAMS
from media.rtc.rate import Budget
from media.rtc.sender import Sender
from tests.media.legs import Side, call, speech
from tests.media.relay import OTHER, Relay
from tests.media.relay import Side as End


class Liar(Relay):
    """A man in the middle: lets ICE pass, and ends DTLS of both sides himself.

    He is the server for side `b`, which answered, and the client of side `a`; both
    with a certificate of his own.
    """

    def __init__(self) -> None:
        super().__init__()
        context = RTCCertificate.generateCertificate()._create_ssl_context(
            SRTP_PROFILES
        )
        self.sessions: dict[End, SSL.Connection] = {}
        self.sessions["a"] = SSL.Connection(context)
        self.sessions["b"] = SSL.Connection(context)
        self.sessions["a"].set_connect_state()
        self.sessions["b"].set_accept_state()
        self.done: set[End] = set()
        self.complete = threading.Event()
        """Both handshakes are done; he works in a thread of his own."""
        self.media: list[bytes] = []
        self.data: list[bytes] = []

    def heard(self, side: End, data: bytes) -> None:
        first = data[0]
        if 127 < first < 192:
            self.media.append(data)
        elif not 19 < first < 64:
            self.send(OTHER[side], data)
            if side == "b":
                self._go("a", b"")  # ICE begins: so may the client
        else:
            self._go(side, data)

    def _go(self, side: End, data: bytes) -> None:
        session = self.sessions[side]
        if data:
            session.bio_write(data)
        try:
            if side in self.done:
                self.data.append(session.recv(2_000))
            else:
                session.do_handshake()
                self.done.add(side)
                if len(self.done) == 2:
                    self.complete.set()
        except SSL.Error:
            pass
        with contextlib.suppress(SSL.Error):
            self.send(side, session.bio_read(5_000))


async def test_who_has_another_key_than_the_described_one_is_refused() -> None:
    liar = Liar()
    a, b = Side("a", speech(1)), Side("b", speech(1))
    answer = await b.leg.answer(liar.rewrite("a", await a.leg.offer()))
    await a.leg.accept(liar.rewrite("b", answer))
    for side in (a, b):
        side.leg.open()
        side.leg.tell(False, False, True, False)
        side.start()
    for side in (a, b):
        await side.until(lambda side=side: "refused" in side.states)  # type: ignore[misc]
    assert await asyncio.to_thread(liar.complete.wait, 5)  # he did both handshakes
    for side in (a, b):
        assert side.states == ["connecting", "refused"]
        assert side.details[-1] == REFUSED
        assert side.says is None
        assert not side.shown
        assert side.leg.buffer.stats.played == 0
        assert side.leg._peer.transport.sent == 0
    assert liar.media == []
    assert b"".join(liar.data) == b""
    await asyncio.gather(a.close(), b.close())
    liar.close()


async def test_an_answer_with_another_fingerprint_is_refused() -> None:
    a, b, c = (Side(name, speech(1)) for name in "abc")
    theirs = await b.leg.answer(await a.leg.offer())
    b.leg.open()
    other = await c.leg.offer()

    def fingerprint(sdp: str) -> str:
        return next(x for x in sdp.splitlines() if x.startswith("a=fingerprint"))

    await a.leg.accept(theirs.replace(fingerprint(theirs), fingerprint(other)))
    await a.until(lambda: "refused" in a.states)
    await asyncio.gather(*(side.close() for side in (a, b, c)))


def noise(rng: random.Random) -> bytes:
    return rng.randbytes(rng.choice([0, 1, 2, 11, 12, 20, 60, 300, 1_400]))


async def still_well(a: Side, b: Side) -> None:
    """Sound and pictures go both ways (again, once what was sent has gone by)."""
    b.leg.tell(True, False, True, False)
    for here, there in ((a, b), (b, a)):
        shown, count = len(here.shown), len(here.qualities)
        await here.until(lambda: len(here.shown) > shown + 8)  # noqa: B023
        while here.hears(there, 0.6)[0] < 0.6:
            count += 1
            assert count < 20
            await here.until(lambda: len(here.qualities) >= count)  # noqa: B023
        await here.until(lambda: here.says and here.says.muted)  # noqa: B023
        assert here.states == ["connecting", "connected"]


async def test_noise_from_the_network_and_from_the_peer_is_survived() -> None:
    relay = Relay()
    async with call(relay) as (a, b):
        await b.until(lambda: b.says is not None)
        await inject(relay, a, b)
        await inject_data(a, b)
        await still_well(a, b)
        inside = b.leg._peer.sctp
        assert inside is not None
        assert len(inside._inbound_streams) <= MAX_STREAMS + 1


def stray(sender: Sender, rng: random.Random) -> bytes:
    """Noise in the name of a stream; near its numbers, or SRTP would not send it."""
    return rtp.pack(
        rng.choice([63, 96, 97, 98, 99, 100]),
        rng.random() < 0.5,
        sender._seq + rng.randrange(-90, 90),
        rng.randrange(2**32),
        sender.ssrc,
        noise(rng),
    )


async def inject(relay: Relay, a: Side, b: Side) -> None:
    """First what anybody can send to an open port, then what only the peer can."""
    rng = random.Random(5)
    for _ in range(300):
        data = rng.choice([b"", b"\x16", b"\x80", b"\x81\xc9", b"\0\1"]) + noise(rng)
        relay._loop.call_soon_threadsafe(relay.send, "b", data)
    send = a.leg._peer.transport.send_media
    theirs = a.leg._session
    makers: list[Callable[[], bytes]] = [
        lambda: b"\x80" + bytes([rng.randrange(256)]) + noise(rng),
        lambda: bytes([rng.randrange(128, 192), rng.randrange(200, 208)]) + noise(rng),
        lambda: stray(theirs._audio, rng),
        lambda: stray(theirs._video, rng),
        lambda: rtp.pack(97, True, 7, 7, rng.randrange(2**32), noise(rng)),
        lambda: rtp.nack(1, b.leg._session._video.ssrc, range(rng.randrange(100))),
        lambda: rtp.remb(1, rng.randrange(2**30), [b.leg._session._video.ssrc] * 3),
        lambda: RtcpSrPacket.__bytes__(
            theirs._sender_report(theirs._audio, rng.random(), [])
        ),
    ]
    for index in range(1_500):
        send(rng.choice(makers)())
        if index % 50 == 0:
            await asyncio.sleep(0.005)  # as many as a socket takes
    # What was made up of all this is bounded; then the budget is as it was.
    receiver = b.leg._session._video_in
    assert len(receiver._waiting) <= 15
    assert len(receiver._assembler._parts) <= 1_024
    b.leg._session._budget = Budget()


async def inject_data(a: Side, b: Side) -> None:
    """Noise as messages, as SCTP packets, and on streams without end."""
    rng = random.Random(6)
    channel, sctp = a.leg._channel, a.leg._peer.sctp
    assert channel is not None
    assert sctp is not None
    for _ in range(60):
        channel.send(noise(rng) if rng.random() < 0.7 else "text")
    for _ in range(100):
        await a.leg._peer.transport._send_data(noise(rng) or b"x")
    a.leg.tell(True, False, True, False)  # the last that such a peer is heard to say
    await b.until(lambda: b.says and b.says.muted)
    for stream in range(40):
        await sctp._send(stream * 3 + 5, 51, b"x" * 500)
