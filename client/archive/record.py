"""What an archive holds: rooms, messages, contacts, settings; never a key of MLS.

One segment is one `Records`. Addresses and rooms that its messages name stand in it
once. Reading checks every bound, because an archive can come from another device that
is no longer ours; what is outside of one is refused with the whole segment.
"""

import msgspec

from client.account.logs import read_log
from client.content.own import Entry, Registers
from client.content.talk import SEQ_MAX
from client.errors import ArchiveRefused
from client.quiet import Quiet
from client.storage.timeline import LINES, Status
from protocol.address import parse_account, parse_node
from protocol.codec import decode, encode
from protocol.errors import TelexError
from protocol.log import parse_log_id
from protocol.whole import Whole

__all__ = [
    "ContactRecord",
    "MessageRecord",
    "Records",
    "RoomRecord",
    "read_records",
]

TEXT_BYTES = 32 * 1024
"""Bytes of a line: the longest text, or a notice that lists a thousand people."""

NAME_BYTES = 1024
"""Bytes of an address, a title or a note."""

TIME_MAX = 1 << 53
"""Milliseconds: what every reader of JSON can still count."""

_STATUS = frozenset(Status)


class RoomRecord(Quiet, msgspec.Struct, array_like=True, frozen=True):
    """A room, as far as it is not in its MLS group."""

    id: str
    hub: str
    direct: bool
    title: str
    status: str
    note: str
    read: Whole
    """Our read marker: a seq."""
    activity: Whole
    receipts: list[tuple[str, Whole, Whole]] = []
    """Account, delivered, read."""
    disappearing: Whole = 0
    """Seconds after which messages vanish there."""


class MessageRecord(Quiet, msgspec.Struct, array_like=True, frozen=True):
    """A line of a timeline that has its place in the room's log."""

    id: bytes
    room: Whole
    """Index into `Records.rooms_named`."""
    position: Whole
    device: Whole
    """Index into `Records.names`."""
    time: Whole
    text: str
    own: bool
    reply_to: bytes | None = None
    code: str | None = None
    """Of a notice; None: it is a text."""
    seconds: Whole = 0
    """After which it vanishes, once it was read; 0: it stays."""
    due: Whole = 0
    """When it vanishes, in milliseconds; 0: that has not begun."""


class ContactRecord(Quiet, msgspec.Struct, array_like=True, frozen=True):
    """A person: the root key that was pinned, and the account log as it was read."""

    account: str
    root: bytes
    entries: list[bytes]
    other_root: bytes | None = None
    verified_root: bytes | None = None
    """The root that was compared with the person."""


class Records(Quiet, msgspec.Struct, array_like=True, frozen=True):
    """What one segment holds. A later record replaces an earlier one."""

    time: Whole
    """Milliseconds since 1970 when it was written."""
    device: str
    """Who wrote it."""
    whole: bool
    """Whether the archive is complete with this segment, as of `time`."""
    rooms: list[RoomRecord]
    contacts: list[ContactRecord]
    names: list[str]
    rooms_named: list[str]
    messages: list[MessageRecord]
    gone: list[bytes]
    """Ids of messages that were deleted: nothing brings them back."""
    registers: list[Entry] = []
    """What the account's devices share: settings, verified people, drafts."""
    left: Whole = 0
    """Messages that come behind this segment, as far as was known: for a bar."""

    def encode(self) -> bytes:
        """The bytes to seal."""
        return encode(self)


def read_records(data: bytes) -> Records:
    """Decode what a segment holds and check it all; takes milliseconds.

    Raises:
        ArchiveRefused: something is outside its bounds.
    """
    try:
        records = decode(data, Records)
        _check(records)
    except (TelexError, ValueError, OverflowError, IndexError):
        raise ArchiveRefused("archive_malformed") from None
    return records


def _check(records: Records) -> None:
    _require(0 <= records.time < TIME_MAX and 0 <= records.left < SEQ_MAX)
    _short(records.device, *records.names)
    _require({room.id for room in records.rooms}.issuperset(records.rooms_named))
    for room in records.rooms:
        _check_room(room)
    for message in records.messages:
        _check_message(message, records)
    for contact in records.contacts:
        _check_contact(contact)
    _require(all(len(id) == 16 for id in records.gone))
    if records.registers:
        Registers(records.registers).check()


def _check_room(room: RoomRecord) -> None:
    parse_log_id(room.id)
    parse_node(room.hub)
    _short(room.title, room.note)
    _require(room.status in _STATUS)
    _require(0 <= room.read < SEQ_MAX and 0 <= room.activity < TIME_MAX)
    for account, delivered, read in room.receipts:
        parse_account(account)
        _require(0 <= delivered < SEQ_MAX and 0 <= read < SEQ_MAX)
    _require(0 <= room.disappearing < TIME_MAX)


def _check_message(message: MessageRecord, records: Records) -> None:
    _require(len(message.id) == 16)
    _require(message.reply_to is None or len(message.reply_to) == 16)
    _require(0 <= message.room < len(records.rooms_named))
    _require(0 <= message.device < len(records.names))
    _require(LINES <= message.position < SEQ_MAX * LINES)
    _require(0 <= message.time < TIME_MAX and 0 <= message.due < TIME_MAX)
    _require(0 <= message.seconds < TIME_MAX)
    _require(len(message.text) <= TEXT_BYTES)
    _require(len(message.text.encode("utf-8", "surrogatepass")) <= TEXT_BYTES)
    _require(message.code is None or len(message.code) <= 64)


def _check_contact(contact: ContactRecord) -> None:
    account = parse_account(contact.account)
    _require(len(contact.root) == 32)
    for root in (contact.other_root, contact.verified_root):
        _require(root is None or len(root) == 32)
    if contact.entries:
        _require(read_log(account, contact.entries).root == contact.root)


def _short(*texts: str) -> None:
    for text in texts:
        _require(len(text.encode("utf-8", "surrogatepass")) <= NAME_BYTES)


def _require(good: bool) -> None:
    if not good:
        raise ValueError
