"""Settings: what an admin may choose, in one table that everything else reads.

Each setting carries its default, unit and reason, so the code's schema, the example
file and the messages of `check-config` cannot drift apart: `render` writes
`config.example.toml` from this module, and a test compares the two.

Settings are frozen, loaded once, and passed to whoever needs them; nothing reads
the environment behind an admin's back.
"""

# ruff: noqa: RUF009 - `setting` makes a dataclass field, which is what may stand there.

import ipaddress
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from node.setting import Check, ConfigProblem, read_section, setting, write_sections
from protocol.address import parse_node
from protocol.errors import AddressError
from protocol.ice_url import parse_ice_url

__all__ = [
    "Calls",
    "ConfigProblem",
    "Federation",
    "Limits",
    "Listen",
    "Logging",
    "Settings",
    "Tls",
    "load",
    "parse",
    "render",
]

ICE_URLS_MAX = 8
"""Servers of each kind: a device asks all of them for every call."""


def _one_of(*words: str) -> Check:
    def check(value: Any) -> str | None:
        return None if value in words else f"be one of {', '.join(words)}"

    return check


def _between(low: float, high: float) -> Check:
    def check(value: Any) -> str | None:
        return None if low <= value <= high else f"lie between {low} and {high}"

    return check


def _node_name(value: Any) -> str | None:
    try:
        parse_node(value)
    except AddressError as error:
        return f"be the name after the @: {error}"
    return None


def _url(value: Any) -> str | None:
    scheme, _, rest = value.partition("://")
    if scheme not in ("https", "http") or not rest or value.endswith("/"):
        return "be https://host or https://host:port, without a slash at the end"
    return None


def _ip(value: Any) -> str | None:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return None if value in ("localhost", "*") else "be an IP address or *"
    return None


def _ips(value: Any) -> str | None:
    for text in value:
        try:
            ipaddress.ip_address(text)
        except ValueError:
            return "be a list of IP addresses"
    return None


@dataclass(frozen=True, slots=True)
class Listen:
    """Where the node answers."""

    host: str = setting(
        "0.0.0.0",
        help="The address to listen on; * for every address, IPv4 and IPv6. Behind a "
        "proxy on the same machine: 127.0.0.1",
        check=_ip,
    )
    port: int | None = setting(
        None,
        help="The port to listen on. Left out, it is the port in the node's name, "
        "or 443; behind a proxy it is whatever the proxy is told.",
        unit="port number",
        example=443,
        check=_between(1, 65535),
    )
    proxies: list[str] = setting(
        [],
        help="Addresses of proxies in front of this node. From these alone the "
        "X-Forwarded-For header is believed, so that limits count clients and not "
        "the proxy.",
        check=_ips,
    )


@dataclass(frozen=True, slots=True)
class Tls:
    """The certificate. Leave both out to speak plain HTTP behind a TLS proxy."""

    cert_file: Path | None = setting(
        None,
        help="The certificate with its chain, in PEM. Left out (with key_file), the "
        "node speaks plain HTTP, for behind a proxy that terminates TLS.",
        example="/etc/letsencrypt/live/example.org/fullchain.pem",
    )
    key_file: Path | None = setting(
        None,
        help="The certificate's private key, in PEM.",
        example="/etc/letsencrypt/live/example.org/privkey.pem",
    )


@dataclass(frozen=True, slots=True)
class Federation:
    """Which other nodes this one talks to."""

    policy: str = setting(
        "open",
        help="open: with every node. allow: only with the nodes in `domains`. "
        "deny: with every node but those in `domains`.",
        check=_one_of("open", "allow", "deny"),
    )
    domains: list[str] = setting(
        [],
        help='Names of nodes, such as "example.org"; "*.example.org" stands for '
        'everything below a domain, but not the domain itself; "*" for all.',
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one client may ask for; beyond it the answer is 429."""

    events_per_second: float = setting(
        10.0,
        help="Messages that one device may send, in the long run. People type less "
        "than one; a bot that bridges other chats may need more.",
        unit="messages per second",
        check=_between(0.1, 100_000),
    )
    events_burst: int = setting(
        200,
        help="Messages that one device may send at once before the rate above holds: "
        "what was written without network is sent in one go.",
        unit="messages",
        check=_between(1, 100_000),
    )
    requests_per_second: float = setting(
        20.0,
        help="Other requests of one device (pages of history, key packages).",
        unit="requests per second",
        check=_between(0.1, 100_000),
    )
    requests_burst: int = setting(
        200,
        help="Other requests of one device at once: a new device reads its rooms.",
        unit="requests",
        check=_between(1, 100_000),
    )
    claims_per_minute: float = setting(
        60.0,
        help="Accounts whose key packages one account, or one other node, may claim, "
        "in the long run; a burst may hold ten minutes' worth. Each new chat takes "
        "one for each person in it.",
        unit="accounts per minute",
        check=_between(1, 100_000),
    )
    login_attempts: int = setting(
        5,
        help="Failed log-ins of an account from one address that cost nothing; each "
        "further one doubles the wait, from one second to an hour.",
        unit="attempts",
        check=_between(1, 1000),
    )
    registrations_per_hour: int = setting(
        60,
        help="New accounts from one address.",
        unit="accounts per hour",
        check=_between(1, 100_000),
    )
    connections_per_address: int = setting(
        200,
        help="Open sessions (WebSockets) from one address, and as many connections "
        "besides on which no device or node has signed a request yet; 0 means no "
        "limit. Behind a proxy, set listen.proxies, or all clients seem to have its "
        "address.",
        unit="connections",
        check=_between(0, 1_000_000),
    )
    connections: int = setting(
        20_000,
        help="Open sessions (WebSockets) in all: about 0.3 MB of memory each with "
        "TLS in the node, and one open file. The system's limit of open files must "
        "leave room for them (`telex-node status` says if it does not; systemd: "
        "LimitNOFILE=32768 for the default), or there are fewer.",
        unit="connections",
        check=_between(1, 1_000_000),
    )
    rooms_per_account: int = setting(
        1000,
        help="Rooms that one account may create here in its life.",
        unit="rooms",
        check=_between(1, 1_000_000),
    )
    vault_quota: int = setting(
        512 * 1024 * 1024,
        help="Sealed backups that one account may keep here, and history on its way "
        "to a new device: files under data_dir/vaults. A year of lively chat takes "
        "some 50 MB. 0: no backups.",
        unit="bytes",
        check=_between(0, 1 << 50),
    )
    blob_quota: int = setting(
        1024 * 1024 * 1024,
        help="Files (pictures, documents, voice) that one account may keep here, "
        "encrypted: they lie under data_dir/blobs. 0: no files.",
        unit="bytes",
        check=_between(0, 1 << 50),
    )
    blob_max: int = setting(
        256 * 1024 * 1024,
        help="The largest file that is taken from an account, or fetched for one "
        "from another node.",
        unit="bytes",
        check=_between(0, 1 << 40),
    )
    blob_days: int = setting(
        90,
        help="How long a file is kept after it was uploaded or last asked for. 0: "
        "until it is deleted.",
        unit="days",
        check=_between(0, 36_500),
    )
    blob_cache: int = setting(
        2 * 1024 * 1024 * 1024,
        help="Copies of files that lie on other nodes, in all; what was asked for "
        "least lately goes first. 0: each is fetched anew.",
        unit="bytes",
        check=_between(0, 1 << 50),
    )


def _ice_urls(*schemes: str) -> Check:
    def check(value: Any) -> str | None:
        for text in value:
            try:
                found = parse_ice_url(text)
            except ValueError:
                found = None
            if found is None or found.scheme not in schemes:
                form = " or ".join(f"{scheme}:HOST:PORT" for scheme in schemes)
                return f"be a list of {form}"
        return None if len(value) <= ICE_URLS_MAX else f"name at most {ICE_URLS_MAX}"

    return check


@dataclass(frozen=True, slots=True)
class Calls:
    """How calls find a way between two homes. `telex-node turn` fills it in."""

    stun: list[str] = setting(
        [],
        help="Servers that tell a device how it is seen from outside, such as "
        '"stun:turn.example.org:3478". Without one, calls only work within a network '
        "or where TURN relays them.",
        check=_ice_urls("stun"),
    )
    turn: list[str] = setting(
        [],
        help="Ways to a server that relays calls which find no way else, such as "
        '"turn:turn.example.org:3478?transport=udp"; transport=tcp and turns: pass '
        "firewalls that udp does not. It relays for whoever shows credentials that "
        "were made with turn_secret_file (coturn: use-auth-secret).",
        check=_ice_urls("turn", "turns"),
    )
    turn_secret_file: Path | None = setting(
        None,
        help="A file with the secret that the TURN server has too (coturn: "
        "static-auth-secret), readable by its owner alone.",
        example="turn.secret",
    )
    turn_seconds: int = setting(
        3600,
        help="How long credentials may begin a relayed call. coturn asks for the time "
        "only then, and a call goes on; a server that asks again whenever a call is "
        "prolonged (eturnal with strict_expiry) needs as long as the longest call.",
        unit="seconds",
        check=_between(60, 7 * 86400),
    )


@dataclass(frozen=True, slots=True)
class Logging:
    """What the node says while it runs, on standard error."""

    level: str = setting(
        "info",
        help="The least that is logged. debug adds one line for each request and "
        "delivery; none ever holds a text, a key or a password.",
        check=_one_of("debug", "info", "warning", "error"),
    )
    stall_ms: int = setting(
        20,
        help="Work of one piece, by which everybody waits for one, that is logged as "
        "a warning with the place in the program. 0: do not watch.",
        unit="milliseconds",
        check=_between(0, 60_000),
    )
    format: str = setting(
        "text",
        help="text: lines for people. json: one object for each line, for programs.",
        check=_one_of("text", "json"),
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything an admin may choose."""

    name: str = setting(
        help="The name after the @ in its accounts' addresses, for good. Other nodes "
        "look for https://NAME/.well-known/telex. It may hold a port: "
        "example.org:8443.",
        example="example.org",
        check=_node_name,
    )
    data_dir: Path = setting(
        Path("data"),
        help="Where the database and the node's key lie. A relative path starts at "
        "this file's directory.",
    )
    registration: str = setting(
        "invite",
        help="Who may make an account. invite: whoever has a code from `telex-node "
        "invite`. open: everybody. closed: nobody.",
        check=_one_of("invite", "open", "closed"),
    )
    base_url: str | None = setting(
        None,
        help="Where this node is reached from outside, if that is not https://NAME.",
        example="https://telex.example.org",
        check=_url,
    )
    ca_file: Path | None = setting(
        None,
        help="Certificates (PEM) of a private authority to believe besides the "
        "system's, when talking to other nodes: for private networks and tests.",
        example="/etc/telex/private-ca.pem",
    )
    listen: Listen = field(default_factory=Listen)
    tls: Tls = field(default_factory=Tls)
    federation: Federation = field(default_factory=Federation)
    limits: Limits = field(default_factory=Limits)
    calls: Calls = field(default_factory=Calls)
    log: Logging = field(default_factory=Logging)

    @property
    def port(self) -> int:
        """The port to listen on."""
        if self.listen.port is not None:
            return self.listen.port
        _, colon, port = self.name.partition(":")
        return int(port) if colon else 443

    @property
    def public_url(self) -> str:
        """`https://...` under which other nodes and clients reach this one."""
        return self.base_url or f"https://{self.name}"

    @property
    def database(self) -> Path:
        """The database file."""
        return self.data_dir / "node.db"


def load(path: Path) -> Settings:
    """Read a config file.

    Raises:
        ConfigProblem: it is missing, is no TOML, or a setting is unknown or wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigProblem(
            f"There is no config file at {path}; `telex-node init` makes one."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigProblem(
            f"The config file {path} cannot be read: {error}."
        ) from error
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigProblem(f"{path} is not valid TOML: {error}.") from error
    return parse(data, path.absolute().parent)


def parse(data: Mapping[str, Any], base: Path) -> Settings:
    """Settings from a decoded file; relative paths start at `base`.

    Raises:
        ConfigProblem: a setting is unknown, missing or wrong; says which.
    """
    settings: Settings = read_section(Settings, data, "", base)
    if (settings.tls.cert_file is None) != (settings.tls.key_file is None):
        raise ConfigProblem(
            "tls.cert_file and tls.key_file belong together: set both, or neither."
        )
    if settings.calls.turn and settings.calls.turn_secret_file is None:
        raise ConfigProblem(
            "calls.turn relays for nobody without calls.turn_secret_file: name the "
            "file with the TURN server's secret, or let `telex-node turn` make both."
        )
    return settings


_HEADER = """\
# The settings of a Telex node. Every setting there is stands here with its default
# value; those that have none, or may be left out, are commented out. Check a file
# with `telex-node check-config`.
"""


def render(values: Mapping[str, Any] | None = None) -> str:
    """A config file with every setting and its explanation.

    Args:
        values: what to write instead of the defaults, by dotted name
            (`tls.cert_file`).

    Returns:
        TOML; without `values` it is `config.example.toml`.
    """
    chosen = dict(values or {})
    lines = [_HEADER]
    write_sections(Settings, "", chosen, lines)
    if chosen:
        raise ValueError(f"no such settings: {sorted(chosen)}")
    return "\n".join(lines)
