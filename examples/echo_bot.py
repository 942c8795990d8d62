"""A bot that answers every text with the same text: the engine as a library.

    TELEX_PASSWORD=... python examples/echo_bot.py FOLDER [ACCOUNT INVITE [CA_FILE]]

The account is registered the first time; afterwards the folder is enough.
"""

import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path

from client import Client, MessageChanged, Profile
from protocol.errors import TelexError


async def main(folder: str, account: str = "", invite: str = "", ca: str = "") -> None:
    profile = Profile(Path(folder), Path(ca) if ca else None)
    password = os.environ["TELEX_PASSWORD"]
    if profile.exists():
        bot = await Client.open(profile, password=password)
    else:
        bot, _ = await Client.register(
            profile, account, invite=invite, password=password
        )
    async with bot:
        print(f"{bot.account} is listening.", flush=True)
        async for event in bot.events():
            if isinstance(event, MessageChanged):
                message = event.message
                if message.kind == "text" and not message.own:
                    await bot.mark_read(message.room)
                    with suppress(TelexError):  # the room may have ended meanwhile
                        await bot.send_text(message.room, f"echo: {message.text}")


asyncio.run(main(*sys.argv[1:]))
