"""Who is asking: every way to be somebody else ends in a stable code and no change."""

import asyncio
import ssl
from pathlib import Path

import pytest

from federation.gate import BURST
from federation.policy import PeerPolicy
from federation.ports import PendingStream
from federation.signer import NodeSigner
from protocol.codec import JSON, decode, decode_json, encode, encode_json
from protocol.key import KeyPair
from protocol.limits import BODY_MAX
from protocol.log import GENESIS, LogId, chain
from protocol.wire import Hello, Push, PushAck
from tests.federation.clock import FakeClock
from tests.federation.conftest import MakeNode
from tests.federation.nodes import TestNode, keypair
from tests.federation.raw import Answer, RawPeer

PUSH = "/telex/fed/v1/push"
HELLO = "/telex/fed/v1/hello"
LOG = LogId("b" * 52)
Ca = tuple[Path, ssl.SSLContext]


def push_of(node: TestNode) -> bytes:
    """A push with one entry that this node vouches for."""
    pending = PendingStream(LOG, 0, GENESIS, [b"x"], 1, 1, chain(GENESIS, b"x"))
    return encode(Push([NodeSigner(node.name, node.key).stream(pending, 1.0)]))


class Scene:
    """A target, an honest peer, and a hand that writes in the peer's name."""

    def __init__(self, target: TestNode, peer: TestNode, ca_file: Path) -> None:
        self.target = target
        self.peer = peer
        self.ca_file = ca_file
        self.raw = RawPeer(peer.keyid, peer.key, ca_file)
        self.push = push_of(peer)

    def untouched(self) -> bool:
        store = self.target.store
        return not store.copies and not store.hellos and store.calls == 0


@pytest.fixture
async def scene(make_node: MakeNode, clock: FakeClock, ca: Ca) -> Scene:
    return Scene(await make_node(clock), await make_node(clock), ca[0])


async def test_an_honest_push_passes_and_its_replay_does_not(scene: Scene) -> None:
    answer = await scene.raw.send(scene.target, "POST", PUSH, scene.push)
    assert answer.status == 200
    assert decode(answer.body, PushAck).acks[0].seq == 1
    calls = scene.target.store.calls
    again = await scene.raw.deliver(scene.target, "POST", PUSH, scene.push)
    assert (again.status, again.code) == (401, "replayed")
    assert scene.target.store.calls == calls


async def test_json_goes_in_and_out(scene: Scene) -> None:
    answer = await scene.raw.send(
        scene.target,
        "POST",
        PUSH,
        encode_json(decode(scene.push, Push)),
        media=JSON,
        headers={"Accept": JSON},
    )
    assert answer.status == 200
    assert decode_json(answer.body, PushAck).acks[0].seq == 1


def forged_by(node: TestNode, key: KeyPair, ca_file: Path) -> RawPeer:
    return RawPeer(node.keyid, key, ca_file)


async def test_a_forged_signature_is_refused(scene: Scene) -> None:
    forger = forged_by(scene.peer, keypair("mallory"), scene.ca_file)
    answer = await forger.send(scene.target, "POST", PUSH, scene.push)
    assert (answer.status, answer.code) == (401, "signature_invalid")
    assert scene.untouched()


@pytest.mark.parametrize("how", ["cut", "flipped", "longer"])
async def test_a_tampered_body_is_refused(scene: Scene, how: str) -> None:
    push = scene.push
    body = {
        "cut": push[:-1],
        "flipped": push[:-1] + bytes([push[-1] ^ 1]),
        "longer": push + b"\0",
    }[how]
    answer = await scene.raw.send(scene.target, "POST", PUSH, push, sent_body=body)
    assert (answer.status, answer.code) == (401, "digest_mismatch")
    assert scene.untouched()


async def test_a_request_for_another_path_or_method_is_refused(scene: Scene) -> None:
    body = encode(Hello({}))
    answer = await scene.raw.send(scene.target, "POST", PUSH, body, sent_path=HELLO)
    assert (answer.status, answer.code) == (401, "signature_invalid")
    page = f"/telex/fed/v1/logs/{LOG}/entries"
    answer = await scene.raw.send(scene.target, "GET", page, query="after=0")
    assert answer.status == 404
    answer = await scene.raw.send(
        scene.target, "GET", page, query="after=0", sent_path=page + "?after=1&"
    )
    assert (answer.status, answer.code) == (401, "signature_invalid")
    assert scene.untouched()


async def test_a_request_for_another_node_is_refused(scene: Scene) -> None:
    answer = await scene.raw.send(
        scene.target, "POST", PUSH, scene.push, destination="other.example"
    )
    assert (answer.status, answer.code) == (401, "wrong_destination")
    answer = await scene.raw.send(
        scene.target,
        "POST",
        PUSH,
        scene.push,
        destination="other.example",
        replace={"Telex-Destination": scene.target.name},
    )
    assert (answer.status, answer.code) == (401, "signature_invalid")
    assert scene.untouched()


@pytest.mark.parametrize("offset", [-86_400, -301, -125, 61, 86_400])
async def test_a_request_outside_its_time_is_refused_with_our_time(
    scene: Scene, clock: FakeClock, offset: int
) -> None:
    answer = await scene.raw.send(
        scene.target, "POST", PUSH, scene.push, created=int(clock.time()) + offset
    )
    assert (answer.status, answer.code) == (401, "signature_expired")
    assert f'"server_time":{int(clock.time())}'.encode() in answer.body
    assert scene.untouched()


@pytest.mark.parametrize(
    ("replace", "code"),
    [
        ({"Signature": None, "Signature-Input": None}, "signature_missing"),
        ({"Signature": None}, "signature_missing"),
        ({"Signature": "telex=:AAAA:"}, "signature_invalid"),
        ({"Signature-Input": "telex=("}, "signature_invalid"),
        ({"Signature-Input": 'telex=("@method");tag="telex"'}, "signature_invalid"),
        ({"Content-Digest": "sha-256=:AAAA:"}, "signature_invalid"),
        ({"Content-Type": "application/json"}, "signature_invalid"),
        ({"Content-Encoding": "gzip"}, "unsupported_media"),
    ],
)
async def test_stripped_and_changed_fields_are_refused(
    scene: Scene, replace: dict[str, str | None], code: str
) -> None:
    answer = await scene.raw.send(
        scene.target, "POST", PUSH, scene.push, replace=replace
    )
    assert answer.code == code
    assert answer.status in (401, 415)
    assert scene.untouched()


@pytest.mark.parametrize(
    "keyid",
    [
        "alice@example.org/aaaaaaaaaaaaaaaa",
        "example.org",
        "EXAMPLE.org#abc",
        "http://example.org#abc",
        "127.0.0.1:80/../#abc",
        "#abc",
    ],
)
async def test_a_keyid_that_is_no_nodes_costs_no_look_up(
    scene: Scene, keyid: str
) -> None:
    raw = RawPeer(keyid, scene.peer.key, scene.ca_file)
    answer = await raw.send(scene.target, "POST", PUSH, scene.push)
    assert (answer.status, answer.code) == (401, "signature_invalid")
    assert scene.peer.documents == 0 and scene.untouched()


async def test_our_own_name_from_outside_is_refused(scene: Scene) -> None:
    raw = RawPeer(scene.target.keyid, scene.target.key, scene.ca_file)
    answer = await raw.send(scene.target, "POST", PUSH, scene.push)
    assert (answer.status, answer.code) == (401, "signature_invalid")


async def test_an_unknown_key_costs_one_fetch_a_minute(
    scene: Scene, clock: FakeClock
) -> None:
    raw = RawPeer(f"{scene.peer.name}#aaaaaaaa", scene.peer.key, scene.ca_file)
    for _ in range(5):
        answer = await raw.send(scene.target, "POST", PUSH, scene.push)
        assert (answer.status, answer.code) == (401, "unknown_key")
        assert int(answer.headers["Retry-After"]) <= 60
    assert scene.peer.documents == 1
    clock.advance(61)
    answer = await raw.send(scene.target, "POST", PUSH, scene.push)
    assert answer.code == "unknown_key" and scene.peer.documents == 2
    assert scene.untouched()


async def test_an_origin_that_cannot_be_asked_is_a_401(scene: Scene) -> None:
    await scene.peer.stop()
    answer = await scene.raw.send(scene.target, "POST", PUSH, scene.push)
    assert (answer.status, answer.code) == (401, "unknown_key")
    assert scene.untouched()


async def test_the_policy_comes_before_any_look_up(
    make_node: MakeNode, clock: FakeClock, ca: Ca
) -> None:
    peer = await make_node(clock)
    target = await make_node(clock, policy=PeerPolicy(deny=("127.0.0.1",)))
    raw = RawPeer(peer.keyid, peer.key, ca[0])
    answer = await raw.send(target, "POST", PUSH, push_of(peer))
    assert (answer.status, answer.code) == (403, "peer_blocked")
    assert peer.documents == 0 and target.store.calls == 0


async def test_too_many_requests_are_told_when_to_come_again(scene: Scene) -> None:
    scene.target.running._server._gate._claimed._burst = 2
    codes = []
    for _ in range(4):
        answer = await scene.raw.send(scene.target, "POST", HELLO, encode(Hello({})))
        codes.append(answer.status)
    assert codes == [200, 200, 429, 429]
    assert answer.code == "too_many" and answer.headers["Retry-After"] == "1"
    assert len(scene.target.store.hellos) == 2
    assert BURST >= 100  # the real one leaves room for a node that drains


async def test_a_body_that_is_too_large_is_not_read(scene: Scene) -> None:
    big = bytes(BODY_MAX + 1)
    answer = await scene.raw.send(scene.target, "POST", PUSH, big)
    assert (answer.status, answer.code) == (413, "too_large")
    assert scene.untouched()


async def test_a_body_that_never_ends_is_cut_off(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Announced as chunked, so only reading tells how long it is."""
    monkeypatch.setattr("federation.gate.BODY_MAX", 1000)
    await scene.raw.send(scene.target, "POST", PUSH, scene.push)
    lines = "".join(f"{n}: {v}\r\n" for n, v in scene.raw.sent.items())
    tls = ssl.create_default_context(cafile=str(scene.ca_file))
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", scene.target.port, ssl=tls
    )
    head = f"POST {PUSH} HTTP/1.1\r\nHost: {scene.target.name}\r\n{lines}"
    writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
    for _ in range(3):
        writer.write(b"200\r\n" + bytes(0x200) + b"\r\n")
    await writer.drain()
    status = await asyncio.wait_for(reader.readline(), 5)
    writer.close()
    assert b" 413 " in status


async def test_a_body_that_does_not_arrive_ends_in_time(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("federation.gate.BODY_TIMEOUT", 0.1)
    await scene.raw.send(scene.target, "POST", PUSH, scene.push)
    lines = "".join(f"{n}: {v}\r\n" for n, v in scene.raw.sent.items())
    tls = ssl.create_default_context(cafile=str(scene.ca_file))
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", scene.target.port, ssl=tls
    )
    head = f"POST {PUSH} HTTP/1.1\r\nHost: {scene.target.name}\r\n{lines}"
    writer.write(f"{head}Content-Length: 100\r\n\r\n".encode())
    await writer.drain()
    status = await asyncio.wait_for(reader.readline(), 5)
    writer.close()
    assert b" 400 " in status


async def refused_push(scene: Scene, push: Push) -> Answer:
    return await scene.raw.send(scene.target, "POST", PUSH, encode(push))


async def test_bodies_that_are_no_push_are_refused(scene: Scene) -> None:
    stream = decode(scene.push, Push).streams[0]
    for body in (b"", b"\xc1", encode(Hello({})), encode([1, 2])):
        answer = await scene.raw.send(scene.target, "POST", PUSH, body)
        assert (answer.status, answer.code) == (400, "bad_request")
    answer = await scene.raw.send(
        scene.target, "POST", PUSH, scene.push, media="text/plain"
    )
    assert (answer.status, answer.code) == (415, "unsupported_media")
    answer = await refused_push(scene, Push([stream, stream]))
    assert (answer.status, answer.code) == (400, "bad_request")
    assert scene.untouched()


async def test_requests_under_way_are_bounded(scene: Scene) -> None:
    gate = scene.target.running._server._gate
    gate._under_way[scene.peer.name] = 16
    answer = await scene.raw.send(scene.target, "POST", PUSH, scene.push)
    assert (answer.status, answer.code) == (503, "node_busy")
    assert scene.untouched()
    del gate._under_way[scene.peer.name]
    answer = await scene.raw.send(scene.target, "POST", PUSH, scene.push)
    assert answer.status == 200
    assert gate._under_way.total() == 0
