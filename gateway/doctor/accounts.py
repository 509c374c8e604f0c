"""Whether the ledger of licences is what the log says: a ledger that somebody set back releases more than people permitted."""

from typing import Final

from carnet.entries import EntryType
from gateway.catalog.transaction import SqliteTransaction
from gateway.doctor.findings import Finding, fail, ok
from gateway.ledger import releases_counted

_ENTRIES_MAX: Final = 100_000
_A_PAGE: Final = 5_000
_DEBITED: Final = f'"type":"{EntryType.LICENCE_DEBITED}"'.encode("ascii")
_CREDITED: Final = f'"type":"{EntryType.LICENCE_CREDITED}"'.encode("ascii")


def examine_ledger(tx: SqliteTransaction) -> Finding:
    """Compare what is counted with what was logged, of a log of at most 100 000 entries."""
    counted, size = releases_counted(tx), tx.log_size()
    if size > _ENTRIES_MAX:
        return ok("D-LEDGER", f"{counted} releases are counted; not compared with a log of {size} entries")
    logged = 0
    for first in range(0, size, _A_PAGE):
        for entry, _ in tx.log_range(first, _A_PAGE):
            # An entry holds its type and hexadecimal digits, so these bytes can stand for nothing else.
            logged += (_DEBITED in entry) - (_CREDITED in entry)
    if counted != logged:
        said = f"{counted} releases are counted upon licences, the log has {logged}"
        return fail(
            "D-LEDGER", said, "stop releasing upon licences and tell an auditor: carnet-gateway licence list DIR", status=6
        )
    return ok("D-LEDGER", f"{counted} releases are counted, as the log has them")
