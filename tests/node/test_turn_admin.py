"""`init --turn` and `turn`: what is written fits together, and coturn runs with it."""

import asyncio
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from node.app import Node
from node.calls.coturn import DENIED
from node.calls.stun import StunProblem, bind, parse_reply
from node.config import load, render
from node.keys import create_keys
from protocol.ice_url import PORT, TLS_PORT, IceUrl
from protocol.wire import IceServer, IceServers
from tests.helpers.fuzz import fuzzing
from tests.media.coturn import free_port, needs_coturn, run
from tests.node.phone import phone
from tests.node.process import Process
from tests.node.server import running

turn = pytest.importorskip("aioice.turn", reason="needs: pip install 'telex[calls]'")
stun = pytest.importorskip("aioice.stun", reason="needs: pip install 'telex[calls]'")


@pytest.fixture
def admin(tmp_path: Path) -> Process:
    return Process(tmp_path)


def init(admin: Process, *options: str) -> str:
    return admin.command("init", "--name", admin.name, "--host", "127.0.0.1", *options)


def lines_of(path: Path) -> list[str]:
    return [x for x in path.read_text().splitlines() if x and not x.startswith("#")]


def test_init_writes_what_coturn_and_the_node_need(admin: Process) -> None:
    said = init(admin, "--turn", "127.0.0.1")
    directory = admin.config.parent
    conf, secret = directory / "turnserver.conf", directory / "turn.secret"
    for path in (conf, secret):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert str(path) in said
    word = secret.read_text().strip()
    lines = lines_of(conf)
    assert len(word) >= 32 and f"static-auth-secret={word}" in lines
    assert {"use-auth-secret", "no-cli", "no-tcp-relay", "fingerprint"} < set(lines)
    assert "denied-peer-ip=169.254.0.0-169.254.255.255" in lines
    assert word not in said and "systemctl restart coturn" in said
    calls = load(admin.config).calls
    assert calls.turn_secret_file == secret and calls.stun == ["stun:127.0.0.1:3478"]
    assert "no-tls" in lines and not any(url.startswith("turns") for url in calls.turn)


def test_init_touches_nothing_that_is_there(admin: Process) -> None:
    directory = admin.config.parent
    (directory / "turnserver.conf").write_text("mine")
    init_again = ("init", "--name", admin.name, "--turn", "turn.example.org")
    assert "is there already" in admin.command(*init_again, ok=False)
    assert [path.name for path in directory.iterdir()] == ["turnserver.conf"]
    (directory / "turnserver.conf").unlink()
    bad = ("init", "--name", admin.name, "--turn", "turn server")
    assert "is not the name" in admin.command(*bad, ok=False)
    assert not list(directory.iterdir())


def test_a_node_that_is_there_gets_a_turn_server(admin: Process) -> None:
    """Its file is of a time without calls, and has the admin's own remarks."""
    directory = admin.config.parent
    (directory / "data").mkdir()
    create_keys(directory / "data", admin.name, 1_700_000_000)
    old, _, log = render({"name": admin.name}).partition("[calls]")
    old = f"# mine\n{old}{log[log.index('[log]') :]}"
    admin.config.write_text(old)
    admin.config.chmod(0o640)
    said = admin.command("turn", "127.0.0.1")
    text = admin.config.read_text()
    assert text.startswith(old) and "Open in the firewall: 3478/udp" in said
    assert stat.S_IMODE(admin.config.stat().st_mode) == 0o640
    secret = (directory / "turn.secret").read_text()
    assert load(admin.config).calls.turn
    # Again: only if that is meant, and with the same secret, which devices have.
    assert "--replace" in admin.command("turn", "turn.example.org", ok=False)
    assert admin.config.read_text() == text
    admin.command("turn", "127.0.0.2", "--replace")
    assert load(admin.config).calls.stun == ["stun:127.0.0.2:3478"]
    assert (directory / "turn.secret").read_text() == secret
    assert f"static-auth-secret={secret.strip()}" in lines_of(
        directory / "turnserver.conf"
    )


def test_a_config_file_that_is_not_understood_stays_and_says_what_to_write(
    admin: Process,
) -> None:
    init(admin)
    text = admin.config.read_text().replace("stun = []", "stun = [\n]")
    admin.config.write_text(text)
    said = admin.command("turn", "127.0.0.1", ok=False)
    assert admin.config.read_text() == text
    assert "put these lines into it" in said and 'stun = ["stun:127.0.0.1' in said


def test_a_server_that_is_silent_or_absent_is_named(admin: Process) -> None:
    init(admin, "--turn", "127.0.0.1")
    port = str(free_port())
    admin.config.write_text(admin.config.read_text().replace(str(PORT), port))
    said = admin.command("check-config")
    assert "is fine." in said and f"(port {port}/udp) cannot be reached" in said
    status, said = admin.outcome("turn")
    assert status == 1 and said.count("cannot be reached") == 3
    status, said = admin.outcome("status")
    assert status == 1 and f"The TURN server 127.0.0.1 (port {port}/tcp) ca" in said
    admin.config.write_text(render({"name": admin.name}))
    assert "telex-node turn HOST" in admin.command("turn")


# --- a real coturn, as it is written ----------------------------------------------


@dataclass
class Relay:
    """coturn, run with what `init --turn` wrote."""

    admin: Process
    port: int
    tls_port: int


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    directory = tmp_path_factory.mktemp("turn")
    authority = trustme.CA()
    cert = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    cert.cert_chain_pems[0].write_to_path(str(directory / "cert.pem"))
    cert.private_key_pem.write_to_path(str(directory / "key.pem"))
    admin, found = Process(directory), (free_port(), free_port())
    options = ["--cert", str(directory / "cert.pem")]
    options += ["--key", str(directory / "key.pem")]
    options += ["--ca-file", str(directory / "ca.pem"), "--registration", "open"]
    init(admin, *options, "--turn", "localhost")
    conf = directory / "turnserver.conf"
    for path in (conf, admin.config):
        text = path.read_text().replace(str(PORT), str(found[0]))
        path.write_text(text.replace(str(TLS_PORT), str(found[1])))
    with conf.open("a") as file:
        file.write("listening-ip=127.0.0.1\nrelay-ip=127.0.0.1\nallow-loopback-peers\n")
    log = directory / "coturn.log"
    with run(["-c", str(conf)], directory, log, found[0]):
        yield Relay(admin, *found)


async def allocate(relay: Relay, server: IceServer) -> Any:
    """A relay by aioice's client, as a device would make one."""
    transport, _ = await turn.create_turn_endpoint(
        asyncio.DatagramProtocol,
        server_addr=("127.0.0.1", relay.port),
        username=server.username,
        password=server.credential,
    )
    return transport


@needs_coturn
async def test_coturn_relays_for_who_has_credentials_of_the_node(relay: Relay) -> None:
    import ssl

    settings = load(relay.admin.config)
    assert [url.partition(":")[0] for url in settings.calls.turn] == [
        *("turn", "turn", "turns")
    ]
    trusted = ssl.create_default_context(cafile=str(settings.ca_file))
    async with running(settings) as node, phone(node, "alice", tls=trusted) as alice:
        alice.base = alice.base.replace("127.0.0.1", "localhost")
        await alice.register()
        servers = await alice.call("GET", "/telex/v1/ice", None, IceServers)
    good = servers.servers[1]
    transport = await allocate(relay, good)
    inner = vars(transport)["_TurnTransport__inner_protocol"]
    assert inner.relayed_address[0] == "127.0.0.1"
    # Into networks behind the server nothing is relayed, nor to a cloud's metadata.
    for peer in ("10.1.2.3", "192.168.1.1", "169.254.169.254", "100.100.100.200"):
        with pytest.raises(stun.TransactionFailed, match="403"):
            await inner.channel_bind(0x4001, (peer, 80))
    transport.close()
    expiry, _, name = good.username.partition(":")
    for bad in (
        IceServer(good.urls, good.username, good.credential[::-1]),
        IceServer(good.urls, f"{int(expiry) + 9}:{name}", good.credential),
    ):
        with pytest.raises(stun.TransactionFailed, match="401"):
            await allocate(relay, bad)


@needs_coturn
async def test_coturn_refuses_what_has_expired(relay: Relay) -> None:
    from node.calls.access import password, read_secret

    secret = read_secret(relay.admin.config.parent / "turn.secret")
    with pytest.raises(stun.TransactionFailed, match="401"):
        old = "1700000000:abc"
        await allocate(relay, IceServer([], old, password(secret, old)))


@needs_coturn
def test_turn_says_that_all_of_it_works_or_what_does_not(relay: Relay) -> None:
    admin = relay.admin
    status, said = admin.outcome("turn")
    assert (status, said.count("  works")) == (0, 4), said
    secret = admin.config.parent / "turn.secret"
    right = secret.read_text()
    secret.write_text("another-secret-than-coturn-has\n")
    try:
        status, said = admin.outcome("turn")
    finally:
        secret.write_text(right)
    assert (status, said.count("static-auth-secret the one in")) == (1, 3), said


@needs_coturn
def test_every_line_is_one_that_coturn_reads(relay: Relay) -> None:
    directory = relay.admin.config.parent
    log = (directory / "coturn.log").read_text()
    assert "ad configuration" not in log and "nknown" not in log, log
    denied = [x for x in lines_of(directory / "turnserver.conf") if "denied" in x]
    assert len(denied) == len(set(DENIED)) > 20
    for line in denied:
        assert f"listing: {line.partition('=')[2]}\n" in log


# --- what servers may answer --------------------------------------------------------


@contextmanager
def answering(reply: bytes) -> Iterator[IceUrl]:
    """A server that answers one datagram so."""
    import socket

    with socket.socket(type=socket.SOCK_DGRAM) as line:
        line.bind(("127.0.0.1", 0))
        line.settimeout(10)

        def serve() -> None:
            data, where = line.recvfrom(2048)
            line.sendto(reply.replace(b"<transaction>", data[8:20]), where)

        thread = Thread(target=serve)
        thread.start()
        yield IceUrl("stun", "127.0.0.1", line.getsockname()[1], "udp")
        thread.join()


HEAD = bytes.fromhex("0111000c2112a442") + b"<transaction>"


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (b"HTTP/1.0 400 Bad Request", "not as such a server"),
        (HEAD + bytes.fromhex("00090008 00000500 6e6f6e65"), "error 500"),
        (HEAD + bytes.fromhex("00090010 00000500 6e6f6e65"), "not as such a server"),
    ],
)
def test_answers_that_are_none(reply: bytes, words: str) -> None:
    with answering(reply) as url, pytest.raises(StunProblem, match=words):
        bind(url)


@pytest.mark.fuzz
@fuzzing
@given(
    st.binary(max_size=80)
    | st.builds(
        lambda kind, body: (
            kind + len(body).to_bytes(2) + bytes.fromhex("2112a442") + bytes(12) + body
        ),
        st.binary(min_size=2, max_size=2),
        st.binary(max_size=60),
    )
)
def test_any_bytes_are_a_reply_or_refused(data: bytes) -> None:
    try:
        reply = parse_reply(data)
    except ValueError:
        return
    assert 0 <= reply.error < 1000 and sum(map(len, reply.attributes.values())) < 80


def test_a_secret_file_is_read_when_the_node_starts(admin: Process) -> None:
    init(admin, "--turn", "127.0.0.1")
    assert Node(load(admin.config))
    (admin.config.parent / "turn.secret").chmod(0o644)
    assert "chmod 600" in admin.command("check-config", ok=False)
