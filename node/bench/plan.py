"""Who is in which room: the same for the process that seeds and the one that loads.

Everything follows from names, so the two need not tell each other anything: a
device's key is a hash of its account's name, a room's id of the room's.
"""

from base64 import b32encode
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

import msgspec
from nacl.signing import SigningKey

from protocol.codec import encode
from protocol.errors import TelexError
from protocol.log import LogId, RoomSeed, group_id, room_id

__all__ = [
    "BODY",
    "EPOCH",
    "BenchProblem",
    "Job",
    "Options",
    "Place",
    "RoomPlan",
    "Terminal",
    "ciphertext",
    "private_message",
    "rooms_of",
]

CREATED_MS = 1_700_000_000_000
"""When every room was created, milliseconds since 1970."""

EPOCH = 1
"""Of every room: 0 by its creation, 1 by the commit that brought the others in."""

BODY = 256
"""Bytes of ciphertext in a message: a line of text, padded."""


class BenchProblem(TelexError):
    """A measurement cannot be made; says why."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How large, and for how long."""

    seconds: float = 10.0
    pairs: int = 50
    in_flight: int = 16
    members: int = 100
    senders: int = 4
    rate: float = 1000.0
    connections: int = 10_000
    tls_connections: int = 1000
    resumed: int = 2000
    history: int = 20_000
    entries: int = 0
    rooms: int = 0


class Place(msgspec.Struct, frozen=True):
    """A scratch node as the load process meets it."""

    name: str
    port: int
    pid: int
    ca_file: str = ""
    """Empty: it speaks plain HTTP."""


class Job(msgspec.Struct, frozen=True):
    """What the load process is told on its standard input."""

    workload: str
    places: list[Place]
    options: Options


@dataclass(frozen=True)
class Terminal:
    """The one device of an account."""

    name: str
    """The part before the @."""
    node: str

    @property
    def account(self) -> str:
        """The account's address."""
        return f"{self.name}@{self.node}"

    @cached_property
    def address(self) -> str:
        """The device's address."""
        short = b32encode(_hash(b"device", self.name)[:10]).decode().lower()
        return f"{self.account}/{short}"

    @cached_property
    def seed(self) -> bytes:
        """The seed of the key that signs its requests; worth nothing to anybody."""
        return _hash(b"auth key", self.name)

    @cached_property
    def auth_key(self) -> bytes:
        """The public half."""
        return bytes(SigningKey(self.seed).verify_key)


@dataclass(frozen=True)
class RoomPlan:
    """A room: the first member's node is its hub and its device created it."""

    name: str
    members: tuple[Terminal, ...]
    messages: int = 0
    """Messages that were said before."""

    @cached_property
    def seed(self) -> bytes:
        """Bytes of its `RoomSeed`."""
        salt = _hash(b"room", self.name)[:16]
        return encode(RoomSeed(1, self.members[0].account, salt, CREATED_MS))

    @cached_property
    def id(self) -> LogId:
        """Its id."""
        return room_id(self.seed)

    @property
    def hub(self) -> str:
        """The node that orders it."""
        return self.members[0].node

    @property
    def head(self) -> int:
        """The seq of its last entry: creation, commit, messages."""
        return 2 + self.messages


def rooms_of(workload: str, names: list[str], options: Options) -> Iterator[RoomPlan]:
    """The rooms of a workload.

    Args:
        workload: its name.
        names: of the nodes; the first is the hub of every room.
        options: how many.
    """
    home, away = names[0], names[-1]
    match workload:
        case "dm" | "paced" | "federation":
            yield from _pairs(workload, options.pairs, home, away)
        case "idle":
            yield from _pairs("idle", (options.connections + 101) // 2, home, home)
        case "idle_tls":
            yield from _pairs("idle", (options.tls_connections + 101) // 2, home, home)
        case "fanout":
            members = [Terminal(f"fan-{n}", home) for n in range(options.members)]
            yield RoomPlan("fan", tuple(members))
        case "resume":
            reader, writer = Terminal("reader", home), Terminal("writer", home)
            for n in range(options.resumed):
                yield RoomPlan(f"resume-{n}", (reader, writer))
        case "history":
            members = [Terminal(f"history-{n}", home) for n in range(2)]
            yield RoomPlan("history", tuple(members), options.history)
        case "before":
            yield from _before(home, options)


def _pairs(name: str, count: int, home: str, away: str) -> Iterator[RoomPlan]:
    for n in range(count):
        members = (Terminal(f"{name}-{n}-a", home), Terminal(f"{name}-{n}-b", away))
        yield RoomPlan(f"{name}-{n}", members)


PEOPLE_BEFORE = 1000
"""Accounts that share the rooms which were there before."""


def _before(home: str, options: Options) -> Iterator[RoomPlan]:
    people = [Terminal(f"before-{n}", home) for n in range(PEOPLE_BEFORE)]
    each, more = divmod(max(0, options.entries - 2 * options.rooms), options.rooms or 1)
    for n in range(options.rooms):
        # Each pair of them in turn, before any pair has a second room.
        apart = 1 + n // PEOPLE_BEFORE % (PEOPLE_BEFORE - 1)
        members = (people[n % PEOPLE_BEFORE], people[(n + apart) % PEOPLE_BEFORE])
        yield RoomPlan(f"before-{n}", members, each + (n < more))


_RANDOM = b"".join(
    blake2b(n.to_bytes(4, "big"), digest_size=64, person=b"telex bench").digest()
    for n in range(1024)
)


def ciphertext(number: int) -> bytes:
    """`BODY` bytes that do not compress, other ones for each of 65,000 numbers."""
    at = number % (len(_RANDOM) - BODY)
    return _RANDOM[at : at + BODY]


def private_message(room: LogId, sealed: bytes) -> bytes:
    """An MLSMessage(PrivateMessage) with application data (RFC 9420 section 6.3)."""
    return b"".join(
        (
            b"\x00\x01\x00\x02",  # MLS 1.0, mls_private_message
            _vector(group_id(room)),
            EPOCH.to_bytes(8, "big"),
            b"\x01",  # application
            _vector(b""),  # authenticated_data
            _vector(sealed[:28]),  # encrypted_sender_data: 12 bytes and a tag
            _vector(sealed),
        )
    )


def _vector(data: bytes) -> bytes:
    """A vector with its length as in RFC 9000 section 16."""
    size = len(data)
    prefix = bytes([size]) if size < 64 else (size | 0x4000).to_bytes(2, "big")
    return prefix + data


def _hash(what: bytes, name: str) -> bytes:
    key = b"telex bench " + what
    return blake2b(name.encode(), digest_size=32, key=key).digest()
