"""Indexes for what a recall asks: transfers by artifact and by name, what was released to whom.

Rules:      1. a published revision never changes
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the indexes."""
    op.create_index("ix_transfers_digest_created_at_id", "transfers", ["digest", "created_at", "id"])
    op.create_index("ix_transfers_repository_tag_created_at_id", "transfers", ["repository", "tag", "created_at", "id"])
    op.create_index("ix_readers_identity", "readers", ["identity"])
