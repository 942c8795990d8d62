"""The HTTP edge: signatures, encodings, bodies and errors, with their stable codes."""

import json
import time
from typing import Any
from unittest.mock import Mock

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from node.api.gate import Gate
from node.app import Node
from node.limit import Buckets, network_of
from node.version import VERSION
from protocol.codec import JSON, MSGPACK, decode, decode_json, encode, encode_json
from protocol.errors import CODES, Problem, TooMany
from protocol.limits import BODY_MAX
from protocol.node_identity import read_node_log
from protocol.wire import NodeDocument, Rooms
from tests.node.phone import Phone

ROOMS = "/telex/v1/rooms"


def code(answer: tuple[int, str, bytes]) -> str:
    """The code of a problem, which must be in the table with this status."""
    status, kind, content = answer
    assert kind == "application/problem+json", answer
    problem = decode_json(content, Problem)
    assert CODES[problem.code].status == status == problem.status
    assert problem.title == CODES[problem.code].title
    return problem.code


async def test_the_document_says_who_the_node_is(node: Node, alice: Phone) -> None:
    path = "/.well-known/telex"
    status, kind, content = await alice.send("GET", path, headers={})
    assert (status, kind) == (200, JSON)
    document = decode_json(content, NodeDocument)
    assert document.software == f"telex-node/{VERSION}"
    identity = read_node_log(document.name, document.keys)
    assert identity.name == node.settings.name
    _, kind, content = await alice.send("GET", path, headers={"Accept": MSGPACK})
    assert (kind, decode(content, NodeDocument).name) == (MSGPACK, document.name)


async def test_answers_come_as_json_when_asked(alice: Phone) -> None:
    headers = alice.headers("GET", ROOMS) | {"Accept": JSON}
    status, kind, content = await alice.send("GET", ROOMS, headers=headers)
    assert (status, kind, json.loads(content)) == (200, JSON, {"rooms": []})
    body = encode_json({"claim_id": b"c" * 16, "accounts": ["nobody@example.org"]})
    path = "/telex/v1/key-packages/claim"
    headers = alice.headers("POST", path, body=body, content_type=JSON)
    status, kind, _ = await alice.send("POST", path, body, headers=headers)
    assert (status, kind) == (200, MSGPACK)


async def test_wrong_signatures(alice: Phone) -> None:
    now = int(time.time())
    cases: list[tuple[dict[str, Any], str]] = [
        ({"created": now - 400}, "signature_expired"),
        ({"created": now + 400}, "signature_expired"),
        ({"private_key": b"k" * 32}, "signature_invalid"),
        ({"destination": "other.example"}, "wrong_destination"),
        ({"path": "/telex/v1/other"}, "signature_invalid"),
        ({"query": "a=1"}, "signature_invalid"),
        ({"method": "PUT"}, "signature_invalid"),
        ({"authority": "other.example"}, "signature_invalid"),
        ({"keyid": "mallory@localhost/" + "a" * 16}, "unknown_key"),
        ({"keyid": "not a device"}, "unknown_key"),
    ]
    for changes, expected in cases:
        headers = alice.headers("GET", ROOMS, **changes)
        answer = await alice.send("GET", ROOMS, headers=headers)
        assert code(answer) == expected, changes


async def test_an_expired_request_learns_the_time(alice: Phone) -> None:
    headers = alice.headers("GET", ROOMS, created=1_000_000)
    _, _, content = await alice.send("GET", ROOMS, headers=headers)
    problem = decode_json(content, Problem)
    assert problem.server_time is not None
    assert abs(problem.server_time - time.time()) < 10


async def test_unsigned_and_replayed_requests(alice: Phone) -> None:
    assert code(await alice.send("GET", ROOMS, headers={})) == "signature_missing"
    headers = alice.headers("GET", ROOMS)
    assert (await alice.send("GET", ROOMS, headers=headers))[0] == 200
    assert code(await alice.send("GET", ROOMS, headers=headers)) == "replayed"
    ws = "/telex/v1/ws"
    assert code(await alice.send("GET", ws, headers={})) == "signature_missing"


async def test_a_changed_body_is_found_out(alice: Phone) -> None:
    path = "/telex/v1/key-packages"
    headers = alice.headers("PUT", path, body=encode({"packages": []}))
    answer = await alice.send("PUT", path, b"\x80", headers=headers)
    assert code(answer) == "digest_mismatch"


async def test_bodies_that_cannot_be_read(alice: Phone) -> None:
    path = "/telex/v1/key-packages/claim"
    for body in (b"\xc1", b"\x80", encode({"claim_id": 1}), encode([1]), b"\x91" * 999):
        assert code(await alice.send("POST", path, body)) == "bad_request"
    headers = alice.headers("POST", path, body=b"<x/>", content_type="text/xml")
    answer = await alice.send("POST", path, b"<x/>", headers=headers)
    assert code(answer) == "unsupported_media"
    extra = encode({"claim_id": b"c" * 16, "accounts": ["a@b"], "later": 1})
    assert (await alice.send("POST", path, extra))[0] == 200


async def test_huge_bodies_are_refused_while_they_come(alice: Phone) -> None:
    path = "/telex/v1/key-packages/claim"
    huge = bytes(BODY_MAX + 1)
    assert code(await alice.send("POST", path, huge)) == "too_large"

    async def chunks() -> object:
        for _ in range(40):
            yield bytes(64 * 1024)

    headers = alice.headers("POST", path, body=b"x")
    async with alice.http.post(
        f"{alice.base}{path}", data=chunks(), headers=headers
    ) as answer:
        content = await answer.read()
    assert code((answer.status, answer.content_type, content)) == "too_large"
    assert await alice.call("GET", ROOMS, None, Rooms) == Rooms([])


async def test_paths_and_parameters_that_make_no_sense(alice: Phone) -> None:
    for path, query, expected in (
        ("/telex/v1/nothing", "", "not_found"),
        ("/telex/v2/rooms", "", "not_found"),
        ("/telex/v1/logs/short/entries", "after=0", "bad_request"),
        (f"/telex/v1/logs/{'a' * 52}/entries", "after=0", "unknown_room"),
        (f"/telex/v1/logs/{'a' * 52}/entries", "after=-1", "bad_request"),
        (f"/telex/v1/logs/{'a' * 52}/entries", f"after={'9' * 17}", "bad_request"),
        (f"/telex/v1/logs/{alice.mailbox}/entries", "", "bad_request"),
        (f"/telex/v1/logs/{'a' * 52}/tree/xyz", "", "bad_request"),
        ("/telex/v1/accounts/alice/log", "", "bad_address"),
    ):
        assert code(await alice.send("GET", path, query=query)) == expected, path
    assert code(await alice.send("DELETE", ROOMS)) == "bad_request"


async def test_only_our_own_proxies_say_who_asks(node: Node) -> None:
    def gate(*proxies: str) -> Gate:
        limit = Buckets(1, 1, "")
        return Gate(node.settings.name, node.devices, time.time, limit, proxies)

    def remote(asked: Gate, *forwarded: str) -> str:
        headers = CIMultiDict([("X-Forwarded-For", text) for text in forwarded])
        transport = Mock()
        transport.get_extra_info.return_value = ("10.0.0.1", 5)
        request = make_mocked_request("GET", "/", headers, transport=transport)
        return asked.remote(request)

    assert remote(gate(), "1.2.3.4") == "10.0.0.1"
    ours = gate("10.0.0.1", "10.0.0.2")
    assert remote(ours) == "10.0.0.1"
    assert remote(ours, "1.2.3.4") == "1.2.3.4"
    assert remote(ours, "6.6.6.6, 1.2.3.4", "10.0.0.2") == "1.2.3.4"
    assert remote(ours, "nonsense") == "10.0.0.1"


def test_limits_count_an_ipv6_network_and_not_its_addresses() -> None:
    assert network_of("192.0.2.7") == network_of("::ffff:192.0.2.7") == "192.0.2.7"
    one, two = network_of("2001:db8:1:2::1"), network_of("2001:db8:1:2:ffff::9")
    assert one == two == "2001:db8:1:2::/64"
    assert network_of("2001:db8:1:3::1") != one
    assert network_of("fe80::1%eth0") == "fe80::/64"
    assert network_of("unknown") == "unknown"


async def test_a_network_of_addresses_is_one_stranger(node: Node) -> None:
    gate = Gate(node.settings.name, node.devices, time.time, Buckets(1, 1, ""))

    def ask(address: str) -> None:
        transport = Mock()
        transport.get_extra_info.return_value = (address, 5)
        gate.stranger(make_mocked_request("POST", "/", transport=transport))

    with pytest.raises(TooMany):
        for n in range(200):
            ask(f"2001:db8:1:2::{n:x}")
    ask("2001:db8:1:3::1")
