"""`telex link`, `telex recover`, `telex passphrase`: how an account comes here."""

import sys
from pathlib import Path

import click

from tui.commands.asking import (
    FILE,
    PASSWORD_FILE,
    PHRASE_FILE,
    Place,
    ask_password,
    ask_phrase,
    keep_ca_file,
    profile_of,
    run,
)

__all__ = ["link", "passphrase", "recover"]


@click.command()
@click.argument("address", metavar="ACCOUNT")
@PASSWORD_FILE
@click.option("--name", default="", help="What your devices call this one.")
@click.option("--no-qr", is_flag=True, help="Show the code without the picture.")
@click.pass_obj
def link(
    place: Place, address: str, password_file: Path | None, name: str, no_qr: bool
) -> None:
    """Make this machine a device of ACCOUNT, let in by another one of yours.

    It shows a code. On the other device type it in under "My devices" (Ctrl+O, D, L)
    or run: telex devices approve
    """
    from protocol.address import parse_account

    account = str(parse_account(address))
    click.echo("Choose the password that opens Telex on this device.", err=True)
    password = ask_password(password_file, twice=True)
    done = run(_link(place, account, password, name, no_qr))
    keep_ca_file(place)
    if not done:
        click.echo("The rest of your history comes at the next start.", err=True)
    click.echo(f"This device belongs to {account} now. Start: telex", err=True)


async def _link(
    place: Place, account: str, password: str, name: str, no_qr: bool
) -> bool:
    import socket

    from client.engine import Client
    from tui.commands.running import Progress, connected, follow_here, simple_terminal

    progress = Progress()
    linking = Client.link(
        profile_of(place),
        account,
        password=password,
        device_name=name or socket.gethostname(),
    )
    async with linking:
        request = linking.request
        if not no_qr:
            show_qr(request.uri, plain=simple_terminal())
        click.echo(f"Code:  {request.code}\n{request.uri}\n")
        click.echo(
            "On your other device open Telex, press Ctrl+O, D and L, and type the code;"
            "\nor run there:  telex devices approve  (it asks for the code)\n",
            err=True,
        )
        progress.show("Waiting for the other device (Ctrl+C gives up) ...")
        try:
            client = await linking.wait()
        finally:
            progress.end()
    async with client:
        click.echo("This device is let in.", err=True)
        await connected(client)
        return await follow_here(client, progress, place[0].profile)


def show_qr(text: str, *, plain: bool) -> None:
    """A QR code on standard output; black on white where there are colours."""
    from tui.qr import qr_rows

    for row in qr_rows(text, plain=plain):
        # Numbers 16 and 231 of the 256 are the same everywhere: real black, real white.
        click.echo(row if plain else f"\x1b[38;5;16;48;5;231m{row}\x1b[0m", color=True)


@click.command()
@click.argument("address", metavar="ACCOUNT")
@PASSWORD_FILE
@PHRASE_FILE
@click.option("--name", default="", help="What your devices call this one.")
@click.option("--drill", is_flag=True, help="Change nothing: would it all come back?")
@click.pass_obj
def recover(
    place: Place,
    address: str,
    password_file: Path | None,
    phrase_file: Path | None,
    name: str,
    drill: bool,
) -> None:
    """Get ACCOUNT back with its 24 words alone, and set a new password.

    With --drill, on a device that has the account, try out whether your words and the
    backup would bring everything back; nothing is changed.
    """
    from protocol.address import parse_account

    account = str(parse_account(address))
    phrase = ask_phrase(phrase_file)
    if drill:
        sys.exit(run(_drill(place, account, password_file, phrase)))
    password = ask_password(password_file, twice=True, prompt="New password")
    done = run(_recover(place, account, phrase, password, name))
    keep_ca_file(place)
    if not done:
        click.echo("The rest of your history comes at the next start.", err=True)
    click.echo(f"{account} is yours again. Start: telex", err=True)
    click.echo("Revoke devices that you lost: telex devices revoke NAME", err=True)


async def _recover(
    place: Place, account: str, phrase: str, password: str, name: str
) -> bool:
    import socket

    from client.engine import Client
    from tui.commands.running import Progress, connected, follow_here

    client = await Client.recover(
        profile_of(place),
        account,
        phrase=phrase,
        password=password,
        device_name=name or socket.gethostname(),
    )
    async with client:
        click.echo("The node knows you again; your history is being looked for.")
        await connected(client)
        return await follow_here(client, Progress(), place[0].profile)


async def _drill(
    place: Place, account: str, password_file: Path | None, phrase: str
) -> int:
    from tui.commands.running import Progress, opened
    from tui.layout import clock

    progress = Progress()
    async with opened(place, password_file) as client:
        if client.account != account:
            raise click.ClickException(f"This profile is of {client.account}.")
        report = await client.backup.drill(
            phrase=phrase,
            progress=lambda done, total: progress.show("Trying it out", done, total),
        )
    progress.end()
    click.echo(
        "Everything would come back." if report.ok else "Not all would come back."
    )
    newest = f"{clock(report.newest):%Y-%m-%d %H:%M}" if report.newest else "none"
    click.echo(f"rooms     {report.rooms}")
    click.echo(f"messages  {report.messages}")
    click.echo(f"contacts  {report.contacts}")
    click.echo(f"newest    {newest}")
    for sentence in report.lost:
        click.echo(f"! {sentence}")
    return 0 if report.ok else 1


@click.command()
@PASSWORD_FILE
@click.option("--new-password-file", type=FILE, help="Read the new one from this file.")
@click.option(
    "--keyring/--no-keyring",
    default=None,
    help="Open this profile by the system's keyring, or by the password again.",
)
@click.pass_obj
def passphrase(
    place: Place,
    password_file: Path | None,
    new_password_file: Path | None,
    keyring: bool | None,
) -> None:
    """Change what opens Telex on this device: its password, or the system's keyring."""
    run(_passphrase(place, password_file, new_password_file, keyring))


async def _passphrase(
    place: Place,
    password_file: Path | None,
    new_password_file: Path | None,
    keyring: bool | None,
) -> None:
    from client.engine import Client

    profile = profile_of(place)
    old = ask_password(password_file, prompt="Password now") if profile.exists() else ""
    client = await Client.open(profile, password=old)
    try:
        if keyring is not None:
            await client.use_keyring(keyring)
            done = "opens Telex here" if keyring else "is not used any more"
            click.echo(f"The keyring of this system {done}.", err=True)
            return
        if new_password_file is not None:
            new = ask_password(new_password_file)
        else:
            # Not from TELEX_PASSWORD: that is the old one.
            new = click.prompt(
                "New password", hide_input=True, confirmation_prompt=True, err=True
            )
        await client.change_password(old, new)
    finally:
        await client.close()
    click.echo("The password of this device is changed.", err=True)
