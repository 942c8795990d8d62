"""`telex-node`: what an admin types.

Commands parse, call one function and print. Modules are imported where they are
used, so that `--help` is there at once. Errors are one sentence on standard error:
exit status 1 for what went wrong, 2 for what was typed wrong.
"""

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from protocol.errors import TelexError

if TYPE_CHECKING:
    from node.app import Node
    from node.calls.coturn import TurnFiles, TurnPlan
    from node.config import Settings

__all__ = ["main"]

_UNITS = {"m": 60, "h": 3600, "d": 24 * 3600, "w": 7 * 24 * 3600}


class _Duration(click.ParamType[int]):
    """`30m`, `12h`, `7d`, `4w` as seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"([1-9][0-9]{0,4})([mhdw])", value)
        if match is None:
            self.fail("write a number and m, h, d or w, such as 7d", param, ctx)
        return int(match[1]) * _UNITS[match[2]]


@contextmanager
def _one_sentence() -> Iterator[None]:
    """Turn our errors into one line and exit status 1."""
    try:
        yield
    except TelexError as error:
        click.echo(f"telex-node: {error}", err=True)
        sys.exit(1)


def _settings(context: click.Context) -> "Settings":
    from node.config import load

    return load(context.obj)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("telex-node.toml"),
    envvar="TELEX_NODE_CONFIG",
    show_default=True,
    show_envvar=True,
    help="The node's config file.",
)
@click.version_option(package_name="telex", prog_name="telex-node")
@click.pass_context
def main(context: click.Context, config: Path) -> None:
    """Run a Telex node: chat for you and your people, on your own machine."""
    context.obj = config


@main.command()
@click.option(
    "--name",
    required=True,
    help="The name after the @ in its accounts' addresses, such as example.org.",
)
@click.option("--cert", type=click.Path(path_type=Path), help="TLS certificate (PEM).")
@click.option("--key", type=click.Path(path_type=Path), help="Its private key (PEM).")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on.")
@click.option("--host", help="Address to listen on.")
@click.option("--ca-file", type=click.Path(path_type=Path), help="Private CA (PEM).")
@click.option(
    "--registration",
    type=click.Choice(["invite", "open", "closed"]),
    help="Who may make an account.",
)
@click.option(
    "--turn",
    metavar="HOST",
    help="Also write the configuration of a TURN server (coturn) for calls, reached "
    "under this name or address. `telex-node turn` does it later.",
)
@click.pass_context
def init(
    context: click.Context, /, name: str, turn: str | None, **options: Any
) -> None:
    """Make a node: config file, data directory, keys and an empty database."""
    from node.admin import create_node
    from node.config import load

    keys = {
        "cert": "tls.cert_file",
        "key": "tls.key_file",
        "port": "listen.port",
        "host": "listen.host",
        "ca_file": "ca_file",
        "registration": "registration",
    }
    values = {
        keys[option]: value.absolute() if isinstance(value, Path) else value
        for option, value in options.items()
        if value is not None
    }
    with _one_sentence():
        if turn is not None:
            from node.calls.coturn import make_ready

            make_ready(context.obj, turn, name)
        created = create_node(context.obj, name, values)
        settings = load(created.config)
        relay = None if turn is None else _write_turn(created.config, settings, turn)
    click.echo(f"Config file:    {created.config}")
    click.echo(f"Data directory: {created.data_dir}")
    click.echo(f"Recovery key:   {created.recovery}")
    click.echo(
        "\nMove the recovery key off this machine, to paper or a stick: with it you "
        "can\nprove who your node is after its key was lost or stolen. Then start it:\n"
        f"\n  telex-node --config {created.config} run"
        f"\n  telex-node --config {created.config} invite"
    )
    if relay is not None:
        _say_turn(*relay)


@main.command()
@click.pass_context
def run(context: click.Context) -> None:
    """Run the node until it gets SIGTERM or Ctrl-C."""
    from node.logs import set_up
    from node.server import run as run_node

    with _one_sentence():
        settings = _settings(context)
        set_up(settings.log.level, settings.log.format)
        run_node(settings, _say_ready)


def _say_ready(node: "Node") -> None:
    click.echo(
        f"{node.settings.name} is up at {node.settings.public_url} (port {node.port})."
    )


@main.command()
@click.option(
    "--uses",
    type=click.IntRange(1, 10_000),
    default=1,
    show_default=True,
    help="How many accounts the code is good for.",
)
@click.option(
    "--expires",
    type=_Duration(),
    default="7d",
    show_default=True,
    help="How long it holds: a number and m, h, d or w.",
)
@click.pass_context
def invite(context: click.Context, uses: int, expires: int) -> None:
    """Print a code with which somebody can make an account."""
    from node.admin import invite as make_invite

    with _one_sentence():
        click.echo(make_invite(_settings(context), uses=uses, lifetime=expires))


@main.group()
def user() -> None:
    """See the accounts, shut one out, let it in again."""


@user.command("list")
@click.pass_context
def user_list(context: click.Context) -> None:
    """List the accounts of this node."""
    from node.admin import account_rows

    with _one_sentence():
        settings = _settings(context)
        rows = account_rows(settings)
    for name, created, disabled, devices in rows:
        word = "device" if devices == 1 else "devices"
        state = "  disabled" if disabled else ""
        click.echo(f"{name}@{settings.name}  {_date(created)}  {devices} {word}{state}")
    if not rows:
        click.echo("There are no accounts yet; `telex-node invite` makes a code.")


@user.command("disable")
@click.argument("name")
@click.pass_context
def user_disable(context: click.Context, name: str) -> None:
    """Shut an account out; a running node ends its sessions within a second."""
    _set_disabled(context, name, True)
    click.echo(f"{name} is shut out.")


@user.command("enable")
@click.argument("name")
@click.pass_context
def user_enable(context: click.Context, name: str) -> None:
    """Let an account in again."""
    _set_disabled(context, name, False)
    click.echo(f"{name} may come in.")


def _set_disabled(context: click.Context, name: str, disabled: bool) -> None:
    from node.admin import disable

    with _one_sentence():
        disable(_settings(context), name, disabled)


@main.group()
def peer() -> None:
    """See the other nodes that this one has met."""


@peer.command("list")
@click.pass_context
def peer_list(context: click.Context) -> None:
    """List other nodes: whether they are trusted, and how they answer."""
    from node.admin import peers

    with _one_sentence():
        records = peers(_settings(context))
    for record, pending in records:
        seen = f"seen {_moment(record.last_seen)}" if record.last_seen else "never seen"
        waiting = f"  {pending} pending" if pending else ""
        click.echo(f"{record.name}  keys {_TRUST[record.trusted]}  {seen}{waiting}")
        if record.fails:
            click.echo(
                f"    failing since {_moment(record.failing_since)}, next try "
                f"{_moment(record.next_try)}"
            )
        if record.last_error:
            # Part of it may be the peer's own words; none of it drives a terminal.
            words = (c if c.isprintable() else "?" for c in record.last_error)
            click.echo(f"    {''.join(words)}")
    if not records:
        click.echo("This node has met no other yet.")


_TRUST = {
    "new": "not seen yet",
    "ok": "trusted",
    "changed": "CHANGED (see `telex-node peer accept`)",
}


@peer.command("accept")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def peer_accept(context: click.Context, name: str, yes: bool) -> None:
    """Trust the keys that another node shows now, in place of those before.

    Needed when a node's keys changed without a signature of the old ones: it was
    made anew, or somebody stands in between. Ask its admin, not over Telex, for the
    fingerprint that `telex-node status` shows there.
    """
    import asyncio

    from node.peers.trust import accept_offer, fetch_offer

    with _one_sentence():
        settings = _settings(context)
        offer = asyncio.run(fetch_offer(settings, name))
        click.echo(f"Trusted until now: {offer.pinned or 'nothing'}")
        click.echo(f"Shown now:         {offer.shown}")
        if offer.settled:
            click.echo(f"{name} is trusted with these keys; nothing was changed.")
            return
        if not yes:
            click.confirm(
                f"Did the admin of {name} tell you this fingerprint?", abort=True
            )
        asyncio.run(accept_offer(settings, name, offer))
    click.echo(f"{name} is trusted with the keys that it shows now.")


@main.command("rotate-key")
@click.option(
    "--recovery-key",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The recovery key's file, if the node key is lost or stolen.",
)
@click.pass_context
def rotate_key(context: click.Context, recovery_key: Path | None) -> None:
    """Make a new node key, signed by the old one; the node must not run.

    Other nodes take it by themselves as soon as they meet it.
    """
    from node.admin import rotate_key as rotate
    from node.keys import fingerprint

    with _one_sentence():
        identity = rotate(_settings(context), recovery_key)
    click.echo(f"The node key is now {identity.keyid}.")
    click.echo(f"Fingerprint: {fingerprint(identity)}")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def status(context: click.Context, as_json: bool) -> None:
    """Show whether the node runs, how it is, and what it holds.

    Exit status 1 if something is wrong; each thing that is stands in a sentence.
    """
    from node.status import print_status, read_status

    with _one_sentence():
        found = read_status(_settings(context))
    print_status(found, as_json)
    sys.exit(0 if found.healthy else 1)


@main.command()
@click.argument(
    "database", type=click.Path(path_type=Path, dir_okay=False), required=False
)
@click.option("--quick", is_flag=True, help="Compare only the sizes of files.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def verify(
    context: click.Context, database: Path | None, quick: bool, as_json: bool
) -> None:
    """Check every hash chain, account and file against what was stored.

    Of this node, which may run meanwhile, or of a copy at DATABASE. Exit status 1 if
    anything is wrong; nothing is changed.
    """
    from node.checkup import print_report, verify_node

    with _one_sentence():
        path = database if database is not None else _settings(context).database
        found = verify_node(path, quick=quick)
    print_report(found, as_json)
    sys.exit(1 if found.findings else 0)


@main.command()
@click.argument("host", required=False)
@click.option("--replace", is_flag=True, help="Write turnserver.conf anew.")
@click.pass_context
def turn(context: click.Context, host: str | None, replace: bool) -> None:
    """Set up a TURN server (coturn) for calls, or check those there are.

    With HOST, the name or address under which coturn will be reached: write its
    turnserver.conf beside the config file, and [calls] into the config file. Without:
    ask every STUN and TURN server of the settings, as a device would; exit status 1
    if one does not work. For another secret, delete turn.secret and use --replace.
    """
    with _one_sentence():
        settings = _settings(context)
        if host is not None:
            _say_turn(*_write_turn(context.obj, settings, host, replace))
            return
        from node.calls.check import check_calls

        found = check_calls(settings)
    for url, problem in found:
        click.echo(f"{url}  {problem or 'works'}")
    if not found:
        click.echo("Calls go directly or not at all: `telex-node turn HOST` helps.")
    sys.exit(1 if any(problem for _, problem in found) else 0)


def _write_turn(
    config: Path, settings: "Settings", host: str, replace: bool = False
) -> "tuple[TurnPlan, TurnFiles]":
    from node.calls.coturn import plan_turn, tls_of, write_settings, write_turn

    plan = plan_turn(host, settings.name, tls_of(settings))
    files = write_turn(config.absolute().parent, plan, replace=replace)
    write_settings(config, plan.values)
    return plan, files


def _say_turn(plan: "TurnPlan", files: "TurnFiles") -> None:
    conf = files.conf
    click.echo(f"\nTURN server:    {conf}\nTURN secret:    {files.secret}")
    for note in plan.notes:
        click.echo(f"Note: {note}")
    click.echo(
        "\nInstall coturn (Debian, Ubuntu: apt install coturn) and run it with this:\n"
        f"\n  install -m 600 -o turnserver {conf} /etc/turnserver.conf"
        "\n  systemctl restart coturn"
        f"\n\nOpen in the firewall: {plan.firewall}.\n"
        "Then start the node (again); `telex-node turn` says whether all of it works."
    )


@main.command("check-config")
@click.pass_context
def check_config(context: click.Context) -> None:
    """Say whether the config file, its certificate and the keys can be used.

    Also asks the STUN and TURN servers that calls are to use.
    """
    with _one_sentence():
        settings = _settings(context)
        from node.app import Node
        from node.calls.check import check_calls

        Node(settings)
        found = check_calls(settings)
    click.echo(f"{context.obj} is fine.")
    for _, problem in found:
        if problem:
            click.echo(f"But calls will suffer: {problem}")


@main.command(
    "bench",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True},
    short_help="Measure what a node does on this machine.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench(arguments: tuple[str, ...]) -> None:
    """Measure what a node does on this machine (options: `bench --help`)."""
    from node.bench.command import main as measure

    with _one_sentence():
        measure(list(arguments), prog_name="telex-node bench")


def _date(seconds: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


if __name__ == "__main__":
    main()
