"""Vaults, links, and the rosters a device stands in."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the schema to this version."""
    op.create_table(
        "vault",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("vault", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("segments", sa.Integer(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("changed", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", "vault", name=op.f("pk_vault")),
    )
    op.create_index(op.f("ix_vault_kind_changed"), "vault", ["kind", "changed"])
    op.create_table(
        "segment",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("vault", sa.String(length=32), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("token", sa.String(length=32), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", "vault", "n", name=op.f("pk_segment")),
        sa.UniqueConstraint("token", name=op.f("uq_segment_token")),
    )
    op.create_table(
        "link",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("offer", sa.LargeBinary(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_link")),
    )
    op.create_index(op.f("ix_link_expires"), "link", ["expires"])
    op.create_index(op.f("ix_roster_device"), "roster", ["device"])
    # Who was revoked before this version is let go of now.
    op.execute(
        "DELETE FROM roster WHERE device IN (SELECT address FROM device WHERE revoked)"
    )


def downgrade() -> None:
    """Take this version back."""
    op.drop_index(op.f("ix_roster_device"), table_name="roster")
    for table in ("link", "segment", "vault"):
        op.drop_table(table)
