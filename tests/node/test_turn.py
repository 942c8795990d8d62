"""Which servers a node hands out for calls, and what it never shows."""

import base64
import hashlib
import hmac
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.app import Node
from node.calls.access import ASK_BURST, IceAccess, read_secret
from node.config import Calls, ConfigProblem, parse
from protocol.codec import decode, encode
from protocol.errors import TooMany
from protocol.ice_url import IceUrl, parse_ice_url
from protocol.wire import IceServer, IceServers
from tests.helpers.fuzz import fuzzing
from tests.node.phone import Phone, further_phone, phone
from tests.node.server import make_settings, running

SECRET = "k3eper-of-the-relay-0123"
STUN = ["stun:turn.example.org:3478"]
TURN = ["turn:turn.example.org:3478?transport=udp", "turns:turn.example.org:5349"]


def secret_file(directory: Path, text: str = SECRET, mode: int = 0o600) -> Path:
    path = directory / "turn.secret"
    path.touch(mode=0o600)
    path.write_text(text + "\n")
    path.chmod(mode)
    return path


@pytest.fixture
async def relaying(tmp_path: Path) -> AsyncIterator[Node]:
    calls = Calls(STUN, TURN, secret_file(tmp_path), turn_seconds=600)
    async with running(make_settings(tmp_path, calls=calls)) as node:
        yield node


async def ask(device: Phone) -> IceServers:
    return await device.call("GET", "/telex/v1/ice", None, IceServers)


async def test_a_node_without_turn_hands_out_nothing_and_no_error(
    alice: Phone,
) -> None:
    assert (await ask(alice)).servers == []


async def test_credentials_are_those_that_coturn_makes_of_the_secret(
    relaying: Node,
) -> None:
    async with phone(relaying, "alice") as alice:
        await alice.register()
        found = await ask(alice)
        stun, turn = found.servers
        assert (stun.urls, stun.username, stun.credential) == (STUN, "", "")
        assert (turn.urls, found.seconds) == (TURN, 600)
        digest = hmac.new(SECRET.encode(), turn.username.encode(), hashlib.sha1)
        assert turn.credential == base64.b64encode(digest.digest()).decode()
        # The TURN server's log names nobody.
        expiry, _, name = turn.username.partition(":")
        assert expiry.isdigit() and len(name) == 20 and "alice" not in turn.username
        # One person's devices count as one, another person's do not.
        async with further_phone(relaying, alice) as laptop:
            assert (await ask(laptop)).servers[1].username.endswith(name)
        async with phone(relaying, "bob") as bob:
            await bob.register()
            assert not (await ask(bob)).servers[1].username.endswith(name)


async def test_strangers_get_no_credentials(relaying: Node) -> None:
    async with phone(relaying, "mallory") as mallory:
        status, _, body = await mallory.send("GET", "/telex/v1/ice")
        assert status == 401 and b"turn" not in body
        status, _, body = await mallory.send("GET", "/telex/v1/ice", headers={})
        assert status == 401 and b"turn" not in body


async def test_a_device_that_asks_too_often_is_told_to_wait(relaying: Node) -> None:
    async with phone(relaying, "alice") as alice, phone(relaying, "bob") as bob:
        await alice.register()
        await bob.register()
        for _ in range(ASK_BURST):
            await ask(alice)
        with pytest.raises(TooMany) as caught:
            await ask(alice)
        assert caught.value.retry_after
        assert (await ask(bob)).servers  # others are not touched by it


async def test_nothing_shows_the_secret_or_a_credential(
    relaying: Node, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        async with phone(relaying, "alice") as alice:
            await alice.register()
            found = await ask(alice)
    credential = found.servers[1].credential
    shown = [caplog.text, repr(found), str(found.servers), repr(relaying.ice)]
    shown += [repr(relaying.settings), repr(list(found.servers[1].__rich_repr__()))]
    for text in shown:
        assert SECRET not in text and credential not in text
    assert decode(encode(found), IceServers) == found


async def test_a_pseudonym_is_another_one_each_day_and_in_each_run(
    relaying: Node, tmp_path: Path
) -> None:
    now = [1_790_000_000.0]
    async with phone(relaying, "alice") as alice:
        await alice.register()
        await ask(alice)
        device = await relaying.devices.get(alice.address)

    def name(access: IceAccess) -> str:
        return access.servers(device).servers[1].username.partition(":")[2]

    calls = relaying.settings.calls
    first, second = (IceAccess(calls, lambda: now[0]) for _ in range(2))
    today = name(first)
    assert name(first) == today != name(second)
    now[0] += 86400
    assert name(first) != today


@pytest.mark.parametrize(
    ("calls", "words"),
    [
        ({"turn": TURN}, "without calls.turn_secret_file"),
        ({"stun": ["turn.example.org"]}, "calls.stun must be a list of stun:HOST"),
        ({"stun": TURN}, "calls.stun must be a list of stun:HOST"),
        ({"turn": STUN, "turn_secret_file": "x"}, "turn:HOST:PORT or turns:HOST:PORT"),
        ({"turn": ["turn:h:0"], "turn_secret_file": "x"}, "calls.turn must be"),
        ({"stun": STUN * 9}, "name at most 8"),
        ({"turn_seconds": 5}, "turn_seconds must lie between"),
    ],
)
def test_mistakes_in_the_section_get_one_sentence(
    calls: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigProblem) as caught:
        parse({"name": "a", "calls": calls}, Path("/"))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_secret_that_others_can_read_or_guess_is_not_used(tmp_path: Path) -> None:
    assert read_secret(secret_file(tmp_path)) == SECRET.encode()
    with pytest.raises(ConfigProblem, match="chmod 600"):
        read_secret(secret_file(tmp_path, mode=0o640))
    for text in (
        "",
        "short",
        "two words are not one",
        "x" * 257,
        "a-line\nand-another",
    ):
        with pytest.raises(ConfigProblem, match="must be one line") as caught:
            read_secret(secret_file(tmp_path, text))
        assert not text or text not in str(caught.value)
    with pytest.raises(ConfigProblem, match="telex-node turn"):
        read_secret(tmp_path / "none")
    settings = make_settings(tmp_path)
    calls = Calls(STUN, TURN, tmp_path / "none")
    with pytest.raises(ConfigProblem, match="cannot be read"):
        Node(replace(settings, calls=calls))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("stun:h", IceUrl("stun", "h", 3478, "udp")),
        ("turn:h:9", IceUrl("turn", "h", 9, "udp")),
        ("turn:h?transport=tcp", IceUrl("turn", "h", 3478, "tcp")),
        ("turns:h", IceUrl("turns", "h", 5349, "tcp")),
        ("turn:[2001:db8::1]:5", IceUrl("turn", "2001:db8::1", 5, "udp")),
    ],
)
def test_addresses_of_servers(text: str, found: IceUrl) -> None:
    assert parse_ice_url(text) == found


@pytest.mark.parametrize(
    "text",
    [
        *("", "h", "http:h", "stun:", "stun:h:99999", "stun:h?transport=udp"),
        *("turn:[::g]", "turns:h?transport=udp", "turn:a b", "turn:h:1\n"),
        *("turn:u@h", "turn:" + "h" * 300, "turn:" + "h" * 64, "turn:a..b"),
    ],
)
def test_what_is_no_address_of_a_server(text: str) -> None:
    with pytest.raises(ValueError):
        parse_ice_url(text)


@pytest.mark.fuzz
@fuzzing
@given(st.text(max_size=60) | st.from_regex(r"(stun|turns?):.{0,40}", fullmatch=True))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        found = parse_ice_url(text)
    except ValueError:
        return
    assert 0 < found.port < 65536 and found.host and found.host.isprintable()


def test_a_server_without_credentials_is_short_on_the_wire() -> None:
    assert decode(encode(IceServer(STUN)), dict) == {"urls": STUN}
