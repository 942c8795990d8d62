"""The first schema."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the schema to this version."""
    op.create_table(
        "account",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("login_hash", sa.LargeBinary(), nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_account")),
    )
    op.create_table(
        "account_entry",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", "seq", name=op.f("pk_account_entry")),
    )
    op.create_table(
        "claim",
        sa.Column("claimer", sa.String(length=400), nullable=False),
        sa.Column("claim_id", sa.LargeBinary(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("claimer", "claim_id", name=op.f("pk_claim")),
    )
    with op.batch_alter_table("claim", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_claim_expires"), ["expires"], unique=False)

    op.create_table(
        "cursor",
        sa.Column("reader", sa.String(length=400), nullable=False),
        sa.Column("log", sa.String(length=52), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("reader", "log", name=op.f("pk_cursor")),
    )
    with op.batch_alter_table("cursor", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_cursor_log"), ["log"], unique=False)

    op.create_table(
        "device",
        sa.Column("address", sa.String(length=400), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("auth_key", sa.LargeBinary(), nullable=False),
        sa.Column("mls_key", sa.LargeBinary(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.Column("added", sa.BigInteger(), nullable=False),
        sa.Column("revoked", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("address", name=op.f("pk_device")),
    )
    with op.batch_alter_table("device", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_device_name"), ["name"], unique=False)

    op.create_table(
        "entry",
        sa.Column("log", sa.String(length=52), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.LargeBinary(), nullable=False),
        sa.Column("previous", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("log", "seq", name=op.f("pk_entry")),
        sa.UniqueConstraint("log", "event_id", name=op.f("uq_entry_log_event_id")),
    )
    op.create_table(
        "invite",
        sa.Column("code_hash", sa.LargeBinary(), nullable=False),
        sa.Column("uses_left", sa.Integer(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("code_hash", name=op.f("pk_invite")),
    )
    op.create_table(
        "key_package",
        sa.Column("ref", sa.LargeBinary(), nullable=False),
        sa.Column("device", sa.String(length=400), nullable=False),
        sa.Column("package", sa.LargeBinary(), nullable=False),
        sa.Column("last_resort", sa.Boolean(), nullable=False),
        sa.Column("not_after", sa.BigInteger(), nullable=False),
        sa.Column("uploaded", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("ref", name=op.f("pk_key_package")),
    )
    with op.batch_alter_table("key_package", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_key_package_device_last_resort"),
            ["device", "last_resort"],
            unique=False,
        )

    op.create_table(
        "log",
        sa.Column("id", sa.String(length=52), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("owner", sa.String(length=300), nullable=False),
        sa.Column("party", sa.String(length=400), nullable=False),
        sa.Column("term", sa.Integer(), nullable=False),
        sa.Column("head", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_log")),
    )
    op.create_table(
        "member",
        sa.Column("room", sa.String(length=52), nullable=False),
        sa.Column("reader", sa.String(length=400), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=True),
        sa.Column("node", sa.String(length=300), nullable=False),
        sa.PrimaryKeyConstraint("room", "reader", "since", name=op.f("pk_member")),
    )
    with op.batch_alter_table("member", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_member_reader_until"), ["reader", "until"], unique=False
        )

    op.create_table(
        "outcome",
        sa.Column("log", sa.String(length=52), nullable=False),
        sa.Column("event_id", sa.LargeBinary(), nullable=False),
        sa.Column("device", sa.String(length=400), nullable=False),
        sa.Column("receipt", sa.LargeBinary(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("log", "event_id", name=op.f("pk_outcome")),
    )
    op.create_table(
        "peer",
        sa.Column("name", sa.String(length=300), nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.Column("changed", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_peer")),
    )
    op.create_table(
        "room",
        sa.Column("id", sa.String(length=52), nullable=False),
        sa.Column("creator", sa.String(length=400), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("group", sa.LargeBinary(), nullable=False),
        sa.Column("group_info", sa.LargeBinary(), nullable=False),
        sa.Column("tree_hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_room")),
    )
    op.create_table(
        "roster",
        sa.Column("room", sa.String(length=52), nullable=False),
        sa.Column("device", sa.String(length=400), nullable=False),
        sa.PrimaryKeyConstraint("room", "device", name=op.f("pk_roster")),
    )
    op.create_table(
        "setting",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("value", sa.String(length=400), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_setting")),
    )
    op.create_table(
        "tree",
        sa.Column("room", sa.String(length=52), nullable=False),
        sa.Column("tree_hash", sa.LargeBinary(), nullable=False),
        sa.Column("tree", sa.LargeBinary(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("room", "tree_hash", name=op.f("pk_tree")),
    )


def downgrade() -> None:
    """Take this version back."""
    op.drop_table("tree")
    op.drop_table("setting")
    op.drop_table("roster")
    op.drop_table("room")
    op.drop_table("peer")
    op.drop_table("outcome")
    with op.batch_alter_table("member", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_member_reader_until"))

    op.drop_table("member")
    op.drop_table("log")
    with op.batch_alter_table("key_package", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_key_package_device_last_resort"))

    op.drop_table("key_package")
    op.drop_table("invite")
    op.drop_table("entry")
    with op.batch_alter_table("device", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_device_name"))

    op.drop_table("device")
    with op.batch_alter_table("cursor", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_cursor_log"))

    op.drop_table("cursor")
    with op.batch_alter_table("claim", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_claim_expires"))

    op.drop_table("claim")
    op.drop_table("account_entry")
    op.drop_table("account")
