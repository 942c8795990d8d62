"""What one node asks another: answers, refusals, and what the user sees of them."""

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from federation.policy import PeerPolicy
from protocol.codec import encode
from protocol.errors import (
    BadCheckpoint,
    BadRequest,
    Malformed,
    NotAllowed,
    PeerBlocked,
    PeerRefused,
    PeerUnreachable,
    PeerUntrusted,
    Problem,
    Refused,
    TooMany,
    UnknownAccount,
    UnknownRoom,
)
from protocol.log import Kind, LogId, make_submission
from protocol.wire import Claim, Submit
from tests.federation.clock import FakeClock
from tests.federation.conftest import MakeNode
from tests.federation.nodes import Handler, TestNode, eventually

CLAIM = Claim(bytes(16), [])
NOWHERE = LogId("a" * 52)


@pytest.fixture
async def pair(make_node: MakeNode, clock: FakeClock) -> tuple[TestNode, TestNode]:
    return await make_node(clock), await make_node(clock)


async def test_claims(pair: tuple[TestNode, TestNode]) -> None:
    one, other = pair
    accounts = [f"bob@{other.name}", f"xavier@{other.name}"]
    claim = Claim(bytes(16), accounts, claimer=f"alice@{one.name}")
    claimed = await one.running.claim(other.name, claim)
    (package,) = claimed.packages
    assert package.package == one.name.encode()  # the store was told who asks
    assert claimed.failed[accounts[1]].code == "unknown_account"


async def test_a_node_claims_for_its_own_accounts_alone(
    pair: tuple[TestNode, TestNode],
) -> None:
    one, other = pair
    with pytest.raises(NotAllowed):
        await one.running.claim(other.name, Claim(bytes(16), [], "eve@evil.example"))
    with pytest.raises(BadRequest):
        await one.running.claim(other.name, Claim(b"short", []))
    with pytest.raises(BadRequest):
        await one.running.claim(other.name, Claim(bytes(16), ["a@b"] * 101))
    with pytest.raises(BadRequest):
        await one.running.claim(other.name, Claim(bytes(16), ["Bob@b"]))
    assert other.store.calls == 0


async def test_account_logs(pair: tuple[TestNode, TestNode]) -> None:
    one, other = pair
    log = await one.running.account_log(f"bob@{other.name}", 1)
    assert (log.account, log.entries) == (f"bob@{other.name}", [b"two", b"three"])
    with pytest.raises(UnknownAccount):
        await one.running.account_log(f"nobody@{other.name}")


async def test_submitting_to_the_hub(pair: tuple[TestNode, TestNode]) -> None:
    one, other = pair
    log = other.store.room("garden", [])
    submission = one.store.submission(log, b"commit")
    receipt = await one.running.submit(other.name, log, Submit(submission))
    assert (receipt.state, receipt.seq) == ("committed", 1)
    assert other.store.logs[log].head == 1
    forged = make_submission(
        log, "eve@evil.example/aaaaaaaaaaaaaaaa", bytes(16), Kind.COMMIT, b""
    )
    with pytest.raises(NotAllowed):
        await one.running.submit(other.name, log, Submit(forged))
    with pytest.raises(BadRequest):
        await one.running.submit(other.name, NOWHERE, Submit(submission))
    assert other.store.logs[log].head == 1


async def test_trees(pair: tuple[TestNode, TestNode]) -> None:
    one, other = pair
    tree = await one.running.tree(other.name, NOWHERE, "ab" * 32)
    assert tree.ratchet_tree == b"\xab" * 32
    with pytest.raises(BadRequest):
        await one.running.tree(other.name, NOWHERE, "ABCD")
    with pytest.raises(ValueError, match="hex"):
        await one.running.tree(other.name, NOWHERE, "../../..")


async def test_groups_and_rosters(pair: tuple[TestNode, TestNode]) -> None:
    one, other = pair
    log = other.store.room("garden", [])
    other.store.append(log, b"first")
    state = await one.running.group(other.name, log)
    assert (state.seq, state.hash) == (1, other.store.logs[log].hashes[-1])
    found = await one.running.roster(other.name, log)
    assert (found.seq, found.accounts) == (1, [f"alice@{one.name}"])
    for ask in (one.running.group, one.running.roster):
        with pytest.raises(UnknownRoom):
            await ask(other.name, NOWHERE)
        with pytest.raises(Malformed):
            await ask(other.name, LogId("../../.."))


async def test_pages_are_checked(
    pair: tuple[TestNode, TestNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    log = other.store.room("garden", [])
    other.store.append(log, *(b"%d" % n for n in range(30)))
    page = await one.running.page(other.name, log, 10, 5)
    assert (page.after, page.head, len(page.entries)) == (10, 30, 5)
    assert page.entries == other.store.logs[log].entries[10:15]
    empty = await one.running.page(other.name, log, 30, 5)
    assert empty.entries == [] and empty.checkpoint is None
    with pytest.raises(UnknownRoom):
        await one.running.page(other.name, NOWHERE, 0, 5)

    server = other.running._server
    sign = server._signer.checkpoint
    monkeypatch.setattr(
        server._signer,
        "checkpoint",
        lambda log, term, seq, digest, now: sign(log, term, seq, bytes(32), now),
    )
    with pytest.raises(BadCheckpoint):
        await one.running.page(other.name, log, 10, 5)


async def test_a_fault_of_the_peer_is_told_without_its_inside(
    pair: tuple[TestNode, TestNode], caplog: pytest.LogCaptureFixture
) -> None:
    one, other = pair
    with pytest.raises(PeerRefused) as refused:
        await one.running.tree(other.name, NOWHERE, "0" * 64)
    assert "planted-word" not in str(refused.value)
    assert any("a request of a peer failed" in r.message for r in caplog.records)


async def test_signature_trouble_between_nodes_is_not_the_users(
    pair: tuple[TestNode, TestNode],
) -> None:
    one, other = pair
    await other.running.claim(one.name, CLAIM)
    one.running.rotate(other.key)  # a key that its document does not show
    with pytest.raises(PeerRefused) as refused:
        await one.running.claim(other.name, CLAIM)
    assert refused.value.status == 502


async def test_what_a_peer_says_is_cleaned(
    pair: tuple[TestNode, TestNode],
) -> None:
    one, other = pair
    problem = Problem("strange", "\x1b[2J" + "t" * 999, 418, "\u202eevil\x07")

    async def shout(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.endswith("/claim"):
            return await handler(request)
        from protocol.codec import encode_json

        return web.Response(
            status=418,
            body=encode_json(problem),
            content_type="application/problem+json",
        )

    other.fault = shout
    with pytest.raises(Refused) as refused:
        await one.running.claim(other.name, CLAIM)
    text = str(refused.value)
    assert text.isprintable() and len(text) < 700 and "evil" in text


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (web.Response(status=502, body=b"<html>"), PeerUnreachable),
        (web.Response(status=429, headers={"Retry-After": "7"}), TooMany),
        (web.Response(status=302, headers={"Location": "/"}), PeerRefused),
        (web.Response(status=400, body=b"what"), PeerRefused),
        (web.Response(body=encode([]), content_type="text/plain"), PeerUntrusted),
    ],
)
async def test_answers_of_something_in_between(
    pair: tuple[TestNode, TestNode], answer: web.Response, kind: type[Refused]
) -> None:
    one, other = pair

    async def proxy(request: web.Request, handler: Handler) -> web.StreamResponse:
        return answer if request.path.endswith("/claim") else await handler(request)

    other.fault = proxy
    with pytest.raises(kind) as refused:
        await one.running.claim(other.name, CLAIM)
    if kind is TooMany:
        assert refused.value.retry_after == 7


async def test_an_answer_that_is_too_large_is_not_read(
    pair: tuple[TestNode, TestNode],
) -> None:
    one, other = pair

    async def flood(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.endswith("/log"):
            return await handler(request)
        return web.Response(body=bytes(3 * 1024 * 1024))

    other.fault = flood
    with pytest.raises(PeerUnreachable, match="more than"):
        await one.running.account_log(f"bob@{other.name}")


async def test_a_peer_that_never_answers_ends_in_time(
    pair: tuple[TestNode, TestNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    await one.running.claim(other.name, CLAIM)
    monkeypatch.setattr("federation.service.SUBMIT_TIMEOUT", 0.1)

    async def hang(request: web.Request, handler: Handler) -> web.StreamResponse:
        await asyncio.sleep(5)
        return await handler(request)

    other.fault = hang
    log = other.store.room("garden", [])
    with pytest.raises(PeerUnreachable, match="in time"):
        await one.running.submit(
            other.name, log, Submit(one.store.submission(log, b""))
        )


async def test_a_blocked_peer_is_neither_asked_nor_looked_for(
    make_node: MakeNode, clock: FakeClock
) -> None:
    other = await make_node(clock)
    one = await make_node(clock, policy=PeerPolicy(allow=("good.example",)))
    with pytest.raises(PeerBlocked):
        await one.running.claim(other.name, CLAIM)
    assert other.requests == []


async def test_a_certificate_of_an_unknown_ca_is_refused(
    make_node: MakeNode, ca: tuple[Path, ssl.SSLContext]
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    other = TestNode(ca[0], context)
    await other.start()
    one = await make_node()
    try:
        with pytest.raises(PeerUnreachable, match="not one that is trusted"):
            await one.running.claim(other.name, CLAIM)
        assert other.requests == []
    finally:
        await other.stop()


async def test_a_wrong_clock_is_learned_and_the_request_repeated_once(
    make_node: MakeNode,
) -> None:
    fast = FakeClock()
    right = FakeClock(fast.time() - 4000)
    one, other = await make_node(fast), await make_node(right)
    await one.running.claim(other.name, CLAIM)
    assert [p for p in other.requests if p.endswith("/claim")] == [
        "/telex/fed/v1/key-packages/claim"
    ] * 2
    await one.running.claim(other.name, CLAIM)  # and remembered
    assert len([p for p in other.requests if p.endswith("/claim")]) == 3


async def test_pushes_work_under_a_wrong_clock(make_node: MakeNode) -> None:
    fast = FakeClock()
    right = FakeClock(fast.time() - 80_000)
    hub, follower = await make_node(fast), await make_node(right)
    log = hub.store.room("garden", [follower.name])
    hub.store.append(log, b"one")
    hub.running.wake(follower.name)
    await eventually(lambda: hub.store.cursors[follower.name, log] == 1)
    assert hub.store.peers[follower.name].fails == 0


async def test_a_call_that_succeeds_ends_the_backoff(
    pair: tuple[TestNode, TestNode], clock: FakeClock
) -> None:
    hub, follower = pair
    await follower.stop()
    log = hub.store.room("garden", [follower.name])
    hub.store.append(log, b"one")
    hub.running.wake(follower.name)
    for fails in range(1, 9):
        await eventually(
            lambda n=fails: (  # type: ignore[misc]
                hub.store.peers.get(follower.name) is not None
                and hub.store.peers[follower.name].fails >= n
            )
        )
        if fails < 8:
            clock.advance(2.0 ** (fails - 1))
    await follower.start()
    clock.advance(60)
    await hub.running.claim(follower.name, CLAIM)
    await eventually(lambda: hub.store.cursors[follower.name, log] == 1)


async def test_a_node_does_not_ask_itself(pair: tuple[TestNode, TestNode]) -> None:
    one, _ = pair
    with pytest.raises(ValueError, match="itself"):
        await one.running.claim(one.name, CLAIM)
    one.running.wake(one.name)
    assert one.name not in one.running._sender._workers


async def test_nothing_of_the_key_is_printed(pair: tuple[TestNode, TestNode]) -> None:
    one, _ = pair
    text = repr(vars(one.running)) + repr(one.running._transport)
    assert one.key.seed.hex() not in text and repr(one.key.seed) not in text
