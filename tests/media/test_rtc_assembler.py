"""Pictures from packets: order, losses, and when to stop waiting."""

import pytest

pytest.importorskip("aiortc", reason="calls need: pip install 'telex[calls]'")

import random

from hypothesis import given
from hypothesis import strategies as st

from media.rtc.assembler import MAX_PARTS, Assembler, Part
from tests.helpers.fuzz import fuzzing


def parts(
    pictures: int, each: int = 3, keys: tuple[int, ...] = (0,), at: int = 1000
) -> list[tuple[int, Part]]:
    """Numbered packets of pictures; each packet holds its picture and its place."""
    return [
        (
            at + picture * each + place,
            Part(
                picture * 6000,
                place == each - 1,
                picture in keys and place == 0,
                bytes([picture % 256, place]),
            ),
        )
        for picture in range(pictures)
        for place in range(each)
    ]


def whole(picture: int, each: int = 3) -> bytes:
    return b"".join(bytes([picture % 256, place]) for place in range(each))


def feed(
    assembler: Assembler, packets: list[tuple[int, Part]], now: float
) -> list[bytes]:
    out = []
    for number, part in packets:
        out += [picture.data for picture in assembler.put(number, part, now)]
    return out


def test_a_picture_is_released_with_its_last_packet() -> None:
    assembler = Assembler()
    counts = [len(assembler.put(n, part, 0.0)) for n, part in parts(2)]
    assert counts == [0, 0, 1, 0, 0, 1]


def test_a_lost_packet_is_asked_for_each_round_trip_then_given_up() -> None:
    assembler = Assembler()
    packets = parts(3)
    lost = packets.pop(4)
    assert feed(assembler, packets, 0.0) == [whole(0)]
    asked = []
    for step in range(60):
        now = step * 0.01
        assembler.put(*packets[-1], now)  # packets go on coming
        missing, key = assembler.requests(now, 0.1)
        if missing:
            assert missing == [lost[0]]
            asked.append(now)
        if key:
            break
    assert asked == pytest.approx([0.0, 0.1, 0.2, 0.3], abs=0.02)
    assert now == pytest.approx(0.4)
    assert assembler.lost == 1
    # Nothing but a key frame is shown from now on, and it is asked for sparingly.
    assert feed(assembler, parts(3, keys=(), at=1009), 0.5) == []
    assert assembler.requests(0.5, 0.1) == ([], False)
    assert assembler.requests(0.71, 0.1) == ([], True)
    assert feed(assembler, parts(2, at=1018), 0.8) == [whole(0), whole(1)]


def test_five_requests_at_most() -> None:
    assembler = Assembler()
    packets = parts(2)
    del packets[4]
    feed(assembler, packets, 0.0)
    asked = sum(bool(assembler.requests(now / 200, 0.0)[0]) for now in range(80))
    assert asked == 5


def test_what_comes_again_fills_the_gap() -> None:
    assembler = Assembler()
    packets = parts(4)
    late = [packets.pop(7), packets.pop(4)]
    assert feed(assembler, packets, 0.0) == [whole(0)]
    assert assembler.requests(0.0, 0.05)[0] == [1004, 1007]
    assert feed(assembler, late[::-1], 0.1) == [whole(1), whole(2), whole(3)]
    assert assembler.requests(0.5, 0.05) == ([], False)


def test_a_whole_key_frame_ends_the_waiting() -> None:
    assembler = Assembler()
    packets = parts(4, keys=(0, 2))
    del packets[4]
    assert feed(assembler, packets, 0.0) == [whole(0), whole(2), whole(3)]
    assert assembler.requests(0.1, 0.05) == ([], False)


def test_nothing_is_shown_before_a_key_frame_and_one_is_asked_for() -> None:
    assembler = Assembler()
    assert feed(assembler, parts(2, keys=()), 0.0) == []
    assert assembler.requests(0.0, 0.05) == ([], True)
    assert assembler.requests(0.1, 0.05) == ([], False)
    assert assembler.requests(5.0, 0.05) == ([], False)  # nothing comes: camera off


def test_no_second_key_frame_is_asked_for_while_one_arrives() -> None:
    assembler = Assembler()
    feed(assembler, parts(1, keys=()), 0.0)
    assert assembler.requests(0.0, 0.05)[1]
    feed(assembler, parts(1, each=9, at=1003)[:4], 0.35)
    assert assembler.requests(0.36, 0.05) == ([], False)


def test_a_key_frame_whose_first_packet_is_late_is_whole() -> None:
    assembler = Assembler()
    packets = parts(2)
    assert feed(assembler, [*packets[1:3], packets[0], *packets[3:]], 0.0) == [
        whole(0),
        whole(1),
    ]


def test_twice_and_too_late_change_nothing() -> None:
    assembler = Assembler()
    packets = parts(3)
    assert feed(assembler, packets + packets, 0.0) == [whole(n) for n in range(3)]


def test_nonsense_ahead_is_forgotten() -> None:
    assembler = Assembler()
    nonsense = [(1400, Part(0, True, True, b"x"))]
    shown = feed(assembler, parts(2) + nonsense + parts(20, at=1006, keys=(15,)), 0.0)
    assert shown[:3] == [whole(0), whole(1), b"x"]
    assert shown[-1] == whole(19)


@pytest.mark.fuzz
@fuzzing
@given(st.integers(0, 2**32))
def test_whatever_order_what_is_shown_is_whole_in_order_and_bounded(seed: int) -> None:
    rng = random.Random(seed)
    packets = parts(40, each=rng.randrange(1, 5), keys=(0, 20, 30))
    each = len(packets) // 40
    packets = [p for p in packets if rng.random() > 0.1]
    packets.sort(key=lambda p: p[0] + rng.random() * 8)
    packets += [
        (rng.randrange(2**20), Part(1, rng.random() < 0.5, rng.random() < 0.5, b"x"))
        for _ in range(rng.randrange(3))
    ]
    assembler = Assembler()
    shown = []
    for index, (number, part) in enumerate(packets):
        now = index * 0.01
        shown += assembler.put(number, part, now)
        assembler.requests(now, 0.02)
        assert len(assembler._parts) <= MAX_PARTS
        assert len(assembler._missing) <= 1024
    ours = [p.data for p in shown if p.data[:1] != b"x"]
    assert all(data == whole(data[0], each) for data in ours)
    assert [d[0] for d in ours] == sorted(d[0] for d in ours)
