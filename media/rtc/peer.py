"""Our connection over aiortc 1.16.0: whatever touches its private parts is in here.

aiortc connects well (ICE, DTLS, SRTP, SDP) and carries sound and picture badly: one
lost packet costs 200 ms of delay for the rest of a call. So it keeps the first half
and gives up the second. Nothing is patched: `Peer` overrides the two factories of
`RTCPeerConnection` (found by their mangled names), so that its connection is made of
our classes. What depends on the version stands in `PRIVATE`, and a test compares it.

- `Transport` hands SRTP to us without a queue or a task in between, and sends without
  one: half of the processor time of an audio call went there. In aiortc any exception
  of a handler, and an empty datagram of anybody, ends the DTLS transport and with it
  the call; here such things are counted.
- `Incoming` and `Outgoing` stand where aiortc expects its receiver and sender; they
  have no threads and tasks, and tell `Sink` what was negotiated.
- `Line` adds Opus' parameters and RED, which aiortc's table of codecs has not.
"""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Callable
from typing import Any, Protocol

import aioice
import pylibsrtp
from aioice.stun import TransactionError
from aiortc import (
    RTCConfiguration,
    RTCDataChannel,
    RTCPeerConnection,
    RTCRtpTransceiver,
)
from aiortc.codecs import get_capabilities
from aiortc.exceptions import InvalidStateError
from aiortc.rtcdtlstransport import RTCDtlsParameters, RTCDtlsTransport, State
from aiortc.rtcicetransport import RTCIceGatherer, RTCIceTransport
from aiortc.rtcrtpparameters import (
    RTCRtpCodecParameters,
    RTCRtpReceiveParameters,
    RTCRtpSendParameters,
)
from aiortc.utils import random32

__all__ = ["PRIVATE", "RED", "Incoming", "Outgoing", "Peer", "Sink", "Transport"]

log = logging.getLogger(__name__)

PRIVATE = {
    "aiortc": "1.16.0",
    RTCPeerConnection: (
        "_RTCPeerConnection__connect",
        "_RTCPeerConnection__createTransceiver",
        "_RTCPeerConnection__createDtlsTransport",
        "_RTCPeerConnection__updateIceGatheringState",
        "_RTCPeerConnection__updateIceConnectionState",
        "_RTCPeerConnection__updateConnectionState",
    ),
    "of a connection": (
        "_RTCPeerConnection__certificates",
        "_RTCPeerConnection__dtlsTransports",
        "_RTCPeerConnection__iceTransports",
        "_RTCPeerConnection__transceivers",
    ),
    RTCDtlsTransport: (
        "_handle_rtcp_data",
        "_handle_rtp_data",
        "_register_data_receiver",
        "_unregister_data_receiver",
        "_validate_peer_identity",
    ),
    "of a transport": ("_rx_srtp", "_tx_srtp", "_state", "_role"),
    "of an ICE connection": (
        "_closing",
        "_nominated",
        "_protocols",
        "_queue",
        "build_request",
        "data_received",
        "query_consent",
    ),
    "of SCTP": ("_inbound_streams", "_data_channels", "_handle_data"),
}
"""What is used of aiortc and aioice and is not documented; see the contract test."""

OPUS: dict[str, int | str | None] = {"minptime": 10, "useinbandfec": 1, "usedtx": 1}
"""RFC 7587, section 6.1: a browser adds FEC only for one who asks for it."""

RED = 63
"""Payload type of RFC 2198 packets in our offers, as in those of browsers."""

MAX_WAITING = 64
"""Datagrams that wait for DTLS: a handshake has a dozen, aioice's queue no end."""

SCTP_BURST = 256 * 1024
SCTP_RATE = 16 * 1024
"""Bytes, and bytes a second, of the data channel: our messages have a hundred, a
browser's page may say more. What is above is dropped, and sent again by SCTP."""

MAX_STREAMS = 16
"""SCTP streams a peer may use: each costs memory here, and there could be 65,536."""

MAX_SCTP_FAULTS = 8
"""Packets that aiortc's SCTP fails over; a peer that sends more is not listened to."""

MAX_FRAGMENTS = 64
"""Chunks of unfinished messages that are kept for a peer."""

CONSENT = 5.0
"""Seconds between two questions whether the other side still wants our packets."""

MAX_FAULTS_LOGGED = 5
"""Lines in the log for packets that could not be handled; the rest is counted."""


class Sink(Protocol):
    """Who takes what comes in; all is called on the event loop's thread."""

    def rtp(self, data: bytes, now: float) -> None: ...
    def rtcp(self, data: bytes, now: float) -> None: ...
    def can_send(self, kind: str, parameters: RTCRtpSendParameters) -> None: ...
    def can_receive(self, kind: str, parameters: RTCRtpReceiveParameters) -> None: ...


class Guard:
    """SCTP between limits: an exception or a flood in it must not end the call."""

    def __init__(self, sctp: Any) -> None:
        self.sctp = sctp
        self.closed = False
        self.faults = 0
        self._left = float(SCTP_BURST)
        self._at = time.monotonic()

    async def _handle_data(self, data: bytes) -> None:
        now = time.monotonic()
        self._left = min(SCTP_BURST, self._left + (now - self._at) * SCTP_RATE)
        self._at = now
        if self.closed or len(data) > self._left:
            return
        self._left -= len(data)
        try:
            await self.sctp._handle_data(data)
        except Exception as error:
            # aiortc's SCTP trips over bad chunks in many ways; a few are borne.
            self.faults += 1
            self.closed = self.faults > MAX_SCTP_FAULTS
            if not self.closed:
                name = type(error).__name__
                log.warning("data channel: a packet was passed over: %s", name)
        streams = self.sctp._inbound_streams
        kept = sum(len(stream.reassembly) for stream in streams.values())
        if (
            len(streams) > MAX_STREAMS
            or len(self.sctp._data_channels) > MAX_STREAMS
            or kept > MAX_FRAGMENTS
        ):
            self.closed = True


class Transport(RTCDtlsTransport):
    """DTLS and SRTP; media goes straight to the sink and straight to the socket."""

    def __init__(
        self, transport: RTCIceTransport, certificates: list[Any], sink: Sink
    ) -> None:
        super().__init__(transport, certificates)
        self.sink = sink
        self.refused = False
        """The peer's certificate was not the one of its description."""
        self.heard = 0.0
        """When (monotonic) something came that only the peer can have sent."""
        self.received = 0
        """Bytes, as `sent`."""
        self.sent = 0
        self.faults = 0
        """Packets that could not be handled."""
        self.ice: aioice.Connection = transport._connection
        self._queued: Callable[[bytes, int], None] = self.ice.data_received
        vars(self.ice).update(
            data_received=self._datagram, query_consent=self._keep_consent
        )

    def getLocalParameters(self) -> RTCDtlsParameters:
        """One fingerprint: with three there would be three to compare and to carry."""
        both = super().getLocalParameters()
        both.fingerprints = [f for f in both.fingerprints if f.algorithm == "sha-256"]
        return both

    def _validate_peer_identity(self, remoteParameters: RTCDtlsParameters) -> None:
        self.refused = True  # before the state changes, and is told
        super()._validate_peer_identity(remoteParameters)
        self.refused = self._state == State.FAILED

    def _register_data_receiver(self, receiver: Any) -> None:
        super()._register_data_receiver(Guard(receiver))

    def _unregister_data_receiver(self, receiver: Any) -> None:
        guard = self._data_receiver
        if isinstance(guard, Guard) and guard.sctp is receiver:
            self._data_receiver = None

    async def _handle_rtcp_data(self, data: bytes) -> None:
        """What was queued before the handshake ended; it may be lost."""

    async def _handle_rtp_data(self, data: bytes, arrival_time_ms: int) -> None:
        """As above."""

    def _datagram(self, data: bytes, component: int) -> None:
        """Take what is not STUN. Anybody can send here, so nothing may raise."""
        if len(data) < 2:  # aiortc would look at the first byte
            return
        if not 127 < data[0] < 192:
            if self.ice._queue.qsize() < MAX_WAITING:
                self._queued(data, component)
                if self._state == State.CONNECTED:
                    self.received += len(data)
            return
        if self._state != State.CONNECTED or self._rx_srtp is None:
            return
        rtcp = 192 <= data[1] <= 208
        try:
            unprotect = (
                self._rx_srtp.unprotect_rtcp if rtcp else self._rx_srtp.unprotect
            )
            plain = unprotect(data)
        except (pylibsrtp.Error, ValueError):  # the latter: longer than any packet
            return
        now = time.monotonic()
        self.heard = now
        self.received += len(data)
        try:
            (self.sink.rtcp if rtcp else self.sink.rtp)(plain, now)
        except Exception as error:
            # One packet less: what reads packets of others must not end the leg.
            self.faults += 1
            if self.faults <= MAX_FAULTS_LOGGED:
                log.warning("a packet was passed over: %s", type(error).__name__)

    async def _keep_consent(self) -> None:
        """In place of aioice's, which ends the connection after half a minute.

        It asks as that does (RFC 7675), which also keeps a NAT open; whether a silent
        leg ends is for the engine to say. The packets it goes on sending meanwhile
        are those of a member whose key was checked.
        """
        for protocol in self.ice._protocols:
            self._shorten(protocol)
        key = (self.ice.remote_password or "").encode()
        while not self.ice._closing:  # it may begin in the moment of its end
            await asyncio.sleep(CONSENT)
            for pair in list(self.ice._nominated.values()):
                request = self.ice.build_request(pair, nominate=False)
                with contextlib.suppress(TransactionError):
                    await pair.protocol.request(
                        request,
                        pair.remote_addr,
                        integrity_key=key,
                        retransmissions=0,
                    )

    def _shorten(self, protocol: aioice.ice.StunProtocol) -> None:
        """Take media before aioice tries it as STUN: that raises for each datagram."""
        received = protocol.datagram_received

        def taken(data: bytes, addr: tuple[Any, ...]) -> None:
            if data and 127 < data[0] < 192:
                self._datagram(data, protocol.local_candidate.component)
            else:
                received(data, addr)

        vars(protocol).update(datagram_received=taken)

    def send_media(self, data: bytes) -> int:
        """Protect an RTP or RTCP packet and send it; the bytes sent, 0 if not now.

        `sendto` of aioice's transports (UDP and TURN) neither waits nor raises, so
        that no task is needed for a packet.
        """
        pair = self.ice._nominated.get(1)
        if self._state != State.CONNECTED or pair is None:
            return 0
        rtcp = 192 <= data[1] <= 208
        try:
            srtp = self._tx_srtp
            data = srtp.protect_rtcp(data) if rtcp else srtp.protect(data)
            pair.protocol.transport.sendto(data, pair.remote_addr)
        except (OSError, AttributeError, ValueError, pylibsrtp.Error):
            return 0  # closed this moment, no way out of the machine, or too long
        self.sent += len(data)
        return len(data)


class Outgoing:
    """Stands where aiortc has an `RTCRtpSender`; `Sink.can_send` says when it may."""

    track = None

    def __init__(self, kind: str, transport: Transport) -> None:
        self.kind = kind
        self.transport = transport
        self._ssrc = random32()
        self._rtx_ssrc = random32()
        self._stream_id = str(uuid.uuid4())
        self._track_id = str(uuid.uuid4())
        self._enabled = True

    def setTransport(self, transport: Transport) -> None:
        self.transport = transport

    async def send(self, parameters: RTCRtpSendParameters) -> None:
        self.transport.sink.can_send(self.kind, parameters)

    async def stop(self) -> None:
        """Nothing runs here."""


class Incoming:
    """Stands where aiortc has an `RTCRtpReceiver`."""

    def __init__(self, kind: str, transport: Transport) -> None:
        self.kind = kind
        self.transport = transport
        self._track: Any = None
        self._enabled = True

    @property
    def track(self) -> Any:
        return self._track

    def setTransport(self, transport: Transport) -> None:
        self.transport = transport

    def _set_rtcp_ssrc(self, ssrc: int) -> None:
        """Reports are sent for both kinds together."""

    async def receive(self, parameters: RTCRtpReceiveParameters) -> None:
        self.transport.sink.can_receive(self.kind, parameters)

    async def stop(self) -> None:
        """Nothing runs here."""


class Line(RTCRtpTransceiver):
    """A transceiver that asks for what Opus can do, and for copies of it (RED)."""

    red: int | None = None
    """Payload type of RFC 2198 packets; aiortc knows nothing of them."""

    @property
    def _codecs(self) -> list[RTCRtpCodecParameters]:
        return self._negotiated

    @_codecs.setter
    def _codecs(self, codecs: list[RTCRtpCodecParameters]) -> None:
        self._negotiated = [
            RTCRtpCodecParameters(
                mimeType=codec.mimeType,
                clockRate=codec.clockRate,
                channels=codec.channels,
                payloadType=codec.payloadType,
                rtcpFeedback=codec.rtcpFeedback,
                parameters=dict(OPUS),
            )
            if codec.name.lower() == "opus"
            else codec
            for codec in codecs
        ]
        if self.red is not None and codecs and self.kind == "audio":
            opus = codecs[0].payloadType
            red = RTCRtpCodecParameters(
                mimeType="audio/red",
                clockRate=48_000,
                channels=2,
                payloadType=self.red,
                parameters={f"{opus}/{opus}": None},
            )
            self._negotiated.append(red)


class Peer(RTCPeerConnection):
    """One connection to one device, made of the classes above.

    Args:
        configuration: Of `media.rtc.ice.Gatherer`, which is attached afterwards.
        sink: Who takes what comes in.
    """

    transport: Transport
    # As aiortc's own code sees them; said for the type checker.
    _RTCPeerConnection__certificates: list[Any]
    _RTCPeerConnection__dtlsTransports: set[Any]
    _RTCPeerConnection__iceTransports: set[Any]
    _RTCPeerConnection__transceivers: list[Any]
    _RTCPeerConnection__updateIceGatheringState: Callable[[], None]
    _RTCPeerConnection__updateIceConnectionState: Callable[[], None]
    _RTCPeerConnection__updateConnectionState: Callable[[], None]

    def __init__(self, configuration: RTCConfiguration, sink: Sink) -> None:
        self._sink = sink
        super().__init__(configuration)

    @property
    def outgoing(self) -> dict[str, Outgoing]:
        """Our senders by kind."""
        return {line.kind: line.sender for line in self.getTransceivers()}  # type: ignore[misc]

    def add_line(self, kind: str) -> None:
        """Describe a line of sound or picture, both ways, in the codecs we use."""
        line = self.addTransceiver(kind, "sendrecv")
        wanted = ("opus",) if kind == "audio" else ("VP8", "H264", "rtx")
        usable = [c for c in get_capabilities(kind).codecs if c.name in wanted]
        usable.sort(key=lambda codec: wanted.index(codec.name))
        line.setCodecPreferences(usable)

    def set_red(self, payload_type: int | None) -> None:
        """Agree on copies of sound by this payload type, or on none."""
        for line in self.getTransceivers():
            if isinstance(line, Line):
                line.red = payload_type

    def add_channel(self) -> RTCDataChannel:
        """Describe the data channel; both sides know its number, none announces it."""
        return self.createDataChannel("telex", negotiated=True, id=0)

    async def _RTCPeerConnection__connect(self) -> None:
        # A task of aiortc, which nobody waits for: what it raises would be logged.
        with contextlib.suppress(InvalidStateError):  # closed meanwhile
            await super()._RTCPeerConnection__connect()  # type: ignore[misc]

    def _RTCPeerConnection__createTransceiver(
        self, direction: str, kind: str, sender_track: object = None
    ) -> RTCRtpTransceiver:
        lines = self._RTCPeerConnection__transceivers
        sctp = self.sctp
        bundled = bool(lines or sctp)
        if lines:
            transport = lines[0].receiver.transport
        elif sctp:
            transport = sctp.transport
        else:
            transport = self._RTCPeerConnection__createDtlsTransport()
        line = Line(
            direction=direction,
            kind=kind,
            sender=Outgoing(kind, transport),  # type: ignore[arg-type]
            receiver=Incoming(kind, transport),  # type: ignore[arg-type]
        )
        line._bundled = bundled
        lines.append(line)
        return line

    def _RTCPeerConnection__createDtlsTransport(self) -> Transport:
        gatherer = RTCIceGatherer(iceServers=[])
        gatherer.on("statechange", self._RTCPeerConnection__updateIceGatheringState)
        ice = RTCIceTransport(gatherer)
        ice.on("statechange", self._RTCPeerConnection__updateIceConnectionState)
        ice.on("statechange", self._RTCPeerConnection__updateConnectionState)
        self._RTCPeerConnection__iceTransports.add(ice)
        certificates = self._RTCPeerConnection__certificates
        self.transport = Transport(ice, certificates, self._sink)
        self.transport.on("statechange", self._RTCPeerConnection__updateConnectionState)
        self._RTCPeerConnection__dtlsTransports.add(self.transport)
        return self.transport
