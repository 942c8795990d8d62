"""The inbox alone: limits, credit, isolation of streams."""

import pytest

from federation import inbox as inbox_module
from federation.inbox import APPLYING_MAX, PUSH_ENTRIES
from protocol.errors import BadRequest
from protocol.log import LogId
from protocol.wire import Push, Stream, StreamAck
from tests.federation.link import FOLLOWER, HUB, Link


async def streams(link: Link, *sizes: int) -> list[Stream]:
    for n, size in enumerate(sizes):
        log = link.hub.room(f"room {n}", [FOLLOWER])
        link.hub.append(log, *(b"%d" % i for i in range(size)))
    pending = await link.hub.pending_streams(FOLLOWER, 10_000, 10_000_000)
    return [link.signer.stream(one, 1.0) for one in pending]


async def test_one_bad_stream_is_its_own_problem() -> None:
    link = Link([])
    good, bad, also = await streams(link, 5, 5, 5)
    bad.entries[2] = b"tampered"
    answer = await link.inbox.receive(HUB, Push([good, bad, also]))
    problems = [ack.problem and ack.problem.code for ack in answer.acks]
    assert problems == [None, "bad_checkpoint", None]
    assert [ack.seq for ack in answer.acks] == [5, 0, 5]
    assert bad.log not in link.follower.copies


async def test_a_fork_is_refused() -> None:
    link, liar = Link([]), Link([])
    (true,) = await streams(link, 5)
    liar.hub.room("room 0", [FOLLOWER])
    liar.hub.append(true.log, *(b"lie %d" % i for i in range(7)))
    (pending,) = await liar.hub.pending_streams(FOLLOWER, 10, 10_000)
    lie = link.signer.stream(pending, 1.0)
    assert (await link.inbox.receive(HUB, Push([true]))).acks[0].seq == 5
    before = list(link.follower.copies[true.log].entries)
    (ack,) = (await link.inbox.receive(HUB, Push([lie]))).acks
    assert ack.problem is not None and ack.problem.code == "log_forked"
    assert link.follower.copies[true.log].entries == before


async def test_a_room_of_another_hub_is_not_taken() -> None:
    link = Link([])
    (stream,) = await streams(link, 1)
    link.follower.room("room 0", [])
    (ack,) = (await link.inbox.receive(HUB, Push([stream]))).acks
    assert ack.problem is not None and ack.problem.code == "not_allowed"


async def test_a_stream_of_a_peer_that_is_not_pinned_is_refused() -> None:
    link = Link([])
    (stream,) = await streams(link, 1)
    (ack,) = (await link.inbox.receive("other.example", Push([stream]))).acks
    assert ack.problem is not None and ack.problem.code == "peer_untrusted"


async def test_a_fault_of_ours_is_that_streams_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    link = Link([])
    one, two = await streams(link, 1, 1)
    honest = link.follower.receive_copy

    async def faulty(peer: str, stream: Stream) -> StreamAck:
        if stream.log == one.log:
            raise RuntimeError("disk on fire")
        return await honest(peer, stream)

    link.follower.receive_copy = faulty  # type: ignore[method-assign]
    answer = await link.inbox.receive(HUB, Push([one, two]))
    assert [a.problem and a.problem.code for a in answer.acks] == ["node_fault", None]
    assert answer.acks[0].problem is not None
    assert "fire" not in answer.acks[0].problem.detail
    assert "could not apply" in caplog.text


async def test_limits_of_a_push() -> None:
    link = Link([])
    (stream,) = await streams(link, 1)
    other = LogId("b" * 52)
    full = Stream(other, 0, bytes(32), [b""] * 1001, 1001, stream.checkpoint)
    fat = Stream(other, 0, bytes(32), [bytes(1 << 19)] * 3, 3, stream.checkpoint)
    many = [Stream(LogId(str(n)), 0, b"", [], 0, stream.checkpoint) for n in range(201)]
    for push in ([stream, stream], [full], [fat], many):
        with pytest.raises(BadRequest):
            await link.inbox.receive(HUB, Push(push))
    assert not link.follower.copies and link.inbox.credit() == PUSH_ENTRIES


async def test_an_empty_push_is_a_probe() -> None:
    link = Link([])
    answer = await link.inbox.receive(HUB, Push([]))
    assert (answer.acks, answer.credit) == ([], PUSH_ENTRIES)


async def test_a_full_inbox_takes_nothing_and_gives_no_credit() -> None:
    link = Link([])
    (stream,) = await streams(link, 5)
    link.inbox._applying = APPLYING_MAX
    answer = await link.inbox.receive(HUB, Push([stream]))
    assert (answer.acks, answer.credit) == ([], 0)
    assert not link.follower.copies


async def test_a_slow_store_leaves_the_rest_for_the_next_push(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    link = Link([])
    one, two, three = await streams(link, 1, 1, 1)
    honest = link.follower.receive_copy

    async def slow(peer: str, stream: Stream) -> StreamAck:
        link.clock.advance(inbox_module.APPLY_TIME * 0.6)
        return await honest(peer, stream)

    link.follower.receive_copy = slow  # type: ignore[method-assign]
    answer = await link.inbox.receive(HUB, Push([one, two, three]))
    assert [ack.log for ack in answer.acks] == [one.log, two.log]


async def test_only_a_gap_that_comes_again_is_pulled() -> None:
    link = Link([])
    (stream,) = await streams(link, 10)
    wanted: list[tuple[int, int]] = []
    link.inbox._want = lambda peer, log, have, upto: wanted.append((have, upto))
    await link.inbox.receive(HUB, Push([stream]))
    copy = link.follower.copies[stream.log]
    link.hub.cursors[FOLLOWER, stream.log] = 10
    link.hub.append(stream.log, b"new")
    (pending,) = await link.hub.pending_streams(FOLLOWER, 10, 1000)
    ahead = link.signer.stream(pending, 1.0)
    del copy.entries[4:], copy.hashes[5:]
    assert (await link.inbox.receive(HUB, Push([ahead]))).acks[0].seq == 4
    assert wanted == []
    assert (await link.inbox.receive(HUB, Push([ahead]))).acks[0].seq == 4
    assert wanted == [(4, 10)]
