"""What an application sees of the engine: rooms, messages, people and events.

Frozen values, made from the database and never changed afterwards: when something
changes an event brings a new value. Nothing here holds a key. Texts and names have
been through `client.text.visible`: no control or bidi character is left in them.
Calls are in `client.calls.model`, and `client.event` lists the events.
"""

import json
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from pathlib import Path
from typing import Literal, NewType

from protocol.log import LogId

__all__ = [
    "Ailment",
    "Alarm",
    "BackupStatus",
    "Connection",
    "ConnectionChanged",
    "Device",
    "DevicesChanged",
    "DrillReport",
    "Fingerprint",
    "KeyChange",
    "LinkChanged",
    "LinkOffer",
    "LinkProgress",
    "LinkRequest",
    "MemberDevice",
    "Message",
    "MessageChanged",
    "MessageId",
    "MessageRemoved",
    "OwnPresenceChanged",
    "PeopleChanged",
    "PersonPresence",
    "Position",
    "Profile",
    "Quote",
    "RestoreProgress",
    "Room",
    "RoomChanged",
    "RoomMember",
    "Sas",
    "SasChanged",
    "SasStage",
    "State",
    "Trust",
    "TypingChanged",
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

    def by_keyring(self) -> bool:
        """Whether the system's keyring opens it; its password always does."""
        try:
            document = json.loads((self.directory / KEY_FILE).read_bytes()[:4096])
        except (OSError, ValueError, RecursionError):
            return False
        return isinstance(document, dict) and "keyring" in document


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
    text: str = field(repr=False)


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
    text: str = field(repr=False)
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
    warning: str = ""
    """Why its sender's device is not to be trusted, in one sentence."""


class Trust(Enum):
    """What one knows of a person's keys."""

    UNVERIFIED = "unverified"
    """The keys that were seen first; nobody compared them."""
    VERIFIED = "verified"
    """Somebody compared them with the person."""
    CHANGED = "changed"
    """The root key is another than before; nothing is sent until one chooses."""


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
    trust: Trust = Trust.UNVERIFIED
    """The least trusted of the other members: CHANGED, then UNVERIFIED."""
    draft: str = field(default="", repr=False)
    """What was written and not sent, on any device of this account."""
    draft_time: int = 0
    """When it was, in milliseconds: it only goes up, on whichever device."""
    disappearing: int = 0
    """Seconds after which messages vanish; 0 keeps them."""
    refuse_unverified: bool = False
    """Whether nothing is sent while somebody here is not verified."""
    muted: bool = False
    """Whether it stays quiet, on all devices of this account."""


@dataclass(frozen=True, slots=True)
class RoomMember:
    """An account in a room."""

    account: str
    role: int
    """A `protocol.policy.Role` or a number between."""
    devices: int
    own: bool
    trust: Trust = Trust.UNVERIFIED
    unverified_devices: int = 0
    """Devices here that do not stand in the account's own list, or no longer."""


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
    id: str = ""
    code: str = ""
    """`key_changed`, `ghost_member`, `log_fork`, `device_list_false`,
    `account_log_withheld` or another stable word."""
    time: int = 0
    """Milliseconds since 1970."""
    evidence: str = ""
    """Lines that prove it, to be shown to others."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device of one's own account."""

    id: str
    """Its full address."""
    name: str
    """Empty if unknown."""
    created: int
    """Seconds since 1970, as `expires`."""
    expires: int
    own: bool
    """Whether it is this one."""
    manager: bool
    """Whether it holds the account signing key: can link and revoke others."""
    last_seen: int = 0
    """Milliseconds since 1970; 0 if unknown."""
    revoked: bool = False
    doubtful: bool = False
    """Whether it stands in the list, and none of our devices said that it added it."""


@dataclass(frozen=True, slots=True)
class LinkRequest:
    """What a new device shows, for a device that is in already."""

    account: str
    code: str = field(repr=False)
    """`XXXX-XXXX-XXXX-XXXX`"""
    uri: str = field(repr=False)
    """`telex:link:alice@example.org:CODE`, for the QR code."""


@dataclass(frozen=True, slots=True)
class LinkOffer:
    """What would be linked, as the device that is in already sees it."""

    account: str
    device: str
    """The new device's full address."""
    name: str


@dataclass(frozen=True, slots=True)
class LinkProgress:
    """How far the linking of a device is."""

    stage: Literal["waiting", "approved", "joining", "history", "done"]
    done: int
    total: int
    detail: str
    """One sentence, where there is something to say."""


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """The linking of a device went on."""

    progress: LinkProgress


@dataclass(frozen=True, slots=True)
class DevicesChanged:
    """One's own devices changed: names, new ones, revoked ones."""


@dataclass(frozen=True, slots=True)
class BackupStatus:
    """How the encrypted backup at the node stands."""

    enabled: bool
    last: int
    """Milliseconds since 1970 of the last whole backup; 0 if there is none."""
    messages: int
    size: int
    """Bytes at the node."""
    quota: int
    """Bytes that the node allows."""
    error: str
    """Why the last attempt failed, in one sentence."""


@dataclass(frozen=True, slots=True)
class RestoreProgress:
    """History is coming back, from a backup or from another device."""

    stage: str
    """`done` at the end."""
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class DrillReport:
    """What would come back if every device were lost now."""

    ok: bool
    rooms: int
    messages: int
    contacts: int
    newest: int
    """Milliseconds since 1970 of the newest message in it."""
    lost: list[str]
    """What would not come back, a sentence each."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What two people compare."""

    account: str
    digits: str
    """Twelve groups of five."""
    emoji: str
    uri: str
    """`telex:verify:...`, for the QR code."""


@dataclass(frozen=True, slots=True)
class MemberDevice:
    """A device of somebody."""

    device: str
    created: int
    """Seconds since 1970."""
    trust: Trust


@dataclass(frozen=True, slots=True)
class KeyChange:
    """A person whose root key is another than before."""

    account: str
    old: Fingerprint
    new: Fingerprint
    rooms: tuple[LogId, ...]
    """Where nothing is sent until one chooses."""
    kept: bool = False
    """Whether one keeps the old key: where the new one shows, nothing is sent."""


SasStage = Literal["asked", "waiting", "compare", "agreed", "done", "refused", "failed"]
"""`asked`: by the other side; `waiting`: for the other side; `agreed`: by us alone."""


@dataclass(frozen=True, slots=True)
class Sas:
    """Two people who compare short strings at the same time."""

    id: str
    account: str
    stage: SasStage
    emoji: list[tuple[str, str]]
    """Seven of (symbol, name), from stage `compare` on."""
    digits: str
    """Three groups of four, beside the emoji."""
    detail: str
    """One sentence, where there is something to say."""
    code: str = ""
    """Why it ended: `declined`, `cancelled`, `mismatch`, `tampered`, `timeout`,
    `paused`, `elsewhere` (another device of ours took it)."""


@dataclass(frozen=True, slots=True)
class SasChanged:
    """A comparison went on."""

    sas: Sas


@dataclass(frozen=True, slots=True)
class Ailment:
    """Something that does not work in a room, with its cause and its repair."""

    id: str
    room: LogId
    message: MessageId | None
    """The line that could not be read, if it is about one."""
    code: str
    cause: str
    """One sentence."""
    device: str
    """The device at fault; empty if it is none."""
    repair: Literal["rejoin", "ask_resend", "update", "wait", "verify", "none"]
    repair_text: str
    """What the repair does, in one sentence."""
    state: Literal["open", "repairing", "repaired"]


@dataclass(frozen=True, slots=True)
class PersonPresence:
    """Whether somebody is there, as far as it is shown to us."""

    state: Literal["online", "away", "dnd", "offline", "unknown"]
    """`unknown`: it is not shown to us, or nobody knows now."""
    since: int
    """Seconds since 1970: since when; of `offline` when it was last there."""


@dataclass(frozen=True, slots=True)
class PeopleChanged:
    """Somebody came, went or is another way: `presence.of` says how."""


@dataclass(frozen=True, slots=True)
class OwnPresenceChanged:
    """How we are shown to others changed: `presence.choice` and `presence.mode`."""


@dataclass(frozen=True, slots=True)
class TypingChanged:
    """Who types in a room."""

    room: LogId
    accounts: tuple[str, ...]
