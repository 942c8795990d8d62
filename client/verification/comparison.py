"""The table of comparisons, and what applications see of it."""

import secrets
from enum import StrEnum
from typing import NamedTuple

from client.model import Sas, SasChanged, SasStage
from client.storage.store import Tx
from protocol.fingerprint import EMOJI
from protocol.log import LogId

__all__ = [
    "Role",
    "Row",
    "by_session",
    "failures",
    "insert",
    "select",
    "shown",
    "update",
]

_NAMES = {emoji.symbol: emoji.english for emoji in EMOJI}

_COLUMNS = (
    "id, session, room, account, role, stage, device, private, commitment, key, seq,"
    " log_hash, authenticator, root, emoji, digits, accepted, agreed, began, code,"
    " detail"
)


class Role(StrEnum):
    """What this device is in a comparison."""

    INITIATOR = "initiator"
    RESPONDER = "responder"
    SIBLING = "sibling"
    """Another device of ours began it; nothing is shown here."""


class Row(NamedTuple):
    """A comparison, as it is kept."""

    id: str
    session: bytes
    room: LogId
    account: str
    role: str
    stage: SasStage
    device: str
    private: bytes | None
    commitment: bytes | None
    key: bytes | None
    seq: int | None
    log_hash: bytes | None
    authenticator: bytes | None
    root: bytes
    emoji: str
    digits: str
    accepted: int
    agreed: int
    began: int
    code: str
    detail: str

    def __repr__(self) -> str:
        """Its name and stage; the private key stays unsaid."""
        return f"Row({self.id}, {self.stage})"


def select(tx: Tx, where: str, *values: object) -> list[Row]:
    """The comparisons of which something holds."""
    rows = tx.all(f"SELECT {_COLUMNS} FROM sas WHERE {where}", *values)
    return [Row(*row) for row in rows]


def by_session(tx: Tx, room: LogId, session: bytes) -> Row | None:
    """The one that is going on in a room under this name."""
    rows = select(tx, "room = ? AND session = ? AND NOT ended", room, session)
    return rows[0] if rows else None


def failures(tx: Tx, account: str, since: int) -> int:
    """Tries with somebody that got as far as the keys and were not agreed on."""
    row = tx.one(
        "SELECT count(*) FROM sas WHERE account = ? AND ended > ? AND role != ?"
        " AND stage != 'done' AND code != 'elsewhere'"
        " AND (key IS NOT NULL OR accepted)",
        account,
        since,
        Role.SIBLING,
    )
    return 0 if row is None else int(row[0])


def insert(tx: Tx, **values: object) -> Row:
    """Begin to keep one."""
    id = secrets.token_hex(8)
    values["id"] = id
    tx.execute(
        f"INSERT INTO sas ({', '.join(values)})"
        f" VALUES ({', '.join('?' * len(values))})",
        *values.values(),
    )
    return _changed(tx, id)


def update(tx: Tx, row: Row, **values: object) -> Row:
    """Change some of its columns."""
    tx.execute(
        f"UPDATE sas SET {', '.join(f'{name} = ?' for name in values)} WHERE id = ?",
        *values.values(),
        row.id,
    )
    return _changed(tx, row.id)


def shown(row: Row) -> Sas:
    """What applications see of it."""
    emoji = [(symbol, _NAMES[symbol]) for symbol in row.emoji]
    return Sas(row.id, row.account, row.stage, emoji, row.digits, row.detail, row.code)


def _changed(tx: Tx, id: str) -> Row:
    row = select(tx, "id = ?", id)[0]
    if row.role != Role.SIBLING:
        tx.events.append(SasChanged(shown(row)))
    return row
