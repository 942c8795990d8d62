"""`telex send`: one message from a script, without a screen."""

import asyncio
import contextlib
from pathlib import Path

from client.engine import Client
from client.model import ConnectionChanged, MessageChanged, Profile, State
from protocol.errors import TelexError
from tui.advice import advised, is_revoked

__all__ = ["NotSent", "send_once"]


class NotSent(TelexError):
    """The message was refused; says why."""


async def send_once(
    directory: Path,
    ca_file: Path | None,
    password: str | None,
    account: str,
    text: str,
    wait: float,
) -> bool:
    """Send a text and wait until the room's node has it.

    Args:
        password: None lets the system's keyring open the profile.

    Returns:
        Whether it went out in time; if not, it waits in the profile.

    Raises:
        NotSent: it was refused, or this device is revoked.
        TelexError: the profile cannot be opened, or there is no such account.
    """
    client = await Client.open(Profile(directory, ca_file), password=password)
    async with client:
        events = client.events()
        room = await client.start_direct(account)
        message = await client.send_text(room.id, text)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                async for event in events:
                    if isinstance(event, ConnectionChanged) and is_revoked(
                        event.detail
                    ):
                        raise NotSent(f"Not sent: {advised(event.detail)}")
                    if not isinstance(event, MessageChanged):
                        continue
                    if event.message.id != message.id:
                        continue
                    if event.message.state is State.FAILED:
                        raise NotSent(f"Not sent: {event.message.error}")
                    if event.message.state is not State.PENDING:
                        return True
    return False
