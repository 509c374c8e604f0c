"""The transaction: all nouns of the catalog over one session.

Rules:      1. it is `gateway.ports.Transaction` and what jobs and log need beside it  2. it holds no statement of its own
"""

from gateway.catalog.artifacts import Artifacts
from gateway.catalog.identities import Identities
from gateway.catalog.log_rows import LogRows
from gateway.catalog.passages import Passages
from gateway.catalog.segments import Segments
from gateway.catalog.tallies import Tallies
from gateway.catalog.transfers import Documents, Transfers
from gateway.catalog.work import Work


class SqliteTransaction(Transfers, Documents, Segments, Passages, Artifacts, Identities, Work, LogRows, Tallies):
    """Implements `Transaction` on SQLite."""
