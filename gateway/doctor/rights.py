"""Rights that end: whose do so soon, who has none left, and which grants this version cannot read."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from gateway.doctor.findings import Finding, ok, warn
from gateway.expiries import rights_end
from gateway.grants import readable
from gateway.ports import Transaction
from gateway.revocation_marks import mark_of

_SOON: Final = timedelta(days=14)
_SHOWN: Final = 20


def examine_rights(tx: Transaction, now: datetime) -> Iterator[Finding]:
    """Yield a finding for each enrolled agent whose rights end within 14 days of `now` or have all ended; else one that is ok."""
    found: list[Finding] = []
    known, today = 0, now.astimezone(UTC).date()
    for record in tx.identities():
        mark = mark_of(tx, record.identity)
        if record.kind != "agent" or (mark is not None and mark.is_revoked):
            continue
        known += 1
        name = record.identity.name
        who = f"agent {name}"
        fix = (
            f"carnet-gateway agent grant DIR {name} --until DAY; or, if it is not needed: carnet-gateway agent revoke DIR {name}"
        )
        end = rights_end(record, now)
        if end is not None and end.last_day < today:
            found.append(warn("D-EXPIRY", f"all rights of {who} have ended, the last on {end.last_day}", fix))
        elif end is not None and end.last_day - today < _SOON:
            found.append(warn("D-EXPIRY", f"{end.what} of {who} ends on {end.last_day}", fix))
        if len(list(readable(record.grants))) < len(record.grants):
            fix = f"carnet-gateway agent grant DIR {name} --grant GRANT, or the version that knows what was granted"
            found.append(warn("D-EXPIRY", f"a grant of {who} cannot be read by this version, and gives nothing", fix))
    yield from found[:_SHOWN]
    if len(found) > _SHOWN:
        yield warn("D-EXPIRY", f"{len(found) - _SHOWN} more rights end soon, or have ended", "carnet-gateway agent list DIR")
    if not found:
        yield ok("D-EXPIRY", f"the rights of {known} agents last")
