"""The log: submissions, entries, the hash chain and signed checkpoints.

A room, a mailbox and a node's outgoing traffic are all logs. A log's owner (a
room's hub) gives each submission a `seq` (1, 2, 3 ... without gaps) and wraps it
in an entry; the chain runs over the entries' bytes as the owner stored them:

    hash(0) = 32 zero bytes
    hash(n) = BLAKE2b-256(hash(n - 1) || entry bytes n)

so no log can be rewritten quietly, and a signed `Checkpoint` of (log, term, seq,
hash) vouches for everything before it. A submission is dropped as a repeat for
ever by its `event_id`, a hash of its bytes: sender, device, txn and body.

What it does not protect: who may append, and what is inside `body`.
"""

from base64 import b32encode
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from typing import NewType

import msgspec

from protocol.codec import decode, encode
from protocol.errors import Malformed
from protocol.whole import Whole

__all__ = [
    "GENESIS",
    "TIME_MAX",
    "Checkpoint",
    "Entry",
    "Kind",
    "LogId",
    "RoomSeed",
    "Submission",
    "chain",
    "event_id",
    "group_id",
    "mailbox_id",
    "make_submission",
    "outgoing_id",
    "parse_log_id",
    "read_entry",
    "read_submission",
    "room_id",
]

LogId = NewType("LogId", str)
"""52 characters of base32 (lower case): 32 bytes of hash."""

GENESIS = bytes(32)
"""The hash before the first entry."""

KNOWN_MAX = 4096
"""Ids that were checked and are remembered: those of busy rooms, in a megabyte."""

_ALPHABET = frozenset("abcdefghijklmnopqrstuvwxyz234567")

TIME_MAX = 253_402_214_400_000
"""Milliseconds since 1970 at the last day of the year 9999, where calendars end; what
computes with a time adds years at most."""


class Kind(StrEnum):
    """What a submission is: all that a node needs to know about it."""

    CREATE = "create"
    """First entry of a room; body: `wire.CreateRoom`."""
    MESSAGE = "message"
    """An MLS PrivateMessage with application data."""
    PROPOSAL = "proposal"
    """An MLS PublicMessage with a proposal."""
    COMMIT = "commit"
    """An MLS PublicMessage with a commit."""
    JOIN_REQUEST = "join_request"
    """A KeyPackage of a member account's device that asks to be (re-)added."""
    WELCOME = "welcome"
    """In a mailbox: `wire.WelcomeMail`."""


class Submission(msgspec.Struct, array_like=True, frozen=True):
    """What a device asks a log's owner to append."""

    version: Whole
    log: LogId
    sender: str
    """The device's address, `alice@example.org/7kq2m3n4p5q6r7s2`."""
    txn: bytes
    """16 random bytes, made once for each thing that is written."""
    kind: str
    """A `Kind`; a node stores and passes on kinds it does not know."""
    body: bytes


class Entry(msgspec.Struct, array_like=True, frozen=True):
    """A submission with its place in a log, as the log's owner stored it."""

    seq: Whole
    term: Whole
    """Counts the owners a log has had, from 1; a higher one fences off a lower."""
    time: Whole
    """Milliseconds since 1970 at the owner: for people, never for order."""
    submission: bytes
    """The submission's bytes as they arrived."""
    added: tuple[str, ...] = ()
    """Accounts that this entry brought in (commits and creates), by the owner."""
    removed: tuple[str, ...] = ()
    """Accounts of which this entry removed the last device."""


class Checkpoint(msgspec.Struct, array_like=True, frozen=True):
    """What an owner signs (label `checkpoint`) about the head of its log."""

    log: LogId
    term: Whole
    seq: Whole
    hash: bytes
    time: Whole


class RoomSeed(msgspec.Struct, array_like=True, frozen=True):
    """The bytes whose hash is the room's id; no domain, so that a room can move."""

    version: Whole
    creator: str
    """The creating account's address."""
    salt: bytes
    """16 random bytes."""
    created: Whole
    """Milliseconds since 1970."""


def event_id(submission: bytes) -> bytes:
    """32 bytes that name a submission for ever: a hash of its bytes."""
    return _hash(b"telex event 1", submission)


def chain(previous: bytes, entry: bytes) -> bytes:
    """The log's hash after an entry, from the hash before it and its bytes."""
    return blake2b(previous + entry, digest_size=32).digest()


def room_id(seed: bytes) -> LogId:
    """A room's id from the bytes of its `RoomSeed`."""
    return _log_id(b"telex room 1", seed)


def group_id(room: LogId) -> bytes:
    """The MLS group id of a room: the ASCII bytes of the room's id."""
    return room.encode()


def mailbox_id(account: str) -> LogId:
    """The id of an account's mailbox."""
    return _log_id(b"telex mailbox 1", account.encode())


def outgoing_id(origin: str, destination: str) -> LogId:
    """The id of the log in which one node keeps what it writes to another."""
    return _log_id(b"telex outgoing 1", f"{origin}\n{destination}".encode())


def parse_log_id(text: str) -> LogId:
    """Check the text of a log's id.

    Raises:
        Malformed: it is not 52 characters of lower-case base32.
    """
    # The length first: what is remembered keeps its text in memory.
    if len(text) != 52 or not _is_log_id(text):
        raise Malformed("This is not the id of a room or mailbox.")
    return LogId(text)


@lru_cache(maxsize=KNOWN_MAX)
def _is_log_id(text: str) -> bool:
    return _ALPHABET.issuperset(text)


def read_submission(data: bytes) -> Submission:
    """Decode a submission and check its shape.

    Raises:
        Malformed: a field is missing, of the wrong type or length.
    """
    submission = decode(data, Submission)
    parse_log_id(submission.log)
    if submission.version != 1:
        raise Malformed("This submission is of a version that is not known here.")
    if len(submission.txn) != 16:
        raise Malformed("A submission's txn has 16 bytes.")
    if not 0 < len(submission.kind) <= 32 or not submission.kind.isascii():
        raise Malformed("A submission's kind is a short ASCII word.")
    return submission


def read_entry(data: bytes) -> Entry:
    """Decode an entry and check its shape.

    Raises:
        Malformed: a field is missing or out of range.
    """
    entry = decode(data, Entry)
    if not (0 < entry.seq < 1 << 53 and 0 < entry.term < 1 << 32):
        raise Malformed("An entry's seq and term count from 1.")
    if not 0 <= entry.time < TIME_MAX:
        raise Malformed("An entry's time is none of a calendar.")
    return entry


def make_submission(
    log: LogId, sender: str, txn: bytes, kind: Kind, body: bytes
) -> bytes:
    """The bytes of a submission; keep them: a repeat must be the same bytes."""
    return encode(Submission(1, log, sender, txn, kind.value, body))


def _hash(person: bytes, data: bytes) -> bytes:
    return blake2b(data, digest_size=32, person=person.ljust(16, b"\0")).digest()


def _log_id(person: bytes, data: bytes) -> LogId:
    digest = _hash(person, data)
    return LogId(b32encode(digest).decode().rstrip("=").lower())
