"""The tables: everything that the catalog remembers, one table a noun.

Declared once in SQLAlchemy Core; migrations, statements and the check at start all read it here. Times are whole microseconds
since 1970 in UTC, structured values are JSON text, binary ids are their bytes.

Rules:      1. a change here comes with a migration (a test compares)  2. every query has an index
            3. names are the words of DESIGN section 2
"""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, LargeBinary, MetaData, Table, Text, false

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _mac() -> Column[bytes]:
    """Return the seal of a row that gives rights (`gateway.catalog.row_seal`)."""
    return Column("mac", LargeBinary)


def _transfer_key(*, primary: bool = False) -> Column[str]:
    return Column("transfer", Text, ForeignKey("transfers.id", ondelete="CASCADE"), primary_key=primary, nullable=False)


transfers = Table(
    "transfers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("role", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("state_at", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("origin", Text, nullable=False),
    Column("sender", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("lane", Text, nullable=False),
    Column("repository", Text, nullable=False),
    Column("tag", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("media_type", Text, nullable=False),
    Column("digest", Text),
    Column("size", BigInteger),
    Column("destinations", Text, nullable=False),
    Column("initiator", Text),
    Column("declarations", Text, nullable=False),
    Column("previous", Text),
    Column("turn", BigInteger, nullable=False),
    Column("waybill_digest", Text),
    Column("packing_digest", Text),
    Column("outcome", Text),
    Column("reasons", Text, nullable=False),
    Column("segments", BigInteger, nullable=False),
    Column("segments_received", BigInteger, nullable=False),
    Column("bytes_received", BigInteger, nullable=False),
    Index(None, "created_at", "id"),
    Index(None, "sender", "created_at", "id"),
    Index(None, "state", "created_at", "id"),
    Index(None, "sender", "state", "created_at", "id"),
    Index(None, "sender", "lane", "repository", "created_at"),
    Index(None, "packing_digest"),
    Index(None, "digest", "created_at", "id"),
    Index(None, "repository", "tag", "created_at", "id"),
)

deliveries = Table(
    "deliveries",
    metadata,
    _transfer_key(primary=True),
    Column("destination", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("state_at", BigInteger, nullable=False),
    Column("outcome", Text),
    Column("reasons", Text, nullable=False),
    Column("segments", BigInteger, nullable=False),
    Column("segments_sent", BigInteger, nullable=False),
    Column("bytes_sent", BigInteger, nullable=False),
    Column("attempts", BigInteger, nullable=False),
    Column("error", Text),
    Index(None, "state", "state_at"),
    sqlite_with_rowid=False,
)

documents = Table(
    "documents",
    metadata,
    _transfer_key(primary=True),
    Column("name", Text, primary_key=True),
    Column("body", LargeBinary, nullable=False),
)

site_documents = Table(
    "site_documents",
    metadata,
    Column("name", Text, primary_key=True),
    Column("body", LargeBinary, nullable=False),
    _mac(),
)

artifact_keys = Table(
    "artifact_keys",
    metadata,
    _transfer_key(primary=True),
    Column("sealed", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

segments = Table(
    "segments",
    metadata,
    Column("id", LargeBinary, primary_key=True),
    Column("size", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

transfer_segments = Table(
    "transfer_segments",
    metadata,
    _transfer_key(primary=True),
    Column("segment", LargeBinary, ForeignKey("segments.id"), primary_key=True),
    Index(None, "segment"),
    sqlite_with_rowid=False,
)

segment_rows = Table(
    "segment_rows",
    metadata,
    _transfer_key(primary=True),
    Column("segment", LargeBinary, primary_key=True),
    Column("row", LargeBinary, nullable=False),
)
"""Apart from `transfer_segments`, so that membership stays narrow and rows vanish without touching it."""

readers = Table(
    "readers",
    metadata,
    _transfer_key(primary=True),
    Column("identity", Text, primary_key=True),
    Index(None, "identity"),
    sqlite_with_rowid=False,
)

passages = Table(
    "passages",
    metadata,
    Column("id", Text, primary_key=True),
    Column("transfer", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("lane", Text, nullable=False),
    Column("way", Text, nullable=False),
    Column("before", Text),
    Column("after", Text),
    Column("carriage", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("moved_at", BigInteger, nullable=False),
    Column("deadline", BigInteger, nullable=False),
    Column("delete_by", BigInteger, nullable=False),
    Column("slips", BigInteger, nullable=False),
    Column("alarm", Text),
    Index(None, "transfer", "created_at"),
    Index(None, "before", "state"),
    Index(None, "state", "delete_by"),
    Index(None, "lane", "state", "moved_at"),
)
"""No foreign key to transfers: a relay has the passage alone."""


def _passage_key() -> Column[str]:
    return Column("passage", Text, ForeignKey("passages.id", ondelete="CASCADE"), primary_key=True, nullable=False)


slips = Table(
    "slips",
    metadata,
    _passage_key(),
    Column("number", BigInteger, primary_key=True),
    Column("taken", LargeBinary),
    Column("signed", LargeBinary),
    Column("entry", BigInteger),
    Column("passed", Boolean, nullable=False),
)

carried_segments = Table(
    "carried_segments",
    metadata,
    _passage_key(),
    Column("segment", LargeBinary, primary_key=True),
    Column("slip", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Index(None, "segment", "state"),
    Index(None, "passage", "state", "slip"),
    sqlite_with_rowid=False,
)
"""`state` is `due` before the segment is here, `here`, or `passed` when the next site has it."""

letters = Table(
    "letters",
    metadata,
    _passage_key(),
    Column("direction", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("body", LargeBinary, nullable=False),
    Column("slips", BigInteger, nullable=False),
    Column("due", Boolean, nullable=False),
    Column("name", Text),
    Column("job", Text),
    Column("answered_at", BigInteger),
    Column("kind", Text),
    Column("answer", LargeBinary),
    Index(None, "passage", "name"),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("repository", Text, primary_key=True),
    Column("tag", Text, primary_key=True),
    Column("transfer", Text, ForeignKey("transfers.id"), nullable=False),
    Column("digest", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("media_type", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("origin", Text, nullable=False),
    Column("delivered_at", BigInteger, nullable=False),
    Index(None, "transfer"),
    sqlite_with_rowid=False,
)

turns = Table(
    "turns",
    metadata,
    Column("origin", Text, primary_key=True),
    Column("repository", Text, primary_key=True),
    Column("tag", Text, primary_key=True),
    Column("turn", BigInteger, nullable=False),
    Column("waybill", Text, nullable=False),
    _mac(),
    sqlite_with_rowid=False,
)

identities = Table(
    "identities",
    metadata,
    Column("identity", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("grants", Text, nullable=False),
    Column("enrolled_at", BigInteger),
    Column("statement", LargeBinary),
    _mac(),
)

invites = Table(
    "invites",
    metadata,
    Column("id", Text, primary_key=True),
    Column("identity", Text, nullable=False),
    Column("grants", Text, nullable=False),
    Column("secret_sha256", LargeBinary, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("used_at", BigInteger),
    _mac(),
    Index(None, "identity"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Column("leased", Boolean, nullable=False, server_default=false()),
    Column("again_at", BigInteger),
    Column("attempts", BigInteger, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("error", Text),
    Index(None, "kind", "key", unique=True),
    Index(None, "due_at"),
    sqlite_autoincrement=True,
)
"""`due_at` is when the job may be leased: while it is leased, the end of the lease. `again_at`: it was queued again meanwhile."""

log_entries = Table(
    "log_entries",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("entry", LargeBinary, nullable=False),
    Column("leaf_hash", LargeBinary, nullable=False),
)

log_openings = Table(
    "log_openings",
    metadata,
    Column("number", Integer, ForeignKey("log_entries.number"), primary_key=True),
    Column("field", Text, primary_key=True),
    Column("salt", LargeBinary, nullable=False),
    Column("value", Text, nullable=False),
    sqlite_with_rowid=False,
)

log_head = Table(
    "log_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("size", BigInteger, nullable=False),
    Column("root", LargeBinary, nullable=False),
    Column("note", Text, nullable=False),
)
"""One row with id 1: the last signed head. It changes by compare-and-swap only."""
