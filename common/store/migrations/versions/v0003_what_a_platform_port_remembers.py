"""What a platform port must remember by the row."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "memory",
        sa.Column("project", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=250), nullable=False),
        sa.Column("key", sa.String(length=150), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("project", "kind", "key", name=op.f("pk_memory")),
    )
