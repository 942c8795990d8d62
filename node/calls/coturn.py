"""A TURN server for a node: coturn's configuration, and the node's part of it.

`telex-node init --turn HOST` and `telex-node turn HOST` write, beside the config file:

    turnserver.conf   what coturn is started with; it holds the secret
    turn.secret       the secret, for the node
    [calls]           in the config file: the server's addresses

All of it fits together; an admin changes it as they like.
"""

import ipaddress
import os
import secrets
import socket
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from node.admin import AdminProblem
from node.calls.access import read_secret
from node.config import Settings
from node.keys import write_private
from node.setting import set_values
from protocol.ice_url import PORT, TLS_PORT, parse_ice_url

__all__ = [
    "TurnFiles",
    "TurnPlan",
    "make_ready",
    "plan_turn",
    "tls_of",
    "write_settings",
    "write_turn",
]

CONF_FILE, SECRET_FILE = "turnserver.conf", "turn.secret"

RELAY_PORTS = range(49160, 49960)
"""UDP ports from which calls are relayed, one for each relayed device: as many calls
as a line of 1 Gbit/s carries, and few enough to open in a firewall."""

USER_QUOTA = 32
"""Relays of one account at one time: each device of it that rings holds up to three
for a moment (udp, tcp, tls), and a call that is reconnected two."""

MAX_BPS = 400_000
"""Bytes a second of one relay: sound and 640x480 video take a third; a tunnel for
other things would like more."""

DENIED = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
    *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.168.0.0/16"),
    *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4"),
    *("168.63.129.16/32", "::/128", "::1/128", "::ffff:0:0/96", "64:ff9b::/96"),
    *("2001:db8::/32", "2002::/16", "fc00::/7", "fe80::/10"),
)
"""Where nothing is relayed to: this machine, networks behind it and clouds' metadata
(169.254.169.254, 100.100.100.200, fd00:ec2::254, 168.63.129.16); documentation; and
IPv6 in which one of these is hidden."""


@dataclass(frozen=True, slots=True)
class TurnPlan:
    """A TURN server that is not written yet."""

    host: str
    """As it stands in URLs; IPv6 in brackets."""
    realm: str
    tls: tuple[Path, Path] | None
    """Certificate and key, if the node's are good for the host."""
    external: str
    """coturn's `external-ip`; empty where it is not behind NAT."""
    allowed: str
    """The server's own address, if it is a private one."""
    notes: tuple[str, ...]
    """What the admin should know, a sentence each."""

    @property
    def stun(self) -> list[str]:
        """URLs for `calls.stun`."""
        return [f"stun:{self.host}:{PORT}"]

    @property
    def turn(self) -> list[str]:
        """URLs for `calls.turn`."""
        found = [f"turn:{self.host}:{PORT}?transport={kind}" for kind in ("udp", "tcp")]
        if self.tls is not None:
            found.append(f"turns:{self.host}:{TLS_PORT}?transport=tcp")
        return found

    @property
    def values(self) -> dict[str, object]:
        """Settings by dotted name."""
        return {
            "calls.stun": self.stun,
            "calls.turn": self.turn,
            "calls.turn_secret_file": SECRET_FILE,
        }

    @property
    def firewall(self) -> str:
        """The ports that have to be open."""
        tls = f", {TLS_PORT}/tcp" if self.tls is not None else ""
        relays = f"{RELAY_PORTS[0]}-{RELAY_PORTS[-1]}/udp"
        return f"{PORT}/udp, {PORT}/tcp{tls}, {relays}"


@dataclass(frozen=True, slots=True)
class TurnFiles:
    """What was written."""

    conf: Path
    secret: Path


def plan_turn(host: str, name: str, tls: tuple[Path, Path] | None) -> TurnPlan:
    """Plan a TURN server.

    Args:
        host: the name or address under which clients reach it.
        name: the node's.
        tls: the node's certificate and key.

    Raises:
        AdminProblem: that is no host.
    """
    host = f"[{host}]" if host.count(":") > 1 and not host.startswith("[") else host
    try:
        bare = parse_ice_url(f"turn:{host}:{PORT}").host
    except ValueError as error:
        raise AdminProblem(
            f"{host!a} is not the name or address of a host, such as turn.example.org."
        ) from error
    notes = []
    if tls is not None and not _covers(tls[0], bare):
        notes.append(
            f"The certificate {tls[0]} is not for {bare}, so TURN over TLS is left "
            "out; with one that is, add cert, pkey and a turns: URL."
        )
        tls = None
    external, allowed, note = _place(bare)
    if note:
        notes.append(note)
    realm = name.partition(":")[0]
    return TurnPlan(host, realm, tls, external, allowed, tuple(notes))


def make_ready(config: Path, host: str, name: str) -> None:
    """Refuse, before a node is made, what could not be written after.

    Raises:
        AdminProblem: that is no host, or there are such files already.
    """
    plan_turn(host, name, None)
    for file in (CONF_FILE, SECRET_FILE):
        path = config.absolute().parent / file
        if path.exists():
            raise AdminProblem(
                f"{path} is there already; nothing was changed. Move it away if you "
                "are sure."
            )


def write_turn(directory: Path, plan: TurnPlan, *, replace: bool = False) -> TurnFiles:
    """Write coturn's configuration, and the secret if there is none yet.

    Args:
        directory: that of the config file.
        plan: what to write.
        replace: whether a configuration that is there may be written anew.

    Raises:
        AdminProblem: there is one, or it cannot be written.
        ConfigProblem: there is a secret, and it cannot be used.
    """
    conf, secret = directory / CONF_FILE, directory / SECRET_FILE
    if conf.exists() and not replace:
        raise AdminProblem(
            f"{conf} is there already; nothing was changed. `telex-node turn HOST "
            "--replace` writes it anew."
        )
    try:
        if not secret.exists():
            write_private(secret, secrets.token_urlsafe(32).encode() + b"\n")
        draft = conf.with_name(f"{conf.name}.draft")
        draft.unlink(missing_ok=True)
        write_private(draft, render_conf(plan, read_secret(secret).decode()).encode())
        os.replace(draft, conf)
    except OSError as error:
        raise AdminProblem(
            f"{error.filename} cannot be written: {error.strerror}."
        ) from error
    return TurnFiles(conf, secret)


def write_settings(config: Path, values: Mapping[str, object]) -> None:
    """Set `calls.*` in a config file; its other lines and its rights stay.

    Raises:
        AdminProblem: it is written in a way that this does not understand; says
            what to write by hand. Nothing was changed.
    """
    config = config.resolve()
    wanted = {key.removeprefix("calls."): value for key, value in values.items()}
    try:
        text = config.read_text(encoding="utf-8")
        changed = set_values(text, "calls", wanted)
        before, after = tomllib.loads(text), tomllib.loads(changed)
        before["calls"] = {**before.get("calls", {}), **wanted}
        if before != after:
            raise ValueError
        draft = config.with_name(f"{config.name}.draft")
        draft.unlink(missing_ok=True)
        write_private(draft, changed.encode())
        draft.chmod(config.stat().st_mode & 0o777)
        os.replace(draft, config)
    except (OSError, ValueError) as error:
        lines = set_values("", "calls", wanted).strip()
        raise AdminProblem(
            f"{config} was not changed; put these lines into it:\n\n{lines}"
        ) from error


def render_conf(plan: TurnPlan, secret: str) -> str:
    """coturn's configuration."""
    lines = [
        f"# A TURN server for calls of the Telex node {plan.realm} (coturn 4.5 or",
        "# later), written by `telex-node turn`. It relays for whoever has credentials",
        "# of the node, and to no private address. It holds a secret: mode 600.",
        "",
        f"realm={plan.realm}",
        "use-auth-secret",
        f"static-auth-secret={secret}",
        "",
        f"listening-port={PORT}",
    ]
    if plan.tls is not None:
        lines += [
            f"tls-listening-port={TLS_PORT}",
            "# coturn's user must be able to read both.",
            f"cert={plan.tls[0]}",
            f"pkey={plan.tls[1]}",
            "no-tlsv1",
            "no-tlsv1_1",
        ]
    else:
        lines.append("no-tls")
    lines += ["no-dtls", "", "# The ports from which calls are relayed (udp)."]
    lines += [f"min-port={RELAY_PORTS[0]}", f"max-port={RELAY_PORTS[-1]}"]
    if plan.external:
        lines += [
            "# Behind NAT: public/private address.",
            f"external-ip={plan.external}",
        ]
    lines += [
        "",
        "# Relays of one account and in all; bytes a second of each.",
        f"user-quota={USER_QUOTA}",
        f"total-quota={len(RELAY_PORTS)}",
        f"max-bps={MAX_BPS}",
        "stale-nonce=600",
        "",
        "fingerprint",
        "no-cli",
        "no-tcp-relay",
        "no-multicast-peers",
        "syslog",
        "",
        "# Nothing is relayed into this machine or the networks behind it. What is",
        "# open to UDP on its public address is for a firewall to keep.",
        *(f"denied-peer-ip={_range(network)}" for network in DENIED),
    ]
    if plan.allowed:
        lines += [
            "# The server itself, so that two who are both relayed reach each other.",
            f"allowed-peer-ip={plan.allowed}",
        ]
    return "\n".join(lines) + "\n"


def tls_of(settings: Settings) -> tuple[Path, Path] | None:
    """The node's certificate and key."""
    cert, key = settings.tls.cert_file, settings.tls.key_file
    return (cert, key) if cert is not None and key is not None else None


def _range(network: str) -> str:
    """As coturn 4.5 reads it, too: `first-last`."""
    found = ipaddress.ip_network(network)
    first, last = found.network_address, found.broadcast_address
    return str(first) if first == last else f"{first}-{last}"


def _covers(cert: Path, host: str) -> bool:
    """Whether a certificate is for a host."""
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificate(cert.read_bytes())
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        hosts = names.value.get_values_for_type(x509.DNSName)
        ips = names.value.get_values_for_type(x509.IPAddress)
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False
    host = host.lower()
    parent = "*." + host.partition(".")[2]
    return any(n.lower() in (host, parent) for n in hosts) or host in map(str, ips)


def _place(host: str) -> tuple[str, str, str]:
    """Where a host is, seen from here: `external-ip`, `allowed-peer-ip`, a note."""
    try:
        found = socket.getaddrinfo(host, PORT, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return (
            "",
            "",
            f"{host} has no address yet: give it one in the DNS before calls use it.",
        )
    address = str(found[0][4][0])
    where = ipaddress.ip_address(address)
    if where.is_loopback:
        return "", "", f"{host} is this machine alone: no other can use the server."
    if not where.is_global:
        return (
            "",
            address,
            f"{address} is a private address: calls are relayed for those alone who "
            "reach it, and only from one relay to another.",
        )
    own = _source(address)
    if own is None or own == address:
        return "", "", ""
    if ipaddress.ip_address(own).is_private:
        return (
            f"{address}/{own}",
            "",
            f"This machine is {own} behind NAT, and {address} outside; if coturn runs "
            "on another one, put external-ip right.",
        )
    return "", "", f"{host} is {address}, not this machine: coturn has to run there."


def _source(address: str) -> str | None:
    """Our address on the way to another (or that one, if it is ours); None: no way."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, PORT))  # sends nothing
        except OSError:
            return None
        return str(probe.getsockname()[0])
