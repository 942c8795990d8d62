"""`telex`: open the chat, register, log in, send a line, show a demo.

This module is what starts first, so it imports click and nothing heavy; each
command imports what it needs. A command parses, calls one function and turns what
went wrong into one sentence:

    0    it worked
    1    it did not; the sentence on standard error says why
    2    the command line was wrong
    3    `send`: the message is stored and waits for the network
    130  interrupted
"""

import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from tui.locations import Locations

__all__ = ["cli", "main"]

PATH = click.Path(path_type=Path)
FILE = click.Path(path_type=Path, exists=True, dir_okay=False, readable=True)


def main() -> NoReturn:
    """The console script."""
    try:
        sys.exit(cli.main(prog_name="telex", standalone_mode=False) or 0)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        sys.exit(130)
    except Exception as error:
        sys.exit(_fail(error))


def _fail(error: Exception) -> int:
    from protocol.errors import TelexError

    if isinstance(error, TelexError):
        click.echo(f"telex: {error}", err=True)
        return 1
    import logging

    logging.getLogger(__name__).error("unexpected", exc_info=error)
    click.echo(
        f"telex: something went wrong that it did not expect "
        f"({type(error).__name__}); the log in the profile has the details.",
        err=True,
    )
    return 1


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--profile",
    type=PATH,
    envvar="TELEX_PROFILE",
    help="Folder of the account's keys and messages. [env: TELEX_PROFILE]",
)
@click.option(
    "--ca-file",
    type=FILE,
    envvar="TELEX_CA_FILE",
    help="Certificates (PEM) of a private network to trust. [env: TELEX_CA_FILE]",
)
@click.pass_context
def cli(context: click.Context, profile: Path | None, ca_file: Path | None) -> None:
    """Text, end-to-end encrypted, from your terminal to any node in the world.

    Without a command it opens the chat.
    """
    from tui.locations import default_locations, profile_locations

    locations = profile_locations(profile) if profile else default_locations()
    context.obj = (locations, ca_file)
    if context.invoked_subcommand is None:
        _chat(locations, ca_file)


def _chat(locations: "Locations", ca_file: Path | None) -> None:
    """Open the screen."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.ClickException(
            "The chat needs a terminal; use `telex send` in scripts."
        )
    from tui.app import TelexApp, run
    from tui.config import load_settings
    from tui.logs import start_logging

    settings = load_settings(locations.config)
    locations.prepare()
    start_logging(locations.log)
    if ca_file is None and settings.ca_file:
        ca_file = Path(settings.ca_file)
    app = TelexApp(locations, settings, ca_file=ca_file, password=_password_in_env())
    _run(run(app))
    sys.exit(app.return_code or 0)


def _run(main: Coroutine[Any, Any, Any]) -> Any:
    import asyncio

    return asyncio.run(main)


def _password_in_env() -> str:
    import os

    return os.environ.get("TELEX_PASSWORD", "")


def _password(file: Path | None, *, twice: bool) -> str:
    """The password: from a file, from TELEX_PASSWORD, or typed."""
    if file is not None:
        try:
            return file.read_text(encoding="utf-8").splitlines()[0]
        except (OSError, UnicodeDecodeError, IndexError) as error:
            raise click.ClickException(
                f"{file} holds no password in its first line."
            ) from error
    password = _password_in_env()
    if password:
        return password
    typed: str = click.prompt(
        "Password", hide_input=True, confirmation_prompt=twice, err=True
    )
    return typed


PASSWORD_FILE = click.option(
    "--password-file",
    type=FILE,
    help="Read the password from this file's first line (or set TELEX_PASSWORD).",
)


@cli.command()
@click.argument("address")
@click.option("--invite", required=True, help="The code that the admin gave you.")
@PASSWORD_FILE
@click.option("--yes", is_flag=True, help="Do not ask whether the words are written.")
@click.pass_obj
def register(
    obj: "tuple[Locations, Path | None]",
    address: str,
    invite: str,
    password_file: Path | None,
    yes: bool,
) -> None:
    """Make the account ADDRESS, for example alice@example.org."""
    from protocol.address import parse_account

    account = str(parse_account(address))
    password = _password(password_file, twice=True)
    words = _run(_register(obj, account, invite, password))
    _keep_ca_file(obj)
    click.echo(f"{account} is registered.\n", err=True)
    click.echo(
        "These 24 words are the only way back into the account when this device is\n"
        "lost. They are shown this once; write them on paper:\n",
        err=True,
    )
    click.echo(_columns(words))
    if not yes:
        click.echo("", err=True)
        while not click.confirm("Have you written them down?", err=True):
            pass
    click.echo("\nNow start: telex", err=True)


def _keep_ca_file(obj: "tuple[Locations, Path | None]") -> None:
    """Note which certificates this account needs, so that `telex` alone works."""
    from tui.config import load_settings, save_settings

    locations, ca_file = obj
    if ca_file is not None:
        settings = load_settings(locations.config)
        path = locations.config
        save_settings(path, settings.changed(ca_file=str(ca_file.absolute())))


def _columns(words: list[str]) -> str:
    """Four columns of six, numbered downwards."""
    rows = -(-len(words) // 4)
    lines = []
    for row in range(rows):
        cells = [
            f"{number + 1:2} {words[number]:<12}"
            for number in range(row, len(words), rows)
        ]
        lines.append("  " + "".join(cells).rstrip())
    return "\n".join(lines)


async def _register(
    obj: "tuple[Locations, Path | None]", account: str, invite: str, password: str
) -> list[str]:
    import socket

    from client.engine import Client
    from client.model import Profile

    locations, ca_file = obj
    locations.prepare()
    client, words = await Client.register(
        Profile(locations.profile, ca_file),
        account,
        invite=invite,
        password=password,
        device_name=socket.gethostname(),
    )
    await client.close()
    return words


@cli.command()
@click.argument("address")
@PASSWORD_FILE
@click.option("--phrase-file", type=FILE, help="Read the 24 words from this file.")
@click.pass_obj
def login(
    obj: "tuple[Locations, Path | None]",
    address: str,
    password_file: Path | None,
    phrase_file: Path | None,
) -> None:
    """Use the account ADDRESS on this device too."""
    from protocol.address import parse_account

    account = str(parse_account(address))
    password = _password(password_file, twice=False)
    if phrase_file is not None:
        phrase = phrase_file.read_text(encoding="utf-8")
    else:
        phrase = click.prompt("Your 24 words", hide_input=True, err=True)
    _run(_login(obj, account, password, " ".join(phrase.lower().split())))
    _keep_ca_file(obj)
    click.echo(f"This device belongs to {account} now. Start: telex", err=True)


async def _login(
    obj: "tuple[Locations, Path | None]", account: str, password: str, phrase: str
) -> None:
    from client.engine import Client
    from client.model import Profile

    locations, ca_file = obj
    locations.prepare()
    profile = Profile(locations.profile, ca_file)
    client = await Client.login(profile, account, password=password, phrase=phrase)
    await client.close()


@cli.command()
@click.argument("address")
@click.argument("text")
@PASSWORD_FILE
@click.option(
    "--wait", default=30.0, show_default=True, help="Seconds to wait for the node."
)
@click.pass_obj
def send(
    obj: "tuple[Locations, Path | None]",
    address: str,
    text: str,
    password_file: Path | None,
    wait: float,
) -> None:
    """Send TEXT to ADDRESS and wait until the node has it; for scripts."""
    from protocol.address import parse_account
    from tui.config import load_settings
    from tui.sending import send_once

    locations, ca_file = obj
    saved = load_settings(locations.config).ca_file
    if ca_file is None and saved:
        ca_file = Path(saved)
    account = str(parse_account(address))
    password = _password(password_file, twice=False)
    if not _run(send_once(locations.profile, ca_file, password, account, text, wait)):
        click.echo(
            "telex: the node did not take it in time; the message is stored and goes "
            "out at the next start.",
            err=True,
        )
        sys.exit(3)


@cli.command()
@click.option("--two", is_flag=True, help="Two people in two terminals, no bot.")
@click.option("--check", is_flag=True, help="No screen: one message, one answer.")
def demo(two: bool, check: bool) -> None:
    """Two nodes on this machine, two accounts, and a chat between them."""
    from tui.demo import run_demo

    if not check and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.ClickException("The demo needs a terminal; --check does without.")
    sys.exit(run_demo(two=two, check=check))


@cli.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    click.echo(f"telex {installed('telex')}")


if __name__ == "__main__":
    main()
