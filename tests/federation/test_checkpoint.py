"""The check of a stream: refusals outnumber what passes."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from federation.checkpoint import ENTRY_MAX, check_stream
from federation.ports import PendingStream
from federation.signer import NodeSigner
from protocol.codec import encode
from protocol.errors import BadCheckpoint, Refused
from protocol.key import sign
from protocol.limits import BATCH_BYTES, BATCH_ENTRIES
from protocol.log import GENESIS, Checkpoint, LogId, chain
from protocol.node_identity import NodeIdentity, begin_node_log, read_node_log
from protocol.wire import SignedCheckpoint, Stream
from tests.federation.nodes import keypair

NAME = "hub.example"
KEY = keypair("hub")
LOG = LogId("a" * 52)
OWNER: NodeIdentity = read_node_log(
    NAME, [begin_node_log(NAME, KEY, keypair("recovery").public, 1)]
)


def stream(
    entries: list[bytes] | None = None, after: int = 3, log: LogId = LOG
) -> Stream:
    entries = entries if entries is not None else [b"one", b"two", b"\xff"]
    digest = GENESIS
    for entry in entries:
        digest = chain(digest, entry)
    head = after + len(entries)
    pending = PendingStream(log, after, GENESIS, entries, head, 1, digest)
    return NodeSigner(NAME, KEY).stream(pending, 1.0)


def resigned(**changes: Any) -> Callable[[Stream], Stream]:
    """A checkpoint that says something else, properly signed."""

    def change(whole: Stream) -> Stream:
        fields: dict[str, Any] = {"log": LOG, "term": 1, "seq": 6}
        fields |= {"hash": b"", "time": 1} | changes
        payload = encode(Checkpoint(**fields))
        signed = SignedCheckpoint(
            payload, OWNER.keyid, sign("checkpoint", KEY, payload)
        )
        return msgspec.structs.replace(whole, checkpoint=signed)

    return change


def checkpoint(**changes: Any) -> Callable[[Stream], Stream]:
    def change(whole: Stream) -> Stream:
        changed = msgspec.structs.replace(whole.checkpoint, **changes)
        return msgspec.structs.replace(whole, checkpoint=changed)

    return change


def field(**changes: Any) -> Callable[[Stream], Stream]:
    return lambda whole: msgspec.structs.replace(whole, **changes)


def other_label(whole: Stream) -> Stream:
    payload = whole.checkpoint.payload
    return checkpoint(signature=sign("answer", KEY, payload))(whole)


def test_an_honest_stream_passes() -> None:
    check_stream(stream(), OWNER)
    check_stream(stream([b"x"] * BATCH_ENTRIES, after=0), OWNER)
    check_stream(stream([bytes(BATCH_BYTES + 100)]), OWNER)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (field(entries=[b"one", b"two", b"\xfe"]), "bad_checkpoint"),
        (field(entries=[b"two", b"one", b"\xff"]), "bad_checkpoint"),
        (field(entries=[b"one", b"two"]), "bad_checkpoint"),
        (field(entries=[b"one", b"two", b"\xff", b"more"], head=9), "bad_checkpoint"),
        (field(entries=[]), "bad_request"),
        (field(previous=bytes(31) + b"\x01"), "bad_checkpoint"),
        (field(previous=b""), "bad_request"),
        (field(previous=bytes(64)), "bad_request"),
        (field(after=2), "bad_checkpoint"),
        (field(after=-1), "bad_request"),
        (field(after=1 << 60, head=1 << 61), "bad_request"),
        (field(head=5), "bad_request"),
        (field(log=LogId("b" * 52)), "bad_checkpoint"),
        (field(log=LogId("../etc/passwd")), "bad_request"),
        (checkpoint(keyid="hub.example#aaaaaaaa"), "bad_checkpoint"),
        (checkpoint(keyid="evil.example#aaaaaaaa"), "bad_checkpoint"),
        (checkpoint(signature=bytes(64)), "bad_checkpoint"),
        (checkpoint(signature=b""), "bad_checkpoint"),
        (checkpoint(payload=b""), "bad_checkpoint"),
        (other_label, "bad_checkpoint"),
        (resigned(), "bad_checkpoint"),
        (resigned(seq=7), "bad_checkpoint"),
        (resigned(log=LogId("b" * 52)), "bad_checkpoint"),
    ],
)
def test_what_the_owner_does_not_vouch_for_is_refused(
    change: Callable[[Stream], Stream], code: str
) -> None:
    with pytest.raises(Refused) as refused:
        check_stream(change(stream()), OWNER)
    assert refused.value.code == code


@pytest.mark.parametrize(
    "entries",
    [
        [b"x"] * (BATCH_ENTRIES + 1),
        [bytes(BATCH_BYTES), b"x"],
        [bytes(ENTRY_MAX + 1)],
    ],
)
def test_sizes(entries: list[bytes]) -> None:
    with pytest.raises(Refused) as refused:
        check_stream(stream(entries), OWNER)
    assert refused.value.code == "too_large"


def test_a_checkpoint_by_another_node_is_refused() -> None:
    other = keypair("other")
    forged = NodeSigner(NAME, other)
    pending = PendingStream(LOG, 0, GENESIS, [b"x"], 1, 1, chain(GENESIS, b"x"))
    with pytest.raises(BadCheckpoint):
        check_stream(forged.stream(pending, 1.0), OWNER)
