"""`telex verify`, `telex backup`, `telex doctor`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tui.commands.asking import PASSWORD_FILE, PHRASE_FILE, Place, ask_phrase, run

if TYPE_CHECKING:
    from client.model import Ailment, BackupStatus

__all__ = ["backup", "doctor", "verify"]


@click.command()
@click.argument("address", metavar="ACCOUNT")
@PASSWORD_FILE
@click.option("--digits", "typed", help="Their 60 digits or their code, to compare.")
@click.option("--withdraw", is_flag=True, help="Take a verification back.")
@click.option("--no-qr", is_flag=True, help="Leave the picture out.")
@click.pass_obj
def verify(
    place: Place,
    address: str,
    password_file: Path | None,
    typed: str | None,
    withdraw: bool,
    no_qr: bool,
) -> None:
    """Compare keys with ACCOUNT: digits, emoji, a QR code.

    The other side sees the same with your address. Type or paste what it shows; it is
    compared for you, and the person is verified if all is the same.
    """
    from protocol.address import parse_account

    account = str(parse_account(address))
    run(_verify(place, account, password_file, typed, withdraw, no_qr))


async def _verify(
    place: Place,
    account: str,
    password_file: Path | None,
    typed: str | None,
    withdraw: bool,
    no_qr: bool,
) -> None:
    from tui.commands.account import show_qr
    from tui.commands.running import opened, simple_terminal
    from tui.comparing import check_typed
    from tui.screens.verify import digit_rows

    async with opened(place, password_file, online=False) as client:
        port = client.verification
        if withdraw:
            await port.withdraw(account)
            click.echo(f"{account} is unverified again.", err=True)
            return
        mark = await port.fingerprint(account)
        if typed is None:
            click.echo("\n".join(digit_rows(mark.digits)))
            if mark.emoji:
                click.echo(f"\n{mark.emoji}")
            if not no_qr:
                click.echo("")
                show_qr(mark.uri, plain=simple_terminal())
            click.echo(f"\n{mark.uri}")
            if not sys.stdin.isatty():
                return
            typed = click.prompt(
                "\nTheir digits or code (Enter leaves it)",
                default="",
                show_default=False,
                err=True,
            )
            if not typed:
                return
        await check_typed(port, account, typed)
        await port.confirm(account)
    click.echo(f"All is the same: {account} is verified.", err=True)


@click.group(invoke_without_command=True)
@click.pass_context
def backup(context: click.Context) -> None:
    """The encrypted backup at your node; alone, it shows how it stands."""
    if context.invoked_subcommand is None:
        context.invoke(backup_status)


@backup.command("status")
@PASSWORD_FILE
@click.pass_obj
def backup_status(place: Place, password_file: Path | None) -> None:
    """Show how the backup stands."""
    run(_backup(place, password_file, "status"))


@backup.command("now")
@PASSWORD_FILE
@click.pass_obj
def backup_now(place: Place, password_file: Path | None) -> None:
    """Back up now."""
    run(_backup(place, password_file, "now"))


@backup.command("on")
@PASSWORD_FILE
@PHRASE_FILE
@click.pass_obj
def backup_on(
    place: Place, password_file: Path | None, phrase_file: Path | None
) -> None:
    """Back up from now on."""
    run(_backup(place, password_file, "on", phrase_file))


@backup.command("off")
@PASSWORD_FILE
@click.option("--yes", is_flag=True, help="Do not ask again.")
@click.pass_obj
def backup_off(place: Place, password_file: Path | None, yes: bool) -> None:
    """Back up no more, and delete what lies at the node."""
    question = "Delete the backup? If you lose your devices your history is lost."
    if not yes and not click.confirm(question, err=True):
        raise click.Abort
    run(_backup(place, password_file, "off"))


async def _backup(
    place: Place, password_file: Path | None, what: str, phrase_file: Path | None = None
) -> None:
    from client.errors import BackupFailed
    from tui.commands.running import Progress, opened

    async with opened(place, password_file, online=what != "status") as client:
        port = client.backup
        if what == "now":
            progress = Progress()
            await port.now(lambda n, of: progress.show("Backing up", n, of))
            progress.end()
        elif what == "off":
            await port.disable()
        elif what == "on":
            try:
                phrase = ask_phrase(phrase_file) if phrase_file else None
                await port.enable(phrase=phrase)
            except BackupFailed as error:
                click.echo(str(error), err=True)
                await port.enable(phrase=ask_phrase(None))
        status = await port.status()
    for line in backup_lines(status):
        click.echo(line)


def backup_lines(status: "BackupStatus") -> list[str]:
    """How the backup stands, for a terminal or a script."""
    from tui.amounts import size
    from tui.layout import clock

    last = f"{clock(status.last):%Y-%m-%d %H:%M}" if status.last else "never"
    lines = [f"backup    {'on' if status.enabled else 'off'}", f"last      {last}"]
    if status.last:
        room = f" of {size(status.quota)}" if status.quota else ""
        lines.append(f"messages  {status.messages}")
        lines.append(f"size      {size(status.size)}{room}")
    if status.error:
        lines.append(f"error     {status.error}")
    return lines


@click.command()
@PASSWORD_FILE
@click.option("--repair", is_flag=True, help="Repair whatever can be.")
@click.option(
    "--wait", default=30.0, show_default=True, help="Seconds to wait for repairs."
)
@click.pass_obj
def doctor(place: Place, password_file: Path | None, repair: bool, wait: float) -> None:
    """Show what cannot be read or sent, why, who is at fault, and what helps.

    The exit status is 1 if something is left open.
    """
    sys.exit(run(_doctor(place, password_file, repair, wait)))


async def _doctor(
    place: Place, password_file: Path | None, repair: bool, wait: float
) -> int:
    import asyncio
    import contextlib

    from tui.commands.running import opened

    async with opened(place, password_file, online=repair) as client:
        own = client.device
        titles = {room.id: room.title for room in await client.rooms()}
        found = await client.doctor.examine()
        if repair and found:
            events = client.events()
            await client.doctor.repair_all()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    # What was asked of others still is "open" for a moment.
                    while any(map(under_way, await client.doctor.examine())):
                        await anext(events)
            found = await client.doctor.examine()
    left = [one for one in found if one.state != "repaired"]
    if not left:
        click.echo("Everything can be read and sent.")
        return 0
    for one in left:
        room = titles.get(one.room, str(one.room))
        click.echo("\n".join(ailment_text(one, room, own)))
    return 1


def under_way(one: "Ailment") -> bool:
    """Whether it may be repaired yet, without anybody doing more."""
    return one.state != "repaired" and one.repair in ("rejoin", "ask_resend", "wait")


def ailment_text(one: "Ailment", room: str, own: str) -> list[str]:
    """An ailment as a small table; `own` is this device's address."""
    from tui.cells import one_line

    device = "this device" if one.device == own else one_line(one.device)
    rows = [
        ("what", f"{one.code} in {one_line(room)} ({one.state})"),
        ("cause", one_line(one.cause)),
        ("device", device or "none at fault"),
        ("repair", one_line(one.repair_text)),
    ]
    return [*(f"{name:8}{text}" for name, text in rows), ""]
