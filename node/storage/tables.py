"""The tables of a node, as SQLModel classes: the schema and nothing else.

    account ─┬─ account_entry    the account log, byte for byte
             ├─ device ── key_package
             └─ vault ── segment    sealed backups; the bytes are files
    log ─┬─ entry                rooms, mailboxes, outgoing logs: one table
         ├─ cursor               who has read how far: devices and peers
         ├─ room, tree, roster   what the hub knows of a room's MLS group
         ├─ member               who may read from where to where
         └─ outcome              submissions that another hub refused
    blob ─── blob_holder          files, by the hash of their bytes; who keeps them
    blob_upload                   files that have come in part
    invite, link, claim, peer, setting

The hot path (append, read after a cursor, ack) uses `core(...)`: SQLAlchemy Core on
these very tables, because building an object for each row costs five times as much.
No foreign keys cross from logs to accounts: a log outlives who wrote in it.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.orm import registry
from sqlalchemy.sql import ClauseElement
from sqlmodel import Field, SQLModel

__all__ = [
    "METADATA",
    "AccountEntryRow",
    "AccountRow",
    "BlobHolderRow",
    "BlobRow",
    "BlobUploadRow",
    "ClaimRow",
    "CursorRow",
    "DeviceRow",
    "EntryRow",
    "InviteRow",
    "KeyPackageRow",
    "LinkRow",
    "LogRow",
    "MemberRow",
    "OutcomeRow",
    "PeerRow",
    "RoomRow",
    "RosterRow",
    "SegmentRow",
    "SettingRow",
    "TreeRow",
    "VaultRow",
    "core",
    "to_sql",
]

# Names for every constraint, so that a migration can name what it changes.
METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Row(SQLModel, registry=registry(metadata=METADATA)):
    """The base of all tables: our own metadata, not the library's global one."""


def core(model: type[Row]) -> Table:
    """The Core table of a model."""
    table = METADATA.tables[str(model.__tablename__)]
    return table


def to_sql(statement: ClauseElement) -> str:
    """The text of a statement for the driver's `executemany`, which takes tuples.

    For the few statements that run tens of thousands of times a second: building
    a dictionary for each row would cost as much as the row.
    """
    return str(statement.compile(dialect=sqlite.dialect()))


def _key(length: int) -> Column[str]:
    return Column(String(length), primary_key=True)


def _seq(*, primary_key: bool = False, nullable: bool = False) -> Column[int]:
    return Column(BigInteger, primary_key=primary_key, nullable=nullable)


def _bytes(*, nullable: bool = False) -> Column[bytes]:
    return Column(LargeBinary, nullable=nullable)


ADDRESS = 400
"""Characters of the longest address: 64 + 259 of an account, 16 of a device."""


class SettingRow(Row, table=True):
    """What must never change under a database: the node's name."""

    __tablename__ = "setting"

    key: str = Field(sa_column=_key(64))
    value: str = Field(sa_column=Column(String(400), nullable=False))


class InviteRow(Row, table=True):
    """An invite; the code itself is not kept, only its hash."""

    __tablename__ = "invite"

    code_hash: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    uses_left: int
    created: int = Field(sa_column=_seq())
    expires: int = Field(sa_column=_seq())
    """Unix seconds, as every time in these tables unless it says otherwise."""


class AccountRow(Row, table=True):
    """An account of this node."""

    __tablename__ = "account"

    name: str = Field(sa_column=_key(64))
    """The part before the @."""
    login_hash: bytes = Field(sa_column=_bytes())
    """Argon2id of the login secret, in libsodium's text form."""
    root: bytes = Field(sa_column=_bytes())
    created: int = Field(sa_column=_seq())
    disabled: bool = False


class AccountEntryRow(Row, table=True):
    """An entry of an account log."""

    __tablename__ = "account_entry"

    name: str = Field(sa_column=_key(64))
    seq: int = Field(sa_column=_seq(primary_key=True))
    data: bytes = Field(sa_column=_bytes())


class DeviceRow(Row, table=True):
    """A device of an account of this node, as the account log says."""

    __tablename__ = "device"
    __table_args__ = (Index(None, "name"),)

    address: str = Field(sa_column=_key(ADDRESS))
    name: str = Field(sa_column=Column(String(64), nullable=False))
    auth_key: bytes = Field(sa_column=_bytes())
    mls_key: bytes = Field(sa_column=_bytes())
    expires: int = Field(sa_column=_seq())
    added: int = Field(sa_column=_seq())
    revoked: bool = False


class KeyPackageRow(Row, table=True):
    """A key package that waits to be claimed."""

    __tablename__ = "key_package"
    __table_args__ = (Index(None, "device", "last_resort"),)

    ref: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    device: str = Field(sa_column=Column(String(ADDRESS), nullable=False))
    """The device's address, as everywhere in these tables."""
    package: bytes = Field(sa_column=_bytes())
    last_resort: bool
    not_after: int = Field(sa_column=_seq())
    uploaded: int = Field(sa_column=_seq())


class ClaimRow(Row, table=True):
    """The answer to a claim, kept for repeats of it."""

    __tablename__ = "claim"
    __table_args__ = (Index(None, "expires"),)

    claimer: str = Field(sa_column=_key(ADDRESS))
    claim_id: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    answer: bytes = Field(sa_column=_bytes())
    expires: int = Field(sa_column=_seq())


class VaultRow(Row, table=True):
    """A run of sealed segments of an account."""

    __tablename__ = "vault"
    __table_args__ = (Index(None, "kind", "changed"),)

    name: str = Field(sa_column=_key(64))
    """The account's, without its node."""
    vault: str = Field(sa_column=_key(32))
    kind: str = Field(sa_column=Column(String(16), nullable=False))
    segments: int
    size: int = Field(sa_column=_seq())
    created: int = Field(sa_column=_seq())
    changed: int = Field(sa_column=_seq())
    """When its last segment came."""


class SegmentRow(Row, table=True):
    """One segment; its bytes lie in the file that `token` names."""

    __tablename__ = "segment"
    __table_args__ = (UniqueConstraint("token"),)

    name: str = Field(sa_column=_key(64))
    vault: str = Field(sa_column=_key(32))
    n: int = Field(sa_column=Column(Integer, primary_key=True))
    token: str = Field(sa_column=Column(String(32), nullable=False))
    size: int
    digest: bytes = Field(sa_column=_bytes())
    """BLAKE2b-256 of the bytes, to know a repeat."""


class BlobRow(Row, table=True):
    """A blob that is here whole; its bytes lie in the file that `token` names."""

    __tablename__ = "blob"
    __table_args__ = (
        UniqueConstraint("token"),
        Index(None, "touched"),
        Index(None, "held", "touched"),
    )

    id: str = Field(sa_column=_key(64))
    """BLAKE2b-256 of the bytes, in hex."""
    held: bool
    """Whether an account keeps it; else it is a copy of what another node keeps."""
    size: int = Field(sa_column=_seq())
    token: str = Field(sa_column=Column(String(32), nullable=False))
    created: int = Field(sa_column=_seq())
    touched: int = Field(sa_column=_seq())
    """When it was last uploaded or asked for, to the day."""


class BlobHolderRow(Row, table=True):
    """An account that uploaded a blob, against whose quota it counts."""

    __tablename__ = "blob_holder"
    __table_args__ = (Index(None, "blob"),)

    name: str = Field(sa_column=_key(64))
    """The account's, without its node."""
    blob: str = Field(sa_column=_key(64))
    size: int = Field(sa_column=_seq())
    created: int = Field(sa_column=_seq())


class BlobUploadRow(Row, table=True):
    """An upload that is not finished."""

    __tablename__ = "blob_upload"
    __table_args__ = (UniqueConstraint("token"), Index(None, "changed"))

    name: str = Field(sa_column=_key(64))
    blob: str = Field(sa_column=_key(64))
    size: int = Field(sa_column=_seq())
    """Of the whole; counted against the quota from the beginning."""
    received: int = Field(sa_column=_seq())
    """Bytes that are on the disk."""
    token: str = Field(sa_column=Column(String(32), nullable=False))
    changed: int = Field(sa_column=_seq())


class LinkRow(Row, table=True):
    """A meeting of two devices; both halves are sealed for the node."""

    __tablename__ = "link"
    __table_args__ = (Index(None, "expires"),)

    id: str = Field(sa_column=_key(32))
    offer: bytes = Field(sa_column=_bytes())
    answer: bytes | None = Field(default=None, sa_column=_bytes(nullable=True))
    expires: int = Field(sa_column=_seq())


class LogRow(Row, table=True):
    """A log that this node owns, or holds a copy of."""

    __tablename__ = "log"

    id: str = Field(sa_column=_key(52))
    number: int = Field(sa_column=Column(BigInteger, nullable=False, unique=True))
    """`chain.log_number` of the id: what its entries are stored under."""
    kind: str = Field(sa_column=Column(String(16), nullable=False))
    """room, mailbox or outgoing."""
    owner: str = Field(sa_column=Column(String(300), nullable=False))
    """The node that appends: a room's hub."""
    party: str = Field(sa_column=Column(String(ADDRESS), nullable=False))
    """Whom it is for: a mailbox's account, an outgoing log's destination."""
    term: int
    head: int = Field(sa_column=_seq())
    hash: bytes = Field(sa_column=_bytes())
    """The chain's hash at `head`."""
    created: int = Field(sa_column=_seq())


class EntryRow(Row, table=True):
    """One entry of a log. Its keys are short: each stands in three places on disk."""

    __tablename__ = "entry"
    __table_args__ = (UniqueConstraint("log", "event"),)

    log: int = Field(sa_column=_seq(primary_key=True))
    """The number of the log."""
    seq: int = Field(sa_column=_seq(primary_key=True))
    event: bytes = Field(sa_column=_bytes())
    """`chain.event_key` of the submission: no log takes the same bytes twice."""
    previous: bytes = Field(sa_column=_bytes())
    """The chain's hash before this entry."""
    hash: bytes = Field(sa_column=_bytes())
    data: bytes = Field(sa_column=_bytes())
    """The entry's bytes: what is hashed, sent and never encoded again."""


class CursorRow(Row, table=True):
    """How far a reader has a log on its own disk."""

    __tablename__ = "cursor"
    __table_args__ = (Index(None, "log"),)

    reader: str = Field(sa_column=_key(ADDRESS))
    """A device's address, or `peer:` and a node's name."""
    log: str = Field(sa_column=_key(52))
    seq: int = Field(sa_column=_seq())


class RoomRow(Row, table=True):
    """The public MLS group of a room that this node is the hub of."""

    __tablename__ = "room"

    id: str = Field(sa_column=_key(52))
    creator: str = Field(sa_column=Column(String(ADDRESS), nullable=False))
    version: int
    """Counts the changes of `group`: what was checked is what is changed."""
    epoch: int = Field(sa_column=_seq())
    group: bytes = Field(sa_column=_bytes())
    group_info: bytes = Field(sa_column=_bytes())
    tree_hash: bytes = Field(sa_column=_bytes())


class TreeRow(Row, table=True):
    """A ratchet tree that a Welcome names; kept until nobody can need it."""

    __tablename__ = "tree"

    room: str = Field(sa_column=_key(52))
    tree_hash: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    tree: bytes = Field(sa_column=_bytes())
    created: int = Field(sa_column=_seq())


class RosterRow(Row, table=True):
    """A device that stands in a room's tree now (at the hub)."""

    __tablename__ = "roster"
    __table_args__ = (Index(None, "device"),)

    room: str = Field(sa_column=_key(52))
    device: str = Field(sa_column=_key(ADDRESS))


class MemberRow(Row, table=True):
    """A time in which a reader may read a room: entries `since` to `until`."""

    __tablename__ = "member"
    __table_args__ = (Index(None, "reader", "until"),)

    room: str = Field(sa_column=_key(52))
    reader: str = Field(sa_column=_key(ADDRESS))
    """An account, or `peer:` and the node of some of them."""
    since: int = Field(sa_column=_seq(primary_key=True))
    """The entry that brought it in."""
    until: int | None = Field(default=None, sa_column=_seq(nullable=True))
    """The entry that removed it, which it still reads."""
    node: str = Field(sa_column=Column(String(300), nullable=False))
    """The account's node; empty in a peer's own row."""


class OutcomeRow(Row, table=True):
    """What another hub answered to a submission of ours: why it refused."""

    __tablename__ = "outcome"

    log: str = Field(sa_column=_key(52))
    event_id: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    device: str = Field(sa_column=Column(String(ADDRESS), nullable=False))
    receipt: bytes = Field(sa_column=_bytes())
    created: int = Field(sa_column=_seq())


class PeerRow(Row, table=True):
    """What this node knows of another; `record` is the federation's own."""

    __tablename__ = "peer"

    name: str = Field(sa_column=_key(300))
    record: bytes = Field(sa_column=_bytes())
    changed: int = Field(sa_column=_seq())
