"""Verdicts, measurements, the review list, the way back."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns and tables."""
    op.add_column("project", sa.Column("way_back", sa.JSON(), server_default="{}", nullable=False))
    op.add_column("project", sa.Column("reviewed", sa.Integer(), server_default="0", nullable=False))
    op.add_column("round", sa.Column("verdict", sa.String(length=20), server_default="", nullable=False))
    op.add_column("round", sa.Column("gate", sa.JSON(), server_default="{}", nullable=False))
    op.add_column("round", sa.Column("split", sa.JSON(), server_default="{}", nullable=False))
    op.add_column("publication", sa.Column("activations", sa.JSON(), server_default="[]", nullable=False))
    _begin_activations()
    op.create_table(
        "measurement",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("project", sa.String(length=200), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("trained", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("labels", sa.Integer(), nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.Column("biased", sa.Integer(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_measurement")),
        sa.UniqueConstraint(
            "project", "round", "kind", "trained", name=op.f("uq_measurement_project_round_kind_trained")
        ),
    )
    op.create_table(
        "review",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("project", sa.String(length=200), nullable=False),
        sa.Column("sample", sa.String(length=150), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("mark", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("weight", sa.Float(), nullable=False),
        sa.Column("boxes", sa.JSON(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_review")),
        sa.UniqueConstraint("project", "sample", "kind", "mark", name=op.f("uq_review_project_sample_kind_mark")),
    )


def _begin_activations() -> None:
    """An order of before served once: there was no way back to it."""
    c = sa.table("publication", sa.column("id"), sa.column("activated"), sa.column("activations", sa.JSON()))
    connection = op.get_bind()
    for r in connection.execute(sa.select(c.c.id, c.c.activated).where(c.c.activated.is_not(None))).all():
        connection.execute(sa.update(c).where(c.c.id == r.id).values(activations=[r.activated]))
