"""What policy obliges the site and its people to, and whether it gets done: duties that are late, copies that are behind."""

from collections.abc import Iterator
from itertools import islice
from typing import Final

from carnet.timestamps import format_time
from gateway.copying import copies_due
from gateway.doctor.findings import Finding, fail, ok, warn
from gateway.duties import open_duties
from gateway.ports import Transaction

_SHOWN: Final = 20
_FIX: Final = "carnet-gateway duty list DIR; who did it: carnet-gateway duty sign, then duty done DIR FILE"


def examine_duties(tx: Transaction) -> Iterator[Finding]:
    """Yield a finding for each duty that is late or open, the most urgent first; one that all is well if none is."""
    now, found = format_time(tx.now), list(islice(open_duties(tx), _SHOWN + 1))
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


def examine_copies(tx: Transaction) -> Finding:
    """Return whether copies of decisions that policy wants elsewhere get there."""
    count, since = copies_due(tx)
    if since is not None:
        said = f"{count} copies of decisions could not be written since {since}"
        return fail("D-COPIES", said, "see that the directories of [[copies]] can be written", status=5)
    return ok("D-COPIES", f"{count} wait to be written")
