"""What the parts of the screen tell each other: past facts and wishes.

Widgets never call the client; they post one of these, and the chat screen, which
owns the open room, does the work.
"""

from dataclasses import dataclass

from textual.message import Message as TextualMessage

from client.model import Message, MessageId
from protocol.log import LogId

__all__ = [
    "EndReached",
    "MemberChosen",
    "MessageAction",
    "MessageChosen",
    "NewerWanted",
    "OlderWanted",
    "RoomChosen",
    "TextWritten",
]


@dataclass
class RoomChosen(TextualMessage):
    """Somebody wants to see this room."""

    room: LogId


@dataclass
class MessageChosen(TextualMessage):
    """A message is chosen in the timeline, or none any more."""

    message: Message | None


@dataclass
class MessageAction(TextualMessage):
    """Something is to be done with a message: reply, copy, retry, discard, jump."""

    action: str
    id: MessageId


class OlderWanted(TextualMessage):
    """The timeline comes near the top of what is loaded."""


class NewerWanted(TextualMessage):
    """The timeline comes near the bottom of what is loaded."""


@dataclass
class EndReached(TextualMessage):
    """The newest message came into view, or went out of it."""

    visible: bool


@dataclass
class TextWritten(TextualMessage):
    """A message was finished in the composer."""

    text: str


@dataclass
class MemberChosen(TextualMessage):
    """Something is to be done with members: add, remove, leave."""

    action: str
    account: str = ""
