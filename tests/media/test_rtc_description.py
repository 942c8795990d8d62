"""Descriptions of the other side: what is refused, and that nothing else happens."""

import pytest

pytest.importorskip("aiortc", reason="calls need: pip install 'telex[calls]'")

import asyncio
import random

from hypothesis import given
from hypothesis import strategies as st

from media.port import Ice, MediaError
from media.rtc import description
from media.rtc.leg import Leg
from tests.helpers.fuzz import fuzzing
from tests.media.legs import Picture


async def make_offer() -> str:
    leg = Leg("a", Ice(), lambda event: None, Picture(), lambda frame: None)
    try:
        return await leg.offer()
    finally:
        await leg.close()


OFFER = asyncio.run(make_offer())
LINES = OFFER.splitlines()
FINGERPRINT = next(line for line in LINES if line.startswith("a=fingerprint"))
OTHER = "a=fingerprint:sha-256 " + ":".join(["AB"] * 32)


def test_ours_is_small_complete_and_passes() -> None:
    assert len(OFFER) < 4_000
    for needed in (
        "a=rtpmap:63 red/48000/2",
        "a=fmtp:63 96/96",
        "minptime=10;useinbandfec=1;usedtx=1",
        "a=rtpmap:96 opus/48000/2",
        "VP8/90000",
        "H264/90000",
        "webrtc-datachannel",
        "a=group:BUNDLE 0 1 2",
    ):
        assert needed in OFFER
    for unwanted in ("PCMU", "G722", "sha-512", "end-of-candidates"):
        assert unwanted not in OFFER
    assert OFFER.count("a=sendrecv") == 2
    read = description.read(OFFER, "bad_offer")
    assert read.kinds == ("audio", "video", "application")
    assert read.candidates
    assert read.red == 63
    without = OFFER.replace("red/48000", "rad/48000")
    assert description.read(without, "bad_offer").red is None
    assert "a=candidate" not in read.text


def changed(old: str, new: str) -> str:
    assert old in OFFER
    return OFFER.replace(old, new)


BAD = {
    "nothing": "",
    "no sound": "\r\n".join(LINES).split("m=audio")[0],
    "too long": OFFER + "a=x:" + "y" * 40_000,
    "too many lines": OFFER + "a=x\r\n" * 700,
    "a long line": OFFER + "a=" + "x" * 1_100,
    "no fingerprint": changed(FINGERPRINT + "\r\n", ""),
    "two fingerprints": OFFER.replace(FINGERPRINT, OTHER, 1),
    "a second fingerprint": OFFER + OTHER + "\r\n",
    "another algorithm": changed("sha-256", "sha-1"),
    "a short fingerprint": changed(FINGERPRINT, FINGERPRINT[:-3]),
    "no bundle": changed("a=group:BUNDLE 0 1 2", "a=x"),
    "a bundle of two": changed("BUNDLE 0 1 2", "BUNDLE 0 1"),
    "no opus": changed("opus/48000/2", "opvs/48000/2"),
    "no codec for pictures": changed("VP8/9", "VPX/9").replace("H264/9", "HX/9"),
    "no password": changed("a=ice-pwd:", "a=ice-xwd:"),
    "no mux": changed("a=rtcp-mux", "a=x"),
    "no role": changed("a=setup:", "a=sotup:"),
    "no direction": changed("a=sendrecv", "a=x"),
    "two lines of sound": OFFER + "m=audio" + OFFER.split("m=audio")[1].split("m=")[0],
    "a huge ssrc": changed("a=ssrc:", "a=ssrc:99"),
    "no payload type": changed("a=rtpmap:96", "a=rtpmap:nine"),
    "control characters in mid": changed("a=mid:0", "a=mid:\x01"),
}


@pytest.mark.parametrize("sdp", BAD.values(), ids=BAD.keys())
async def test_a_bad_offer_is_refused_with_a_sentence(sdp: str) -> None:
    leg = Leg("b", Ice(), lambda event: None, Picture(), lambda frame: None)
    with pytest.raises(MediaError) as error:
        await leg.answer(sdp)
    assert error.value.code == "bad_offer"
    assert str(error.value).endswith(".")
    await leg.close()


async def test_a_bad_answer_is_refused_too() -> None:
    leg = Leg("a", Ice(), lambda event: None, Picture(), lambda frame: None)
    await leg.offer()
    with pytest.raises(MediaError) as error:
        await leg.accept(OFFER)  # an offer is no answer: who begins DTLS is open
    assert error.value.code == "bad_answer"
    await leg.close()


GOOD = "candidate:1 1 udp 2130706431 192.0.2.7 5000 typ host"


@pytest.mark.parametrize(
    ("line", "usable"),
    [
        (GOOD, True),
        ("a=" + GOOD, True),
        (GOOD + " generation 0 ufrag abcd", True),
        (GOOD.replace(" udp ", " UDP "), True),
        (GOOD.replace("host", "srflx raddr 10.0.0.1 rport 9"), True),
        (GOOD.replace(" udp ", " tcp "), False),
        (GOOD.replace("1 1 udp", "1 2 udp"), False),
        (GOOD.replace("5000", "0"), False),
        (GOOD.replace("5000", "70000"), False),
        (GOOD.replace("2130706431", "9" * 11), False),
        (GOOD + " " + "x" * 2_000, False),
        ("", False),
        ("candidate:", False),
        ("candidate:1 1 udp 1 239.255.255.250 1900 typ host", False),
        ("candidate:1 1 udp 1 ff02::1 1900 typ host", False),
        ("candidate:1 1 udp 1 0.0.0.0 1900 typ host", False),
        ("candidate:1 1 udp 1 ::ffff:224.0.0.251 5353 typ host", False),
        ("candidate:1 1 udp 1 255.255.255.255 9 typ host", False),
    ],
)
def test_a_candidate_is_used_or_passed_over(line: str, usable: bool) -> None:
    assert (description.read_candidate(line) is not None) == usable


@pytest.mark.fuzz
@fuzzing
@given(st.text(max_size=300), st.integers(0, 2**32))
def test_broken_descriptions_never_raise_anything_else(text: str, seed: int) -> None:
    rng = random.Random(seed)
    lines = list(LINES)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(lines))
        match rng.randrange(5):
            case 0:
                lines[at] = text
            case 1:
                del lines[at]
            case 2:
                lines.insert(at, rng.choice(LINES))
            case 3:
                cut = rng.randrange(len(lines[at]) + 1)
                lines[at] = lines[at][:cut] + text[:20] + lines[at][cut:]
            case 4:
                lines[at] = lines[at][: rng.randrange(len(lines[at]) + 1)]
    try:
        read = description.read("\r\n".join(lines), "bad_offer")
    except MediaError as error:
        assert error.code == "bad_offer"
    else:
        assert read.text.count("a=fingerprint:sha-256") >= 1
        assert len(set(read.kinds)) == len(read.kinds)
    description.read_candidate(text)


@pytest.mark.fuzz
async def test_descriptions_that_pass_make_a_leg_or_an_error() -> None:
    """What `read` lets through is given to aiortc: it may refuse, not break us."""
    rng = random.Random(7)
    for _ in range(40):
        lines = list(LINES)
        for _ in range(rng.randrange(1, 3)):
            at = rng.randrange(len(lines))
            cut = rng.randrange(len(lines[at]) + 1)
            lines[at] = lines[at][:cut] + rng.choice(["", "0", " ", "x", ":9"])
        leg = Leg("b", Ice(), lambda event: None, Picture(), lambda frame: None)
        try:
            await leg.answer("\r\n".join(lines))
        except MediaError as error:
            assert error.code == "bad_offer"
        finally:
            await leg.close()
