"""An order is read by place, a page at a time: without an index every page would sort all of it."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the index."""
    op.create_index(op.f("ix_queue_publication_place"), "queue", ["publication", "place", "rank"])
