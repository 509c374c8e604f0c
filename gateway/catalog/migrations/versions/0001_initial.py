"""The first schema: transfers, segments, artifacts, identities, work and the log.

Rules:      1. a published revision never changes
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make all tables."""
    _make_identities_and_work()
    _make_log()
    _make_transfers()
    _make_what_belongs_to_transfers()
    _make_segments()


def _make_identities_and_work() -> None:
    op.create_table(
        "identities",
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("grants", sa.Text(), nullable=False),
        sa.Column("enrolled_at", sa.BigInteger(), nullable=True),
        sa.Column("statement", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("identity", name=op.f("pk_identities")),
    )
    op.create_table(
        "invites",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("grants", sa.Text(), nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invites")),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("leased", sa.Boolean(), server_default=sa.text("0"), nullable=False),
        sa.Column("again_at", sa.BigInteger(), nullable=True),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_jobs_due_at"), "jobs", ["due_at"], unique=False)
    op.create_index(op.f("ix_jobs_kind_key"), "jobs", ["kind", "key"], unique=True)
    op.create_table(
        "site_documents",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_site_documents")),
    )
    op.create_table(
        "turns",
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("turn", sa.BigInteger(), nullable=False),
        sa.Column("waybill", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("origin", "repository", "tag", name=op.f("pk_turns")),
        sqlite_with_rowid=False,
    )


def _make_log() -> None:
    op.create_table(
        "log_entries",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("entry", sa.LargeBinary(), nullable=False),
        sa.Column("leaf_hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_log_entries")),
    )
    op.create_table(
        "log_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_log_head")),
    )
    op.create_table(
        "log_openings",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["number"], ["log_entries.number"], name=op.f("fk_log_openings_number_log_entries")),
        sa.PrimaryKeyConstraint("number", "field", name=op.f("pk_log_openings")),
        sqlite_with_rowid=False,
    )


def _make_transfers() -> None:
    op.create_table(
        "transfers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("state_at", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("destinations", sa.Text(), nullable=False),
        sa.Column("initiator", sa.Text(), nullable=True),
        sa.Column("declarations", sa.Text(), nullable=False),
        sa.Column("previous", sa.Text(), nullable=True),
        sa.Column("turn", sa.BigInteger(), nullable=False),
        sa.Column("waybill_digest", sa.Text(), nullable=True),
        sa.Column("packing_digest", sa.Text(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("reasons", sa.Text(), nullable=False),
        sa.Column("segments", sa.BigInteger(), nullable=False),
        sa.Column("segments_received", sa.BigInteger(), nullable=False),
        sa.Column("bytes_received", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transfers")),
    )
    op.create_index(op.f("ix_transfers_created_at_id"), "transfers", ["created_at", "id"], unique=False)
    op.create_index(op.f("ix_transfers_packing_digest"), "transfers", ["packing_digest"], unique=False)
    op.create_index(op.f("ix_transfers_sender_created_at_id"), "transfers", ["sender", "created_at", "id"], unique=False)
    op.create_index(
        op.f("ix_transfers_sender_state_created_at_id"),
        "transfers",
        ["sender", "state", "created_at", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_transfers_sender_lane_repository_created_at"),
        "transfers",
        ["sender", "lane", "repository", "created_at"],
        unique=False,
    )
    op.create_index(op.f("ix_transfers_state_created_at_id"), "transfers", ["state", "created_at", "id"], unique=False)


def _make_what_belongs_to_transfers() -> None:
    op.create_table(
        "artifact_keys",
        sa.Column("transfer", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["transfer"], ["transfers.id"], name=op.f("fk_artifact_keys_transfer_transfers"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("transfer", name=op.f("pk_artifact_keys")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "artifacts",
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("transfer", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("delivered_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["transfer"], ["transfers.id"], name=op.f("fk_artifacts_transfer_transfers")),
        sa.PrimaryKeyConstraint("repository", "tag", name=op.f("pk_artifacts")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_artifacts_transfer"), "artifacts", ["transfer"], unique=False)
    op.create_table(
        "deliveries",
        sa.Column("transfer", sa.Text(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("state_at", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("reasons", sa.Text(), nullable=False),
        sa.Column("segments", sa.BigInteger(), nullable=False),
        sa.Column("segments_sent", sa.BigInteger(), nullable=False),
        sa.Column("bytes_sent", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["transfer"], ["transfers.id"], name=op.f("fk_deliveries_transfer_transfers"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("transfer", "destination", name=op.f("pk_deliveries")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "documents",
        sa.Column("transfer", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["transfer"], ["transfers.id"], name=op.f("fk_documents_transfer_transfers"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("transfer", "name", name=op.f("pk_documents")),
    )
    op.create_table(
        "readers",
        sa.Column("transfer", sa.Text(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["transfer"], ["transfers.id"], name=op.f("fk_readers_transfer_transfers"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("transfer", "identity", name=op.f("pk_readers")),
        sqlite_with_rowid=False,
    )


def _make_segments() -> None:
    op.create_table(
        "segments",
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_segments")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "segment_rows",
        sa.Column("transfer", sa.Text(), nullable=False),
        sa.Column("segment", sa.LargeBinary(), nullable=False),
        sa.Column("row", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["transfer"], ["transfers.id"], name=op.f("fk_segment_rows_transfer_transfers"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("transfer", "segment", name=op.f("pk_segment_rows")),
    )
    op.create_table(
        "transfer_segments",
        sa.Column("transfer", sa.Text(), nullable=False),
        sa.Column("segment", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["segment"], ["segments.id"], name=op.f("fk_transfer_segments_segment_segments")),
        sa.ForeignKeyConstraint(
            ["transfer"], ["transfers.id"], name=op.f("fk_transfer_segments_transfer_transfers"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("transfer", "segment", name=op.f("pk_transfer_segments")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_transfer_segments_segment"), "transfer_segments", ["segment"], unique=False)
