"""What stands inside an encrypted message: only members of the room can read it.

`envelope` writes and reads it; each other module holds the kinds of one matter. A new
kind is a frozen Struct with its word and its bounds, listed in `envelope._KINDS`; what
it does when it comes in is a function that is registered with `rooms.letters.Letters`.
"""

from client.content.envelope import (
    Body,
    Content,
    Unknown,
    read_body,
    read_content,
    write_content,
)
from client.content.own import Registers
from client.content.removal import Redaction, Timer
from client.content.repair import Again, Resend, ResendRequest
from client.content.talk import Receipt, Reply, RoomName, Text

__all__ = [
    "Again",
    "Body",
    "Content",
    "Receipt",
    "Redaction",
    "Registers",
    "Reply",
    "Resend",
    "ResendRequest",
    "RoomName",
    "Text",
    "Timer",
    "Unknown",
    "read_body",
    "read_content",
    "write_content",
]
