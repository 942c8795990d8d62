"""Entries under short keys: a log's number, and half of an event's id."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from node.storage.chain import event_key, log_number
from protocol.errors import Malformed
from protocol.log import LogId, event_id, read_entry

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

CHUNK = 50
"""Entries in memory at one time; one may have a mebibyte."""

_AFTER = sa.text(
    "SELECT entry_after.rowid, log.id, seq, event, previous, entry_after.hash, data "
    "FROM entry_after JOIN log ON log.number = entry_after.log "
    "WHERE entry_after.rowid > :after ORDER BY entry_after.rowid LIMIT :limit"
)


def upgrade() -> None:
    """Bring the schema to this version."""
    connection = op.get_bind()
    with op.batch_alter_table("log") as batch:
        batch.add_column(sa.Column("number", sa.BigInteger(), nullable=True))
    logs = [LogId(row[0]) for row in connection.execute(sa.text("SELECT id FROM log"))]
    for log in logs:
        connection.execute(
            sa.text("UPDATE log SET number = :number WHERE id = :log"),
            {"number": log_number(log), "log": log},
        )
    with op.batch_alter_table("log") as batch:
        batch.alter_column("number", existing_type=sa.BigInteger(), nullable=False)
        batch.create_unique_constraint(op.f("uq_log_number"), ["number"])
    op.rename_table("entry", "entry_before")
    op.create_table(
        "entry",
        sa.Column("log", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.LargeBinary(), nullable=False),
        *_chained(),
        sa.PrimaryKeyConstraint("log", "seq", name=op.f("pk_entry")),
        sa.UniqueConstraint("log", "event", name=op.f("uq_entry_log_event")),
    )
    op.execute(
        "INSERT INTO entry (log, seq, event, previous, hash, data) "
        "SELECT log.number, seq, substr(event_id, 1, 16), previous, entry_before.hash, "
        "data FROM entry_before JOIN log ON log.id = entry_before.log "
        "ORDER BY entry_before.rowid"
    )
    op.drop_table("entry_before")


def downgrade() -> None:
    """Take this version back."""
    connection = op.get_bind()
    op.rename_table("entry", "entry_after")
    op.create_table(
        "entry",
        sa.Column("log", sa.String(length=52), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.LargeBinary(), nullable=False),
        *_chained(),
        sa.PrimaryKeyConstraint("log", "seq", name=op.f("pk_entry")),
        sa.UniqueConstraint("log", "event_id", name=op.f("uq_entry_log_event_id")),
    )
    after: int | None = 0
    while after is not None:
        after = _take_back(connection, after)
    op.drop_table("entry_after")
    with op.batch_alter_table("log") as batch:
        batch.drop_constraint(op.f("uq_log_number"), type_="unique")
        batch.drop_column("number")


def _take_back(connection: sa.Connection, after: int) -> int | None:
    """Some entries behind a row, as they were; the last row, None behind the last."""
    rows = connection.execute(_AFTER, {"after": after, "limit": CHUNK}).all()
    if not rows:
        return None
    entries = [
        {"l": log, "s": seq, "e": _event_id(event, data), "p": p, "h": h, "d": data}
        for _, log, seq, event, p, h, data in rows
    ]
    connection.execute(
        sa.text("INSERT INTO entry VALUES (:l, :s, :e, :p, :h, :d)"), entries
    )
    return int(rows[-1][0])


def _chained() -> tuple[sa.Column[bytes], ...]:
    return tuple(
        sa.Column(name, sa.LargeBinary(), nullable=False)
        for name in ("previous", "hash", "data")
    )


def _event_id(event: bytes, data: bytes) -> bytes:
    """The whole id: of the submission, or of an entry that is no such thing."""
    try:
        whole = event_id(read_entry(data).submission)
    except Malformed:
        return event_id(data)
    return whole if event_key(whole) == event else event_id(data)
