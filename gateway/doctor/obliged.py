"""What policy obliges the site and its people to, and whether it gets done: duties that are late, copies that are behind."""

from collections.abc import Iterator, Sequence
from typing import Final

from carnet.identifiers import SiteName
from carnet.timestamps import format_time, parse_time
from gateway.copying import copies_due
from gateway.doctor.findings import Finding, fail, failed, ok, warn
from gateway.duties import open_duties
from gateway.obliging import LATE
from gateway.ports import Transaction
from gateway.settings import CopyPlace
from gateway.storage.copies import LOOK_S, problems_at

_SHOWN: Final = 20
_FIX: Final = "carnet-gateway duty list DIR; who did it: carnet-gateway duty sign, then duty done DIR FILE"


def examine_duties(tx: Transaction) -> Iterator[Finding]:
    """Yield a finding for each duty that is late or open, the most urgent first; one that all is well if none is."""
    now, found = format_time(tx.now), list(open_duties(tx, limit=_SHOWN + 1))
    for duty in found[:_SHOWN]:
        said = f"{duty.words} about {duty.name} (transfer {duty.transfer}) was due at {duty.due}"
        if duty.due < now:
            yield fail("D-DUTY", said, _FIX, status=3)
        else:
            yield warn("D-DUTY", said.replace("was due", "is due"), _FIX)
    if len(found) > _SHOWN:
        yield warn("D-DUTY", f"more than {_SHOWN} duties are open", "carnet-gateway duty list DIR")
    if not found:
        yield ok("D-DUTY", "none is open")


def examine_copies(tx: Transaction, site: SiteName, places: Sequence[CopyPlace], *, look_s: float = LOOK_S) -> Iterator[Finding]:
    """Yield whether copies of decisions that policy wants elsewhere get there, and whether each place is there and answers."""
    count, since = copies_due(tx)
    if since is not None and tx.now - parse_time(since) > LATE:
        said = f"{count} copies of decisions are to be written, the oldest since {since}"
        yield fail("D-COPIES", said, "see that the directories of [[copies]] can be written", status=5)
    for problem in problems_at(places, site, look_s=look_s):
        yield failed("D-COPIES", problem)
    yield ok("D-COPIES", f"{count} wait to be written, {len(places)} places")
