"""What an application sees of the engine: rooms, messages, people and events.

Frozen values, made from the database and never changed afterwards: when something
changes an event brings a new value. Nothing here holds a key. Texts and names have
been through `client.text.visible`: no control or bidi character is left in them.
"""

from dataclasses import dataclass
from enum import Enum, IntEnum
from pathlib import Path
from typing import Literal, NewType

from protocol.log import LogId

__all__ = [
    "Alarm",
    "Connection",
    "ConnectionChanged",
    "Event",
    "Message",
    "MessageChanged",
    "MessageId",
    "MessageRemoved",
    "Position",
    "Profile",
    "Quote",
    "Room",
    "RoomChanged",
    "RoomMember",
    "State",
]

MessageId = NewType("MessageId", str)
"""32 hex digits that follow from room, sending device and txn: all members of a
room compute the same one, and nobody can take another's."""

Position = NewType("Position", int)
"""Where a message stands in its room's timeline; only for comparing and paging."""

KEY_FILE = "key.json"
DATABASE_FILE = "telex.db"


@dataclass(frozen=True, slots=True)
class Profile:
    """Where an account lives on this machine, and how its node is reached."""

    directory: Path
    ca_file: Path | None = None
    """Certificates (PEM) that are trusted beside the system's, for private nodes."""
    node_url: str | None = None
    """`https://host:port` to use instead of asking the account's node for it."""

    def exists(self) -> bool:
        """Whether an account was set up here; `Client.open` can open it then."""
        return (self.directory / KEY_FILE).exists()


class Connection(Enum):
    """How things stand with the account's node."""

    OFFLINE = "offline"
    CONNECTING = "connecting"
    SYNCING = "syncing"
    """Connected, and reading what came in the meantime."""
    ONLINE = "online"


class State(IntEnum):
    """How far a message has come."""

    PENDING = 0
    """Stored here, not yet confirmed by the room's hub."""
    SENT = 1
    """In the room's log, on the hub's disk."""
    DELIVERED = 2
    """On a device of every other member."""
    READ = 3
    """Every other member has seen it."""
    FAILED = 4
    """It will not be sent unless `retry` is called; `error` says why."""
    RECEIVED = 5
    """Somebody else's message, or a notice."""


@dataclass(frozen=True, slots=True)
class Quote:
    """The message that another one answers."""

    id: MessageId
    sender: str
    """Empty if the message is not here (it came before this device joined)."""
    text: str


@dataclass(frozen=True, slots=True)
class Message:
    """A line of a room's timeline."""

    id: MessageId
    room: LogId
    position: Position
    sender: str
    """The account; of a notice, whom it is about, if anybody."""
    device: str
    """The device's full address."""
    time: int
    """Milliseconds since 1970, at the hub (at this device while pending)."""
    kind: Literal["text", "notice"]
    """A notice is said by the program: who came and went, what could not be read."""
    text: str
    state: State
    own: bool
    reply_to: Quote | None = None
    seq: int | None = None
    error: str = ""
    """Why it failed, in one sentence."""
    code: str = ""
    """Of a notice: a stable word for what happened, `added` or `bad_signature`."""
    delivered_to: int = 0
    """How many other accounts have it (own messages only)."""
    read_by: int = 0
    """How many other accounts have seen it (own messages only)."""


@dataclass(frozen=True, slots=True)
class Room:
    """A room as it stands in the list of rooms."""

    id: LogId
    title: str
    """Its name; of a direct chat the other person's address."""
    direct: bool
    unread: int
    last: Message | None
    members: int
    """Accounts in it."""
    active: bool
    """Whether this device can write in it."""
    note: str
    """Trouble in one sentence, if any."""
    hub: str
    """The node that orders it."""
    order: int
    """Sort rooms by this, highest first: milliseconds of the last thing in it."""


@dataclass(frozen=True, slots=True)
class RoomMember:
    """An account in a room."""

    account: str
    role: int
    """A `protocol.policy.Role` or a number between."""
    devices: int
    own: bool


@dataclass(frozen=True, slots=True)
class RoomChanged:
    """A room is new, or something about it changed."""

    room: Room


@dataclass(frozen=True, slots=True)
class MessageChanged:
    """A message is new or changed; its position may have changed too."""

    message: Message


@dataclass(frozen=True, slots=True)
class MessageRemoved:
    """A message that was never sent was discarded."""

    room: LogId
    id: MessageId


@dataclass(frozen=True, slots=True)
class ConnectionChanged:
    """The connection to the node changed."""

    connection: Connection
    detail: str
    """One sentence, where there is something to say."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """Somebody lied or a key changed: to be shown until it is dismissed."""

    room: LogId | None
    text: str


Event = RoomChanged | MessageChanged | MessageRemoved | ConnectionChanged | Alarm
