"""Passages over relays: the passages, their slips and letters, and the segments they carry.

Rules:      1. a published revision never changes
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    _make_passages()
    _make_what_belongs_to_passages()


def _make_passages() -> None:
    op.create_table(
        "passages",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("transfer", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("way", sa.Text(), nullable=False),
        sa.Column("before", sa.Text(), nullable=True),
        sa.Column("after", sa.Text(), nullable=True),
        sa.Column("carriage", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("moved_at", sa.BigInteger(), nullable=False),
        sa.Column("deadline", sa.BigInteger(), nullable=False),
        sa.Column("delete_by", sa.BigInteger(), nullable=False),
        sa.Column("slips", sa.BigInteger(), nullable=False),
        sa.Column("alarm", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_passages")),
    )
    op.create_index(op.f("ix_passages_transfer_created_at"), "passages", ["transfer", "created_at"], unique=False)
    op.create_index(op.f("ix_passages_before_state"), "passages", ["before", "state"], unique=False)
    op.create_index(op.f("ix_passages_state_delete_by"), "passages", ["state", "delete_by"], unique=False)
    op.create_index(op.f("ix_passages_lane_state_moved_at"), "passages", ["lane", "state", "moved_at"], unique=False)


def _make_what_belongs_to_passages() -> None:
    op.create_table(
        "slips",
        sa.Column("passage", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("taken", sa.LargeBinary(), nullable=True),
        sa.Column("signed", sa.LargeBinary(), nullable=True),
        sa.Column("entry", sa.BigInteger(), nullable=True),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["passage"], ["passages.id"], name=op.f("fk_slips_passage_passages"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("passage", "number", name=op.f("pk_slips")),
    )
    op.create_table(
        "carried_segments",
        sa.Column("passage", sa.Text(), nullable=False),
        sa.Column("segment", sa.LargeBinary(), nullable=False),
        sa.Column("slip", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["passage"], ["passages.id"], name=op.f("fk_carried_segments_passage_passages"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("passage", "segment", name=op.f("pk_carried_segments")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_carried_segments_segment_state"), "carried_segments", ["segment", "state"], unique=False)
    op.create_index(
        op.f("ix_carried_segments_passage_state_slip"), "carried_segments", ["passage", "state", "slip"], unique=False
    )
    op.create_table(
        "letters",
        sa.Column("passage", sa.Text(), nullable=False),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("slips", sa.BigInteger(), nullable=False),
        sa.Column("due", sa.Boolean(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("job", sa.Text(), nullable=True),
        sa.Column("answered_at", sa.BigInteger(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=True),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["passage"], ["passages.id"], name=op.f("fk_letters_passage_passages"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("passage", "direction", "number", name=op.f("pk_letters")),
    )
    op.create_index(op.f("ix_letters_passage_name"), "letters", ["passage", "name"], unique=False)
