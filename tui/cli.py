"""`telex`: open the chat, register, log in, send a line, show a demo; the commands
for devices, keys, backup and repair are in `tui.commands`.

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
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from tui.commands import account as account_commands
from tui.commands import audio, care, devices
from tui.commands.asking import (
    FILE,
    PASSWORD_FILE,
    PHRASE_FILE,
    Place,
    ask_password,
    ask_phrase,
    ca_file_of,
    keep_ca_file,
    password_in_env,
    password_or_keyring,
    profile_of,
    quiz_words,
    run,
)

if TYPE_CHECKING:
    from tui.locations import Locations

__all__ = ["cli", "main"]

PATH = click.Path(path_type=Path)


def main() -> NoReturn:
    """The console script."""
    from client.storage.hardening import harden

    harden()  # before a password or a phrase is in memory
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
    from tui.terminal import ask

    question = ask()  # the terminal answers while Textual is being loaded
    try:
        from tui.app import TelexApp
        from tui.app import run as run_app
        from tui.config import load_settings
        from tui.logs import start_logging
    finally:
        question.hear()
    settings = load_settings(locations.config)
    locations.prepare()
    start_logging(locations.log)
    if ca_file is None and settings.ca_file:
        ca_file = Path(settings.ca_file)
    app = TelexApp(locations, settings, ca_file=ca_file, password=password_in_env())
    app.question = question
    run(run_app(app))
    sys.exit(app.return_code or 0)


@cli.command()
@click.argument("address")
@click.option("--invite", required=True, help="The code that the admin gave you.")
@PASSWORD_FILE
@click.option("--yes", is_flag=True, help="Ask nothing: backup on, no keyring.")
@click.option(
    "--backup/--no-backup",
    default=None,
    help="Keep the history at the node, encrypted by the 24 words.",
)
@click.option(
    "--keyring/--no-keyring",
    default=None,
    help="Let this system's keyring open Telex here.",
)
@click.pass_obj
def register(
    obj: Place,
    address: str,
    invite: str,
    password_file: Path | None,
    yes: bool,
    backup: bool | None,
    keyring: bool | None,
) -> None:
    """Make the account ADDRESS, for example alice@example.org."""
    from protocol.address import parse_account

    account = str(parse_account(address))
    password = ask_password(password_file, twice=True)
    if backup is None:
        question = "Keep an encrypted backup of your history at your node?"
        backup = yes or click.confirm(question, default=True, err=True)
    words = run(_register(obj, account, invite, password, backup))
    keep_ca_file(obj)
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
        quiz_words(words)
    if keyring is None:
        keyring = not yes and _wants_keyring()
    if keyring:
        run(_use_keyring(obj, password))
    click.echo("\nNow start: telex", err=True)


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
    obj: Place, account: str, invite: str, password: str, backup: bool
) -> list[str]:
    """The words."""
    import socket

    from client.engine import Client

    client, words = await Client.register(
        profile_of(obj),
        account,
        invite=invite,
        password=password,
        device_name=socket.gethostname(),
        backup=backup,
    )
    await client.close()
    return words


def _wants_keyring() -> bool:
    """Ask, where there is one."""
    from client.storage import system_keyring

    if not system_keyring.available():
        return False
    question = "Let this system's keyring open Telex here, without the password?"
    click.echo("", err=True)
    return click.confirm(question, default=False, err=True)


async def _use_keyring(obj: Place, password: str) -> None:
    """The account is made and its words are shown, whatever comes of this."""
    from client.engine import Client
    from client.errors import KeyringFailed

    client = await Client.open(profile_of(obj), password=password)
    try:
        await client.use_keyring(True)
    except KeyringFailed as error:
        click.echo(f"\nThe keyring is not used: {error}", err=True)
    finally:
        await client.close()


@cli.command()
@click.argument("address")
@PASSWORD_FILE
@PHRASE_FILE
@click.pass_obj
def login(
    obj: Place,
    address: str,
    password_file: Path | None,
    phrase_file: Path | None,
) -> None:
    """Use the account ADDRESS on this device too."""
    from protocol.address import parse_account

    account = str(parse_account(address))
    password = ask_password(password_file, twice=False)
    run(_login(obj, account, password, ask_phrase(phrase_file)))
    keep_ca_file(obj)
    click.echo(f"This device belongs to {account} now. Start: telex", err=True)


async def _login(obj: Place, account: str, password: str, phrase: str) -> None:
    from client.engine import Client

    profile = profile_of(obj)
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
    obj: Place,
    address: str,
    text: str,
    password_file: Path | None,
    wait: float,
) -> None:
    """Send TEXT to ADDRESS and wait until the node has it; for scripts."""
    from protocol.address import parse_account
    from tui.sending import send_once

    locations = obj[0]
    account = str(parse_account(address))
    password = password_or_keyring(obj, password_file)
    if not run(
        send_once(locations.profile, ca_file_of(obj), password, account, text, wait)
    ):
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


for command in (
    account_commands.link,
    devices.devices,
    account_commands.recover,
    care.backup,
    care.verify,
    care.doctor,
    account_commands.passphrase,
    audio.audio,
):
    cli.add_command(command)


if __name__ == "__main__":
    main()
