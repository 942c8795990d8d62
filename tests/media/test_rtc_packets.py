"""RTP and RTCP on the wire, our own against aiortc's, and against noise."""

import pytest

pytest.importorskip("aiortc", reason="calls need: pip install 'telex[calls]'")

from aiortc.codecs.vpx import VpxPayloadDescriptor
from aiortc.rtp import (
    HeaderExtensionsMap,
    RtcpPacket,
    RtcpPsfbPacket,
    RtcpRtpfbPacket,
    RtpPacket,
    unpack_remb_fci,
)
from hypothesis import given
from hypothesis import strategies as st

from media.rtc import channel, rtp
from media.rtc.codec import Encoder, read_part, read_vp8
from media.rtc.reception import Reception
from tests.helpers.fuzz import fuzzing

WORD = st.integers(0, 2**32 - 1)


@given(
    st.integers(0, 127),
    st.booleans(),
    st.integers(0, 65_535),
    WORD,
    WORD,
    st.binary(max_size=200),
    st.integers(0, 14),
    st.integers(0, 2**24 - 1),
)
def test_a_packet_is_read_as_it_was_written_and_by_aiortc_too(
    payload_type: int,
    marker: bool,
    seq: int,
    timestamp: int,
    ssrc: int,
    payload: bytes,
    time_id: int,
    sent: int,
) -> None:
    data = rtp.pack(payload_type, marker, seq, timestamp, ssrc, payload, time_id, sent)
    packet = rtp.parse(data, time_id)
    assert packet == rtp.Packet(
        payload_type, marker, seq, timestamp, ssrc, payload, sent if time_id else None
    )
    theirs = RtpPacket.parse(data, HeaderExtensionsMap())
    assert (theirs.payload_type, theirs.marker) == (payload_type, marker)
    assert (theirs.sequence_number, theirs.timestamp) == (seq, timestamp)
    assert (theirs.ssrc, theirs.payload) == (ssrc, payload)


@pytest.mark.fuzz
@fuzzing
@given(st.binary(max_size=80), st.integers(0, 15))
def test_noise_is_a_packet_or_none(data: bytes, time_id: int) -> None:
    for noise in (data, b"\x90" + data, b"\xbf" + data):
        packet = rtp.parse(noise, time_id)
        if packet is not None:
            assert len(packet.payload) <= len(noise) - 12
            for codec in ("VP8", "H264"):
                read_part(codec, packet)


@given(st.lists(st.integers(0, 300), unique=True, max_size=64), st.integers(0, 2**20))
def test_all_missing_packets_are_asked_for(offsets: list[int], begin: int) -> None:
    missing = sorted(begin + offset for offset in offsets)
    (packet,) = RtcpPacket.parse(rtp.nack(7, 9, missing))
    assert isinstance(packet, RtcpRtpfbPacket)
    assert (packet.ssrc, packet.media_ssrc, packet.fmt) == (7, 9, 1)
    assert sorted(packet.lost) == sorted(n & 0xFFFF for n in missing) or any(
        n & 0xFFFF > 0xFFF0
        for n in missing  # aiortc counts on past 65,535
    )


@given(st.integers(1, 50_000_000))
def test_a_bitrate_is_said_to_within_a_thousandth(bitrate: int) -> None:
    (packet,) = RtcpPacket.parse(rtp.remb(1, bitrate, [2, 3]))
    assert isinstance(packet, RtcpPsfbPacket)
    said, ssrcs = unpack_remb_fci(packet.fci)
    assert ssrcs == [2, 3]
    assert bitrate * 0.999 <= said <= bitrate


def test_a_key_frame_request_is_one() -> None:
    (packet,) = RtcpPacket.parse(rtp.pli(1, 2))
    assert packet == RtcpPsfbPacket(fmt=1, ssrc=1, media_ssrc=2)


def test_vp8_is_split_and_joined_again() -> None:
    data = bytes(range(256)) * 20
    payloads = Encoder("VP8")._split(data)
    assert max(map(len, payloads)) - min(map(len, payloads)) < 64
    parts = [read_vp8(payload) for payload in payloads]
    assert [start for start, _ in parts] == [True] + [False] * (len(parts) - 1)
    assert b"".join(part for _, part in parts) == data
    for payload in payloads:
        descriptor, _ = VpxPayloadDescriptor.parse(payload)
        assert descriptor.picture_id is not None


@given(st.binary(max_size=30))
def test_vp8_is_read_as_aiortc_reads_it(payload: bytes) -> None:
    start, data = read_vp8(payload)
    try:
        descriptor, theirs = VpxPayloadDescriptor.parse(payload)
    except ValueError:
        return
    assert data == theirs
    # A picture begins in its first partition only (RFC 7741, section 4.4).
    assert start == (descriptor.partition_start == 1 and payload[0] & 7 == 0)


def test_losses_and_jitter_are_counted_past_the_wraparound() -> None:
    reception = Reception(5, 48_000)
    for index in range(200):
        if index % 10 != 3:
            seq = (65_500 + index) & 0xFFFF
            reception.add(seq, index * 960, 100 + index * 0.02)
    assert reception.loss() == (20, 200)
    assert reception.loss() == (0, 0)
    report = reception.report(200.0)
    assert report.packets_lost == 20
    assert report.fraction_lost == 256 // 10
    assert report.jitter < 5
    assert reception.report(200.0).fraction_lost == 0


def test_a_stream_that_begins_anew_has_lost_nothing() -> None:
    reception = Reception(5, 48_000)
    for seq in (10, 11, 12, 40_000, 40_001):
        reception.add(seq, seq * 960, seq * 0.02)
    assert reception.expected == 2
    assert reception.report(0).packets_lost == 0


@pytest.mark.parametrize(
    "message", [channel.Bye(), channel.State(), channel.State(True, True, True, True)]
)
def test_what_is_said_is_heard(message: channel.Message) -> None:
    assert channel.read(channel.write(message)) == message


@pytest.mark.parametrize(
    "data",
    ["text", None, b"", b"\x91", b"\xc1", bytes(257), b"\x91\xa3byee", b"\x91\xa1\xa3"],
)
def test_what_is_none_of_ours_is_passed_over(data: object) -> None:
    assert channel.read(data) is None


@pytest.mark.fuzz
@fuzzing
@given(st.binary(max_size=300))
def test_noise_on_the_data_channel_is_passed_over(data: bytes) -> None:
    message = channel.read(data)
    assert message is None or isinstance(message, channel.State | channel.Bye)
