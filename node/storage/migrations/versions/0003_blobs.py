"""Blobs, who keeps them, and what is on its way in."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the schema to this version."""
    op.create_table(
        "blob",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("held", sa.Boolean(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("token", sa.String(length=32), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("touched", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_blob")),
        sa.UniqueConstraint("token", name=op.f("uq_blob_token")),
    )
    op.create_index(op.f("ix_blob_touched"), "blob", ["touched"])
    op.create_index(op.f("ix_blob_held_touched"), "blob", ["held", "touched"])
    op.create_table(
        "blob_holder",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("blob", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", "blob", name=op.f("pk_blob_holder")),
    )
    op.create_index(op.f("ix_blob_holder_blob"), "blob_holder", ["blob"])
    op.create_table(
        "blob_upload",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("blob", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.Column("token", sa.String(length=32), nullable=False),
        sa.Column("changed", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", "blob", name=op.f("pk_blob_upload")),
        sa.UniqueConstraint("token", name=op.f("uq_blob_upload_token")),
    )
    op.create_index(op.f("ix_blob_upload_changed"), "blob_upload", ["changed"])


def downgrade() -> None:
    """Take this version back."""
    for table in ("blob_upload", "blob_holder", "blob"):
        op.drop_table(table)
