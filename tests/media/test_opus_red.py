"""Redundancy: what is packed is what is taken apart; hostile packets are refused."""

from hypothesis import given
from hypothesis import strategies as st

from media.audio.red import MOST, MTU, Copy, Redundancy, parse
from tests.helpers.fuzz import fuzzing

OPUS = 111


def lossy() -> Redundancy:
    red = Redundancy(OPUS)
    red.tune(0.1)
    return red


def test_each_packet_carries_the_two_before() -> None:
    red = lossy()
    assert parse(red.wrap(b"one", 960), OPUS) == (b"one", [])
    assert parse(red.wrap(b"two", 1920), OPUS) == (b"two", [Copy(1, 960, b"one")])
    third = red.wrap(b"three", 2880)
    copies = [Copy(2, 1920, b"one"), Copy(1, 960, b"two")]
    assert parse(third, OPUS) == (b"three", copies)


def test_it_looks_as_rfc_2198_says() -> None:
    red = lossy()
    red.wrap(b"ab", 0xFFFF_FFFF - 959)
    packet = red.wrap(b"xyz", 0)
    # F=1, type 111, 14 bits of offset 960, 10 bits of length 2; F=0, type 111.
    assert packet == bytes([0x80 | 111, 0x0F, 0x00, 0x02, 111]) + b"abxyz"


def test_without_loss_nothing_is_carried_and_it_does_not_flutter() -> None:
    red = Redundancy(OPUS)
    carried = []
    for number, loss in enumerate([0, 0.03, 0.05, 0.03, 0.01, 0.03]):
        red.tune(loss)
        _, copies = parse(red.wrap(b"p", number * 960), OPUS) or (b"", [])
        carried.append(len(copies))
    assert carried == [0, 0, 2, 2, 0, 0]


def test_after_a_silence_no_copy_is_too_far_back() -> None:
    red = lossy()
    red.wrap(b"one", 0)
    assert parse(red.wrap(b"two", 48_000), OPUS) == (b"two", [])
    assert parse(red.wrap(b"three", 48_960), OPUS) == (b"three", [Copy(1, 960, b"two")])


def test_packets_stay_below_the_mtu() -> None:
    red = lossy()
    for number in range(5):
        packet = red.wrap(bytes(500), number * 960)
        assert len(packet) <= MTU + 1
        assert parse(packet, OPUS) is not None


def test_bad_packets_are_refused() -> None:
    red = lossy()
    red.wrap(b"one", 0)
    good = red.wrap(b"two", 960)
    for size in range(len(good) - 2):
        assert parse(good[:size], OPUS) is None
    assert parse(good, OPUS + 1) is None
    assert parse(bytes([0xEF, 0, 0, 0]) * (MOST + 1) + bytes([OPUS, 1]), OPUS) is None


@fuzzing
@given(packet=st.binary(max_size=200))
def test_fuzz_parse(packet: bytes) -> None:
    parsed = parse(packet, OPUS)
    if parsed is not None:
        payload, copies = parsed
        assert payload
        assert len(copies) <= MOST
        assert len(payload) + sum(len(copy.payload) for copy in copies) < len(packet)
        assert all(copy.payload and copy.back > 0 < copy.earlier for copy in copies)


@fuzzing
@given(payloads=st.lists(st.binary(min_size=1, max_size=1200), max_size=10))
def test_fuzz_what_is_wrapped_is_understood(payloads: list[bytes]) -> None:
    red = lossy()
    for number, payload in enumerate(payloads):
        parsed = parse(red.wrap(payload, number * 960), OPUS)
        assert parsed is not None
        assert parsed[0] == payload
        for copy in parsed[1]:
            assert copy.payload == payloads[number - copy.back]
            assert copy.earlier == copy.back * 960
