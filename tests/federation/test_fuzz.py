"""Fuzzing what peers can make us decode: pushes, documents, answers, refusals.

In `make tests` a few hundred cases; `make fuzz` (TELEX_FUZZ=1) many more.
"""

import asyncio
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from federation.checkpoint import check_stream
from federation.pinning import PeerBook
from federation.refusal import read_refusal
from protocol.codec import decode, decode_json, encode, encode_json
from protocol.errors import IdentityError, Malformed, Refused
from protocol.key import sign
from protocol.wire import NodeDocument, Push, PushAck
from tests.federation.clock import FakeClock
from tests.federation.link import FOLLOWER, HUB, Link
from tests.federation.memory import MemoryStore
from tests.federation.nodes import keypair

pytestmark = pytest.mark.fuzz

fuzz = settings(
    max_examples=20_000 if os.environ.get("TELEX_FUZZ") else 150,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70).filter(lambda n: -(1 << 63) <= n < 1 << 64)
    | st.floats()
    | st.text(max_size=60)
    | st.binary(max_size=70),
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.dictionaries(st.text(max_size=12), inner, max_size=6)
    ),
    max_leaves=30,
)
fields = st.sampled_from(
    ["log", "after", "previous", "entries", "head", "checkpoint", "streams"]
)


async def honest() -> tuple[Link, bytes]:
    link = Link([])
    for n in range(2):
        log = link.hub.room(f"room {n}", [FOLLOWER])
        link.hub.append(log, *(b"%d" % i for i in range(3)))
    link.hub.send_out(FOLLOWER, b"mail")
    pending = await link.hub.pending_streams(FOLLOWER, 100, 100_000)
    return link, encode(Push([link.signer.stream(p, 1.0) for p in pending]))


def take(link: Link, body: bytes) -> PushAck | None:
    """What the server does with a body; only these errors are answers."""
    try:
        push = decode(body, Push)
        return asyncio.run(link.inbox.receive(HUB, push))
    except (Malformed, Refused):
        return None


@given(st.binary(max_size=400))
@fuzz
def test_any_bytes(body: bytes) -> None:
    link, _ = asyncio.run(honest())
    assert take(link, body) is None
    assert not link.follower.copies


@given(st.data())
@fuzz
def test_an_honest_push_with_bytes_changed(data: st.DataObject) -> None:
    link, body = asyncio.run(honest())
    changed = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(changed) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "insert"])):
            case "flip":
                changed[place] ^= data.draw(st.integers(1, 255))
            case "cut":
                del changed[place : place + data.draw(st.integers(1, 9))]
            case "insert":
                changed[place:place] = data.draw(st.binary(max_size=9))
        if not changed:
            break
    answer = take(link, bytes(changed))
    held_by_hub_alone(link, answer)


@given(st.data())
@fuzz
def test_an_honest_push_with_a_field_replaced(data: st.DataObject) -> None:
    link, body = asyncio.run(honest())
    push: Any = decode(body, dict)
    target = data.draw(st.sampled_from([push, *push["streams"]]))
    target[data.draw(fields)] = data.draw(anything)
    held_by_hub_alone(link, take(link, encode(push)))


def held_by_hub_alone(link: Link, answer: PushAck | None) -> None:
    """Whatever was taken in is a prefix of what the hub has."""
    for log, copy in link.follower.copies.items():
        assert copy.entries == link.hub.logs[log].entries[copy.base : copy.head]
    for ack in answer.acks if answer else []:
        if ack.problem is None:
            assert ack.seq <= link.hub.logs[ack.log].head
        else:
            assert ack.problem.code != "node_fault", ack.problem


@given(anything | st.builds(encode_json, anything))
@fuzz
def test_documents(value: object) -> None:
    try:
        body = value if isinstance(value, bytes) else encode_json(value)
    except Exception:
        return
    try:
        document = decode_json(body, NodeDocument)
    except Malformed:
        return
    book = PeerBook(MemoryStore("x.example"), FakeClock())
    with pytest.raises(Refused):
        asyncio.run(book.pin("hub.example", document))


@given(st.integers(100, 599), st.text(max_size=40), st.binary(max_size=200))
@fuzz
def test_refusals(status: int, media: str, body: bytes) -> None:
    for kind in (media, "application/problem+json"):
        fields = {"Content-Type": kind, "Retry-After": media}
        error = read_refusal(status, fields, body)
        assert isinstance(error, Refused) and str(error).isprintable()


@given(anything)
@fuzz
def test_problem_documents(value: object) -> None:
    if not isinstance(value, dict):
        value = {"detail": value}
    problem = {"code": "too_many", "title": "t", "status": 429} | value
    try:
        body = encode_json(problem)
    except Exception:
        return
    fields = {"Content-Type": "application/problem+json"}
    assert str(read_refusal(429, fields, body)).isprintable()


@given(anything)
@fuzz
def test_checkpoints(payload: object) -> None:
    """Signed by the owner's key, holding anything."""
    link, body = asyncio.run(honest())
    owner = PeerBook(link.follower, link.clock).identity(link.follower.peers[HUB])
    stream = decode(body, Push).streams[0]
    stream.checkpoint.payload = encode(payload)

    signature = sign("checkpoint", keypair("hub"), stream.checkpoint.payload)
    stream.checkpoint.signature = signature
    try:
        check_stream(stream, owner)
    except Refused as error:
        assert error.code == "bad_checkpoint"
    except IdentityError:  # pragma: no cover
        pytest.fail("an error that is no refusal")
