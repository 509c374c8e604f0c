"""Deliveries by state: the few that wait are found without looking at all that were delivered.

Rules:      1. a published revision never changes
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the index."""
    op.create_index(op.f("ix_deliveries_state_state_at"), "deliveries", ["state", "state_at"], unique=False)
