"""An account that is open for the time of one command, and what it shows meanwhile."""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from client.errors import KeyringFailed, NodeUnreachable, StorageFailed
from client.model import Connection, LinkChanged, Profile, RestoreProgress
from tui.advice import advised
from tui.commands.asking import Place, ask_password, password_in_env, profile_of
from tui.text import say
from tui.widgets.top_line import RESTORED, bar, stage_text

if TYPE_CHECKING:
    from client.engine import Client

__all__ = [
    "Progress",
    "connected",
    "follow",
    "follow_here",
    "opened",
    "simple_terminal",
]

ONLINE_SECONDS = 20.0
"""For the node to answer; who starts a command waits for it."""

QUIET_SECONDS = 20.0
"""Without any progress, after which the rest is left to the next start."""

FULL_BYTES = 1 << 16
"""With less than this a disk is full: the database grows by some pages at a time."""

FULL_TIMES = 3
"""Seconds without room, one look each, after which nothing is waited for."""


def simple_terminal() -> bool:
    """Whether the terminal takes neither colours nor a cursor that goes back."""
    if os.environ.get("NO_COLOR"):
        return True
    return os.environ.get("TERM", "dumb") == "dumb" or not sys.stdout.isatty()


class Progress:
    """A line that is written over, or a line for each step where that cannot be."""

    def __init__(self) -> None:
        self._simple = not sys.stderr.isatty() or os.environ.get("TERM") == "dumb"
        self._last = ""
        self._open = False

    def show(self, text: str, done: int = 0, total: int = 0) -> None:
        """Say how far it is."""
        if self._simple:
            if text != self._last:
                click.echo(text, err=True)
        else:
            full = f"{text}  {bar(done, total)}" if total > 0 else text
            click.echo(f"\r\x1b[K{full}", nl=False, err=True)
            self._open = True
        self._last = text

    def end(self) -> None:
        """Leave the line."""
        if self._open:
            click.echo("", err=True)
            self._open = False


@asynccontextmanager
async def opened(
    place: Place, password_file: Path | None, *, online: bool = True
) -> "AsyncIterator[Client]":
    """Open the profile, run it, and (usually) wait until its node answers.

    Raises:
        TelexError: it cannot be opened, or nobody answers.
    """
    profile = profile_of(place)
    client = await _open(profile, password_file)
    async with client:
        if online:
            await connected(client)
        yield client


async def _open(profile: Profile, password_file: Path | None) -> "Client":
    """By the keyring where that is set up and nothing else was given."""
    from client.engine import Client

    if profile.by_keyring() and password_file is None and not password_in_env():
        try:
            return await Client.open(profile)
        except KeyringFailed as error:
            click.echo(str(error), err=True)
    # Without a profile `open` says what to do, so there is nothing to ask for.
    password = ask_password(password_file) if profile.exists() else ""
    return await Client.open(profile, password=password)


async def connected(client: "Client") -> None:
    """Wait until the account's node answers and everything was read.

    Raises:
        NodeUnreachable: it did not in time, with the reason.
    """
    events = client.events()
    try:
        async with asyncio.timeout(ONLINE_SECONDS):
            while client.connection is not Connection.ONLINE:
                await anext(events)
    except TimeoutError as error:
        detail = client.connection_detail
        raise NodeUnreachable(advised(detail) or "The node does not answer.") from error


async def follow_here(client: "Client", progress: Progress, folder: Path) -> bool:
    """`follow` on the device that is new, with an eye on its disk.

    Raises:
        StorageFailed: the disk is full; it would never go on.
    """
    following = asyncio.create_task(follow(client, progress, here=True))
    full = asyncio.create_task(_disk_full(folder))
    try:
        tasks = {following, full}
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if following.done():
            return following.result()
    finally:
        following.cancel()
        full.cancel()
        await asyncio.wait(tasks)
    raise StorageFailed(
        f"The account is on this device, but the disk of {folder} is full and your "
        "history does not fit: free some space and start telex, it comes then."
    )


async def _disk_full(folder: Path) -> None:
    """Wait until there is no room, and none is made."""
    times = 0
    while times < FULL_TIMES:
        await asyncio.sleep(1)
        times = times + 1 if shutil.disk_usage(folder).free < FULL_BYTES else 0


async def follow(client: "Client", progress: Progress, *, here: bool) -> bool:
    """Show how devices are linked and history comes, until it is all there.

    Args:
        here: whether it is this device that is new.

    Returns:
        Whether it ended; if not, it goes on at the next start.
    """
    events = client.events()
    try:
        while True:
            async with asyncio.timeout(QUIET_SECONDS):
                event = await anext(events)
            if isinstance(event, LinkChanged):
                step = event.progress
                progress.show(stage_text(step, here=here), step.done, step.total)
                if step.stage == "done":
                    return True
            elif isinstance(event, RestoreProgress):
                if event.stage in RESTORED:
                    progress.show(say(f"restore.{event.stage}"))
                    return True
                progress.show(say("top.restore"), event.done, event.total)
    except (TimeoutError, StopAsyncIteration):
        return False
    finally:
        progress.end()
