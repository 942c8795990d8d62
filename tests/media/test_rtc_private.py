"""What `media.rtc.peer` uses of aiortc without a promise: is it still there?"""

import inspect
import time
from importlib.metadata import version

import pytest

pytest.importorskip("aiortc", reason="calls need: pip install 'telex[calls]'")

import aiortc.codecs
from aioice import Connection
from aiortc import RTCPeerConnection, RTCRtpTransceiver
from aiortc.rtcdtlstransport import RTCDtlsTransport, State
from aiortc.rtcrtpreceiver import RTCRtpReceiver
from aiortc.rtcrtpsender import RTCRtpSender
from aiortc.rtcsctptransport import InboundStream, RTCSctpTransport

from media.port import Ice
from media.rtc.leg import Leg
from media.rtc.peer import PRIVATE, Incoming, Outgoing, Peer, Transport
from tests.media.legs import Picture


def test_the_version_is_the_one_that_was_read() -> None:
    assert version("aiortc") == PRIVATE["aiortc"]


@pytest.mark.parametrize("cls", [c for c in PRIVATE if isinstance(c, type)])
def test_what_is_overridden_is_there(cls: type) -> None:
    for name in PRIVATE[cls]:
        assert callable(getattr(cls, name)), name


async def test_what_is_read_is_there() -> None:
    leg = Leg("a", Ice(), lambda event: None, Picture(), lambda frame: None)
    try:
        await leg.offer()
        peer = leg._peer
        sctp = peer.sctp
        assert sctp is not None
        for what, thing in (
            ("of a connection", peer),
            ("of a transport", peer.transport),
            ("of an ICE connection", peer.transport.ice),
            ("of SCTP", sctp),
        ):
            for name in PRIVATE[what]:
                assert hasattr(thing, name), name
        # Everything goes over one transport, and that is ours.
        assert isinstance(peer.transport, Transport)
        assert sctp.transport is peer.transport
        for line in peer.getTransceivers():
            assert type(line.sender).__name__ == "Outgoing"
            assert type(line.receiver).__name__ == "Incoming"
    finally:
        await leg.close()


def test_the_stand_ins_have_what_aiortc_calls() -> None:
    used = {
        RTCRtpReceiver: (
            Incoming,
            ("receive", "stop", "setTransport", "_set_rtcp_ssrc"),
        ),
        RTCRtpSender: (Outgoing, ("send", "stop", "setTransport")),
    }
    for theirs, (ours, names) in used.items():
        for name in names:
            expected = inspect.signature(getattr(theirs, name)).parameters
            assert list(inspect.signature(getattr(ours, name)).parameters) == list(
                expected
            )
    source = inspect.getsource(inspect.getmodule(RTCPeerConnection) or aiortc)
    for name in ("sender.", "receiver."):
        called = {
            word.split("(")[0].split(" ")[0].split(")")[0].split(",")[0].split(".")[0]
            for word in source.replace("\n", " ").split(name)[1:]
        }
        known = set(dir(Outgoing("audio", None) if name == "sender." else Incoming))  # type: ignore[arg-type]
        known |= {"_track", "transport", "_ssrc"}
        unknown = {word for word in called if word.isidentifier()} - known
        assert unknown <= {"replaceTrack"}, unknown  # by `addTrack`, which is not used


def test_the_codecs_of_a_line_are_an_attribute_that_aiortc_sets() -> None:
    assert "_codecs" not in vars(RTCRtpTransceiver)
    assert "transceiver._codecs = " in inspect.getsource(RTCPeerConnection)


def test_dtls_and_sctp_are_as_they_were_read() -> None:
    assert {"FAILED", "CONNECTED"} <= set(State.__members__)
    assert inspect.iscoroutinefunction(RTCSctpTransport._handle_data)
    assert inspect.iscoroutinefunction(Connection.query_consent)
    assert hasattr(InboundStream(), "reassembly")
    assert issubclass(Transport, RTCDtlsTransport)
    assert issubclass(Peer, RTCPeerConnection)


async def test_clocks_are_those_of_one_call() -> None:
    """They tell neither the uptime nor the time of day, and link no two calls."""
    seen: list[tuple[int, ...]] = []
    for _ in range(2):
        leg = Leg("a", Ice(), lambda event: None, Picture(), lambda frame: None)
        try:
            await leg.offer()
            session, now = leg._session, time.monotonic()
            clocks = (
                (session._ntp() >> 32) - int(now),
                session._audio.timestamp(now),
                session._video.timestamp(now),
                (session._video._send_time() - int(now * (1 << 18))) >> 4 & 0xFFFFF,
            )
            day = clocks[0] + int(now) - 2_208_988_800  # from 1900 to 1970
            assert min(clocks[0], abs(day - time.time())) > 60
            seen.append(clocks)
        finally:
            await leg.close()
    for one, other in zip(*seen, strict=True):
        assert abs(one - other) > 1
