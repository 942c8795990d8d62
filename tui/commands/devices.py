"""`telex devices`: list, rename, revoke, let a new one in."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tui.commands.asking import PASSWORD_FILE, PHRASE_FILE, Place, ask_phrase, run

if TYPE_CHECKING:
    from client.engine import Client
    from client.model import Device

__all__ = ["devices"]


@click.group(invoke_without_command=True)
@click.pass_context
def devices(context: click.Context) -> None:
    """The devices of your account; alone, it lists them."""
    if context.invoked_subcommand is None:
        context.invoke(list_devices)


@devices.command("list")
@PASSWORD_FILE
@click.pass_obj
def list_devices(place: Place, password_file: Path | None) -> None:
    """Show all devices, this one first."""
    run(_list(place, password_file))


async def _list(place: Place, password_file: Path | None) -> None:
    from tui.commands.running import opened

    async with opened(place, password_file, online=False) as client:
        found = await client.devices.list()
    for line in device_table(found):
        click.echo(line)


def device_table(found: "list[Device]") -> list[str]:
    """A heading and a line for each device, in columns."""
    from tui.cells import cell_len, fit, one_line
    from tui.layout import clock

    rows = [("NAME", "ID", "ADDED", "UNTIL", "LAST SEEN", "")]
    for one in sorted(found, key=lambda d: (d.revoked, not d.own, d.created)):
        notes = [
            word
            for word, on in (
                ("this device", one.own),
                ("manager", one.manager),
                ("revoked", one.revoked),
                ("doubtful: revoke it if it is not yours", one.doubtful),
            )
            if on
        ]
        seen = f"{clock(one.last_seen):%Y-%m-%d}" if one.last_seen else "-"
        rows.append(
            (
                one_line(one.name) or "-",
                one.id.rpartition("/")[2][:8],
                f"{clock(one.created * 1000):%Y-%m-%d}",
                f"{clock(one.expires * 1000):%Y-%m-%d}",
                seen,
                ", ".join(notes),
            )
        )
    widths = [min(24, max(cell_len(row[n]) for row in rows)) for n in range(6)]
    widths[5] = 60
    return [
        "  ".join(
            fit(text, width) for text, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]


def pick(found: "list[Device]", wanted: str) -> "Device":
    """The device that a name or the beginning of an id means.

    Raises:
        click.ClickException: none does, or several do.
    """
    left = [one for one in found if not one.revoked]
    exact = [one for one in left if wanted in (one.name, one.id)]
    hits = exact or [
        one for one in left if one.id.rpartition("/")[2].startswith(wanted.lower())
    ]
    if not hits:
        raise click.ClickException(
            f"No device is called {wanted}; telex devices shows names and ids."
        )
    if len(hits) > 1:
        raise click.ClickException(
            f"Several devices are called {wanted}; give the id of one."
        )
    return hits[0]


@devices.command()
@click.argument("device")
@click.argument("name")
@PASSWORD_FILE
@click.pass_obj
def rename(place: Place, device: str, name: str, password_file: Path | None) -> None:
    """Call DEVICE (a name or the beginning of an id) NAME."""
    run(_rename(place, device, name, password_file))


async def _rename(
    place: Place, device: str, name: str, password_file: Path | None
) -> None:
    from tui.commands.running import opened

    async with opened(place, password_file) as client:
        one = pick(await client.devices.list(), device)
        await client.devices.rename(one.id, name)
    click.echo(f"The device is called {name} now.", err=True)


@devices.command()
@click.argument("device")
@PASSWORD_FILE
@PHRASE_FILE
@click.option("--yes", is_flag=True, help="Do not ask again.")
@click.pass_obj
def revoke(
    place: Place,
    device: str,
    password_file: Path | None,
    phrase_file: Path | None,
    yes: bool,
) -> None:
    """Shut DEVICE out of your account and of all your chats, for good."""
    run(_revoke(place, device, password_file, phrase_file, yes))


async def _revoke(
    place: Place,
    device: str,
    password_file: Path | None,
    phrase_file: Path | None,
    yes: bool,
) -> None:
    import asyncio

    from tui.commands.running import QUIET_SECONDS, opened

    async with opened(place, password_file) as client:
        found = await client.devices.list()
        one = pick(found, device)
        name = one.name or one.id
        if one.own:
            raise click.ClickException(
                "That is this device; revoke it from another one of yours."
            )
        if not yes and not click.confirm(f"Revoke {name} for good?", err=True):
            raise click.Abort
        phrase = None
        if one.manager or not any(d.own and d.manager for d in found):
            phrase = ask_phrase(phrase_file, "Your 24 words (this takes them)")
        events = client.events()
        await client.devices.revoke(one.id, phrase=phrase)
        click.echo(f"{name} was revoked.", err=True)
        try:
            async with asyncio.timeout(QUIET_SECONDS):
                while await _still_there(client):
                    await anext(events)
        except TimeoutError:
            click.echo("It leaves the other chats whenever Telex runs here.", err=True)


async def _still_there(client: "Client") -> bool:
    """Whether a revoked device of this account has not left some chat yet."""
    left = sum(not one.revoked for one in await client.devices.list())
    for room in await client.rooms():
        members = await client.members(room.id) if room.active else []
        if any(one.own and one.devices > left for one in members):
            return True
    return False


@devices.command()
@click.argument("code", required=False)
@PASSWORD_FILE
@click.option("--manager", is_flag=True, help="It may let in and revoke others.")
@click.option("--no-history", is_flag=True, help="It gets nothing said so far.")
@click.option("--yes", is_flag=True, help="Do not ask again.")
@click.pass_obj
def approve(
    place: Place,
    code: str | None,
    password_file: Path | None,
    manager: bool,
    no_history: bool,
    yes: bool,
) -> None:
    """Let in the new device that shows CODE.

    Better leave CODE out and type it when asked: on the command line it stays in
    the shell's history, and others on this machine can see it.
    """
    if code is None:
        code = click.prompt("Code on the new device", err=True)
    run(_approve(place, code, password_file, manager, not no_history, yes))


async def _approve(
    place: Place,
    code: str,
    password_file: Path | None,
    manager: bool,
    history: bool,
    yes: bool,
) -> None:
    from tui.cells import one_line
    from tui.commands.running import Progress, follow, opened

    async with opened(place, password_file) as client:
        offer = await client.devices.look(code)
        name = one_line(offer.name) or "a device without a name"
        click.echo(f"{name} ({offer.device.rpartition('/')[2][:8]})", err=True)
        click.echo(f"becomes a device of {offer.account}; it gets", err=True)
        click.echo(
            f"  your chats, {'and' if history else 'but not'} what was said so far\n"
            f"  {'the' if manager else 'no'} right to manage devices",
            err=True,
        )
        question = "Do you hold it in your hands, and let it in?"
        if not yes and not click.confirm(question, err=True):
            raise click.Abort
        await client.devices.approve(offer, manager=manager, history=history)
        click.echo("Let in. It is brought into your chats now ...", err=True)
        done = await follow(client, Progress(), here=False)
    if not done:
        click.echo("What is left goes on whenever Telex runs here.", err=True)
