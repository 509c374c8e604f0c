"""Rows that give rights carry a seal; the rows that are there are taken as they are, and sealed by whoever upgrades.

Rules:      1. a published revision never changes
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TABLES = ("identities", "invites", "turns", "site_documents")


def upgrade() -> None:
    """Add the seals, and the index by which the invites of an identity are found."""
    for table in _TABLES:
        op.add_column(table, sa.Column("mac", sa.LargeBinary(), nullable=True))
    op.create_index(op.f("ix_invites_identity"), "invites", ["identity"], unique=False)
    seal = op.get_context().config.attributes["seal"]  # type: ignore[union-attr]
    for table in _TABLES:
        _seal_rows(table, seal)


def _seal_rows(table: str, seal) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - a `RowSeal` of whatever version runs this
    connection = op.get_bind()
    known = sa.Table(table, sa.MetaData(), autoload_with=connection)
    for row in connection.execute(sa.select(known)).mappings().all():
        same = [known.c[column.name] == row[column.name] for column in known.primary_key]
        connection.execute(sa.update(known).where(*same).values(mac=seal.seal(table, dict(row))))
